"""What lies in a GPU's memory for a batch of consoles, laid out as kernel_body.h reads it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import UsageError
from ..games import game_facts
from ..options import EnvOptions, Picture
from .cartridges import drawn_colours
from .gpu_kernels import PLAY_THREADS, WARP, Kernels, Work

if TYPE_CHECKING:
    import torch

    from . import _console

_START_COUNT = 75
_WIDTH = 160
_READY_LIMIT = 2 << 30  # bytes that episodes made ready may take

_BATCH_FIELDS = {
    "games": np.uint64,
    "row_of_slot": np.uint64,
    "game_of_row": np.uint64,
    "envs": np.uint64,
    "screens": np.uint64,
    "full": np.uint64,
    "stacks": np.uint64,
    "tasks": np.uint64,
    "ready_of_row": np.uint64,
    "problems": np.uint64,
    "rows": np.int32,
    "slots": np.int32,
    "lanes": np.int32,
    "reset_mode": np.int32,
    "screen_count": np.int32,
    "screen_bytes": np.int32,
    "picture_bytes": np.int32,
    "frame_stack": np.int32,
    "shows_objects": np.int32,
    "ready_noops": np.int32,
}
_BATCH = np.dtype(list(_BATCH_FIELDS.items()))
_VIEW = np.dtype(
    [
        ("numbers", np.int32, 3),
        ("scale", np.float32),
        ("axes", np.uint64, 8),
        ("palettes", np.uint64, 3),
    ],
    align=True,
)


class DeviceBatch:
    """The consoles of all rows, and their games, on a device.

    Args:
        kernels: who runs the kernels, and where.
        kinds: canonical names of the games.
        built: these games as the extension holds them.
        game_of_row: (rows,) index into `kinds` of each row.
        options: the semantics.
        resets_by_itself: whether a step begins a new episode in a row that had ended.
        lanes: machines in a warp; 0 chooses.

    Attributes:
        address: of the structure that the kernels take.
        envs: (rows, bytes of a machine) uint8.
        screens: (rows, 2 or 4, and 1 more, bytes of the highest screen) uint8.
        full: (rows, channels, bytes of the highest screen) uint8, what was last resized.
        stacks: (rows, frame_stack, bytes of a picture) uint8.
        problems: (1,) int32, what the kernels found wrong, as bits.
        memory: bytes by what they are for.
        lanes: machines in a warp.
    """

    def __init__(
        self,
        kernels: Kernels,
        kinds: Sequence[str],
        built: Sequence[_console.Game],
        game_of_row: np.ndarray,
        options: EnvOptions,
        resets_by_itself: bool,
        lanes: int = 0,
    ):
        self._kernels = kernels
        self._kept: list[torch.Tensor] = []
        facts = [game_facts(kind) for kind in kinds]
        self.heights = [fact.height for fact in facts]
        self._allocate(len(game_of_row), options)
        self.lanes = lanes or choose_lanes(len(game_of_row), kernels.resident_warps)
        slots = warp_slots(game_of_row, self.lanes)
        self._blocks = -(-len(slots) // (self.lanes * PLAY_THREADS // WARP))
        self._ready_noops = self._choose_ready(options)
        games = [self._upload_game(*each, options) for each in zip(facts, built, strict=True)]
        layout = self._layout(options)
        layout["games"] = self._keep(np.frombuffer(b"".join(games), np.uint8))
        layout["row_of_slot"] = self._keep(slots)
        layout["game_of_row"] = self._keep(np.asarray(game_of_row, np.int32))
        layout["slots"] = len(slots)
        layout["reset_mode"] = 0 if resets_by_itself else 1
        self.address = self._keep(np.frombuffer(layout.tobytes(), np.uint8))
        layout["screens"] = 0
        self._undrawn = self._keep(np.frombuffer(layout.tobytes(), np.uint8))
        self.memory = {
            "machine": self.envs.shape[1],
            "screens": self.screens[0].numel() + self.full[0].numel(),
            "frame stack": self.stacks[0].numel(),
            "all games": sum(each.numel() * each.element_size() for each in self._kept),
        }
        for game in range(len(kinds)) if self._ready_noops else ():
            blocks = -(-_START_COUNT * self._ready_noops // PLAY_THREADS)
            kernels.play(blocks, WARP, (self.address, int(Work.MAKE_READY), game, 0, 0, 0, 0))

    def _allocate(self, rows: int, options: EnvOptions) -> None:
        import torch

        from . import _console

        size = max(self.heights) * _WIDTH
        self.screen_count = 4 if options.picture == Picture.OBJECTS else 2
        channels = 3 if options.picture == Picture.RGB else 1
        pixels = options.screen_size**2 if options.screen_size else self.heights[0] * _WIDTH

        def zeros(*shape: int, dtype: Any = torch.uint8) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=self._kernels.device)

        self.envs = zeros(rows, _console.env_bytes)
        self.screens = zeros(rows, self.screen_count + 1, size)
        self.full = zeros(rows, channels, size)
        self.stacks = zeros(rows, options.frame_stack, pixels * channels)
        self.problems = zeros(1, dtype=torch.int32)
        self._tasks = zeros(rows)
        self._ready_of_row = zeros(rows, dtype=torch.int32)

    def _layout(self, options: EnvOptions) -> np.ndarray:
        """The structure Batch, as far as it tells of what `_allocate` made."""
        layout = np.zeros((), _BATCH)
        for name in ("envs", "screens", "full", "stacks", "problems"):
            layout[name] = getattr(self, name).data_ptr()
        layout["tasks"] = self._tasks.data_ptr()
        layout["ready_of_row"] = self._ready_of_row.data_ptr()
        layout["rows"], layout["frame_stack"], layout["picture_bytes"] = self.stacks.shape
        layout["lanes"] = self.lanes
        layout["screen_count"] = self.screen_count
        layout["screen_bytes"] = self.screens.shape[2]
        layout["shows_objects"] = int(options.picture == Picture.OBJECTS)
        layout["ready_noops"] = self._ready_noops
        return layout

    def play(
        self,
        work: Work,
        *,
        actions: int = 0,
        mask: int = 0,
        seeds: int = 0,
        results: int,
        draws: bool = True,
    ) -> None:
        """Starts a call for all rows; the addresses are of arrays on the device.

        Without `draws` no pixel is drawn, to measure what pictures cost; no observation may be made
        afterwards, and beginnings must have been made ready.
        """
        if not draws and not self.has_ready:
            raise UsageError("without drawing, games begin only where actions do not stick.")
        address = self.address if draws else self._undrawn
        arguments = (address, int(work), 0, actions, mask, seeds, results)
        self._kernels.play(self._blocks, self.lanes, arguments)

    @property
    def has_ready(self) -> bool:
        """Whether episodes begin as copies of ones that were made ready."""
        return self._ready_noops > 0

    def observe(self, observations: torch.Tensor) -> None:
        """Starts making all rows' observations, which the last call left to do."""
        self._kernels.observe(len(self.envs), (self.address, observations.data_ptr()))

    def _keep(self, array: np.ndarray) -> int:
        """Puts an array on the device for good; returns its address."""
        import torch

        tensor = torch.from_numpy(np.array(array, order="C")).to(self._kernels.device)
        self._kept.append(tensor)
        return tensor.data_ptr()

    def _choose_ready(self, options: EnvOptions) -> int:
        """Numbers of NOOPs for which begun episodes are made ready; 0 for none.

        Where actions stick, beginnings depend on more draws; of many games there would be too many.
        """
        count = options.noop_max + 1
        each = self.envs.shape[1] + self.screen_count * max(self.heights) * _WIDTH
        total = len(self.heights) * _START_COUNT * count * each
        return count if options.sticky == 0.0 and total <= _READY_LIMIT else 0

    def _upload_game(self, facts: Any, game: _console.Game, options: EnvOptions) -> bytes:
        """Uploads what a game needs; returns its KernelGame with the device's pointers."""
        import torch

        shades, palettes = drawn_colours(facts, options.picture, False)
        setup = bytearray(game.setup_bytes())
        board = np.frombuffer(setup, np.uint64, 2)  # pointers to the ROM and the shades
        board[0] = self._keep(np.frombuffer(game.rom(), np.uint8))
        board[1] = self._keep(np.frombuffer(shades, np.uint8))
        view = np.zeros((), _VIEW)
        *view["numbers"], view["scale"] = game.view_numbers()
        kinds = (np.int32, np.int32, np.int32, np.float32) * 2
        tables = zip(game.area_tables(), kinds, strict=True)
        view["axes"] = [self._keep(np.array(table, kind)) for table, kind in tables]
        for channel in range(len(palettes) // 256):
            one = np.frombuffer(palettes, np.uint8, 256, 256 * channel)
            view["palettes"][channel] = self._keep(one)
        pointers = np.zeros(3, np.uint64)
        pointers[0] = self._upload_starts(game)
        if self._ready_noops:
            count = _START_COUNT * self._ready_noops
            for k, each in (
                (1, self.envs.shape[1]),
                (2, self.screen_count * facts.height * _WIDTH),
            ):
                memory = torch.empty((count, each), dtype=torch.uint8, device=self._kernels.device)
                self._kept.append(memory)
                pointers[k] = memory.data_ptr()
        return bytes(setup) + view.tobytes() + pointers.tobytes()

    def _upload_starts(self, game: _console.Game) -> int:
        """Uploads the consoles as they stand after a reset; returns the address of their table."""
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            starts = list(threads.map(game.start, range(_START_COUNT)))
        screens = np.stack([np.frombuffer(shown, np.uint8) for _, shown in starts])
        address = self._keep(screens)
        table = b"".join(
            env + np.uint64(address + k * screens.shape[1]).tobytes()
            for k, (env, _) in enumerate(starts)
        )
        return self._keep(np.frombuffer(table, np.uint8))


def warp_slots(game_of_row: np.ndarray, lanes: int) -> np.ndarray:
    """Returns (slots,) int32: the row of each slot, -1 for none.

    Each `lanes` slots are a warp's, and all its rows are of one game.
    """
    pieces = []
    for game in np.unique(game_of_row):
        rows = np.flatnonzero(game_of_row == game).astype(np.int32)
        pieces.append(np.pad(rows, (0, -len(rows) % lanes), constant_values=-1))
    return np.concatenate(pieces)


def choose_lanes(rows: int, resident_warps: Callable[[int], int]) -> int:
    """Returns how many machines share a warp: so few as all warps can be resident at once.

    Machines that share a warp wait for one another wherever their programs part; warps that are
    not resident wait for others to end.
    """
    for lanes in (1, 2, 4, 8, 16):
        if -(-rows // lanes) <= resident_warps(lanes):
            return lanes
    return 32
