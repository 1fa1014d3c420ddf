"""``gputiles doctor``: whether gputiles works on this machine."""

from __future__ import annotations

import json

import click

from gputiles.commands.options import Device
from gputiles.doctor import Finding, State, examine

_COLOURS = {State.GOOD: "green", State.ABSENT: "yellow", State.BAD: "red"}


@click.command()
@click.option(
    "--device",
    type=Device(),
    default="auto",
    envvar="GPUTILES_DEVICE",
    show_default=True,
    help="Compute device to put to the test.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def command(ctx: click.Context, device: str, as_json: bool) -> None:
    """Check that gputiles works on this machine; exit with 1 where it does not.

    Names the device, the libraries with their versions and the limits, and puts the
    arithmetic of the kernels to a test with known answers.
    """
    findings = []
    for finding in examine(device):
        findings.append(finding)
        if not as_json:
            _print(finding)
    good = all(finding.state is not State.BAD for finding in findings)
    if as_json:
        click.echo(json.dumps({"ok": good, "findings": [_plain(finding) for finding in findings]}, indent=2))
    ctx.exit(0 if good else 1)


def _print(finding: Finding) -> None:
    state = click.style(f"{finding.state.value:>6}", fg=_COLOURS[finding.state])
    click.echo(f"{state}  {finding.name:<22} {finding.detail}")


def _plain(finding: Finding) -> dict[str, str]:
    return {"name": finding.name, "state": finding.state.value, "detail": finding.detail}
