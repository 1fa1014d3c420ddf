"""The environment that the real Girder of the tests runs in: made once, kept in a cache folder."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = ("girder>=5,<6", "pytest-girder>=5,<6", "mongomock>=4.3,<5")


def folder() -> Path:
    """Return where the environment lies: ``GPUTILES_GIRDER_VENV``, or below the cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("GPUTILES_GIRDER_VENV") or cache / "gputiles" / "girder-5")


def prepare() -> Path:
    """Return the environment's Python, installed first where that was not done before.

    Raises CalledProcessError where it cannot be installed, as without a network.
    """
    target = folder()
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f"{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (target / "ready").exists():
            venv.create(target, with_pip=True, clear=True)
            install = [target / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-q"]
            subprocess.run([*install, *PACKAGES], check=True, capture_output=True, text=True)
            (target / "ready").touch()
    return target / "bin" / "python"


if __name__ == "__main__":
    try:
        print(prepare())
    except subprocess.CalledProcessError as error:
        sys.exit(f"Girder cannot be installed:\n{error.stderr}")
