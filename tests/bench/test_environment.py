"""What a row says about the machine it was measured on, and its memory."""

from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evit_cli.bench.machine.energy import open_energy_counter, why_no_energy
from evit_cli.bench.machine.environment import read_environment
from evit_cli.bench.machine.memory import peak_gpu_bytes, peak_rss_bytes
from evit_cli.bench.machine.sysfs import usable_cores
from evit_cli.bench.machine.watch import Watch
from evit_cli.types import Backend
from tests.bench import machines
from tests.bench.machines import tool, write
from tests.config import boards

LSCPU_ORIN = "Architecture: aarch64\nModel name:             Cortex-A78AE\nBogoMIPS: 62.50\n"
GIB = 1 << 30


def test_this_machine_is_described_in_json() -> None:
    here = read_environment(backend=Backend.TFLITE, threads=3)
    assert json.loads(json.dumps(here, allow_nan=False)) == here
    assert here["threads"] == 3
    assert here["architecture"] == platform.machine()
    assert 0 < here["cores"] <= len(usable_cores())
    assert here["memory_gib"] > 0
    versions = here["versions"]
    assert versions["python"] == platform.python_version()
    assert {"evit", "numpy"} <= versions.keys()
    if "ai-edge-litert" not in versions:
        assert "tflite-runtime" in versions


def test_nothing_private_is_recorded() -> None:
    text = json.dumps(read_environment(backend=Backend.TORCH))
    for secret in (platform.node(), getpass.getuser(), str(Path.home()), os.getcwd(), sys.prefix):
        if len(secret) > 3:  # a machine called "vm" says nothing when found
            assert secret not in text


def test_a_jetson_in_full(tmp_path: Path) -> None:
    root = write(boards.AGX_ORIN.tree(tmp_path), machines.policy(2201, 2201, lowest=2201))
    write(root, machines.zone(0, "cpu-thermal", 48.5) | machines.zone(1, "tj-thermal", 51.25))
    gpu = "sys/class/devfreq/17000000.gpu"
    write(root, {f"{gpu}/{name}_freq": 1300500000 for name in ("cur", "max", "min")})
    write(
        root,
        {
            "proc/loadavg": "0.50 0.25 0.10 1/500 1234",
            "proc/sys/kernel/osrelease": "5.15.148-tegra",
            "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"',
        },
    )
    run = tool(
        {
            "lscpu": LSCPU_ORIN,
            "nvpmodel -q": "NV Power Mode: MAXN\n0\n",
            "nvidia-smi --query-gpu=name,driver_version": "Orin (nvgpu), 540.4.0, [N/A]\n",
            "nvidia-smi --query-gpu=power.limit": "[N/A]\n",
        }
    )
    seen = read_environment(root=root, run=run)
    assert seen["cpu"] == "NVIDIA Jetson AGX Orin Developer Kit (Cortex-A78AE)"
    assert seen["power_mode"] == "MAXN"
    assert seen["jetson_clocks"] is True
    assert seen["governor"] == "schedutil"
    assert seen["clocks_mhz"] == {"now": 2201, "limit": 2201, "max": 2201, "gpu": 1300}
    assert seen["gpu"] == {"name": "Orin (nvgpu)", "driver": "540.4.0"}
    assert seen["temperatures_c"] == {"cpu-thermal": 48.5, "tj-thermal": 51.2}
    assert seen["load"] == [0.5, 0.25, 0.1]
    assert seen["os"] == "Ubuntu 22.04.5 LTS, Linux 5.15.148-tegra"
    assert seen["memory_gib"] == 61.4


def test_clocks_that_may_move_are_not_jetson_clocks(tmp_path: Path) -> None:
    root = write(boards.ORIN_NANO.tree(tmp_path), machines.policy(729, 1510))
    write(root, {"var/lib/nvpmodel/status": "pmode:0001 fmode:quiet"})
    seen = read_environment(root=root, run=tool({}))
    assert seen["jetson_clocks"] is False
    assert seen["power_mode"] == "mode 1"


def test_a_workstation_with_a_gpu(tmp_path: Path) -> None:
    cpuinfo = "processor : 0\nmodel name\t: AMD EPYC 7742 64-Core Processor\ncpu MHz\t\t: 3393.6\n"
    cpuinfo += "flags : fpu vme\n\nprocessor : 1\ncpu MHz : 1500.0\n"
    files = {"proc/cpuinfo": cpuinfo, f"{machines.CPUS}/cpufreq/boost": 1}
    root = write(boards.A100.tree(tmp_path), files)
    gpu, limit = "NVIDIA A100-SXM4-40GB, 535.161.08, 40960 MiB\n", "400.00\n"
    run = tool({"--query-gpu=name": gpu, "--query-gpu=power.limit": limit})
    seen = read_environment(root=root, run=run)
    assert seen["cpu"] == "AMD EPYC 7742 64-Core Processor"
    assert seen["gpu"] == {"name": "NVIDIA A100-SXM4-40GB", "driver": "535.161.08"}
    assert seen["power_mode"] == "GPU limit 400 W"
    assert seen["turbo"] is True
    assert seen["clocks_mhz"]["now"] == 3394
    assert "virtual_machine" not in seen and "jetson_clocks" not in seen


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ({".dockerenv": ""}, "docker"),
        ({"run/.containerenv": ""}, "podman"),
        ({"run/systemd/container": "lxc"}, "lxc"),
        ({"proc/1/cgroup": "0::/kubepods.slice/kubepods-pod1.slice"}, "kubernetes"),
        ({"proc/self/cgroup": "4:memory:/docker/0123"}, "docker"),
        ({"proc/1/cgroup": "0::/init.scope"}, None),
        ({"proc/1/cgroup": "0::/system.slice/docker.service"}, None),
    ],
)
def test_containers(files: dict[str, object], hint: str | None, tmp_path: Path) -> None:
    seen = read_environment(root=write(tmp_path, files), run=tool({}))
    assert seen.get("container") == hint


