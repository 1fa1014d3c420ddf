"""What ``png_dense`` writes, in plain Python: deflate blocks (RFC 1951) of literals and long runs.

A group of 16 bytes in every 256 is the sample. Bytes of groups that are no runs are counted, every symbol
once more; the code is the best one for these counts, cut to 14 bits. Groups that repeat the byte before them
begin a run, all other bytes are literals.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

GROUP, SAMPLED, ENOUGH = 16, 256, 2048
LITERALS, DISTANCES, END = 286, 30, 256
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
WORDS = (1 << 64) - 1

Code = tuple[int, int]
"""Bits, the first of them lowest, and how many."""


def stream(data: bytes, last: bool) -> bytes:
    """Return the block of ``data``; nothing where much of it repeats, or little is written in it."""
    groups = [data[at : at + GROUP] for at in range(0, len(data) - GROUP + 1, SAMPLED)]
    told = [group for group in groups if len(set(group)) > 1]
    plain = np.bincount(np.frombuffer(b"".join(told), np.uint8), minlength=LITERALS)
    counts = plain + 1
    counts[LITERALS - 1] += (len(groups) - len(told)) * GROUP // 258
    literal_lengths = lengths_of(counts.tolist(), 14)
    literals = GROUP * len(told)
    bits = int((plain[:END] * literal_lengths[:END]).sum())
    if (
        literals < max(ENOUGH, (len(groups) - len(told)) * GROUP // 16)
        or 2 * bits < 3 * literals
        or 3 * repeated(told) >= len(told)
    ):
        return b""
    lengths = [*literal_lengths, 1, 1, *[0] * (DISTANCES - 2)]
    codes = codes_of(literal_lengths)
    parts = [*header(lengths, last), *body(data, codes), codes[END]]
    written = packed(parts if last else [*parts, (0, 3)]) + (b"" if last else b"\0\0\xff\xff")
    return written if len(written) <= len(data) + len(data) // 64 else b""


def repeated(groups: list[bytes]) -> int:
    """Count the groups that were there before, as a small table of their hashes finds them."""
    seen: dict[int, int] = {}
    found = 0
    for group in groups:
        low, high = (int.from_bytes(half, "little") for half in (group[:8], group[8:]))
        mixed = (low ^ (high << 23 & WORDS | high >> 41)) * 0x9E3779B97F4A7C15 & WORDS
        mixed ^= mixed >> 29
        found += seen.get(mixed % 2048, 0) == mixed >> 32
        seen[mixed % 2048] = mixed >> 32
    return found


def lengths_of(counts: list[int], most: int) -> NDArray[np.int64]:
    """Return the lengths of Huffman's code of the symbols that are counted, none longer than ``most``.

    The lightest two trees are joined, leaves before others of their weight, then those that were
    there first. Codes that are too long become siblings of the longest that are not.
    """
    order = sorted((count, symbol) for symbol, count in enumerate(counts) if count)
    trees = [(count, 0, rank, (rank,)) for rank, (count, _) in enumerate(order)]
    depths = [0] * len(order)
    while len(trees) > 1:
        (one, *_, left), (two, *_, right) = heapq.heappop(trees), heapq.heappop(trees)
        for leaf in left + right:
            depths[leaf] += 1
        heapq.heappush(trees, (one + two, 1, len(order) - len(trees), left + right))
    many = np.bincount(np.minimum(depths, most), minlength=most + 1)
    while sum(int(many[length]) << (most - length) for length in range(1, most + 1)) > 1 << most:
        length = max(length for length in range(1, most) if many[length])
        many[length : length + 2] += (-1, 2)
        many[most] -= 1
    lengths = np.zeros(len(counts), np.int64)
    lengths[[symbol for _, symbol in order]] = np.repeat(np.arange(most, 0, -1), many[:0:-1])
    return lengths


def codes_of(lengths: NDArray[np.int64]) -> list[Code]:
    """Return the code of each symbol: RFC 1951, section 3.2.2."""
    codes, code = [(0, 0)] * len(lengths), 0
    for length in range(1, int(lengths.max()) + 1):
        code <<= 1
        for symbol in np.flatnonzero(lengths == length):
            codes[symbol] = (int(f"{code:0{length}b}"[::-1], 2), length)
            code += 1
    return codes


def header(lengths: list[int], last: bool) -> Iterator[Code]:
    """Tell the kind of the block and the lengths of its codes: RFC 1951, section 3.2.7."""
    runs = list(run_lengths(lengths))
    own = lengths_of(np.bincount([symbol for symbol, _ in runs], minlength=19).tolist(), 7)
    sent = max(at for at, symbol in enumerate(ORDER) if own[symbol]) + 1
    yield from ((int(last), 1), (2, 2), (LITERALS - 257, 5), (DISTANCES - 1, 5), (sent - 4, 4))
    yield from ((int(own[symbol]), 3) for symbol in ORDER[:sent])
    codes = codes_of(own)
    for symbol, tail in runs:
        yield codes[symbol]
        yield tail, {16: 2, 17: 3, 18: 7}.get(symbol, 0)


def run_lengths(lengths: list[int]) -> Iterator[tuple[int, int]]:
    """Shorten what is repeated: 16 is 3 … 6 times the length before, 17 and 18 are 3 … 10, 11 … 138 zeros."""
    at = 0
    while at < len(lengths):
        length, run = lengths[at], 1
        while lengths[at + run : at + run + 1] == [length]:
            run += 1
        at += run
        if length:
            yield length, 0
            run -= 1
        while run > (2 if length else 10):
            some = min(run, 6 if length else 138)
            yield (16, some - 3) if length else (18, some - 11)
            run -= some
        if not length and run > 2:
            yield 17, run - 3
            run = 0
        yield from [(length, 0)] * run


def body(data: bytes, codes: list[Code]) -> Iterator[Code]:
    """Write bytes by their codes; those that repeat the byte before as matches of distance 1."""
    at = 0
    while at < len(data):
        run = 0
        if at and data[at : at + GROUP] == data[at - 1 : at] * GROUP:
            run = len(data) - at - len(data[at:].lstrip(data[at - 1 : at]))
        at += run
        while run > 2:
            yield from match(min(run, 258), codes)
            run -= min(run, 258)
        some = run or GROUP
        yield from (codes[value] for value in data[at - run : at - run + some])
        at += some - run


def match(length: int, codes: list[Code]) -> Iterator[Code]:
    """Write a match of ``length`` 3 … 258 at distance 1: RFC 1951, section 3.2.5."""
    tails = [0] * 8 + [bits for bits in range(1, 6) for _ in range(4)]
    starts = np.cumsum([3, *(1 << bits for bits in tails)])
    if length == 258:
        yield codes[285]
    else:
        place = int(np.searchsorted(starts, length, "right")) - 1
        yield codes[257 + place]
        yield int(length - starts[place]), tails[place]
    yield 0, 1


def packed(codes: list[Code]) -> bytes:
    """Return codes as bytes, filled up with zeros."""
    text = "".join(f"{bits:0{count}b}"[::-1] for bits, count in codes if count)
    return bytes(int(text[at : at + 8][::-1], 2) for at in range(0, len(text), 8))
