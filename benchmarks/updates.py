"""Updates per second: ours against CleanRL's, and our agents against our own DQN.

CleanRL's scripts are read from a folder that `--peer` names (a checkout, or its folder `cleanrl`):
the classes of a network, the optimizer and the statements of one update run as they stand there.
Both sides get the same random transitions from memory, the same network, loss, optimizer and
batch; nothing is sampled, stepped or logged meanwhile. Without `--peer` only ours are measured.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from measure import Report, Row, arguments, compare, in_turn, rate, settings_of
from torch.utils.flop_counter import FlopCounterMode

from eightbit.agents.dqn import DQN
from eightbit.agents.options import DQNOptions
from eightbit.agents.presets import PAPER_PRESETS
from eightbit.agents.replay import Batch
from eightbit.agents.rollout import Rollout
from eightbit.envs import make_vec

BAR_FP32 = 1.2
BAR_BEST = 1.5
GAME = "pong"  # six actions
SHAPE = (4, 84, 84)
BATCHES = 8  # different ones that an update cycles through

# What CleanRL's scripts set, in our words. Each clips or leaves gradients as its script does.
_ATARI = DQNOptions(
    n_step=1, num_envs=1, batch_size=32, buffer_size=1_000, learning_starts=100, max_grad_norm=0.0
)
SETTINGS: dict[str, tuple[str, DQNOptions]] = {
    "dqn": ("dqn_atari", replace(_ATARI, learning_rate=1e-4, optimizer_eps=1e-8, loss="mse")),
    "c51": (
        "c51_atari",
        replace(_ATARI, method="c51", learning_rate=2.5e-4, optimizer_eps=0.01 / 32),
    ),
    "rainbow": (
        "rainbow_atari",
        replace(
            PAPER_PRESETS["rainbow"], buffer_size=1_000, learning_starts=100, max_grad_norm=0.0
        ),
    ),
    "pqn": (
        "pqn_atari_envpool",
        replace(PAPER_PRESETS["pqn"], num_envs=8, rollout_steps=128, batch_size=256),
    ),
}


def transitions(rows: int, seed: int) -> Batch:
    """Random n-step transitions of pictures, with importance weights."""
    rng = np.random.default_rng(seed)

    def pictures() -> torch.Tensor:
        return torch.from_numpy(rng.integers(0, 256, (rows, *SHAPE), dtype=np.uint8))

    return Batch(
        observations=pictures(),
        actions=torch.from_numpy(rng.integers(0, 6, rows)),
        returns=torch.from_numpy(rng.choice([-1.0, 0.0, 1.0], rows).astype(np.float32)),
        next_observations=pictures(),
        discounts=torch.full((rows,), 0.99),
        weights=torch.from_numpy(rng.uniform(0.5, 1.0, rows).astype(np.float32)),
        indices=np.arange(rows),
    )


class Given:
    """A memory that hands out batches that are there already, one after the other."""

    def __init__(self, batches: list[Batch]):
        self._batches, self._next = batches, 0

    def sample(self, *_: Any, **__: Any) -> Any:
        self._next += 1
        return self._batches[self._next % len(self._batches)]


class Ours:
    """The updates of an agent of ours: `DQN.update` as training calls it."""

    def __init__(self, options: DQNOptions, precision: str, batches: list[Batch]):
        options = replace(options, precision=precision)  # type: ignore[arg-type]  # of the two
        self.agent = DQN(make_vec(GAME, options.num_envs), options, seed=0, device="cpu")
        if isinstance(self.agent.replay, Rollout):
            _fill(self.agent.replay)
        else:
            weighted = options.prioritized
            kept = batches if weighted else [replace(b, weights=None) for b in batches]
            self.agent.replay = Given(kept)  # type: ignore[assignment]  # of the protocol one method

    def __call__(self) -> int:
        self.agent.update()
        return 1

    def flops(self) -> int:
        """Operations of one update."""
        with FlopCounterMode(display=False) as counter:
            self.agent.update()
        return counter.get_total_flops()


def _fill(rollout: Rollout) -> None:
    """A full rollout of random steps."""
    rng = np.random.default_rng(0)
    n = rollout.num_envs
    flags = np.zeros(n, np.bool_)
    for step in range(rollout.steps):
        pictures = rng.integers(0, 256, (n, *SHAPE), dtype=np.uint8)
        if step == 0:
            rollout.reset(pictures)
        rollout.note_values(rng.normal(size=(n, 6)).astype(np.float32))
        rewards = rng.choice([-1.0, 0.0, 1.0], n).astype(np.float32)
        rollout.add(rng.integers(0, 6, n), rewards, flags, flags, flags, pictures, {})
    rollout.note_values(rng.normal(size=(n, 6)).astype(np.float32))


class Theirs:
    """The update of one of CleanRL's scripts, as its file has it.

    Args:
        path: the script.
        batches: what its memory gives, in the shapes that it expects.
    """

    def __init__(self, path: Path, batches: list[Batch]):
        names, setup, update = _parts_of(path)
        module = sys.modules[path.stem] = ModuleType(path.stem)  # dataclasses look it up
        space = vars(module)
        envs = SimpleNamespace(
            single_action_space=SimpleNamespace(n=6, shape=()),
            single_observation_space=SimpleNamespace(shape=SHAPE),
        )
        space |= {"__file__": str(path), "envs": envs}
        exec(names, space)  # the folder is the user's own choice, as with any script that is run
        args = space["args"] = space["Args"]()
        space["device"] = torch.device("cpu")
        self.batch_size = args.batch_size
        self._updates = 1
        if hasattr(args, "num_minibatches"):
            self._take_rollout(space)
        else:
            memory = Given([_in_their_shapes(batch) for batch in batches])  # type: ignore[misc]
            memory.update_priorities = lambda *_: None  # type: ignore[attr-defined]
            space["rb"] = memory
        exec(setup, space)
        self._space, self._code = space, update

    def _take_rollout(self, space: dict[str, Any]) -> None:
        args = space["args"]
        args.batch_size = args.num_envs * args.num_steps
        args.minibatch_size = self.batch_size = args.batch_size // args.num_minibatches
        whole = transitions(args.batch_size, 0)
        space["b_obs"] = whole.observations.float()
        space["b_actions"] = whole.actions.float()
        space["b_returns"] = whole.returns
        space["b_inds"] = np.random.default_rng(0).permutation(args.batch_size)
        self._updates = args.num_minibatches

    def __call__(self) -> int:
        exec(self._code, self._space)
        return self._updates


_MODULES = ("collections", "math", "os", "random", "time", "torch")


def _in_their_shapes(batch: Batch) -> SimpleNamespace:
    return SimpleNamespace(
        observations=batch.observations,
        actions=batch.actions.unsqueeze(1),
        rewards=batch.returns.unsqueeze(1),
        next_observations=batch.next_observations,
        dones=(batch.discounts == 0).float().unsqueeze(1),
        weights=None if batch.weights is None else batch.weights.unsqueeze(1),
        indices=batch.indices,
    )


def _parts_of(path: Path) -> tuple[Any, Any, Any]:
    """Code that defines the script's names, makes its networks, and makes one round of updates."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, SyntaxError) as error:
        raise SystemExit(f"{path} is no script of CleanRL's: {error}") from None
    main = next((n for n in tree.body if isinstance(n, ast.If)), None)
    names = [node for node in tree.body if _is_wanted(node)]
    setup = [] if main is None else [n for n in main.body if _makes(n)]
    update = None if main is None else _update_of(main)
    if not update or not setup:
        raise SystemExit(f"{path}: no update was found; give CleanRL of about 2025.")

    def code(body: list[ast.stmt]) -> Any:
        return compile(ast.Module(body, []), str(path), "exec", dont_inherit=True)

    return code(names), code(setup), code(update)


