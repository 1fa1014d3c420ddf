"""Build wheels, install one where there is no compiler and no source tree, and render from it.

A wheel that lacks its kernels, or that needs a compiler, cannot pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GPUTILES_SHARED", ROOT.parent / "shared"))
LIBRARY = "gputiles/viewer/openseadragon.min.js"  # not known to git: `make viewer` puts it there
IMAGE = SHARED / "data" / "minerva-author__2048x2048_ome6_tiled.ome.tif"


def run(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run a command; its output is shown only when it fails."""
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")


def copy_tree(target: Path) -> None:
    """Copy the files that git knows or would add, and the viewer's library: no build left-overs."""
    names = [LIBRARY]
    names += subprocess.check_output(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, text=True
    ).split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def build(tree: Path, work: Path) -> Path:
    """Build a wheel from the tree and one from the sdist; both must hold the same files."""
    run(sys.executable, "-m", "build", "--wheel", "--outdir", work / "direct", tree, cwd=work)
    copy = work / "tree2"
    shutil.copytree(tree, copy, ignore=shutil.ignore_patterns("build", "*.egg-info", "*.so"))
    run(sys.executable, "-m", "build", "--outdir", work / "dist", copy, cwd=work)
    (direct,) = (work / "direct").glob("*.whl")
    (wheel,) = (work / "dist").glob("*.whl")
    ours, theirs = (set(zipfile.ZipFile(path).namelist()) for path in (direct, wheel))
    if ours != theirs:
        sys.exit(f"the wheels differ: {sorted(ours ^ theirs)}")
    if (ROOT / LIBRARY).exists() and LIBRARY not in ours:
        sys.exit(f"{wheel.name} lacks {LIBRARY}")
    return wheel


def main() -> None:
    """Build, install, render."""
    with tempfile.TemporaryDirectory(prefix="wheel-check-") as folder:
        work = Path(folder).resolve()
        tree, elsewhere, env = work / "tree", work / "elsewhere", work / "env"
        copy_tree(tree)
        wheel = build(tree, work)
        shutil.rmtree(tree)
        shutil.rmtree(work / "tree2")
        run(sys.executable, "-m", "venv", env, cwd=work)
        run(env / "bin" / "python", "-m", "pip", "install", "-q", wheel, cwd=work)
        elsewhere.mkdir()
        shutil.copy(ROOT / ".ci" / "wheel_tile.py", elsewhere / "wheel_tile.py")
        bare = {"PATH": str(env / "bin"), "HOME": str(elsewhere), "LANG": "C.UTF-8"}
        image = [str(IMAGE)] if IMAGE.exists() or os.environ.get("CI") else []
        run(env / "bin" / "gputiles", "doctor", cwd=elsewhere, env=bare)
        run(env / "bin" / "python", "-I", "wheel_tile.py", str(ROOT), *image, cwd=elsewhere, env=bare)
        print(
            f"{wheel.name}: {wheel.stat().st_size / 1e6:.2f} MB, renders with no compiler and no source tree"
        )


if __name__ == "__main__":
    main()
