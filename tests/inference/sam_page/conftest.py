"""A page over a session that is quick, and somebody who asks it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from evit_cli.inference.sam_page import open_page
from evit_cli.inference.sam_page.work import KEPT_EMBEDDINGS
from evit_cli.media.images import write_image
from tests.helpers.page_client import Client, picture
from tests.helpers.sam_discs import DiscSession


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(KEPT_EMBEDDINGS + 2)]
    for i, path in enumerate(paths):
        write_image(path, picture(i))
    return paths


@pytest.fixture
def client(images: list[Path]) -> Iterator[Client]:
    session, problems = DiscSession(), list[BaseException]()
    with open_page(session, images, on_problem=problems.append) as page:
        page.start()
        it = Client(session, page)
        it.problems = problems
        yield it
