"""Kill a training with SIGKILL at random moments, again and again, and look at what is left each time.

Each round starts `cnn train` on the digits, kills it after a random time, and checks that every model file in the run folder loads with
a good checksum, that metrics.jsonl has whole lines only, and that no process is left. Prints a line per round; any fault ends it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cnncli.models.modelfile import load

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
LONGEST = 12.0  # seconds: starting takes about four, then an epoch is written every half second


def main() -> None:
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        for number in range(1, ROUNDS + 1):
            command = [sys.executable, "-m", "cnncli", "train", "lenet5", "--epochs", "1000", "-o", str(run), "--overwrite"]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            after = moments.uniform(2.0, LONGEST)
            time.sleep(after)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            models = [path.name for path in (run / "best.safetensors", run / "last.safetensors") if path.exists() and load(path)]
            rows = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
            epochs = [json.loads(row)["epoch"] for row in rows]
            if epochs != list(range(1, len(epochs) + 1)):
                raise SystemExit(f"round {number}: metrics.jsonl has the epochs {epochs}")
            whole = ", ".join(models) or "nothing written yet"
            print(f"round {number:>3}: killed after {after:4.1f} s, {len(epochs)} epochs, whole: {whole}", flush=True)
    print(f"{ROUNDS} kills, every file whole")


if __name__ == "__main__":
    main()
