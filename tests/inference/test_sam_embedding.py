"""Embeddings on disk: kept, found again, and never used wrongly."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_cli.errors import EvitError
from evit_cli.inference.sam_embedding import (
    Embedding,
    EmbeddingCache,
    load_embedding,
    save_embedding,
)
from evit_cli.inference.sam_predictor import SamPredictor
from tests.helpers.sam_sessions import colour_session


def embedding(**changes: Any) -> Embedding:
    values = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    made = Embedding(values, (40, 30), "sam-x", "ab" * 32, "cd" * 32, "torch fp32")
    return dataclasses.replace(made, **changes)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (60, 40, 3), dtype=np.uint8)


def encodings(predictor: SamPredictor) -> int:
    return len(predictor.session.encoder.seen)  # type: ignore[attr-defined]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_what_is_saved_is_loaded(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_embedding(path, embedding())
    found = load_embedding(path)
    assert (found.values == embedding().values).all()
    assert dataclasses.replace(found, values=None) == dataclasses.replace(embedding(), values=None)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "nonsense"])
def test_a_damaged_file_says_so(tmp_path: Path, suffix: str, damage: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_embedding(path, embedding())
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 0x10
    changed = {"cut": data[: len(data) // 2], "flip": data, "empty": b"", "nonsense": b"x" * 99}
    path.write_bytes(changed[damage])
    with pytest.raises(EvitError, match="is no embedding that can be read"):
        load_embedding(path)


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=r"cannot be written as '\.bin'"):
        save_embedding(tmp_path / "a.bin", embedding())
    with pytest.raises(EvitError, match="no such file"):
        load_embedding(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    with pytest.raises(EvitError, match="no embedding"):
        load_embedding(tmp_path / "b.npz")


def test_an_image_is_encoded_once(tmp_path: Path) -> None:
    predictor = SamPredictor(colour_session(), EmbeddingCache(tmp_path / "deep/er"))
    predictor.set_image(picture())
    first = predictor.embedding
    assert (encodings(predictor), first.image_sha256) != (0, "")
    again = SamPredictor(colour_session(), EmbeddingCache(tmp_path / "deep/er"))
    again.set_image(picture())
    assert encodings(again) == 0
    assert (again.embedding.values == first.values).all()
    plain = SamPredictor(colour_session())
    plain.set_image(picture())
    assert (plain.embedding.values == first.values).all()


def test_another_image_model_or_precision_has_its_own(tmp_path: Path) -> None:
    predictor = SamPredictor(colour_session(), EmbeddingCache(tmp_path))
    for image in (picture(), picture(1), picture().reshape(40, 60, 3)):
        predictor.set_image(image)
    other = SamPredictor(colour_session("other"), EmbeddingCache(tmp_path))
    other.set_image(picture())
    from evit_cli.types import Precision

    half = colour_session()
    half.precision = Precision.FP16
    SamPredictor(half, EmbeddingCache(tmp_path)).set_image(picture())
    assert (encodings(predictor), encodings(other), len(half.encoder.seen)) == (3, 1, 1)  # type: ignore[attr-defined]
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path, other: path.write_bytes(path.read_bytes()[:900]), "it was computed again"),
        (lambda path, other: other.replace(path), "is of another image or model"),
        (
            lambda path, other: save_embedding(
                path,
                dataclasses.replace(
                    load_embedding(path), values=np.full((1, 3, 64, 64), np.nan, np.float32)
                ),
            ),
            "not finite",
        ),
        (
            lambda path, other: save_embedding(
                path,
                dataclasses.replace(
                    load_embedding(path), values=np.zeros((1, 4, 64, 64), np.float32)
                ),
            ),
            "is of another image or model",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_computed_again(tmp_path: Path, harm: Any, words: str) -> None:
    predictor = SamPredictor(colour_session(), EmbeddingCache(tmp_path))
    predictor.set_image(picture())
    (path,) = tmp_path.iterdir()
    truth = predictor.embedding.values
    predictor.set_image(picture(1))
    (other,) = set(tmp_path.iterdir()) - {path}
    harm(path, other)
    again = SamPredictor(colour_session(), EmbeddingCache(tmp_path))
    again.set_image(picture())
    assert (encodings(again), (again.embedding.values == truth).all()) == (1, True)
    assert len(again.notes) == 1 and words in again.notes[0]
    healed = SamPredictor(colour_session(), EmbeddingCache(tmp_path))
    healed.set_image(picture())
    assert (encodings(healed), healed.notes) == (0, [])


def test_two_exports_of_one_model_do_not_share(tmp_path: Path) -> None:
    """Of the same weights, but their arithmetic differs: int8 with other calibration images."""
    seen = []
    for name in ("a", "b", "a"):
        file = tmp_path / f"{name}-encoder.tflite"
        file.write_bytes(name.encode())
        session = colour_session()
        session.encoder_file = file
        predictor = SamPredictor(session, EmbeddingCache(tmp_path / "kept"))
        predictor.set_image(picture())
        seen.append(encodings(predictor))
    assert seen == [1, 1, 0]
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_a_model_without_an_identity_is_not_kept(tmp_path: Path) -> None:
    predictor = SamPredictor(colour_session(""), EmbeddingCache(tmp_path))
    predictor.set_image(picture())
    predictor.set_image(picture())
    assert encodings(predictor) == 2 and not list(tmp_path.iterdir())
    assert "no embedding is kept" in predictor.notes[0] and len(predictor.notes) == 1


def test_a_cache_that_cannot_be_written_only_leaves_a_note(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "kept")
    (tmp_path / "kept").rmdir()
    (tmp_path / "kept").write_bytes(b"a file")
    predictor = SamPredictor(colour_session(), cache)
    predictor.set_image(picture())
    assert encodings(predictor) == 1 and "cannot be written" in predictor.notes[0]
    with pytest.raises(EvitError, match="is a file, not a folder"):
        EmbeddingCache(tmp_path / "kept")
