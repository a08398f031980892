"""Two, three and four processes that train together do what one does: the same batches, losses, weights and figures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks
import torch
from torch import nn

from cnncli.data.augment import Augment
from cnncli.data.loader import Batch, Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample
from cnncli.engine import distributed
from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.engine.distributed import World, is_loss_of_others, joined, one_voice
from cnncli.engine.loss import Loss, balanced_weights
from cnncli.engine.parallel import load_state, whole_state
from cnncli.engine.pause import Pause
from cnncli.engine.training import Plan, Training
from cnncli.engine.validation import validate
from cnncli.errors import CnnError, EnvironmentFault, UsageError

SIZE, IMAGES, BATCH, STEPS = 12, 330, 32, 55  # ten batches of 32 and one of ten, which four processes cannot share equally


def pixels(count: int, key: int = 0) -> Pixels:
    """Images of three classes that come up unequally often and differ in brightness."""
    labels = np.minimum(np.arange(count) % 5, 2)
    images = np.random.default_rng([key, count]).integers(0, 90, (count, 1, SIZE, SIZE)) + 80 * labels[:, None, None, None]
    samples = tuple(Sample(f"{number}.png", int(label)) for number, label in enumerate(labels))
    return Pixels(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels), samples)


def net() -> nn.Module:
    """A net without batch norm, whose numbers depend on the part of the batch that a process has."""
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip


class Shared:
    """One process's batches, of which each process takes its part: mixing is then the same in all."""

    def __init__(self, loader: Loader, world: World) -> None:
        self.loader, self.world, self.count = loader, world, loader.count

    def __len__(self) -> int:
        return len(self.loader)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        for batch in self.loader.epoch(number, start):
            own = slice(self.world.rank, None, self.world.ranks)
            mixed = batch.mixed and replace(batch.mixed, labels=batch.mixed.labels[own], weight=batch.mixed.weight[own])
            yield Batch(batch.images[own], batch.labels[own], batch.indices[own], mixed, len(batch.labels))


# name: settings of the training, and whether images are mixed
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulated": {"accumulate": 2, "clip_grad": 1.0},
    "weighed": {"weights": True, "label_smoothing": 0.1},
    "mixed": {"mix": True},
    "adam": {"optimizer": "adamw", "lr": 0.001, "ema": 0.9},
    "sharded": {"shard": True},
    "sharded and accumulated": {"shard": True, "accumulate": 3, "clip_grad": 1.0, "optimizer": "adamw", "lr": 0.001},
}


def make(world: World, case: dict[str, Any]) -> tuple[Training, Any]:
    values = {"lr": 0.02, "warmup": 0.0} | case
    mix, weights, shard = values.pop("mix", False), values.pop("weights", False), values.pop("shard", False) and not world.alone
    shown = pixels(IMAGES)
    part = (0, 1) if mix else (world.rank, world.ranks)
    augment = Augment(flip=True, shift=1, mixup=0.4) if mix else Augment(flip=True, shift=1)
    loader: Any = Loader(
        shown, Preprocess(1, SIZE, SIZE), batch_size=BATCH, augment=augment, shuffle=True, rank=part[0], ranks=part[1]
    )  # what is random about an image does not depend on the process that has it
    if mix:
        loader = Shared(loader, world)
    train = TrainConfig(steps=STEPS, accumulate=values.pop("accumulate", 1), batch_size=BATCH)
    loss = Loss(values.get("label_smoothing", 0.0), balanced_weights(torch.bincount(shown.labels)) if weights else None)
    return Training(net(), Plan(train, OptimConfig(**values), len(loader), 3, loss=loss, shard=shard), world), loader


