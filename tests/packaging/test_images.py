"""Both Dockerfiles, built as they stand and run as a user would: every RUN line is executed.

Only what they start from is another image (tests/packaging/images.py): NVIDIA's and Docker's are
fetched from registries that tests do not ask. What stands for NVIDIA's has what pip could spoil.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from tests.helpers.paths import REPOSITORY
from tests.packaging.dockerfiles import base_images
from tests.packaging.folders import shared_folder
from tests.packaging.images import Images, make_debian, need_builder

pytestmark = pytest.mark.slow

NOT_WITHOUT_A_BOARD = 'raise ImportError("libnvinfer.so.10: cannot open shared object file")\n'
OWN_DISTRIBUTIONS = """
import sysconfig
from importlib import metadata
for distribution in metadata.distributions(path=[sysconfig.get_path("purelib")]):
    print(distribution.name)
"""
PLAIN, JETSON = REPOSITORY / "Dockerfile", REPOSITORY / "Dockerfile.jetson"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """An empty store, but for a Debian that is called python-slim."""
    need_builder()
    shared = shared_folder(tmp_path_factory)
    archive = shared / "debian.tar"
    with FileLock(shared / "debian.lock"):
        if not archive.exists():
            make_debian(archive)
    store = Images(tmp_path_factory.mktemp("images"))
    try:
        store.add_base(archive, "localhost/python-slim")
        yield store
    finally:
        store.remove()


def stand_in(images: Images, file: Path, image: str = "") -> None:
    """Give local images the names that a Dockerfile starts from, Python's and others."""
    for name in base_images(file):
        if name.startswith("python:"):
            images.buildah("tag", "localhost/python-slim", f"docker.io/library/{name}")
        else:
            images.buildah("tag", image, name)


def photo_of(images: Images, image: str) -> str:
    """A photograph that travels with evit."""
    script = "import evit_cli; print(evit_cli.__path__[0])"
    return images.run(image, "python3", "-c", script).strip() + "/assets/photos/coffee.jpg"


def check_runs(images: Images, image: str) -> None:
    """The image as its user gets it: a name, no root, a folder to write in, nothing left behind."""
    config = json.loads(images.buildah("inspect", "--type", "image", image))["OCIv1"]["config"]
    assert config["Entrypoint"] == ["evit"]
    assert config["User"] == "10001"
    assert config["WorkingDir"] == "/out"
    assert "44(video)" in images.run(image, "id")
    said = images.run(image, "evit", "segment", photo_of(images, image), "--offline", "-q")
    assert said.strip() == "/out/evit-out/coffee_overlay.jpg"
    with images.mounted(image) as root:
        assert not list((root / "root").glob(".cache/*"))
        assert not (root / "src").exists()
        assert not list((root / "dist").glob("*"))


def test_plain(images: Images) -> None:
    stand_in(images, PLAIN)
    said = images.build(PLAIN, "localhost/evit")
    assert "kept as they are: none" in said
    assert "any runtime\tok\trequired" in said
    check_runs(images, "localhost/evit")


def test_jetson_keeps_what_is_nvidias(images: Images, tmp_path: Path) -> None:
    packages = tmp_path / "dist-packages"
    for name, version in (("torch", "2.5.0a0+872d972e41.nv24.8"), ("tensorrt", "10.3.0")):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text(NOT_WITHOUT_A_BOARD, "utf-8")
        described = packages / f"{name}-{version}.dist-info"
        described.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (described / "METADATA").write_text(text, "utf-8")
    board = Path(__file__).with_name("jetson.Dockerfile")
    images.build(board, "localhost/board", context=tmp_path)
    stand_in(images, JETSON, "localhost/board")
    systems = "usr/lib/python3/dist-packages", "usr/local/lib/python3*"
    before = images.fingerprint("localhost/board", *systems)
    assert any("/cv2/" in file for file in before)

    said = images.build(
        JETSON, "localhost/evit-jetson", "--build-arg", "EXTRAS=torch tensorrt onnx"
    )

    assert "kept as they are: cv2, numpy, tensorrt, torch" in said
    after = images.fingerprint("localhost/evit-jetson", *systems)
    assert {file: after.get(file) for file in before} == before
    names = set(run_python(images, OWN_DISTRIBUTIONS).lower().split())
    assert {"evit-cli", "cuda-python", "onnxruntime", "numpy"} <= names
    assert not {"torch", "tensorrt", "opencv-python-headless", "opencv-python"} & names
    seen = run_python(images, "import cv2, numpy; print(cv2.__version__, numpy.__version__)")
    assert seen.startswith("4.8.0 1.26")
    check_runs(images, "localhost/evit-jetson")


def run_python(images: Images, script: str) -> str:
    """The output of a script in the Jetson image."""
    return images.run("localhost/evit-jetson", "python", "-c", script)
