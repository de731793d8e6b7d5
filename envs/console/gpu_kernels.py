"""The console's kernels: their source as one text, and CuPy, which compiles and launches them."""

from __future__ import annotations

import logging
import re
import time
from enum import IntEnum
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ...errors import UsageError

if TYPE_CHECKING:
    import torch

_log = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent

COMPILE_OPTIONS = (
    "-std=c++17",
    # Pictures equal the CPU's to the last bit: no fused multiply-add.
    "-fmad=false",
    # Functions of the shared headers without a mark, such as constexpr ones, are the device's.
    "--device-as-default-execution-space",
)
WARP = 32
PLAY_THREADS = 64
"""Threads of a block that plays machines: two warps."""
PICTURE_THREADS = 256
"""Threads of a block that makes one row's picture."""


class Work(IntEnum):
    """What the kernel of the machines does in a call, as kernel_body.h numbers it."""

    STEP = 0
    RESET = 1
    RESET_ENDED = 2
    MAKE_READY = 3


class Kernels(Protocol):
    """Who runs the kernels; a test runs them on the CPU."""

    device: torch.device

    def resident_warps(self, lanes: int) -> int:
        """Warps of `lanes` machines that the device holds at once."""

    def play(self, blocks: int, lanes: int, arguments: tuple[int, ...]) -> None:
        """Starts the kernel of the machines: batch, work, game, actions, mask, seeds, results.

        Of each warp the first `lanes` threads play.
        """

    def observe(self, blocks: int, arguments: tuple[int, ...]) -> None:
        """Starts the kernel of the pictures: batch, observations."""

    def wait(self) -> None:
        """Waits until all that was started is done."""


@lru_cache(maxsize=1)
def kernel_source() -> str:
    """Returns kernel.cu with all that it includes of ours, each file once, as one text.

    So the text alone tells whether a compiled kernel in a cache is still the right one.
    """
    seen: set[str] = set()

    def expand(name: str) -> list[str]:
        seen.add(name)
        lines = [f'#line 1 "{name}"']
        text = (_FOLDER / name).read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            included = re.fullmatch(r'#include "(\w+\.h)"', line.strip())
            if included and included[1] not in seen:
                lines += [*expand(included[1]), f'#line {number + 1} "{name}"']
            else:
                lines.append("" if included or line.strip() == "#pragma once" else line)
        return lines

    return "\n".join(expand("kernel.cu")) + "\n"


