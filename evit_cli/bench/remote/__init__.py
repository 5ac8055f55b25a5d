"""Measuring on another machine: a board over ssh, a phone over adb."""
