"""The wheel: what is in it, and that it works where nothing of the checkout is on the path."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NOT_SHIPPED = re.compile(r"^eightbit/(tests|benchmarks|docs|runs|build|setup\.py|conftest\.py)")


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Runs a command and returns what it prints; shows its error output where it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", "PYTHONWARNINGS": "ignore", **env},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def source_files() -> list[Path]:
    """What a checkout holds, tracked or about to be, without what git ignores."""
    skipped = {".git", ".venv", "runs", "build", "dist", "__pycache__", "eightbit.egg-info"}
    skipped |= {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
    found = []
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if name not in skipped]
        found += [Path(folder, name) for name in names if not name.endswith((".pyc", ".so"))]
    return found


def build_wheel(copy: Path, out: Path, **env: str) -> Path:
    """The wheel, built from a copy of the sources, so that the checkout stays as it is."""
    for path in source_files():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", out, cwd=copy, **env)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(
        tmp_path_factory.mktemp("source") / "eightbit", tmp_path_factory.mktemp("wheel")
    )


def test_the_list_of_packages_is_complete() -> None:
    folders = {path.parent for path in source_files() if path.name == "__init__.py"}
    names = {".".join(("eightbit", *folder.relative_to(ROOT).parts)) for folder in folders}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == names


def test_mypy_reads_every_package() -> None:
    checked = set(PYPROJECT["tool"]["mypy"]["packages"])
    packages = set(PYPROJECT["tool"]["setuptools"]["packages"])
    # A package's own packages are read with it.
    assert checked == {name for name in packages if name.count(".") == 1}


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    strangers = [
        name
        for name in names
        if NOT_SHIPPED.match(name) or not name.startswith(("eightbit/", "eightbit-"))
    ]
    assert not strangers
    in_root = {name for name in names if name.count("/") == 1 and name.startswith("eightbit/")}
    assert all(name.endswith((".py", "/py.typed")) for name in in_root), in_root
    licences = [name for name in names if name.endswith("LICENSE")]
    assert len(licences) == 1


def test_the_wheel_holds_every_module_and_data_file_of_the_rooms(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    rooms = PYPROJECT["tool"]["mypy"]["packages"]
    wanted = {
        "eightbit/" + path.relative_to(ROOT).as_posix()
        for path in source_files()
        if f"eightbit.{path.relative_to(ROOT).parts[0]}" in rooms
        and path.suffix in (".py", ".pyi", ".csv", ".cu", ".h", ".json", ".safetensors")
    }
    assert wanted <= shipped, sorted(wanted - shipped)


def test_the_wheel_needs_what_the_project_says(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
    text = archive.read(metadata).decode()
    for requirement in PYPROJECT["project"]["dependencies"]:
        name = re.split(r"[\[>=<;]", requirement)[0]
        assert re.search(rf"^Requires-Dist: {re.escape(name)}\b", text, re.MULTILINE), name
    assert "License-Expression: MIT" in text
    assert "Requires-Python: >=3.10" in text


def make_environment(folder: Path, wheel: Path) -> Path:
    """A virtual environment with the wheel, and the test environment's libraries behind it."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    site = Path(run(python, "-c", code, cwd=folder).strip())
    # A folder named in a .pth file is searched last, and its own .pth files (which would show the
    # checkout) are not read.
    ours = Path(run(sys.executable, "-c", code, cwd=folder).strip())
    (site / "libraries.pth").write_text(f"{ours}\n")
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, "--no-index", wheel, cwd=folder)
    return python


def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", wheel)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import json, eightbit, eightbit.agents, eightbit.backbones, eightbit.evaluate;"
        "import eightbit.train, eightbit.envs;"
        "print(json.dumps([eightbit.__file__, eightbit.__version__]))"
    )
    path, version = json.loads(run(python, "-c", code, cwd=elsewhere))
    assert Path(path).is_relative_to(tmp_path)
    assert version == PYPROJECT["project"]["version"]
    command = python.parent / "eightbit"
    assert "train" in run(command, "--help", cwd=elsewhere)
    assert "pong" in run(command, "list", "games", cwd=elsewhere)
    code = (
        "from eightbit.envs import make_vec; env = make_vec('pong', 1); env.reset(seed=0);"
        "print(type(env).__name__)"
    )
    assert "ConsoleVectorEnv" in run(python, "-c", code, cwd=elsewhere)
    assert "nature" in run(command, "list", "backbones", cwd=elsewhere)


@pytest.mark.long
def test_the_wheel_installs_with_its_dependencies_in_an_empty_environment(
    wheel: Path, tmp_path: Path
) -> None:
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, wheel, cwd=tmp_path)
    command = python.parent / "eightbit"
    assert "pong" in run(command, "list", "games", cwd=tmp_path)
    options = ("--frames", "20000", "--out", "short", "--seed", "0")
    run(command, "train", "eightbit/Catch-v0", *options, cwd=tmp_path)
    assert (tmp_path / "short" / "model.safetensors").exists()


PLAYS_ALIKE = """
import hashlib, importlib, sys
import eightbit.envs.console as console
module = importlib.import_module("eightbit.envs.console." + sys.argv[1])
console._console = sys.modules["eightbit.envs.console._console"] = module
import numpy as np
from eightbit.envs import make_vec
seen = hashlib.sha256()
for game in ("pong", "air_raid", "pitfall2"):
    for options in ({}, {"picture": "rgb"}, {"picture": "objects", "screen_size": 0}):
        env = make_vec(game, 2, num_threads=1, **options)
        seen.update(env.reset(seed=3)[0].tobytes())
        random = np.random.default_rng(0)
        for _ in range(40):
            actions = random.integers(0, env.single_action_space.n, 2)
            seen.update(env.step(actions)[0].tobytes())
print(module.instructions, seen.hexdigest())
"""


@pytest.mark.long
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels are those of x86-64")
def test_a_portable_wheel_plays_alike_on_every_level_of_x86_64(tmp_path: Path) -> None:
    built = build_wheel(tmp_path / "source", tmp_path / "wheel", EIGHTBIT_PORTABLE="1")
    python = make_environment(tmp_path / "env", built)
    code = "from eightbit.envs.console import _console as c; print(c.processor_level())"
    best = int(run(python, "-c", code, cwd=tmp_path))
    modules = [f"_console_v{level}" for level in range(2, best + 1)]
    told = [run(python, "-c", PLAYS_ALIKE, name, cwd=tmp_path).split() for name in modules]
    assert len({instructions for instructions, _ in told}) == len(modules)
    assert len({seen for _, seen in told}) == 1


def test_every_dependency_has_a_tested_version() -> None:
    pinned = {
        re.split(r"==", line)[0].replace("_", "-").lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = [*PYPROJECT["project"]["dependencies"], *extras["dev"]]
    names = {re.split(r"[\[>=<;]", one)[0].lower() for one in [*wanted, *extras["bench"]]}
    # tomli stands in for the standard library's tomllib before Python 3.11 only.
    assert names - {"tomli"} <= pinned


def test_the_version_is_written_in_one_way() -> None:
    import eightbit

    assert eightbit.__version__ == PYPROJECT["project"]["version"]
    assert f"## {eightbit.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert importlib.metadata.version("eightbit") == eightbit.__version__


def test_the_ci_script_runs_the_make_target_that_people_run() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
    assert "--durations=20" in (ROOT / "Makefile").read_text()
