"""Mutations of TIFF files: wrong tags, cyclic directories, odd texts, spoiled streams, cut ends."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
WORDS = {1: "B", 3: "H", 4: "I", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
ODD = (
    0,
    1,
    2,
    3,
    7,
    8,
    12,
    16,
    17,
    255,
    256,
    4096,
    65535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
)
KINDS = (0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 16, 17, 99)
TAGS = (
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 284, 292, 296, 305, 317, 320,
    322, 323, 324, 325, 330, 338, 339, 347, 529, 530, 532, 32997, 34675, 42113, 50838, 50839, 65421, 65426,
)  # fmt: skip
COMPRESSIONS = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 33003, 34712, 34887, 34925, 34933, 50000, 50001, 50002, 34892)
NUMBERS = ("-1", "0", "99999999999999999999", "2147483647", "NaN", "1e400", "", "x", "1.5", "٣")
TILES = (273, 279, 324, 325)
MOST_PAGES = 64


@dataclass(frozen=True)
class Field:
    """A tag where it stands in a file: of its entry and of its values."""

    code: int
    kind: int
    count: int
    entry: int
    values: int

    @property
    def size(self) -> int:
        """Bytes of the values."""
        return self.count * SIZES.get(self.kind, 1)


@dataclass(frozen=True)
class Map:
    """What a file's structure is: widths, the places of links to directories, and all fields."""

    order: str
    big: bool
    links: tuple[int, ...]
    directories: tuple[int, ...]
    fields: tuple[Field, ...]


def read_map(data: bytes) -> Map:
    """Return the structure of a TIFF file, as far as it can be followed."""
    order = ">" if data[:2] == b"MM" else "<"
    big = len(data) > 16 and struct.unpack_from(order + "H", data, 2)[0] == 43
    links, directories, fields = [8 if big else 4], [], []
    waiting = [links[0]]
    while waiting and len(directories) < MOST_PAGES:
        at = _word(data, waiting.pop(0), order, big)
        if at is None or at in directories or at < 8:
            continue
        found = list(_fields(data, at, order, big))
        directories.append(at)
        fields += found
        end = at + (8 if big else 2) + len(found) * (20 if big else 12)
        subs = [field.values for field in found if field.code == 330 and field.count < 9]
        links += [end, *subs]
        waiting += [end, *subs]
    return Map(order, big, tuple(links), tuple(directories), tuple(fields))


def _word(data: bytes, at: int, order: str, big: bool) -> int | None:
    try:
        return int(struct.unpack_from(order + ("Q" if big else "I"), data, at)[0])
    except struct.error:
        return None


def _fields(data: bytes, at: int, order: str, big: bool) -> Iterator[Field]:
    head, entry, inline = (8, "HHQ", 8) if big else (2, "HHI", 4)
    try:
        number = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
        for index in range(min(number, 200)):
            place = at + head + index * (20 if big else 12)
            code, kind, count = struct.unpack_from(order + entry, data, place)
            field = Field(code, kind, count, place, place + (12 if big else 8))
            value = _word(data, field.values, order, big)
            yield field if field.size <= inline else Field(code, kind, count, place, value or 0)
    except struct.error:
        return