def _is_wanted(node: ast.stmt) -> bool:
    """Whether a statement of the module is needed for networks: no environments, no logging."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        module = node.names[0].name if isinstance(node, ast.Import) else node.module or ""
        return module.split(".")[0] in (*_MODULES, "dataclasses", "numpy")
    if isinstance(node, ast.ClassDef):
        return not any("gym" in ast.unparse(base) for base in node.bases)
    return isinstance(node, ast.FunctionDef) and node.name == "layer_init"


def _makes(node: ast.stmt) -> bool:
    text = ast.unparse(node)
    return text.startswith(("q_network =", "target_network", "optimizer ="))


def _update_of(main: ast.If) -> list[ast.stmt]:
    """The statements of an update, or the loop over a rollout's minibatches, without logging."""
    for node in ast.walk(main):
        if isinstance(node, ast.If) and "args.train_frequency" in ast.unparse(node.test):
            return [n for n in node.body if "writer" not in ast.unparse(n)]
        if isinstance(node, ast.For) and "args.minibatch_size" in ast.unparse(node.iter):
            return [node]
    return []


@dataclass(frozen=True)
class Measured:
    """What is measured of one agent."""

    work: Callable[[], int]
    library: str
    precision: str
    batch_size: int


def against_peer(report: Report, chosen: Any, folder: Path) -> None:
    """Measures each pair in turn and adds rows and ratios."""
    for name in chosen.agents.split(","):
        script, options = SETTINGS[name]
        batches = [transitions(options.batch_size, seed) for seed in range(BATCHES)]
        theirs = Theirs(folder / f"{script}.py", batches)
        cases = {
            f"{name}, CleanRL": Measured(theirs, "cleanrl", "fp32", theirs.batch_size),
            **{
                f"{name}, ours, {precision}": Measured(
                    Ours(options, precision, batches), "eightbit", precision, options.batch_size
                )
                for precision in ("fp32", "bf16")
            },
        }
        rows = measured(report, cases, chosen)
        peer, fp32, bf16 = rows
        best = max(fp32, bf16, key=lambda row: row.value)
        report.ratios.append(compare(f"{name} in fp32, to CleanRL", fp32, peer, BAR_FP32))
        report.ratios.append(compare(f"{name} at its best, to CleanRL", best, peer, BAR_BEST))


def measured(report: Report, cases: dict[str, Measured], chosen: Any) -> list[Row]:
    """Rows of these cases, timed in turn after a warm-up."""
    for case in cases.values():
        for _ in range(3):
            case.work()
    taken = in_turn(
        {name: lambda case=case: rate(case.work, chosen.seconds) for name, case in cases.items()},
        chosen.repeats,
    )
    rows = [
        Row(
            name,
            case.library,
            "updates/s",
            taken[name],
            torch.get_num_threads(),
            precision=case.precision,
            batch_size=case.batch_size,
        )
        for name, case in cases.items()
    ]
    report.rows.extend(rows)
    return rows


def main() -> None:
    chosen = arguments(
        "Updates per second against CleanRL's.",
        peer="",
        agents="dqn,c51,rainbow,pqn",
        seconds=1.0,
        repeats=5,
        threads=torch.get_num_threads(),
    )
    torch.set_num_threads(chosen.threads)
    report = Report("updates", settings_of(chosen), with_matmul=False)
    if chosen.peer:
        folder = Path(chosen.peer)
        against_peer(report, chosen, folder / "cleanrl" if (folder / "cleanrl").exists() else folder)
    report.finish(chosen.out)


if __name__ == "__main__":
    main()