class CudaKernels:
    """The kernels on an NVIDIA GPU, on torch's current stream. Nothing here waits but `wait`.

    Args:
        device: "cuda" or "cuda:<number>".
        env_bytes, setup_bytes: sizes of the structures of the CPU extension, which the
            compilation checks.
        shared_envs: machines work in shared memory, not in local memory.

    Attributes:
        device: the device with its number.
        registers: of a thread that plays a machine.
        local_bytes: local memory of such a thread.
        compile_seconds: what making the kernels took; little when CuPy's cache on disk had them.

    Raises:
        UsageError: there is no GPU, no driver, no CuPy, or the kernels do not compile.
    """

    def __init__(self, device: str, env_bytes: int, setup_bytes: int, *, shared_envs: bool = False):
        self._cupy = _require_gpu(device)
        import torch

        number = torch.device(device).index
        self._index: int = torch.cuda.current_device() if number is None else number
        self.device = torch.device("cuda", self._index)
        options = [*COMPILE_OPTIONS, f"-DCONSOLE_ENV_BYTES={env_bytes}"]
        options += [f"-DCONSOLE_SETUP_BYTES={setup_bytes}"]
        options += ["-DCONSOLE_SHARED_ENVS"] * shared_envs
        # An odd number of words of 64 bits, as kernel.cu has it.
        self._shared_each = (env_bytes // 8 | 1) * 8 if shared_envs else 0
        begun = time.perf_counter()
        try:
            with self._cupy.cuda.Device(self._index):
                module = self._cupy.RawModule(code=kernel_source(), options=tuple(options))
                self._play = module.get_function("play_kernel")
                self._observe = module.get_function("observe_kernel")
                self.registers = int(self._play.num_regs)
                self.local_bytes = int(self._play.local_size_bytes)
                if shared_envs:
                    self._play.max_dynamic_shared_size_bytes = self._shared_bytes(WARP)
        except Exception as error:  # CuPy's, NVRTC's and the driver's have no class in common
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise UsageError(
                f"the console's kernels cannot be compiled for {device}: {reason}; write "
                "\"pip install -U 'eightbit[gpu]'\", and update the GPU's driver if that is not it."
            ) from error
        self.compile_seconds = time.perf_counter() - begun
        _log.info(
            "the console's kernels took %.1f s to compile or load for %s; CuPy keeps them on disk",
            self.compile_seconds,
            torch.cuda.get_device_name(self.device),
        )

    def resident_warps(self, lanes: int) -> int:
        """Warps of `lanes` machines that the device holds at once."""
        import torch

        with self._cupy.cuda.Device(self._index):
            blocks = self._cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor(
                self._play.kernel.ptr, PLAY_THREADS, self._shared_bytes(lanes)
            )
        facts = torch.cuda.get_device_properties(self.device)
        return int(facts.multi_processor_count * blocks * (PLAY_THREADS // WARP))

    def play(self, blocks: int, lanes: int, arguments: tuple[int, ...]) -> None:
        """Starts the kernel of the machines: batch, work, game, actions, mask, seeds, results."""
        self._launch(self._play, blocks, PLAY_THREADS, arguments, self._shared_bytes(lanes))

    def observe(self, blocks: int, arguments: tuple[int, ...]) -> None:
        """Starts the kernel of the pictures: batch, observations."""
        self._launch(self._observe, blocks, PICTURE_THREADS, arguments, 0)

    def wait(self) -> None:
        """Waits until all that was started is done."""
        import torch

        torch.cuda.synchronize(self.device)

    def _shared_bytes(self, lanes: int) -> int:
        return self._shared_each * lanes * (PLAY_THREADS // WARP)

    def _launch(
        self, kernel: Any, blocks: int, threads: int, arguments: tuple[int, ...], shared: int
    ) -> None:
        import torch

        stream = _TorchStream(torch.cuda.current_stream(self.device).cuda_stream)
        words = tuple(np.int64(value) for value in arguments)
        with (
            self._cupy.cuda.Device(self._index),
            self._cupy.cuda.Stream.from_external(stream),
        ):
            kernel((blocks,), (threads,), words, shared_mem=shared)


class _TorchStream:
    """torch's stream in the form that CuPy takes."""

    def __init__(self, handle: int):
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def _require_gpu(device: str) -> Any:
    """Returns the module cupy; raises UsageError when something that a GPU needs is missing."""
    reason = _missing(device)
    if reason:
        raise UsageError(
            f"device {device!r} cannot play games: {reason}; write \"pip install 'eightbit[gpu]'\" "
            "on a machine with an NVIDIA GPU and its driver, or give device='cpu'."
        )
    import cupy

    return cupy


def _missing(device: str) -> str:
    """What stands in the way of that device; "" for nothing."""
    import torch

    if torch.version.cuda is None:
        return "this PyTorch was built without CUDA"
    if not torch.cuda.is_available():
        return "PyTorch finds no GPU or no driver"
    index = torch.device(device).index or 0
    if index >= torch.cuda.device_count():
        return f"there are {torch.cuda.device_count()} GPUs, numbered from 0"
    if find_spec("cupy") is None:
        return "CuPy is not installed"
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # ImportError of its libraries, or CUDARuntimeError
        return "CuPy does not work here: " + (str(error).strip().partition("\n")[0] or "no reason")
    if not hasattr(cupy.cuda.Stream, "from_external"):
        return f"CuPy {cupy.__version__} is too old, 14 is needed"
    return ""
