"""`eightbit run` and, for tasks, `eightbit watch`: a trained model at work on a user's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..agents.device import choose_device
from ..datasets.pictures import write_picture
from ..errors import UsageError
from ..tasks import RunJob, Sample
from ..train.events import wav_bytes
from ..train.runs import RunFolder, write_text
from ..train.task_models import load_trained, trained_for
from ..train.task_session import read_plan


@dataclass(frozen=True)
class SampleSettings:
    """Which samples of a task's run are shown."""

    count: int = 16
    """how many samples"""
    data: str | None = None
    """where the data are now; by default where they were in training"""

    def __post_init__(self) -> None:
        """Refuses to show nothing; raises UsageError."""
        if self.count < 1:
            raise UsageError(f"count is {self.count}; show at least 1 sample.")


def run_task(
    name: str, run: str, inputs: Sequence[str], output: Path | None, options: Any, device: str
) -> None:
    """Does the work of `eightbit run`.

    Args:
        name: the task.
        run: a run folder, or a model.safetensors.
        inputs: files, folders, or what the task defines.
        output: where the results go; None for the task's own choice.
        options: of the task's `run_options` type.
        device: where the network computes.

    Raises:
        EightBitError: the run is of another task, or some of the inputs failed.
    """
    where = choose_device(device)
    trained = trained_for(name, run, where)
    if not inputs and trained.task.needs_input:
        raise UsageError(f"on what? Write 'eightbit run {name} {run} INPUT' with files or folders.")
    # The weights ask for no gradients, so none are kept; heat maps ask for those of a map.
    job = RunJob(
        tuple(inputs), output, options, print, load=lambda other: trained_for(name, other, where)
    )
    trained.task.run(trained, job)


def show_samples(run: str, output: Path | None, settings: SampleSettings) -> list[Path]:
    """Writes samples of a run's work: pictures, texts, sounds.

    Args:
        run: the run folder.
        output: the folder to write to; RUN/samples unless told.
        settings: how many.

    Returns:
        The files.
    """
    folder = RunFolder.open(run)
    plan = read_plan(folder.config)
    trained = load_trained(folder.path)
    source = settings.data or plan.request.data
    data = trained.task.build_data(plan.options, source, plan.request.seed)
    with torch.inference_mode():
        samples = trained.task.samples(trained.model, data, settings.count)
    target = output or folder.path / "samples"
    target.mkdir(parents=True, exist_ok=True)
    return [path for sample in samples for path in _write(sample, target)]


def _write(sample: Sample, folder: Path) -> list[Path]:
    written = []
    if sample.picture is not None:
        written.append(folder / f"{sample.name}.png")
        write_picture(written[-1], sample.picture)
    if sample.text is not None:
        written.append(folder / f"{sample.name}.txt")
        write_text(written[-1], sample.text + "\n")
    if sample.sound is not None:
        written.append(folder / f"{sample.name}.wav")
        written[-1].write_bytes(wav_bytes(sample.sound, sample.rate))
    return written
