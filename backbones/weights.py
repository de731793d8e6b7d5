"""Weight files of backbones: safetensors that say what they belong to. Reading runs no code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import UnknownNameError, UsageError, WeightsError
from .base import BACKBONES, BackboneConfig, config_of

FORMAT = "eightbit-backbone-1"
PACKAGED = Path(__file__).parent / "trained"
PACKAGED_BYTES = 4_000_000  # the most that one trunk may add to the package
AGENT_PREFIX = "backbone."  # where an agent's file keeps its trunk


@dataclass(frozen=True)
class LoadReport:
    """What became of each layer of a backbone that weights were loaded into.

    Attributes:
        source: the file.
        carried: layers whose weights were taken as they are.
        adapted: the first convolution, where the number of input channels differs: its kernel
            was averaged over its inputs, repeated, and scaled to keep the output's size.
        started_anew: layers whose shape differs; they keep their initial weights.
    """

    source: str
    carried: tuple[str, ...]
    adapted: tuple[str, ...]
    started_anew: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every layer was carried over as it is."""
        return not self.adapted and not self.started_anew

    def __str__(self) -> str:
        total = len(self.carried) + len(self.adapted) + len(self.started_anew)
        parts = [f"{len(self.carried)} of {total} layers carried over"]
        if self.adapted:
            parts.append(f"adapted: {', '.join(self.adapted)}")
        if self.started_anew:
            parts.append(f"started anew: {', '.join(self.started_anew)}")
        return f"weights from {self.source}: {'; '.join(parts)}"


