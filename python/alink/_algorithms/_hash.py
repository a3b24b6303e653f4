"""MurmurHash3, by which Alink gives features their places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_BYTES_TOGETHER = 1 << 24  # of a table of texts that are hashed at the same time


def hashes(texts: Sequence[str]) -> npt.NDArray[np.int32]:
    """Give the 32-bit hashes of texts' UTF-16 code units, of seed 0.

    A. Appleby, MurmurHash3_x86_32; as Guava's ``murmur3_32().hashUnencodedChars`` has it.
    """
    result = np.empty(len(texts), np.int32)
    data = [text.encode("utf-16-le", "surrogatepass") for text in texts]
    lengths = np.array([len(item) for item in data], np.int64)
    order = np.argsort(lengths, kind="stable")  # texts of about one length are hashed together
    at = 0
    while at < len(order):
        size = int(lengths[order[at]])
        end = at + 1
        while (
            end < len(order)
            and lengths[order[end]] <= 2 * size + 16
            and (end - at) * (2 * size + 16) < _BYTES_TOGETHER
        ):
            end += 1
        group = order[at:end]
        result[group] = _hashes([data[i] for i in group], lengths[group])
        at = end
    return result


def _hashes(data: Sequence[bytes], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    width = (int(lengths.max()) + 3) // 4 * 4
    padded = b"".join(item.ljust(width, b"\0") for item in data)
    blocks = np.frombuffer(padded, "<u4").reshape(len(data), width // 4).astype(np.uint32)
    hashed = np.zeros(len(data), np.uint32)
    for i in range(width // 4):
        left = lengths - 4 * i
        mixed = blocks[:, i] * np.uint32(0xCC9E2D51)
        mixed = _turned(mixed, 15) * np.uint32(0x1B873593)
        begun = np.where(left > 0, hashed ^ mixed, hashed)
        whole = _turned(begun, 13) * np.uint32(5) + np.uint32(0xE6546B64)
        hashed = np.where(left >= 4, whole, begun)
    hashed ^= lengths.astype(np.uint32)
    hashed ^= hashed >> np.uint32(16)
    hashed *= np.uint32(0x85EBCA6B)
    hashed ^= hashed >> np.uint32(13)
    hashed *= np.uint32(0xC2B2AE35)
    hashed ^= hashed >> np.uint32(16)
    return hashed.view(np.int32)


def _turned(value: npt.NDArray[np.uint32], by: int) -> npt.NDArray[np.uint32]:
    return (value << np.uint32(by)) | (value >> np.uint32(32 - by))
