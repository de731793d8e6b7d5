"""The rules of CONTRIBUTING.md, read off the sources: imports, sizes, what is forbidden."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = (
    "agents",
    "backbones",
    "datasets",
    "envs",
    "evaluate",
    "sequence_tasks",
    "train",
    "vision_tasks",
)
TOP_MODULES = (
    "__init__",
    "__main__",
    "arguments",
    "cli",
    "cli_tasks",
    "errors",
    "registry",
    "tasks",
)
EVERYWHERE = {"errors", "registry", "__init__"}
_TASK_ROOM = {"tasks", "backbones", "datasets", "envs"}
_LEARNING = {"backbones", "envs", "datasets", "agents", "tasks", "vision_tasks", "sequence_tasks"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "registry": set(),
    "__init__": {"envs"},  # registers the environments with Gymnasium
    "backbones": set(),
    "envs": set(),
    "datasets": {"envs"},
    "agents": {"backbones", "envs"},
    "tasks": {"backbones"},
    "vision_tasks": _TASK_ROOM,
    "sequence_tasks": _TASK_ROOM,
    "train": _LEARNING,
    "evaluate": _LEARNING | {"train"},
    "arguments": set(),
    "cli": _LEARNING | {"train", "evaluate", "arguments", "cli_tasks"},
    "cli_tasks": _LEARNING | {"train", "evaluate", "arguments"},
    "__main__": {"cli"},
}
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
GLOBAL_RANDOM_ALLOWED = {
    "default_rng",
    "Generator",
    "SeedSequence",
    "PCG64",
    "MT19937",
    "BitGenerator",
}
# For users of Stable-Baselines3 only: the one module of envs that is imported when they ask for it.
ASKED_FOR = ("envs", "sb3_vec")
TORCH_GLOBAL_SEEDS = {"torch.manual_seed", "torch.seed", "torch.cuda.manual_seed_all"}
STEPPING_ROOMS = {"envs", "train", "evaluate"}


@dataclass(frozen=True)
class Source:
    """One Python file of ours, parsed."""

    path: Path  # relative to the root
    room: str  # "agents", ..., "cli", "errors", ... or "tests", "benchmarks"
    text: str
    tree: ast.Module

    @property
    def module(self) -> tuple[str, ...]:
        """("agents", "dqn") for agents/dqn.py; ("agents",) for its __init__.py."""
        parts = self.path.with_suffix("").parts
        return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts

    def at(self, node: ast.AST) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}"


def _parse(path: Path) -> Source:
    relative = path.relative_to(ROOT)
    room = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    text = path.read_text(encoding="utf-8")
    return Source(relative, room, text, ast.parse(text, filename=str(relative)))


@cache
def package_sources() -> tuple[Source, ...]:
    paths = [ROOT / f"{name}.py" for name in TOP_MODULES]
    paths = [path for path in paths if path.exists()]
    for room in ROOMS:
        paths.extend(sorted((ROOT / room).rglob("*.py")))
    return tuple(_parse(path) for path in paths)


@cache
def all_sources() -> tuple[Source, ...]:
    other = [*sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
    return package_sources() + tuple(_parse(path) for path in other)


def imported_modules(source: Source) -> Iterator[tuple[tuple[str, ...], ast.AST]]:
    """Every module of ours that the file imports, as parts below `eightbit`, wherever it does so.

    `from ..agents import dqn` gives agents.dqn where that is a module, else agents.
    """
    known = {other.module for other in package_sources()}
    package = source.path.parent.parts
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "eightbit":
                    yield tuple(parts[1:]) or ("__init__",), node
        elif isinstance(node, ast.ImportFrom):
            named = tuple(node.module.split(".")) if node.module else ()
            if node.level == 0 and named[0] != "eightbit":
                continue
            kept = len(package) - (node.level - 1)
            base = package[:kept] + named if node.level else named[1:]
            for alias in node.names:
                deeper = (*base, alias.name)
                yield deeper if deeper in known else base or ("__init__",), node


def room_of(parts: tuple[str, ...]) -> str:
    return parts[0] if parts[0] in (*ROOMS, *TOP_MODULES) else "__init__"


def report(problems: list[str], rule: str) -> None:
    assert not problems, f"{rule}:\n  " + "\n  ".join(problems)


def test_every_folder_of_modules_is_a_room_that_this_test_knows() -> None:
    found = {path.parent.relative_to(ROOT).parts[0] for path in ROOT.glob("*/__init__.py")}
    assert found == set(ROOMS)
    top = {path.stem for path in ROOT.glob("*.py")} - {"setup"}
    assert top <= set(TOP_MODULES), "name the new module and its place in MAY_IMPORT"


def test_imports_run_in_one_direction_only() -> None:
    problems = []
    for source in package_sources():
        allowed = MAY_IMPORT[source.room] | EVERYWHERE | {source.room}
        if source.room in ("errors", "registry"):
            allowed = {"errors", source.room}
        for parts, node in imported_modules(source):
            room = room_of(parts)
            if room not in allowed:
                problems.append(f"{source.at(node)}: {source.room} imports {room}")
    report(problems, "forbidden imports")


def test_inside_the_package_imports_are_relative() -> None:
    problems = [
        f"{source.at(node)}: {ast.unparse(node)}"
        for source in package_sources()
        for node in ast.walk(source.tree)
        if (
            isinstance(node, ast.ImportFrom)
            and node.level == 0
            and (node.module or "").split(".")[0] == "eightbit"
        )
        or (
            isinstance(node, ast.Import)
            and any(alias.name.split(".")[0] == "eightbit" for alias in node.names)
        )
    ]
    report(problems, "write `from ..room import name`")


def _deferred_nodes(tree: ast.Module) -> set[ast.AST]:
    """Nodes that do not run when the module is imported: bodies of functions, TYPE_CHECKING."""
    deferred: set[ast.AST] = set()
    for node in ast.walk(tree):
        is_function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        is_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if is_function or is_typing:
            for child in ast.walk(node):
                deferred.add(child)
    return deferred


def test_no_circles_between_modules() -> None:
    known = {source.module for source in package_sources()}
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for source in package_sources():
        deferred = _deferred_nodes(source.tree)
        edges = {
            parts
            for parts, node in imported_modules(source)
            if node not in deferred and parts in known and parts != source.module
        }
        graph[source.module] = edges

    done: set[tuple[str, ...]] = set()

    def visit(module: tuple[str, ...], trail: tuple[tuple[str, ...], ...]) -> None:
        if module in trail:
            circle = " -> ".join(".".join(m) for m in (*trail[trail.index(module) :], module))
            raise AssertionError(f"circular import: {circle}")
        if module in done:
            return
        for following in sorted(graph.get(module, ())):
            visit(following, (*trail, module))
        done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_envs_and_the_root_do_not_import_torch_when_they_are_imported() -> None:
    problems = []
    for source in package_sources():
        if source.room not in ("__init__", "envs", "errors", "registry", "cli", "cli_tasks"):
            continue
        deferred = _deferred_nodes(source.tree)
        for parts, node in imported_modules(source):
            if parts == ASKED_FOR and node not in deferred:
                problems.append(f"{source.at(node)}: imports {'.'.join(parts)}")
        for node in ast.walk(source.tree):
            if node in deferred or source.module == ASKED_FOR:
                continue
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                if name.split(".")[0] in ("torch", "stable_baselines3"):
                    problems.append(f"{source.at(node)}: imports {name}")
    report(problems, "import it inside the function that needs it")


def test_importing_eightbit_leaves_torch_out() -> None:
    heavy = ("torch", "stable_baselines3", "matplotlib")
    code = f"import sys, eightbit; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


def test_files_and_functions_stay_short() -> None:
    problems = []
    for source in all_sources():
        lines = source.text.count("\n") + 1
        if lines > MAX_FILE_LINES + 1:
            problems.append(f"{source.path}: {lines} lines, {MAX_FILE_LINES} allowed")
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    problems.append(
                        f"{source.at(node)}: {node.name} has {length} lines, "
                        f"{MAX_FUNCTION_LINES} allowed"
                    )
    report(problems, "too long")


def _is_interface(node: ast.ClassDef) -> bool:
    """Protocols, ABCs and plain enums carry no behaviour that an heir could get from them."""
    bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
    bases |= {ast.unparse(keyword.value).split(".")[-1] for keyword in node.keywords}
    return bool(bases & {"Protocol", "ABC", "ABCMeta"})


def test_no_class_of_ours_inherits_from_a_concrete_class_of_ours() -> None:
    classes = {
        node.name: (source, node)
        for source in package_sources()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef)
    }
    problems = []
    for source, node in classes.values():
        if source.room == "errors":  # an exception's ancestors say who catches it
            continue
        for base in node.bases:
            name = ast.unparse(base).split("[")[0].split(".")[-1]
            if name == "Protocol" or name not in classes:
                continue
            base_source, base_node = classes[name]
            if base_source.room != "errors" and not _is_interface(base_node):
                problems.append(f"{source.at(node)}: {node.name} inherits from {name}")
    report(problems, "a class is an interface or it is final; pass in what differs")


def _dotted(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, (ast.Attribute, ast.Name)) else ""


def _inside_fork_rng(tree: ast.Module) -> set[ast.AST]:
    """Nodes that torch's global generator survives unchanged; its initialisers take no other."""
    forks = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and "fork_rng" in ast.unparse(node.items[0])
    )
    return {child for node in forks for child in ast.walk(node)}


