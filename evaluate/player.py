"""The trained agent of a run folder, with what is needed to let it play as it was trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..agents import AGENTS
from ..envs.games import game_facts
from ..envs.options import EnvOptions, Protocol, as_protocol, change_options, env_options
from ..errors import RunFolderError, UsageError
from ..train.checkpoints import read_header
from ..train.runs import RunFolder
from ..train.session import RunRequest, decode_options
from .evaluation import Playing, start_playing

_PROTOCOL_FIELDS = ("sticky", "noop_max", "life_loss", "full_action_set", "max_frames")


@dataclass(frozen=True)
class Player:
    """A loaded agent.

    Attributes:
        agent: has `q_values(observations) -> (B, A) float32`, `network` and `num_actions`, and
            `player()` where it has a memory.
        game: canonical name, or `gym:<id>`.
        protocol: the rules of its evaluation.
        options: environment options of evaluation: the protocol's, with the frame stack, screen
            and preprocessing of training.
        run: its folder.
        label: agent and preset in one line.
        agent_steps: of training, over all environments; None where the folder does not tell.
        frames: emulator frames of training; None where the folder does not tell.
    """

    agent: Any
    game: str
    protocol: Protocol
    options: EnvOptions
    run: RunFolder
    label: str
    agent_steps: int | None
    frames: int | None

    def start(self) -> Playing:
        """What plays new games of the agent."""
        return start_playing(self.agent)


def load_player(
    run: str | Path,
    *,
    protocol: Protocol | str | None = None,
    checkpoint: str = "last",
    device: str = "auto",
) -> Player:
    """Loads the agent of a run folder.

    Args:
        run: the folder.
        protocol: of the evaluation; by default the one that the run was trained by.
        checkpoint: "last", "best" or a number of agent steps.
        device: where the network computes.

    Raises:
        RunFolderError: the folder is missing, damaged, without weights, or lacks the checkpoint.
        UsageError: the protocol gives the game other actions than the agent was trained with.
    """
    folder = RunFolder.open(run)
    settings = RunRequest.from_table(folder.config["run"])
    trained_by = settings.protocol
    chosen = trained_by if protocol is None else as_protocol(protocol)
    model, steps, frames = _weights(folder, checkpoint)
    agent = AGENTS[settings.agent].load_class().load(model, device=device)
    options = _evaluation_options(folder, chosen)
    _check_actions(folder, chosen, trained_by)
    _check_weights(folder, trained_by, model, agent.num_actions)
    label = f"{settings.agent} {settings.preset}"
    return Player(agent, folder.game, chosen, options, folder, label, steps, frames)


def _weights(folder: RunFolder, checkpoint: str) -> tuple[Path, int | None, int | None]:
    """The weight file, and the agent steps and frames that it was trained for."""
    if checkpoint == "last" and not folder.checkpoints.steps():
        if folder.model.is_file():
            return folder.model, None, None
        raise RunFolderError(
            f"{folder.path} has no weights yet: train it with 'eightbit train --resume "
            f"{folder.path}'."
        )
    found = folder.checkpoints.find(checkpoint)
    header = read_header(found.state)
    return found.model, found.step, int(header["frames"])


def _evaluation_options(folder: RunFolder, protocol: Protocol) -> EnvOptions:
    """The protocol's options, with the run's own where the protocol leaves them free."""
    known = {field.name for field in dataclasses.fields(EnvOptions)} - set(_PROTOCOL_FIELDS)
    table = folder.config.get("env", {})
    trained = decode_options(EnvOptions, table, "env")
    free = {name: getattr(trained, name) for name in known & set(table)}
    return change_options(env_options(protocol, training=False), **free)


def _check_weights(folder: RunFolder, protocol: Protocol, model: Path, num_actions: int) -> None:
    """Refuses the weights of another game, which a copied file may hold."""
    if folder.game.startswith("gym:"):
        return
    full = env_options(protocol, training=False).full_action_set and folder.game != "catch"
    count = 18 if full else len(game_facts(folder.game).actions)
    if num_actions != count:
        raise RunFolderError(
            f"{model} holds an agent of another game: {folder.game} has {count} actions, the "
            f"agent {num_actions}."
        )


def _check_actions(folder: RunFolder, chosen: Protocol, trained_by: Protocol) -> None:
    if folder.game == "catch" or folder.game.startswith("gym:"):
        return
    full = [env_options(one, training=False).full_action_set for one in (chosen, trained_by)]
    if full[0] != full[1]:
        raise UsageError(
            f"this agent was trained by protocol {trained_by.value} and protocol {chosen.value} "
            f"has other actions: evaluate with --protocol {trained_by.value}."
        )
