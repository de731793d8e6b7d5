"""How fast speech becomes features and words, and what a second core brings to training.

    EIGHTBIT_DATA=... python benchmarks/speech_speed.py --ctc runs/ctc --hybrid runs/hybrid

The runs are of `eightbit train speech-ctc` and `speech-hybrid` on the same data. Sounds are the
test part's recordings, recognised as `eightbit run` does it: in batches of a minute, by the own
search of each. The real-time factor is seconds of computing to a second of sound. The peer of
the features is python_speech_features, on the same sounds, one after the other in both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import python_speech_features
import torch
from measure import Report, Row, arguments, compare, in_turn, settings_of

from eightbit.sequence_tasks._speech.listening import in_batches
from eightbit.sequence_tasks.speech_ctc.transcribe import Transcriber
from eightbit.sequence_tasks.speech_hybrid.inputs import cepstra_of
from eightbit.sequence_tasks.speech_hybrid.recognize import HybridRecognizer
from eightbit.tasks import Learning, Moment, TaskData, Trained, decayed_groups
from eightbit.train.runs import read_config
from eightbit.train.task_models import load_trained

FEATURES, PEER = "features, 13 MFCC", "features, python_speech_features"


def speed(seconds: float, work: Callable[[], object]) -> float:
    """Seconds of sound that `work`, which hears `seconds` of it, gets through in a second."""
    start = time.perf_counter()
    work()
    return seconds / (time.perf_counter() - start)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads of torch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def training_speed(trained: Trained, data: TaskData, count: int, steps: int) -> float:
    """Seconds of sound, a hundred frames each, learnt in a second, in bf16 and the run's batches.

    Batches are made before: the frame makes them in a thread of its own.
    """
    learning = Learning(**read_config(trained.path / "config.toml")["learning"])
    model = trained.task.build_model(trained.options, trained.facts).train()
    optimizer = torch.optim.AdamW(decayed_groups(model, learning))
    batches = [data.batch(100 + step, learning.batch_size) for step in range(steps)]
    amount = sum(
        float(batch["lengths"].sum()) if "lengths" in batch else len(batch["states"])
        for batch in batches
    )
    generator = torch.Generator().manual_seed(0)
    with threads(count):
        start = time.perf_counter()
        for step, batch in enumerate(batches):
            with torch.autocast("cpu", torch.bfloat16):
                loss = trained.task.loss(model, batch, Moment(step, 0.0, generator))["loss"]
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return amount / 100 / (time.perf_counter() - start)


def main() -> None:
    """Measures in turn, prints a table and writes a record."""
    chosen = arguments(__doc__ or "", ctc="", hybrid="", data="an4", repeats=3, steps=8)
    report = Report("speech_speed", settings_of(chosen), with_matmul=True)
    report.settings |= {"ctc": Path(chosen.ctc).name, "hybrid": Path(chosen.hybrid).name}
    cpu = torch.device("cpu")
    ctc, hybrid = (load_trained(Path(run), cpu) for run in (chosen.ctc, chosen.hybrid))
    data = {
        run.task.name: run.task.build_data(run.options, chosen.data, 0) for run in (ctc, hybrid)
    }
    rate = int(ctc.facts["rate"])
    test = list(data[ctc.task.name].splits["test"])
    sounds, voices = [one.samples for one in test], [one.voice for one in test]
    seconds = sum(len(one) for one in sounds) / rate
    hearer = Transcriber(ctc.model, ctc.facts, ctc.options)
    searcher = HybridRecognizer(hybrid.model, hybrid.facts, hybrid.options)

    def hear() -> None:
        in_batches(sounds, voices, lambda some, _: hearer(some), rate)

    def search() -> None:
        in_batches(sounds, voices, searcher, rate)

    def features() -> None:
        for one in sounds:
            cepstra_of(one, rate)

    def peer() -> None:
        for one in sounds:
            python_speech_features.mfcc(one, rate, nfft=512)

    works: dict[str, Callable[[], float]] = {
        FEATURES: lambda: speed(seconds, features),
        PEER: lambda: speed(seconds, peer),
        "speech-ctc, beam": lambda: speed(seconds, hear),
        "speech-hybrid, with confidences": lambda: speed(seconds, search),
    }
    for run in (ctc, hybrid):
        for count in (1, 2):
            works[f"train {run.task.name}, threads: {count}"] = lambda run=run, count=count: (
                training_speed(run, data[run.task.name], count, chosen.steps)
            )
    taken = in_turn(works, chosen.repeats)
    for name, values in taken.items():
        library = "python_speech_features" if name == PEER else "eightbit"
        used = int(name[-1]) if "threads" in name else torch.get_num_threads()
        extra = {"real-time factor": 1 / float(np.median(values))}
        precision = "bf16" if name.startswith("train") else "fp32"
        report.rows.append(
            Row(name, library, "x real time", values, used, precision=precision, extra=extra)
        )
    by_name = {row.name: row for row in report.rows}
    report.ratios.append(compare("features beside the peer", by_name[FEATURES], by_name[PEER]))
    for run in (ctc, hybrid):
        one, two = (by_name[f"train {run.task.name}, threads: {count}"] for count in (1, 2))
        report.ratios.append(compare(f"second core, {run.task.name}", two, one))
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
