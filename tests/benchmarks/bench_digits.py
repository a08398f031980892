"""LeNet-5 on the digits with default settings: test accuracy and seconds of the whole `cnn train` for several seeds."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from timing import machine

SEEDS = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)


def cnn(*arguments: str, cwd: str) -> str:
    return subprocess.run([sys.executable, "-m", "cnncli", *arguments], cwd=cwd, capture_output=True, text=True, check=True).stdout


def main() -> None:
    accuracies = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            began = time.perf_counter()
            cnn("train", "lenet5", "--seed", str(seed), "-o", str(Path(folder) / str(seed)), cwd=folder)
            took = time.perf_counter() - began
            result = json.loads(cnn("eval", str(Path(folder) / str(seed)), "--json", cwd=folder))
            accuracies.append(result["top1"])
            print(f"seed {seed}: test accuracy {result['top1']:.2%} of {result['count']} images, {took:.1f} s")
    print(f"mean {statistics.mean(accuracies):.2%}, least {min(accuracies):.2%}; whole processes; {machine()}")


if __name__ == "__main__":
    main()
