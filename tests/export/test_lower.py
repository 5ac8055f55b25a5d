"""Other forms of the same function: lowered models, resizes, attention, strips."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.export import lower as lower_module
from evit_cli.export import strips
from evit_cli.export.attention import BlockAttention, TokenAttention, attention_by_sums
from evit_cli.export.form import Attention
from evit_cli.export.lower import Form, ImageModel, lower
from evit_cli.export.resize import MatrixResize, PhaseResize, bicubic_matrix
from evit_cli.export.strips import StripMBConv, strip_count
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.blocks import MBConv
from evit_cli.models.build import build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.segment import Segmenter
from evit_cli.models.variants import VARIANTS
from evit_cli.types import ImageSize
from evit_cli.weights.remap import to_evit
from tests.helpers.exports import healthy_model, info_of, random_images
from tests.helpers.parity import reference_fill_module
from tests.helpers.paths import shared_dir

NAMES = ["seg-b0-cityscapes", "cls-b0", "seg-l1-cityscapes", "cls-l1"]
SIZE = ImageSize(64, 96)
ATTENTIONS: tuple[Attention, ...] = ("means", "sums", "tokens", "blocks")


def forms(large: bool) -> list[Form]:
    """What changes operators in every combination; for a large model once each."""
    if large:
        return [
            Form(),
            Form(attention="sums"),
            Form(attention="tokens", strips=True),
            Form(attention="blocks"),
            Form(free_size=True),
        ]
    return [
        Form(
            attention,
            strips,
            channels_last=strips == free,
            outputs_last=strips,
            free_size=free,
            whole_rows=attention != "means",
        )
        for attention in ATTENTIONS
        for strips, free in product((False, True), repeat=2)
    ]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Pictures this small are slower on several threads."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_every_form_is_the_same_function(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "LARGEST_STRIP_BYTES", 2**16)
    monkeypatch.setattr(lower_module, "PIXELS_PER_CHANNEL", 0)
    size = ImageSize(96, 96) if name.startswith("cls") else SIZE
    model, info = healthy_model(name), info_of(name, size)
    image = torch.from_numpy(next(random_images(*size)))[None]
    mean, std = (torch.tensor(v) for v in (info.preprocess.mean_rgb, info.preprocess.std_rgb))
    with torch.inference_mode():
        expected = model(((image / 255 - mean) / std).permute(0, 3, 1, 2))
        for form in forms(large="-l" in name):
            lowered = ImageModel(lower(model, size, form), info.preprocess, form, size)
            given = image if form.channels_last else image.permute(0, 3, 1, 2)
            given = given if form.uint8 else given.float()
            found = lowered(given)
            assert found.dtype == torch.float32
            if form.outputs_last and found.ndim == 4:
                found = found.permute(0, 3, 1, 2)
            assert found.shape == expected.shape, form
            # Of random weights the largest of all roundings is ten times the usual one.
            assert (found - expected).square().mean().sqrt() <= 1e-5 * expected.std(), form
            assert (found - expected).abs().max() <= 5e-5 * expected.std(), form


def test_the_input_may_be_float() -> None:
    size = ImageSize(96, 96)
    model, info = healthy_model("cls-b0"), info_of("cls-b0")
    image = torch.from_numpy(next(random_images(96, 96)))[None]
    outs = []
    for uint8 in (True, False):
        form = Form(uint8=uint8)
        lowered = ImageModel(lower(model, size, form), info.preprocess, form, size)
        outs.append(lowered(image if uint8 else image.float()))
    assert torch.equal(*outs)


def test_the_model_itself_is_left_alone() -> None:
    model = healthy_model("seg-b0-cityscapes")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    form = Form(attention="tokens", strips=True)
    ImageModel(lower(model, SIZE, form), info_of("seg-b0-cityscapes").preprocess, form, SIZE)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_sides_that_do_not_fit_the_strides_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        lower(healthy_model("seg-b0-cityscapes"), ImageSize(64, 80), Form())


@pytest.fixture(scope="module")
def fill() -> ModuleType:
    return reference_fill_module()


@pytest.mark.shared
@pytest.mark.parametrize("name", ["seg-b0-cityscapes", "seg-b1-ade20k", "cls-b0", "cls-l1"])
def test_the_published_models_outputs_survive_lowering(
    name: str, fill: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the numbers that the published code gave for the same filled tensors."""
    monkeypatch.setattr(lower_module, "PIXELS_PER_CHANNEL", 0)
    fixture = np.load(shared_dir("parity", "fixtures", f"{name}.npz"))
    layout = json.loads(shared_dir("parity", "layouts", f"{name}.json").read_text())
    state = {key: torch.from_numpy(fill.tensor(key, shape)) for key, shape in layout.items()}
    model = build_model(VARIANTS[name]).eval()
    model.load_state_dict(to_evit(state, model.state_dict(), VARIANTS[name]))
    image = torch.from_numpy(fill.image(*fixture["input_hw"]))
    size = ImageSize(*(int(side) for side in fixture["input_hw"]))
    for form in (
        Form(),
        Form(attention="sums"),
        Form(attention="tokens", strips=True),
        Form(attention="blocks"),
        Form(free_size=True),
    ):
        with torch.inference_mode():
            found = lower(model, size, form)(image).flatten().numpy()
        difference = np.abs(found[fixture["index"]] - fixture["value"]).max()
        assert difference <= 1e-5 * fixture["std"], form


