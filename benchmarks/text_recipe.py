"""Trains nanoGPT's recipe for a CPU by itself and scores it on the last 10 % of the text.

    EIGHTBIT_DATA=... python benchmarks/text_recipe.py

It makes the recipe's 2,000 steps, or stops after so many minutes. The text is split as the task
`text` splits it. Stated are the nats per character of windows of 64 characters side by side, as the
recipe's own estimate has them on average, and of windows that move on by 8, where each character
has at least 56 before it.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from measure import Report, Row, arguments, settings_of
from text_peers import Gpt, Recipe, crops, gpt_optimizer, learning_step, windowed_nats

from eightbit.sequence_tasks.text.data import build_data
from eightbit.sequence_tasks.text.options import TextOptions

STRIDE = 8


def main() -> None:
    """Trains, scores, prints a table and writes a record."""
    chosen = arguments(__doc__ or "", data="tinyshakespeare", minutes=3.0, seed=0)
    report = Report("text_recipe", settings_of(chosen), with_matmul=False)
    recipe = Recipe()
    data = build_data(TextOptions(context=recipe.context), chosen.data, chosen.seed)
    learnt, test = (
        torch.from_numpy(data.splits[name].ids.astype(np.int64)) for name in ("train", "test")
    )
    torch.manual_seed(chosen.seed)
    model = Gpt(data.facts["vocabulary"], recipe)
    optimizer = gpt_optimizer(model)
    generator = torch.Generator().manual_seed(chosen.seed)
    began, step = time.perf_counter(), 0
    while step < recipe.steps and time.perf_counter() - began < 60 * chosen.minutes:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(step)
        loss = learning_step(model, optimizer, crops(learnt, 64, recipe.batch, generator))
        step += 1
        if step % 200 == 0:
            print(f"step {step}  loss {loss:.3f}  {time.perf_counter() - began:.0f} s", flush=True)
    seconds = time.perf_counter() - began
    model.eval()
    side_by_side = windowed_nats(model, test, recipe.context, recipe.context)
    sliding = windowed_nats(model, test, recipe.context, STRIDE)
    extra = {
        "steps": step,
        "minutes": seconds / 60,
        "characters/s": step * recipe.batch * recipe.context / seconds,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    threads = torch.get_num_threads()
    for name, nats in (("windows side by side", side_by_side), (f"stride {STRIDE}", sliding)):
        report.rows.append(
            Row(name, "own code", "nats/character", [nats], threads, precision="fp32", extra=extra)
        )
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
