"""Pictures from and to files: whatever a camera, a scanner or a web page left, as RGB uint8."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError, EightBitError, UsageError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
"""Endings of file names, in lower case, that `list_pictures` takes for pictures."""

MAX_PIXELS = 89_478_485
"""Pixels of the largest picture that is decoded; it is the limit at which Pillow begins to warn."""

_ENCODINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def decode_picture(content: bytes, name: str) -> np.ndarray:
    """Decodes BMP, GIF, JPEG, PNG, PPM, TIFF or WebP into what a viewer would show.

    An EXIF orientation is applied, CMYK and palettes are converted, grey becomes three equal
    channels, transparency is laid over white, of 16 bits the upper eight are kept, and of an
    animation the first frame.

    Args:
        content: the file.
        name: for error messages.

    Returns:
        RGB uint8 (H, W, 3), writable, its own memory.

    Raises:
        DataError: empty, not a picture, damaged or truncated, floating-point, or of more than
            MAX_PIXELS (which is read from the header, before anything is decoded).
    """
    if not content:
        raise DataError(f"{name} is empty.")
    try:
        picture = Image.open(io.BytesIO(content))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(name) from None
    except Exception as error:  # decoders of damaged files raise errors of every kind
        raise DataError(f"{name} is not a picture of a known format.") from error
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_large(name)
    try:
        picture.load()
        pixels = _rgb(ImageOps.exif_transpose(picture))
    except MemoryError:
        raise
    except Exception as error:
        raise DataError(f"{name} is damaged or truncated; get a whole copy of it.") from error
    if pixels is None:
        raise DataError(f"{name} has {picture.mode!r} samples; save it with 8 or 16 bits each.")
    return pixels


def _too_large(name: str) -> DataError:
    return DataError(
        f"{name} has more than {MAX_PIXELS / 1e6:.0f} million pixels; make it smaller first."
    )


def _rgb(picture: Image.Image) -> np.ndarray | None:
    """RGB uint8 (H, W, 3); None for samples of which white is not known."""
    if picture.mode == "F":
        return None
    if picture.mode.startswith("I"):  # grey of 16 bits, which may lie in integers of 32
        grey = np.asarray(picture)
        if grey.min() < 0 or grey.max() > 65_535:
            return None
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def read_picture(path: Path) -> np.ndarray:
    """Reads a picture file as `decode_picture` does.

    Returns:
        RGB uint8 (H, W, 3).

    Raises:
        DataError: as `decode_picture`, or the file is missing or cannot be read.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    return decode_picture(content, str(path))


def list_pictures(path: Path) -> list[Path]:
    """Pictures of a folder and the folders below it, in order; a file is a list of itself.

    Files count as pictures by their SUFFIXES; what begins with a dot is left out.

    Raises:
        DataError: nothing of that name, or a folder without pictures.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; name a picture or a folder of pictures.")
    found = [
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.is_file()
    ]
    if not found:
        raise DataError(f"{path} holds no pictures ({', '.join(SUFFIXES)}).")
    return sorted(found)


def write_picture(path: Path, rgb: np.ndarray) -> Path:
    """Writes a picture in the format of the name's ending; it appears when it is complete.

    PNG loses nothing; JPEG and WebP are written at quality 95, JPEG without halving the colour.

    Args:
        path: ends in .png, .jpg, .jpeg or .webp; its folder is made.
        rgb: uint8 (H, W, 3).

    Returns:
        The path.

    Raises:
        UsageError: another ending.
        EightBitError: the file cannot be written.
    """
    path = Path(path)
    encoding = _ENCODINGS.get(path.suffix.lower())
    if encoding is None:
        known = ", ".join(_ENCODINGS)
        raise UsageError(f"{path} names no format to write; let it end in one of {known}.")
    settings: dict[str, int] = {} if encoding == "PNG" else {"quality": 95}
    if encoding == "JPEG":
        settings["subsampling"] = 0
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(rgb)).save(partial, encoding, **settings)
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise EightBitError(f"{path} cannot be written ({reason}).") from error
    return path


def resize(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes a picture: each axis by area where it shrinks, by cubic curves where it grows.

    Args:
        rgb: uint8 or float32 (H, W) or (H, W, C).
        height, width: wanted, at least 1.

    Returns:
        The same dtype, (height, width) or (height, width, C).
    """
    smaller = (min(width, rgb.shape[1]), min(height, rgb.shape[0]))
    shrunk = cv2.resize(rgb, smaller, interpolation=cv2.INTER_AREA)
    grown = cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(grown).reshape(height, width, *rgb.shape[2:])
