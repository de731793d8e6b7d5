"""The GPU's kernels: they compile, and what they do, done by a CPU, equals the console's engine.

No GPU is needed but for the tests that are marked so: the bodies of the kernels are plain C++.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from eightbit.envs import EnvOptions, console, env_options, make_vec
from eightbit.envs.console import gpu_kernels
from eightbit.envs.console.cartridges import build_game
from eightbit.envs.console.gpu import ConsoleGpuVectorEnv
from eightbit.envs.console.gpu_batch import choose_lanes, warp_slots
from eightbit.envs.console.vector import ConsoleVectorEnv
from eightbit.errors import EightBitError, UsageError

NEXT, SAME, OFF = AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP, AutoresetMode.DISABLED
GAMES = ("pong", "breakout", "seaquest")
PICTURE_THREADS = 32

needs_console = pytest.mark.skipif(not console.is_built(), reason="the console was not compiled")

# kernel.cu's grids as loops, around the same functions. The headers take the paths of the GPU.
LOOPS = """
#include <cstddef>
#include "platform.h"
#undef CONSOLE_GPU
#define CONSOLE_GPU 1
#include "kernel_body.h"
using namespace console;
static_assert(offsetof(Setup, board) + offsetof(Board, rom) == 0 && offsetof(Board, shades) == 8,
              "gpu_batch.py puts the device's pointers there");
static_assert(CONSOLE_TABLE_DECODE == 1, "opcodes are looked up as on a GPU");