def test_no_global_random_generator() -> None:
    problems = []
    for source in package_sources():
        imports_random = any(
            isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names)
            for node in ast.walk(source.tree)
        )
        forked = _inside_fork_rng(source.tree)
        for node in ast.walk(source.tree):
            name = _dotted(node)
            if re.fullmatch(r"(np|numpy)\.random\.\w+", name):
                if name.split(".")[-1] not in GLOBAL_RANDOM_ALLOWED:
                    problems.append(f"{source.at(node)}: {name}")
            elif imports_random and re.fullmatch(r"random\.\w+", name) and name != "random.Random":
                problems.append(f"{source.at(node)}: {name}")
            elif isinstance(node, ast.ImportFrom) and node.module == "random":
                problems.append(f"{source.at(node)}: from random import ...")
            elif name in TORCH_GLOBAL_SEEDS and node not in forked:
                problems.append(f"{source.at(node)}: {name}")
    report(problems, "a generator is an argument: numpy.random.default_rng(seed), torch.Generator")


def test_environment_variables_are_read_at_the_edge_only() -> None:
    problems = [
        f"{source.at(node)}: {_dotted(node)}"
        for source in package_sources()
        if source.room not in ("cli", "train", "datasets")
        for node in ast.walk(source.tree)
        if _dotted(node) in ("os.environ", "os.getenv", "os.putenv")
    ]
    report(problems, "read it in cli.py, train/ or datasets/ and pass the value")


