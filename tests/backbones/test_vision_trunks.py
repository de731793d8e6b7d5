"""alexnet, vgg and speedy: sizes that their papers give, and layers against plain ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from eightbit.backbones import create_backbone, load_weights, save_weights
from eightbit.backbones.alexnet import ResponseNorm
from eightbit.backbones.speedy import ConvGroup, ShiftNorm, first_layer, is_whitening, whiten
from eightbit.errors import UsageError

CIFAR = (3, 32, 32)
IMAGENET_HEAD = 4096 * 1000 + 1000


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _on_paper(name: str, in_shape: tuple[int, int, int], **options) -> nn.Module:
    """A network without memory for its weights."""
    with torch.device("meta"):
        return create_backbone(name, in_shape, **options)


# ------------------------------------------------------------------------------------- alexnet


@pytest.mark.parametrize("side", [224, 227])
def test_alexnet_has_the_papers_size_and_maps(side):
    trunk = _on_paper("alexnet", (3, side, side))
    assert _count(trunk) + IMAGENET_HEAD == 60_965_224  # as published for two groups
    assert trunk.out_features == 4096
    small = create_backbone("alexnet", (3, side, side), width=0.1, hidden=8)
    maps = []
    for layer in small.features.modules():
        if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
            layer.register_forward_hook(lambda _, __, out: maps.append(out.shape[2]))
    small(torch.zeros(1, 3, side, side))
    assert maps == [55, 27, 27, 13, 13, 13, 13, 6]


def test_small_pictures_get_a_first_kernel_of_their_size():
    small = create_backbone("alexnet", CIFAR, width=0.25, hidden=64)
    first = first_layer(small)
    assert (first.kernel_size, first.stride) == ((5, 5), (1, 1))
    assert small.forward_features(torch.zeros(1, *CIFAR)).shape == (1, 64, 3, 3)
    large = create_backbone("alexnet", (3, 64, 64), width=0.25, hidden=64)
    assert (first_layer(large).kernel_size, first_layer(large).stride) == ((11, 11), (4, 4))
    assert large.forward_features(torch.zeros(1, 3, 64, 64)).shape == (1, 64, 1, 1)


@pytest.mark.parametrize("channels", [2, 5, 48])
def test_response_norm_equals_torchs(channels):
    x = torch.randn(2, channels, 5, 7, generator=torch.Generator().manual_seed(0)) * 50
    want = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)(x)
    torch.testing.assert_close(ResponseNorm(channels)(x), want, rtol=1e-5, atol=1e-5)


def test_norms_of_alexnet_stand_where_they_should():
    def kinds(norm: str) -> list[str]:
        trunk = create_backbone("alexnet", CIFAR, width=0.1, hidden=8, norm=norm)
        known = (nn.Conv2d, nn.BatchNorm2d, ResponseNorm)
        return [type(m).__name__ for m in trunk.features.modules() if isinstance(m, known)]

    convolutions = ["PixelConv2d"] + 4 * ["Conv2d"]
    assert kinds("none") == convolutions
    assert [k for k in kinds("batch") if k != "BatchNorm2d"] == convolutions
    assert kinds("batch").count("BatchNorm2d") == 5
    assert kinds("response")[:4] == ["PixelConv2d", "ResponseNorm", "Conv2d", "ResponseNorm"]


# ----------------------------------------------------------------------------------------- vgg


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(11, 132_863_336), (13, 133_047_848), (16, 138_357_544), (19, 143_667_240)],
)
def test_vgg_has_the_papers_size(depth, parameters):
    trunk = _on_paper("vgg", (3, 224, 224), depth=depth, norm="none", hidden=4096)
    assert _count(trunk) + IMAGENET_HEAD == parameters
    kernels = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    assert len(kernels) + 3 == depth


def test_vgg_for_small_pictures_takes_any_size():
    trunk = create_backbone("vgg", CIFAR, width=0.125).eval()
    assert trunk.out_features == 64
    assert trunk(torch.zeros(2, 3, 40, 64)).shape == (2, 64)


# -------------------------------------------------------------------------------------- speedy


def _natural(count: int = 400) -> torch.Tensor:
    """Smooth coloured noise whose channels resemble each other, as those of photographs do."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 8, 8, generator=generator)
    small = 0.7 * small[:, :1] + 0.3 * small
    smooth = F.interpolate(small, (32, 32), mode="bilinear", align_corners=False)
    noisy = smooth * 200 + torch.randn(count, 3, 32, 32, generator=generator) * 6 + 20
    return noisy.clamp(0, 255).to(torch.uint8)


def test_whitened_patches_are_uncorrelated_and_of_unit_variance():
    trunk = create_backbone("speedy", CIFAR, seed=0)
    pictures = _natural()
    whiten(trunk, pictures)
    with torch.no_grad():
        out = first_layer(trunk)(pictures)
    torch.testing.assert_close(out[:, :12], -out[:, 12:], rtol=1e-4, atol=1e-3)
    flat = out[:, :12].transpose(0, 1).flatten(1)
    covariance = torch.cov(flat)
    # Added to each variance, the constant of the paper makes small ones smaller than one.
    off = covariance - torch.diag(covariance.diag())
    assert off.abs().max() < 0.05
    assert covariance.diag()[:4].sub(1).abs().max() < 0.05
    assert (covariance.diag() < 1.05).all()
    assert flat.mean(1).abs().max() < 0.1


