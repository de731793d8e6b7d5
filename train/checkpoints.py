"""Checkpoints: nested state on disk as safetensors and JSON, never pickled, never half-written.

A checkpoint is a folder of a run's `checkpoints/`:

    step-000000250000/          after 250,000 agent steps
        state.safetensors       everything that resuming needs, except the replay memory
        replay.safetensors      the replay memory, where the run keeps it
        model.safetensors       what playing needs
    best-000000200000/          the best so far: the same without the replay memory

It is written under another name, synced to the disk and then renamed, so that a folder with one
of these names is whole, and the parts in one folder always belong together.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from ..errors import RunFolderError, TrainingError

FORMAT = "eightbit-state"
VERSION = 1
KEPT = 2


class DamagedError(RunFolderError):
    """A file is incomplete or altered, so that an older checkpoint may have to serve."""


_NUMPY_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}
_CHUNK = 1 << 24  # bytes handed to the disk at once
_FOLDER = re.compile(r"^(step|best)-(\d{12})$")


# ------------------------------------------------------------------------------- state files


def save_state(
    path: str | Path, state: Mapping[str, Any], *, metadata: Mapping[str, str] = {}
) -> None:
    """Writes a nested state as one safetensors file, in constant memory, and syncs it.

    Args:
        path: the file; what it held before is replaced only when the new file is whole.
        state: dicts, lists and tuples of tensors, NumPy arrays and scalars, numbers, strings,
            None. Arrays are written from where they stand, not copied.
        metadata: further text for the header.

    Raises:
        TypeError: something in `state` is of another type; the message names the place.
        OSError: the disk refuses; the file of that name is as it was.
    """
    path = Path(path)
    arrays: dict[str, tuple[str, tuple[int, ...], np.ndarray]] = {}
    structure = json.dumps(_encode(state, "", arrays))
    # Wide types first, so that each tensor stands at a multiple of its item size.
    ordered = sorted(arrays.items(), key=lambda item: -item[1][2].itemsize)
    checksum = 0
    for _, (_, _, array) in ordered:
        for part in _bytes_of(array):
            checksum = zlib.crc32(part, checksum)
    header: dict[str, Any] = {
        "__metadata__": {
            **metadata,
            "format": FORMAT,
            "version": str(VERSION),
            "structure": structure,
            "crc32": f"{checksum:08x}",
            "structure_crc32": f"{zlib.crc32(structure.encode()):08x}",
        }
    }
    start = 0
    for key, (dtype, shape, array) in ordered:
        end = start + array.nbytes
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    def write(file: IO[bytes]) -> None:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, (_, _, array) in ordered:
            for part in _bytes_of(array):
                file.write(part)

    write_atomically(path, write)


def load_state(path: str | Path) -> dict[str, Any]:
    """Reads what `save_state` wrote; large tensors are mapped from the file, not copied.

    Raises:
        DamagedError: the file is missing, incomplete, altered or pickled.
        RunFolderError: it is from a newer version of this program.
    """
    path = Path(path)
    if not path.is_file():
        raise DamagedError(f"{path} is missing.")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            _check_header(path, metadata)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged and was not read ({error}).") from None
    _check_sums(path, metadata)
    state = _decode(json.loads(metadata["structure"]), tensors)
    assert isinstance(state, dict)
    return state


def read_header(path: str | Path) -> dict[str, str]:
    """Returns the text metadata of a file of `save_state` without reading its tensors.

    Raises RunFolderError as `load_state` does.
    """
    path = Path(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedError(f"{path} is damaged and was not read ({error}).") from None
    _check_header(path, metadata)
    return metadata


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Calls `write` on a new file beside `path`, syncs it and renames it to `path`."""
    temporary = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _check_header(path: Path, metadata: Mapping[str, str]) -> None:
    known = {"version", "structure", "crc32"} <= set(metadata)
    if metadata.get("format") != FORMAT or not known or not metadata["version"].isdigit():
        raise DamagedError(f"{path} is not a state file of eightbit.")
    if int(metadata["version"]) > VERSION:
        raise RunFolderError(
            f"{path} was written by a newer version of eightbit; "
            "upgrade with 'pip install -U eightbit'."
        )


