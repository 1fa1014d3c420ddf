"""Layouts: which pages of a file are its frames, and which are smaller levels of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gputiles.errors import Damaged, GputilesError, Unavailable, Unsupported
from gputiles.image import Channel
from gputiles.sources.book import Book, read_subs
from gputiles.sources.bytesource import ByteSource, Versioned
from gputiles.sources.codec import choose
from gputiles.sources.page import Page, Photometric

MOST_FRAMES = 100_000  # of an image
_MOST_MM = 0.02  # millimetres of a pixel that an instrument may have made
_MOST_SUBS = 100_000  # of all frames together
_MOST_WARNINGS = 5  # about sub-pages
_NEAR = 1  # pixels that a level's side may be off from the exact fraction
_PICTURE = re.compile(r"\s*(label|macro|thumbnail)(?![^\W_])", re.IGNORECASE)

Stack = tuple[Page | None, ...]


class NoImage(Damaged):
    """A file of which only other pictures can be read: a label is never shown in place of the image."""


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """The pages that make up one image.

    ``levels[0]`` is full resolution, the others smaller, each with a page per frame (None
    where the file lacks the frame). ``axes`` are in frame order, fastest first.
    ``lut_is_hint`` says that palettes only suggest how channels may be shown. ``sources``
    are open companion files, ``paths`` the companions that the content depends on.
    ``masks`` are the transparency masks of every level, or empty. ``associated`` are the other
    pictures of the file by name, one of ``PICTURES``; they lie in this file and the same companions.
    """

    format: str
    levels: tuple[Stack, ...]
    axes: tuple[tuple[str, int], ...] = ()
    channels: tuple[Channel, ...] = ()
    mm_x: float | None = None
    mm_y: float | None = None
    magnification: float | None = None
    significant_bits: int | None = None
    lut_is_hint: bool = False
    warnings: tuple[str, ...] = ()
    sources: tuple[ByteSource, ...] = ()
    paths: tuple[Versioned, ...] = ()
    masks: tuple[Stack, ...] = ()
    associated: Mapping[str, Layout] = field(default_factory=dict)

    @property
    def lead(self) -> Page:
        """The first page of full resolution that is there."""
        return next(page for page in self.levels[0] if page is not None)


def alike(page: Page, other: Page) -> bool:
    """Whether both pages decode to the same kind of samples."""
    return _kind(page) == _kind(other)


def _kind(page: Page) -> tuple[object, ...]:
    return page.decoded_samples, page.dtype, page.colour, page.photometric is Photometric.WHITE_IS_ZERO


def fits(full: tuple[int, int], size: tuple[int, int]) -> int | None:
    """Return k > 0 where ``size`` is ``full`` / 2**k, each side to within a pixel, else None."""
    for k in range(1, 32):
        if all(abs((side << k) - whole) <= _NEAR << k for whole, side in zip(full, size, strict=True)):
            return k
    return None


def find_levels(
    frames: Stack, others: Iterable[Page], chunk_limit: int
) -> tuple[tuple[Stack, ...], list[str]]:
    """Return the levels of ``frames`` (themselves first, then smaller) and warnings.

    Smaller levels are sub-pages of the frames, or groups among ``others`` with one page
    per frame. A level counts only if every frame that is there has it.
    """
    found, warnings = _sub_levels(frames, chunk_limit)
    for size, group in _by_size(others).items():
        if size not in found and len(group) == sum(page is not None for page in frames):
            pages = iter(group)
            found[size] = tuple(None if page is None else next(pages) for page in frames)
    lead = next(page for page in frames if page is not None)
    levels = [
        stack
        for size, stack in found.items()
        if fits(lead.size, size) and all(page is None or alike(page, lead) for page in stack)
    ]
    levels.sort(key=lambda stack: -max(page.width for page in stack if page is not None))
    return (frames, *levels), warnings


def _sub_levels(frames: Stack, chunk_limit: int) -> tuple[dict[tuple[int, int], Stack], list[str]]:
    """Return {size: sub-pages of that size, one per frame}, and warnings."""
    warnings: dict[str, None] = {}
    sizes: dict[tuple[int, int], list[Page | None]] = {}
    dropped: dict[tuple[int, int], None] = {}
    first = next(index for index, frame in enumerate(frames) if frame is not None)
    read = 0
    for index, frame in enumerate(frames):
        subs, complaints = ([], []) if frame is None else read_subs(frame, chunk_limit)
        warnings |= dict.fromkeys(complaints[: _MOST_WARNINGS - len(warnings)])
        read += len(subs) + len(complaints)
        if read > _MOST_SUBS:
            return {}, [f"the levels were dropped: more than {_MOST_SUBS} sub-pages"]
        for sub in (sub for sub in subs if not sub.mask):
            if index == first:
                sizes[sub.size] = [None] * len(frames)
            if sub.size in sizes:
                sizes[sub.size][index] = sub
            else:  # a level that the first frame lacks is none
                dropped[sub.size] = None
    complete: dict[tuple[int, int], Stack] = {}
    for size, stack in sizes.items():
        if all((sub is None) == (frame is None) for sub, frame in zip(stack, frames, strict=True)):
            complete[size] = tuple(stack)
        else:
            dropped[size] = None
    told = [f"a level of {size[0]}x{size[1]} was dropped: not every frame has it" for size in dropped]
    return complete, [*warnings, *told][:_MOST_WARNINGS]


def find_masks(levels: Sequence[Stack], pages: Iterable[Page], chunk_limit: int) -> tuple[Stack, ...]:
    """Return each level's transparency masks, one per frame; an empty stack where a level has none.

    Empty where full resolution has none: then nothing is masked. Masks lie among ``pages``,
    or are sub-pages of their frame.
    """
    groups = _by_size(page for page in pages if _is_usable_mask(page))
    for frame in levels[0]:
        subs = [] if frame is None else read_subs(frame, chunk_limit)[0]
        usable = _by_size(page for page in subs if _is_usable_mask(page))
        if not usable:  # then the others' are of no use
            break
        for size, group in usable.items():
            groups.setdefault(size, []).extend(group)
    masks = []
    for level in levels:
        size = next(page.size for page in level if page is not None)
        group = groups.get(size, [])
        masks.append(tuple(group) if len(group) == len(level) else ())
    return tuple(masks) if masks[0] else ()


def _is_usable_mask(page: Page) -> bool:
    if not page.mask or page.samples != 1 or page.kind != "u" or page.bits > 8:
        return False
    try:
        choose(page)
    except (Damaged, Unsupported):  # the picture can do without its mask
        return False
    return True


def _by_size(pages: Iterable[Page]) -> dict[tuple[int, int], list[Page]]:
    groups: dict[tuple[int, int], list[Page]] = {}
    for page in pages:
        groups.setdefault(page.size, []).append(page)
    return groups


def choose_frames(pages: Sequence[Page]) -> tuple[list[Page], list[Page]]:
    """Split pages into the frames of the main image and all others.

    The main image is the largest page that does not call itself reduced or a mask; the
    pages like it, of the same size, are its frames.
    """
    candidates = [page for page in pages if not page.mask and not page.reduced] or list(pages)
    main = max(candidates, key=lambda page: page.width * page.height)
    frames = [page for page in candidates if page.size == main.size and alike(page, main)]
    taken = set(map(id, frames))
    others = [page for page in pages if id(page) not in taken and not page.mask and not page.macro]
    return frames, others


def resolution(page: Page) -> tuple[float | None, float | None]:
    """Return millimetres per pixel from tags 282, 283 and 296, None where they are not told."""
    unit = {2: 25.4, 3: 10.0}.get(page.tags.integer(296, 2), 0.0)
    across, down = (pixel_size(unit, page.tags.ratio(code)) for code in (282, 283))
    return across, down


def pixel_size(unit: float, density: float | None) -> float | None:
    """Return the millimetres of a pixel, ``density`` of which are ``unit`` long; None for a printer's."""
    size = unit / density if unit and density and density > 0 else None
    # larger pixels are the densities of printers and screens (72, 300 … per inch)
    return size if size is not None and size < _MOST_MM else None


