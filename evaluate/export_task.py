"""A task's model as an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .. import __version__
from ..errors import UsageError
from ..train.runs import RunFolder
from ..train.task_models import load_trained
from .export import ExportSettings
from .onnx_files import (
    Exported,
    OnnxParts,
    exportable,
    refuse_difference,
    require_packages,
    signature,
    write_onnx,
)


def export_task_run(
    run: str | Path,
    output: Path | None,
    settings: ExportSettings,
) -> Exported:
    """Writes a run's model in float32 and compares the file with it on random inputs.

    Args:
        run: the run folder.
        output: the file to write, .onnx; RUN/model.onnx by default.
        settings: which weights.

    Raises:
        UsageError: `output` is not .onnx or in no folder, a package is missing, or the task has
            nothing to export.
        EightBitError: the run cannot be read, or its model cannot be exported.
    """
    path = Path(run) / "model.onnx" if output is None else output
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path} must end in .onnx.")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}; make it first.")
    require_packages()
    folder = RunFolder.open(run)
    last = settings.checkpoint == "last" and folder.model.is_file()
    file = folder.model if last else folder.checkpoints.find(settings.checkpoint).model
    trained = load_trained(file)
    if trained.task.export is None:
        raise UsageError(f"a model of {trained.task.name} cannot be written as ONNX.")
    what = trained.task.export(trained)
    module = exportable(what.module)
    # The exporter takes a batch of one for a size that never changes.
    examples = tuple(example[:1].expand(2, *example.shape[1:]) for example in what.inputs)
    shapes = tuple({0: "batch"} for _ in examples)
    with torch.no_grad():
        module(*examples)  # tables that are made at first use must not be made while tracing
    parts = OnnxParts(examples, what.input_names, what.output_names, shapes)

    def compare(temporary: Path) -> Exported:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        generator = np.random.default_rng(0)
        worst = 0.0
        for size in (1, 3):
            inputs = [_random_like(example, size, generator) for example in what.inputs]
            with torch.no_grad():
                made = module(*inputs)
            fed = {n: x.numpy() for n, x in zip(what.input_names, inputs, strict=True)}
            expected = made if isinstance(made, tuple) else (made,)
            for wanted, got in zip(expected, session.run(None, fed), strict=True):
                worst = max(worst, refuse_difference(wanted, got))
        ends = signature(session.get_inputs()), signature(session.get_outputs())
        return Exported(temporary, worst, *ends)

    facts = {"task": trained.task.name, "facts": json.dumps(trained.facts)}
    metadata = {**facts, "eightbit": __version__}
    return write_onnx(module, parts, path, metadata=metadata, compare=compare)


def _random_like(example: Tensor, batch: int, generator: np.random.Generator) -> Tensor:
    shape = (batch, *example.shape[1:])
    if example.dtype == torch.uint8:
        return torch.from_numpy(generator.integers(0, 256, shape, dtype=np.uint8))
    return torch.from_numpy(generator.random(shape)).to(example.dtype)
