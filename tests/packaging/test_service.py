"""docs/service: the systemd unit and the compose file, and the commands that they start."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.paths import REPOSITORY

SERVICE = REPOSITORY / "docs" / "service"
UNIT = SERVICE / "evit-segment@.service"
PHOTO = REPOSITORY / "evit_cli" / "assets" / "photos" / "coffee.jpg"
EVIT = Path(sys.executable).with_name("evit")


def settings(file: Path) -> dict[str, str]:
    """An environment file as systemd reads it, without quotes."""
    lines = [line for line in file.read_text("utf-8").splitlines() if line and line[0] != "#"]
    return dict(line.split("=", 1) for line in lines)


def unit() -> dict[str, str]:
    """The unit's settings; none is given twice."""
    text = UNIT.read_text("utf-8").replace("\\\n", "")
    pairs = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def compose() -> dict[str, Any]:
    """The one service of the compose file."""
    document = yaml.safe_load((SERVICE / "compose.yaml").read_text("utf-8"))
    assert set(document["volumes"]) == {"out", "cache"}
    service: dict[str, Any] = document["services"]["segment"]
    return service


def run_shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell line with evit on the path, and nothing of this environment's evit settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("EVIT_")}
    path = f"{EVIT.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["/bin/sh", "-c", script],
        env={**kept, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def start_of_unit(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The unit's command, with systemd's escapes undone and this machine's evit."""
    shell, option, script = shlex.split(unit()["ExecStart"])
    assert (shell, option) == ("/bin/sh", "-c")
    script = script.replace("$$", "$").replace("%%", "%").replace("/opt/evit/bin/evit", str(EVIT))
    given = {"STATE_DIRECTORY": str(folder), **settings(SERVICE / "camera.env"), **changes}
    return run_shell(script, **given)


def start_of_compose(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The compose file's command, with its escapes undone, and a secret."""
    service = compose()
    assert service["entrypoint"][:2] == ["/bin/sh", "-c"]
    token = folder / "token"
    token.write_text("x" * 24 + "\n", "utf-8")
    given = {**service["environment"], "EVIT_OUT": str(folder), **changes}
    given["EVIT_STREAM_TOKEN_FILE"] = str(token)
    return run_shell(service["entrypoint"][2].replace("$$", "$"), **given)


def test_the_unit_starts_again_beside_what_it_wrote(tmp_path: Path) -> None:
    for invocation in ("a" * 32, "b" * 32):
        stream = settings(SERVICE / "camera.env")["EVIT_OPTIONS"].replace(":8080", ":0")
        changes = {"EVIT_SOURCE": str(PHOTO), "EVIT_OPTIONS": stream}
        done = start_of_unit(tmp_path, INVOCATION_ID=invocation, **changes)
        assert done.returncode == 0, done.stderr
    written = sorted(tmp_path.glob("*/*"))
    assert [file.name for file in written] == ["coffee_segments.jsonl"] * 2
    assert all(re.fullmatch(r"\d{8}T\d{6}Z-[ab]{32}", file.parent.name) for file in written)


def test_the_composition_starts_again_beside_what_it_wrote(tmp_path: Path) -> None:
    options = compose()["environment"]["EVIT_OPTIONS"].replace("0.0.0.0:8080", "127.0.0.1:0")
    for _ in range(2):
        done = start_of_compose(tmp_path, EVIT_SOURCE=str(PHOTO), EVIT_OPTIONS=options)
        assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*/coffee_segments.jsonl"))) == 2


def test_the_composition_hands_its_secret_over(tmp_path: Path) -> None:
    """evit refuses a short token, so it must have got this one."""
    service = compose()
    script = service["entrypoint"][2].replace("$$", "$")
    token = tmp_path / "token"
    token.write_text("short\n", "utf-8")
    given = {"EVIT_STREAM_TOKEN_FILE": str(token), "EVIT_OUT": str(tmp_path)}
    given["EVIT_OPTIONS"] = "--stream http://127.0.0.1:0"
    done = run_shell(script, EVIT_SOURCE=str(PHOTO), **given)
    assert done.returncode == 2
    assert "token" in done.stderr


def test_what_the_unit_takes_for_final_is(tmp_path: Path) -> None:
    """A wrong option does not mend itself: its exit code is one that prevents a restart."""
    done = start_of_unit(tmp_path, INVOCATION_ID="c", EVIT_OPTIONS="--nonsense")
    assert str(done.returncode) in unit()["RestartPreventExitStatus"].split()
    gone = {"EVIT_SOURCE": str(tmp_path / "gone.mp4"), "EVIT_OPTIONS": "--save json"}
    done = start_of_unit(tmp_path, INVOCATION_ID="d", **gone)
    assert done.returncode == 1, done.stderr
    assert "1" not in unit()["RestartPreventExitStatus"].split()


def test_the_composition_is_closed() -> None:
    service = compose()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert all(str(port).startswith("127.0.0.1:") for port in service["ports"])
    assert (SERVICE / service["build"]["context"]).resolve() == REPOSITORY
    assert (REPOSITORY / service["build"]["dockerfile"]).is_file()
    assert "EVIT_STREAM_TOKEN" not in service["environment"]


@pytest.mark.parametrize("status", [200, 503])
def test_the_health_check_asks_with_the_token(tmp_path: Path, status: int) -> None:
    asked: list[str] = []

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    python, option, script = compose()["healthcheck"]["test"][1:]
    assert (python, option) == ("python", "-c")
    (tmp_path / "token").write_text("a-token-of-some-length\n", "utf-8")
    server = HTTPServer(("127.0.0.1", 0), Health)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", script.replace("8080", str(server.server_port))],
            env={**os.environ, "EVIT_STREAM_TOKEN_FILE": str(tmp_path / "token")},
            capture_output=True,
            check=False,
        )
    finally:
        server.shutdown()
        server.server_close()
    assert asked == ["/healthz?token=a-token-of-some-length"]
    assert (done.returncode == 0) == (status == 200)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, of Debian's package systemd")
    shutil.copy(UNIT, tmp_path)
    instance = tmp_path / "evit-segment@front.service"
    shutil.copy(UNIT, instance)
    done = subprocess.run(
        ["systemd-analyze", "verify", instance], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_counts_the_unit_as_hardened(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, of Debian's package systemd")
    shutil.copy(UNIT, instance := tmp_path / "evit-segment@front.service")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=40", str(instance)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
