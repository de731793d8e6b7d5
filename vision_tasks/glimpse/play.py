"""Catch, seen through glimpses: one look and one move a frame (Mnih 2014, dynamic environments)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...envs.catch import CatchVectorEnv
from ...envs.episodes import play_once
from ...envs.options import EnvOptions
from .options import CATCH_STEPS

if TYPE_CHECKING:
    from .model import GlimpseNetwork

STAY = 0


class Played(NamedTuple):
    """What came of games, B of them and M copies of each, in T frames.

    Attributes:
        logits: (B, M, T, actions).
        actions: int64 (B, M, T), what was done.
        drawn: (B, M, T, 2), places before they were brought into the screen.
        means: (B, M, T, 2), around which they were drawn.
        guesses: (B, M, T), the baseline before each frame.
        rewards: (B, M), of the game: 1 caught, -1 missed.
        screens: uint8 (B, M, T, S, S).
    """

    logits: Tensor
    actions: Tensor
    drawn: Tensor
    means: Tensor
    guesses: Tensor
    rewards: Tensor
    screens: Tensor


class Player:
    """Plays all rows at once; called with screens, it answers with moves.

    Args:
        network: that looks and decides.
        noise: float (B, M, T, 2), standard normal, for the places.
        chances: float (B, M, T) in [0, 1), for the moves; None takes the likeliest.
        exchanged: whether each row sees another row's screens (a control).
    """

    def __init__(
        self,
        network: GlimpseNetwork,
        noise: Tensor,
        chances: Tensor | None,
        *,
        exchanged: bool = False,
    ):
        self.network, self.noise, self.chances = network, noise, chances
        self.exchanged = exchanged
        self.state = network.begin(noise.shape[0] * noise.shape[1])
        self.place: Tensor | None = None
        self.kept: list[tuple[Tensor, ...]] = []

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Moves int64 (B * M,) on screens uint8 (B * M, 1, S, S)."""
        network, index = self.network, len(self.kept)
        count, copies = self.noise.shape[:2]
        screens = torch.from_numpy(observations)
        if self.exchanged:
            screens = screens.roll(1, 0)
        seen = network.retina.prepare(screens.to(self.noise.device))
        before = network.vector_of(self.state).detach()
        guess = network.guess(before).view(count, copies)
        drawn, mean = network.place_of(self.state, self.place, self.noise[:, :, index], index)
        self.place = drawn.clamp(-1, 1)
        places = self.place.view(-1, 1, 2)  # every row has a screen of its own
        self.state = network.look(seen, places, self.state)
        logits = network.answer(network.vector_of(self.state)).float()
        if self.chances is None:
            actions = logits.argmax(1)
        else:
            below = logits.detach().softmax(1).cumsum(1)[:, :-1]
            actions = (self.chances[:, :, index].reshape(-1, 1) >= below).sum(1)
        parts = (logits.view(count, copies, -1), actions.view(count, copies), drawn, mean, guess)
        self.kept.append((*parts, screens.view(count, copies, *screens.shape[-2:])))
        return actions.cpu().numpy()


def catch_games(count: int, size: int) -> CatchVectorEnv:
    """So many games on screens of `size` pixels, one screen an observation."""
    return CatchVectorEnv(count, EnvOptions(screen_size=size, frame_stack=1, sticky=0.0))


def play(
    network: GlimpseNetwork,
    seeds: Tensor,
    noise: Tensor,
    chances: Tensor | None,
    *,
    exchanged: bool = False,
) -> Played:
    """Plays a game for each seed, in copies that differ in what they draw alone.

    Args:
        network: that looks and decides.
        seeds: int64 (B,), of the games.
        noise: float (B, M, T, 2), standard normal.
        chances: float (B, M, T) in [0, 1); None takes the likeliest moves.
        exchanged: whether each row sees another row's screens (a control).
    """
    count, copies = noise.shape[:2]
    player = Player(network, noise, chances, exchanged=exchanged)
    games = catch_games(count * copies, network.options.size)
    rows = seeds.repeat_interleave(copies).tolist()
    rewards = play_once(games, player, rows, CATCH_STEPS)
    logits, actions, drawn, means, guesses, screens = (
        torch.stack(parts, 2) for parts in zip(*player.kept, strict=True)
    )
    got = torch.from_numpy(rewards).float().view(count, copies).to(noise.device)
    return Played(logits, actions, drawn, means, guesses, got, screens)


def standing_still(seeds: np.ndarray, size: int) -> np.ndarray:
    """Rewards (N,) of a player that never moves."""
    games = catch_games(len(seeds), size)
    return play_once(games, lambda seen: np.full(len(seen), STAY), seeds.tolist(), CATCH_STEPS)
