"""XML that writers put into tags: parsed without entities and document types, within limits."""

from __future__ import annotations

from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from gputiles.errors import Damaged

_MOST_TAGS = 2_000_000  # that elements begin and end with: each element takes a hundred bytes and more
_MOST_TOLD = 200  # characters of what is wrong: it may repeat the text


def parse_xml(text: str) -> Element:
    """Return the root of a text. Raises Damaged where it is no XML, or more than anybody writes."""
    tags = text.count("<")
    if tags > _MOST_TAGS:
        raise Damaged(f"XML of {tags} tags; most {_MOST_TAGS}")
    try:
        root: Element = fromstring(_document(text), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise Damaged(brief(error)) from error
    return root


def _document(text: str) -> str:
    """Return a text without what some writers put behind the last element."""
    return text[: text.rfind(">") + 1].lstrip()


def brief(error: Exception) -> str:
    """Return what an error says, cut where it is long."""
    return str(error)[:_MOST_TOLD]
