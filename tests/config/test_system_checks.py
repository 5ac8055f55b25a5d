"""The checks of `evit doctor` that look at the machine and the hub cache."""

from __future__ import annotations

import types
import urllib.error
from pathlib import Path

import pytest

from evit_cli.config.checks import hub, system
from evit_cli.config.checks.result import Status, Surroundings
from evit_cli.config.machine import Machine
from tests.config import boards
from tests.config.surroundings import on, settings


def test_cpu_respects_affinity_and_cgroups(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(system.os, "sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    files = {
        "proc/cpuinfo": "processor: 0\nmodel name\t: A Processor\n",
        "sys/fs/cgroup/cpu.max": "150000 100000",
    }
    boards.Board("x86_64", files).tree(around.root)
    detail = system.check_cpu(around).detail
    assert detail == "A Processor, 3 of 8 cores (affinity), a cgroup allows 1.5"
    boards.Board("x86_64", {"sys/fs/cgroup/cpu.max": "max 100000"}).tree(around.root)
    assert "cgroup" not in system.check_cpu(around).detail


def test_cpu_of_a_board_is_its_name(tmp_path: Path) -> None:
    assert "Raspberry Pi 5" in system.check_cpu(on(boards.RASPBERRY, tmp_path)).detail


@pytest.mark.parametrize(
    ("limit", "status", "detail"),
    [
        ("max", Status.OK, "31.0 GiB, 15.5 GiB free"),
        (str(1 << 29), Status.PROBLEM, "allows 0.5 GiB"),
    ],
)
def test_memory(around: Surroundings, limit: str, status: Status, detail: str) -> None:
    boards.Board("x86_64", {"sys/fs/cgroup/memory.max": limit}).tree(around.root)
    found = system.check_memory(around)
    assert found.status is status
    assert detail in found.detail


def test_memory_unknown(tmp_path: Path) -> None:
    around = Surroundings(Machine("arm64"), settings(tmp_path), root=tmp_path)
    assert system.check_memory(around).detail == "unknown on this system"


def test_disk(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [check.status for check in system.check_disk(around)] == [Status.OK] * 2
    monkeypatch.setattr(
        system.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=100 << 20)
    )
    here, cache = system.check_disk(around)
    assert here.status is cache.status is Status.PROBLEM
    assert "--out" in here.mend
    assert "HF_HOME" in cache.mend


def test_gpu(tmp_path: Path, around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = system.check_gpu(on(boards.A100, tmp_path / "a"))
    assert first.detail == "NVIDIA A100-SXM4-40GB, 40 GiB, driver 535.161.08"
    assert (first.check, second.check) == ("gpu 0", "gpu 1")
    (jetson,) = system.check_gpu(on(boards.NANO, tmp_path / "b"))
    assert "Jetson Nano" in jetson.detail
    monkeypatch.setattr(system.shutil, "which", lambda name: None)
    assert system.check_gpu(around)[0].status is Status.MISSING
    monkeypatch.setattr(system.shutil, "which", lambda name: name)
    monkeypatch.setattr(system, "run_tool", lambda command: "")
    (broken,) = system.check_gpu(around)
    assert broken.status is Status.PROBLEM
    assert "ubuntu-drivers" in broken.mend


def test_profile(around: Surroundings, tmp_path: Path) -> None:
    assert system.check_profile(around).detail == "x86, because the processor is x86_64"
    unknown = Surroundings(Machine("riscv64"), settings(tmp_path))
    assert system.check_profile(unknown).status is Status.PROBLEM


def test_cache_size_counts_blobs_once(around: Surroundings) -> None:
    assert "nothing was downloaded yet" in hub.check_cache(around.hub).detail
    blob = around.hub.cache / "models--a--b" / "blobs" / "1"
    link = around.hub.cache / "models--a--b" / "snapshots" / "main" / "a.pt"
    blob.parent.mkdir(parents=True)
    link.parent.mkdir(parents=True)
    blob.write_bytes(b"x" * 3_000_000)
    link.symlink_to(blob)
    assert hub.check_cache(around.hub).detail.endswith(", 3 MB")
    assert hub.folder_size(around.hub.cache, limit_s=-1)[1] is False


def test_offline(tmp_path: Path) -> None:
    assert hub.check_offline(settings(tmp_path, offline=True)).detail.startswith("off")
    assert "http://127.0.0.1:9" in hub.check_offline(settings(tmp_path)).detail


def test_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = hub.check_network(settings(tmp_path))
    assert refused.status is Status.PROBLEM
    assert "does not answer" in refused.detail
    assert hub.check_network(settings(tmp_path, endpoint="nonsense")).status is Status.PROBLEM
    assert "not tried" in hub.check_network(settings(tmp_path, offline=True)).detail

    def unauthorised(request: object, timeout: float) -> None:
        raise urllib.error.HTTPError("u", 401, "who are you", None, None)

    monkeypatch.setattr(hub.urllib.request, "urlopen", unauthorised)
    assert hub.check_network(settings(tmp_path)).status is Status.OK
