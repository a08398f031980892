"""The run folder: where it is, what is in it after which event, who may write there, and what is left alone."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from interrupting import before_every_line

from cnncli.arch.zoo.table import build
from cnncli.data.preprocess import Preprocess
from cnncli.engine.events import EpochDone, Finished, Note, Paused, Progress, Started
from cnncli.engine.runs import FILES, LOCK, Lock, Run, check_writable, choose_folder, plain_name, refuse_in_use, source_of
from cnncli.engine.state import BEFORE, STATE, load_state
from cnncli.errors import EnvironmentFault, InputError, UsageError
from cnncli.models import tensorfile
from cnncli.models.assemble import assemble
from cnncli.models.modelfile import ModelInfo, load

SETTINGS = {"net": "mlp", "train": {"seed": 1}}
DATA = {"count": 9}


@pytest.fixture
def net():
    return build("mlp", input=(1, 6, 6), classes=3)


@pytest.fixture
def info(net) -> ModelInfo:
    return ModelInfo(net, ("a", "b", "c"), Preprocess(1, 6, 6), data="photos", val_fraction=0.3)


@pytest.fixture
def training(net, make_loader, make_training):
    torch.manual_seed(0)
    return make_training(assemble(net), make_loader(9, batch_size=3))


def done(epoch: int, *, best: bool, val: float | None = 0.5) -> EpochDone:
    loss = None if val is None else 1.5
    return EpochDone(epoch, 3 * epoch, 1.25, 0.5, loss, val, val, val, val, 0.01, 2.0, 100.0, best=best)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_numbered_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose_folder(None, "lenet5-digits", overwrite=False) == Path("runs/lenet5-digits-1")
    assert not Path("runs").exists(), "choosing writes nothing"
    Path("runs/lenet5-digits-1").mkdir(parents=True)
    Path("runs/lenet5-digits-3").mkdir()
    assert choose_folder(None, "lenet5-digits", overwrite=True) == Path("runs/lenet5-digits-2"), "a name of ours never replaces"
    assert choose_folder(None, "mlp-digits", overwrite=False) == Path("runs/mlp-digits-1")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("lenet5-digits", "lenet5-digits"),
        ("resnet1_202.v2-my_data", "resnet1_202.v2-my_data"),
        ("conv3-16 relu FC-10 softmax-digits", "conv3-16-relu-FC-10-softmax-digits"),
        ("[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX-digits", "CONV-RELU-2-POOL-3-FC-RELU-1-SOFT-digits"),
        ("conv3-64 relu conv3-64 relu maxpool conv3-128 relu maxpool...-cifar10", "conv3-64-relu-conv3-64-relu-maxp-cifar10"),
        ("a" * 99, "a" * 40),
        ("../../etc/x -- {}|\n\0-\u00fc", "etc-x"),
        ("...", "run"),
    ],
)
def test_numbered_folders_have_plain_names(name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert plain_name(name) == folder
    chosen = choose_folder(None, name, overwrite=False)
    assert chosen == Path("runs") / f"{folder}-1"
    assert len(folder) <= 40
    chosen.mkdir(parents=True)
    assert choose_folder(None, name, overwrite=False) == Path("runs") / f"{folder}-2"


def test_given_folder(tmp_path: Path) -> None:
    wanted = tmp_path / "run"
    assert choose_folder(wanted, "x", overwrite=False) == wanted
    wanted.mkdir()
    assert choose_folder(wanted, "x", overwrite=False) == wanted, "an empty folder is free"
    (wanted / ".hidden").touch()
    with pytest.raises(UsageError, match="run folder exists"):
        choose_folder(wanted, "x", overwrite=False)
    assert choose_folder(wanted, "x", overwrite=True) == wanted
    with pytest.raises(UsageError, match="is a file"):
        choose_folder(wanted / ".hidden", "x", overwrite=True)


def test_check_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="file"):
        check_writable(tmp_path / "file" / "run")


def test_what_is_written_when(tmp_path: Path, training, info: ModelInfo) -> None:
    folder = tmp_path / "deep" / "run"
    run = Run(folder, info, SETTINGS, DATA)
    assert not folder.exists(), "nothing is written before the training begins"
    run.begin()
    assert names(folder) == {"config.toml", LOCK}
    run.record(Started(2, 6, None, 3, 4, 5), training)
    assert names(folder) == {"config.toml", LOCK, STATE}, "a run can be resumed from its first step on"
    before = (folder / STATE).read_bytes()
    run.record(Progress(1, 1, 1.0, 0.5, 0.1, 10.0, 0.1), training)
    run.record(Note("x"), training)
    assert (folder / STATE).read_bytes() == before
    run.record(done(1, best=True), training)
    assert names(folder) == {"config.toml", LOCK, STATE, BEFORE, "metrics.jsonl", "last.safetensors", "best.safetensors"}
    first = (folder / "best.safetensors").read_bytes()
    with torch.no_grad():
        next(training.model.parameters()).add_(1)
    run.record(Paused(2, 1), training)
    assert torch.equal(load_state(folder).tensors[f"model.{next(iter(training.weights()))}"], next(iter(training.weights().values())))
    run.record(done(2, best=False, val=None), training)
    run.record(Finished(done(1, best=True), 3.0, "enough"), training)
    run.end()
    assert LOCK not in names(folder)
    assert (folder / "best.safetensors").read_bytes() == first
    assert (folder / "last.safetensors").read_bytes() != first
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[0] == {
        "epoch": 1,
        "step": 3,
        "train_loss": 1.25,
        "train_accuracy": 0.5,
        "val_loss": 1.5,
        "val_accuracy": 0.5,
        "val_top5": 0.5,
        "val_macro_f1": 0.5,
        "val_balanced_accuracy": 0.5,
        "lr": 0.01,
        "seconds": 2.0,
        "images_per_second": 100.0,
        "best": True,
        "skipped": 0,
    }
    assert rows[1].keys() == {key for key in rows[0] if not key.startswith("val_")}
    assert json.loads((folder / "result.json").read_text()) == {"finished": True, "reason": "enough", "seconds": 3.0, "best": rows[0]}
    assert tomllib.loads((folder / "config.toml").read_text()) == SETTINGS
    loaded, stored = load(folder / "last.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), training.weights().values(), strict=True))
    assert (stored.classes, stored.data, stored.val_fraction) == (("a", "b", "c"), "photos", 0.3)
    assert stored.metrics["epoch"] == 2
    assert load(folder / "best.safetensors")[1].metrics == {
        key: value for key, value in rows[0].items() if key not in {"best", "seconds", "images_per_second", "skipped", "step", "lr"}
    }
    assert load_state(folder).settings == SETTINGS
    assert load_state(folder).data == DATA


def test_what_is_kept_is_what_is_judged(tmp_path: Path, net, make_loader, make_training, info: ModelInfo) -> None:
    training = make_training(assemble(net), make_loader(9, batch_size=3), ema=0.9)
    with torch.no_grad():
        next(training.average.model.parameters()).add_(1)
    run = Run(tmp_path / "run", info, SETTINGS, DATA)
    run.begin()
    run.record(done(1, best=True), training)
    loaded, _ = load(tmp_path / "run" / "best.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), training.average.model.state_dict().values(), strict=True))


def test_an_earlier_run_is_cleared_and_nothing_else(tmp_path: Path, info: ModelInfo) -> None:
    for name in (*FILES, "notes.txt", "best.safetensors.bak", ".cnn-part-1-best.safetensors"):
        (tmp_path / name).write_text("old")
    run = Run(tmp_path, info, SETTINGS, DATA)
    run.begin()
    run.list_bad([])
    assert names(tmp_path) == {"config.toml", "notes.txt", "best.safetensors.bak", LOCK}
    run.list_bad(["x.png: bad", "y.png: bad"])
    assert (tmp_path / "bad_images.txt").read_text() == "x.png: bad\ny.png: bad\n"
    assert run.list_batch(["a.png", "b.png"]).read_text() == "a.png\nb.png\n"
    assert (tmp_path / "notes.txt").read_text() == "old"


def test_going_on_keeps_models_and_brings_the_log_back(tmp_path: Path, training, info: ModelInfo) -> None:
    """Rows of epochs that the state does not know are of a process that died before it saved; and a result is none any more."""
    run = Run(tmp_path, info, SETTINGS, DATA)
    run.begin()
    for event in (done(1, best=True), done(2, best=True), Finished(done(2, best=True), 1.0)):
        run.record(event, training)
    run.end()
    best = (tmp_path / "best.safetensors").read_bytes()
    rows = (tmp_path / "metrics.jsonl").read_text().splitlines()
    run = Run(tmp_path, info, SETTINGS | {"net": "other"}, DATA)
    run.begin([done(1, best=True)])
    assert (tmp_path / "metrics.jsonl").read_text() == rows[0] + "\n"
    assert "result.json" not in names(tmp_path)
    assert (tmp_path / "best.safetensors").read_bytes() == best
    assert load_state(tmp_path).settings == SETTINGS
    assert tomllib.loads((tmp_path / "config.toml").read_text())["net"] == "other"
    run.record(done(2, best=False), training)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_going_on_from_the_state_before_keeps_it(tmp_path: Path, training, info: ModelInfo) -> None:
    """The newest is damaged: the next save must not put it in the place of the one that was resumed from."""
    run = Run(tmp_path, info, SETTINGS, DATA)
    run.begin()
    for number in (1, 2):
        training.position.step = number
        run.save_state(training)
    run.end()
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:-9])
    run = Run(tmp_path, info, SETTINGS, DATA)
    run.begin([])
    assert names(tmp_path) >= {BEFORE}
    assert STATE not in names(tmp_path)
    assert load_state(tmp_path).facts["position"]["step"] == 1
    training.position.step = 3
    run.save_state(training)
    assert load_state(tmp_path).facts["position"]["step"] == 3
    (tmp_path / STATE).unlink()
    assert load_state(tmp_path).facts["position"]["step"] == 1


def test_other_processes_write_nothing(tmp_path: Path, training, info: ModelInfo) -> None:
    run = Run(tmp_path / "run", info, SETTINGS, DATA, writes=False)
    run.begin()
    run.list_bad(["x"])
    for event in (Started(2, 6, None, 3, 4, 5), done(1, best=True), Paused(2, 1), Finished(done(1, best=True), 1.0)):
        run.record(event, training)
    run.end()
    assert not (tmp_path / "run").exists()


def test_disk_full_in_the_metrics(tmp_path: Path, training, info: ModelInfo) -> None:
    run = Run(tmp_path / "run", info, SETTINGS, DATA)
    run.begin()
    (tmp_path / "run" / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(EnvironmentFault, match=r"metrics\.jsonl: No space left on device"):
        run.record(done(1, best=True), training)


@pytest.mark.parametrize(("failures", "succeeds"), [(1, True), (2, False)])
def test_a_disk_that_fails_for_a_moment(failures: int, succeeds: bool, tmp_path: Path, training, info: ModelInfo, monkeypatch) -> None:
    run = Run(tmp_path / "run", info, SETTINGS, DATA)
    run.begin()
    run.save_state(training)
    before, real, calls = (tmp_path / "run" / STATE).read_bytes(), tensorfile._write, []

    def failing(*args) -> None:
        calls.append(args)
        if len(calls) <= failures:
            raise OSError(errno.EIO, "Input/output error")
        real(*args)

    monkeypatch.setattr(tensorfile, "_write", failing)
    training.position.step += 1
    if succeeds:
        run.save_state(training)
        assert load_state(tmp_path / "run").facts["position"]["step"] == 1
    else:
        with pytest.raises(EnvironmentFault, match="Input/output error"):
            run.save_state(training)
        assert (tmp_path / "run" / STATE).read_bytes() == before
    assert len(calls) == 2


def test_a_full_disk_is_not_tried_again(tmp_path: Path, training, info: ModelInfo, monkeypatch) -> None:
    run = Run(tmp_path / "run", info, SETTINGS, DATA)
    run.begin()
    calls = []

    def full(path: Path, needed: int) -> None:
        calls.append(path)
        raise EnvironmentFault(f"disk full writing {path}")

    monkeypatch.setattr(tensorfile, "check_room", full)
    with pytest.raises(EnvironmentFault, match="disk full"):
        run.record(done(1, best=True), training)
    assert len(calls) == 1


HOLDER = """
import sys
from pathlib import Path
from cnncli.engine.runs import Lock
Lock(Path(sys.argv[1])).take()
print("taken", flush=True)
sys.stdin.read()
"""


def test_one_process_at_a_time(tmp_path: Path, training, info: ModelInfo) -> None:
    """A second one is refused and told which the first is; when that dies, however, the folder is free."""
    (tmp_path / STATE).write_text("kept")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"taken\n"
        told = f"run is in use by pid {holder.pid} on host {platform.node()}: {tmp_path}; wait for its end"
        for attempt in (
            lambda: Run(tmp_path, info, SETTINGS, DATA).begin(),
            lambda: refuse_in_use(tmp_path),
            lambda: choose_folder(tmp_path, "x", overwrite=True),
        ):
            with pytest.raises(InputError) as caught:
                attempt()
            assert str(caught.value).startswith(told)
        assert (tmp_path / STATE).read_text() == "kept", "a refused run changes nothing"
        assert not (tmp_path / "config.toml").exists()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert (tmp_path / LOCK).exists()
    run = Run(tmp_path, info, SETTINGS, DATA)
    run.begin()
    assert json.loads((tmp_path / LOCK).read_text()) == {"pid": os.getpid(), "host": platform.node()}
    run.end()
    run.end()
    assert names(tmp_path) == {"config.toml"}


def test_a_lock_that_is_removed_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder removes it between the opening and the locking: what is locked then has no name, and a third could take the new one."""
    first, second, third = Lock(tmp_path), Lock(tmp_path), Lock(tmp_path)
    first.take()
    real = os.open

    def late(*args: object, **settings: object) -> int:
        descriptor = real(*args, **settings)
        first.release()
        return descriptor

    monkeypatch.setattr(os, "open", late)
    second.take()
    monkeypatch.undo()
    with pytest.raises(InputError, match="in use"):
        third.take()
    second.release()
    third.take()
    third.release()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', '{"pid": 3}'])