def _check_sums(path: Path, metadata: Mapping[str, str]) -> None:
    checksum = 0
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little"))
        while part := file.read(_CHUNK):
            checksum = zlib.crc32(part, checksum)
    sums = {"crc32": checksum, "structure_crc32": zlib.crc32(metadata["structure"].encode())}
    if any(metadata.get(name, f"{value:08x}") != f"{value:08x}" for name, value in sums.items()):
        raise DamagedError(f"{path} is damaged and was not read (its checksum differs).")


def _bytes_of(array: np.ndarray) -> Iterator[memoryview]:
    flat = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
    for start in range(0, len(flat), _CHUNK):
        yield flat[start : start + _CHUNK]


def _encode(value: Any, place: str, arrays: dict) -> Any:
    """Turns a value into JSON; its arrays go to `arrays` under the place where they stand."""
    if value is None or isinstance(value, (bool, int, float, str)) and not _is_numpy(value):
        return value
    if isinstance(value, torch.Tensor):
        arrays[place] = _tensor_bytes(value)
        return {"$tensor": place}
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        if array.dtype.name not in _NUMPY_NAMES or not array.dtype.isnative:
            raise TypeError(f"cannot store {place or 'the state'}: dtype {array.dtype}")
        arrays[place] = (_NUMPY_NAMES[array.dtype.name], np.shape(value), array)
        return {"$array" if isinstance(value, np.ndarray) else "$scalar": place}
    if isinstance(value, Mapping):
        pairs = [(key, _encode(item, f"{place}/{key}", arrays)) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        if all(isinstance(key, (str, int)) for key, _ in pairs):
            return {"$dict": [list(pair) for pair in pairs]}
        raise TypeError(f"cannot store {place or 'the state'}: keys must be text or integers")
    if isinstance(value, (list, tuple)):
        items = [_encode(item, f"{place}/{i}", arrays) for i, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    raise TypeError(f"cannot store {place or 'the state'}: {type(value).__name__}")


def _decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (kind, content), *_ = value.items()
        if kind == "$tensor":
            return tensors[content]
        if kind == "$array":
            return tensors[content].numpy()
        if kind == "$scalar":
            return tensors[content].numpy()[()]
        if kind == "$tuple":
            return tuple(_decode(item, tensors) for item in content)
        if kind == "$dict":
            return {key: _decode(item, tensors) for key, item in content}
    return {key: _decode(item, tensors) for key, item in value.items()}


def _is_numpy(value: Any) -> bool:
    return isinstance(value, np.generic)  # np.float64 is a float too, and must come back as itself


def _tensor_bytes(tensor: torch.Tensor) -> tuple[str, tuple[int, ...], np.ndarray]:
    tensor = tensor.detach().cpu().contiguous()
    shape = tuple(tensor.shape)
    if tensor.dtype == torch.bfloat16:  # NumPy has no such type: its bits go as integers
        return "BF16", shape, tensor.view(torch.int16).numpy()
    array = tensor.numpy()
    return _NUMPY_NAMES[array.dtype.name], shape, array


# ------------------------------------------------------------------------------- checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint folder. `step` counts agent steps over all environments."""

    folder: Path
    step: int
    is_best: bool

    @property
    def model(self) -> Path:
        """The playable weights."""
        return self.folder / "model.safetensors"

    @property
    def has_replay(self) -> bool:
        return (self.folder / "replay.safetensors").is_file()

    @property
    def state(self) -> Path:
        """What resuming needs, except the replay memory."""
        return self.folder / "state.safetensors"

    def load_state(self) -> dict[str, Any]:
        """Returns the state as it was saved.

        Raises RunFolderError when it is damaged, missing or from a newer version.
        """
        return load_state(self.state)

    def load_replay(self) -> dict[str, Any] | None:
        """Returns the replay memory, None where it was not kept; raises as `load_state` does."""
        return load_state(self.folder / "replay.safetensors") if self.has_replay else None


class Checkpoints:
    """The checkpoints of one run: the last two and the best.

    Args:
        folder: `RUN/checkpoints`; made when missing.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def steps(self) -> list[Checkpoint]:
        """All whole checkpoints but the best, oldest first."""
        return [found for found in self._all() if not found.is_best]

    def best(self) -> Checkpoint | None:
        """The best checkpoint, or None before the first one."""
        best = [found for found in self._all() if found.is_best]
        return best[-1] if best else None

    def find(self, which: str) -> Checkpoint:
        """Returns the checkpoint called `last`, `best` or by its number of agent steps.

        Raises RunFolderError naming what there is when there is no such checkpoint.
        """
        found = self._all()
        if which == "last" and self.steps():
            return self.steps()[-1]
        if which == "best":
            found = [one for one in found if one.is_best]
        elif which != "last":
            found = [one for one in found if str(one.step) == which]
        if found:
            return found[-1]
        there = sorted({str(one.step) for one in self._all()}, key=int)
        listed = f"it has {', '.join(there)}" if there else "it has none yet"
        raise RunFolderError(f"{self.folder.parent} has no checkpoint {which!r}: {listed}.")

    def save(
        self,
        step: int,
        state: Mapping[str, Any],
        *,
        replay: Mapping[str, Any] | None,
        save_model: Callable[[Path], None],
        best: bool = False,
        metadata: Mapping[str, str] = {},
    ) -> Checkpoint:
        """Writes a checkpoint, then removes those that it makes superfluous.

        Args:
            step: agent steps so far.
            state: what resuming needs.
            replay: the replay memory, or None.
            save_model: writes the playable weights to the path it is given.
            best: written as the best one, in place of the best before.
            metadata: text for the header of the state, see `read_header`.

        Raises:
            TrainingError: the disk is full or refuses; earlier checkpoints are untouched.
        """
        kind = "best" if best else "step"
        target = self.folder / f"{kind}-{step:012d}"
        temporary = self.folder / f".tmp-{target.name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            if replay is not None:
                save_state(temporary / "replay.safetensors", replay)
            save_state(temporary / "state.safetensors", state, metadata=metadata)
            save_model(temporary / "model.safetensors")
            _sync(temporary / "model.safetensors")
            _sync(temporary)
            if target.exists():  # a kill between the two renames is mended when resuming
                os.replace(target, self.folder / f".was-{target.name}")
            os.replace(temporary, target)
            shutil.rmtree(self.folder / f".was-{target.name}", ignore_errors=True)
            _sync(self.folder)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise TrainingError(
                f"cannot write a checkpoint to {self.folder}: {_refusal(error)}"
            ) from None
        self._tidy(best)
        return Checkpoint(target, step, best)

    def set_aside(self, checkpoint: Checkpoint) -> None:
        """Renames a damaged checkpoint so that it no longer counts; nothing is deleted."""
        aside, number = self.folder / f"damaged-{checkpoint.folder.name}", 1
        while aside.exists():
            number += 1
            aside = self.folder / f"damaged-{checkpoint.folder.name}-{number}"
        os.replace(checkpoint.folder, aside)

    def clear_leftovers(self) -> None:
        """Removes what a process left half-written or half-removed when it was killed."""
        if self.folder.is_dir():
            for found in self.folder.iterdir():
                replaced = self.folder / found.name.removeprefix(".was-")
                if found.name.startswith(".was-") and not replaced.exists():
                    os.replace(found, replaced)
                elif found.name.startswith((".tmp-", ".old-", ".was-")):
                    shutil.rmtree(found)

    def _all(self) -> list[Checkpoint]:
        names = os.listdir(self.folder) if self.folder.is_dir() else []
        matches = [match for name in sorted(names) if (match := _FOLDER.match(name))]
        found = [Checkpoint(self.folder / m[0], int(m[2]), m[1] == "best") for m in matches]
        return sorted(found, key=lambda one: one.step)

    def _tidy(self, best: bool) -> None:
        of_kind = [found for found in self._all() if found.is_best == best]
        for found in of_kind[: -1 if best else -KEPT]:
            self._remove(found.folder)

    def _remove(self, folder: Path) -> None:
        aside = self.folder / f".old-{folder.name}"
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)  # renamed first: a half-removed folder never counts
        shutil.rmtree(aside)


def _refusal(error: Exception) -> str:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
    if full or "No space left" in str(error):
        return "the disk is full"
    return f"the disk refuses ({getattr(error, 'strerror', None) or error})"


def _sync(path: Path) -> None:
    """Asks the system to put a file, or a folder's list of names, on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders; its renames are journalled
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