def test_principal_directions_stand_in_order_of_their_variance():
    trunk = create_backbone("speedy", CIFAR, seed=0)
    pictures = _natural()
    whiten(trunk, pictures)
    # Per pixel of unit variance, as the directions were computed.
    deviation = (pictures.double() / 255).std(dim=(0, 2, 3)).float()
    lengths = (first_layer(trunk).weight[:12] * deviation[:, None, None]).flatten(1).norm(dim=1)
    assert (lengths.diff() > 0).all()  # the larger the variance, the smaller the factor


@pytest.mark.parametrize("channels", [1, 3, 4, 9])
def test_before_whitening_the_kernels_are_orthonormal_cosines(channels):
    kernels = first_layer(create_backbone("speedy", (channels, 32, 32))).weight
    assert kernels.shape == (24, channels, 2, 2)
    distinct = min(12, 4 * channels)
    flat = kernels[:distinct].flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(distinct), rtol=0, atol=1e-6)
    assert torch.equal(kernels[12:], -kernels[:12])


def test_the_whitening_is_kept_but_not_learnt(tmp_path, capsys):
    trunk = create_backbone("speedy", CIFAR, widths=(8, 8, 8), seed=0)
    assert is_whitening(trunk)
    assert not is_whitening(create_backbone("resnet", CIFAR, depth=8))
    whiten(trunk, _natural())
    assert "features.0.0.weight" not in dict(trunk.named_parameters())
    path = save_weights(trunk, tmp_path / "speedy.safetensors")
    other = create_backbone("speedy", (4, 84, 84), widths=(8, 8, 8), seed=1)
    report = load_weights(other, path)
    assert report.adapted == ("features.0.0",)
    assert not report.started_anew
    want = first_layer(trunk).weight.mean(dim=1) * 3 / 4
    torch.testing.assert_close(first_layer(other).weight[:, 2], want)
    with pytest.raises(UsageError, match="only a speedy trunk"):
        whiten(create_backbone("resnet", CIFAR, depth=8), _natural(2))


def test_shift_norm_is_batch_norm_with_a_scale_of_one(rng):
    ours, plain = ShiftNorm(5), nn.BatchNorm2d(5, eps=1e-12, momentum=0.4)
    for _ in range(3):
        x = torch.from_numpy(rng.normal(2, 3, (4, 5, 6, 6)).astype(np.float32))
        torch.testing.assert_close(ours(x), plain(x))
    torch.testing.assert_close(ours.eval()(x), plain.eval()(x))


@pytest.mark.parametrize("convs", [1, 2, 3, 4])
def test_a_group_is_what_its_docstring_says(convs):
    group = ConvGroup(4, 6, convs).eval()
    x = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    pooled = F.max_pool2d(F.conv2d(x, group.convs[0].weight, padding=1), 2)
    want = first = F.gelu(group.norms[0](pooled))
    for index in range(1, convs):
        want = group.norms[index](F.conv2d(want, group.convs[index].weight, padding=1))
        if index == convs - 1 and convs >= 3:
            want = want + first
        want = F.gelu(want)
    torch.testing.assert_close(group(x), want)
    assert group(x).shape == (2, 6, 4, 4)


@pytest.mark.parametrize(("before", "width"), [(4, 6), (6, 4)])
def test_first_filters_hand_their_input_on(before, width):
    conv = ConvGroup(before, width, 1).convs[0]
    x = torch.randn(1, before, 5, 5, generator=torch.Generator().manual_seed(0))
    kept = min(before, width)
    torch.testing.assert_close(conv(x)[:, :kept], x[:, :kept])
    assert conv.weight[kept:].abs().sum(dim=(1, 2, 3)).gt(0).all()


@pytest.mark.parametrize(
    ("name", "in_shape", "options", "message"),
    [
        ("speedy", CIFAR, {"widths": [8, 8]}, "three groups"),
        ("speedy", CIFAR, {"widths": [8, 0, 8]}, r"widths\[1\] must be above zero"),
        ("speedy", CIFAR, {"convs": 0}, "convs is at least 1, not 0"),
        ("speedy", (3, 8, 32), {}, "at least 9x9 pixels, not 8x32"),
        ("alexnet", (3, 14, 32), {}, "at least 15x15 pixels, not 14x32"),
        ("alexnet", CIFAR, {"dropout": 1.0}, r"dropout lies in \[0, 1\)"),
        ("alexnet", CIFAR, {"norm": "group"}, "norm is response, batch or none, not 'group'"),
        ("alexnet", CIFAR, {"width": 0}, "width must be above zero"),
        ("vgg", CIFAR, {"depth": 12}, "depth is 11, 13, 16 or 19, not 12"),
        ("vgg", (3, 28, 28), {}, "at least 32x32 pixels, not 28x28"),
        ("vgg", CIFAR, {"norm": "layer"}, "norm is batch or none"),
        ("vgg", CIFAR, {"dropout": -0.1}, "dropout lies in"),
        ("vgg", CIFAR, {"hidden": -4}, "hidden must be above zero"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_sentence(name, in_shape, options, message):
    with pytest.raises(UsageError, match=message):
        create_backbone(name, in_shape, **options)


@pytest.mark.parametrize(("name", "side"), [("speedy", 9), ("alexnet", 15), ("vgg", 32)])
def test_the_smallest_picture_that_is_named_can_be_read(name, side):
    options = {} if name == "speedy" else {"width": 0.1}
    trunk = create_backbone(name, (3, side, side), **options).eval()
    assert trunk(torch.zeros(1, 3, side, side)).shape == (1, trunk.out_features)