sides = st.integers(1, 20)


@settings(max_examples=60, deadline=None)
@given(
    height=sides, width=sides, factor=st.sampled_from([2, 4]), batch=st.integers(1, 3),
    channels=st.integers(1, 5), seed=st.integers(0, 999),
)  # fmt: skip
def test_resizes_equal_the_bicubic_operator(
    height: int, width: int, factor: int, batch: int, channels: int, seed: int
) -> None:
    x = rows(seed, batch, channels, height, width)
    size = (height * factor, width * factor)
    expected = F.interpolate(x, size=size, mode="bicubic", align_corners=False)
    for resize in (MatrixResize(height, width, factor), PhaseResize(channels, factor)):
        found = resize(x, size)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= 1e-5


@given(samples=st.integers(1, 200), factor=st.integers(1, 8))
def test_the_matrix_keeps_constants(samples: int, factor: int) -> None:
    matrix = bicubic_matrix(samples, factor)
    assert matrix.shape == (samples * factor, samples)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def naive(module: MultiScaleLinearAttention, x: torch.Tensor) -> torch.Tensor:
    """Paper Eq. (2) at every scale, O(N^2), float64, with the module's own weights."""
    qkv = module.qkv(x)
    tokens = torch.cat([qkv, *(scale(qkv) for scale in module.scales)], dim=1)
    batch, channels, height, width = tokens.shape
    dim = module.head_dim
    q, k, v = tokens.reshape(batch, channels // (3 * dim), 3, dim, height * width).unbind(2)
    similarity = torch.relu(q).transpose(-1, -2) @ torch.relu(k)
    total = similarity.sum(-1, keepdim=True)
    weights = torch.where(total > 0, similarity / total, 0.0)
    out = (weights @ v.transpose(-1, -2)).transpose(-1, -2)
    return module.proj(out.reshape(batch, -1, height, width))  # type: ignore[no-any-return]


@pytest.mark.parametrize(("kind", "batch"), [(TokenAttention, 1), (BlockAttention, 3)])
@pytest.mark.parametrize("dim", [16, 32])
@pytest.mark.parametrize("scales", [(), (5,), (3, 5)])
@pytest.mark.parametrize("size", [(1, 1), (4, 8), (9, 7)])
def test_rearranged_attention_equals_the_naive_form(
    kind: type[torch.nn.Module],
    batch: int,
    dim: int,
    scales: tuple[int, ...],
    size: tuple[int, int],
) -> None:
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(dim)
        source = fuse(MultiScaleLinearAttention(4 * dim, dim, scales, 1e-5))
        x = torch.randn(batch, 4 * dim, *size)
        found = kind(source)(x)
        expected = naive(fuse(source).double(), x.double())
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * max(float(expected.std()), 1)


@pytest.mark.parametrize("kind", [TokenAttention, BlockAttention])
def test_rearranged_attention_gives_the_bias_where_nothing_agrees(
    kind: type[torch.nn.Module],
) -> None:
    source = fuse(MultiScaleLinearAttention(32, 16, (5,), 1e-5))
    out = kind(source)(torch.zeros(1, 32, 4, 4))
    assert torch.isfinite(out).all()
    assert torch.allclose(out, source(torch.zeros(1, 32, 4, 4)), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("wanted", [1, 2, 4, 8, 16])
def test_strips_equal_the_whole_block(
    stride: int, batch: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    height, width = 16 * 4 * 2, 6
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(wanted)
        block = fuse(MBConv(4, 8, expand=4, norm_eps=1e-5, act="hard_swish", stride=stride))
        x = torch.randn(batch, 4, height, width)
        middle = batch * 16 * height * width * 4
        monkeypatch.setattr(strips, "LARGEST_STRIP_BYTES", -(-middle // wanted))
        assert strip_count(middle, height, stride) == wanted
        found, expected = StripMBConv(block)(x), block(x)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * expected.std()


@given(
    size=st.integers(1, 2**34), rows_=st.integers(1, 4096).map(lambda n: n * 2),
    stride=st.sampled_from([1, 2]),
)  # fmt: skip
def test_strips_are_equal_and_not_too_low(size: int, rows_: int, stride: int) -> None:
    count = strip_count(size, rows_, stride)
    assert count == 1 or (rows_ % (count * stride) == 0 and rows_ // count >= 4 * stride)
    assert size > 2**23 or count == 1


def test_which_parts_are_replaced() -> None:
    model = build_model(VARIANTS["seg-b0-cityscapes"])
    assert isinstance(model, Segmenter)
    whole = lower(model, SIZE, Form())
    cut = lower(model, SIZE, Form(strips=True, attention="tokens"))
    kinds = [type(m) for m in cut.modules()]
    assert kinds.count(StripMBConv) == sum(isinstance(m, MBConv) for m in whole.modules()) > 0
    assert kinds.count(TokenAttention) == 4
    assert MultiScaleLinearAttention not in kinds
    resizes = [type(m) for m in lower(model, SIZE, Form(free_size=True)).head.resizes]
    assert resizes[:2] == [PhaseResize, PhaseResize]
    assert [type(m) for m in cut.head.resizes][:2] == [MatrixResize, MatrixResize]


@pytest.mark.parametrize(("side", "blocks"), [(96, 0), (192, 1), (512, 2)])
def test_all_heads_are_one_product_where_pixels_outnumber_channels(side: int, blocks: int) -> None:
    """B0 attends at strides 16 and 32, with 64 and 128 channels, twice each."""
    lowered = lower(build_model(VARIANTS["cls-b0"]), ImageSize(side, side), Form("blocks"))
    attentions = [m for m in lowered.modules() if isinstance(m, MultiScaleLinearAttention)]
    assert sum(isinstance(m, BlockAttention) for m in lowered.modules()) == 2 * blocks
    assert len(attentions) == 2 * (2 - blocks)
    assert all(m.attend is attention_by_sums for m in attentions)


def test_sums_are_never_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_module, "PIXELS_PER_CHANNEL", 0)
    lowered = lower(build_model(VARIANTS["cls-b0"]), ImageSize(96, 96), Form("sums"))
    attentions = [m for m in lowered.modules() if isinstance(m, MultiScaleLinearAttention)]
    assert len(attentions) == 4 and all(m.attend is attention_by_sums for m in attentions)