def learned(world: World, case: dict[str, Any]) -> dict[str, Any]:
    """What a training of 55 steps gives in this process, step by step."""
    training, loader = make(world, case)
    found: dict[str, Any] = {"indices": [], "losses": [], "exchanges": []}
    with counted(training) as exchanges:
        while training.position.steps < STEPS:
            training.model.train()
            for batch in loader.epoch(training.position.epoch):
                before = float(training.sums.loss)
                training.step(batch)
                found["indices"].append(batch.indices.tolist())
                found["losses"].append(float(training.sums.loss) - before)
                found["exchanges"].append(len(exchanges))
                exchanges.clear()
            training.next_epoch()
    val = Loader(pixels(7, key=1), Preprocess(1, SIZE, SIZE), batch_size=4, rank=world.rank, ranks=world.ranks)
    found["val"] = validate(training.judged, val, world=world).loss  # also of weights that are shared out
    facts, tensors = training.state()
    found |= {"weights": training.weights(), "facts": facts, "tensors": tensors}
    # The state of this training, taken up by another one of the same kind, and by its loader.
    other, _ = make(world, case)
    found["differs"] = other.restore(facts, tensors)
    found["again"] = other.weights()
    return found


@contextmanager
def counted(training: Training) -> Iterator[list[str]]:
    """Each time that gradients are added up over processes."""
    from torch import distributed as torch_distributed
    from torch.nn.parallel import DistributedDataParallel

    made: list[str] = []
    runner = training.wrapped.runner
    if isinstance(runner, DistributedDataParallel):
        from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook

        def hook(state, bucket):
            made.append("all-reduce")
            return allreduce_hook(state, bucket)

        runner.register_comm_hook(None, hook)  # type: ignore[arg-type]
    real = torch_distributed.reduce_scatter_single

    def reduce_scatter(*arguments: Any, **options: Any) -> Any:
        made.append("reduce-scatter")
        return real(*arguments, **options)

    torch_distributed.reduce_scatter_single = reduce_scatter
    try:
        yield made
    finally:
        torch_distributed.reduce_scatter_single = real


def work(folder: str) -> None:
    """What each process does; what it has found is left in a file."""
    with joined(torch.device("cpu"), 60.0) as world:
        found: dict[str, Any] = {}
        for name, case in CASES.items():
            if world.ranks in (1, 2) or name in ("plain", "accumulated"):
                found[name] = learned(world, case)
        # Few images for many processes: each is judged once, and a process may have none.
        model = net().eval()
        for count in (2, 4, 7, 61):
            val = Loader(pixels(count, key=1), Preprocess(1, SIZE, SIZE), batch_size=4, rank=world.rank, ranks=world.ranks)
            found[f"val {count}"] = asdict(validate(model, val, world=world)) | {"images": sum(len(batch.labels) for batch in val.epoch(0))}
        found["said"] = talked(world)
        with pytest.raises(UsageError, match="--sync-bn needs GPUs"):
            Training(net(), Plan(TrainConfig(), OptimConfig(), 1, 3, sync_bn=True), world)
        if not world.alone:
            with pytest.raises(UsageError, match="--shard and --ema do not go together"):
                Training(net(), Plan(TrainConfig(), OptimConfig(ema=0.9), 1, 3, shard=True), world)
        else:
            with pytest.raises(UsageError, match="--shard shares weights among processes, and there is one"):
                Training(net(), Plan(TrainConfig(), OptimConfig(), 1, 3, shard=True), world)
        torch.save(found, Path(folder) / f"{world.rank} of {world.ranks}.pt")


def talked(world: World) -> dict[str, Any]:
    """What processes tell each other."""
    seen = []
    with world.first_before_others("a test"):
        if world.first:
            time.sleep(0.3)
        seen.append(time.monotonic())
    return {
        "sums": world.sums([world.rank + 1, 0.5]),
        "largest": world.largest([world.rank, -world.rank]),
        "summed": world.summed(torch.tensor([world.rank, 1])).tolist(),
        "gathered": world.gathered(torch.tensor([world.rank])).tolist(),
        "from_first": world.from_first({"ä": [world.rank, None, "x"]}),
        "seen": seen,
    }


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """By the number of processes, what each of them has found."""
    folder = tmp_path_factory.mktemp("found")
    for count in (1, 2, 3, 4):
        for done in ranks.together(count, folder, cwd=folder, function="work", file=__file__):
            assert done.code == 0, done.err
    return {count: [torch.load(folder / f"{rank} of {count}.pt") for rank in range(count)] for count in (1, 2, 3, 4)}


