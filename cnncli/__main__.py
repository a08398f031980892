"""`cnn` and `python -m cnncli` start here."""

from __future__ import annotations

import os
import sys
import threading


def run() -> None:
    """Run the command line and leave with its exit code."""
    from cnncli.cli.main import main

    code = main(sys.argv[1:])
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.current_thread()):
        os._exit(code)  # a thread that reads from a disk or network which has gone would be waited for without end; all is written
    sys.exit(code)


if __name__ == "__main__":
    run()
