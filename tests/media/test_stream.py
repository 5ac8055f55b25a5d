"""The stream of frames over real sockets: what is served."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evit_cli.media.stream import FrameStream, Limits, open_stream
from tests.helpers.browser import CHROMIUM, browser_page
from tests.helpers.media_files import ImageU8, number_of
from tests.helpers.stream_clients import (
    HERE,
    PATIENCE_S,
    Drawn,
    ask,
    offer,
    parts,
    picture,
    plug,
    told,
    until,
    watch,
)

TOKEN = "a-token.of_the~tests"


@pytest.fixture
def stream() -> Iterator[FrameStream]:
    with open_stream(HERE, limits=Limits(stuck_s=PATIENCE_S, farewell_s=PATIENCE_S)) as opened:
        yield opened


def test_frames_arrive_in_order_and_whole(stream: FrameStream) -> None:
    offer(stream, 0)
    _, response = watch(stream.url)
    assert response.status == 200
    for count, (number, data) in enumerate(parts(response)):
        assert number == count + 1
        assert number_of(picture(data)) == count
        if count == 9:
            break
        offer(stream, count + 1)


def test_a_frame_is_drawn_once_for_all_and_only_if_somebody_watches(stream: FrameStream) -> None:
    unseen = [offer(stream, n) for n in range(5)]
    viewers = [parts(watch(stream.url)[1]) for _ in range(5)]
    assert {next(viewer)[0] for viewer in viewers} == {5}
    seen = offer(stream, 5)
    assert {next(viewer)[0] for viewer in viewers} == {6}
    assert number_of(picture(ask(stream.url, "snapshot.jpg").body)) == 5
    assert [drawn.times for drawn in unseen] == [0, 0, 0, 0, 1]
    assert seen.times == 1
    assert told(stream)["encoded"] == 2


def test_nothing_is_drawn_any_more_when_the_last_has_gone(stream: FrameStream) -> None:
    offer(stream, 0)
    connection, response = watch(stream.url)
    next(parts(response))
    assert len(told(stream)["clients"]) == 1
    response.close()
    connection.close()
    until(lambda: told(stream)["clients"] == [])  # without a frame to send
    drawn = [offer(stream, n) for n in range(1, 20)]
    assert told(stream)["frames"] == 20
    assert not any(one.times for one in drawn)


def test_the_newest_frame_is_there_when_the_run_ends() -> None:
    with open_stream(HERE) as stream:
        offer(stream, 0)
        viewer = parts(watch(stream.url)[1])
        next(viewer)
        for n in range(1, 100):
            offer(stream, n)
    numbers = [number for number, _ in viewer]
    assert numbers[-1] == 100 and numbers == sorted(set(numbers))
    with pytest.raises(OSError):
        plug(stream.url)
    stream.close()  # again


def test_a_slow_client_loses_frames_and_sees_the_newest(stream: FrameStream) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    _, response = watch(stream.url)
    viewer = parts(response)
    stream.offer(lambda: noise, model_ms=1)
    next(viewer)
    count = 1
    while not told(stream)["dropped"]:  # until the buffers of both kernels are full
        for _ in range(10):
            stream.offer(lambda: noise, model_ms=1)
        count += 10
    stream.offer(lambda: noise, model_ms=1)
    numbers = [next(viewer)[0]]
    while numbers[-1] <= count:
        numbers.append(next(viewer)[0])
    assert len(numbers) < count
    assert numbers == sorted(set(numbers))


def test_a_snapshot_waits_for_the_first_frame(stream: FrameStream) -> None:
    timer = threading.Timer(0.2, lambda: offer(stream, 7))
    timer.start()
    reply = ask(stream.url, "snapshot.jpg")
    timer.join()
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/jpeg")
    assert number_of(picture(reply.body)) == 7


def test_without_a_frame_there_is_no_snapshot() -> None:
    with open_stream(HERE, limits=Limits(stalled_s=0.1)) as stream:
        assert ask(stream.url, "snapshot.jpg").status == 503


def test_health() -> None:
    with open_stream(HERE, limits=Limits(stalled_s=0.3)) as stream:
        reply = ask(stream.url, "healthz")
        assert (reply.status, json.loads(reply.body)) == (503, {"state": "starting"})
        until(lambda: _healthy_after_a_frame(stream))
        until(lambda: ask(stream.url, "healthz").status == 503)
        assert told(stream)["state"] == "stalled"
        assert b"\nevit_stalled 1\n" in ask(stream.url, "metrics").body
        until(lambda: _healthy_after_a_frame(stream))


def _healthy_after_a_frame(stream: FrameStream) -> bool:
    offer(stream, 0)
    return ask(stream.url, "healthz").status == 200


def test_a_slow_model_is_not_stalled() -> None:
    with open_stream(HERE, limits=Limits(stalled_s=0.05)) as stream:
        stream.offer(Drawn(0), model_ms=60_000.0)
        time.sleep(0.1)
        assert ask(stream.url, "healthz").status == 200


def test_the_status_says_what_runs(stream: FrameStream) -> None:
    stream.describe(model="seg-b0-street", backend="tflite")
    for n in range(3):
        stream.offer(Drawn(n), model_ms=10.0 * (n + 1), source_dropped=4)
    _, response = watch(stream.url)
    next(parts(response))
    until(lambda: told(stream)["sent"] == 1)
    now = told(stream)
    assert (now["model"], now["backend"], now["state"]) == ("seg-b0-street", "tflite", "running")
    assert (now["frames"], now["source_dropped"], now["model_ms"]) == (3, 4, 20.0)
    (client,) = now["clients"]
    assert (client["address"], client["sent"], client["dropped"]) == ("127.0.0.1", 1, 0)


def test_a_frame_that_cannot_be_drawn_is_told_and_left_out(stream: FrameStream) -> None:
    def fail() -> ImageU8:
        raise ValueError("no paint")

    _, response = watch(stream.url)
    stream.offer(fail, model_ms=1)
    until(lambda: "no paint" in stream.problem)
    offer(stream, 3)
    assert next(parts(response))[0] == 2
    assert "no paint" in str(told(stream)["problem"])


def test_a_head_has_no_body(stream: FrameStream) -> None:
    for path in ("", "metrics", "stream.mjpg"):
        reply = ask(stream.url, path, method="HEAD")
        assert (reply.status, reply.body) == (200, b"")


def test_the_page_needs_nothing_from_elsewhere(stream: FrameStream) -> None:
    page = ask(stream.url)
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy and "*" not in policy
    for name in ("", "page.js", "page.css", "icon.svg"):
        text = ask(stream.url, name).body.decode()
        assert "{{" not in text
        assert "//" not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    with open_stream("http://127.0.0.1:0", token=TOKEN) as stream:
        stream.describe(model="seg-b0-street")
        with browser_page(tmp_path) as page:
            page.send("Page.navigate", url=f"{stream.url}?token={TOKEN}")
            number = 0

            def seen() -> bool:
                nonlocal number
                number += 1
                offer(stream, number % 200)
                return bool(
                    page.look(
                        "document.readyState == 'complete'"
                        " && document.getElementById('picture')?.naturalWidth == 64"
                        " && document.getElementById('state').textContent == 'running'"
                    )
                )

            until(seen)
            assert "seg-b0-street" in page.look("document.body.innerText")
            assert "1 of 64" in page.look("document.getElementById('clients').textContent")
            assert page.complaints == []
            assert all(address.startswith(stream.url) for address in page.requests)
