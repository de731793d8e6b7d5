"""A run that is killed, or whose disk is full, loses nothing that its last checkpoint holds."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from eightbit.errors import RunFolderError, TrainingError
from eightbit.train import checkpoints
from eightbit.train.checkpoints import Checkpoints, load_state, save_state
from eightbit.train.logs import CsvLog
from eightbit.train.runs import RunFolder


def files_of(folder: Path) -> dict[str, str]:
    """The contents of the files in a folder, by name."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def whole_checkpoints(run: Path) -> dict[str, dict[str, str]]:
    found = Checkpoints(run / "checkpoints")
    best = [found.best()] if found.best() else []
    return {one.folder.name: files_of(one.folder) for one in [*found.steps(), *best]}


@contextmanager
def at_every_disk_operation(monkeypatch, look):
    """Calls `look` before everything that a process does to its files, and within long writes."""

    def watched(function):
        def call(*args, **kwargs):
            look()
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("replace", "fsync", "unlink", "rmdir", "mkdir"):
            patch.setattr(os, name, watched(getattr(os, name)))
        patch.setattr(checkpoints, "_CHUNK", 1 << 18)
        in_parts = checkpoints._bytes_of

        def parts(array):
            for part in in_parts(array):
                look()
                yield part

        patch.setattr(checkpoints, "_bytes_of", parts)
        yield
    look()


def test_at_every_moment_of_saving_the_disk_holds_whole_checkpoints(train, run_folder, monkeypatch):
    """What a process sees that starts after this one was killed, before each thing it does."""
    before, seen = whole_checkpoints(run_folder), []
    old_model = (run_folder / "model.safetensors").read_bytes()
    models = set()

    def look():
        seen.append(whole_checkpoints(run_folder))
        models.add((run_folder / "model.safetensors").read_bytes())
        RunFolder.open(run_folder)

    with at_every_disk_operation(monkeypatch, look):
        assert train("--resume", run_folder, "--frames", 320).code == 0
    after = whole_checkpoints(run_folder)
    assert [name for name in before if name.startswith("step")] == [
        "step-000000000240",
        "step-000000000280",
    ]
    assert [name for name in after if name.startswith("step")] == [
        "step-000000000280",
        "step-000000000320",
    ]
    assert len(seen) > 30 and models == {old_model, (run_folder / "model.safetensors").read_bytes()}
    known = {**before, **after}
    for moment in seen:
        steps = sorted(name for name in moment if name.startswith("step"))
        assert len(steps) >= 2 and "step-000000000280" in steps
        assert all(moment[name] == known[name] for name in moment)
        assert any(name.startswith("best") for name in moment)


KILLED = """
import os, signal, sys
import torch
from eightbit import cli
from eightbit.train import agents, checkpoints, session

torch.optim.Adam([torch.zeros(1)])  # loads much, here once for all children
session.draw_run = lambda *_: None

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def kill_in(name):
    plain = checkpoints.write_atomically
    def write_atomically(path, fill):
        def fill_halfway(file):
            class Half:
                def write(self, part):
                    if path.name == name and file.tell() > 100_000:
                        file.flush()
                        die()
                    return file.write(part)
            fill(Half())
        plain(path, fill_halfway)
    checkpoints.write_atomically = write_atomically
    checkpoints._CHUNK = 1 << 14

def kill_before_rename(name):
    replace = os.replace
    def rename(source, target):
        if os.path.basename(target).startswith(name):
            die()
        return replace(source, target)
    os.replace = rename

def kill_between():
    agents.LOG_SECONDS = 0.0
    plain = agents.Reporter.progress
    def progress(self, now, *rest):
        plain(self, now, *rest)
        if now.agent_steps >= 308:
            die()
    agents.Reporter.progress = progress

points = {
    "replay": lambda: kill_in("replay.safetensors"),
    "state": lambda: kill_in("state.safetensors"),
    "rename": lambda: kill_before_rename("step-"),
    "removal": lambda: kill_before_rename(".old-step-"),
    "between": kill_between,
}
for point in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        points[point]()
        run = os.path.join(sys.argv[1], point)
        os._exit(cli.main(["train", "--resume", run, "--frames", "320"]))
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL, point
"""


@pytest.fixture(scope="module")
def killed_runs(finished_run, tmp_path_factory):
    """Copies of the finished run whose processes were killed on the way to step 320; and one not.

    Each point of the kill with the last step that had been saved by then.
    """
    folder = tmp_path_factory.mktemp("killed")
    points = {"replay": 280, "state": 280, "rename": 280, "removal": 320, "between": 280}
    for point in [*points, "unharmed"]:
        shutil.copytree(finished_run, folder / point)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED, folder, *points],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, points


