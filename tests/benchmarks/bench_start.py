"""Seconds and memory of whole processes: `cnn --help`, `cnn shape alexnet`, against a bare `import torch` (and torchinfo, if there)."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys

from timing import interleaved, machine, seconds, spread

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
TORCHINFO = "import torchinfo, torchvision; print(torchinfo.summary(torchvision.models.alexnet(), (1, 3, 224, 224)))"
COMMANDS = {
    "cnn --help": ["-m", "cnncli", "--help"],
    "cnn shape alexnet": ["-m", "cnncli", "shape", "alexnet"],
    "cnn shape resnet110": ["-m", "cnncli", "shape", "resnet110"],
    "cnn models": ["-m", "cnncli", "models"],
    "import torch": ["-c", "import torch"],
}


def peak_mib(arguments: list[str]) -> float:
    """Peak resident memory of one process."""
    pid = os.posix_spawn(
        sys.executable, [sys.executable, *arguments], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    )
    _, _, usage = os.wait4(pid, 0)
    return usage.ru_maxrss / 1024


def main() -> None:
    commands = dict(COMMANDS)
    if importlib.util.find_spec("torchinfo"):
        commands["torchinfo, alexnet"] = ["-c", TORCHINFO]
    runs = {
        name: seconds(lambda a=arguments: subprocess.run([sys.executable, *a], stdout=subprocess.DEVNULL, check=True))
        for name, arguments in commands.items()
    }
    measured = interleaved(runs, ROUNDS)
    base = statistics.median(measured["import torch"])
    print(f"{'command':<22} {'seconds':>24} {'of import torch':>16} {'peak MiB':>9}")
    for name, values in measured.items():
        print(f"{name:<22} {spread(values, 3):>24} {statistics.median(values) / base:>15.0%} {peak_mib(commands[name]):>9.0f}")
    print(f"median of {ROUNDS} interleaved rounds (least to greatest), whole processes; {machine()}")


if __name__ == "__main__":
    main()
