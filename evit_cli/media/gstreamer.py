"""GStreamer pipelines, run by gst-launch-1.0 and read as raw video in Matroska through a pipe.

The OpenCV and PyAV wheels have no GStreamer; the command-line tool is on every Jetson. Matroska
describes size, rate, times and colours, so nothing has to be guessed.
"""

from __future__ import annotations

import contextlib
import math
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

from evit_cli.errors import EvitError, MissingDependency
from evit_cli.media.frame import Frame, SourceKind
from evit_cli.media.video import VideoSource

LIVE_ELEMENTS = (
    "v4l2src", "nvarguscamerasrc", "nvv4l2camerasrc", "libcamerasrc", "rtspsrc", "udpsrc",
    "tcpclientsrc", "srtsrc",
)  # fmt: skip
_PATIENCE_S = 5.0
_PASSWORD = re.compile(r"//[^/\s]*@")
_SINKS = ("appsink", "fakesink", "fdsink", "autovideosink")
# GStreamer pads rows to four bytes and FFmpeg does not: these are the sizes without padding, what
# is fast first. YUY2 has none at any size. The colours are those that Matroska can tell FFmpeg.
_CAPS = (
    "video/x-raw,format=I420,width=[8,32768,8],height=[2,32768,2],colorimetry={bt601,bt709};"
    "video/x-raw,format={RGB,BGR},width=[4,32768,4],colorimetry=sRGB;"
    "video/x-raw,format=YUY2,colorimetry={bt601,bt709}"
)
_TAIL = f"! videoconvert ! {_CAPS} ! matroskamux streamable=true timecodescale=1000 ! fdsink fd=1"


def looks_like_pipeline(text: str) -> bool:
    """Whether a SOURCE is a GStreamer pipeline: "gst:..." or elements joined by " ! "."""
    return text.startswith("gst:") or " ! " in text


def launch_arguments(text: str) -> list[str]:
    """The elements of `text`, ending in a Matroska stream on standard output.

    A final appsink (as OpenCV's pipelines have) or other sink is replaced.

    Raises:
        EvitError: the quotes do not match, or there is no element.
    """
    try:
        words = shlex.split(text.removeprefix("gst:"))
    except ValueError as error:
        raise EvitError(f"the GStreamer pipeline cannot be read: {error}") from error
    if "!" in words:
        last = len(words) - 1 - words[::-1].index("!")
        if any(word in _SINKS for word in words[last + 1 : last + 2]):
            words = words[:last]
    if not words:
        raise EvitError("the GStreamer pipeline is empty")
    return words + _TAIL.split()


@dataclass(frozen=True)
class PipelineFacts:
    """What is known of a pipeline that evit built itself.

    Attributes:
        name: short name for messages and output files.
        shown: what messages call it.
        kind: VIDEO or LIVE.
        patience_s: how long it may take to its first frame; infinity waits.
        path: the file that it reads.
        frame_count: how many frames to expect.
        start_s: the file's own time of the first frame.
        pixel_aspect: width of a pixel by its height; None means square.
    """

    name: str
    shown: str
    kind: SourceKind
    patience_s: float = math.inf
    path: Path | None = None
    frame_count: int | None = None
    start_s: Fraction = Fraction(0)
    pixel_aspect: Fraction | None = None


def _facts(words: Sequence[str]) -> PipelineFacts:
    """What is known of a user's pipeline."""
    live = any(word in LIVE_ELEMENTS for word in words)
    kind = SourceKind.LIVE if live else SourceKind.VIDEO
    return PipelineFacts("gstreamer", "the GStreamer pipeline", kind)


class GStreamerSource:
    """A GStreamer pipeline in the notation of gst-launch-1.0.

    Args:
        pipeline: what a user wrote, with or without a sink; or the words of one built by evit.
        facts: what is known of a built one.

    Raises:
        MissingDependency: gst-launch-1.0 is not installed.
        EvitError: the pipeline is wrong or gives no video.
    """

    def __init__(
        self, pipeline: str | Sequence[str], *, facts: PipelineFacts | None = None
    ) -> None:
        program = shutil.which("gst-launch-1.0")
        if program is None:
            raise MissingDependency(
                "GStreamer pipelines need gst-launch-1.0, which is not installed",
                hint="sudo apt install gstreamer1.0-tools gstreamer1.0-plugins-base "
                "gstreamer1.0-plugins-good",
            )
        if isinstance(pipeline, str):
            arguments = launch_arguments(pipeline)
        else:
            arguments = [*pipeline, *_TAIL.split()]
        facts = facts or _facts(arguments)
        self.name, self.kind, self._shown = facts.name, facts.kind, facts.shown
        self.path, self.frame_count = facts.path, facts.frame_count
        self.start_s, self.pixel_aspect = facts.start_s, facts.pixel_aspect
        self.notes: list[str] = []
        self._late = False
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [program, "-q", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for evit alone, which then ends the pipeline
        )
        try:
            with self._patience(facts.patience_s):
                self._video = VideoSource(
                    self._process.stdout,
                    name=self.name,
                    kind=self.kind,
                    container_format="matroska",
                )
        except EvitError as error:
            self.close()
            raise EvitError(f"{self._shown} gives no video: {self._reason()}") from error
        self.rate = self._video.rate
        self.skipped = self._video.skipped
        self.dropped = 0

    @contextlib.contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        """End the process if its first frame takes longer: reading from it has no limit."""
        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._give_up)
        timer.daemon = True
        if math.isfinite(seconds):
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _ended(self) -> int | None:
        """The exit status; None if the pipeline does not end although nobody reads any more."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout=_PATIENCE_S)
        return None

    def _reason(self) -> str:
        """What gst-launch complained about, in one line."""
        if self._late:
            return "it gave no frame in time"
        self._ended()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        lines = [line.strip() for line in lines if "ERROR" in line or "erroneous" in line]
        return _PASSWORD.sub("//", lines[0]) if lines else "it ended at once"

    def frames(self) -> Iterator[Frame]:
        """Frames until the pipeline ends; a pipeline that fails ends in its own words."""
        count = 0
        try:
            for frame in self._video.frames():
                count += 1
                yield frame
            if self._ended() and not self._video.stopped:
                self.skipped.end(f"{self._shown} failed after {count} frames: {self._reason()}")
        finally:
            self.close()
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._errors.close()

    def close(self) -> None:
        """Stop the pipeline."""
        if hasattr(self, "_video"):
            self._video.close()
        self._process.terminate()
        if self._ended() is None:
            self._process.kill()
            self._process.wait()