def test_kill_9_leaves_a_whole_checkpoint_from_which_the_run_goes_on(train, killed_runs):
    """In the middle of two files, around the renames, and between checkpoints."""
    folder, points = killed_runs
    assert train("--resume", folder / "unharmed", "--frames", 324).code == 0
    wanted = (folder / "unharmed" / "model.safetensors").read_bytes()
    games = (folder / "unharmed" / "episodes.csv").read_text().splitlines()
    for point, step in points.items():
        run = folder / point
        left = {path.name for path in (run / "checkpoints").iterdir()}
        assert (".tmp-step-000000000320" in left) == (point in ("replay", "state", "rename"))
        assert "step-000000000240" in left
        checkpoint = RunFolder.open(run).checkpoints.steps()[-1]
        assert checkpoint.step == step
        assert checkpoint.load_replay()["time"] * 4 == step
        assert checkpoint.load_state()["agent"]["num_timesteps"] == step
        answer = train("--resume", run, "--frames", 324)
        assert f"going on from step {step}" in answer.out
        assert (run / "model.safetensors").read_bytes() == wanted, point
        left = {path.name for path in (run / "checkpoints").iterdir()}
        assert not [name for name in left if name.startswith(".")], point
        # The log was cut back to the checkpoint, so that no game is counted twice.
        lines = (run / "episodes.csv").read_text().splitlines()
        assert [line.split(",")[1:] for line in lines] == [line.split(",")[1:] for line in games]


# ------------------------------------------------------------------------------ damaged files


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(-100, os.SEEK_END)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))


def change_a_counter(path: Path) -> None:
    content = path.read_bytes()
    assert content.count(b'num_timesteps\\": 280') == 1
    path.write_bytes(content.replace(b'num_timesteps\\": 280', b'num_timesteps\\": 290'))


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("state", cut_short),
        ("state", flip_a_bit),
        ("state", change_a_counter),
        ("state", Path.unlink),
        ("replay", cut_short),
        ("replay", flip_a_bit),
        ("replay", empty),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(train, run_folder, name, harm):
    harm(run_folder / "checkpoints" / "step-000000000280" / f"{name}.safetensors")
    answer = train("--resume", run_folder, "--frames", 284)
    assert answer.code == 0
    assert "Taking the checkpoint before it." in answer.out
    assert "going on from step 240" in answer.out
    left = sorted(path.name for path in (run_folder / "checkpoints").glob("*step*"))
    assert left == ["damaged-step-000000000280", "step-000000000240", "step-000000000284"]


def test_without_a_whole_checkpoint_a_run_says_what_is_wrong(train, run_folder):
    for checkpoint in RunFolder.open(run_folder).checkpoints.steps():
        cut_short(checkpoint.state)
    answer = train("--resume", run_folder, "--frames", 400)
    assert answer.code == 1 and "has no whole checkpoint" in answer.err
    assert len(list((run_folder / "checkpoints").glob("damaged-*"))) == 2


def test_a_damaged_best_checkpoint_does_not_keep_a_run_from_going_on(train, run_folder):
    best = RunFolder.open(run_folder).checkpoints.best()
    assert best is not None
    cut_short(best.state)
    answer = train("--resume", run_folder, "--frames", 320)
    assert answer.code == 0 and "Looking for another best one." in answer.out
    new = RunFolder.open(run_folder).checkpoints.best()
    assert new is not None and new.step == 320


# ------------------------------------------------------------------------------ the disk is full


class FullDisk:
    """Takes so many bytes of state files, then no more."""

    def __init__(self, monkeypatch, room):
        self.room = room
        in_parts = checkpoints._bytes_of

        def parts(array):
            for part in in_parts(array):
                self.room -= len(part)
                if self.room < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                yield part

        monkeypatch.setattr(checkpoints, "_bytes_of", parts)


@pytest.mark.parametrize("room", [0, 4_000_000])
def test_a_full_disk_stops_the_run_and_keeps_its_checkpoints(train, run_folder, monkeypatch, room):
    before = whole_checkpoints(run_folder)
    FullDisk(monkeypatch, room)
    answer = train("--resume", run_folder, "--frames", 320)
    assert answer.code == 1
    assert answer.err == (
        f"eightbit: cannot write a checkpoint to {run_folder / 'checkpoints'}: the disk is full; "
        f"the last checkpoint is of step 280, to resume with 'eightbit train --resume {run_folder}'"
        ".\n"
    )
    assert whole_checkpoints(run_folder) == before
    assert not list((run_folder / "checkpoints").glob(".*"))
    monkeypatch.undo()
    assert train("--resume", run_folder, "--frames", 320).code == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 20 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", folder], capture_output=True
    )
    if made.returncode:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize("room", [0, 5_000, 1_000_000])
def test_a_disk_that_is_really_full_is_said_in_one_sentence(
    train, finished_run, small_disk, monkeypatch, room
):
    """Wherever the room ends: in the configuration or in one of a checkpoint's files."""
    run = Path(shutil.copytree(finished_run, small_disk / "run"))
    before = whole_checkpoints(run)
    disk = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(bytes(disk.f_bavail * disk.f_bsize - room))
    with monkeypatch.context() as patch:  # it was not full when the run began
        free = shutil.disk_usage(small_disk)._replace(free=1_000_000_000)
        patch.setattr(shutil, "disk_usage", lambda _: free)
        answer = train("--resume", run, "--frames", 320)
    assert answer.code == 1 and answer.err.count("\n") == 1
    assert "disk is full" in answer.err or "No space left on device" in answer.err
    assert whole_checkpoints(run) == before
    (small_disk / "filler").unlink()
    assert train("--resume", run, "--frames", 320).code == 0