class Mutation:
    """A file that is changed in place, bit by bit."""

    def __init__(self, data: bytes, chance: random.Random) -> None:
        self.data = bytearray(data)
        self.chance = chance
        self.map = read_map(data)

    def put(self, at: int, word: str, value: int) -> None:
        """Write a number of ``struct``'s kind ``word``, wrapped around to its width."""
        size = struct.calcsize(word)
        data = (value & ((1 << 8 * size) - 1)).to_bytes(size, "big" if self.map.order == ">" else "little")
        self.data[at : at + size] = data[: max(0, len(self.data) - at)]

    def field(self, *codes: int) -> Field | None:
        """Return any field, or any of the ``codes``."""
        fields = [field for field in self.map.fields if not codes or field.code in codes]
        return self.chance.choice(fields) if fields else None

    def odd(self) -> int:
        """Return a number that asks for trouble."""
        near = (len(self.data), len(self.data) - 1, *self.map.directories[:3])
        return self.chance.choice((*ODD, *near, -1, self.chance.randrange(1 << 16)))

    def value(self) -> None:
        """Change one value of a tag."""
        field = self.field()
        if field is None or field.kind not in WORDS:
            return self.bytes_anywhere()
        at = field.values + SIZES[field.kind] * self.chance.randrange(max(1, min(field.count, 1 << 16)))
        return self.put(at, WORDS[field.kind], self.odd())

    def likely_value(self) -> None:
        """Give a tag another value that its kind of tag may have."""
        field = self.field(256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 338, 339, 530)
        if field is None or field.kind not in WORDS:
            return
        small = self.chance.choice(
            (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 17, 32, 64, 100, 240, 1000, 5000, 65535)
        )
        value = self.chance.choice(COMPRESSIONS) if field.code == 259 else small
        self.put(field.values, WORDS[field.kind], value)

    def count(self) -> None:
        """Change how many values a tag has."""
        if field := self.field():
            self.put(field.entry + 4, "Q" if self.map.big else "I", self.odd())

    def offset(self) -> None:
        """Change where a tag's values are."""
        if field := self.field():
            self.put(field.entry + (12 if self.map.big else 8), "Q" if self.map.big else "I", self.odd())

    def kind(self) -> None:
        """Change the type of a tag."""
        if field := self.field():
            self.put(field.entry + 2, "H", self.chance.choice(KINDS))

    def code(self) -> None:
        """Make a tag another one."""
        if field := self.field():
            self.put(field.entry, "H", self.chance.choice(TAGS))

    def swap(self) -> None:
        """Let two tags change places."""
        one, other, size = self.field(), self.field(), 20 if self.map.big else 12
        if one and other:
            a, b = slice(one.entry, one.entry + size), slice(other.entry, other.entry + size)
            self.data[a], self.data[b] = bytes(self.data[b]), bytes(self.data[a])

    def overlap(self) -> None:
        """Let a chunk begin, or end, where another one or something else lies."""
        field = self.field(*TILES)
        if field is None or field.kind not in WORDS:
            return
        size, most = SIZES[field.kind], max(1, min(field.count, 1 << 16))
        one, other = (field.values + size * self.chance.randrange(most) for _ in range(2))
        if self.chance.random() < 0.5:
            self.data[one : one + size] = bytes(self.data[other : other + size])
        else:
            self.put(one, WORDS[field.kind], self.odd())

    def link(self) -> None:
        """Let the chain of directories go elsewhere: back, in circles, out of the file."""
        goal = self.chance.choice((*self.map.directories, self.odd()))
        self.put(self.chance.choice(self.map.links), "Q" if self.map.big else "I", goal)

    def text(self) -> None:
        """Change a text: a number in it, a piece of it, its bytes."""
        field = self.field(270, 305, 42112, 42113, 50839)
        if field is None:
            return
        at, end = field.values, min(field.values + field.size, len(self.data))
        old = bytes(self.data[at:end])
        if len(old) < 4:
            return
        new = self.chance.choice((_renumbered, _cut, _doubled, _renamed))(old, self.chance)
        self.data[at:end] = new[: end - at].ljust(end - at, b" ")

    def stream(self) -> None:
        """Spoil a chunk's bytes, most often its head."""
        field = self.field(273, 324)
        if field is None or field.kind not in WORDS:
            return
        at = field.values + SIZES[field.kind] * self.chance.randrange(max(1, min(field.count, 1 << 16)))
        try:
            start = struct.unpack_from(self.map.order + WORDS[field.kind], self.data, at)[0]
        except struct.error:
            return
        for _ in range(self.chance.randint(1, 6)):
            self.byte(start + self.chance.randrange(self.chance.choice((30, 200, 700, 4000))))

    def byte(self, at: int) -> None:
        """Change one byte, or one bit of it."""
        if 0 <= at < len(self.data):
            old = self.data[at]
            flipped = old ^ 1 << self.chance.randrange(8)
            self.data[at] = self.chance.choice((0, 255, self.chance.randrange(256), flipped, flipped))

    def bytes_anywhere(self) -> None:
        """Change some bytes, anywhere or in the first of them."""
        for _ in range(self.chance.randint(1, 8)):
            self.byte(self.chance.randrange(max(1, self.chance.choice((16, 300, len(self.data))))))

    def cut(self) -> None:
        """Cut the end off."""
        del self.data[self.chance.randrange(len(self.data) + 1) :]

    def piece(self) -> None:
        """Take a piece out, or put one in."""
        at, size = self.chance.randrange(len(self.data) + 1), self.chance.choice((1, 2, 4, 12, 100))
        if self.chance.random() < 0.5:
            del self.data[at : at + size]
        else:
            self.data[at:at] = self.chance.randbytes(size)


def _renumbered(text: bytes, chance: random.Random) -> bytes:
    told = rb'(?<==")-?\d+(\.\d+)?(?=")'  # of an attribute
    numbers = list(re.finditer(chance.choice((rb"-?\d+(\.\d+)?", told)), text))
    if not numbers:
        return text
    match = chance.choice(numbers)
    return text[: match.start()] + chance.choice(NUMBERS).encode() + text[match.end() :]


def _renamed(text: bytes, chance: random.Random) -> bytes:
    names = list(re.finditer(rb"[A-Za-z]+", text))
    if not names:
        return text
    match = chance.choice(names)
    return text[: match.start()] + chance.choice(names)[0] + text[match.end() :]


def _cut(text: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(text))
    return text[:at] + text[at + chance.randint(1, 40) :]


def _doubled(text: bytes, chance: random.Random) -> bytes:
    at, size = chance.randrange(len(text)), chance.randint(1, 200)
    return text[: at + size] + text[at:]


MUTATIONS: tuple[tuple[Callable[[Mutation], None], int], ...] = (
    (Mutation.value, 6), (Mutation.likely_value, 8), (Mutation.count, 3), (Mutation.offset, 3),
    (Mutation.kind, 2), (Mutation.code, 2), (Mutation.swap, 3), (Mutation.overlap, 3), (Mutation.link, 2),
    (Mutation.text, 8), (Mutation.stream, 8), (Mutation.bytes_anywhere, 3), (Mutation.cut, 2),
    (Mutation.piece, 1),
)  # fmt: skip


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Return ``data`` with one to four things wrong with it."""
    mutation = Mutation(data, chance)
    if not data:
        return chance.randbytes(64)
    kinds, weights = zip(*MUTATIONS, strict=True)
    for change in chance.choices(kinds, weights, k=chance.choice((1, 1, 1, 2, 3, 4))):
        change(mutation)
        if not mutation.data:
            break
    return bytes(mutation.data)
