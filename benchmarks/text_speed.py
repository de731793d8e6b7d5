"""Characters a second of the task `text`, beside torch's plain loop and a GPT of equal size.

    EIGHTBIT_DATA=... python benchmarks/text_speed.py --preset shakespeare

Training is measured with the preset's own batches: ours as the frame trains it (bf16 where that is
faster), a plain `nn.LSTM` of the same layers in fp32, and a GPT by nanoGPT's recipe for a CPU, with
as many parameters by a larger width. Generation is of one stream and of 64 at a time, beside a
loop that calls the plain module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from measure import Report, Row, arguments, compare, in_turn, rate, settings_of
from text_peers import Gpt, PlainLstm, Recipe, crops, gpt_optimizer, learning_step
from torch import nn

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.sequence_tasks.text.sampling import Sampling
from eightbit.sequence_tasks.text.writing import Start, write
from eightbit.tasks import TaskData, load_task
from eightbit.train.supervised import Learner, choose_precision, make_fabric

BATCH = 64
"""texts that are written side by side"""


def parameters(model: nn.Module) -> int:
    """How many there are."""
    return sum(p.numel() for p in model.parameters())


def gpt_like(vocabulary: int, count: int) -> tuple[Gpt, Recipe]:
    """The recipe's network with a width, a multiple of 4, that comes nearest to `count`."""
    sizes = []
    for width in range(32, 1025, 4):
        recipe = replace(Recipe(), width=width)
        sizes.append((abs(parameters(Gpt(vocabulary, recipe)) - count), width))
        if len(sizes) > 1 and sizes[-1][0] > sizes[-2][0]:
            break
    recipe = replace(Recipe(), width=min(sizes)[1])
    return Gpt(vocabulary, recipe), recipe


def training(data: TaskData, preset_name: str, seconds: float) -> dict[str, tuple]:
    """By name, (what measures characters a second, precision, parameters)."""
    task = load_task("text")
    preset = task.presets[preset_name]
    vocabulary, learning = data.facts["vocabulary"], preset.learning
    model = task.build_model(preset.options, data.facts)
    precision = choose_precision(task, model, data, learning)
    learner = Learner(task, model, data, learning, 0, make_fabric("cpu", 1, precision))
    characters = learning.batch_size * preset.options.context
    steps = learner.steps(lambda step: 0.5)

    def ours() -> int:
        next(steps)
        return characters

    kwargs = preset.options.backbone_kwargs()
    plain = PlainLstm(
        vocabulary, preset.options.embedding, kwargs.get("hidden", 256), kwargs.get("layers", 1)
    )
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3)

    def plainly() -> int:
        learning_step(plain, adam, data.batch(0, learning.batch_size)["ids"])
        return characters

    gpt, recipe = gpt_like(vocabulary, parameters(model))
    optimizer, generator = gpt_optimizer(gpt), torch.Generator().manual_seed(0)
    ids = torch.from_numpy(data.splits["train"].ids.astype(np.int64))

    def gpt_step() -> int:
        learning_step(gpt, optimizer, crops(ids, recipe.context, recipe.batch, generator))
        return recipe.batch * recipe.context

    made: dict[str, tuple[Callable[[], int], str, nn.Module]] = {
        f"train, {preset_name}": (ours, precision, model),
        "train, plain nn.LSTM": (plainly, "fp32", plain),
        "train, GPT by recipe": (gpt_step, "fp32", gpt),
    }
    return {
        name: (_timed(work, seconds), kind, parameters(net))
        for name, (work, kind, net) in made.items()
    }


def _timed(work: Callable[[], int], seconds: float) -> Callable[[], float]:
    work()  # warms up
    return lambda: rate(work, seconds)


@torch.inference_mode()
def write_plainly(model: PlainLstm, count: int) -> int:
    """Draws `count` characters by calling the module for each; returns how many."""
    generator = torch.Generator().manual_seed(0)
    token, state = torch.zeros(1, 1, dtype=torch.int64), None
    for _ in range(count):
        out, state = model.lstm(model.embedding(token), state)
        chances = model.head(out[:, 0]).softmax(-1)
        token = torch.multinomial(chances, 1, generator=generator)
    return count


def generation(data: TaskData, preset_name: str, seconds: float) -> dict[str, tuple]:
    """By name, (what measures characters a second, precision, parameters)."""
    task = load_task("text")
    options = task.presets[preset_name].options
    model = task.build_model(options, data.facts).eval()
    kwargs = options.backbone_kwargs()
    plain = PlainLstm(
        data.facts["vocabulary"],
        options.embedding,
        kwargs.get("hidden", 256),
        kwargs.get("layers", 1),
    ).eval()

    def ours(rows: int) -> Callable[[], int]:
        start = Start(np.zeros(1, np.int64), rows)
        steps = write(model, start, Sampling(0.8), np.random.default_rng(0))
        return lambda: rows * len(list(islice(steps, 100)))

    return {
        "write, one stream": (_timed(ours(1), seconds), "fp32", parameters(model)),
        f"write, {BATCH} streams": (_timed(ours(BATCH), seconds), "fp32", parameters(model)),
        "write, plain nn.LSTM": (
            _timed(lambda: write_plainly(plain, 100), seconds),
            "fp32",
            parameters(plain),
        ),
    }


def main() -> None:
    """Measures in turn, prints a table and writes a record."""
    chosen = arguments(__doc__ or "", data="tinyshakespeare", preset="", seconds=10.0, repeats=3)
    report = Report("text_speed", settings_of(chosen), with_matmul=True)
    task = load_task("text")
    preset = chosen.preset or next(iter(task.presets))
    data = task.build_data(task.presets[preset].options, chosen.data, 0)
    made = {
        **training(data, preset, chosen.seconds),
        **generation(data, preset, chosen.seconds / 2),
    }
    taken = in_turn({name: work for name, (work, _, _) in made.items()}, chosen.repeats)
    rows = {}
    for name, (_, kind, count) in made.items():
        gflops = None
        if name.startswith(
            "train"
        ):  # each weight takes part in three products, two operations each
            gflops = 6 * count * float(np.median(taken[name])) / 1e9
        ours = "plain" not in name and "GPT" not in name
        rows[name] = Row(
            name,
            "eightbit" if ours else "torch",
            "characters/s",
            taken[name],
            torch.get_num_threads(),
            precision=kind,
            gflops=gflops,
            extra={"parameters": count},
        )
    report.rows += rows.values()
    best = rows[f"train, {preset}"]
    report.ratios += [
        compare("training beside plain nn.LSTM", best, rows["train, plain nn.LSTM"]),
        compare("training beside the GPT", best, rows["train, GPT by recipe"]),
        compare(
            "writing beside plain nn.LSTM", rows["write, one stream"], rows["write, plain nn.LSTM"]
        ),
    ]
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