def test_virtual_machines(tmp_path: Path) -> None:
    flags = {"proc/cpuinfo": "model name : AMD EPYC\nflags\t\t: fpu hypervisor avx"}
    root = write(tmp_path, flags)
    assert read_environment(root=root, run=tool({}))["virtual_machine"] == "unknown"
    said = tool({"lscpu": "Hypervisor vendor:   KVM\n"})
    assert read_environment(root=root, run=said)["virtual_machine"] == "KVM"


@pytest.mark.parametrize(
    "files",
    [
        {"sys/fs/cgroup/cpu.max": "50000 100000"},
        {
            "proc/self/cgroup": "0::/a/b",
            "sys/fs/cgroup/a/cpu.max": "50000 100000",
            "sys/fs/cgroup/a/b/cpu.max": "max 100000",
        },
        {
            "proc/self/cgroup": "3:cpu,cpuacct:/docker/x\n0::/",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": 50000,
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": 100000,
        },
    ],
    ids=["v2", "v2, limited above", "v1 in a container"],
)
def test_a_quota_leaves_fewer_cores(files: dict[str, object], tmp_path: Path) -> None:
    assert read_environment(root=write(tmp_path, files), run=tool({}))["cores"] == 0.5


def test_no_quota_leaves_all_cores(tmp_path: Path) -> None:
    quota = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": -1, "sys/fs/cgroup/cpu.max": "max 100000"}
    seen = read_environment(root=write(tmp_path, quota), run=tool({}))
    assert seen["cores"] == len(usable_cores())


def test_an_unknown_machine_says_little(tmp_path: Path) -> None:
    seen = read_environment(root=tmp_path, run=tool({}))
    assert seen.keys() == {"architecture", "cores", "versions"}


FILES = (
    "proc/stat", "proc/cpuinfo", "proc/meminfo", "proc/loadavg", "proc/vmstat", "proc/self/cgroup",
    "proc/7/stat", "proc/7/status", "etc/nv_tegra_release", "etc/os-release",
    "sys/fs/cgroup/cpu.max", "sys/fs/cgroup/cpu.stat", "sys/fs/cgroup/memory.max",
    "sys/fs/cgroup/memory.stat", "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "run/systemd/container",
    "sys/class/thermal/thermal_zone0/type", "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp", "sys/class/hwmon/hwmon0/name",
    "sys/class/thermal/cooling_device0/cur_state", "sys/class/devfreq/17000000.gpu/cur_freq",
    f"{machines.CPUS}/cpufreq/policy0/scaling_cur_freq", f"{machines.CPUS}/cpufreq/boost",
    f"{machines.CPUS}/cpufreq/policy0/affected_cpus", "var/lib/nvpmodel/status",
    "sys/class/powercap/intel-rapl:0/energy_uj",
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.sampled_from(
        (
            "cpu 1 2 3", "cpu0 \u00b2 1 1 1 1 1 1 1", "cpu MHz : 1.2.3", "0::/../..", "7 (x) S",
            "VmHWM: \u0663 kB", "[N/A], [N/A]", "throttled=0xffffffff", "x86_pkg_temp", "ina3221",
            "name, 1, 2, 3, 4, 5", "# R36 (release)", "a:b:c:d\n\n", "package-0", "cpufreq-cpu0",
        )
    ),
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.fixed_dictionaries(dict.fromkeys(FILES, TEXTS)), TEXTS)
def test_no_file_and_no_tool_makes_it_fail(files: dict[str, str], answer: str) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode(errors="surrogatepass"))

        def run(command: object) -> str:
            return answer

        json.dumps(read_environment(root=root, run=run), allow_nan=False)
        watch = Watch((7,), root=root, run=run)
        watch.start()
        watch.sample()
        assert all(isinstance(sentence, str) for sentence in watch.stop())
        open_energy_counter(root=root, run=run)
        why_no_energy(root=root, run=run, on_gpu=True)
        peak_rss_bytes(7, root=root)


def test_peak_memory_is_that_of_the_process() -> None:
    script = "import sys; big = bytearray(200 << 20); del big; print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        peak = peak_rss_bytes(child.pid)
        child.communicate(b"\n")
    assert peak is not None and 200 << 20 < peak < 400 << 20
    assert peak_rss_bytes(child.pid) is None  # it has ended


def test_gpu_memory_by_process() -> None:
    listed = "123, 1024\n456, 512\n123, 1\n789, [N/A]\n"
    run = tool({"--query-compute-apps=pid,used_memory": listed})
    assert peak_gpu_bytes(123, run=run) == 1025 << 20
    assert peak_gpu_bytes(789, run=run) is None
    assert peak_gpu_bytes(1, run=run) is None
    assert peak_gpu_bytes(1, run=tool({})) is None
