"""`cnn` and `python -m cnncli` start here."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line and leave with its exit code."""
    from cnncli.cli.main import main

    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