extern "C" void play(u32 blocks, u32 threads, const Batch* batch, i64 work, i64 game,
                     const i64* actions, const u8* mask, const i64* seeds, u8* results) {
  const Call call = {i32(work), i32(game), actions, mask, seeds, results};
  for (u32 block = 0; block < blocks; block++) {
    for (u32 thread = 0; thread < threads; thread++) {
      Env env;
      if (work == MAKE_READY) {
        const i32 index = i32(block * threads + thread);
        const i32 count = i32(START_COUNT) * batch->ready_noops;
        if (index < count) make_ready(*batch, i32(game), index, env);
        continue;
      }
      const i32 row = row_of_thread(*batch, block, thread, threads);
      if (row >= 0) play_row(*batch, call, row, env);
    }
  }
}
// Every second row has its threads in the opposite order: none may need what another has just done.
template <class Part>
void for_threads(i32 row, i32 threads, Part part) {
  for (i32 t = 0; t < threads; t++) part(row % 2 ? threads - 1 - t : t);
}
extern "C" void observe(i32 blocks, i32 threads, const Batch* batch, u8* observations) {
  for (i32 row = 0; row < blocks; row++) {
    for_threads(row, threads, [=](i32 t) { copy_ready_screens(*batch, row, t, threads); });
    for_threads(row, threads, [=](i32 t) { pool_row(*batch, row, t, threads); });
    for_threads(row, threads, [=](i32 t) { stack_row(*batch, row, observations, t, threads); });
  }
}
"""


class LoopKernels:
    """Runs the kernels' bodies on the CPU, thread after thread, over torch's CPU tensors."""

    device = torch.device("cpu")

    def __init__(self, library: ctypes.CDLL):
        self._library = library

    def resident_warps(self, lanes: int) -> int:
        return 2

    def play(self, blocks: int, lanes: int, arguments: tuple[int, ...]) -> None:
        words = [ctypes.c_int64(value) for value in arguments]
        self._library.play(blocks, gpu_kernels.PLAY_THREADS, *words)

    def observe(self, blocks: int, arguments: tuple[int, ...]) -> None:
        words = [ctypes.c_int64(value) for value in arguments]
        self._library.observe(blocks, PICTURE_THREADS, *words)

    def wait(self) -> None:
        pass


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> LoopKernels:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs g++ or clang++")
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "loops.cpp").write_text(LOOPS)
    headers = Path(console.__file__).parent
    command = [compiler, "-std=c++17", "-O1", "-fwrapv", "-ffp-contract=off", "-shared", "-fPIC"]
    command += ["-DCONSOLE_TABLE_DECODE=1", f"-I{headers}", "loops.cpp", "-o", "loops.so"]
    game = build_game("pong", EnvOptions())
    command += [f"-DCONSOLE_ENV_BYTES={console._console.env_bytes}"]
    command += [f"-DCONSOLE_SETUP_BYTES={len(game.setup_bytes())}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return LoopKernels(ctypes.CDLL(str(folder / "loops.so")))


def pair(
    kernels: Any, games: Any, rows: int, mode: AutoresetMode = NEXT, lanes: int = 0, **changes: Any
) -> Any:
    """The same games on the CPU's engine and on the kernels; None for a GPU's."""
    options = env_options("mnih2015", training=True, num_threads=1, **changes)
    return (
        ConsoleVectorEnv(games, rows, options, mode),
        ConsoleGpuVectorEnv(games, rows, options, mode, kernels=kernels, lanes=lanes),
    )


def assert_same(cpu: Any, gpu: Any, where: str) -> None:
    """All that the engine returns, the kernels return with the same types, shapes and values."""
    if isinstance(cpu, dict):
        assert set(cpu) <= set(gpu), where
        for name, value in cpu.items():
            assert_same(value, gpu[name], f"{where}, {name}")
    elif isinstance(cpu, tuple):
        assert len(cpu) == len(gpu), where
        for number, value in enumerate(cpu):
            assert_same(value, gpu[number], f"{where}, {number}")
    elif cpu.dtype == object:  # final observations
        for row, value in enumerate(cpu):
            if value is not None:
                assert_same(value, gpu[row], f"{where}, row {row}")
    else:
        assert isinstance(gpu, torch.Tensor), where
        values = gpu.cpu().numpy()
        assert cpu.dtype == values.dtype and cpu.shape == values.shape, where
        assert np.array_equal(cpu, values), where


def play_both(cpu: Any, gpu: Any, steps: int, seed: int = 3) -> int:
    """Plays random actions on both; returns how many episodes ended."""
    assert_same(cpu.reset(seed=seed), gpu.reset(seed=seed), "reset")
    rng = np.random.default_rng(seed)
    ended = np.zeros(cpu.num_envs, np.bool_)
    ends = 0
    for step in range(steps):
        if cpu.autoreset_mode == OFF and ended.any():
            expected = cpu.reset(options={"reset_mask": ended})
            mask = torch.from_numpy(ended).to(gpu.device)
            assert_same(expected, gpu.reset(options={"reset_mask": mask}), f"reset {step}")
        actions = rng.integers(0, cpu.single_action_space.n, cpu.num_envs)
        given = torch.from_numpy(actions).to(gpu.device) if step % 2 else actions
        expected = cpu.step(actions)
        assert_same(expected, gpu.step(given), f"step {step}")
        ended = expected[2] | expected[3]
        ends += int(ended.sum())
    gpu.check()
    return ends


@needs_console
@pytest.mark.parametrize(
    ("mode", "changes"),
    [
        (NEXT, {}),
        (SAME, {}),
        (OFF, {"sticky": 0.25, "fire": False}),
    ],
)
def test_the_kernels_bodies_equal_the_engine(loops, mode, changes):
    # No-ops are few: their begun episodes are made one after the other here.
    options = {"noop_max": 3, "max_frames": 100, "full_action_set": True} | changes
    cpu, gpu = pair(loops, GAMES, 6, mode, **options)
    assert gpu.lanes == 4  # warps that are not full, too
    assert play_both(cpu, gpu, 60) >= 12


@needs_console
@pytest.mark.parametrize(
    ("game", "changes"),
    [
        ("breakout", {"picture": "rgb"}),  # real ends
        ("pong", {"picture": "rgb", "screen_size": 0, "frame_stack": 1, "max_pool": False}),
        ("space_invaders", {"picture": "objects", "screen_size": 0, "max_frames": 100}),
        ("pitfall2", {"picture": "palette", "screen_size": 0, "max_frames": 100}),
        ("pong", {"screen_size": 37, "frame_skip": 1, "max_frames": 40}),
    ],
)
def test_all_pictures_equal_the_engine_s(loops, game, changes):
    cpu, gpu = pair(loops, game, 3, noop_max=1, **changes)
    ends = play_both(cpu, gpu, 180 if game == "breakout" else 50)
    assert ends > 0 or "max_frames" not in changes


@needs_console
def test_beginnings_made_ready_are_those_that_are_played(loops, monkeypatch):
    monkeypatch.setattr("eightbit.envs.console.gpu_batch._READY_LIMIT", 0)
    cpu, gpu = pair(loops, "breakout", 2, noop_max=20, max_frames=40)
    assert gpu.memory["all games"] < 10_000_000
    assert play_both(cpu, gpu, 60) == 10


@needs_console
def test_a_state_goes_from_the_cpu_to_the_gpu_and_back(loops):
    cpu, gpu = pair(loops, ["pong", "seaquest"], 4, noop_max=2, full_action_set=True)
    play_both(cpu, gpu, 8)
    state = gpu.get_state()
    for name, value in cpu.get_state().items():
        assert np.array_equal(value, state[name]), name
    assert all(np.array_equal(cpu.pieces(1)[k], v) for k, v in gpu.pieces(1).items())
    expected = [cpu.step(np.full(4, action)) for action in range(6)]
    gpu.reset(seed=99)
    before = gpu.set_state(state)
    assert before.shape == gpu.observation_space.shape
    for number, result in enumerate(expected):
        assert_same(result, gpu.step(np.full(4, number)), f"step {number}")
    assert_same(
        cpu.set_row_state(3, gpu.row_state(2)), gpu.set_row_state(3, gpu.row_state(2)), "row"
    )
    with pytest.raises(EightBitError, match="no state of these games: it is of another game"):
        gpu.set_row_state(0, gpu.row_state(2))
    with pytest.raises(EightBitError, match="of 4 environments"):
        pair(loops, "pong", 2, noop_max=2)[1].set_state(state)


@needs_console
def test_resets_of_some_rows_leave_the_others_and_follow_their_seeds(loops):
    cpu, gpu = pair(loops, "breakout", 3, noop_max=2)
    with pytest.raises(UsageError, match="reset all environments once"):
        gpu.reset(options={"reset_mask": torch.tensor([True, False, False])})
    play_both(cpu, gpu, 5)
    mask = np.array([True, False, True])
    for seed in (None, [7, None, None]):
        options = {"reset_mask": mask}
        both = [env.reset(seed=seed, options=options) for env in (cpu, gpu)]
        assert_same(*both, f"seed {seed}")
    for name, made in (("dtype", torch.ones(3)), ("shape", torch.ones(2, dtype=torch.bool))):
        with pytest.raises(UsageError, match="bool tensor of shape"):
            gpu.reset(options={"reset_mask": made})
        assert name


@needs_console
def test_mistakes_in_tensors_are_told_later_and_harm_nobody(loops):
    cpu, gpu = pair(loops, "pong", 2, OFF, noop_max=1, max_frames=8)
    gpu.reset(seed=1)
    with pytest.raises(UsageError, match=r"actions must be 0 to 5"):
        gpu.step(np.array([0, 6]))
    for wrong in (torch.zeros(2), torch.zeros(3, dtype=torch.int64), np.zeros(2)):
        with pytest.raises(UsageError, match=r"give 2 integers"):
            gpu.step(wrong)
    gpu.step(torch.tensor([-5, 99]))
    _, _, _, truncated, infos = gpu.step(torch.tensor([0, 5]))
    assert truncated.all() and infos["executed_action"].tolist() == [0, 5]
    last, rewards, *_ = gpu.step(torch.tensor([1, 1]))
    assert not rewards.any() and torch.equal(last, gpu.step(torch.tensor([2, 2]))[0])
    with pytest.raises(UsageError, match=r"none of the game's.*stepped after its end.*0 to 5"):
        gpu.reset(seed=2)
    gpu.reset(seed=2)
    cpu.reset(seed=2)
    assert_same(cpu.step(np.array([2, 3])), gpu.step(torch.tensor([2, 3])), "afterwards")


@needs_console
def test_results_are_new_tensors_and_same_step_shows_the_last_observation(loops):
    _, gpu = pair(loops, "pong", 2, SAME, noop_max=1, max_frames=12)
    gpu.reset(seed=1)
    first = gpu.step(np.array([0, 1]))
    copies = [value.clone() for value in first[:4]]
    gpu.step(np.array([2, 3]))
    assert all(torch.equal(a, b) for a, b in zip(copies, first[:4], strict=True))
    observations, _, _, truncated, infos = gpu.step(np.array([2, 3]))
    assert truncated.all() and infos["_final_obs"].all()
    assert not observations[:, :-1].any() and infos["final_obs"][:, :-1].any(dim=(2, 3)).all()


@needs_console
def test_sending_and_closing(loops):
    cpu, gpu = pair(loops, "pong", 2, noop_max=0)
    with pytest.raises(UsageError, match=r"step before reset\(\)"):
        gpu.step(np.array([0, 0]))
    cpu.reset(seed=4), gpu.reset(seed=4)
    gpu.send(np.array([2, 3]))
    for call in (lambda: gpu.send([0, 0]), lambda: gpu.step([0, 0]), gpu.reset):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(EightBitError, match="a step is under way"):
        gpu.get_state()
    assert_same(cpu.step(np.array([2, 3])), gpu.recv(), "sent")
    with pytest.raises(UsageError, match=r"recv\(\) without send\(\)"):
        gpu.recv()
    gpu.close()
    with pytest.raises(UsageError, match="is closed"):
        gpu.step(np.array([0, 0]))


@needs_console
def test_memory_is_told_by_what_it_is_for(loops):
    _, gpu = pair(loops, "pong", 2, noop_max=0)
    screen = 210 * 160
    ready = 75 * (console._console.env_bytes + 2 * screen)
    memory = gpu.memory
    assert memory["machine"] == console._console.env_bytes
    assert memory["screens"] == 4 * screen  # two, the kept one, the one before an unfinished frame
    assert memory["frame stack"] == 4 * 84 * 84
    assert 2 * ready < memory["all games"] < 2.1 * ready


def test_a_warp_holds_machines_of_one_game():
    slots = warp_slots(np.array([0, 1, 0, 1, 1, 0, 0]), 4)
    assert slots.dtype == np.int32
    assert slots.tolist() == [0, 2, 5, 6, 1, 3, 4, -1]
    assert warp_slots(np.zeros(3, np.int64), 1).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("rows", "warps", "lanes"), [(100, 100, 1), (101, 100, 2), (800, 100, 8), (4000, 100, 32)]
)
def test_so_few_machines_share_a_warp_as_stay_resident(rows, warps, lanes):
    assert choose_lanes(rows, lambda _: warps) == lanes


@needs_console
def test_options_that_no_gpu_has_are_refused():
    with pytest.raises(UsageError, match="rng 'ale' is for the CPU only"):
        make_vec("pong", 2, device="cuda", rng="ale")
    with pytest.raises(UsageError, match="lanes is 3; give 1, 2, 4, 8, 16 or 32"):
        ConsoleGpuVectorEnv("pong", 2, env_options("zoo", training=True), lanes=3)


@pytest.mark.gpu
@needs_console
@pytest.mark.parametrize("mode", [NEXT, SAME, OFF])
@pytest.mark.parametrize("lanes", [0, 4, 32])
def test_a_gpu_equals_the_engine(mode, lanes):
    options = {"max_frames": 400, "full_action_set": True, "sticky": 0.25 if lanes == 4 else 0.0}
    cpu, gpu = pair(None, GAMES, 48, mode, lanes=lanes, **options)
    assert play_both(cpu, gpu, 250) >= 96
    assert gpu.step(np.zeros(48, np.int64))[0].is_cuda


@pytest.mark.gpu
@needs_console
@pytest.mark.parametrize("picture", ["rgb", "palette", "objects"])
def test_a_gpu_makes_the_engine_s_pictures(picture):
    size = 84 if picture == "rgb" else 0
    cpu, gpu = pair(None, "seaquest", 16, picture=picture, screen_size=size)
    play_both(cpu, gpu, 100)


@pytest.mark.gpu
@needs_console
def test_a_graph_holds_a_step():
    cpu, gpu = pair(None, "breakout", 64)
    actions = torch.zeros(64, dtype=torch.int64, device=gpu.device)
    for env in (cpu, gpu):
        env.reset(seed=5)
    assert_same(cpu.step(np.zeros(64, np.int64)), gpu.step(actions), "before")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = gpu.step(actions)
    rng = np.random.default_rng(0)
    for step in range(100):
        chosen = rng.integers(0, 4, 64)
        actions.copy_(torch.from_numpy(chosen))
        graph.replay()
        assert_same(cpu.step(chosen), result, f"replay {step}")
    gpu.check()
