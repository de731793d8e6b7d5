"""The console on an NVIDIA GPU as a Gymnasium vector environment whose arrays stay there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv

from ...errors import EightBitError, UsageError
from ..ale import check_actions, reset_mask, row_seeds
from ..options import EnvOptions, Picture, Rng
from . import require_built
from .cartridges import build_game
from .gpu_batch import DeviceBatch
from .gpu_kernels import CudaKernels, Kernels, Work
from .vector import describe

if TYPE_CHECKING:
    import torch

    from . import _console

_RESULT_BYTES = 28  # of a row, as kernel_body.h has it
_LANES = (0, 1, 2, 4, 8, 16, 32)
_PROBLEMS = (
    (1, "an action was none of the game's; it was taken as the nearest one"),
    (2, "a game was stepped after its end; it stayed as it was"),
)


class ConsoleGpuVectorEnv(VectorEnv):
    """`num_envs` consoles of ours on a GPU; nothing of a step is copied through the host.

    The contract and the trajectories are those of `ConsoleVectorEnv` with `rng="counter"`, but
    all that `reset` and `step` return are torch tensors on the device: observations
    `(num_envs, frame_stack, screen_size, screen_size)` uint8, rewards float32, `terminated` and
    `truncated` bool, and all infos with their masks. Each call returns new tensors (only the masks
    `_key` of a step are one tensor that is always True). Actions are torch tensors or NumPy arrays.

    A step waits for nothing and reads nothing back, so that a CUDA graph can hold it: take a step
    before the capture, give the actions as a tensor, and know that each replay writes into the
    tensors of the captured step. For that reason a mistake in a tensor of actions cannot be told at
    once: an action out of range is taken as the nearest one and a game that has ended is left as
    it is, until `check`, the next `reset` of all rows or `get_state` raises UsageError.

    With SAME_STEP `infos["final_obs"]` is always there: (num_envs, *observation), of which the
    rows in the mask `infos["_final_obs"]` count.

    Args:
        games: canonical name of the game, or one for each equal part of the rows.
        num_envs: number of consoles, 1 or more.
        options: the semantics.
        autoreset_mode: when a game that has ended begins anew.
        device: "cuda" or "cuda:<number>".
        kernels: who runs the kernels; None compiles them for `device`.
        lanes: machines that share a warp: 1, 2, 4, 8, 16 or 32; 0 chooses. Changes speed only.

    Raises:
        UsageError: an option does not fit the games, there is no GPU, or something is missing.
    """

    returns_fresh_arrays = True
    game: str
    games: list[str]
    options: EnvOptions
    autoreset_mode: AutoresetMode

    def __init__(
        self,
        games: str | Sequence[str],
        num_envs: int,
        options: EnvOptions,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        device: str = "cuda",
        kernels: Kernels | None = None,
        lanes: int = 0,
    ):
        if options.rng == Rng.ALE:
            raise UsageError("rng 'ale' is for the CPU only; give rng='counter' or device='cpu'.")
        if lanes not in _LANES:
            raise UsageError(f"lanes is {lanes}; give 1, 2, 4, 8, 16 or 32, or 0 to choose.")
        kinds = describe(self, games, num_envs, options, autoreset_mode)
        require_built()
        from . import _console

        built = [build_game(kind, options) for kind in kinds]
        if kernels is None:
            setup_bytes = len(built[0].setup_bytes())
            kernels = CudaKernels(device, _console.env_bytes, setup_bytes)
        self.device = kernels.device
        self._game_of_row = np.array([kinds.index(game) for game in self.games], np.int32)
        by_itself = self.autoreset_mode == AutoresetMode.NEXT_STEP
        self._open_batch: DeviceBatch | None = DeviceBatch(
            kernels, kinds, built, self._game_of_row, options, by_itself, lanes
        )
        # On the CPU, one row of each game: it knows what a state looks like.
        self._readers = [_row_engine(game, options) for game in built]
        self._always = self._tensor(np.ones(num_envs, np.bool_))
        self._no_seeds = self._tensor(row_seeds(None, num_envs))
        self._actions = self._tensor(np.zeros(num_envs, np.int64))
        self._was_reset = False
        self._sent: tuple[Any, ...] | None = None

    @property
    def memory(self) -> dict[str, int]:
        """Bytes on the device: of one row its `machine`, `screens` (with the picture that is kept)
        and `frame stack`; `all games` is what the games take, whatever the number of rows."""
        return self.batch.memory

    @property
    def lanes(self) -> int:
        """Machines that share a warp."""
        return self.batch.lanes

    def reset(
        self,
        *,
        seed: int | list[int | None] | np.ndarray | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Begins new games in all rows, or in those of `options["reset_mask"]`.

        Args:
            seed: row i gets `seed + i`; a list or array holds one seed for each row (None leaves
                a row's random numbers where they are).
            options: `{"reset_mask": (num_envs,) bool}` leaves the other rows as they are: a
                tensor on the device, which is not looked at by the host, or an array.
        """
        if self._sent is not None:
            raise UsageError("reset() while a step is under way; call recv() first.")
        given = None if options is None else options.get("reset_mask")
        some = _is_tensor(given) or not reset_mask(options, self.num_envs).all()
        if some and not self._was_reset:
            raise UsageError("reset all environments once before a reset with a mask.")
        if given is None:
            self.check()
        mask = self._mask(options)
        if seed is None and not self._was_reset:
            seed = int(np.random.default_rng().integers(2**30))
        seeds = self._no_seeds if seed is None else self._tensor(row_seeds(seed, self.num_envs))
        results = self._new_results()
        self.batch.play(
            Work.RESET,
            mask=mask.data_ptr(),
            seeds=seeds.data_ptr(),
            results=results.data_ptr(),
        )
        observations = self._observe()
        self._actions = self._actions.masked_fill(mask, 0)
        self._was_reset = True
        views = self._views(results)
        views["executed_action"].copy_(self._actions)
        return observations, _infos(views, mask)

    def send(self, actions: torch.Tensor | np.ndarray) -> None:
        """Starts a step with `(num_envs,)` integer actions and returns at once."""
        if self._sent is not None:
            raise UsageError("send() twice without recv() between; call recv() first.")
        self._sent = self.step(actions)

    def recv(self) -> tuple[Any, ...]:
        """Returns what `step` returns, of the step that `send` started; does not wait for it."""
        if self._sent is None:
            raise UsageError("recv() without send(); call send(actions) first.")
        result, self._sent = self._sent, None
        return result

    def step(
        self, actions: torch.Tensor | np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, dict[str, Any]]:
        """Holds `(num_envs,)` integer actions for `frame_skip` frames.

        Returns:
            observations, rewards (float32, raw), terminated, truncated (bool), infos; all tensors
            on the device.
        """
        if self._sent is not None:
            raise UsageError("step() while a step is under way; call recv() first.")
        if not self._was_reset:
            raise UsageError("step before reset(); call reset() first.")
        self._actions = self._given_actions(actions)
        results = self._new_results()
        address = results.data_ptr()
        self.batch.play(Work.STEP, actions=self._actions.data_ptr(), results=address)
        observations = self._observe()
        views = self._views(results)
        finals: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            finals = _final_infos(observations, views["ended"], views["executed_action"])
            self.batch.play(Work.RESET_ENDED, results=address)
            observations = self._observe()
        infos = _infos(views, self._always) | finals
        return observations, views["rewards"], views["terminated"], views["truncated"], infos

    def check(self) -> None:
        """Waits for all steps; raises UsageError when one of them was given what cannot be."""
        found = int(self.batch.problems.item())
        if not found:
            return
        self.batch.problems.zero_()
        told = "; ".join(text for bit, text in _PROBLEMS if found & bit)
        raise UsageError(f"since the last check {told}: give 0 to {self._most} and reset by mask.")

    def get_state(self) -> dict[str, Any]:
        """Returns all that the future depends on, in arrays of the host; `ConsoleVectorEnv` of
        the same games and options goes on from it just as well, and the other way round."""
        self._check_idle()
        if not self._was_reset:
            raise UsageError("the games have not begun; call reset() first.")
        self.check()
        pieces = self._pieces_of_rows(range(self.num_envs))
        return {
            "rows": np.concatenate([np.frombuffer(piece, np.uint8) for piece in pieces]),
            "sizes": np.array([len(piece) for piece in pieces], np.int64),
            "actions": self._actions.cpu().numpy(),
        }

    def set_state(self, state: dict[str, Any]) -> torch.Tensor:
        """Puts back what `get_state` returned; returns the observations to act on.

        Raises:
            EightBitError: it is damaged, or of other games or options.
        """
        sizes = np.asarray(state["sizes"], np.int64).reshape(-1)
        rows = np.asarray(state["rows"], np.uint8).reshape(-1)
        if len(sizes) != self.num_envs or sizes.min() < 0 or sizes.sum() != len(rows):
            raise EightBitError(
                f"the state is of {len(sizes)} environments, these are {self.num_envs}; "
                "make them as those were made."
            )
        pieces = np.split(rows, np.cumsum(sizes)[:-1])
        for row, piece in enumerate(pieces):
            self.set_row_state(row, piece.tobytes())
        self._actions = self._tensor(np.array(state["actions"], np.int64))
        return self.batch.stacks.clone().view(self.observation_space.shape or ())

    def row_state(self, row: int) -> bytes:
        """Returns one console's state; `set_row_state` puts it into any row of the same game."""
        self._check_idle()
        if not self._was_reset:
            raise UsageError("the games have not begun; call reset() first.")
        return self._pieces_of_rows([row])[0]

    def set_row_state(self, row: int, state: bytes) -> torch.Tensor:
        """Puts a console into an earlier state; returns its observation.

        Raises:
            EightBitError: it is damaged, or of another game or other options.
        """
        from . import _console

        self._check_idle()
        game = int(self._game_of_row[row])
        try:
            # All that a kernel relies on is checked there.
            self._readers[game].set_state(0, state)
        except _console.StateError as error:
            raise EightBitError(f"this is no state of these games: {error}.") from None
        batch, at = self.batch, _HEADER_BYTES
        parts = self._parts(row)
        bytes_of_state = np.frombuffer(state, np.uint8)
        for part in parts:
            part.copy_(self._tensor(bytes_of_state[at : at + part.numel()]).view(part.shape))
            at += part.numel()
        self._was_reset = True
        return batch.stacks[row].clone().view(self.single_observation_space.shape or ())

    def pieces(self, row: int) -> dict[str, np.ndarray]:
        """Returns copies of what a console holds, in arrays of the host: `ram` (128,),
        `cartridge_ram` (128,), `screen` (height, 160) of the last frame that was drawn, `sound`
        (6,), all uint8, and with `picture="objects"` the plane `objects` (height, 160)."""
        reader = self._readers[int(self._game_of_row[row])]
        reader.set_state(0, self.row_state(row))
        return dict(reader.pieces(0))

    def close_extras(self, **kwargs: Any) -> None:
        """Gives the device's memory back."""
        self._open_batch = None
        self._sent = None

    @property
    def batch(self) -> DeviceBatch:
        """What lies on the device; its memory belongs to this environment."""
        if self._open_batch is None:
            raise UsageError("this environment is closed; make a new one.")
        return self._open_batch

    @property
    def _most(self) -> int:
        return int(self.single_action_space.n) - 1  # type: ignore[attr-defined]  # Discrete

    def _check_idle(self) -> None:
        if self._sent is not None:
            raise EightBitError("a step is under way; call recv() first.")

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.array(array)).to(self.device)

    def _new_results(self) -> torch.Tensor:
        import torch

        return torch.empty(_RESULT_BYTES * self.num_envs, dtype=torch.uint8, device=self.device)

    def _views(self, results: torch.Tensor) -> dict[str, torch.Tensor]:
        """The arrays that lie behind one another in `results`, as kernel_body.h has them."""
        import torch

        kinds = {"executed_action": torch.int64, "rewards": torch.float32}
        kinds |= dict.fromkeys(("lives", "frame_number", "episode_frame_number"), torch.int32)
        kinds |= dict.fromkeys(("terminated", "truncated", "life_lost", "ended"), torch.bool)
        views, at = {}, 0
        for name, kind in kinds.items():
            count = self.num_envs * kind.itemsize
            views[name] = results[at : at + count].view(kind)
            at += count
        return views

    def _observe(self) -> torch.Tensor:
        import torch

        shape = self.observation_space.shape or ()
        observations = torch.empty(shape, dtype=torch.uint8, device=self.device)
        self.batch.observe(observations)
        return observations

    def _mask(self, options: dict[str, Any] | None) -> torch.Tensor:
        given: Any = None if options is None else options.get("reset_mask")
        if not _is_tensor(given):
            return self._tensor(reset_mask(options, self.num_envs))
        import torch

        if given.dtype != torch.bool or given.shape != (self.num_envs,):
            raise UsageError(f"reset_mask must be a bool tensor of shape ({self.num_envs},).")
        return given.to(self.device, copy=True)

    def _given_actions(self, actions: Any) -> torch.Tensor:
        if not _is_tensor(actions):
            return self._tensor(check_actions(actions, self.num_envs, self._most + 1))
        import torch

        kind = actions.dtype
        if actions.shape != (self.num_envs,) or kind.is_floating_point or kind == torch.bool:
            shape = tuple(actions.shape)
            raise UsageError(f"actions are {kind} of shape {shape}; give {self.num_envs} integers.")
        return actions.to(self.device, torch.int64, copy=True)

    def _parts(self, row: int) -> list[torch.Tensor]:
        """Where the parts of a row's state lie, in the order of a state's bytes."""
        batch = self.batch
        size = batch.heights[int(self._game_of_row[row])] * 160
        return [
            batch.envs[row],
            batch.screens[row, : batch.screen_count, :size],
            batch.full[row, :, :size],
            batch.stacks[row],
        ]

    def _pieces_of_rows(self, rows: Sequence[int]) -> list[bytes]:
        pieces = []
        for row in rows:
            header = self._readers[int(self._game_of_row[row])].state(0)[:_HEADER_BYTES]
            parts = [part.cpu().numpy().tobytes() for part in self._parts(row)]
            pieces.append(header + b"".join(parts))
        return pieces


_HEADER_BYTES = 16  # of a state; see state.h


def _row_engine(game: _console.Game, options: EnvOptions) -> _console.Engine:
    from . import _console

    return _console.Engine(
        [game],
        [0],
        frame_stack=options.frame_stack,
        threads=1,
        autoreset=2,
        ale_random=False,
        shows_objects=options.picture == Picture.OBJECTS,
        records=False,
    )


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _infos(views: dict[str, torch.Tensor], mask: torch.Tensor) -> dict[str, Any]:
    names = ("lives", "frame_number", "episode_frame_number", "life_lost", "executed_action")
    infos: dict[str, Any] = {name: views[name] for name in names}
    return infos | {f"_{name}": mask for name in names}


def _final_infos(
    observations: torch.Tensor, ended: torch.Tensor, executed: torch.Tensor
) -> dict[str, Any]:
    actions = executed.masked_fill(~ended, 0)
    return {
        "final_obs": observations,
        "_final_obs": ended,
        "final_info": {"executed_action": actions, "_executed_action": ended},
        "_final_info": ended,
    }
