"""Start ``make demo`` as a person would, look at the page and a tile, and stop it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import imagecodecs

PATIENCE = 300  # seconds until the demo must have said where it is


def await_address(demo: subprocess.Popen[str]) -> tuple[str, str]:
    """Return (base URL, item id) as the demo prints them."""
    assert demo.stdout is not None
    for line in demo.stdout:
        print("  ", line.rstrip())
        if match := re.search(r"(http://\S+?)/view/([0-9a-f]{24})", line):
            return match[1], match[2]
    sys.exit(f"the demo ended with {demo.wait()} before it said where it is")


def fetch(url: str) -> tuple[str, bytes]:
    """Return (media type, body)."""
    with urllib.request.urlopen(url, timeout=60) as reply:
        return reply.headers.get_content_type(), reply.read()


def look(base: str, item: str) -> None:
    """Fetch the page, the metadata and a tile in both encodings."""
    kind, page = fetch(f"{base}/view/{item}")
    assert kind == "text/html", kind
    assert item in page.decode()
    assert b'"channels"' in fetch(f"{base}/item/{item}/tiles")[1]
    tile = f"{base}/item/{item}/tiles/zxy/0/0/0"
    kind, data = fetch(tile)
    assert kind == "image/jpeg", kind
    shape, brightest = imagecodecs.jpeg8_decode(data).shape, imagecodecs.jpeg8_decode(data).max()
    assert shape == (512, 512, 3), shape
    assert brightest > 100, f"a black picture: {brightest}"
    kind, data = fetch(f"{tile}?encoding=PNG")
    assert kind == "image/png", kind
    assert imagecodecs.png_decode(data).shape[:2] == (512, 512)


def main() -> None:
    """Run the demo, look, stop."""
    command = ["make", "--no-print-directory", "demo", "SIZE=1024", "PORT=0"]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    signal.signal(signal.SIGALRM, lambda *_: sys.exit("the demo did not start"))
    signal.alarm(PATIENCE)
    try:
        look(*await_address(demo))
        signal.alarm(0)
        began = time.monotonic()
        os.killpg(demo.pid, signal.SIGINT)
        demo.wait(20)
        print(f"   the demo shows its page and tiles, and stopped in {time.monotonic() - began:.1f} s")
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
