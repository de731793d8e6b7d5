"""The kernels' source compiles for GPUs, and CuPy is asked for the right things."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from eightbit.envs import EnvOptions, console, make_vec
from eightbit.envs.console import gpu_kernels
from eightbit.envs.console.cartridges import build_game
from eightbit.envs.console.gpu_kernels import COMPILE_OPTIONS, CudaKernels, kernel_source
from eightbit.errors import UsageError

needs_console = pytest.mark.skipif(not console.is_built(), reason="the console was not compiled")


def test_the_source_holds_every_header_once_and_needs_no_file():
    source = kernel_source()
    assert not re.search(r'#include "|#pragma once', source)
    for name in ("platform.h", "processor.h", "rules.h", "kernel_body.h"):
        assert source.count(f'#line 1 "{name}"') == 1


def nvrtc() -> ctypes.CDLL:
    """NVRTC of the wheel nvidia-cuda-nvrtc-cu12 (or cu13)."""
    found = importlib.util.find_spec("nvidia")
    folders = [Path(p) for p in found.submodule_search_locations or []] if found else []
    libraries = [p for f in folders for p in f.glob("*/lib/libnvrtc.so.1[0-9]")]
    if not libraries:
        pytest.skip("needs NVRTC: pip install nvidia-cuda-nvrtc-cu12")
    return ctypes.CDLL(str(libraries[0]))


def compile_kernels(architecture: str, *more: str) -> tuple[int, str]:
    """Compiles kernel.cu as CuPy does; returns NVRTC's code and its log."""
    library, program = nvrtc(), ctypes.c_void_p()
    code = kernel_source().encode()
    assert library.nvrtcCreateProgram(ctypes.byref(program), code, b"kernel.cu", 0, None, None) == 0
    texts = [f"--gpu-architecture={architecture}", *COMPILE_OPTIONS, "-ftz=true", *more]
    options = (ctypes.c_char_p * len(texts))(*(text.encode() for text in texts))
    result = library.nvrtcCompileProgram(program, len(texts), options)
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return result, log.value.decode()


@pytest.mark.parametrize(
    ("architecture", "more"),
    [
        ("sm_90", ()),
        pytest.param("sm_75", (), marks=pytest.mark.long),
        pytest.param("sm_90", ("-DCONSOLE_SHARED_ENVS",), marks=pytest.mark.long),
    ],
)
def test_the_kernels_compile_for_a_gpu(architecture, more, capsys):
    sizes = ()
    if console.is_built():
        setup_bytes = len(build_game("pong", EnvOptions()).setup_bytes())
        sizes = (f"-DCONSOLE_ENV_BYTES={console._console.env_bytes}",)
        sizes += (f"-DCONSOLE_SETUP_BYTES={setup_bytes}",)
    result, log = compile_kernels(architecture, *sizes, *more, "--ptxas-options=-v")
    assert result == 0, log
    kernels = re.findall(r"entry function '(\w+)'", log)
    assert sorted(kernels) == ["observe_kernel", "play_kernel"]
    used = [int(count) for count in re.findall(r"Used (\d+) registers", log)]
    stack = [int(count) for count in re.findall(r"(\d+) bytes cumulative stack", log)]
    # The instructions' loop keeps what it works with in registers.
    loop = re.search(r"CoreILb1EE3run\w+\n[^\n]*?(\d+) bytes spill stores", log)
    with capsys.disabled():
        print(f"\n{architecture} {more}: registers {used}, stack {stack}, ", end="")
        print(f"spills of the loop {loop[1] if loop else 'unknown'} bytes")
    assert max(used) <= 128 and max(stack) <= 2048


# What is missing, and the sentence that says so.
MISSING = {
    "cuda": ({"version": None}, "this PyTorch was built without CUDA"),
    "driver": ({"available": False}, "PyTorch finds no GPU or no driver"),
    "number": ({"count": 1}, "there are 1 GPUs, numbered from 0"),
    "cupy": ({"cupy": None}, "CuPy is not installed"),
    "broken cupy": (
        {"cupy": SimpleNamespace(cuda=None)},
        "CuPy does not work here: 'NoneType' object has no attribute 'runtime'",
    ),
    "old cupy": (
        {
            "cupy": SimpleNamespace(
                __version__="13.6.0",
                cuda=SimpleNamespace(
                    runtime=SimpleNamespace(getDeviceCount=lambda: 1), Stream=object
                ),
            )
        },
        "CuPy 13.6.0 is too old, 14 is needed",
    ),
}


def pretend(monkeypatch: pytest.MonkeyPatch, version="12.8", available=True, count=2, cupy=None):
    """Makes torch and the import of CuPy say these things."""
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(gpu_kernels, "find_spec", lambda name: cupy and "found")
    monkeypatch.setitem(sys.modules, "cupy", cupy)


