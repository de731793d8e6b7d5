"""The one registry helper: a name, a thing, an error that knows the nearest names.

`json_object` reads the options of a registered thing where the command line gives them as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from .errors import UnknownNameError, UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """Maps names to registered things of one kind.

    Args:
        kind: what the things are, as an error message says it ("backbone", "agent").
        list_command: the command that shows all names, quoted in that message.
    """

    def __init__(self, kind: str, list_command: str = ""):
        self.kind = kind
        self.list_command = list_command
        self._things: dict[str, T] = {}

    def add(self, name: str, thing: T) -> T:
        """Registers `thing`; raises ValueError when the name is taken."""
        if name in self._things:
            raise ValueError(f"{self.kind} {name!r} is registered already; choose another name.")
        self._things[name] = thing
        return thing

    def register(self, function: T) -> T:
        """Decorator: registers a function or class under its own name."""
        return self.add(function.__name__, function)  # type: ignore[attr-defined]  # has a name

    def named(self, name: str) -> Callable[[T], T]:
        """Decorator: registers under another name than the function's own."""
        return lambda thing: self.add(name, thing)

    def __getitem__(self, name: str) -> T:
        """Returns the thing; raises UnknownNameError with the nearest names."""
        try:
            return self._things[name]
        except KeyError:
            raise UnknownNameError(self.kind, name, self._things, self.list_command) from None

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._things))

    def __len__(self) -> int:
        return len(self._things)


def json_object(name: str, text: str) -> dict[str, Any]:
    """The JSON object in the text of an option; raises UsageError when it is none."""
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{name} is not JSON ({error}); write it like '{{\"width\": 2}}'."
        ) from None
    if not isinstance(parsed, dict):
        raise UsageError(f"{name} must be a JSON object like '{{\"width\": 2}}'.")
    return parsed
