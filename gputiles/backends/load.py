"""The one place that loads a compute backend."""

from __future__ import annotations

from gputiles.backends import Backend
from gputiles.backends.host import HostBackend
from gputiles.errors import BadRequest, Unsupported


def load_backend(device: str, workers: int) -> Backend:
    """Return the backend of ``device``: ``auto``, ``cpu`` or ``cuda[:N]``.

    Raises Unsupported where the device is not there, BadRequest for another word.
    """
    if device in ("auto", "cpu"):
        return HostBackend(workers)
    if device.split(":")[0] == "cuda":
        raise Unsupported("device: this version has no CUDA backend; use 'cpu' or 'auto'")
    raise BadRequest(f"device: expected 'auto', 'cpu' or 'cuda'; got {device!r}")