def test_a_disk_that_refuses_the_logs_is_said_in_one_sentence(train, run_folder, monkeypatch):
    before = whole_checkpoints(run_folder)

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(CsvLog, "flush", refuse)
    answer = train("--resume", run_folder, "--frames", 320)
    assert answer.code == 1
    assert answer.err == (
        f"eightbit: cannot write to {run_folder}: No space left on device; the last checkpoint is "
        f"of step 280, to resume with 'eightbit train --resume {run_folder}'.\n"
    )
    assert whole_checkpoints(run_folder) == before


def test_a_run_that_cannot_keep_its_replay_memory_on_the_disk_says_so(train, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
    refused = train("catch", "--frames", 80, "--save-replay", "--out", tmp_path / "a")
    assert refused.code == 2 and "write --no-save-replay." in refused.err
    assert not (tmp_path / "a").exists()
    answer = train("catch", "--frames", 80, "--out", tmp_path / "a")
    assert answer.code == 0 and "the replay memory is not kept." in answer.out
    assert not list((tmp_path / "a").rglob("replay.safetensors"))


# ------------------------------------------------------------------------------ Checkpoints


def write(folder: Checkpoints, step: int, value: int = 0, best: bool = False) -> None:
    folder.save(
        step,
        {"value": value},
        replay=None,
        save_model=lambda path: path.write_bytes(b"weights"),
        best=best,
        metadata={"score": "1"},
    )


def test_the_last_two_checkpoints_and_the_best_are_kept(tmp_path):
    folder = Checkpoints(tmp_path / "checkpoints")
    for step in (100, 200, 300, 400):
        write(folder, step)
        if step in (100, 200):
            write(folder, step, best=True)
    names = sorted(path.name for path in folder.folder.iterdir())
    assert names == ["best-000000000200", "step-000000000300", "step-000000000400"]
    assert [folder.find(name).step for name in ("last", "best", "300")] == [400, 200, 300]
    with pytest.raises(RunFolderError, match="no checkpoint '100': it has 200, 300, 400"):
        folder.find("100")


@pytest.mark.parametrize("operation", range(12))
def test_a_checkpoint_that_replaces_one_of_its_step_never_leaves_none(
    tmp_path, monkeypatch, operation
):
    """A process that dies before its n-th operation: what then resumes finds the old or the new."""
    folder = Checkpoints(tmp_path / "checkpoints")
    write(folder, 100, value=1)
    count = [0]

    def die():
        count[0] += 1
        if count[0] > operation:
            raise KeyboardInterrupt  # and no further operation succeeds, as after a kill

    with pytest.raises(KeyboardInterrupt), at_every_disk_operation(monkeypatch, die):
        write(folder, 100, value=2)
        raise KeyboardInterrupt
    folder.clear_leftovers()
    (found,) = folder.steps()
    assert found.load_state()["value"] in (1, 2)
    assert [path.name for path in folder.folder.iterdir()] == ["step-000000000100"]


def test_a_refused_checkpoint_names_the_reason(tmp_path, monkeypatch):
    folder = Checkpoints(tmp_path / "checkpoints")
    FullDisk(monkeypatch, -1)
    write(folder, 100)  # a state without arrays takes no room
    with pytest.raises(TrainingError, match="the disk is full"):
        folder.save(200, {"x": checkpoints.np.ones(3)}, replay=None, save_model=lambda path: None)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"the disk refuses \(Not a directory\)"):
        write(Checkpoints(tmp_path / "file" / "checkpoints"), 100)


def test_a_state_file_holds_what_was_saved_and_nothing_is_pickled(tmp_path):
    import torch

    state = {
        "weights": {"a": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3), "b": torch.ones(0)},
        "numbers": [1, 2.5, None, True, "text", 2**100],
        "pair": (checkpoints.np.float64(0.1), checkpoints.np.arange(3, dtype=np_uint16())),
        7: "integer key",
    }
    save_state(tmp_path / "x.safetensors", state, metadata={"note": "n"})
    loaded = load_state(tmp_path / "x.safetensors")
    assert torch.equal(loaded["weights"]["a"], state["weights"]["a"])
    assert loaded["weights"]["b"].shape == (0,)
    assert loaded["numbers"] == state["numbers"] and loaded[7] == "integer key"
    assert isinstance(loaded["pair"], tuple) and type(loaded["pair"][0]).__name__ == "float64"
    assert loaded["pair"][1].dtype == np_uint16() and loaded["pair"][1].tolist() == [0, 1, 2]
    with pytest.raises(TypeError, match="cannot store /numbers/0: object"):
        save_state(tmp_path / "y.safetensors", {"numbers": [object()]})


def np_uint16():
    return checkpoints.np.dtype("uint16")
