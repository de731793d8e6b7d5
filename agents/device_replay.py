"""The frame ring in torch, on any device: nothing of adding and sampling goes through the host.

The same ring as `replay.FrameReplay`, which it equals transition by transition. On a GPU every
decision that FrameReplay takes on the host (which rows were cut, which stacks reach past a start)
is a mask here, so that neither `add` nor `sample` waits for the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import TrainingError
from .replay import Batch, _ring_length


def final_rows(steps: int, num_envs: int, longest_game: int | None) -> int:
    """Games that can be cut within `steps` steps of every environment.

    Args:
        steps: T.
        num_envs: n.
        longest_game: steps after which a game is cut; None when any step may cut one.
    """
    return num_envs * -(-steps // (longest_game or 1))


class FinalFrames:
    """The last observations of games that were cut: a table on the device, filled in turn.

    Args:
        rows: games that it can hold at a time.
        shape: of what is kept of each.
        dtype: of that.
        device: where it lies.

    Attributes:
        frames: (rows + 1, *shape); the last one is written for games that go on and never read.
    """

    def __init__(self, rows: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device):
        self.rows = rows
        self.frames = torch.zeros((rows + 1, *shape), dtype=dtype, device=device)
        self._next = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def nbytes(self) -> int:
        """Bytes allocated."""
        return self.frames.numel() * self.frames.element_size()

    def add(self, cut: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        """Keeps the frames (n, *shape) of a (n,) bool mask; (n,) int64 rows where they lie."""
        order = self._next + cut.cumsum(0) - 1
        rows = torch.where(cut, order % self.rows, self.rows)
        self.frames[rows] = frames
        self._next = (self._next + cut.sum()) % self.rows
        return rows

    def clear(self, frames: torch.Tensor | None = None) -> None:
        """Forgets all, and keeps these (m, *shape), the oldest first, in the rows 0 to m - 1."""
        count = 0 if frames is None else len(frames)
        if count > self.rows:
            raise ValueError(f"{count} last frames are saved, and {self.rows} fit here")
        if frames is not None:
            self.frames[:count].copy_(frames)
        self._next.fill_(count % self.rows)


class DeviceReplay:
    """A ring of single frames for each environment, on a device; see `FrameReplay`.

    Args:
        capacity, num_envs, observation_shape, dtype, frame_stack: as of `FrameReplay`.
        device: of all that is added and sampled.
        longest_game: steps after which a game is cut, from which follows how many last frames of
            cut games are kept apart; None keeps room for one a step.
        pinned: the frames lie in pinned memory of the host, where they do not fit on the device:
            they are gathered there and copied over. Sampling waits for the device then.

    Attributes:
        frames: (length, n, *frame), the only large tensor.
        time: steps added since the first reset.
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_shape: tuple[int, ...],
        dtype: Any = np.uint8,
        *,
        device: torch.device | str,
        frame_stack: int = 4,
        longest_game: int | None = None,
        pinned: bool = False,
    ):
        if frame_stack > 1 and observation_shape[0] != frame_stack:
            raise ValueError(
                f"observations of shape {observation_shape} are not stacks of {frame_stack} frames"
            )
        self.device = torch.device(device)
        self.num_envs, self.frame_stack, self.pinned = num_envs, frame_stack, pinned
        self.observation_shape = tuple(observation_shape)
        self.length = _ring_length(capacity, num_envs, frame_stack)
        frame = tuple(observation_shape[1:] if frame_stack > 1 else observation_shape)
        kind = torch.from_numpy(np.empty(0, dtype)).dtype
        slots = (self.length, num_envs)
        self.frames = self._zeros_of_frames((*slots, *frame), kind)
        self._rows = self.frames.view(self.length * num_envs, -1)

        def zeros(dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(slots, dtype=dtype, device=self.device)

        self.actions, self.rewards = zeros(torch.int64), zeros(torch.float32)
        self.terminated, self.cut = zeros(torch.bool), zeros(torch.bool)
        self.starts = zeros(torch.bool)
        # A reset closes the open games, one more for each environment.
        room = final_rows(self.length, num_envs, longest_game) + num_envs
        self.finals = FinalFrames(room, frame, kind, self.device)
        self.final_row = zeros(torch.int32)  # in that table, of the steps that are cut
        self.time = 0
        self._constants: dict[tuple[int, float], tuple[torch.Tensor, torch.Tensor]] = {}
        self._back = torch.arange(frame_stack - 1, -1, -1, device=self.device)

    def _zeros_of_frames(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        if not self.pinned:
            return torch.zeros(shape, dtype=dtype, device=self.device)
        return torch.zeros(shape, dtype=dtype, pin_memory=self.device.type == "cuda")

    @property
    def nbytes(self) -> int:
        """Bytes allocated, on the device and in pinned memory."""
        tensors = [self.frames, self.actions, self.rewards, self.terminated, self.cut]
        tensors += [self.starts, self.final_row]
        return sum(t.numel() * t.element_size() for t in tensors) + self.finals.nbytes

    def __len__(self) -> int:
        """Transitions that can be sampled with n = 1."""
        return max(self.time - self._oldest(), 0) * self.num_envs

    def _oldest(self) -> int:
        """The first time whose whole stack is still in the ring."""
        return 0 if self.time < self.length else self.time - self.length + self.frame_stack

    def reset(self, observations: torch.Tensor) -> None:
        """Begins new episodes in every environment; see `FrameReplay.reset`."""
        slot = self.time % self.length
        if self.time:
            last = (self.time - 1) % self.length
            still_open = ~(self.terminated[last] | self.cut[last])
            newest = self.frames[slot].to(self.device)
            rows = self.finals.add(still_open, newest).to(torch.int32)
            self.final_row[last] = torch.where(still_open, rows, self.final_row[last])
            self.cut[last] |= still_open
        self._write(slot, observations)
        self.starts[slot] = True

    def add(
        self,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        terminated: torch.Tensor,
        truncated: torch.Tensor,
        episode_over: torch.Tensor,
        observations: torch.Tensor,
        final_observations: torch.Tensor,
    ) -> None:
        """Stores one step of every environment; see `FrameReplay.add`.

        Args:
            actions, rewards, terminated, truncated, episode_over: (n,) tensors.
            observations: (n, *observation) to act on next.
            final_observations: (n, *observation), of which the truncated rows count.
        """
        slot, following = self.time % self.length, (self.time + 1) % self.length
        self.actions[slot] = actions
        self.rewards[slot] = rewards
        self.terminated[slot] = terminated
        cut = truncated & ~terminated
        self.cut[slot] = cut
        self.final_row[slot] = self.finals.add(cut, self._newest(final_observations))
        self._write(following, observations)
        self.starts[following] = episode_over
        self.time += 1

    def _newest(self, observations: torch.Tensor) -> torch.Tensor:
        return observations[:, -1] if self.frame_stack > 1 else observations

    def _write(self, slot: int, observations: torch.Tensor) -> None:
        newest = self._newest(observations)
        if self.pinned:
            # Copies in the background take memory without gaps on both sides.
            newest = newest.contiguous()
        self.frames[slot].copy_(newest, non_blocking=True)

    def sample(
        self, batch_size: int, rng: torch.Generator, *, n_step: int = 1, gamma: float = 0.99
    ) -> Batch:
        """Draws transitions uniformly with replacement.

        Args:
            batch_size: B.
            rng: on the memory's device.
            n_step, gamma: of the transitions.

        Raises:
            ValueError: fewer than `n_step` steps are stored.
        """
        oldest, newest = self._oldest(), self.time - n_step
        if newest < oldest:
            raise ValueError(f"the replay memory holds fewer than {n_step} steps")
        draw: dict[str, Any] = {"generator": rng, "device": self.device}
        times = torch.randint(oldest, newest + 1, (batch_size,), **draw)
        envs = torch.randint(self.num_envs, (batch_size,), **draw)
        return self.gather(times, envs, n_step=n_step, gamma=gamma)

    def gather(
        self, times: torch.Tensor, envs: torch.Tensor, *, n_step: int, gamma: float
    ) -> Batch:
        """The n-step transitions that begin at these (B,) int64 times; see `FrameReplay`."""
        steps_ahead, powers = self._constants_of(n_step, gamma)
        window = self._flat(times[:, None] + steps_ahead, envs[:, None])
        ended = self._of(self.terminated, window) | self._of(self.cut, window)
        # alive[:, i] is true while no earlier step of the window ended the episode.
        before = ended.cumsum(1) - ended.to(torch.int64)
        alive = before == 0
        returns = (self._of(self.rewards, window) * alive * powers[:-1]).sum(dim=1)
        steps = alive.sum(dim=1)
        last = times + steps - 1
        last_flat = self._flat(last, envs)
        discounts = powers[steps] * ~self._of(self.terminated, last_flat)
        return Batch(
            observations=self._stacks(times, envs),
            actions=self._of(self.actions, window[:, 0]),
            returns=returns,
            next_observations=self._stacks(last + 1, envs, cut_at=last_flat),
            discounts=discounts,
        )

    def _constants_of(self, n_step: int, gamma: float) -> tuple[torch.Tensor, torch.Tensor]:
        """0 to n - 1, and gamma to the power of 0 to n; uploaded once."""
        key = (n_step, gamma)
        if key not in self._constants:
            powers = np.float32(gamma) ** np.arange(n_step + 1, dtype=np.float32)
            self._constants[key] = (
                torch.arange(n_step, device=self.device),
                torch.tensor(powers.tolist(), dtype=torch.float32, device=self.device),
            )
        return self._constants[key]

    def _flat(self, times: torch.Tensor, envs: torch.Tensor) -> torch.Tensor:
        """Positions in the ring laid flat."""
        return times % self.length * self.num_envs + envs

    @staticmethod
    def _of(values: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        return values.view(-1)[flat]

    def _stacks(
        self, times: torch.Tensor, envs: torch.Tensor, cut_at: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Observations at these times, (B, *observation_shape).

        Where the step at the flat position `cut_at` before them was cut, the observation is the
        last one of that game instead: its older frames are those of the step, its newest one lies
        apart.
        """
        flat = self._flat(times[:, None] - self._back, envs[:, None])
        stacks = self._frames_at(flat.flatten()).view(len(times), *self.observation_shape)
        cut = None if cut_at is None else self._of(self.cut, cut_at)
        per_row = (-1, *([1] * (stacks.ndim - 1)))
        if self.frame_stack > 1:
            # A start at time s hides all frames older than s; the newest of a game that was cut
            # is no start, for what follows it belongs to another game.
            starts = self._of(self.starts, flat[:, 1:])
            if cut is not None:
                starts[:, -1] &= ~cut
            hidden = starts.flip(1).cumsum(1).flip(1) > 0
            stacks[:, :-1] *= ~hidden.view(*hidden.shape, *([1] * (stacks.ndim - 2)))
        if cut is not None and cut_at is not None:
            final = self.finals.frames[self._of(self.final_row, cut_at).to(torch.int64)]
            newest = stacks[:, -1] if self.frame_stack > 1 else stacks
            newest.copy_(torch.where(cut.view(per_row[: newest.ndim]), final, newest))
        return stacks

    def _frames_at(self, flat: torch.Tensor) -> torch.Tensor:
        """(K, frame) at flat positions."""
        if not self.pinned:
            return self._rows.index_select(0, flat)
        positions = flat.cpu()  # waits, also for the frames that are still being copied here
        gathered = torch.empty(
            (len(flat), self._rows.shape[1]),
            dtype=self._rows.dtype,
            pin_memory=self.device.type == "cuda",
        )
        torch.index_select(self._rows, 0, positions, out=gathered)
        return gathered.to(self.device, non_blocking=True)

    def check(self) -> None:
        """Waits for the device; raises TrainingError when more games were cut than fit here."""
        cut = int(self.cut.sum())
        if cut > self.finals.rows:
            raise TrainingError(
                f"{cut:,} games in the replay memory were cut and {self.finals.rows:,} last frames "
                "fit: the environment cuts games sooner than its options say"
            )

    def get_state(self) -> dict:
        """What a `FrameReplay` of the same memory would give; copies in the host's memory."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        used = min(self.time + 1, self.length)
        names = ("frames", "actions", "rewards", "terminated", "cut", "starts")
        arrays = {name: getattr(self, name)[:used].cpu().numpy() for name in names}
        keys = np.argwhere(arrays["cut"]).astype(np.int64).reshape(-1, 2)
        rows = self.final_row[:used].cpu().numpy()[keys[:, 0], keys[:, 1]]
        return {
            "time": self.time,
            "shape": [self.length, self.num_envs, *self.observation_shape],
            **arrays,
            "final_keys": keys,
            "final_frames": self.finals.frames.cpu().numpy()[rows],
        }

    def set_state(self, state: dict) -> None:
        """Restores what `get_state` or a `FrameReplay` gave.

        Raises:
            ValueError: the state belongs to a memory of another shape.
        """
        shape = [self.length, self.num_envs, *self.observation_shape]
        if list(state["shape"]) != shape:
            raise ValueError(f"the saved replay memory has shape {state['shape']}, not {shape}")
        used = len(state["frames"])
        for name in ("frames", "actions", "rewards", "terminated", "cut", "starts"):
            getattr(self, name)[:used].copy_(torch.from_numpy(np.array(state[name])))
        self.time = int(state["time"])
        keys = np.array(state["final_keys"], np.int64).reshape(-1, 2)
        frames = np.array(state["final_frames"])
        # Rows are taken in turn, so the oldest frame must lie in the first one.
        order = np.argsort((keys[:, 0] - self.time) % self.length, kind="stable")
        self.finals.clear(torch.from_numpy(frames[order]).to(self.device))
        rows = np.zeros((self.length, self.num_envs), np.int32)
        rows[keys[order, 0], keys[order, 1]] = np.arange(len(keys))
        self.final_row.copy_(torch.from_numpy(rows))
