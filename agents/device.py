"""Where and in which number format a network computes, chosen by measuring."""

from __future__ import annotations

import copy
import time
from typing import Literal

import torch
from gymnasium.spaces import Box

from ..errors import UsageError
from .networks import QNetwork, Twin


def choose_device(name: str) -> torch.device:
    """The device of this name; "auto" takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        UsageError: the device is unknown or not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"device {name!r} cannot be used ({reason}); try 'cpu' or 'auto'."
        ) from None
    return device


def choose_precision(
    wanted: Literal["auto", "fp32", "bf16"],
    network: QNetwork,
    space: Box,
    batch_size: int,
    device: torch.device,
) -> Literal["fp32", "bf16"]:
    """ "fp32" or "bf16": what was asked for, or with "auto" the faster of the two here.

    Vector observations always take fp32: their networks are too small to gain.
    """
    if wanted != "auto":
        return wanted
    if len(space.shape or ()) != 3 or device.type == "mps":
        return "fp32"
    seconds = {p: _time_update(network, space, batch_size, device, p) for p in ("fp32", "bf16")}
    # A tie goes to fp32, whose results do not depend on the machine's bf16 kernels.
    return "bf16" if seconds["bf16"] < 0.9 * seconds["fp32"] else "fp32"


def _time_update(
    network: QNetwork, space: Box, batch_size: int, device: torch.device, precision: str
) -> float:
    """Seconds of a forward and backward pass, the best of three after a warm-up."""
    twin = Twin(copy.deepcopy(network).to(device), precision)
    observations = torch.zeros((batch_size, *space.shape), dtype=torch.uint8, device=device)
    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        twin.module(observations).sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best
