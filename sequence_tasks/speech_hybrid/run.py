"""`eightbit run speech-hybrid`: the text of sounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ...datasets.texts import read_text_file
from ...tasks import RunJob, Trained
from .._ctc.ngrams import read_arpa
from .._speech.listening import check_run_options, listen
from .recognize import HybridRecognizer


@dataclass(frozen=True)
class SpeechHybridRunOptions:
    """How sounds are transcribed and what is written."""

    acoustics: Literal["network", "gmm"] = "network"
    """whose likelihoods are searched: the network's, or those of the GMM that taught it"""
    grammar: Literal["as trained", "bigram", "loop", "word"] = "as trained"
    """order of words: the run's bigram, any words, or exactly one"""
    language: float = -1.0
    """weight of the bigram; 0 for none, below 0 for the run's own"""
    arpa: str = ""
    """an ARPA file, a bigram in the place of the run's own; all its words must be in the lexicon"""
    longest: float = 15.0
    """seconds after which speech without a pause is cut"""
    format: Literal["auto", "text", "json", "srt", "csv"] = "auto"
    """form of the output; auto goes by its ending"""

    def __post_init__(self) -> None:
        """Refuses values that make no sense; raises UsageError."""
        check_run_options(self.language, self.longest)


def run(trained: Trained, job: RunJob) -> None:
    """Transcribes every input; see `Task.run`.

    Raises:
        TaskError: some of the inputs failed; the others are transcribed.
    """
    said: SpeechHybridRunOptions = job.options
    ngrams = read_arpa(read_text_file(said.arpa), said.arpa) if said.arpa else None
    own = trained.options
    options = replace(
        own,
        grammar=own.grammar if said.grammar == "as trained" else said.grammar,
        language=own.language if said.language < 0 else said.language,
    )
    recognizer = HybridRecognizer(trained.model, trained.facts, options, said.acoustics, ngrams)
    listen(job, int(trained.facts["rate"]), recognizer, said.format, said.longest)
