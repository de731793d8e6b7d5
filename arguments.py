"""The command line's arguments: dataclasses filled from words, with one sentence for a mistake."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import inspect
import io
import math
import re
import textwrap
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from .errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

_METAVARS = {int: "INT", float: "FLOAT", str: "TEXT"}
_SAYS_ITS_DEFAULT = ("unless told", "by default")


@dataclass(frozen=True)
class Option:
    """One option as `--help` and the docs show it.

    Attributes:
        name: of the field.
        flags: as they are written: `--frames`, `--double, --no-double`; none where the place
            on the command line tells.
        metavar: what stands for the value: `INT`, `{adam,rmsprop}`; empty for a switch.
        help: one line.
        default: what holds when the option is left out; empty where the help says it.
        kind: the field's type.
        value: the field's default.
    """

    name: str
    flags: tuple[str, ...]
    metavar: str
    help: str
    default: str
    kind: Any
    value: Any


def options_of(defaults: Any) -> list[Option]:
    """The options that a dataclass's instance stands for: its fields, with their values.

    The string below a field is its help. A field's metadata may hold `positional` (True),
    `metavar`, `short` (another flag) and `unset` (what None or an empty text stands for).
    """
    kind = type(defaults)
    kinds, helps = typing.get_type_hints(kind), _field_helps(kind)
    options = []
    for one in dataclasses.fields(kind):
        told, value, help_text = one.metadata, getattr(defaults, one.name), helps[one.name]
        flag = f"--{one.name.replace('_', '-')}"
        flags = [told["short"]] if "short" in told else []
        flags += [flag, f"--no-{flag[2:]}"] if bool in _types(kinds[one.name]) else [flag]
        options.append(
            Option(
                one.name,
                () if told.get("positional") else tuple(flags),
                told.get("metavar", _metavar(kinds[one.name])),
                help_text,
                _default_text(value, told.get("unset"), help_text),
                kinds[one.name],
                value,
            )
        )
    return options


def _field_helps(kind: type) -> dict[str, str]:
    """The string below each field in the source of a dataclass, in one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef)
    helps = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            text = ast.literal_eval(following.value) if isinstance(following, ast.Expr) else ""
            helps[statement.target.id] = " ".join(text.split()).rstrip(".")
    return helps


def _types(kind: Any) -> tuple[Any, ...]:
    """The types that a value may have, None left out."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        return tuple(one for one in typing.get_args(kind) if one is not types.NoneType)
    return (kind,)


def _metavar(kind: Any) -> str:
    (of,) = _types(kind)
    if typing.get_origin(of) is Literal:
        return f"{{{','.join(map(str, typing.get_args(of)))}}}"
    if issubclass(of, Enum):
        return f"{{{','.join(str(member.value) for member in of)}}}"
    return _METAVARS.get(of, "")


def _default_text(value: Any, unset: str | None, help_text: str) -> str:
    if value is None or value == "":
        told = any(words in help_text for words in _SAYS_ITS_DEFAULT)
        return unset if unset is not None else "" if told else "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 10_000:
        return f"{value:_}"
    return str(value.value if isinstance(value, Enum) else value)


def peek(given: Sequence[str], *names: str) -> dict[str, str]:
    """The values of some options, before the defaults of all others can be known."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(f"--{name}")
    try:
        known, _ = parser.parse_known_args(list(given))
    except argparse.ArgumentError as error:
        raise UsageError(f"{error.argument_name} needs a value.") from None
    return {name: value for name, value in vars(known).items() if value is not None}


def parse(given: Sequence[str], name: str, doc: str, *main: Any, **groups: Any) -> list[Any]:
    """Fills dataclasses from the command line; their fields are the options.

    Args:
        given: the words after `eightbit <name>`.
        name: of the command.
        doc: what --help says of it.
        *main: instances of dataclasses that hold the defaults; together they are "options".
        **groups: further ones; each is a box of its own in --help, called by its keyword.

    Returns:
        An instance for each of `main` and `groups`, in their order.

    Raises:
        UnknownNameError: an option does not exist.
        UsageError: a value is missing or does not fit.
        SystemExit: after --help, with 0.
    """
    own = [_tyro_field(option) for defaults in main for option in options_of(defaults)]
    nested = [
        (title, made := _tyro_class(defaults), field(default_factory=made))
        for title, defaults in groups.items()
    ]
    command = dataclasses.make_dataclass("Command", [*own, *nested], namespace={"__doc__": doc})
    options = [option for one in (*main, *groups.values()) for option in options_of(one)]
    parsed = _run_tyro(command, given, name, options)
    filled = [_refilled(defaults, parsed) for defaults in main]
    return filled + [_refilled(defaults, getattr(parsed, k)) for k, defaults in groups.items()]


def _refilled(defaults: Any, parsed: Any) -> Any:
    values = {one.name: getattr(parsed, one.name) for one in dataclasses.fields(defaults)}
    return dataclasses.replace(defaults, **values)


