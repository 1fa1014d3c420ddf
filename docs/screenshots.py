"""Make docs/viewer.jpg, the viewer in README: a demo sample in a headless Chromium."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from gputiles.sample import write_sample
from gputiles.walk import walk

HERE = Path(__file__).resolve().parent
SIZE = 4096  # of the sample, in pixels
WINDOW = {"width": 1280, "height": 800}


def main() -> None:
    """Write the sample to a temporary folder, serve it, and take the picture."""
    with tempfile.TemporaryDirectory() as folder:
        path = (Path(folder) / "sample.ome.tif").resolve()
        write_sample(path, SIZE)
        (item,) = walk([path])
        command = [sys.executable, "-m", "gputiles", "serve", "--port", "0", str(path)]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            take(f"{server.stdout.readline().split()[-1]}/view/{item}")
        finally:
            server.terminate()
            server.wait()


def take(address: str) -> None:
    """Open a page, make it show something, and keep its picture."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=WINDOW)  # type: ignore[arg-type]
        page.goto(f"{address}#z=0.42&x=2050&y=2250")
        settle(page)
        page.get_by_label("Show DAPI").uncheck()
        page.keyboard.press("g")
        page.keyboard.type("Lymphocytes")
        page.keyboard.press("Enter")
        page.get_by_label("Show DAPI").check()
        page.get_by_label("Show CD8").uncheck()
        page.get_by_label("Show PanCK").check()
        page.get_by_label("Settings of CD20").click()
        settle(page)
        page.mouse.move(800, 420)
        page.wait_for_timeout(1500)  # the histograms, the overview and the values under the cursor
        page.screenshot(path=HERE / "viewer.jpg", type="jpeg", quality=74)
        browser.close()


def settle(page: Page) -> None:
    """Wait until what was asked for is seen."""
    page.wait_for_selector("body[data-settled=yes]")


if __name__ == "__main__":
    main()
