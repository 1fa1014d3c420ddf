"""The command line: ``gputiles`` or ``python -m gputiles``."""

from __future__ import annotations

from gputiles.commands import cli


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 asked wrongly."""
    cli.main(prog_name="gputiles")


if __name__ == "__main__":
    main()
