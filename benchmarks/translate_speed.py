"""Translation: training in target tokens a second beside a plain loop of torch, and decoding.

Needs Multi30k; see 'eightbit list data'. With --run, sentences are translated by that run, else by
fresh weights that write as many tokens as the source has.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from measure import Report, Row, arguments, compare, in_turn, rate, settings_of
from torch import Tensor, nn

import eightbit.sequence_tasks  # noqa: F401  # registers the tasks
from eightbit.sequence_tasks.translate.data import PAD, Vocabulary, padded
from eightbit.sequence_tasks.translate.search import Beam
from eightbit.sequence_tasks.translate.use import Translator, as_network, chosen_dtype
from eightbit.tasks import Moment, TaskData, load_task


class PlainLoop(nn.Module):
    """What tutorials write: a cell called for each token, its attention fed back, equal sizes.

    Args:
        vocabulary: tokens of both languages.
        size: of embeddings.
        encoder: of the encoder's state in each direction.
        hidden: of the two decoder cells.
    """

    def __init__(self, vocabulary: int, size: int, encoder: int, hidden: int):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, size, padding_idx=PAD)
        self.encoder = nn.LSTM(size, encoder, batch_first=True, bidirectional=True)
        self.keys = nn.Linear(2 * encoder, hidden, bias=False)
        self.lower = nn.LSTMCell(size + 2 * encoder, hidden)
        self.upper = nn.LSTMCell(hidden + 2 * encoder, hidden)
        self.before = nn.Linear(hidden + 2 * encoder, size)
        self.hidden = hidden

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """The mean loss of int64 (B, S) and (B, T)."""
        memory, _ = self.encoder(self.embed(source))
        keys, hidden_by = self.keys(memory), (source == PAD)[:, None]
        zeros = memory.new_zeros(len(source), self.hidden)
        low, high, read = (zeros, zeros), (zeros, zeros), memory[:, 0] * 0
        losses = []
        for place in range(target.shape[1] - 1):
            low = self.lower(torch.cat([self.embed(target[:, place]), read], 1), low)
            scores = (low[0][:, None] @ keys.transpose(1, 2)).masked_fill(hidden_by, -1e9)
            read = (scores.softmax(-1) @ memory)[:, 0]
            high = self.upper(torch.cat([low[0], read], 1), high)
            vectors = torch.tanh(self.before(torch.cat([high[0], read], 1)))
            logits = vectors @ self.embed.weight.t()
            losses.append(
                F.cross_entropy(logits, target[:, place + 1], ignore_index=PAD, reduction="sum")
            )
        return torch.stack(losses).sum() / (target[:, 1:] != PAD).sum()


class Shuffled:
    """Batches in random order, as a plain loader gives them: (step, size) -> source, target."""

    def __init__(self, data: TaskData):
        self.part = data.splits["train"]

    def __call__(self, step: int, size: int) -> dict[str, Tensor]:
        rows = np.random.default_rng([0, step]).integers(len(self.part.texts), size=size)
        return {
            "source": padded([self.part.source[i] for i in rows]),
            "target": padded([self.part.target[i] for i in rows]),
        }


def training(
    model: nn.Module,
    batch: Callable[[int, int], dict[str, Tensor]],
    loss: Callable[[dict[str, Tensor]], Tensor],
    size: int,
    low: bool,
) -> Callable[[], int]:
    """A function that makes one optimizer step and returns its target tokens."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    step = 0

    def work() -> int:
        nonlocal step
        made = batch(step, size)
        step += 1
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            lost = loss(made)
        lost.backward()
        optimizer.step()
        optimizer.zero_grad()
        return int((made["target"][:, 1:] != PAD).sum())

    return work


def main() -> None:
    chosen = arguments(
        "Translation beside a plain loop of torch.",
        batch_size=128,
        seconds=20.0,
        repeats=3,
        run="",
    )
    report = Report("translate_speed", settings_of(chosen), with_matmul=True)
    task = load_task("translate")
    preset = task.presets["attention"]
    data = task.build_data(preset.options, preset.data, 0)
    size, options, threads = chosen.batch_size, preset.options, torch.get_num_threads()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = task.build_model(options, data.facts).train()
        loop = PlainLoop(
            Vocabulary.of(data.facts).target.size,
            options.embedding,
            options.encoder_hidden,
            options.hidden,
        )
    moment = Moment(0, 0.0, torch.Generator())
    works = {
        f"train: ours, {name}": training(
            model, data.batch, lambda made: task.loss(model, made, moment)["loss"], size, low
        )
        for name, low in (("bf16", True), ("fp32", False))
    }
    works["train: plain loop, fp32"] = training(
        loop, Shuffled(data), lambda made: loop(made["source"], made["target"]), size, False
    )
    taken = in_turn(
        {name: lambda work=work: rate(work, chosen.seconds) for name, work in works.items()},
        chosen.repeats,
    )
    for name, repeats in taken.items():
        library = "torch" if "plain" in name else "eightbit"
        report.rows.append(
            Row(name, library, "tokens/s", repeats, threads, name[-4:], batch_size=size)
        )
    report.ratios += [
        compare(f"{row.name} to plain", row, report.rows[2]) for row in report.rows[:2]
    ]
    report.rows += decoding(chosen.run, model.eval(), data, chosen.repeats)
    report.finish(chosen.out)


def decoding(run: str, model: nn.Module, data: TaskData, repeats: int) -> list[Row]:
    """Sentences of the test split a second, at beams of 1, 5 and 10."""
    vocabulary, long = Vocabulary.of(data.facts), {"more": 0, "ratio": 1.0}
    texts = data.splits["test"].texts.source
    if run:
        from eightbit.train.task_models import trained_for

        trained = trained_for("translate", run)
        model, vocabulary, long = trained.model, Vocabulary.of(trained.facts), {}
    network = as_network(model.requires_grad_(False))
    dtype = chosen_dtype(network)
    translator = Translator([network], vocabulary, dtype)

    def translate(beam: int) -> float:
        return rate(lambda: len(translator.translate(texts, Beam(beam, **long))), 0.0)

    taken = in_turn({str(b): lambda b=b: translate(b) for b in (1, 5, 10)}, repeats)
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    return [
        Row(
            f"translate: beam {b}",
            "eightbit",
            "sentences/s",
            found,
            torch.get_num_threads(),
            precision,
        )
        for b, found in taken.items()
    ]


if __name__ == "__main__":
    main()