def test_nothing_is_pickled_or_unpickled() -> None:
    problems = []
    for source in package_sources():
        for node in ast.walk(source.tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [alias.name for alias in node.names]
                if isinstance(node, ast.ImportFrom):
                    # The exception may be caught: weights_only=True raises it.
                    names = [node.module or ""] if names != ["UnpicklingError"] else []
                for name in names:
                    if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "joblib", "shelve"):
                        problems.append(f"{source.at(node)}: imports {name}")
            elif isinstance(node, ast.Call):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                called = _dotted(node.func)
                if called == "torch.load" and keywords.get("weights_only") != "True":
                    problems.append(f"{source.at(node)}: torch.load without weights_only=True")
                if called in ("np.load", "numpy.load") and keywords.get("allow_pickle") == "True":
                    problems.append(f"{source.at(node)}: numpy.load with allow_pickle=True")
                if called == "torch.save":
                    problems.append(f"{source.at(node)}: torch.save writes a pickle")
    report(problems, "use safetensors and JSON")


def test_environments_are_stepped_in_the_loop_only() -> None:
    problems = []
    for source in package_sources():
        if source.room in STEPPING_ROOMS or source.module == ("agents", "loop"):
            continue
        for node in ast.walk(source.tree):
            # An optimiser's `step()` takes no arguments; an environment's takes the actions.
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("step", "step_async", "step_wait")
                and (node.args or node.keywords)
            ):
                problems.append(f"{source.at(node)}: {ast.unparse(node)}")
    report(problems, "consume agents/loop.py")


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(d).split("(")[0].endswith("dataclass") for d in node.decorator_list)


