"""The command line: what it prints, where it ends, what it makes of settings."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
from contextlib import nullcontext
from pathlib import Path

import click
import imagecodecs
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import gputiles
from gputiles import doctor as doctor_module
from gputiles.commands import COMMANDS, cli
from gputiles.commands.info import describe
from gputiles.commands.options import TYPES, read_config, settings
from gputiles.config import Config
from gputiles.geometry import Grid
from gputiles.image import Channel, ImageInfo
from gputiles.sample import write_sample
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "sample.ome.tif"
    write_sample(path, 600)
    return path


def invoke(*arguments, **options):
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **options)


@click.command()
@click.argument("roots", nargs=-1, envvar="GPUTILES_ROOTS", type=click.Path(path_type=Path))
@settings
def probe(roots, **values):
    """Print the Config that the options make."""
    click.echo(repr(dataclasses.asdict(read_config(values, roots=roots))))


def config_of(*arguments, **options):
    result = CliRunner().invoke(probe, [str(argument) for argument in arguments], **options)
    assert result.exit_code == 0, result.output
    return eval(result.output, {"PosixPath": Path})


# -- the command itself


def test_the_version_is_that_of_the_package():
    output = CliRunner().invoke(cli, ["--version"], prog_name="gputiles").output
    assert output == f"gputiles {gputiles.__version__}\n"


def test_help_lists_the_commands_without_loading_them():
    program = (
        "import sys; from gputiles.commands import cli;"
        "cli.main(['--help'], standalone_mode=False);"
        "sys.exit(1 if {'numpy', 'aiohttp', 'tifffile'} & sys.modules.keys() else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(f"{name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = invoke(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


@pytest.mark.parametrize("fails", [False, True])
def test_no_garbage_is_collected_while_a_command_is_loaded(fails, tmp_path, monkeypatch):
    name = f"probe_{fails}"
    (tmp_path / f"{name}.py").write_text(f"import gc\ncommand = gc.isenabled()\n{'1 / 0' if fails else ''}\n")
    monkeypatch.setattr(gputiles.commands, "__path__", [str(tmp_path)])
    monkeypatch.setitem(COMMANDS, name, "Tell whether the collector is on.")
    gc.unfreeze()
    with pytest.raises(ZeroDivisionError) if fails else nullcontext():
        assert cli.get_command(click.Context(cli), name) is False
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0, "what was loaded is walked over no more"
    gc.unfreeze()


def test_an_unknown_command_is_a_wrong_use():
    assert invoke("sing").exit_code == 2


# -- settings


def test_every_setting_has_an_option_and_a_word_of_help():
    assert {"roots", "urls", "girder_token", *TYPES} == {field.name for field in dataclasses.fields(Config)}
    for parameter in probe.params:
        assert parameter.name == "roots" or parameter.help, parameter.name
        words = (parameter.help or "").split()
        assert not {"None", "True", "False"} & set(words), f"{parameter.name}: said in Python, not in words"


def test_help_spells_defaults_as_they_are_typed():
    helps = {parameter.name: parameter.help for parameter in probe.params}
    assert helps["associated_images"].endswith("[default: thumbnail]")
    assert helps["icc"].endswith("[default: true]")
    assert helps["port"].endswith("[default: 8080]")


def test_no_option_gives_the_defaults(monkeypatch):
    assert config_of()["port"] == Config().port


def test_sizes_take_units():
    config = config_of("--tile-cache", "512MB", "--raw-cache", "4GiB")
    assert (config["tile_cache"], config["raw_cache"]) == (512_000_000, 4 * 2**30)


def test_the_command_line_beats_the_environment_beats_the_file_beats_the_default(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('port = 1\nraw-cache = "1GiB"\ndevice = "cpu"\nreaders = 6\n')
    environment = {"GPUTILES_PORT": "2", "GPUTILES_RAW_CACHE": "2GiB", "GPUTILES_CONFIG": str(file)}
    config = config_of("--port", 3, env=environment)
    assert (config["port"], config["raw_cache"], config["readers"]) == (3, 2 * 2**30, 6)
    assert config["deadline"] == Config().deadline


def test_the_roots_may_stand_in_the_file_or_the_environment(tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('roots = ["/a", "/b"]\n')
    assert config_of("--config", file)["roots"] == (Path("/a"), Path("/b"))
    assert config_of(env={"GPUTILES_ROOTS": "/c:/d"})["roots"] == (Path("/c"), Path("/d"))
    assert config_of("/e", "--config", file)["roots"] == (Path("/e"),)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tile-cache", "lots"], "expected a number with an optional unit"),
        (["--device", "tpu"], "expected 'auto', 'cpu', 'cuda'"),
        (["--port", "70000"], "0<=x<=65535"),
        (["--workers", "0"], "x>=1"),
        (["--deadline", "0"], "x>0"),
        (["--config", "nowhere.toml"], "does not exist"),
        (["--remote", "https://host/../a"], "expected an address such as"),
        (["--girder", "girder"], "expected an address such as"),
    ],
)
def test_impossible_settings_are_refused(arguments, words):
    result = CliRunner().invoke(probe, arguments)
    assert result.exit_code == 2
    assert words in result.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tile_cash = 1\n", "no such setting: tile_cash"),
        ("port =\n", "settings.toml"),
        ("port = 'x'", "port"),
    ],
)
def test_a_wrong_settings_file_is_refused_with_the_reason(tmp_path, text, words):
    file = tmp_path / "settings.toml"
    file.write_text(text)
    result = CliRunner().invoke(probe, ["--config", str(file)])
    assert result.exit_code == 2
    assert words in result.output


# -- info, tile


def test_info_tells_levels_frames_and_channels(sample):
    output = invoke("info", sample).output
    for words in (
        "600 × 600 pixels, 0.5 × 0.5 µm",
        "uint16",
        "level 0   300 × 300",
        "frames    8",
        "PanCK  #00e0e0",
    ):
        assert words in output


def test_info_as_json(sample):
    facts = json.loads(invoke("info", "--json", sample).output)
    assert facts["levels"][1] == {"z": 1, "width": 600, "height": 600, "tiles": [2, 2], "stored": True}
    assert (facts["frames"], facts["axes"], facts["dtype"]) == (8, {"C": 8}, "uint16")
    assert facts["channels"][0] == {"name": "DAPI", "colour": "#3050ff", "window": None}


def test_info_is_json_and_text_whatever_the_file_says_and_is_called(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.tif")
    infinite = [(42113, 2, 5, "-inf", True)]  # GDAL's nodata
    tifffile.imwrite(path, np.zeros((64, 64), np.float32), extratags=infinite)
    facts = json.loads(invoke("info", "--json", path).output, parse_constant=pytest.fail)
    assert facts["nodata"] is None
    assert "\ufffd.tif: TIFF" in invoke("info", path).output


def test_a_channel_whose_name_is_no_text_is_told_all_the_same():
    channels = (Channel("a\ud800"),)
    grid = Grid(64, 64, 64, 64)
    (channel,) = describe(ImageInfo(grid, (True,), np.dtype("u2"), channels=channels))["channels"]
    assert channel["name"] == "a?"


def test_a_file_that_is_no_image_fails_in_one_line(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"no image")
    result = invoke("info", path)
    assert result.exit_code == 1
    assert result.output.startswith("Error: a.tif: ")
    assert result.output.count("\n") == 1


def test_a_tile_is_what_python_renders(sample, tmp_path):
    out = tmp_path / "tile.png"
    style = {"bands": [{"frame": 5, "min": 0, "max": 9000, "palette": "#0f0"}]}
    result = invoke("tile", sample, 1, 1, 0, "--style", json.dumps(style), "-o", out)
    assert result.exit_code == 0, result.output
    with gputiles.open(sample) as image:
        assert out.read_bytes() == image.tile(1, 1, 0, style=style, encoding="PNG")


def test_a_style_may_come_from_a_file_and_a_tile_go_to_the_output(sample, tmp_path):
    (tmp_path / "style.json").write_text("{}")
    result = invoke("tile", sample, 0, 0, 0, "--style", f"@{tmp_path}/style.json", "--quality", 50, "-o", "-")
    assert result.exit_code == 0
    assert imagecodecs.jpeg8_decode(result.stdout_bytes).shape[:2] == (512, 512)


def test_the_default_look_is_not_black(sample, tmp_path):
    assert invoke("tile", sample, 0, 0, 0, "--edge", "crop", "-o", tmp_path / "a.png").exit_code == 0
    picture = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    assert picture.shape[:2] == (300, 300)
    assert np.percentile(picture[..., :3].max(axis=2), 90) > 60


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["9", "0", "0"], 1, "z layer does not exist"),
        (["0", "1", "0"], 1, "x is outside layer"),
        (["0", "0", "0", "--style", "nonsense"], 2, "tyle"),
        (["0", "0", "0", "--style", "@/nowhere.json"], 1, "/nowhere.json: No such file"),
        (["0", "0", "0", "--edge", "nocolour"], 2, "edge: expected"),
        (["0", "0", "0", "--frame", "8"], 1, "rame"),
        (["0", "0", "0", "-o", "/nowhere/out.png"], 1, "/nowhere/out.png: No such file"),
        (["0", "0", "0", "--encoding", "GIF"], 2, "GIF"),
    ],
)
def test_a_tile_that_cannot_be_fails_with_the_reason(sample, tmp_path, arguments, code, words):
    result = invoke("tile", sample, "-o", tmp_path / "a.png", *arguments)
    assert (result.exit_code, words in result.output) == (code, True), result.output
    assert "Traceback" not in result.output


# -- doctor


def test_the_doctor_finds_this_machine_well():
    result = invoke("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(result.output)["findings"]}
    assert result.exit_code == 0, result.output
    assert {"numpy", "memory", "composite", "downsample", "measure", "PNG", "JPEG"} <= findings.keys()
    assert findings["composite"]["detail"].startswith("red [0, 0, 1, 127, 253, 255, 255]")


def test_the_doctor_looks_for_all_that_the_package_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[\w-]+", each)[0] for each in project["dependencies"]}
    assert set(doctor_module.LIBRARIES) == needed


def test_the_doctor_fails_where_a_device_is_missing():
    result = invoke("doctor", "--device", "cuda:99")
    assert result.exit_code == 1
    assert "FAILED  device cuda:99" in result.output


def test_the_doctor_fails_where_the_arithmetic_is_wrong(monkeypatch):
    class Wrong:
        def __init__(self, backend):
            self._backend = backend

        def __getattr__(self, name):
            return getattr(self._backend, name)

        def downsample(self, jobs):
            return [jobs[0].children[0]]

    load = doctor_module.load_backend
    monkeypatch.setattr(doctor_module, "load_backend", lambda *given: Wrong(load(*given)))
    result = invoke("doctor")
    assert result.exit_code == 1
    assert re.search(r"FAILED  downsample +WrongAnswer: expected", result.output)
    assert re.search(r"ok  composite", result.output)


# -- serve, demo


def start(*arguments):
    command = [sys.executable, "-m", "gputiles", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GPUTILES_")}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def stop(process, number):
    process.send_signal(number)
    _, errors = process.communicate(timeout=20)
    return process.returncode, errors


def address(process, pattern):
    for line in process.stdout:
        if match := re.search(pattern, line):
            return match
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_serves_until_it_is_told_to_stop(sample, number):
    server = start("serve", sample.parent, "--port", 0, "--workers", 1)
    base = address(server, r"serves (http://\S+)")[1]
    with urllib.request.urlopen(f"{base}/item") as reply:
        (item,) = json.load(reply)
    assert item["name"] == sample.name
    assert stop(server, number) == (0, "")


def test_demo_writes_its_sample_once_and_shows_it(tmp_path):
    for _ in range(2):
        server = start("demo", "--size", 256, "--dir", tmp_path, "--port", 0)
        page = address(server, r"(http://\S+/view/[0-9a-f]{24})")[1]
        with urllib.request.urlopen(page) as reply:
            assert reply.headers.get_content_type() == "text/html"
        assert stop(server, signal.SIGINT)[0] == 0
    (written,) = tmp_path.iterdir()
    assert written.name == "sample-256.ome.tif"


def test_a_port_in_use_is_one_line(sample):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        output, errors = start("serve", sample, "--port", port).communicate(timeout=20)
    assert output == ""
    assert errors.count("\n") == 1
    assert "address already in use" in errors


def test_a_host_that_is_none_is_named(sample):
    output, errors = start("serve", sample, "--port", 0, "--host", "256.1.1.1").communicate(timeout=20)
    assert (output, errors.count("\n")) == ("", 1)
    assert "got '256.1.1.1'" in errors


def served(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Config:
    """Return the configuration with which a command line would serve."""
    configs: list[Config] = []
    monkeypatch.setattr("gputiles.commands.serve.serve", lambda config, on_ready: configs.append(config))
    result = invoke("serve", *arguments)
    assert result.exit_code == 0, result.output
    return configs[0]


def test_serve_takes_paths_and_addresses(monkeypatch, tmp_path):
    config = served(
        monkeypatch, str(tmp_path), "HTTPS://Host/a.tif", "--remote", "s3://a/b", "--remote", "gs://c"
    )
    assert (config.roots, config.urls) == ((tmp_path.resolve(),), ("https://host/a.tif",))
    assert config.remote == ("s3://a/b", "gs://c/")


def test_girder_needs_no_path_and_its_token_comes_from_the_environment_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("GPUTILES_GIRDER_TOKEN", "secret")
    config = served(monkeypatch, "--girder", "http://host:8080")
    assert (config.girder, config.girder_token) == ("http://host:8080/", "secret")
    assert "secret" not in repr(config)
    assert invoke("serve", "--girder", "http://host", "--girder-token", "x").exit_code == 2
    (tmp_path / "a.toml").write_text('girder-token = "x"')
    assert "no such setting" in invoke("serve", "--config", str(tmp_path / "a.toml")).output


def test_serve_needs_a_path_that_exists():
    assert invoke("serve").exit_code == 2
    assert invoke("serve", "/nowhere").exit_code == 2