def cases_of(count: int) -> list[str]:
    return [name for name in CASES if count == 2 or name in ("plain", "accumulated")]


MANY = [(count, name) for count in (2, 3, 4) for name in cases_of(count)]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "name"), MANY)
def test_losses_are_those_of_one_process(found: dict[int, list[dict[str, Any]]], count: int, name: str) -> None:
    """Every step has the batch of one process, shared out, and its loss within 1e-5; so are the weights at the end."""
    alone, many = found[1][0][name], [own[name] for own in found[count]]
    for step, whole in enumerate(alone["indices"]):
        parts = [own["indices"][step] for own in many]
        assert sorted(index for part in parts for index in part) == sorted(whole), f"step {step}"
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert parts == [whole[rank::count] for rank in range(count)]
    losses = np.array([own["losses"] for own in many]).sum(0)
    np.testing.assert_allclose(losses, alone["losses"], rtol=1e-5)
    assert sum(alone["losses"][-11:]) < 0.95 * sum(alone["losses"][:11]), "it learns"
    assert all(own["val"] == pytest.approx(alone["val"], rel=1e-4) for own in many)
    for key, weight in alone["weights"].items():
        for own in many:
            torch.testing.assert_close(own["weights"][key], weight, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "name"), MANY)
def test_processes_agree_to_the_bit(found: dict[int, list[dict[str, Any]]], count: int, name: str) -> None:
    """And what one of them saves is whole, and gives the same weights to all of another training."""
    first, *others = [own[name] for own in found[count]]
    for other in others:
        assert all(torch.equal(first["weights"][key], other["weights"][key]) for key in first["weights"])
    alone = found[1][0][name]
    assert first["tensors"].keys() == alone["tensors"].keys()
    for key, tensor in alone["tensors"].items():
        if not key.startswith(("random.", "sums.")):  # of which each process has its own
            assert first["tensors"][key].shape == tensor.shape, key
            assert type(first["tensors"][key]) in (torch.Tensor, nn.Parameter), key
    for own in (first, *others):
        assert own["differs"] == []
        assert all(torch.equal(own["weights"][key], own["again"][key]) for key in own["weights"])


@pytest.mark.slow
def test_gradients_are_exchanged_once_a_step(found: dict[int, list[dict[str, Any]]]) -> None:
    for name in CASES:
        exchanges = found[2][0][name]["exchanges"]
        # DDP sends this small net's gradients as one; FSDP2 sends those of each of four layers.
        once = 4 if "sharded" in name else 1
        assert set(exchanges) == {once}, f"{name}: {exchanges}"
    assert set(found[1][0]["plain"]["exchanges"]) == {0}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "sharded", "sharded and accumulated", "adam"])
