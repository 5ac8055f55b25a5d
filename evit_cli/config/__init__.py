"""Settings as files: device profiles, recipes, and the checks of `evit doctor`."""