def test_a_lock_that_says_nothing(content: str, tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    lock.take()
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(InputError, match="run is in use by another process"):
        Lock(tmp_path).take()
    lock.release()


def test_source_of(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('net = "x"\n[data]\nsource = "photos"\n')
    assert source_of(tmp_path) == "photos"
    for text in ("", "[data]\n", "data = 3\n", "not toml ="):
        (tmp_path / "config.toml").write_text(text)
        with pytest.raises(InputError, match=r"config\.toml"):
            source_of(tmp_path)


def test_a_lock_that_is_interrupted(tmp_path: Path) -> None:
    """Wherever Ctrl-C falls while it is taken: it is had and can be released, or no file says that somebody writes there."""
    locks: list[Lock] = []

    def take() -> None:
        locks.append(Lock(tmp_path))
        locks[-1].take()

    tried = 0
    for _ in before_every_line(take):
        for lock in locks:
            lock.release()
        assert not list(tmp_path.iterdir()), tried
        locks.clear()
        tried += 1
    assert tried > 10


def test_whatever_ends_a_run_lets_others_write_there(tmp_path: Path, info: ModelInfo) -> None:
    run = Run(tmp_path / "run", info, SETTINGS, DATA)
    with pytest.raises(KeyboardInterrupt), run:
        run.begin()
        assert (tmp_path / "run" / LOCK).exists()
        raise KeyboardInterrupt
    assert not (tmp_path / "run" / LOCK).exists()
