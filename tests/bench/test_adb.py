"""`measure_over_adb` against a stand-in for adb: what comes back, what is said, what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.bench.protocol import QUICK
from evit_cli.bench.remote.adb_devices import parse_devices
from evit_cli.bench.remote.phone import Phone, PhoneState
from evit_cli.bench.row import Kind, decode_row, encode_row
from evit_cli.types import Backend
from tests.helpers.adb_measure import ARTIFACT, measure
from tests.helpers.adb_standin import AdbStandin
from tests.helpers.benchmark_outputs import COMPILED, INTERPRETER, LEFT, NODES, OLD, US


@pytest.mark.parametrize("tool", [OLD, INTERPRETER, COMPILED])
def test_every_accelerator_makes_a_row(adb: AdbStandin, tool: str) -> None:
    serial = adb.add_phone(tool=tool)
    libraries = adb.folder / "libraries"
    libraries.mkdir()
    (libraries / "libLiteRtDispatch_Qualcomm.so").write_bytes(b"\x7fELF")
    npu = {"libraries": libraries} if tool == COMPILED else {}
    rows = measure(adb, "cpu", "gpu", "npu", **npu)
    assert [row.point.form for row in rows] == ["cpu", "gpu", "npu"]
    for row in rows:
        assert row.kind is Kind.MEASURED and row.host is None and row.e2e is None
        assert row.compute is not None and row.compute.n == 100
        assert row.compute.p50 == pytest.approx(US[row.point.form] / 1e3, rel=0.02)
        assert row.point.backend is Backend.TFLITE and row.point.model == "seg-b0-street"
        assert row.host_name == "Samsung SM-S928B" and row.device == "snapdragon-8-gen3"
        assert row.file_bytes == ARTIFACT.stat().st_size and row.params
        assert row.peak_rss_bytes == (None if tool == OLD else round(93.5 * 2**20))
        assert row.environment["cpu"] == "SM8650 pineapple"
        assert row.environment["os"] == "Android 14"
        assert serial not in encode_row(row) and decode_row(encode_row(row)) == row
        assert any("no median" in words for words in row.tainted) == (tool == OLD)
    if tool != OLD:
        assert not any(row.tainted for row in rows)
    assert adb.left() == []


def test_the_tool_is_asked_by_the_protocol(adb: AdbStandin) -> None:
    adb.add_phone()
    measure(adb, "cpu", "gpu", threads=(4, None))
    timed = [flags for flags in adb.flags() if "--num_runs=100" in flags]
    assert len(timed) == 3
    for flags in timed:
        assert {"--warmup_runs=10", "--warmup_min_secs=0.2", "--min_secs=3"} <= set(flags)
        assert "--report_peak_memory_footprint=true" not in flags  # it would disturb
    assert "--num_threads=4" in timed[0]
    assert not any("num_threads" in flag for flag in timed[1] + timed[2])
    assert {"--use_gpu=true", "--gpu_precision_loss_allowed=false"} <= set(timed[2])
    short = [flags for flags in adb.flags() if "--report_peak_memory_footprint=true" in flags]
    assert len(short) == 3 and all("--num_runs=1" in flags for flags in short)


@pytest.mark.parametrize(
    ("tool", "form", "behaviour"),
    [
        (OLD, "gpu", "declines"),
        (OLD, "npu", "missing"),
        (INTERPRETER, "gpu", "declines"),
        (INTERPRETER, "npu", "declines"),
        (COMPILED, "gpu", "declines"),
        (COMPILED, "gpu", "missing"),
        (COMPILED, "npu", "missing"),
    ],
)
def test_what_the_cpu_did_is_no_accelerators_number(
    adb: AdbStandin, tool: str, form: str, behaviour: str
) -> None:
    adb.add_phone(tool=tool, behaviour={form: behaviour})
    (row,) = measure(adb, form)
    assert row.kind is Kind.FAILED and row.compute is None and row.error["hint"]
    assert f"the {form.upper()} did not run the model" in row.error["reason"]
    assert adb.left() == []


@pytest.mark.parametrize("behaviour", ["silent", "broken"])
def test_a_line_that_claims_the_npu_does_not_do(adb: AdbStandin, behaviour: str) -> None:
    adb.add_phone(tool=COMPILED, behaviour={"npu": behaviour, "gpu": "silent"})
    (row,) = measure(adb, "npu")
    if behaviour == "broken":
        assert row.kind is Kind.FAILED and "dispatch delegate kernel" in row.error["reason"]
    else:  # it was told to fail rather than use the CPU, knew the flag, and did not fail
        assert row.kind is Kind.MEASURED


def test_nnapi_without_a_driver_says_so(adb: AdbStandin) -> None:
    adb.add_phone(behaviour={"npu": "missing"})
    (row,) = measure(adb, "npu")
    assert "offers no NPU to NNAPI" in row.error["reason"]


@pytest.mark.parametrize("tool", [INTERPRETER, COMPILED])
def test_a_graph_taken_in_part_is_tainted(adb: AdbStandin, tool: str) -> None:
    adb.add_phone(tool=tool, behaviour={"gpu": "partial"})
    (row,) = measure(adb, "gpu")
    assert row.kind is Kind.MEASURED
    assert row.tainted == (f"{LEFT} of {NODES} nodes of the graph ran on the CPU",)
    strict = ["--require_full_delegation=true" in flags for flags in adb.flags()]
    assert strict == [True, False, False]


@pytest.mark.parametrize("tool", [OLD, COMPILED])
def test_a_failing_accelerator_does_not_stop_the_others(adb: AdbStandin, tool: str) -> None:
    adb.add_phone(tool=tool, behaviour={"gpu": "fails"})
    rows = measure(adb, "cpu", "gpu")
    assert [row.kind for row in rows] == [Kind.MEASURED, Kind.FAILED]
    reason = rows[1].error["reason"]
    assert reason.startswith("benchmark_model failed on the GPU: ")
    assert "OpenCL environment" in reason or "failed to prepare" in reason


def test_qualcomms_delegate_is_used_where_it_is_given(adb: AdbStandin) -> None:
    adb.add_phone()
    folder = adb.folder / "qnn"
    folder.mkdir()
    for name in ("libQnnTFLiteDelegate.so", "libQnnHtp.so"):
        (folder / name).write_bytes(b"\x7fELF")
    (row,) = measure(adb, "npu", libraries=folder)
    assert row.kind is Kind.MEASURED
    script = next(w[3] for w in adb.calls() if w[2:3] == ["shell"] and "external_deleg" in w[3])
    assert "'--external_delegate_options=backend_type:htp;" in script
    assert "ADSP_LIBRARY_PATH=/data/local/tmp/evit-" in script
    pushed = [Path(words[4]).name for words in adb.calls() if words[2:3] == ["push"]]
    assert pushed == ["benchmark_model", "model.tflite", "libQnnHtp.so", "libQnnTFLiteDelegate.so"]
    assert adb.left() == []


def test_an_old_adbd_gives_no_exit_status(adb: AdbStandin) -> None:
    adb.add_phone(no_status=True, behaviour={"gpu": "fails"})
    assert [row.kind for row in measure(adb, "cpu", "gpu")] == [Kind.MEASURED, Kind.FAILED]


def test_a_quick_look_is_tainted(adb: AdbStandin) -> None:
    adb.add_phone()
    (row,) = measure(adb, protocol=QUICK)
    assert row.tainted == ("only 10 runs were measured, not 100",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"heats_to": 2}, "heat moderate"),
        ({"thermal": None, "battery": {"temperature": 431}}, "battery was at 43 °C"),
        ({"battery": {"level": 12, "scale": 100}}, "battery was at 12 %"),
        ({"saver": "1"}, "battery saver was on"),
    ],
)
def test_the_phones_state_taints(adb: AdbStandin, settings: dict[str, Any], words: str) -> None:
    adb.add_phone(**settings)
    (row,) = measure(adb)
    assert len(row.tainted) == 1 and words in row.tainted[0]


def test_devices_in_every_state_are_read() -> None:
    text = (
        "* daemon not running; starting now at tcp:5037\n* daemon started successfully\r\n"
        "List of devices attached\r\n"
        "R58M12ABCDE            device usb:1-1 product:b model:SM_G973F device:b transport_id:2\r\n"
        "192.168.1.20:5555\toffline\n"
        "????????????           no permissions (missing udev rules?); see [http://a.b] usb:1-4\n\n"
    )
    assert [(d.serial, d.state, d.model) for d in parse_devices(text)] == [
        ("R58M12ABCDE", "device", "SM G973F"),
        ("192.168.1.20:5555", "offline", ""),
        ("????????????", "no permissions", ""),
    ]


@pytest.mark.parametrize(("status", "word"), [(1, "light"), (4, "critical"), (6, "shutdown")])
def test_every_thermal_status_has_its_word(status: int, word: str) -> None:
    state = PhoneState.parse(f"part thermal\nIsStatusOverride: false\nThermal Status: {status}\n")
    assert state.taints == [f"Android called the phone's heat {word}"]
    assert PhoneState.parse(f"part thermal\nThermal Status: {status}1\n").thermal is None


def test_a_phone_that_says_little_is_still_a_phone() -> None:
    phone = Phone.parse("prop ro.product.model=Pixel 8\nprop ro.soc.model=\npart thermal\nCan't\n")
    assert phone.name == "Pixel 8" and phone.profile == "" and phone.free_bytes is None
    assert phone.state == PhoneState() and phone.state.taints == []
    assert Phone.parse("").name == "Android phone"


GARBLED = st.sampled_from(
    [
        "prop ro.product.model=", "part thermal\n", "part battery\n", "part space\n", "level: ",
        "7", "Thermal Status: ", "scale: 0", "temperature: ", "-", " 1K-blocks Available\n", "999",
        "\n",
        "part saver\n1", "List of devices attached\n", "AB12 device ", "no permissions", "model:",
    ]
)  # fmt: skip


@given(st.lists(GARBLED | st.text(max_size=5), max_size=30).map("".join))
def test_nothing_a_phone_says_is_too_garbled(text: str) -> None:
    phone = Phone.parse(text)
    assert phone.name and isinstance(phone.state.taints, list)
    assert isinstance(phone.environment(), dict)
    assert all(device.serial and device.state for device in parse_devices(text))


def test_a_chip_without_a_profile_has_none(adb: AdbStandin) -> None:
    phone = Phone.parse("prop ro.soc.model=Tensor G3\nprop ro.product.cpu.abi=arm64-v8a\n")
    assert phone.profile == ""