def plain_layout(book: Book, format: str = "TIFF") -> Layout:
    """Return the layout of a file that says nothing about itself: equal pages are a Z stack.

    Pages whose description begins with a picture's name (as Philips, Ventana and large_image's
    converter write them) are other pictures, unless the image is made of pages like them.
    """
    pages = book.readable()
    named = [(picture_name(page.heading), page) for page in pages]
    others = [(name, page) for name, page in named if name is not None]
    rest = main_pages(book, [page for name, page in named if name is None], pages)
    frames = choose_frames(rest)[0]
    others = [(name, page) for name, page in others if not _is_frame(page, frames[0])]
    taken = {id(page) for _, page in others}
    layout = lay_out(book, [page for page in pages if id(page) not in taken], format=format)
    return replace(layout, associated=pictures(format, others))


def _is_frame(page: Page, main: Page) -> bool:
    return page.size == main.size and alike(page, main)


def picture_name(text: str) -> str | None:
    """Return the name of a picture that ``text`` begins with ("Label Image"), or None."""
    match = _PICTURE.match(text)
    return match[1].lower() if match else None


def pictures(format: str, named: Iterable[tuple[str | None, Page]]) -> dict[str, Layout]:
    """Return the layouts of the pages that have names; of equal names the first counts."""
    found: dict[str, Layout] = {}
    for name, page in named:
        if name is not None:
            found.setdefault(name, Layout(format, ((page,),)))
    return found


