"""Layout of OME-TIFF: planes found by TiffData, in this file or in companions beside it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from gputiles.errors import Damaged, LimitExceeded, Unsupported
from gputiles.image import Channel
from gputiles.sources import ome
from gputiles.sources.book import Book
from gputiles.sources.bytesource import ByteSource
from gputiles.sources.fileset import FileSet
from gputiles.sources.ifd import decoded
from gputiles.sources.layout import Layout, NoImage, alike, find_levels, plain_layout, with_pictures
from gputiles.sources.neighbours import Neighbours
from gputiles.sources.ome import OmeDocument, OmeImage, TiffData
from gputiles.sources.page import Page

_MOST_XML = 1 << 28
_MOST_STEPS = 1_000_000  # planes that the blocks of an image name, those named twice counted twice


def ome_layout(book: Book, text: str, beside: Neighbours | None) -> Layout:
    """Return the layout that OME-XML describes; the plain pages, with a warning, where it cannot be used."""
    files = FileSet(book, beside, None)
    try:
        document = _document(text, files)
        files.uuid = document.uuid
        layout = _lay_out(document, files)
        return replace(layout, sources=tuple(files.sources()), paths=tuple(files.looked))
    except NoImage:
        files.close()
        raise
    except Damaged as error:
        files.close()
        plain = plain_layout(book, "OME-TIFF")
        warnings = (*files.warnings, str(error), *plain.warnings)
        return replace(plain, lut_is_hint=True, warnings=warnings, paths=tuple(files.looked))
    except BaseException:
        files.close()
        raise


def _document(text: str, files: FileSet) -> OmeDocument:
    """Return the document, followed to the companion that holds it."""
    document = ome.parse(text)
    if document.images or document.metadata_file is None:
        return document
    source = files.find(document.metadata_file)
    if source is None:
        raise Damaged("the OME-XML is in another file, which is not there; the plain pages are served")
    try:
        found = ome.parse(_metadata(source))
    finally:
        source.close()
    if not found.images:
        raise Damaged("the OME-XML describes no image")
    return replace(found, uuid=document.uuid)


def _metadata(source: ByteSource) -> str:
    """Return the OME-XML of a companion. Raises Damaged where that is the set's first picture."""
    if source.read_at(0, min(4, source.size))[:2] in (b"II", b"MM"):
        raise Damaged(
            f"the page is one of a set, which opens with {source.name!r}; the plain pages are served"
        )
    if source.size > _MOST_XML:
        raise LimitExceeded(f"{source.name}: {source.size} bytes of OME-XML; most {_MOST_XML}")
    return decoded(source.read_at(0, source.size))


def _lay_out(document: OmeDocument, files: FileSet) -> Layout:
    """Return the layout of the largest image, with those that are its label, macro and the like."""
    named = [(image.picture, image) for image in document.images]
    images = [image for name, image in named if name is None]
    if not images:  # the pictures are all that the file has: they are what it is about
        images, named = list(document.images), []
    others = {name: partial(_lay_out_picture, image, files) for name, image in reversed(named) if name}
    layout = with_pictures(partial(_lay_out_image, images[0], files), others)
    if len(images) == 1:
        return layout
    warning = f"{len(images) - 1} further images of the file are not shown"
    return replace(layout, warnings=(*layout.warnings, warning))


def _lay_out_picture(image: OmeImage, files: FileSet) -> Layout:
    if not image.blocks:
        raise Damaged("the OME-XML does not say where it is")  # without blocks it would be the first page
    return _lay_out_image(image, files)


def _lay_out_image(image: OmeImage, files: FileSet) -> Layout:
    blocks = [(block, book) for block, book in _find_books(image, files) if book is not None]
    pages = (page for block, book in blocks for page in book.pages[max(block.ifd, 0) :][:1])
    first = next((page for page in pages if isinstance(page, Page)), None)
    if first is None:
        raise Damaged("the OME-XML names no page that can be read")
    sizes = _channel_planes(image, first), *image.sizes[1:]
    placed = _place(image.order, sizes, _by_channel(blocks, sizes[0], first.samples))
    axes = [(axis, dict(zip("CZT", sizes, strict=True))[axis]) for axis in image.order]
    frames = [placed.get(position) for position in _frame_positions(axes)]
    if not any(frames):
        raise Damaged("the OME-XML puts no page at any of the image's planes")
    frames = _uniform(frames, image, files)
    levels, warnings = find_levels(tuple(frames), (), files.book.chunk_limit)
    missing = sum(page is None for page in frames)
    if missing:
        warnings.append(f"{missing} of {len(frames)} planes are not in the file")
    return Layout(
        format="OME-TIFF",
        levels=levels,
        axes=tuple((axis, size) for axis, size in axes if size > 1),
        channels=_channels(image, first, sizes[0]),
        mm_x=image.mm_x,
        mm_y=image.mm_y,
        magnification=image.magnification,
        significant_bits=image.significant_bits,
        lut_is_hint=True,
        warnings=(*files.book.warnings, *dict.fromkeys(files.warnings), *warnings),
    )


