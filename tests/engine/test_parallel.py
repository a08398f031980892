"""Of two processes that train together, what one meets all heed: an image that is not finite, the end of the time."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cnncli.engine.launch import chosen_gpus
from cnncli.errors import EnvironmentFault, UsageError

WORKER = """
import json, sys
from pathlib import Path
import numpy as np, torch
from torch import nn
from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample
from cnncli.engine import fit as fit_module
from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.engine.distributed import joined
from cnncli.engine.events import EpochDone
from cnncli.engine.fit import fit
from cnncli.engine.training import Plan, Training

torch.set_num_threads(1)
out = Path(sys.argv[1])
found = {}

def loader(world, count=22, key=0, shuffle=True):
    labels = np.arange(count) % 3
    images = np.random.default_rng([key, count]).integers(0, 80, (count, 1, 6, 6)) + 80 * labels[:, None, None, None]
    samples = tuple(Sample(str(n), int(label)) for n, label in enumerate(labels))
    pixels = Pixels(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels), samples)
    return Loader(pixels, Preprocess(1, 6, 6), batch_size=8, shuffle=shuffle, rank=world.rank, ranks=world.ranks)

def training(world, train=None, optim=None, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.Flatten(), nn.Linear(20, 3))
    plan = Plan(TrainConfig(**({"epochs": 2} | (train or {}))), OptimConfig(**(optim or {})), len(loader(world)), 3, **settings)
    return Training(model, plan, world)

def keep(name, made, events):
    rows = [vars(e) for e in events if isinstance(e, EpochDone)]
    rows = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
    weights = {k: v.tolist() for k, v in made.weights().items()}
    found[name] = {"rows": rows, "weights": weights}

with joined(torch.device("cpu"), 60) as world:
    # An image that is not finite in one process is a step that all leave out.
    made, spoilt = training(world), loader(world)
    whole = spoilt.epoch
    def epoch(number, start=0):
        for place, batch in enumerate(whole(number, start)):
            if place == 1 and number == 1 and world.rank == world.ranks - 1:
                batch.images[0] = float("inf")
            yield batch
    spoilt.epoch = epoch
    keep("spoilt", made, list(fit(made, spoilt, None)))

    # By the first one's clock, whatever the others' say.
    real = fit_module.time.perf_counter
    fit_module.time.perf_counter = lambda: real() * (1000 if world.rank else 1)
    made = training(world, train={"epochs": None, "minutes": 0.02})
    events = list(fit(made, loader(world), loader(world, 11, 1, False)))
    found["epochs by time"] = events[-2].epoch if isinstance(events[-2], EpochDone) else None
    out.with_name(f"{out.name}-{world.rank}").write_text(json.dumps(found))
"""


def run(script: Path, out: Path, ranks: int) -> list[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = []
    for rank in range(ranks):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        if ranks > 1:
            own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment |= {name: str(value) for name, value in own.items()}
        found.append(subprocess.Popen([sys.executable, script, out], env=environment, stderr=subprocess.PIPE, text=True))
    for process in found:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
    return [json.loads(out.with_name(f"{out.name}-{rank}").read_text()) for rank in range(ranks)]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What one process alone found, and two together."""
    folder = tmp_path_factory.mktemp("processes")
    script = folder / "worker.py"
    script.write_text(WORKER)
    return [*run(script, folder / "one", 1), *run(script, folder / "two", 2)]


@pytest.mark.slow
def test_a_step_that_is_not_finite_in_one_is_left_out_by_all(ends) -> None:
    alone, first, second = (end["spoilt"] for end in ends)
    assert [row["skipped"] for row in first["rows"]] == [1, 0] == [row["skipped"] for row in alone["rows"]]
    assert first["weights"] == second["weights"]


@pytest.mark.slow
def test_time_is_the_first_ones(ends) -> None:
    """They end in the same epoch, or one would wait for the other for ever."""
    _, first, second = ends
    assert first["epochs by time"] == second["epochs by time"] >= 1


def test_chosen_gpus() -> None:
    assert chosen_gpus("0,2", 3) == [0, 2]
    assert chosen_gpus("all", 3) == [0, 1, 2]
    for text in ("", "x", "0,0", "-1", "1.5"):
        with pytest.raises(UsageError, match="--gpus"):
            chosen_gpus(text, 3)
    for text, count in (("3", 3), ("all", 0), ("0", 0)):
        with pytest.raises(EnvironmentFault, match="GPU"):
            chosen_gpus(text, count)
