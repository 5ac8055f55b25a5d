"""Opens cameras, streams and videos by a board's elements where it has them, and keeps them alive.

What a board's elements cannot open, FFmpeg or OpenCV open, and the user is told.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from evit_cli.errors import EvitError
from evit_cli.media.capture import Plan, csi_plan, file_plan, rtsp_plan, usb_plan
from evit_cli.media.csi import parse_csi
from evit_cli.media.frame import Source, SourceKind
from evit_cli.media.gst_elements import has_element
from evit_cli.media.gstreamer import GStreamerSource, PipelineFacts
from evit_cli.media.live import CameraSource
from evit_cli.media.reconnect import ReconnectingSource
from evit_cli.media.rules import Board, SourceRules
from evit_cli.media.v4l2 import pixel_formats
from evit_cli.media.video import VideoSource
from evit_cli.media.video_facts import VideoFacts

_OPENING_S = 15.0
"""How long a board's elements may take to their first frame; a camera on CSI takes a second."""
_RTSP_OPTIONS = {"rtsp_transport": "tcp", "timeout": "5000000"}
"""TCP loses no packets; five seconds without data end the stream instead of hanging."""


class _Opener:
    """Opens one source as often as needed: by its plan, or otherwise.

    Args:
        plan: the pipeline; an empty one is never tried.
        facts: what is known of it.
        otherwise: opens it without GStreamer; None if that cannot be.
        rules: who is told.
    """

    def __init__(
        self,
        plan: Plan,
        facts: PipelineFacts,
        otherwise: Callable[[], Source] | None,
        rules: SourceRules,
    ) -> None:
        self._plan, self._facts, self._otherwise, self._rules = plan, facts, otherwise, rules
        self._worked = False
        self.notes: list[str] = []
        for note in plan.notes:
            self._say(note)

    def _say(self, sentence: str) -> None:
        self.notes.append(sentence)
        self._rules.notice(sentence)

    def __call__(self) -> Source:
        """Open it.

        Raises:
            EvitError: it cannot be opened.
        """
        if self._plan.words:
            try:
                source = GStreamerSource(self._plan.words, facts=self._facts)
            except EvitError as error:
                # Once it has worked, the source is away and the pipeline is not to blame.
                if self._otherwise is None or self._worked:
                    raise
                other = self._otherwise()
                self._plan = Plan()
                self._say(f"{error.message}; FFmpeg reads it instead")
                return other
            self._worked = True
            return source
        if self._otherwise is None:
            raise EvitError(f"{self._facts.shown} cannot be read here")
        return self._otherwise()


def _kept_alive(
    opener: _Opener, rules: SourceRules, *, ended: Callable[[Source], bool] | None = None
) -> Source:
    source = ReconnectingSource(opener(), opener, rules, **({"ended": ended} if ended else {}))
    source.notes.extend(opener.notes)
    return source


def _live(name: str, shown: str, rules: SourceRules) -> PipelineFacts:
    patience_s = max(_OPENING_S, rules.stall_s)
    return PipelineFacts(name, shown, SourceKind.LIVE, patience_s=patience_s)


def _plans(rules: SourceRules) -> bool:
    """Whether a board's elements are to be tried at all."""
    return rules.board is not Board.SOFTWARE and shutil.which("gst-launch-1.0") is not None


def open_csi(address: str, rules: SourceRules) -> Source:
    """A camera on the board's own connector, by GStreamer only.

    Raises:
        EvitError: the address is wrong, or the camera gives no video.
        MissingDependency: GStreamer or its element is missing.
    """
    camera = parse_csi(address)
    plan = csi_plan(camera, rules.board, has_element)
    facts = _live(f"csi{camera.sensor}", f"the CSI camera {camera.sensor}", rules)
    return _kept_alive(_Opener(plan, facts, None, rules), rules)


def open_camera(index: int, rules: SourceRules) -> Source:
    """A camera by its number.

    Raises:
        EvitError: there is none.
    """
    facts = _live(f"camera{index}", f"camera {index}", rules)
    device = f"/dev/video{index}"
    return _usb(device, facts, lambda: CameraSource(index), rules)


def open_device(device: str, *, name: str, rules: SourceRules) -> Source:
    """A camera by its device file.

    Raises:
        EvitError: it is none, or cannot be opened.
    """

    def by_ffmpeg() -> Source:
        return VideoSource(device, name=name, kind=SourceKind.LIVE, container_format="v4l2")

    return _usb(device, _live(name, device, rules), by_ffmpeg, rules)


def _usb(
    device: str, facts: PipelineFacts, otherwise: Callable[[], Source], rules: SourceRules
) -> Source:
    plan = Plan()
    if _plans(rules):
        plan = usb_plan(device, pixel_formats(device), rules.board, has_element)
    return _kept_alive(_Opener(plan, facts, otherwise, rules), rules)


def open_network(url: str, *, name: str, shown: str, rules: SourceRules) -> Source:
    """A live stream at an address.

    Args:
        url: the address.
        name: what to call it.
        shown: the address without its password.
        rules: how.

    Raises:
        EvitError: nothing answers there, or it sends no video.
    """
    rtsp = urlsplit(url).scheme.startswith("rtsp")
    options = _RTSP_OPTIONS if rtsp else {}

    def by_ffmpeg() -> VideoSource:
        return VideoSource(url, name=name, kind=SourceKind.LIVE, options=options, shown=shown)

    first: list[VideoSource] = [by_ffmpeg()]
    finite, plan = first[0].is_finite, Plan()
    if rtsp and _plans(rules):
        plan = rtsp_plan(url, first[0].codec, rules.board, has_element)
    if plan.words:
        first.pop().close()
    opener = _Opener(
        plan, _live(name, shown, rules), lambda: first.pop() if first else by_ffmpeg(), rules
    )
    return _kept_alive(opener, rules, ended=lambda _: finite)


def open_pipeline(text: str, rules: SourceRules) -> Source:
    """A user's own GStreamer pipeline; a live one that ends cleanly has ended.

    Raises:
        EvitError: it is wrong, or gives no video.
        MissingDependency: there is no GStreamer.
    """
    pipeline = GStreamerSource(text)
    if pipeline.kind is not SourceKind.LIVE:
        return pipeline
    return ReconnectingSource(pipeline, lambda: GStreamerSource(text), rules, ended=lambda _: True)


def open_video(path: Path, rules: SourceRules) -> Source:
    """A video file, decoded by the board if it can.

    Raises:
        EvitError: it is none.
    """

    def by_ffmpeg() -> VideoSource:
        return VideoSource(path, name=path.stem)

    if not _plans(rules):
        return by_ffmpeg()
    facts = VideoFacts.read(path)
    if facts is None:
        return by_ffmpeg()
    plan = file_plan(str(path), facts.container, facts.codec, rules.board, has_element)
    known = PipelineFacts(
        path.stem,
        str(path),
        SourceKind.VIDEO,
        patience_s=_OPENING_S,
        path=path,
        frame_count=facts.frame_count,
        start_s=facts.start_s,
        pixel_aspect=facts.pixel_aspect,
    )
    opener = _Opener(plan, known, by_ffmpeg, rules)
    source = opener()
    if isinstance(source, GStreamerSource | VideoSource):
        source.notes.extend(opener.notes)
    return source