def _channels(image: OmeImage, page: Page, count: int) -> tuple[Channel, ...]:
    """Return ``count`` channels: those that are described, and others in place of those that are not."""
    told = len(image.channels)
    if told == count or not told or page.samples > 1:
        return image.channels if told == count else ()
    more = (Channel(f"Channel {index}") for index in range(told, count))
    return (*image.channels[:count], *more)


def _frame_positions(axes: Sequence[tuple[str, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield the (c, z, t) of all frames; the first of the axes is the fastest."""
    names = [name for name, _ in reversed(axes)]
    for indices in itertools.product(*(range(size) for _, size in reversed(axes))):
        at = dict(zip(names, indices, strict=True))
        yield at["C"], at["Z"], at["T"]


def _channel_planes(image: OmeImage, page: Page) -> int:
    """Return how many planes the channels fill: a page may hold several channels as samples."""
    size = image.sizes[0]
    return size // page.samples if page.samples > 1 and size % page.samples == 0 else size


def _uniform(frames: list[Page | None], image: OmeImage, files: FileSet) -> list[Page | None]:
    """Check that all planes are alike; a plane of another size is taken as missing."""
    lead = next(page for page in frames if page is not None)
    if lead.size != (image.width, image.height):
        files.warnings.append(
            f"the OME-XML says {image.width}x{image.height} pixels; the pages have {lead.width}x{lead.height}"
        )
    for page in frames:
        if page is not None and not alike(page, lead):
            raise Unsupported(
                f"frames of different kinds: {lead.samples} {lead.dtype} samples"
                f" and {page.samples} {page.dtype} samples"
            )
    odd = sum(page is not None and page.size != lead.size for page in frames)
    if odd:
        files.warnings.append(f"{odd} planes of another size than the first are left out")
    return [page if page is not None and page.size == lead.size else None for page in frames]


def _find_books(image: OmeImage, files: FileSet) -> list[tuple[TiffData, Book | None]]:
    """Return every block with the file that it lies in, None where that is not to be had."""
    blocks = image.blocks or (TiffData((0, 0, 0), 0, None, None, None),)
    named = {(block.file, block.file or block.uuid) for block in blocks if not files.own(block)}
    # a file that was renamed still names itself as it was called: its only name is its own
    renamed = len(named) == 1 and not any(files.own(block) for block in blocks)
    if renamed and all(files.get(name) is None for name, _ in named):
        return [(block, files.book) for block in blocks]
    return [(block, files.book if files.own(block) else files.get(block.file)) for block in blocks]


def _by_channel(blocks: list[tuple[TiffData, Book]], count: int, samples: int) -> list[tuple[TiffData, Book]]:
    """Return blocks that count channels, of which a page may hold several, where they count samples."""
    told = {block.first[0] for block, _ in blocks}
    if samples == 1 or max(told) < count or any(c % samples for c in told):
        return blocks
    return [
        (replace(block, first=(block.first[0] // samples, *block.first[1:])), book) for block, book in blocks
    ]


def _place(
    order: str, sizes: tuple[int, int, int], blocks: list[tuple[TiffData, Book]]
) -> dict[tuple[int, int, int], Page]:
    """Return {(c, z, t): page} of all planes that are there."""
    placed: dict[tuple[int, int, int], Page] = {}
    steps = 0
    for block, book in blocks:
        # by index, not by slice: a set of n blocks must not copy n pages n times
        for step, position in enumerate(_positions(order, sizes, block)):
            at, steps = block.ifd + step, steps + 1
            if steps > _MOST_STEPS:
                raise Damaged(
                    f"the OME-XML's {len(blocks)} TiffData speak of the same planes again and again"
                )
            if not 0 <= at < len(book.pages):
                break
            page = book.pages[at]
            if isinstance(page, Page):
                placed.setdefault(position, page)
    return placed


def _positions(
    order: str, sizes_czt: tuple[int, int, int], block: TiffData
) -> Iterator[tuple[int, int, int]]:
    """Yield the (c, z, t) of a block's planes, in the order of the image's axes."""
    sizes = dict(zip("CZT", sizes_czt, strict=True))
    strides, total = {}, 1
    for axis in order:
        strides[axis] = total
        total *= sizes[axis]
    start = sum(position * strides[axis] for axis, position in zip("CZT", block.first, strict=True))
    stop = total if block.count is None else min(total, start + block.count)
    for index in range(max(start, 0), stop):
        c, z, t = (index // strides[axis] % sizes[axis] for axis in "CZT")
        yield c, z, t
