"""The real huggingface_hub client against a hub on loopback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import huggingface_hub
import huggingface_hub.file_download as file_download
import pytest

from evit_cli.errors import EvitError
from evit_cli.weights.hub import HubFile, cache_dir, commit_of, fetch, find_cached, list_files
from evit_cli.weights.source import locate
from tests.helpers.hub_server import Fault, Hub

REPO = "han-cai/efficientvit-seg"
FILE = "efficientvit_seg_b1_cityscapes.pt"
WANTED = HubFile(REPO, FILE)
CONTENT = bytes(range(256)) * 4000


@pytest.fixture
def stocked(hub: Hub) -> Hub:
    hub.add(REPO, FILE, CONTENT)
    return hub


def _fails(wanted: HubFile = WANTED, *, offline: bool = False) -> EvitError:
    with pytest.raises(EvitError) as caught:
        fetch(wanted, offline=offline)
    error = caught.value
    assert error.exit_code == 1
    assert error.hint
    assert "\n" not in error.message + error.hint
    return error


def _leftovers() -> list[str]:
    return [p.name for p in cache_dir().rglob("*") if p.name.endswith(".incomplete")]


def test_downloads_once_and_then_makes_no_request(stocked: Hub) -> None:
    path = fetch(WANTED)
    assert path.read_bytes() == CONTENT
    assert commit_of(path) == stocked.commit(REPO, "main")
    stocked.requests.clear()
    assert fetch(WANTED) == path
    assert fetch(WANTED, offline=True) == path
    assert stocked.requests == []


def test_the_cache_is_the_one_of_huggingface_hub(stocked: Hub) -> None:
    path = fetch(WANTED)
    theirs = huggingface_hub.try_to_load_from_cache(REPO, FILE, cache_dir=cache_dir())
    assert theirs == str(path)
    assert find_cached(HubFile(REPO, "other.pt")) is None
    assert find_cached(HubFile("han-cai/other", FILE)) is None


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HOME": "/h"}, "/h/hub"),
        ({"HF_HOME": "/h", "HF_HUB_CACHE": "/c"}, "/c"),
        ({"HF_HOME": "$BASE/h", "BASE": "/b"}, "/b/h/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HOME": "/u"}, "/u/.cache/huggingface/hub"),
    ],
)
def test_cache_folder_follows_the_environment(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_dir() == Path(expected)


def test_revisions_are_kept_apart(stocked: Hub) -> None:
    stocked.add(REPO, FILE, b"the first version", revision="v1")
    pinned = HubFile(REPO, FILE, "v1")
    assert fetch(pinned).read_bytes() == b"the first version"
    assert fetch(WANTED).read_bytes() == CONTENT
    stocked.requests.clear()
    assert fetch(pinned).read_bytes() == b"the first version"
    commit = stocked.commit(REPO, "v1")
    assert commit is not None
    assert fetch(HubFile(REPO, FILE, commit)).read_bytes() == b"the first version"
    assert stocked.requests == []


def test_a_file_that_the_branch_left_behind_still_serves_offline(stocked: Hub) -> None:
    path = fetch(WANTED)
    stocked.add(REPO, "other.pt", b"other")  # the branch moves on to a new commit
    fetch(HubFile(REPO, "other.pt"))
    assert find_cached(WANTED) is None
    stocked.requests.clear()
    assert fetch(WANTED, offline=True) == path
    assert stocked.requests == []
    assert fetch(WANTED).read_bytes() == CONTENT
    assert stocked.paths("GET") == []  # the content was there: the hub only confirmed it


def test_files_in_subfolders(stocked: Hub) -> None:
    stocked.add(REPO, "a/b/w.pt", b"deep")
    assert fetch(HubFile(REPO, "a/b/w.pt")).read_bytes() == b"deep"


def test_offline_says_which_file_goes_where(stocked: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _fails(offline=True)
    assert FILE in error.message and REPO in error.message and str(cache_dir()) in error.message
    assert "evit models pull seg-b1-cityscapes --to DIR" in error.hint
    assert "EVIT_MODELS_DIR" in error.hint and "--weights" in error.hint
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _fails().message == error.message
    assert stocked.requests == []


def test_no_network_says_which_file_goes_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = _fails()
    assert error.message.startswith(f"cannot reach 127.0.0.1:9 to fetch {FILE} of {REPO}")
    assert "evit models pull seg-b1-cityscapes" in error.hint
    monkeypatch.setenv("HF_ENDPOINT", "http://no-such-host.invalid")
    assert "cannot reach no-such-host.invalid" in _fails().message
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:notaport")
    assert "cannot reach" in _fails().message


def test_a_lost_network_does_not_hide_an_older_file(
    stocked: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(WANTED)
    stocked.add(REPO, "other.pt", b"other")
    fetch(HubFile(REPO, "other.pt"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch(WANTED) == path


def test_unknown_repository_file_and_revision(stocked: Hub) -> None:
    assert "no repository han-cai/none" in _fails(HubFile("han-cai/none", FILE)).message
    assert "has no file none.pt" in _fails(HubFile(REPO, "none.pt")).message
    assert "has no revision 'v9'" in _fails(HubFile(REPO, FILE, "v9")).message
    assert "is not a hub repository" in _fails(HubFile("han-cai/a..b", FILE)).message


def test_a_private_repository_needs_the_token(
    stocked: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    stocked.token = "hf_secret"
    error = _fails()
    assert "or it is private" in error.message
    assert "HF_TOKEN" in error.hint
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(WANTED).read_bytes() == CONTENT
    for request in stocked.requests:
        if request.path.startswith("/cdn/"):
            assert "hf_secret" not in str(request.headers)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault.GATED, "is gated"),
        (Fault.FORBIDDEN, "refused access to han-cai/efficientvit-seg (HTTP 403)"),
        (Fault.SERVER_ERROR, "still answers HTTP 500"),
        (Fault.NOT_A_HUB, "does not answer like a Hugging Face Hub"),
        (Fault.CLOSED, "broke off"),
        (Fault.SILENT_BODY, "broke off"),
        (Fault.WRONG_CONTENT, "arrived damaged"),
    ],
)
def test_a_broken_hub(
    stocked: Hub, fault: Fault, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    stocked.fault = fault
    assert says in _fails().message
    assert find_cached(WANTED) is None
    assert _leftovers() == []
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    stocked.fault = None
    assert fetch(WANTED).read_bytes() == CONTENT  # and nothing of it stays behind


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.TRUNCATED])
def test_a_passing_fault_is_got_over(
    stocked: Hub, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 1 << 16)
    stocked.fault, stocked.fault_times = fault, 2
    assert fetch(WANTED).read_bytes() == CONTENT
    if fault is Fault.TRUNCATED:
        ranges = [r.headers["Range"] for r in stocked.requests if "Range" in r.headers]
        assert len(ranges) == 2  # resumed, not started over


def test_a_full_disk(stocked: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(file_download, "http_get", full)
    error = _fails()
    assert "the disk is full" in error.message
    assert "HF_HOME" in error.hint
    assert _leftovers() == []


def test_a_cache_that_cannot_be_made(
    stocked: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "file"))
    assert f"cannot write {FILE}" in _fails().message


def test_ctrl_c_leaves_nothing(stocked: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(file_download, "http_get", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(WANTED)
    assert find_cached(WANTED) is None
    assert _leftovers() == []


def test_progress_counts_the_bytes(stocked: Hub) -> None:
    class Recorder:
        def __init__(self) -> None:
            self.calls: list[object] = []
            self.done = 0

        def start(self, total: int | None, unit: str) -> None:
            self.calls.append((total, unit))

        def advance(self, done: int, **fields: object) -> None:
            self.done += done

        def close(self) -> None:
            self.calls.append("closed")

    recorder = Recorder()
    fetch(WANTED, progress=recorder)
    assert recorder.calls == [(len(CONTENT), "byte"), "closed"]
    assert recorder.done == len(CONTENT)


def test_listing(stocked: Hub) -> None:
    stocked.add(REPO, "sub/notes.txt", b"x")
    assert sorted(list_files(REPO, "main")) == [FILE, "sub/notes.txt"]
    with pytest.raises(EvitError, match="no repository"):
        list_files("han-cai/none", "main")
    with pytest.raises(EvitError, match="not in the hub cache"):
        list_files(REPO, "main", offline=True)
    fetch(WANTED)
    assert list_files(REPO, "main", offline=True) == [FILE]


def test_an_address_without_a_file_finds_the_only_weights(hub: Hub) -> None:
    hub.add("me/one", "README.md", b"# one")
    hub.add("me/one", "sub/w.pt", b"weights")
    located = locate("hf://me/one")
    assert located.path.read_bytes() == b"weights"
    assert located.address == f"hf://me/one/sub/w.pt@{hub.commit('me/one', 'main')}"
    assert located.entry is None
    hub.requests.clear()
    assert locate("hf://me/one", offline=True).path == located.path
    assert hub.requests == []


def test_an_address_without_a_file_prefers_model_safetensors(hub: Hub) -> None:
    for file in ("model.safetensors", "pytorch_model.bin", "old.pt"):
        hub.add("me/two", file, file.encode())
    assert locate("hf://me/two").path.name == "model.safetensors"
    hub.requests.clear()
    locate("hf://me/two")
    assert hub.requests == []


def test_an_address_without_a_file_does_not_guess(hub: Hub) -> None:
    hub.add("me/many", "a.pt", b"a")
    hub.add("me/many", "b.pt", b"b")
    hub.add("me/none", "README.md", b"")
    with pytest.raises(
        EvitError, match=r"hf://me/many holds 2 weights files: a\.pt, b\.pt"
    ) as caught:
        locate("hf://me/many")
    assert "hf://me/many/a.pt" in caught.value.hint
    with pytest.raises(EvitError, match="holds no weights"):
        locate("hf://me/none")
    with pytest.raises(EvitError, match="no repository me/absent"):
        locate("hf://me/absent")


def test_a_timm_repository_needs_no_listing(hub: Hub) -> None:
    repo = "timm/efficientvit_b0.r224_in1k"
    hub.add(repo, "model.safetensors", b"w")
    located = locate(f"hf://{repo}")
    assert located.entry is not None and located.entry.name == "cls-b0-r224-timm"
    assert not any(path.startswith("/api") for path in hub.paths("GET"))
