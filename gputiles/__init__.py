"""gputiles: styled tiles of very large images, from unstyled tiles in device memory."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gputiles.errors import GputilesError

if TYPE_CHECKING:
    from gputiles.api import Image, open

__all__ = ["GputilesError", "Image", "open"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the Python interface when it is first used: the command line starts without it."""
    if name in ("Image", "open"):
        return getattr(importlib.import_module("gputiles.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
