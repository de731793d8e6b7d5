"""Where a network looks: perturbation saliency (Greydanus et al., 2018) and the gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum
from typing import Any

import cv2
import numpy as np

QValues = Callable[[np.ndarray], np.ndarray]
"""Takes observations (B, C, H, W) uint8, returns action values (B, A) float32."""

BLUR_SIGMA = 3.0  # of the picture that a place is replaced with, as in the paper
MASK_SIGMA = 5.0  # of the place that is replaced, as in the paper
BATCH = 64  # bounds the memory of one forward pass


class Saliency(str, Enum):
    """How a saliency map is made."""

    PERTURBATION = "perturbation"
    GRADIENT = "gradient"


@functools.lru_cache(maxsize=8)
def _masks(height: int, width: int, stride: int) -> np.ndarray:
    """(G, height, width) float32, one Gaussian place each, 1 in its middle."""
    ys, xs = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    rows = np.exp(-((ys[None] - _middles(height, stride)[:, None]) ** 2) / (2 * MASK_SIGMA**2))
    columns = np.exp(-((xs[None] - _middles(width, stride)[:, None]) ** 2) / (2 * MASK_SIGMA**2))
    masks = rows[:, None, :, None] * columns[None, :, None, :]
    return masks.reshape(-1, height, width).astype(np.float32)


def _middles(length: int, stride: int) -> np.ndarray:
    return np.arange(stride // 2, length, stride, dtype=np.float32)


def perturbation_saliency(
    q_values: QValues, observation: np.ndarray, *, stride: int = 6
) -> np.ndarray:
    """How much the action values change when a place of the input is blurred.

    Blurring takes the information of a place away without adding an edge. All frames of the
    stack are blurred at the place together. S = 1/2 |Q(I) - Q(I')|^2, equation 2 of the paper.

    Args:
        q_values: the network.
        observation: (C, H, W) uint8.
        stride: pixels from one place to the next; the cost grows with 1 / stride^2 (196 forward
            passes at 84 x 84 and stride 6).

    Returns:
        One value for each place, (rows, columns) float32 >= 0 (14 x 14 at 84 x 84 and stride 6).
    """
    _, height, width = observation.shape
    picture = observation.astype(np.float32)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), BLUR_SIGMA) for frame in picture])
    masks = _masks(height, width, stride)
    values = q_values(observation[None])[0]
    scores = []
    for start in range(0, len(masks), BATCH):
        place = masks[start : start + BATCH, None]
        perturbed = picture[None] * (1.0 - place) + blurred[None] * place
        changed = q_values(np.rint(perturbed).astype(np.uint8))
        scores.append(0.5 * ((changed - values) ** 2).sum(axis=1))
    grid = (len(_middles(height, stride)), len(_middles(width, stride)))
    return np.concatenate(scores).reshape(grid).astype(np.float32)


def gradient_saliency(network: Any, observation: np.ndarray) -> np.ndarray:
    """Absolute gradient of the best action value by each input pixel, largest over the stack.

    Args:
        network: a torch module that takes (1, C, H, W) float in [0, 1] and returns (1, A).
        observation: (C, H, W) uint8.

    Returns:
        (H, W) float32 >= 0, smoothed a little, since single pixels cannot be seen.
    """
    import torch

    device = next(network.parameters()).device
    pixels = torch.from_numpy(observation[None].astype(np.float32) / 255.0).to(device)
    pixels.requires_grad_(True)
    with torch.enable_grad():
        best = network(pixels).max()
        (gradient,) = torch.autograd.grad(best, pixels)
    largest = gradient[0].abs().amax(dim=0).cpu().numpy()
    return np.asarray(cv2.GaussianBlur(largest, (0, 0), 2.0), np.float32)


def saliency_map(kind: Saliency, agent: Any, observation: np.ndarray) -> np.ndarray:
    """The map of `kind` for an agent with `q_values` and `network`; see the two functions."""
    if kind is Saliency.GRADIENT:
        return gradient_saliency(agent.network, observation)
    return perturbation_saliency(agent.q_values, observation)
