"""The update of one of CleanRL's scripts, taken from its file: classes, optimizer, statements.

Nothing of CleanRL's is kept here. The folder that holds its scripts is named by whoever measures.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch

from eightbit.agents.replay import Batch


class Given:
    """A memory that hands out batches that are there already, one after the other."""

    def __init__(self, batches: list[Any]):
        self._batches, self._next = batches, 0

    def sample(self, *_: Any, **__: Any) -> Any:
        """The next batch."""
        self._next += 1
        return self._batches[self._next % len(self._batches)]

    def update_priorities(self, *_: Any) -> None:
        """Forgets them."""


class Theirs:
    """The update of one of CleanRL's scripts, as its file has it.

    Args:
        path: the script.
        batches: what its memory gives; rollouts take the first for their steps.
        shape: of an observation.
        num_actions: of the game.
    """

    def __init__(self, path: Path, batches: list[Batch], shape: tuple[int, ...], num_actions: int):
        names, setup, update = _parts_of(path)
        module = sys.modules[path.stem] = ModuleType(path.stem)  # dataclasses look it up
        space = vars(module)
        envs = SimpleNamespace(
            single_action_space=SimpleNamespace(n=num_actions, shape=()),
            single_observation_space=SimpleNamespace(shape=shape),
        )
        space |= {"__file__": str(path), "envs": envs}
        exec(names, space)  # the folder is the user's own choice, as with any script that is run
        args = space["args"] = space["Args"]()
        space["device"] = torch.device("cpu")
        self.batch_size = args.batch_size
        self._updates = 1
        if hasattr(args, "num_minibatches"):
            self._take_rollout(space, batches[0])
        else:
            space["rb"] = Given([_in_their_shapes(batch) for batch in batches])
        exec(setup, space)
        self._space, self._code = space, update

    def _take_rollout(self, space: dict[str, Any], whole: Batch) -> None:
        args = space["args"]
        args.batch_size = len(whole.returns)
        args.minibatch_size = self.batch_size = args.batch_size // args.num_minibatches
        space["b_obs"] = whole.observations.float()
        space["b_actions"] = whole.actions.float()
        space["b_returns"] = whole.returns
        space["b_inds"] = np.random.default_rng(0).permutation(args.batch_size)
        self._updates = args.num_minibatches

    def __call__(self) -> int:
        """Makes updates; how many."""
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
