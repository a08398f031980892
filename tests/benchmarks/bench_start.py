"""Seconds and memory of whole processes: `cnn --help`, `cnn shape alexnet`, against a bare `import torch`."""

from __future__ import annotations

import statistics
import subprocess
import sys

from timing import interleaved, machine, peak_mib, seconds, spread

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 9
COMMANDS = {
    "cnn --help": ["-m", "cnncli", "--help"],
    "cnn shape alexnet": ["-m", "cnncli", "shape", "alexnet"],
    "cnn shape resnet110": ["-m", "cnncli", "shape", "resnet110"],
    "cnn models": ["-m", "cnncli", "models"],
    "import torch": ["-c", "import torch"],
}


def main() -> None:
    runs = {
        name: seconds(lambda a=arguments: subprocess.run([sys.executable, *a], stdout=subprocess.DEVNULL, check=True))
        for name, arguments in COMMANDS.items()
    }
    measured = interleaved(runs, ROUNDS)
    base = statistics.median(measured["import torch"])
    print(f"{'command':<22} {'seconds':>24} {'of import torch':>16} {'peak MiB':>9}")
    for name, values in measured.items():
        mib = peak_mib([sys.executable, *COMMANDS[name]])
        print(f"{name:<22} {spread(values, 3):>24} {statistics.median(values) / base:>15.0%} {mib:>9.0f}")
    print(f"median of {ROUNDS} interleaved rounds (least to greatest), whole processes; {machine()}")


if __name__ == "__main__":
    main()
