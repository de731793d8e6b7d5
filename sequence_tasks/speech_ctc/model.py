"""The network: convolutions over time and frequency, a bidirectional LSTM, CTC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from ...backbones import BACKBONES, create_backbone
from ...backbones.layers import locked_dropout
from ...errors import UsageError
from ...tasks import Batch, Moment
from .._ctc.paths import text_nll
from .._lengths import counts, halved
from .._speech.features import Framing
from .._speech.frontend import Frontend
from .options import SpeechCtcOptions
from .word_errors import Spelling, expected_word_errors

_GRAVES_WIDTH = 254
"""samples of a frame of the spectrogram; the next one begins after half of them"""


def frontend_of(options: SpeechCtcOptions, rate: int) -> Frontend:
    """What the network sees of sound at `rate` samples a second."""
    if options.features == "mel":
        return Frontend(Framing(rate))
    framing = Framing(rate, _GRAVES_WIDTH / rate, _GRAVES_WIDTH / 2 / rate, _GRAVES_WIDTH)
    return Frontend(framing, "spectrogram")


class Recognizer(nn.Module):
    """Labels' log-probabilities along an utterance.

    Args:
        options: of the task.
        rate: samples a second.
        alphabet: characters; character i is label i + 1.
    """

    def __init__(self, options: SpeechCtcOptions, rate: int, alphabet: str):
        super().__init__()
        self.options = options
        self.rate = rate
        self.alphabet = alphabet
        self.frontend = frontend_of(options, rate)
        width = size = self.frontend.size
        if options.channels:
            width = options.channels * halved(halved(size))
            steps = options.stride // 2
            self.first = nn.Conv2d(1, options.channels, (5, 7), (2, 2), (2, 3))
            self.second = nn.Conv2d(options.channels, options.channels, 5, (steps, 2), 2)
        self.norm = nn.LayerNorm(width)
        self.dropout = options.dropout
        self.backbone = create_backbone(options.backbone, (width,), **options.backbone_kwargs())
        self.head = nn.Linear(cast(int, self.backbone.out_features), len(alphabet) + 1)

    @property
    def stride(self) -> int:
        """Frames of the features to one of the output."""
        return self.options.stride if self.options.channels else 1

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Hears utterances.

        Args:
            features: float (B, T, F), of `frontend`. What follows an utterance in its row is
                taken as 0; a row does not depend on the others.
            lengths: int64 (B,) frames that count.

        Returns:
            log-probabilities float32 (B, T / stride, characters + 1), and int64 (B,) how many
            frames of each row count.
        """
        x = features * counts(lengths, features.shape[1])[..., None]
        if self.options.channels:
            x = F.gelu(self.first(x[:, None]))
            lengths = halved(lengths)
            x = x * counts(lengths, x.shape[2])[:, None, :, None]
            x = F.gelu(self.second(x)).transpose(1, 2).flatten(2)
            lengths = halved(lengths) if self.stride == 4 else lengths
        x = self.norm(x)
        x = x * counts(lengths, x.shape[1])[..., None]
        x, _ = self.backbone(locked_dropout(x, self.dropout, self.training))
        x = locked_dropout(x, self.dropout, self.training)
        return self.head(x).float().log_softmax(dim=-1), lengths


def build_model(options: SpeechCtcOptions, facts: Mapping[str, Any]) -> nn.Module:
    """A fresh network for the alphabet and rate of `facts`; see `Task.build_model`."""
    if BACKBONES[options.backbone].kind != "recurrent":
        raise UsageError(f"{options.backbone} is no recurrent backbone; take lstm or gru.")
    return Recognizer(options, int(facts["rate"]), str(facts["alphabet"]))


def loss(model: nn.Module, batch: Batch, moment: Moment) -> Mapping[str, Tensor]:
    """CTC (Graves 2006), per character; at last the expected word errors (Graves, Jaitly 2014)."""
    log_probs, frames = model(batch["features"], batch["lengths"])
    nll = text_nll(log_probs, frames, batch["labels"], batch["label_lengths"])
    ctc = nll.sum() / batch["label_lengths"].sum()
    options = cast(SpeechCtcOptions, model.options)
    if moment.progress < 1 - options.word_error_share:
        return {"loss": ctc}
    spelling = Spelling(cast(str, model.alphabet))
    errors, rate = expected_word_errors(
        log_probs, frames, labels_of(batch), spelling, options.paths, moment.generator
    )
    return {"loss": errors, "ctc": ctc.detach(), "expected_wer": rate}


def labels_of(batch: Batch) -> list[list[int]]:
    """The labels of each utterance of a batch."""
    rows, counts = batch["labels"].tolist(), batch["label_lengths"].tolist()
    return [row[:count] for row, count in zip(rows, counts, strict=True)]
