"""CRC-32C (Castagnoli), of many parts of a buffer together.

The register of a checksum is linear in its bytes: parts are cut in pieces of one length, all
pieces are computed side by side, and each is shifted behind those before it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # its bits in reverse order
_PIECE_BYTES = 256
_ALL = np.uint32(0xFFFFFFFF)

_Numbers = npt.NDArray[Any]  # of 32 bits without a sign


@functools.cache
def _table() -> _Numbers:
    register = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        odd = (register & 1).astype(bool)
        register = np.where(odd, (register >> 1) ^ np.uint32(_POLYNOMIAL), register >> 1)
    return register.astype(np.uint32)


@functools.cache
def _shifts() -> _Numbers:
    """Give what the bytes of a register become behind a piece of zeros, byte by byte."""
    table = _table()
    places = np.arange(4, dtype=np.uint32)[:, None] * np.uint32(8)
    register = np.arange(256, dtype=np.uint32)[None, :] << places
    for _ in range(_PIECE_BYTES):
        register = table[register & 0xFF] ^ (register >> 8)
    return register


def checksums(
    buffer: bytes | bytearray | memoryview,
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
) -> _Numbers:
    """Give the checksum of each part of a buffer.

    Parameters
    ----------
    buffer : bytes
    starts, lengths : arrays of shape (n,)
        The parts, in bytes.
    """
    data = np.frombuffer(buffer, np.uint8)
    heads = lengths % _PIECE_BYTES
    pieces = lengths // _PIECE_BYTES
    register = _heads(data, starts, heads)
    # Pieces of all parts, those of a part behind one another.
    first = np.concatenate(([0], np.cumsum(pieces)))
    ranks = np.arange(first[-1]) - np.repeat(first[:-1], pieces)
    places = np.repeat(starts + heads, pieces) + ranks * _PIECE_BYTES
    table, shifts = _table(), _shifts()
    of_pieces = np.zeros(len(places), np.uint32)
    for at in range(_PIECE_BYTES if len(places) else 0):
        of_pieces = table[(of_pieces ^ data[places + at]) & 0xFF] ^ (of_pieces >> 8)
    one, two, three, four = shifts.tolist()
    of_each = of_pieces.tolist()
    for i in np.flatnonzero(pieces).tolist():
        here = int(register[i])
        for piece in of_each[first[i] : first[i + 1]]:
            low = one[here & 255] ^ two[here >> 8 & 255]
            here = low ^ three[here >> 16 & 255] ^ four[here >> 24] ^ piece
        register[i] = here
    return register ^ _ALL


def _heads(
    data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> _Numbers:
    """Give the registers behind the first bytes of parts."""
    table = _table()
    order = np.argsort(-lengths, kind="stable")
    sorted_starts, sorted_lengths = starts[order], lengths[order]
    register = np.full(len(starts), _ALL)
    for at in range(int(lengths.max(initial=0))):
        count = int(np.searchsorted(-sorted_lengths, -at, "left"))
        here = register[:count]
        read = data[sorted_starts[:count] + at]
        register[:count] = table[(here ^ read) & 0xFF] ^ (here >> 8)
    result = np.empty_like(register)
    result[order] = register
    return result
