"""Small JPEG files by the hundred thousand: the pixels of `decode_picture`, several times as fast.

Pillow spends most of a 32 x 32 picture's time under the interpreter's lock; OpenCV, on the same
library below it, does not. It is silent about truncated files and differs on CMYK and on pictures
that EXIF turns, so that only plain files are given to it.
"""

from __future__ import annotations

import cv2
import numpy as np

from .pictures import decode_picture

_LARGEST = 1 << 20
_HEADER = 4096


def decode_quickly(content: bytes, name: str) -> np.ndarray:
    """What `decode_picture` returns and raises; RGB uint8 (H, W, 3).

    Of files that are whole but damaged inside, either decoder shows most as they are; Pillow
    refuses a few more.
    """
    if _is_plain(content):
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        if pixels is not None:
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return decode_picture(content, name)


def _is_plain(content: bytes) -> bool:
    """Whether this is a whole small JPEG of one or three components without EXIF or colour tag."""
    if content[:2] != b"\xff\xd8" or content[-2:] != b"\xff\xd9":
        return False
    at = 2
    while at + 10 <= min(len(content), _HEADER):
        if content[at] != 0xFF:
            return False
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        if marker in (0xC0, 0xC1, 0xC2):  # start of frame: precision, height, width, components
            height = int.from_bytes(content[at + 5 : at + 7], "big")
            width = int.from_bytes(content[at + 7 : at + 9], "big")
            eight_bits = content[at + 4] == 8
            return eight_bits and content[at + 9] in (1, 3) and 0 < height * width <= _LARGEST
        if marker not in (0xE0, 0xDB, 0xC4, 0xDD, 0xFE):  # JFIF, tables, restart, comment
            return False
        at += 2 + length
    return False
