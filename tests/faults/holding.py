"""A training that waits at a step, however fast or slow the machine is, until a test has done to it what it wants to.

In the folder that the command runs in a file `hold` names the number of steps; as long as it is there, no step after that begins.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from changing import changed

HOLD = "hold"
WAITING = f"""
import sys
sys.path.append({str(Path(__file__).parent)!r})
import holding
from cnncli.engine.training import Training
holding.wait_at_steps(Training)
"""  # what a process that minds the file runs first (see `harness.start`)


def hold(folder: Path, steps: int) -> Path:
    """The file with which trainings that run in this folder wait after so many steps. They go on when it is removed."""
    (folder / HOLD).write_text(str(steps))
    return folder / HOLD


def _held() -> float:
    """The steps after which trainings wait; infinity where the file is gone."""
    try:
        return int(Path(HOLD).read_text() or 0)
    except FileNotFoundError:
        return math.inf


def wait_at_steps(training: Any) -> None:
    """Change the class `Training` of this process so that it minds the file."""
    step = training.step

    def held_step(self: Any, *values: Any, **options: Any) -> None:
        while self.position.steps >= _held():
            time.sleep(0.01)
        step(self, *values, **options)

    training.step = held_step


def held(*arguments: str) -> int:
    """`cnn`, for processes that are forked (see `ranks`)."""
    from cnncli.cli.main import main
    from cnncli.engine.training import Training

    wait_at_steps(Training)
    return main(list(arguments))


def that_wait(folder: Path) -> dict[str, str]:
    """Environment variables with which every process that a command starts minds the file. folder: a new one, for what does it."""
    lines = WAITING.replace("from cnncli.engine.training import Training", "Training = module.Training")
    return changed(folder, "cnncli.engine.training", lines)
