"""Parts that only training needs: dropout of tokens, and the smoothed loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def seen(x: Tensor, share: float, training: bool) -> Tensor:
    """Token vectors (B, T, F) of which a share of tokens is zero."""
    if not training or not share:
        return x
    return x * (torch.rand(x.shape[:2], device=x.device) >= share)[..., None]


class TokenLoss(nn.Module):
    """Cross entropy with label smoothing (Szegedy 2016) over a large vocabulary.

    Args:
        smoothing: share of the probability that is spread over all tokens.
    """

    def __init__(self, smoothing: float):
        super().__init__()
        self.smoothing = smoothing

    def forward(
        self, vectors: Tensor, weight: Tensor, bias: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Means over tokens.

        Args:
            vectors: (N, D).
            weight: (V, D).
            bias: (V,).
            labels: int64 (N,).

        Returns:
            "loss", smoothed, and "nll", both in nats a token.
        """
        logits = F.linear(vectors, weight, bias).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.smoothing)
        with torch.no_grad():
            flat = logits.mean(-1)
            right = logits.gather(1, labels[:, None])[:, 0]
            # loss = logsumexp - (1 - s) * right - s * flat
            smoothed = (1 - self.smoothing) * right + self.smoothing * flat
            nll = loss + (smoothed - right).mean()
        return {"loss": loss, "nll": nll}
