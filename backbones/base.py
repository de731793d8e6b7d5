"""What a backbone is, and the registry that all of them stand in."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any, NamedTuple, TypeVar, overload

import torch
from torch import nn

from ..errors import UnknownNameError, UsageError
from ..registry import Registry

KINDS = ("cnn", "mlp", "recurrent")
Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


class Stage(NamedTuple):
    """One stage of a CNN, an entry of `feature_info`.

    Attributes:
        name: the stage's module, as `get_submodule` takes it.
        channels: channels of its output map.
        reduction: input pixels per output pixel along one axis (the total stride).
    """

    name: str
    channels: int
    reduction: int


@dataclass(frozen=True)
class BackboneConfig:
    """All that rebuilds a backbone; `create_backbone` leaves it on the module, see `config_of`."""

    name: str
    in_shape: tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BackboneSpec:
    """A registered backbone.

    Attributes:
        name: the name that `create_backbone` takes.
        kind: "cnn" (pictures), "mlp" (vectors) or "recurrent" (sequences of vectors).
        description: one line.
        default_in_shape: shape of one input, without batch and time axis.
        paper: where it comes from; "" where nowhere.
        build: `build(in_shape, **options) -> nn.Module` with `out_features`.
        options: every option with its default.
    """

    name: str
    kind: str
    description: str
    default_in_shape: tuple[int, ...]
    paper: str
    build: Callable[..., nn.Module]
    options: dict[str, Any]


BACKBONES: Registry[BackboneSpec] = Registry("backbone", "eightbit list backbones")


@overload
def register_backbone(build: Builder) -> Builder: ...


@overload
def register_backbone(
    *,
    kind: str = "cnn",
    default_in_shape: Sequence[int] | None = None,
    paper: str = "",
) -> Callable[[Builder], Builder]: ...


def register_backbone(
    build: Builder | None = None,
    *,
    kind: str = "cnn",
    default_in_shape: Sequence[int] | None = None,
    paper: str = "",
) -> Builder | Callable[[Builder], Builder]:
    """Decorator: registers a function or class as a backbone under its own name.

    It is called as `build(in_shape, **options)` and gives an `nn.Module` with an integer
    `out_features`; a CNN also has `forward_features` and `feature_info`. Every option needs a
    default that JSON can hold. The first line of the docstring is the description.

    Args:
        build: the function or class, when the decorator is used without brackets.
        kind: "cnn", "mlp" or "recurrent".
        default_in_shape: what tests and tables build it with; by default (4, 84, 84) for a CNN
            and (64,) for the others.
        paper: where it comes from.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown kind of backbone {kind!r}: write one of {', '.join(KINDS)}.")
    shape = tuple(default_in_shape or ((4, 84, 84) if kind == "cnn" else (64,)))

    def add(function: Builder) -> Builder:
        name = function.__name__
        description = (inspect.getdoc(function) or name).splitlines()[0]
        BACKBONES.add(
            name,
            BackboneSpec(name, kind, description, shape, paper, function, _options(function)),
        )
        return function

    return add if build is None else add(build)


def _options(build: Callable[..., nn.Module]) -> dict[str, Any]:
    parameters = list(inspect.signature(build).parameters.values())[1:]
    missing = [p.name for p in parameters if p.default is inspect.Parameter.empty]
    if missing:
        raise UsageError(
            f"backbone {build.__name__}: give {', '.join(missing)} a default; "
            "every option of a backbone has one."
        )
    return {p.name: p.default for p in parameters}


def list_backbones(kind: str | None = None) -> list[str]:
    """Names of all registered backbones in alphabetical order, or of those of one kind."""
    return [name for name in BACKBONES if kind in (None, BACKBONES[name].kind)]


def create_backbone(
    name: str,
    in_shape: Sequence[int],
    *,
    weights: str | PathLike[str] | None = None,
    strict: bool = False,
    seed: int | None = None,
    **options: Any,
) -> nn.Module:
    """Builds a backbone.

    Args:
        name: a name from `list_backbones()`.
        in_shape: shape of one input: (C, H, W) for a CNN, (F,) for the others.
        weights: a safetensors file or the name of a packaged trunk ("pong"); what was carried
            over is printed and left on the module as `.load_report`.
        strict: refuse weights that do not fit exactly.
        seed: seed of the initial weights; None draws them from torch's global generator.
        options: the backbone's own options, see `BACKBONES[name].options`.

    Returns:
        A module with `out_features: int`; `config_of(module)` tells how it was made. A CNN takes
        (B, C, H, W), uint8 in 0..255 or float in [0, 1], and returns (B, out_features).

    Raises:
        UnknownNameError: unknown backbone or option.
        UsageError: an input shape or option value that the backbone cannot have.
        WeightsError: a weight file that is missing, corrupt, pickled or, when strict, unfit.
    """
    spec = BACKBONES[name]
    shape = _checked_shape(spec, in_shape)
    for option in options:
        if not spec.options:
            raise UsageError(f"backbone {name!r} has no options; leave out {option!r}.")
        if option not in spec.options:
            raise UnknownNameError(f"{name} option", option, spec.options)
    settings = {**spec.options, **options}
    if seed is None:
        module = spec.build(shape, **settings)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = spec.build(shape, **settings)
    if not isinstance(getattr(module, "out_features", None), int):
        raise UsageError(
            f"backbone {name!r}: set self.out_features to the (integer) length of its output."
        )
    module.__dict__["backbone_config"] = BackboneConfig(name, shape, settings)
    if weights is not None:
        from .weights import load_weights  # it needs this module

        report = load_weights(module, weights, strict=strict)
        module.__dict__["load_report"] = report
        print(report)
    return module


def config_of(module: nn.Module) -> BackboneConfig:
    """How `create_backbone` made `module`; UsageError if it did not."""
    config = module.__dict__.get("backbone_config")
    if not isinstance(config, BackboneConfig):
        raise UsageError(
            f"this {type(module).__name__} was not made by create_backbone; only those have "
            "weight files of their own."
        )
    return config


def _checked_shape(spec: BackboneSpec, in_shape: Sequence[int]) -> tuple[int, ...]:
    shape = tuple(int(size) for size in in_shape)
    axes = {"cnn": "(channels, height, width)", "mlp": "(features,)", "recurrent": "(features,)"}
    fits = len(shape) == 3 if spec.kind == "cnn" else len(shape) == 1
    if not fits or min(shape) < 1:
        others = ", ".join(n for n in BACKBONES if len(BACKBONES[n].default_in_shape) == len(shape))
        hint = f"; for inputs of shape {shape} there are {others}." if others else "."
        raise UsageError(f"{spec.name} takes inputs {axes[spec.kind]}, not {shape}{hint}")
    return shape


def require_positive(backbone: str, **values: float) -> None:
    """Raises UsageError, naming the option, unless every value is above zero."""
    for option, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise UsageError(f"{backbone}: {option} must be above zero, not {value!r}.")
