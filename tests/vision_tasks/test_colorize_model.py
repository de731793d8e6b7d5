"""Networks and methods of colorize."""

from __future__ import annotations

import copy
import json
import math

import pytest
import torch
from torch import Tensor

from eightbit.backbones import create_backbone, load_weights, save_weights
from eightbit.errors import UsageError
from eightbit.vision_tasks.colorize.bins import bin_centres, gamut_bins
from eightbit.vision_tasks.colorize.lab import rgb_to_lab
from eightbit.vision_tasks.colorize.learn_methods import METHODS
from eightbit.vision_tasks.colorize.model import (
    Colorizer,
    build_model,
    distribution,
    predict,
    recoloured,
)
from eightbit.vision_tasks.colorize.options import ColorizeOptions, Method

SMALL = {
    "resnet": {"depth": 8},
    "impala": {"hidden": 0, "adaptive_pool": 1},
    "speedy": {"widths": [16, 16, 16]},
}


def small(method: Method = "zhang", backbone: str = "resnet", stride: int = 2) -> Colorizer:
    options = ColorizeOptions(
        method=method,
        backbone=backbone,
        backbone_options=json.dumps(SMALL[backbone]),
        decoder=16,
        stride=stride,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(options, {}).eval()


def lightness(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 100


@pytest.mark.parametrize("backbone", SMALL)
@pytest.mark.parametrize("method", METHODS)
@torch.no_grad()
def test_pictures_of_any_size_get_a_colour_a_pixel(method: Method, backbone: str) -> None:
    model = small(method, backbone)
    for height, width in ((32, 32), (40, 24), (33, 50), (7, 9)):
        raw = model(lightness(2, 1, height, width))
        assert raw.shape == (
            2,
            METHODS[method].outputs,
            math.ceil(height / 2),
            math.ceil(width / 2),
        )
        ab = predict(model, lightness(2, 1, height, width))
        assert ab.shape == (2, 2, height, width) and ab.isfinite().all()


@pytest.mark.parametrize("stride", [1, 2, 4])
@torch.no_grad()
def test_the_stride_is_that_of_the_options(stride: int) -> None:
    assert small(stride=stride)(lightness(1, 1, 32, 48)).shape[2:] == (32 // stride, 48 // stride)
    hyper = small("larsson", stride=stride)
    assert hyper(lightness(1, 1, 32, 48)).shape[2:] == (32 // stride, 48 // stride)


@torch.no_grad()
def test_a_trunk_with_an_unpadded_convolution_gets_a_margin() -> None:
    model = small(backbone="speedy")
    assert model.margin == 1 and small().margin == 0
    maps = model._maps(torch.zeros(1, 1, 33, 33))
    assert [found.shape[-1] for found in maps] == [16, 8, 4]


@pytest.mark.parametrize("name", ["dqn_cnn", "mlp", "impala"])
def test_trunks_of_one_size_are_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(UsageError, match="one size|no pictures|unknown backbone"):
        build_model(ColorizeOptions(backbone=name), {})


def test_weights_of_a_colour_classifier_fit_the_trunk(tmp_path) -> None:
    taught = create_backbone("resnet", (3, 32, 32), depth=8, seed=3)
    path = save_weights(taught, tmp_path / "trunk.safetensors")
    model = small()
    report = load_weights(model.backbone, path)
    assert not report.started_anew and len(report.adapted) == 1


def test_a_model_can_be_copied() -> None:
    model = small()
    twin = copy.deepcopy(model)
    x = lightness(1, 1, 32, 32)
    assert torch.equal(model(x), twin(x))


def some_colours() -> Tensor:
    """Vivid and pale ones: a*, b* (1, 2, 6, 6)."""
    angle = torch.arange(36).reshape(1, 6, 6) * (2 * math.pi / 36)
    chroma = torch.linspace(8, 50, 36).reshape(1, 6, 6)
    return torch.stack((chroma * angle.cos(), chroma * angle.sin()), dim=1)


@pytest.mark.parametrize(("method", "nearness"), [("zhang", 1.5), ("larsson", 2.5), ("l2", 0.2)])
def test_what_minimises_the_loss_decodes_to_the_colour(method: Method, nearness: float) -> None:
    kind, ab = METHODS[method], some_colours()
    raw = torch.zeros(1, kind.outputs, 6, 6, requires_grad=True)
    optimizer = torch.optim.Adam([raw], lr=0.3)
    before = float(kind.loss(raw, ab, torch.ones(313))["loss"].detach())
    for _ in range(150):
        optimizer.zero_grad()
        loss = kind.loss(raw, ab, torch.ones(313))["loss"]
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < before
    found = kind.decode(raw.detach(), 1.0)
    assert float((found - ab).norm(dim=1).max()) < nearness


def test_zhangs_loss_is_the_weighed_cross_entropy_of_dense_targets() -> None:
    ab = some_colours()
    raw = torch.randn(1, 313, 6, 6, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(313, generator=torch.Generator().manual_seed(1)) + 0.5
    squared = (ab[0].permute(1, 2, 0)[:, :, None] - bin_centres(ab.device)).square().sum(-1)
    nearest = squared.argsort(dim=-1)[..., :5]
    dense = torch.zeros(6, 6, 313).scatter(
        2, nearest, torch.softmax(-squared.gather(2, nearest) / 50, dim=-1)
    )
    entropy = -(dense * raw[0].permute(1, 2, 0).log_softmax(-1)).sum(-1)
    wanted = (entropy * weights[nearest[..., 0]]).mean()
    # Which bins are nearest is decided at whole a*, b*: a fifth neighbour may differ.
    assert float(METHODS["zhang"].loss(raw, ab, weights)["loss"]) == pytest.approx(
        float(wanted), rel=0.01
    )


@torch.no_grad()
def test_distributions_sum_to_one_and_their_mean_is_the_prediction() -> None:
    model = small()
    shares, colours = distribution(model, lightness(1, 1, 16, 16))
    assert shares.shape == (1, len(gamut_bins()), 8, 8) and colours.shape == (313, 2)
    assert torch.allclose(shares.sum(1), torch.ones(1, 8, 8), atol=1e-5)
    mean = torch.einsum("bqhw,qc->bchw", shares, colours)
    whole = torch.nn.functional.interpolate(mean, size=(16, 16), mode="bilinear")
    assert torch.allclose(predict(model, lightness(1, 1, 16, 16), 1.0), whole, atol=1e-3)


@torch.no_grad()
def test_hue_and_chroma_make_a_distribution_of_colours() -> None:
    shares, colours = distribution(small("larsson"), lightness(1, 1, 16, 16))
    assert shares.shape == (1, 1024, 8, 8) and colours.shape == (1024, 2)
    assert torch.allclose(shares.sum(1), torch.ones(1, 8, 8), atol=1e-4)
    assert float(colours.norm(dim=1).max()) == pytest.approx(126)


@torch.no_grad()
def test_regression_knows_of_no_distribution() -> None:
    with pytest.raises(UsageError, match="one colour a pixel"):
        distribution(small("l2"), lightness(1, 1, 16, 16))


def test_where_hues_disagree_larsson_fades_to_grey() -> None:
    raw = torch.zeros(1, 64, 1, 1)
    raw[:, 32 + 10] = 30  # a chroma of 42, of any hue
    decode = METHODS["larsson"].decode
    assert float(decode(raw, 1.0).norm(dim=1)) < 0.1
    raw[:, 4] = 30
    assert float(decode(raw, 1.0).norm(dim=1)) == pytest.approx(42, abs=0.5)


def test_recolouring_keeps_lightness() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(60, 200, (3, 3, 32, 32), dtype=torch.uint8, generator=generator)
    found = recoloured(small(), pictures, chunk=2)
    assert found.shape == pictures.shape and found.dtype == torch.uint8
    difference = rgb_to_lab(found)[:, 0] - rgb_to_lab(pictures)[:, 0]
    assert float(difference.abs().mean()) < 1
    grey = rgb_to_lab(pictures)[:, :1].expand(-1, 3, -1, -1)
    assert not torch.equal(found.float(), grey)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 4},
        {"stride": 0},
        {"uniform": 0.0},
        {"temperature": 0.0},
        {"scale_jitter": 0.5},
        {"backbone_options": "[1]"},
        {"backbone_options": "depth=8"},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(UsageError):
        ColorizeOptions(**wrong)
