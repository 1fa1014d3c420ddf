"""Run the install lines of Dockerfile.cuda in an empty venv, start the server that they install.

Needs no Docker and no card. The health check of the image is run against the server; the wheel must find
all that it needs installed before it; the context must hold what is copied from it, and nothing else.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "Dockerfile.cuda").read_text(encoding="utf-8").replace("\\\n", " ")
INSTALLS = ["pip wheel", "python -c", "pip install", "pip install"]  # in the order of the file

EXTRAS = ("cuda12", "cuda13", "cuda13,girder,openslide")  # that its head names


def run(command: str | list[str | Path], env: dict[str, str], folder: Path = ROOT) -> str:
    """Run a command in the source tree, or another folder; its output is shown only when it fails."""
    shell = isinstance(command, str)
    done = subprocess.run(command, shell=shell, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}\n{done.stdout}{done.stderr}")
    return done.stdout


def install_lines(folder: Path) -> list[str]:
    """Return the image's lines that build, list, install what is listed and install the wheel.

    What they write to the root of the image they write to the folder.
    """
    lines = re.findall(r"^RUN ((?:pip|python) .*)$", TEXT, re.MULTILINE)
    if [" ".join(line.split()[:2]) for line in lines] != INSTALLS:
        sys.exit(f"Dockerfile.cuda: expected lines that build, list, install and install; got {lines}")
    return [re.sub(r"/(dist|requirements\.txt)\b", rf"{folder}/\1", line) for line in lines]


def check_install(folder: Path, env: dict[str, str]) -> None:
    """Install as the image does. The last line may ask no index: its layer is the wheel's alone."""
    *before, last = install_lines(folder)
    for line in before:
        run(line, env)
    run(last, env | {"PIP_NO_INDEX": "1"})


def check_choices(folder: Path, env: dict[str, str]) -> None:
    """Ask the index whether what every choice of EXTRA lists can be installed together; install nothing."""
    _, listing, *_ = install_lines(folder)
    for extra in EXTRAS:
        run(listing, env | {"EXTRA": extra})
        run(f"pip install --dry-run --ignore-installed --quiet -r {folder}/requirements.txt", env)


def check_context() -> None:
    """Compare what .dockerignore lets through with what is copied."""
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, re.MULTILINE)
    copied = {name for names in copies for name in names.split()}
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    if "*" not in lines or allowed != copied:
        sys.exit(f".dockerignore: expected * and the exceptions {sorted(copied)}; got {lines}")


def check_viewer(folder: Path, env: dict[str, str]) -> None:
    """Get the viewer's library as the image does, with nothing else of the source tree."""
    stage = re.search(r"^FROM node:.*? AS viewer$(.*?)^FROM ", TEXT, re.MULTILINE | re.DOTALL)
    copied = stage and re.search(r"^COPY (.*) \./$", stage[1], re.MULTILINE)
    line = stage and re.search(r"^RUN (mkdir .*)$", stage[1], re.MULTILINE)
    if not copied or not line:
        sys.exit("Dockerfile.cuda: expected a stage that gets the viewer's library")
    folder.mkdir()
    for name in copied[1].split():
        shutil.copy(ROOT / name, folder)
    run(line[1], env, folder)
    if not list((folder / "gputiles" / "viewer").glob("*.js")):
        sys.exit("Dockerfile.cuda: the stage of the viewer's library gets none")


def health_check() -> str:
    """Return the image's health check."""
    found = re.search(r"^HEALTHCHECK .*? CMD (.*)$", TEXT, re.MULTILINE)
    if found is None:
        sys.exit("Dockerfile.cuda: no health check")
    return found[1]


def check_server(bin_folder: Path, folder: Path, env: dict[str, str]) -> None:
    """Start the installed server on a folder; ask for its health as the image does."""
    command = [bin_folder / "gputiles", "serve", folder, "--port", "0", "--device", "auto"]
    server = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        port = re.search(r":(\d+)$", line.strip())
        if port is None:
            sys.exit(f"the server said {line!r}")
        run(health_check(), env | {"GPUTILES_PORT": port[1]})
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def main() -> None:
    """Build, install, start."""
    default = re.search(r"^ARG EXTRA=(\w+)$", TEXT, re.MULTILINE)
    assert default is not None
    check_context()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        venv.create(home / "venv", with_pip=True)
        bin_folder = home / "venv" / "bin"
        env = {name: value for name, value in os.environ.items() if not name.startswith("GPUTILES_")}
        env |= {
            "PATH": f"{bin_folder}:{env['PATH']}",
            "EXTRA": default[1],
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        check_choices(home, env)
        check_install(home, env)
        check_viewer(home / "viewer", env)
        (home / "images").mkdir()
        check_server(bin_folder, home / "images", env)
        print(run([bin_folder / "gputiles", "doctor"], env))
    print(f"the lines of Dockerfile.cuda install ({default[1]}), the server answers")


if __name__ == "__main__":
    main()
