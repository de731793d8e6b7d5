"""Pictures of every kind are read as a viewer shows them; what is none is refused in a sentence."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from eightbit.datasets.pictures import (
    decode_picture,
    list_pictures,
    read_picture,
    resize,
    write_picture,
)
from eightbit.errors import DataError, EightBitError, UsageError


def smooth(height: int = 40, width: int = 60) -> np.ndarray:
    """A picture that no coding changes much, and that no turn leaves as it is."""
    rows, columns = np.mgrid[:height, :width]
    rgb = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 90], axis=2)
    return rgb.astype(np.uint8)


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    content = encoded(Image.fromarray(smooth()), kind)
    np.testing.assert_array_equal(decode_picture(content, "a"), smooth())


@pytest.mark.parametrize(("kind", "error"), [("JPEG", 6), ("WEBP", 6), ("GIF", 40)])
def test_lossy_formats_come_back_nearly(kind: str, error: int) -> None:
    options = {} if kind == "GIF" else {"quality": 95}
    decoded = decode_picture(encoded(Image.fromarray(smooth()), kind, **options), "a")
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - smooth()).mean() < error


def test_jpeg_equals_opencvs_decoder() -> None:
    content = encoded(Image.fromarray(smooth()), "JPEG")
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decode_picture(content, "a").astype(int) - expected).max() <= 2


@pytest.mark.parametrize("kind", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_keep_the_upper_eight(
    kind: str, channels: int, rng: np.random.Generator
) -> None:
    deep = rng.integers(0, 65_536, (20, 30, channels), dtype=np.uint16)
    content = cv2.imencode(kind, deep[..., ::-1])[1].tobytes()
    expected = np.broadcast_to(deep >> 8, (20, 30, 3))
    np.testing.assert_array_equal(decode_picture(content, "a"), expected)


def test_cmyk_is_converted() -> None:
    picture = Image.fromarray(smooth()).convert("CMYK")
    decoded = decode_picture(encoded(picture, "JPEG", quality=95), "a")
    assert np.abs(decoded.astype(int) - smooth()).mean() < 6


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA"])
def test_grey_becomes_three_equal_channels(mode: str) -> None:
    decoded = decode_picture(
        encoded(Image.fromarray(smooth()).convert("L").convert(mode), "PNG"), "a"
    )
    assert decoded.shape == (40, 60, 3)
    assert (decoded == decoded[..., :1]).all()
    assert len(np.unique(decoded)) > 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(kind: str) -> None:
    rgba = np.dstack([smooth(), np.full((40, 60), 255, np.uint8)])
    rgba[:20, :, 3] = 0
    rgba[20:, :30, 3] = 128
    decoded = decode_picture(encoded(Image.fromarray(rgba), kind, lossless=True), "a").astype(int)
    assert (decoded[:20] == 255).all()
    half = 255 + (smooth()[20:, :30].astype(int) - 255) * 128 / 255
    assert np.abs(decoded[20:, :30] - half).max() <= 2
    np.testing.assert_array_equal(decoded[20:, 30:], smooth()[20:, 30:])


def test_a_transparent_colour_of_a_palette_is_white() -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((3, 2), 1)
    for kind, transparency in (("GIF", 0), ("PNG", bytes([0, 255]))):
        decoded = decode_picture(encoded(picture, kind, transparency=transparency), "a")
        assert decoded[2, 3].tolist() == [200, 100, 50]
        assert decoded[0, 0].tolist() == [255, 255, 255]


TURNS = {
    1: lambda rgb: rgb,
    2: lambda rgb: rgb[:, ::-1],
    3: lambda rgb: rgb[::-1, ::-1],
    4: lambda rgb: rgb[::-1],
    5: lambda rgb: rgb.transpose(1, 0, 2),
    6: lambda rgb: np.rot90(rgb, -1),
    7: lambda rgb: rgb[::-1, ::-1].transpose(1, 0, 2),
    8: lambda rgb: np.rot90(rgb),
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_an_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(smooth()), kind, exif=exif, quality=95)
    decoded = decode_picture(content, "a")
    upright = TURNS[orientation](smooth())
    assert decoded.shape == upright.shape
    assert np.abs(decoded.astype(int) - upright).mean() < 6


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_picture(content, "a")[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_picture_is_refused(kind: str, share: float, rng: np.random.Generator) -> None:
    noise = rng.integers(0, 256, (120, 120, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match=r"cat\.jpg is (damaged or truncated|not a picture)"):
        decode_picture(content[: int(len(content) * share)], "cat.jpg")


def bomb() -> bytes:
    """A PNG whose header promises 30,000 x 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "x is empty"),
        (b"<html>not found</html>", "x is not a picture"),
        (bomb(), "x has more than 89 million pixels"),
    ],
)
def test_what_is_no_picture_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_picture(content, "x")


def test_floating_point_samples_are_refused() -> None:
    content = encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(DataError, match="save it with 8 or 16 bits"):
        decode_picture(content, "x")


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"]),
    place=st.floats(0, 1),
    damage=st.binary(min_size=1, max_size=30),
)
def test_damage_anywhere_gives_a_picture_or_one_error(
    kind: str, place: float, damage: bytes
) -> None:
    content = bytearray(encoded(Image.fromarray(smooth()), kind))
    at = int(place * (len(content) - 1))
    content[at : at + len(damage)] = damage
    try:
        decoded = decode_picture(bytes(content), "x")
    except DataError:
        return
    assert decoded.dtype == np.uint8
    assert decoded.ndim == 3
    assert decoded.shape[2] == 3


def test_pictures_of_a_folder_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "a.png", "b/1.tif", "b/.hidden.png", ".cache/x.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    names = [path.relative_to(tmp_path).as_posix() for path in list_pictures(tmp_path)]
    assert names == ["a.png", "b/1.tif", "b/2.JPG"]
    assert list_pictures(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    with pytest.raises(DataError, match="does not exist"):
        list_pictures(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        list_pictures(tmp_path / "empty")


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.png cannot be read \(No such file"):
        read_picture(tmp_path / "absent.png")


@pytest.mark.parametrize(("suffix", "error"), [(".png", 0), (".jpg", 5), (".webp", 5)])
def test_what_is_written_is_read_back(tmp_path: Path, suffix: str, error: int) -> None:
    path = write_picture(tmp_path / "new" / f"cat{suffix}", smooth())
    assert np.abs(read_picture(path).astype(int) - smooth()).mean() <= error
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"names no format to write.*\.png, \.jpg"):
        write_picture(tmp_path / "cat.xyz", smooth())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(EightBitError, match="cannot be written"):
        write_picture(tmp_path / "file" / "cat.png", smooth())


@settings(max_examples=60, deadline=None)
@given(
    old=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    new=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    value=st.integers(0, 255),
    channels=st.sampled_from([None, 1, 3]),
)
def test_resizing_keeps_a_plain_colour_and_gives_the_size(
    old: tuple[int, int], new: tuple[int, int], value: int, channels: int | None
) -> None:
    tail = () if channels is None else (channels,)
    resized = resize(np.full((*old, *tail), value, np.uint8), *new)
    assert resized.shape == (*new, *tail)
    assert (resized == value).all()


def test_shrinking_takes_means_so_that_stripes_do_not_alias() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    assert (resize(stripes, 16, 16) == 100).all()
    assert (resize(stripes, 128, 16) == 100).all()
