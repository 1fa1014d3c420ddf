"""The plan of the house, held by reading the sources: imports go downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "gputiles"

# From the bottom up. A name stands for the module, or for the package and all that is in it.
FLOORS: dict[str, tuple[str, ...]] = {
    "cellar": (
        "__init__", "errors", "geometry", "encoded", "image", "recipe", "colours", "palettes", "grammar",
        "entries", "style", "renderjobs", "icc", "look", "ranges", "request", "regions", "deepzoom", "iiif",
        "histograms", "frames", "quads",
        "xyz", "omero", "settings", "imgdata", "webquery", "webgateway",
        "parameters", "projections", "metadata", "config", "capsules", "trace", "places", "arrays", "jfif",
        "png", "jobs", "distribution", "namedviews",
    ),
    "sync floor": (
        "backends", "sources", "remotes", "girder", "walk", "references", "styles", "selftest", "cardtest",
        "loan", "tissue", "sample", "database", "presets", "assets", "metrics", "yamltext", "folderconfig",
        "crew",
    ),
    "async floor": (
        "cache", "batcher", "reading_room", "images", "keys", "flights", "viewport",
        "tasks", "forks", "transfers", "stored", "rasters", "spill", "measuring", "passing", "shortway",
        "renderer", "counting", "sheets", "engine", "library", "admission", "folderviews",
    ),
    "top": (
        "floor", "interrupts", "background", "api", "state", "inspection", "routes", "viewer", "app",
        "doctor", "commands", "__main__",
    ),
}  # fmt: skip
JOBS = "gputiles.backends"  # the package's own module: jobs, a protocol, no code; it stands in the cellar
HEIGHT = {name: height for height, names in enumerate(FLOORS.values()) for name in names}

# Modules that import by name while they run: the Python interface and the commands on first
# use, optional colour maps, the compute backend, libraries of other formats.
LATE = {
    "gputiles", "gputiles.commands", "gputiles.palettes", "gputiles.backends.load",
    "gputiles.sources.slides", "gputiles.sources.largeimage", "gputiles.girder", "gputiles.remotes",
    "gputiles.yamltext",
}  # fmt: skip

COMPUTES = {"imagecodecs", "isal", "tifffile", "zlib", "ctypes", "PIL", "scipy", "cupy", "numpy"}
TOUCHES_FILES_OR_LOCKS = {"os", "io", "shutil", "sqlite3", "mmap", "tempfile", "threading", "multiprocessing"}
# The reading room starts its readers; the types of rasters that leave the house.
ALLOWED_ON_THE_LOOP = {("reading_room", "threading"), ("renderer", "numpy")}


@cache
def modules() -> dict[str, ast.Module]:
    """Return {dotted name: syntax tree} of the whole package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def place(module: str) -> str:
    """Return the name under which FLOORS lists a module."""
    if module == JOBS:
        return "jobs"
    return module.split(".")[1] if "." in module else "__init__"


def statements(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the import statements that run, wherever they stand."""
    typing_only = {
        id(node)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
        for child in branch.body
        for node in ast.walk(child)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in typing_only:
            yield node


def imported(tree: ast.Module) -> set[str]:
    """Return the modules that a module imports: ours in full, others by their first name."""
    names: set[str] = set()
    for node in statements(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            ours = inner & modules().keys()
            names |= ours if len(ours) == len(inner) else {*ours, str(node.module)}
    return {name if name.split(".")[0] == "gputiles" else name.split(".")[0] for name in names}


def own(module: str) -> set[str]:
    """Return the modules of this package that a module imports."""
    return {name for name in imported(modules()[module]) if name in modules()}


def test_every_module_has_its_floor():
    missing = {place(module) for module in modules()} - HEIGHT.keys()
    assert not missing, f"put them on a floor in FLOORS (and in README): {sorted(missing)}"
    gone = HEIGHT.keys() - {place(module) for module in modules()}
    assert not gone, f"these modules no longer exist: {sorted(gone)}"


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_go_downwards(module):
    height = HEIGHT[place(module)]
    upwards = [name for name in own(module) if HEIGHT[place(name)] > height]
    assert not upwards, f"{module} is on a lower floor than {upwards}"


def test_imports_make_no_circle():
    TopologicalSorter({module: own(module) - {module} for module in modules()}).prepare()


def test_nothing_is_imported_inside_a_function():
    inside = [
        f"{module}:{node.lineno}"
        for module, tree in modules().items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and module not in LATE
    ]
    assert not inside


def test_only_named_modules_import_by_name():
    late = {
        module
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and (node.attr if isinstance(node, ast.Attribute) else node.id) in ("import_module", "__import__")
    }
    assert late <= LATE


@pytest.mark.parametrize("name", FLOORS["async floor"])
def test_the_event_loop_computes_nothing_and_touches_no_file(name):
    taken = imported(modules()[f"gputiles.{name}"]) & (COMPUTES | TOUCHES_FILES_OR_LOCKS)
    assert {(name, other) for other in taken} <= ALLOWED_ON_THE_LOOP


def test_the_cellar_knows_no_http():
    for name in FLOORS["cellar"]:
        module = {"__init__": "gputiles", "jobs": JOBS}.get(name, f"gputiles.{name}")
        assert not imported(modules()[module]) & {"aiohttp", "multidict", "click", "asyncio"}, name


def test_modules_fit_in_one_sitting():
    long = {
        module: lines
        for module, tree in modules().items()
        if (lines := max((getattr(node, "end_lineno", 0) for node in tree.body), default=0)) > 400
    }
    assert not long


def test_the_packages_are_all_in_the_wheel():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for path in PACKAGE.rglob("__init__.py"):
        package = ".".join(path.parent.relative_to(ROOT).parts)
        assert f'"{package}"' in text, f"pyproject.toml: {package} is not listed in packages"


def test_the_package_is_where_it_is_looked_for():
    assert Path(PACKAGE / "__init__.py").is_file()


@pytest.mark.parametrize(
    "heavy",
    ["cupy", "nvidia", "gputiles.backends.cuda", "girder_client", "requests", "fsspec", "openslide",
     "large_image", "matplotlib", "PIL", "yaml", "zarr"],
)  # fmt: skip
def test_what_few_need_is_not_imported_at_start(at_start, heavy):
    assert heavy not in at_start


@pytest.fixture(scope="module")
def at_start() -> set[str]:
    """Return the modules that are there once the server's have been imported."""
    program = "import sys, gputiles.app; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(told.stdout.split())