def test_every_option_has_a_line_of_help() -> None:
    problems = []
    for source in package_sources():
        lines = source.text.splitlines()
        for node in ast.walk(source.tree):
            if not (isinstance(node, ast.ClassDef) and _is_dataclass(node)):
                continue
            if not node.name.endswith(("Options", "Args")):
                continue
            for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
                if not isinstance(statement, ast.AnnAssign):
                    continue
                documented = (
                    isinstance(following, ast.Expr)
                    and isinstance(following.value, ast.Constant)
                    and isinstance(following.value.value, str)
                )
                commented = "#" in lines[(statement.end_lineno or 1) - 1]
                above = lines[statement.lineno - 2].strip().startswith("#")
                if not (documented or commented or above or "help=" in ast.unparse(statement)):
                    problems.append(
                        f"{source.at(statement)}: {node.name}.{ast.unparse(statement.target)}"
                    )
    report(problems, "write a docstring below the field; `--help` shows it")


def test_a_learning_step_fits_on_one_screen() -> None:
    problems = []
    for source in package_sources():
        if source.room != "agents":
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef) and re.search(
                r"(learning_step|update)$", node.name
            ):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > 40:
                    problems.append(f"{source.at(node)}: {node.name} has {length} lines")
    report(problems, "40 lines are allowed")


@pytest.mark.parametrize(
    ("code", "check"),
    [
        ("import numpy as np\nnp.random.seed(0)\n", test_no_global_random_generator),
        ("import torch\ntorch.manual_seed(0)\n", test_no_global_random_generator),
        ("import random\nrandom.shuffle([])\n", test_no_global_random_generator),
        ("import os\nos.environ['X']\n", test_environment_variables_are_read_at_the_edge_only),
        ("import pickle\n", test_nothing_is_pickled_or_unpickled),
        ("import torch\ntorch.load('x')\n", test_nothing_is_pickled_or_unpickled),
        ("env.step(actions)\n", test_environments_are_stepped_in_the_loop_only),
        ("from ..train import runs\n", test_imports_run_in_one_direction_only),
        ("from eightbit import envs\n", test_inside_the_package_imports_are_relative),
        (
            "class A: ...\nclass B(A): ...\n",
            test_no_class_of_ours_inherits_from_a_concrete_class_of_ours,
        ),
        ("x = 1\n" * 502, test_files_and_functions_stay_short),
        (
            "@dataclass\nclass AOptions:\n    x: int = 1\n",
            test_every_option_has_a_line_of_help,
        ),
    ],
)
def test_each_check_finds_what_it_looks_for(
    code: str, check: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Source(Path("agents/bad.py"), "agents", code, ast.parse(code))
    monkeypatch.setattr(sys.modules[__name__], "package_sources", lambda: (bad,))
    monkeypatch.setattr(sys.modules[__name__], "all_sources", lambda: (bad,))
    with pytest.raises(AssertionError, match="agents/bad.py"):
        check()  # type: ignore[operator]  # each is a test function without arguments
