"""Targets, what a board says of itself, and the script that keeps it clean, shell by shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.bench.remote.facts import BoardFacts, BoardState
from evit_cli.bench.remote.scripts import KEEP
from evit_cli.bench.remote.ssh import SshTarget
from evit_cli.errors import UsageError
from tests.helpers.boards import (
    wait_until,
)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("orin", SshTarget("orin")),
        ("me@orin.local", SshTarget("orin.local", "me")),
        ("me@orin:2222", SshTarget("orin", "me", 2222)),
        ("ssh://me@orin:2222/", SshTarget("orin", "me", 2222)),
        ("me@[fe80::1%eth0]:22", SshTarget("fe80::1%eth0", "me", 22)),
        ("::1", SshTarget("::1")),
    ],
)
def test_targets(text: str, target: SshTarget) -> None:
    assert SshTarget.parse(text) == target


@pytest.mark.parametrize(
    "text",
    ["", "@", "me@", "-oProxyCommand=x", "me@-x", "a b", "orin:", "orin:0", "orin:99999",
     "orin:x", "orin;rm", "-l@orin", "[::1", "orin/x", "$(x)"],
)  # fmt: skip
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        SshTarget.parse(text)


@given(st.text(max_size=30))
def test_a_target_never_becomes_an_option(text: str) -> None:
    try:
        target = SshTarget.parse(text)
    except UsageError:
        return
    assert not target.host.startswith("-") and not target.user.startswith("-")
    assert SshTarget.parse(f"{target.user}@{target}" if target.user else str(target)) == target


@settings(max_examples=30)
@given(st.lists(st.text(max_size=60), max_size=20))
def test_what_a_board_says_is_never_too_garbled(lines: list[str]) -> None:
    facts = BoardFacts.parse([*lines, "state\t" + "\t".join(lines)])
    assert isinstance(facts.state, BoardState) and facts.environment() is not None


def test_a_jetson_is_recognised() -> None:
    facts = BoardFacts.parse(
        [
            "machine\taarch64",
            "model\tNVIDIA Jetson AGX Orin Developer Kit",
            "l4t\t# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64",
            "memory\tMemTotal:       64349708 kB",
            "power\tMAXN",
            "tensorrt\t100300",
            "state\tzone:tj-thermal:52125\tzone:cpu-thermal:51000\tpi:throttled:50005",
        ]
    )
    profile = facts.profile()
    assert profile is not None and profile.name == "jetson-agx-orin"
    assert facts.state.hottest == ("tj-thermal", 52.125)
    assert facts.state.throttled == ("its voltage is too low", "it is throttled")
    assert facts.environment()["power_mode"] == "MAXN" and facts.tensorrt == "10.3.0"


@contextmanager
def keeping(shell: str, folder: Path, script: str = KEEP) -> Iterator[subprocess.Popen[str]]:
    """KEEP by a shell of this machine, ready, with a process that it shall end."""
    if shutil.which(shell.split()[0]) is None:
        pytest.skip(f"needs {shell}")
    words = [*shell.split(), "-c", script, "evit", "", "1", "", str(folder)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "ready\t1\n":
                break
        sleeper = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        (own,) = folder.iterdir()
        (own / ".group-1").write_text(f"{sleeper.pid}\n")
        yield process
        assert sleeper.wait(20) != 0
        process.wait(20)
    wait_until(lambda: list(folder.iterdir()) == [])


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
@pytest.mark.parametrize("ending", ["end of input", "HUP"])
def test_every_shell_keeps_and_cleans(shell: str, ending: str, tmp_path: Path) -> None:
    with keeping(shell, tmp_path) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith("state")
        if ending == "end of input":
            process.stdin.close()
        else:
            process.send_signal(signal.Signals[f"SIG{ending}"])


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox sh"])
def test_a_board_that_nobody_speaks_to_cleans_itself(shell: str, tmp_path: Path) -> None:
    """A pulled cable ends no connection; the silence does."""
    hurried = KEEP.replace("sleep 20", "sleep 0.2")
    assert hurried != KEEP
    with keeping(shell, tmp_path, hurried) as process:
        time.sleep(0.5)
        assert process.poll() is None  # the last word is not old yet
        (own,) = tmp_path.iterdir()
        os.utime(own / ".beat", (time.time() - 600,) * 2)
