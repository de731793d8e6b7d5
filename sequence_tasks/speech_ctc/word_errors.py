"""The expected number of word errors as a loss (Graves and Jaitly 2014, expected transcription
loss)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .._ctc.labels import BLANK
from .._lengths import counts
from .._scores import edits


class Spelling:
    """Labels as words.

    Args:
        alphabet: characters; character i is label i + 1.
    """

    def __init__(self, alphabet: str):
        self._characters = ("", *alphabet)

    def words(self, labels: Sequence[int]) -> list[str]:
        """The words of labels without blanks."""
        return "".join(self._characters[label] for label in labels).split()


def expected_word_errors(
    log_probs: Tensor,
    frames: Tensor,
    labels: Sequence[Sequence[int]],
    spelling: Spelling,
    paths: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A loss whose gradient is that of the expected word errors, estimated from drawn paths.

    Each frame's label is drawn from the network's distribution. The errors of a path's text,
    less the mean of the other paths' (which changes the variance of the gradient and not its
    mean), weigh the gradient of the path's log-probability (Williams 1992). Graves and Jaitly
    weigh each frame by what another label there would change; this needs no further distances.

    Args:
        log_probs: float32 (B, T, labels), in nats.
        frames: int (B,), frames that count.
        labels: of each utterance, the true ones.
        spelling: makes words of labels.
        paths: drawn of each utterance, 2 or more.
        generator: draws them, on the CPU.

    Returns:
        the loss, whose value means nothing, and the mean word error rate of the drawn paths;
        both count errors for each true word.
    """
    drawn = draw_paths(log_probs.detach(), paths, generator)
    counted = counts(frames, log_probs.shape[1])
    wanted = [spelling.words(row) for row in labels]
    errors = torch.tensor(
        [
            [sum(edits(true, spelling.words(found))) for found in collapsed(rows[:, :length])]
            for rows, length, true in zip(drawn.cpu(), frames.tolist(), wanted, strict=True)
        ],
        dtype=torch.float32,
        device=log_probs.device,
    )
    words = max(1, sum(len(true) for true in wanted))
    others = (errors.sum(1, keepdim=True) - errors) / (paths - 1)
    chosen = log_probs.gather(2, drawn.transpose(1, 2)).masked_fill(~counted[..., None], 0)
    loss = ((errors - others) * chosen.sum(1)).sum() / (paths * words)
    return loss, errors.sum() / (paths * words)


def draw_paths(log_probs: Tensor, paths: int, generator: torch.Generator) -> Tensor:
    """Labels int64 (B, paths, T), drawn in each frame of (B, T, labels) by itself."""
    batch, steps, labels = log_probs.shape
    chances = log_probs.exp().cpu().reshape(-1, labels)
    drawn = torch.multinomial(chances, paths, replacement=True, generator=generator)
    return drawn.reshape(batch, steps, paths).transpose(1, 2).to(log_probs.device)


def collapsed(rows: Tensor) -> list[list[int]]:
    """Labels of paths (N, T), repetitions and blanks left out."""
    kept = rows != BLANK
    kept[:, 1:] &= rows[:, 1:] != rows[:, :-1]
    return [row[keep].tolist() for row, keep in zip(rows, kept, strict=True)]