def _tyro_class(defaults: Any) -> type:
    """A dataclass of the same fields that tyro shows as `options_of` tells."""
    fields = [_tyro_field(option) for option in options_of(defaults)]
    namespace = {"__doc__": " ".join((type(defaults).__doc__ or "").split())}
    return dataclasses.make_dataclass(type(defaults).__name__, fields, namespace=namespace)


def _tyro_field(option: Option) -> tuple[str, Any, Any]:
    import tyro

    switch = option.kind is bool  # tyro writes --no-x for it
    shown = tyro.conf.arg(
        name=None if switch or not option.flags else option.flags[-1].removeprefix("--"),
        help=option.help,
        metavar=None if switch else option.metavar,
        help_behavior_hint=f"(default: {option.default})" if option.default else "",
        aliases=[] if switch else option.flags[:-1],
    )
    positional: Any = tyro.conf.Positional
    kind = option.kind if option.flags else positional[option.kind]
    return option.name, Annotated[kind, shown], field(default=option.value)


def _run_tyro(command: type, given: Sequence[str], name: str, options: Sequence[Option]) -> Any:
    import tyro

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
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.EnumChoicesFromValues),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise UsageError(_sentence(complaint.getvalue(), name, options)) from None
    option = next((token for token in unknown if token.startswith("-")), None)
    if option is not None:
        written = option.partition("=")[0].replace("_", "-")
        known = [flag for one in options for flag in one.flags]
        raise UnknownNameError("option", written, known, f"eightbit {name} --help")
    if unknown:
        raise UsageError(f"{unknown[0]!r} is one word too many; 'eightbit {name} --help' helps.")
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


def words_apart(tokens: Sequence[str], *defaults: Any) -> tuple[list[str], list[str]]:
    """The words that stand for themselves; and options with what belongs to them."""
    options = [option for one in defaults for option in options_of(one)]
    takes = {flag for option in options if option.metavar for flag in option.flags}
    words: list[str] = []
    others: list[str] = []
    value = False  # whether this word is the value of the option before it
    for token in tokens:
        option = token.startswith("-") and token != "-"  # a dash alone is standard input
        (others if value or option else words).append(token)
        value = not value and token.replace("_", "-") in takes
    return words, others


def _sentence(complaint: str, name: str, options: Sequence[Option]) -> str:
    """tyro's framed complaint as one sentence."""
    lines = [line.strip("│ ") for line in complaint.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("╭", "╰"))]
    # Between rules there are parts; where the frame is not drawn, the first is a title.
    parts = re.split(r"(?m)^[─-]{3,}$", "\n".join(lines))
    text = " ".join(parts["╭" not in complaint and len(parts) > 1].split()).rstrip(".")
    if missing := re.search(r"Missing value for argument '(\S+?)'", text):
        return f"{missing[1]} needs a value."
    if wrong := re.search(r"invalid choice '(.*)' for argument '(\S+?)'", text):
        choices = next(option.metavar for option in options if wrong[2] in option.flags)
        return (
            f"{wrong[2]} is {wrong[1]!r}; choose one of {choices.strip('{}').replace(',', ', ')}."
        )
    if parsing := re.search(r"Error parsing (\S+?)(?: \(.*?\))?: (.*)", text):
        # Of an option that may have several types, the reason for the last is the telling one.
        return f"{parsing[1]}: {re.split(r'- <[^>]*>: |: ', parsing[2])[-1]}."
    return f"{text}; 'eightbit {name} --help' shows what is possible."


def _number_rules() -> ConstructorRegistry:
    """Whole numbers may be written 500_000, 500k or 10M; no number is infinite or NaN."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    registry = ConstructorRegistry()

    def rule(kind: type, read: Callable[[str], Any], accepted: tuple[type, ...]) -> None:
        @registry.primitive_rule
        def number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
            if info.type is not kind:
                return None
            return PrimitiveConstructorSpec(
                nargs=1,
                metavar=_METAVARS[kind],
                instance_from_str=lambda words: read(words[0]),
                is_instance=lambda one: isinstance(one, accepted) and not isinstance(one, bool),
                str_from_instance=lambda value: [str(value)],
            )

    rule(int, whole, (int,))
    rule(float, finite, (int, float))
    return registry


def whole(text: str) -> int:
    """10M, 500k, 2.5M or 1_000 as a whole number; raises ValueError for anything else."""
    match = re.fullmatch(r"([+-]?\d[\d_]*(?:\.\d+)?)([kKmM]?)", text)
    if match:
        number = Decimal(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]
        if number == int(number):
            return int(number)
    raise ValueError(f"{text!r} is no whole number; write it like 500000, 500k or 10M")


def finite(text: str) -> float:
    """A number with or without a point or exponent; raises ValueError for anything else."""
    with contextlib.suppress(ValueError):
        number = float(text)
        if math.isfinite(number):
            return number
    raise ValueError(f"{text!r} is no number; write it like 3, 0.25 or 1e-4")
