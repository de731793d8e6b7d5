"""Papers' figures, every option of every backbone, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from eightbit.backbones import BACKBONES, create_backbone, list_backbones, register_backbone
from eightbit.backbones.layers import QuickDropout
from eightbit.errors import UnknownNameError, UsageError

# torch says once per process that projections miss its fused CPU kernel; results are the same.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")

ATARI, CIFAR = (4, 84, 84), (3, 32, 32)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _conv(inputs: int, outputs: int, kernel: int) -> int:
    return outputs * (inputs * kernel**2 + 1)


def _impala(width: int = 1, last_map: int = 11 * 11, hidden: int = 256) -> int:
    """Figure 3 of the paper: a convolution and two blocks of two in every section."""
    sections = zip((4, 16 * width, 32 * width), (16 * width, 32 * width, 32 * width), strict=True)
    convs = sum(_conv(a, b, 3) + 4 * _conv(b, b, 3) for a, b in sections)
    return convs + (32 * width * last_map + 1) * hidden


def _resnet(n: int, width: int = 1) -> int:
    """Section 4.2: a convolution, then 2n in each of three stages; a norm with two a channel."""
    channels = [16 * width, 32 * width, 64 * width]
    total, before = 3 * channels[0] * 9 + 2 * channels[0], channels[0]
    for c in channels:
        total += before * c * 9 + (2 * n - 1) * c * c * 9 + 2 * n * 2 * c
        before = c
    return total


def _alexnet(convs: list[tuple[int, int, int]], last_map: int, hidden: int) -> int:
    """Convolutions (inputs that each sees, outputs, kernel), then two layers."""
    size = convs[-1][1] * last_map
    return sum(_conv(a, b, k) for a, b, k in convs) + (size + 1) * hidden + (hidden + 1) * hidden


ALEXNET = [(3, 96, 5), (48, 256, 5), (256, 384, 3), (192, 384, 3), (192, 256, 3)]


def _speedy(widths: tuple[int, int, int], convs: int = 2) -> int:
    """A bias of the whitening; kernels without bias, and a shift for each channel."""
    total, before = 24, 24
    for width in widths:
        total += before * width * 9 + (convs - 1) * width * width * 9 + convs * width
        before = width
    return total


def _vgg(channels: list[int], norm: bool = True) -> int:
    """3x3 kernels with a bias, or with a scale and a shift instead."""
    before = [3, *channels[:-1]]
    pairs = zip(before, channels, strict=True)
    return sum(a * b * 9 + (2 * b if norm else b) for a, b in pairs)


VGG11 = [64, 128, 256, 256, 512, 512, 512, 512]


def _norm_conv(before: int, after: int, kernel: int) -> int:
    """A kernel without bias, then a scale and a shift."""
    return before * after * kernel * kernel + 2 * after


def _darknet(width: int, depth: int = 1) -> int:
    channels = [width * factor for factor in (1, 2, 4, 8, 8)]
    total = _norm_conv(3, width, 3)
    for before, after, times in zip(channels, channels[1:], (1, 2, 2, 1), strict=False):
        half, blocks = after // 2, times * depth
        total += _norm_conv(before, after, 3) + _norm_conv(after, 2 * half, 1)
        total += blocks * 2 * _norm_conv(half, half, 3)
        total += _norm_conv((2 + blocks) * half, after, 1)
    return total


def _skip_lstm(features: int, hidden: int, layers: int) -> int:
    """Four gates of each layer; those above the first also read the one below."""
    return 4 * hidden * (layers * (features + hidden + 2) + (layers - 1) * hidden)


NATURE_CONVS = _conv(4, 32, 8) + _conv(32, 64, 4) + _conv(64, 64, 3)
# name, in_shape, options, out_features, parameters
TABLE = [
    ("nature", ATARI, {}, 512, 1_684_128),
    ("nature", ATARI, {"hidden": 128}, 128, NATURE_CONVS + 3137 * 128),
    ("nature", (3, 64, 64), {}, 512, NATURE_CONVS - 32 * 64 + 1025 * 512),
    ("nips2013", ATARI, {}, 256, _conv(4, 16, 8) + _conv(16, 32, 4) + (2592 + 1) * 256),
    ("nips2013", ATARI, {"hidden": 8}, 8, _conv(4, 16, 8) + _conv(16, 32, 4) + (2592 + 1) * 8),
    ("nature", ATARI, {"hidden": 0}, 3136, NATURE_CONVS),
    # A scale and a shift for every channel, and for every entry of the vector.
    ("nature", ATARI, {"layer_norm": True}, 512, 1_684_128 + 2 * (32 + 64 + 64 + 512)),
    ("nips2013", ATARI, {"hidden": 0}, 2592, _conv(4, 16, 8) + _conv(16, 32, 4)),
    (
        "nips2013",
        ATARI,
        {"hidden": 8, "layer_norm": True},
        8,
        _conv(4, 16, 8) + _conv(16, 32, 4) + (2592 + 1) * 8 + 2 * (16 + 32 + 8),
    ),
    ("impala", ATARI, {"hidden": 0, "adaptive_pool": 6}, 32 * 36, _impala() - (32 * 121 + 1) * 256),
    ("impala", ATARI, {}, 256, _impala()),
    ("impala", ATARI, {"width": 2}, 256, _impala(2)),
    ("impala", ATARI, {"hidden": 32}, 32, _impala(hidden=32)),
    ("impala", ATARI, {"adaptive_pool": 6}, 256, _impala(last_map=36)),
    ("impala", ATARI, {"spectral_norm": True}, 256, _impala()),
    # One scale and one shift a channel: before 4 ReLUs a section, the last one, and the vector.
    (
        "impala",
        ATARI,
        {"layer_norm": True},
        256,
        _impala() + 2 * (4 * (16 + 32 + 32) + 32) + 2 * 256,
    ),
    (
        "impala",
        (4, 16, 16),
        {"channels": [8]},
        256,
        _conv(4, 8, 3) + 4 * _conv(8, 8, 3) + (8 * 64 + 1) * 256,
    ),
    ("resnet", CIFAR, {}, 64, _resnet(3)),
    ("resnet", CIFAR, {"depth": 56}, 64, _resnet(9)),
    ("resnet", CIFAR, {"width": 2}, 128, _resnet(3, 2)),
    ("resnet", CIFAR, {"norm": "group"}, 64, _resnet(3)),
    ("darknet", CIFAR, {}, 128, _darknet(16)),
    ("darknet", CIFAR, {"width": 8, "depth": 2}, 64, _darknet(8, 2)),
    ("alexnet", CIFAR, {}, 4096, _alexnet(ALEXNET, 9, 4096)),
    ("alexnet", CIFAR, {"hidden": 16, "dropout": 0.0}, 16, _alexnet(ALEXNET, 9, 16)),
    (
        "alexnet",
        CIFAR,
        {"hidden": 16, "norm": "batch"},
        16,
        _alexnet(ALEXNET, 9, 16) + 2 * (96 + 256 + 384 + 384 + 256),
    ),
    (
        "alexnet",
        CIFAR,
        {"hidden": 16, "width": 0.25},
        16,
        _alexnet([(3, 24, 5), (12, 64, 5), (64, 96, 3), (48, 96, 3), (48, 64, 3)], 9, 16),
    ),
    ("speedy", CIFAR, {}, 256, _speedy((64, 256, 256))),
    ("speedy", CIFAR, {"widths": [8, 16, 12], "convs": 3}, 12, _speedy((8, 16, 12), 3)),
    ("vgg", CIFAR, {}, 512, _vgg(VGG11)),
    ("vgg", CIFAR, {"norm": "none"}, 512, _vgg(VGG11, norm=False)),
    ("vgg", CIFAR, {"depth": 13, "width": 0.125}, 64, _vgg([8, 8, 16, 16, 32, 32] + 4 * [64])),
    (
        "vgg",
        CIFAR,
        {"hidden": 16, "dropout": 0.1},
        16,
        _vgg(VGG11) + (512 + 1) * 16 + (16 + 1) * 16,
    ),
    ("strided", (3, 75, 75), {}, 24, 24 * (3 * 9 + 2) + 3 * 24 * (24 * 9 + 2)),
    (
        "strided",
        (3, 75, 75),
        {"channels": [8, 16], "norm": "layer"},
        16,
        8 * (3 * 9 + 2) + 16 * (8 * 9 + 2),
    ),
    ("mlp", (5,), {}, 64, 6 * 64 + 65 * 64),
    ("mlp", (5,), {"hidden": (3,), "activation": "tanh"}, 3, 6 * 3),
    ("mlp", (5,), {"hidden": [3, 2], "layer_norm": True}, 2, 6 * 3 + 4 * 2 + 2 * 5),
    ("mlp", (5,), {"hidden": (3,), "activation": "sigmoid", "dropout": 0.2}, 3, 6 * 3),
    ("lstm", (6,), {"hidden": 8}, 8, 4 * 8 * (6 + 8 + 2)),
    ("lstm", (6,), {"hidden": 8, "layers": 2}, 8, 4 * 8 * (6 + 8 + 2) + 4 * 8 * (8 + 8 + 2)),
    ("lstm", (6,), {"hidden": 8, "projection": 3}, 3, 4 * 8 * (6 + 3 + 2) + 3 * 8),
    ("lstm", (6,), {"hidden": 8, "bidirectional": True}, 16, 2 * 4 * 8 * (6 + 8 + 2)),
    ("lstm", (6,), {"hidden": 8, "layer_norm": True}, 8, 4 * 8 * (6 + 8 + 2) + 16),
    ("lstm", (6,), {"hidden": 8, "dropout": 0.5, "weight_dropout": 0.1}, 8, 4 * 8 * (6 + 8 + 2)),
    ("skip_lstm", (6,), {"hidden": 8, "layers": 1}, 8, 4 * 8 * (6 + 8 + 2)),
    ("skip_lstm", (6,), {"hidden": 8, "layers": 3, "dropout": 0.1}, 24, _skip_lstm(6, 8, 3)),
    ("skip_lstm", (6,), {"hidden": 8, "layer_norm": True}, 24, _skip_lstm(6, 8, 3) + 3 * 16),
    ("skip_lstm", (6,), {"hidden": 8, "weight_dropout": 0.1}, 24, _skip_lstm(6, 8, 3)),
    ("mrnn", (6,), {"hidden": 8, "weight_dropout": 0.1}, 8, 2 * 8 * (6 + 8) + 8),
    ("mrnn", (6,), {"hidden": 8, "factors": 5}, 8, 5 * (6 + 8) + 8 * (6 + 5 + 1)),
    ("mlstm", (6,), {"hidden": 8, "weight_dropout": 0.1}, 8, 8 * (6 + 8) + 32 * (6 + 8 + 1)),
    ("mlstm", (6,), {"hidden": 8, "factors": 5}, 8, 5 * (6 + 8) + 32 * (6 + 5 + 1)),
    ("gru", (6,), {"hidden": 8, "layers": 2}, 8, 3 * 8 * (6 + 8 + 2) + 3 * 8 * (8 + 8 + 2)),
    ("gru", (6,), {"hidden": 8, "bidirectional": True}, 16, 2 * 3 * 8 * (6 + 8 + 2)),
    ("gru", (6,), {"hidden": 8, "layer_norm": True}, 8, 3 * 8 * (6 + 8 + 2) + 16),
]


@pytest.mark.parametrize(("name", "in_shape", "options", "out_features", "parameters"), TABLE)
def test_size_is_the_one_counted_by_hand(name, in_shape, options, out_features, parameters):
    module = create_backbone(name, in_shape, **options)
    assert module.out_features == out_features
    assert _count(module) == parameters
    x = torch.zeros(2, *(3,) * (BACKBONES[name].kind == "recurrent"), *in_shape)
    out = module.eval()(x)
    assert (out[0] if isinstance(out, tuple) else out).shape[-1] == out_features


def test_every_option_of_every_backbone_is_in_the_table():
    for name in list_backbones():
        tried = {option for row in TABLE if row[0] == name for option in row[2]}
        assert tried == set(BACKBONES[name].options), name


def test_nature_with_a_head_of_four_actions_has_the_known_size():
    trunk = create_backbone("nature", ATARI)
    assert _count(trunk) + _count(nn.Linear(trunk.out_features, 4)) == 1_686_180


def _numpy_conv(x, weight, bias, stride):
    kernel = weight.shape[-1]
    height = (x.shape[2] - kernel) // stride + 1
    width = (x.shape[3] - kernel) // stride + 1
    out = np.zeros((len(x), len(weight), height, width))
    for i in range(height):
        for j in range(width):
            patch = x[:, :, i * stride : i * stride + kernel, j * stride : j * stride + kernel]
            out[:, :, i, j] = np.tensordot(patch, weight, axes=([1, 2, 3], [1, 2, 3])) + bias
    return out


def test_nature_equals_a_numpy_convolution(rng):
    trunk = create_backbone("nature", ATARI, seed=0)
    p = {name: value.detach().double().numpy() for name, value in trunk.named_parameters()}
    pixels = rng.integers(0, 256, (2, *ATARI), dtype=np.uint8)
    x = pixels / 255
    for layer, stride in (("features.0.0", 4), ("features.1.0", 2), ("features.2.0", 1)):
        x = np.maximum(_numpy_conv(x, p[f"{layer}.weight"], p[f"{layer}.bias"], stride), 0)
    flat = x.reshape(2, -1)
    want = np.maximum(flat @ p["hidden.1.weight"].T + p["hidden.1.bias"], 0)
    with torch.no_grad():
        got = trunk(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    trunk = create_backbone("impala", (4, 16, 16), spectral_norm=True, seed=0)
    x = torch.zeros(1, 4, 16, 16)
    for _ in range(30):  # one step of the power iteration each
        trunk(x)
    kernels = [m.weight for m in trunk.modules() if isinstance(m, nn.Conv2d)][1:3]
    for kernel in kernels:
        assert torch.linalg.matrix_norm(kernel.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_layer_norm_makes_the_residual_branch_blind_to_the_scale_of_its_input():
    blocks = {
        norm: create_backbone("impala", ATARI, layer_norm=norm, seed=0).features[1][2].branch
        for norm in (True, False)
    }
    x = torch.randn(1, 32, 21, 21, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(blocks[True](3 * x), blocks[True](x), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(blocks[False](3 * x), blocks[False](x), atol=1e-2)


def test_adaptive_pool_reads_pictures_of_every_size():
    trunk = create_backbone("impala", ATARI, adaptive_pool=6)
    assert trunk(torch.zeros(1, 4, 64, 96)).shape == (1, 256)


def test_group_norm_keeps_rows_apart_while_training_and_batch_norm_does_not():
    x = torch.rand(2, *CIFAR, generator=torch.Generator().manual_seed(0))
    for norm, apart in (("group", True), ("batch", False)):
        trunk = create_backbone("resnet", CIFAR, depth=8, norm=norm, seed=0).train()
        alone = trunk(x[:1].repeat(2, 1, 1, 1))[0]
        assert torch.allclose(trunk(x)[0], alone, atol=1e-5) is apart


def test_an_mlp_takes_bytes_as_numbers_from_zero_to_one():
    trunk = create_backbone("mlp", (128,), seed=0)
    memory = torch.arange(128, dtype=torch.uint8)[None]
    torch.testing.assert_close(trunk(memory), trunk(memory.float() / 255))


def test_an_mlp_leaves_out_outputs_of_every_activation_while_training_only():
    trunk = create_backbone("mlp", (4,), hidden=(400, 300), activation="sigmoid", dropout=0.4)
    plain = create_backbone("mlp", (4,), hidden=(400, 300), activation="sigmoid")
    kinds = [type(layer) for layer in trunk.layers]
    assert kinds == [nn.Linear, nn.Sigmoid, QuickDropout] * 2
    for ours, other in zip(trunk.parameters(), plain.parameters(), strict=True):
        other.data.copy_(ours.data)
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(trunk.eval()(x), plain(x))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        left_out = (trunk.train()(x) == 0).float().mean().item()
    assert left_out == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize(
    ("name", "in_shape", "options", "message"),
    [
        ("natur", ATARI, {}, "unknown backbone 'natur': did you mean nature"),
        ("zzz", ATARI, {}, "'eightbit list backbones' shows all"),
        ("impala", ATARI, {"widht": 2}, "unknown impala option 'widht': did you mean width"),
        ("nature", CIFAR, {}, "at least 36x36 pixels, not 32x32"),
        ("nips2013", (4, 10, 84), {}, "at least 20x20 pixels, not 10x84"),
        ("nature", (84, 84), {}, r"\(channels, height, width\), not \(84, 84\)"),
        ("nature", (8,), {}, "there are gru, lstm, mlp, mlstm, mrnn, skip_lstm"),
        ("mlp", ATARI, {}, "there are alexnet, darknet, impala, nature"),
        ("mlp", (0,), {}, r"\(features,\), not \(0,\)"),
        ("nature", ATARI, {"hidden": -1}, "nature: hidden must be above zero, not -1"),
        ("nature", ATARI, {"hidden": "big"}, "nature: hidden must be above zero, not 'big'"),
        ("impala", ATARI, {"channels": []}, "at least one stage"),
        ("impala", ATARI, {"channels": [16, -1]}, r"channels\[1\] must be above zero"),
        ("impala", ATARI, {"adaptive_pool": -1}, "a side in pixels or 0"),
        ("resnet", CIFAR, {"depth": 21}, "depth is 6n \\+ 2"),
        ("resnet", CIFAR, {"norm": "layer"}, "norm is batch or group, not 'layer'"),
        ("mlp", (5,), {"hidden": ()}, "at least one layer"),
        ("mlp", (5,), {"activation": "gelu"}, "activation is relu or tanh or sigmoid, not 'gelu'"),
        ("mlp", (5,), {"dropout": 1.0}, r"mlp: dropout lies in \[0, 1\), not 1.0"),
        ("mlp", (5,), {"dropout": -0.1}, r"mlp: dropout lies in \[0, 1\), not -0.1"),
        ("lstm", (5,), {"hidden": 8, "projection": 8}, "projection is from 1 to 7, or 0"),
        ("lstm", (5,), {"dropout": 1.0}, r"lstm: dropout lies in \[0, 1\), not 1.0"),
        ("lstm", (5,), {"projection": 3, "weight_dropout": 0.1}, "a network without projection"),
        ("mlstm", (5,), {"factors": -1}, "mlstm: factors is a number or 0 for hidden, not -1"),
        ("mrnn", (5,), {"hidden": 0}, "mrnn: hidden must be above zero"),
        ("mrnn", (5,), {"weight_dropout": 1}, r"mrnn: weight_dropout lies in \[0, 1\), not 1"),
        ("skip_lstm", (5,), {"layers": 0}, "skip_lstm: layers must be above zero"),
        ("skip_lstm", (5,), {"dropout": -0.1}, "skip_lstm: dropout lies in"),
        ("gru", (5,), {"layers": 0}, "gru: layers must be above zero"),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_sentence(name, in_shape, options, message):
    with pytest.raises(UsageError, match=message):
        create_backbone(name, in_shape, **options)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 84, 84, 4), "built for pictures"),
        (torch.zeros(1, 4, 84, 80), r"build it with in_shape=\(4, 84, 80\)"),
        (torch.zeros(1, 4, 84, 84, dtype=torch.int64), "uint8 in 0..255 or float"),
    ],
)
def test_a_picture_that_does_not_fit_is_refused_with_a_sentence(x, message):
    with pytest.raises(UsageError, match=message):
        create_backbone("nature", ATARI)(x)
    with pytest.raises(UsageError, match="channels come before height"):
        create_backbone("resnet", CIFAR)(torch.zeros(1, 32, 32, 3))


def test_a_backbone_that_breaks_the_contract_is_refused():
    with pytest.raises(UsageError, match="unknown kind of backbone 'transformer'"):
        register_backbone(kind="transformer")
    with pytest.raises(UsageError, match="give width a default"):

        @register_backbone
        def narrow(in_shape, width):
            return nn.Identity()

    assert "narrow" not in BACKBONES
    with pytest.raises(ValueError, match="'nature' is registered already"):

        @register_backbone
        def nature(in_shape):
            return nn.Identity()


def test_unknown_names_carry_the_nearest_ones():
    with pytest.raises(UnknownNameError) as caught:
        create_backbone("resnett", CIFAR)
    assert caught.value.nearest[0] == "resnet"
