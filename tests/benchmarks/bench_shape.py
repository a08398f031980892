"""`cnn shape NET` against torchinfo on torchvision's net of that name: seconds and memory of whole processes, interleaved.

torchinfo's column is what its user runs: import, build the model, print the summary. The last lines are the largest nets of the zoo.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

from timing import interleaved, machine, peak_mib, seconds, spread

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
SUMMARY = "import torchinfo, torchvision; print(torchinfo.summary(torchvision.models.{}({}), (1, 3, 224, 224)))"
PEERS = {name: name for name in ("alexnet", "vgg16", "resnet50", "googlenet", "densenet121", "resnet152")}
LARGEST = ("resnet1202", "darts-v2", "nasnet-a-large", "densenet201")


def main() -> None:
    ours = {name: [sys.executable, "-m", "cnncli", "shape", name] for name in (*PEERS, *LARGEST)}
    theirs = {
        name: [sys.executable, "-W", "ignore", "-c", SUMMARY.format(peer, "init_weights=False" if peer == "googlenet" else "")]
        for name, peer in PEERS.items()
    }
    commands = {("cnn", name): line for name, line in ours.items()} | {("torchinfo", name): line for name, line in theirs.items()}
    runs = {
        key: seconds(lambda a=line: subprocess.run(a, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True))
        for key, line in commands.items()
    }
    measured = interleaved(runs, ROUNDS)
    print(f"{'net':<16} {'cnn shape, s':>24} {'torchinfo, s':>24} {'times faster':>13} {'MiB':>5} {'torchinfo':>10} {'share':>6}")
    for name, line_of_ours in ours.items():
        own = measured["cnn", name]
        line = f"{name:<16} {spread(own, 3):>24}"
        mib = peak_mib(line_of_ours)
        if name in theirs:
            other, other_mib = measured["torchinfo", name], peak_mib(theirs[name])
            ratio = statistics.median(o / s for o, s in zip(other, own, strict=True))
            line += f" {spread(other, 2):>24} {ratio:>13.1f} {mib:>5.0f} {other_mib:>10.0f} {mib / other_mib:>6.1%}"
        else:
            line += f" {'':>24} {'':>13} {mib:>5.0f}"
        print(line)
    print(f"median of {ROUNDS} interleaved rounds (least to greatest), whole processes; {machine()}")


if __name__ == "__main__":
    main()
