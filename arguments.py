"""The command line's arguments: dataclasses filled from words, with one sentence for a mistake."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any

from .errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


def peek(given: Sequence[str], *names: str) -> dict[str, str]:
    """The values of some options, before the defaults of all others can be known."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(f"--{name}")
    try:
        known, _ = parser.parse_known_args(list(given))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error}.") from None
    return {name: value for name, value in vars(known).items() if value is not None}


def parse(command: type, given: Sequence[str], name: str) -> Any:
    """An instance of a dataclass made from the command line, of which its fields are the options.

    Raises:
        UnknownNameError: an option does not exist.
        UsageError: a value is missing or does not fit.
        SystemExit: after --help, with 0.
    """
    import tyro

    conf = (tyro.conf.OmitArgPrefixes, tyro.conf.EnumChoicesFromValues)
    complaint = io.StringIO()
    parsed: Any
    try:
        with contextlib.redirect_stderr(complaint):
            parsed, unknown = tyro.cli(
                command,
                args=list(given),
                prog=f"eightbit {name}",
                return_unknown_args=True,
                registry=_number_rules(),
                config=conf,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_sentence(complaint.getvalue(), name)) from None
    option = next((token for token in unknown if token.startswith("-")), None)
    if option is not None:
        known = [f"--{one.replace('_', '-')}" for one in _field_names(command)]
        written = option.partition("=")[0].replace("_", "-")
        raise UnknownNameError("option", written, known, f"eightbit {name} --help")
    if unknown:
        raise UsageError(f"{unknown[0]!r} is one word too many; 'eightbit {name} --help' helps.")
    return parsed


def parse_run(
    options: type, given: Sequence[str], name: str, *, doc: str | None, output: str = ""
) -> Any:
    """Parses `eightbit <name> RUN` with the fields of `options`, and -o where there is an output.

    `doc` is what --help says of the command. Returns an object with `run`, `options` and, where
    asked for, `output`.
    """
    import tyro

    run = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="the run folder")]
    fields: list[Any] = [("run", run, field(default=""))]
    if output:
        path = tyro.conf.arg(aliases=["-o"], metavar="FILE", help=output)
        fields.append(("output", Annotated[str, path], field(default="")))
    fields.append(("options", options, field(default=options())))
    command = dataclasses.make_dataclass("Command", fields, namespace={"__doc__": doc})
    parsed = parse(command, given, name)
    if not parsed.run:
        raise UsageError(f"which run? Write 'eightbit {name} RUN' with the folder of a run.")
    return parsed


def with_value(
    given: Sequence[str], option: str, *, yes: str, no: str, known: Sequence[str]
) -> list[str]:
    """Writes the flags --x and --no-x as the values of an option that has further ones."""
    tokens: list[str] = []
    for index, token in enumerate(given):
        following = given[index + 1] if index + 1 < len(given) else ""
        if token == f"--no-{option.removeprefix('--')}":
            tokens += [option, no]
        elif token == option and following not in known:
            tokens += [option, yes]
        else:
            tokens.append(token)
    return tokens


def _field_names(kind: Any) -> list[str]:
    names: list[str] = []
    for one in dataclasses.fields(kind):
        if dataclasses.is_dataclass(one.default):
            names += _field_names(one.default)
        else:
            names.append(one.name)
    return names


def _sentence(complaint: str, name: str) -> str:
    """tyro's framed complaint as one sentence."""
    lines = [line.strip("│ ").strip() for line in complaint.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("╭", "╰"))]
    rule = next((i for i, line in enumerate(lines) if line.startswith("─")), len(lines))
    text = " ".join(lines[:rule])
    if "Got errors:" in text:  # of each type that an option may have; the last is the telling one
        what = text.partition(":")[0]
        text = f"{what}: {re.split(r'- <[^>]*>: ', text)[-1]}"
    return f"{text.rstrip('.')}; 'eightbit {name} --help' shows what is possible."


def _number_rules() -> ConstructorRegistry:
    """Whole numbers may be written 500_000, 500k or 10M."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def whole_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if info.type is not int:
            return None
        return PrimitiveConstructorSpec(
            nargs=1,
            metavar="INT",
            instance_from_str=lambda words: whole(words[0]),
            is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
            str_from_instance=lambda value: [str(value)],
        )

    return registry


def whole(text: str) -> int:
    """10M, 500k, 2.5M or 1_000 as a whole number; raises ValueError for anything else."""
    match = re.fullmatch(r"([+-]?\d[\d_]*(?:\.\d+)?)([kKmM]?)", text)
    if match:
        number = float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]
        if number.is_integer():
            return int(number)
    raise ValueError(f"{text!r} is no whole number, written like 500000, 500k or 10M")
