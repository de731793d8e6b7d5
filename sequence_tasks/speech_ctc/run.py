"""`eightbit run speech-ctc`: the text of sounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...datasets.texts import read_text_file
from ...errors import UsageError
from ...tasks import RunJob, Trained
from .._ctc.ngrams import read_arpa
from .._speech.listening import check_run_options, listen
from .._speech.transcripts import Word
from .options import SpeechCtcOptions
from .transcribe import Transcriber


@dataclass(frozen=True)
class SpeechCtcRunOptions:
    """How sounds are transcribed and what is written."""

    decode: Literal["as trained", "greedy", "beam"] = "as trained"
    """the best path, a prefix beam search, or what the run was made with"""
    beam: int = 0
    """prefixes kept by the beam search; 0 for as many as the run was made with"""
    language: float = -1.0
    """weight of the model of language; 0 for none, below 0 for the run's own"""
    arpa: str = ""
    """an ARPA file, a model of words in the place of the run's own; its words are the dictionary"""
    words: str = ""
    """a text file whose words are the dictionary"""
    dictionary: Literal["as trained", "closed", "open"] = "as trained"
    """the dictionary's words alone, or others too at a cost"""
    longest: float = 15.0
    """seconds after which speech without a pause is cut"""
    format: Literal["auto", "text", "json", "srt", "csv"] = "auto"
    """form of the output; auto goes by its ending"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        if self.beam < 0:
            raise UsageError(f"beam is {self.beam}; it must be 1 or more, or 0.")
        check_run_options(self.language, self.longest)


def run(trained: Trained, job: RunJob) -> None:
    """Transcribes every input; see `Task.run`.

    Raises:
        TaskError: some of the inputs failed; the others are transcribed.
    """
    said: SpeechCtcRunOptions = job.options
    ngrams = read_arpa(read_text_file(said.arpa), said.arpa) if said.arpa else None
    words = sorted(set(read_text_file(said.words).split())) if said.words else None
    options = _options(trained.options, said)
    transcriber = Transcriber(trained.model, trained.facts, options, ngrams, words)

    def recognize(pieces: Sequence[np.ndarray], names: Sequence[str]) -> list[list[Word]]:
        return transcriber(pieces)

    listen(job, int(trained.facts["rate"]), recognize, said.format, said.longest)


def _options(own: SpeechCtcOptions, said: SpeechCtcRunOptions) -> SpeechCtcOptions:
    decode = own.decode if said.decode == "as trained" else said.decode
    return replace(
        own,
        decode="beam" if said.decode == "as trained" and (said.arpa or said.words) else decode,
        beam=said.beam or own.beam,
        language=own.language if said.language < 0 else said.language,
        dictionary=own.dictionary if said.dictionary == "as trained" else said.dictionary,
    )