def with_pictures(image: Callable[[], Layout], others: Mapping[str, Callable[[], Layout]]) -> Layout:
    """Return the layout of an image with those of its other pictures; one that fails is a warning.

    Raises NoImage where only the image is damaged.
    """
    try:
        layout = image()
    except Damaged as error:
        if others:
            raise NoImage(str(error)) from error
        raise
    found, warnings = {}, []
    for name, picture in others.items():
        try:
            found[name] = picture()
        except Unavailable:  # says nothing about the file
            raise
        except GputilesError as error:
            warnings.append(f"the {name} cannot be shown: {error}")
    return replace(layout, associated=found, warnings=(*layout.warnings, *warnings))


def main_pages(book: Book, pages: Sequence[Page], otherwise: Sequence[Page] = ()) -> Sequence[Page]:
    """Return ``pages``, those that may be the image, or ``otherwise`` where the file never had any.

    Raises NoImage, with what is wrong with the others, where a page cannot be read.
    """
    if pages:
        return pages
    problem = next((page for page in book.pages if isinstance(page, GputilesError)), None)
    if problem is None and otherwise:
        return otherwise
    reason = problem or f"{book.source.name}: it has no page of the image"
    raise NoImage(f"only the file's other pictures can be read, not its image: {reason}")


def implied_frames(page: Page, wanted: int, step: int) -> Stack:
    """Return ``wanted`` frames, or as many as the file has room for: ``page``, then what lies behind it.

    Each begins ``step`` bytes after the one before it.
    """
    room = (page.source.size - int(page.offsets[0])) // max(step, 1)
    return tuple(replace(page, shift=index * step) for index in range(min(wanted, max(room, 1))))


def lay_out(book: Book, pages: Sequence[Page], *, format: str, axis: str = "Z") -> Layout:
    """Return the layout of ``pages``: the largest ones are frames on ``axis``, smaller ones levels."""
    frames, others = choose_frames(pages)
    levels, warnings = find_levels(tuple(frames), others, book.chunk_limit)
    masks = find_masks(levels, pages, book.chunk_limit)
    if not masks and any(page.mask and page.size == frames[0].size for page in pages):
        warnings.append("the transparency mask of the image is not read")
    told = {id(page) for level in levels for page in level if page is not None}
    further = sum(not (page.reduced or page.mask or page.macro or id(page) in told) for page in pages)
    if further:
        warnings.append(f"{further} further pages, of other sizes or kinds, are not shown")
    if masks:  # a level without a mask is made of finer ones, which have it
        levels = tuple(level for level, mask in zip(levels, masks, strict=True) if mask)
        masks = tuple(mask for mask in masks if mask)
    mm_x, mm_y = resolution(frames[0])
    return Layout(
        format=format,
        levels=levels,
        axes=((axis, len(frames)),) if len(frames) > 1 else (),
        mm_x=mm_x,
        mm_y=mm_y,
        warnings=(*book.warnings, *book.complaints(), *warnings),
        masks=masks,
    )