@needs_console
@pytest.mark.parametrize("missing", MISSING)
def test_without_a_gpu_one_sentence_says_what_is_missing(missing, monkeypatch):
    facts, reason = MISSING[missing]
    pretend(monkeypatch, **facts)
    expected = (
        f"device 'cuda:1' cannot play games: {reason}; write \"pip install 'eightbit[gpu]'\" "
        "on a machine with an NVIDIA GPU and its driver, or give device='cpu'."
    )
    with pytest.raises(UsageError) as error:
        make_vec("pong", 2, device="cuda:1")
    assert str(error.value) == expected


class FakeCupy:
    """Notes what it is asked to compile and to launch."""

    __version__ = "14.0.0"

    def __init__(self, fails: str = ""):
        self.fails, self.compiled, self.launched = fails, [], []
        nothing = contextlib.nullcontext
        driver = SimpleNamespace(occupancyMaxActiveBlocksPerMultiprocessor=self.occupancy)
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(getDeviceCount=lambda: 1),
            driver=driver,
            Device=lambda index: nothing(),
            Stream=SimpleNamespace(from_external=lambda stream: self.enter(stream)),
        )

    def occupancy(self, function: int, threads: int, shared: int) -> int:
        return 10 if (function, threads, shared) == (77, 64, 0) else 4

    def enter(self, stream: Any) -> Any:
        self.stream = stream.__cuda_stream__()
        return contextlib.nullcontext()

    def RawModule(self, code: str, options: tuple[str, ...]) -> Any:
        if self.fails:
            raise RuntimeError(self.fails)
        self.compiled.append((code, options))
        return SimpleNamespace(get_function=lambda name: FakeKernel(self, name))


class FakeKernel:
    num_regs, local_size_bytes = 96, 1024
    kernel = SimpleNamespace(ptr=77)

    def __init__(self, cupy: FakeCupy, name: str):
        self.cupy, self.name = cupy, name

    def __call__(self, grid: Any, block: Any, arguments: Any, shared_mem: int) -> None:
        assert all(type(value) is np.int64 for value in arguments)
        self.cupy.launched.append((self.name, grid, block, tuple(map(int, arguments)), shared_mem))


def cuda_kernels(monkeypatch: pytest.MonkeyPatch, cupy: FakeCupy, **options: bool) -> CudaKernels:
    pretend(monkeypatch, cupy=cupy)
    facts = SimpleNamespace(multi_processor_count=132)
    for name, value in {
        "current_device": lambda: 0,
        "current_stream": lambda device: SimpleNamespace(cuda_stream=4711),
        "get_device_name": lambda device: "a GPU",
        "get_device_properties": lambda device: facts,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return CudaKernels("cuda", 808, 160, **options)


def test_kernels_are_compiled_once_and_launched_on_the_stream_of_torch(monkeypatch, caplog):
    cupy = FakeCupy()
    with caplog.at_level("INFO"):
        kernels = cuda_kernels(monkeypatch, cupy)
    assert re.search(r"kernels took 0.0 s to compile or load for a GPU", caplog.text)
    [(code, options)] = cupy.compiled
    assert code == kernel_source()
    assert options == (*COMPILE_OPTIONS, "-DCONSOLE_ENV_BYTES=808", "-DCONSOLE_SETUP_BYTES=160")
    assert kernels.device == torch.device("cuda", 0)
    assert kernels.resident_warps(32) == 132 * 10 * 2
    kernels.play(7, 8, (1, 2, 3))
    kernels.observe(9, (4, 5))
    assert cupy.stream == (0, 4711)
    play, observe = ("play_kernel", (7,), (64,), (1, 2, 3), 0), ("observe_kernel", (9,), (256,))
    assert cupy.launched == [play, (*observe, (4, 5), 0)]


def test_machines_in_shared_memory_get_it_by_lanes(monkeypatch):
    cupy = FakeCupy()
    kernels = cuda_kernels(monkeypatch, cupy, shared_envs=True)
    assert cupy.compiled[0][1][-1] == "-DCONSOLE_SHARED_ENVS"
    kernels.play(1, 16, ())
    assert cupy.launched[0][-1] == 2 * 16 * 808
    assert kernels.resident_warps(16) == 132 * 4 * 2


def test_kernels_that_do_not_compile_are_told_in_one_sentence(monkeypatch):
    with pytest.raises(
        UsageError, match=r"compiled for cuda: no libnvrtc; write .*\[gpu\]'\""
    ) as e:
        cuda_kernels(monkeypatch, FakeCupy("no libnvrtc\nand more"))
    assert "\n" not in str(e.value)


def test_the_benchmark_says_that_there_is_no_gpu(monkeypatch, capsys, repository):
    pretend(monkeypatch, available=False)
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(repository / "benchmarks" / "gpu.py"), run_name="__main__")
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("nothing measured: device 'cuda' cannot play games: PyTorch finds no")
