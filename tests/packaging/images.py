"""Building the repository's Dockerfiles without a Docker daemon and without a registry of images.

`buildah` runs every instruction of a Dockerfile as it stands, in a chroot. For the images that it
starts from others take their names: a Debian made by `mmdebstrap`, and on top of it a machine with
an OpenCV, a torch and a TensorRT that are not pip's.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def need_builder() -> None:
    """Skip the calling test where images cannot be built, or nobody asked for them: they take long.

    `make images` asks.
    """
    if "EVIT_TEST_IMAGES" not in os.environ:
        pytest.skip("minutes per image: run `make images`")
    lacking = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
    if lacking:
        pytest.skip(f"needs {' and '.join(lacking)}: apt-get install buildah mmdebstrap")
    if os.geteuid() != 0:
        pytest.skip("needs root, for chroot")


def run(*command: object, cwd: Path | None = None) -> str:
    """The standard output of a command; its whole output in the error if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def make_debian(archive: Path) -> None:
    """A small Debian with Python, apt and this machine's certificates, as a tar file."""
    include = "--include=ca-certificates,python3,python3-venv"
    partial = archive.with_suffix(".evit-partial.tar")
    run("mmdebstrap", "--variant=apt", include, "bookworm", partial)
    partial.replace(archive)


@dataclass(frozen=True)
class Images:
    """A store of images, apart from those of the machine."""

    folder: Path

    def buildah(self, *arguments: object, cwd: Path | None = None) -> str:
        """`buildah ARGUMENTS` on this store."""
        store = ("--root", self.folder / "root", "--runroot", self.folder / "run")
        return run("buildah", *store, *arguments, cwd=cwd)

    def remove(self) -> None:
        """Delete all of it; buildah leaves a mount over its own folder."""
        layers = self.folder / "root" / "overlay"
        if layers.is_mount():
            run("umount", layers)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add_base(self, archive: Path, *names: str) -> None:
        """Make a tar file the image of these names."""
        made = self.buildah("from", "scratch").strip()
        self.buildah("add", "-q", made, archive, "/")
        self.buildah("copy", "-q", made, CERTIFICATES, CERTIFICATES)
        settings = self.folder / "pip.conf"
        settings.write_text(f"[global]\ncert = {CERTIFICATES}\n", "utf-8")
        self.buildah("copy", "-q", made, settings, "/etc/pip.conf")
        for name in names:
            self.buildah("commit", "-q", made, name)
        self.buildah("rm", made)

    def build(self, file: Path, tag: str, *options: object, context: Path = REPOSITORY) -> str:
        """Build a Dockerfile from what is here; its output."""
        fixed = ("--isolation", "chroot", "--pull-never")
        return self.buildah("bud", *fixed, "--tag", tag, "--file", file, *options, context)

    def run(self, image: str, *command: object, user: str = "") -> str:
        """The output of a command in a new container, as the image's user."""
        container = self.buildah("from", "--pull-never", image).strip()
        as_user = ("--user", user) if user else ()
        try:
            return self.buildah("run", "--isolation", "chroot", *as_user, container, "--", *command)
        finally:
            self.buildah("rm", container)

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """The root of an image as a folder."""
        container = self.buildah("from", "--pull-never", image).strip()
        try:
            yield Path(self.buildah("mount", container).strip())
        finally:
            self.buildah("umount", container)
            self.buildah("rm", container)

    def fingerprint(self, image: str, *folders: str) -> dict[str, str]:
        """Hashes of all files below folders of an image, without Python's caches."""
        with self.mounted(image) as root:
            return {
                str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
                for folder in folders
                for file in sorted(root.glob(folder + "/**/*"))
                if file.is_file() and "__pycache__" not in file.parts
            }