def test_state_of_two_processes_goes_on_in_one(found: dict[int, list[dict[str, Any]]], name: str) -> None:
    own = found[2][0][name]
    case = CASES[name] | {"shard": False}
    training, _ = make(World(), case)
    told = training.restore(own["facts"], own["tensors"])
    assert "2 processes before, 1 now" in told
    weights = training.weights()
    assert all(torch.equal(weights[key], own["weights"][key]) for key in own["weights"])
    # The optimizer goes on, too: the step after is that of a training that has never been saved.
    alone, loader = make(World(), case)
    alone.restore(found[1][0][name]["facts"], found[1][0][name]["tensors"])
    batch = next(iter(loader.epoch(9)))
    for one in (training, alone):
        one.step(batch)
    for key, weight in whole_state(alone.model).items():
        torch.testing.assert_close(whole_state(training.model)[key], weight, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("images", [2, 4, 7, 61])
def test_validation_counts_every_image_once(found: dict[int, list[dict[str, Any]]], images: int) -> None:
    """The figures of one process, exactly, in every process: also where three share four images, or one has none."""
    alone = dict(found[1][0][f"val {images}"])
    loss = alone.pop("loss")
    assert alone.pop("images") == images
    for count in (2, 3, 4):
        there = [dict(own[f"val {images}"]) for own in found[count]]
        assert sum(own.pop("images") for own in there) == images
        for own in there:
            assert own.pop("loss") == pytest.approx(loss, rel=1e-6)
            assert own == alone
        assert all(own == there[0] for own in there)
    if images == 2:
        assert found[3][2]["val 2"]["images"] == 0, "one had none"


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_what_processes_tell_each_other(found: dict[int, list[dict[str, Any]]], count: int) -> None:
    numbers = range(count)
    for own in found[count]:
        said = own["said"]
        assert said["sums"] == [sum(numbers) + count, 0.5 * count]
        assert said["largest"] == [count - 1, 0]
        assert said["summed"] == [sum(numbers), count]
        assert said["gathered"] == [[rank] for rank in numbers]
        assert said["from_first"] == {"ä": [0, None, "x"]}
        assert said["seen"] >= found[count][0]["said"]["seen"], "the others come after the first"


# ---- without others ----


def test_alone_nothing_is_exchanged() -> None:
    world = World()
    assert world.first
    assert world.alone
    assert world.sums([1.5]) == world.largest([1.5]) == [1.5]
    assert world.from_first("x") == "x"
    assert world.gathered(torch.tensor([2])).tolist() == [[2]]
    with joined(torch.device("cpu"), 1.0) as own:
        assert own == world


def test_alone_every_failure_is_told() -> None:
    hushed = []
    with pytest.raises(CnnError, match="so it is"), one_voice(World(), Pause(), lambda: hushed.append(1)):
        raise CnnError("so it is")
    assert not hushed


def test_a_stop_that_another_process_heard_first_is_no_second_one() -> None:
    pause = Pause()
    pause.alone = False
    pause.agree(signal.SIGTERM, save=True)
    pause.press(signal.SIGTERM)
    assert pause.stop == signal.SIGTERM
    with pytest.raises(SystemExit):
        pause.press(signal.SIGTERM)


def test_the_loss_of_another_is_known_by_its_words() -> None:
    assert is_loss_of_others(RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer"))
    assert is_loss_of_others(torch.distributed.DistBackendError("NCCL communicator was aborted"))
    assert not is_loss_of_others(RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"))


@pytest.mark.parametrize(("value", "count"), [(None, 0), ("0", 0), ("3", 3), ("x", 0), ("", 0)])
def test_restarts(value: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT", raising=False)
    else:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", value)
    assert distributed.restarts() == count


def test_others_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is as long as the patience, and the error names the address."""
    port = str(ranks.free_port())
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port)):
        monkeypatch.setenv(name, value)
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}"), joined(torch.device("cpu"), 1.0):
        pass
    assert time.monotonic() - began < 20


ORPHAN = """
import os, signal, sys, time
from cnncli.engine import distributed
distributed.GRACE = 0.5
if sys.argv[1] == "deaf":
    signal.signal(signal.SIGTERM, lambda *_: None)
with distributed._bound_to_launcher():
    print("bound", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="only there a process learns of its parent's end")
@pytest.mark.parametrize("kind", ["hears", "deaf"])
def test_a_process_ends_with_its_launcher(kind: str) -> None:
    """The launcher is killed; what it started gets the time to save, and is killed where it does not take it."""
    launcher = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ORPHAN!r}, {kind!r}])"
    variables = os.environ | {"TORCHELASTIC_RUN_ID": "x"}
    variables.pop("CNN_LAUNCHED", None)
    with subprocess.Popen([sys.executable, "-c", launcher], stdout=subprocess.PIPE, env=variables, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"bound\n"
            os.kill(process.pid, signal.SIGKILL)
            began = time.monotonic()
            assert process.stdout.read() == b"", "the pipe closes when the last of them has gone"
            assert time.monotonic() - began < 10
        finally:
            os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None


def test_load_state_is_the_reverse_of_whole_state() -> None:
    one, other = net(), net()
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(1.0)
    load_state(other, whole_state(one))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
