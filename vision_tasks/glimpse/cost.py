"""Multiply-adds that reading a picture takes, counted layer by layer."""

from __future__ import annotations

from collections.abc import Callable

from .options import GlimpseOptions

DENSE_LAYERS = 2
"""Hidden layers of the fully connected reader."""


def of_glimpses(options: GlimpseOptions, answers: int) -> int:
    """Of the network with glimpses: all looks of all copies that are averaged at the end.

    The additions that bring wide patches to the size of the narrowest one count as well; the
    baseline, which only training needs, does not.
    """
    patch = options.patch**2
    averages = sum(patch * 4**scale for scale in range(1, options.scales))
    seen = of_sensor(options) + 2 * options.what
    joint = 2 * options.what * options.joint
    gates = {"lstm": 4, "gru": 3, "relu": 1}[options.core]
    core = gates * options.hidden * (options.joint + options.hidden)
    looks = options.looks
    locations = 2 * options.hidden * (looks - 1) if options.where == "learned" else 0
    spoken = looks if options.task == "catch" else 1
    path = looks * (averages + seen + joint + core) + locations
    return options.test_copies * (path + spoken * options.hidden * answers)


def of_sensor(options: GlimpseOptions) -> int:
    """Of what makes a vector of one glimpse's patches."""
    patch, first = options.patch, options.channels
    if options.sensor == "dense":
        return options.scales * patch**2 * options.what
    convolutions = 9 * first * (options.scales * patch**2 + 2 * first * (patch // 2) ** 2)
    return convolutions + 2 * first * (patch // 4) ** 2 * options.what


def of_dense(size: int, width: int, answers: int) -> int:
    """Of two hidden layers of `width` on a picture of `size` x `size`."""
    return size**2 * width + (DENSE_LAYERS - 1) * width**2 + width * answers


def of_convolution(size: int, layers: list[tuple[int, int, int]], hidden: int, answers: int) -> int:
    """Of convolutions (channels, side of the kernel, stride), a hidden layer, and the answer."""
    total, before, side = 0, 1, size
    for channels, kernel, stride in layers:
        side = (side - kernel) // stride + 1
        total += side**2 * channels * before * kernel**2
        before = channels
    return total + side**2 * before * hidden + hidden * answers


def dense_width(size: int, budget: int, answers: int) -> int:
    """The largest width that costs no more than `budget`; at least 1."""
    return _largest(lambda width: of_dense(size, width, answers), budget)


def scaled_layers(
    size: int, layers: list[tuple[int, int, int]], hidden: int, answers: int, budget: int
) -> list[tuple[int, int, int]]:
    """Convolutions whose channels keep their proportions and cost no more than `budget`."""
    most = max(one[0] for one in layers)

    def widened(width: int) -> list[tuple[int, int, int]]:
        return [(max(1, round(share * width / most)), side, step) for share, side, step in layers]

    width = _largest(lambda wide: of_convolution(size, widened(wide), hidden, answers), budget)
    return widened(width)


def _largest(cost: Callable[[int], int], budget: int) -> int:
    """The largest whole number whose cost, which rises with it, is no more than `budget`."""
    high = 2
    while cost(high) <= budget:
        high *= 2
    low = 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle)
    return low