def save_weights(module: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Writes a backbone's weights with what rebuilds it; returns the path.

    The file is written beside `path` and renamed, so a crash leaves an older file whole.

    Raises:
        UsageError: the module was not made by `create_backbone`, or an option is not JSON.
        WeightsError: the file cannot be written.
    """
    return _write(Path(path), _to_bytes(config_of(module), module.state_dict()))


def export_trunk(module: nn.Module, path: str | os.PathLike[str], card_text: str) -> Path:
    """Writes a trunk for the package: bf16 weights, and its model card beside it as `.md`.

    Args:
        module: a backbone.
        path: `backbones/trained/<name>.safetensors`; the name is then what `weights=` takes.
        card_text: where the weights come from, the command that made them, and their score.

    Raises:
        UsageError: the card is empty, or the file does not end in `.safetensors`.
        WeightsError: the file would be larger than 4,000,000 bytes.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise UsageError(f"name the file {target.stem}.safetensors, not {target.name}.")
    if not card_text.strip():
        raise UsageError("a packaged trunk needs a model card; give its text.")
    tensors = {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        for name, tensor in module.state_dict().items()
    }
    content = _to_bytes(config_of(module), tensors)
    if len(content) > PACKAGED_BYTES:
        raise WeightsError(
            f"{target.name} would have {len(content):,} bytes, and a packaged trunk has at most "
            f"{PACKAGED_BYTES:,}; export a smaller one."
        )
    _write(target.with_suffix(".md"), card_text.encode())
    return _write(target, content)


def packaged_weights() -> list[str]:
    """Names of the trained trunks that ship with the package."""
    return sorted(path.stem for path in PACKAGED.glob("*.safetensors"))


def load_weights(
    module: nn.Module, source: str | os.PathLike[str], *, strict: bool = False
) -> LoadReport:
    """Loads weights into a backbone; layers of another picture size or channel count may differ.

    Args:
        module: made by `create_backbone`, with the name that the weights were saved under.
        source: a file of `save_weights`, an agent's or a run's `model.safetensors` (its trunk
            is taken), a run's folder, or the name of a packaged trunk.
        strict: refuse unless every layer fits as it is.

    Raises:
        UnknownNameError: no file and no packaged trunk has that name.
        WeightsError: the file is corrupt, pickled, of another backbone, or does not fit.
    """
    path = _find(source)
    saved, tensors = read_weights(path)
    config = config_of(module)
    if saved.name != config.name:
        raise WeightsError(
            f"{path} holds the backbone {saved.name!r}, not {config.name!r}; "
            f"write create_backbone({saved.name!r}, ...)."
        )
    fitted, report = _fit(str(path), module.state_dict(), tensors, saved, config)
    if strict and not report.exact:
        raise WeightsError(f"strict loading refuses what does not fit exactly: {report}.")
    module.load_state_dict(fitted)
    return report


def read_weights(path: Path) -> tuple[BackboneConfig, dict[str, Tensor]]:
    """A file's backbone and its tensors, taken out of the agent where it holds a whole one.

    Raises:
        WeightsError: the file is missing, corrupt, pickled or not of ours.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weight file {path}; check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(_why_unreadable(path, error)) from None
    try:
        config = BackboneConfig(
            metadata["backbone"],
            tuple(int(size) for size in json.loads(metadata["in_shape"])),
            dict(json.loads(metadata["backbone_options"])),
        )
    except (KeyError, TypeError, ValueError):
        raise WeightsError(
            f"{path} does not say which backbone it belongs to; "
            "only files that EightBit wrote can be loaded."
        ) from None
    if metadata.get("format") != FORMAT:
        tensors = {
            name.removeprefix(AGENT_PREFIX): tensor
            for name, tensor in tensors.items()
            if name.startswith(AGENT_PREFIX)
        }
    broken = [n for n, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    if broken:
        raise WeightsError(f"{path} holds values that are not numbers (in {broken[0]}).")
    return config, tensors


def _find(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    if path.is_dir():
        return path / "model.safetensors"
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    names = packaged_weights()
    if str(source) not in names:
        raise UnknownNameError("packaged weights", str(source), names)
    return PACKAGED / f"{source}.safetensors"


def _why_unreadable(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError:
        return f"{path} cannot be read ({error})."
    if start == b"PK" or start[:1] == b"\x80":  # torch.save writes a zip, pickle protocol 2 \x80
        return (
            f"{path} is a pickled file, which could run code when read, and is refused; "
            "save the weights as safetensors."
        )
    return f"{path} is no whole safetensors file ({error}); download or save it again."


def _to_bytes(config: BackboneConfig, tensors: Mapping[str, Tensor]) -> bytes:
    try:
        options = json.dumps(config.options)
    except TypeError as error:
        raise UsageError(
            f"the options of backbone {config.name!r} cannot be written as JSON ({error}); "
            "use numbers, strings, booleans and lists."
        ) from None
    metadata = {
        "format": FORMAT,
        "backbone": config.name,
        "in_shape": json.dumps(config.in_shape),
        "backbone_options": options,
    }
    return save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata
    )


def _write(path: Path, content: bytes) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written ({error.strerror}).") from None
    finally:
        with suppress(OSError):  # what went wrong above is the message that counts
            temporary.unlink(missing_ok=True)
    return path


def _fit(
    source: str,
    wanted: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    saved: BackboneConfig,
    config: BackboneConfig,
) -> tuple[dict[str, Tensor], LoadReport]:
    """The tensors to load, of `wanted`'s shapes, and where each layer's came from."""
    if wanted.keys() != tensors.keys():
        raise WeightsError(_differs(source, saved, config))
    layers: dict[str, list[str]] = {}
    for name in wanted:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    kernels = [name for name, tensor in wanted.items() if tensor.ndim == 4]
    fitted: dict[str, Tensor] = {}
    carried, adapted, anew = [], [], []
    for layer, names in layers.items():
        unlike = [name for name in names if wanted[name].shape != tensors[name].shape]
        if not unlike:
            fitted.update({name: tensors[name] for name in names})
            carried.append(layer)
        elif unlike == kernels[:1] and _differ_in_inputs(wanted[unlike[0]], tensors[unlike[0]]):
            fitted.update({name: tensors[name] for name in names})
            fitted[unlike[0]] = spread_kernel(tensors[unlike[0]], wanted[unlike[0]].shape[1])
            adapted.append(layer)
        elif any(name in kernels for name in unlike):
            raise WeightsError(_differs(source, saved, config))
        else:
            fitted.update({name: wanted[name] for name in names})
            anew.append(layer)
    if not carried and not adapted:
        raise WeightsError(_differs(source, saved, config))
    return fitted, LoadReport(source, tuple(carried), tuple(adapted), tuple(anew))


def _differ_in_inputs(a: Tensor, b: Tensor) -> bool:
    return a.shape[0] == b.shape[0] and a.shape[2:] == b.shape[2:]


def spread_kernel(kernel: Tensor, in_channels: int) -> Tensor:
    """(out, in, h, w) -> (out, in_channels, h, w): the mean over the inputs, repeated.

    The sum over the inputs stays, so pictures whose channels are alike give the same output.
    """
    mean = kernel.float().mean(dim=1, keepdim=True) * (kernel.shape[1] / in_channels)
    return mean.to(kernel.dtype).expand(-1, in_channels, -1, -1)


def _differs(source: str, saved: BackboneConfig, config: BackboneConfig) -> str:
    defaults = BACKBONES[config.name].options
    before: dict[str, Any] = {**defaults, **saved.options}
    unlike = {
        name: before.get(name)
        for name, value in config.options.items()
        if _plain(value) != _plain(before.get(name))
    }
    if not unlike:
        return (
            f"{source} was saved from a {config.name} for inputs {saved.in_shape}, and nothing or "
            f"not all of it fits one for {config.in_shape}; it may come from another version."
        )
    options = ", ".join(f"{name}={value!r}" for name, value in unlike.items())
    return f"{source} holds a {config.name} with {options}; build yours with the same options."


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
