"""Run folders as they are found: whole, old, half written, damaged, or none."""

from __future__ import annotations

import fcntl
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from cnncli.engine.run_folders import FINISHED, RUNNING, STOPPED, differing, find_runs, natural, read_run
from cnncli.errors import InputError

ROW = {"step": 20, "train_loss": 0.5, "train_accuracy": 0.8, "val_loss": 0.6, "val_accuracy": 0.7, "lr": 0.1, "seconds": 2.0}
SETTINGS = 'net = "lenet5"\n[train]\nepochs = 4\n[optim]\nlr = 0.1\n[data]\nsource = "digits"\n'


def make(folder: Path, settings: str = SETTINGS, rows: int = 2, **result: Any) -> Path:
    """A run folder by hand; with `result`, one that has ended."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(settings, encoding="utf-8")
    lines = [ROW | {"epoch": n, "images_per_second": 100.0 * n, "best": n == 1, "skipped": 0} for n in range(1, rows + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result:
        (folder / "result.json").write_text(json.dumps(result))
    return folder


def test_a_run_that_has_ended(tmp_path: Path) -> None:
    run = read_run(make(tmp_path / "a", finished=True, reason="no better epoch in 5", seconds=9.5, best=ROW | {"epoch": 1}))
    assert (run.name, run.net, run.data, run.state, run.reason) == ("a", "lenet5", "digits", FINISHED, "no better epoch in 5")
    assert (run.seconds, run.planned, run.monitor, run.complaints) == (9.5, 4, "val_accuracy", ())
    assert [row.epoch for row in run.epochs] == [1, 2]
    assert run.best is run.epochs[0]
    assert run.best.val_top5 is None


def test_a_run_without_a_result_has_stopped(tmp_path: Path) -> None:
    run = read_run(make(tmp_path / "a"))
    assert (run.state, run.seconds) == (STOPPED, 4.0), "the training steps alone"
    assert read_run(make(tmp_path / "b", finished=False)).state == STOPPED


def test_a_run_whose_lock_is_held_is_running(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", finished=True, reason="old")
    (folder / ".lock").write_text(json.dumps({"pid": os.getpid(), "host": "h"}))
    assert read_run(folder).state == FINISHED, "a lock that nobody holds is left from a process that died"
    with (folder / ".lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        run = read_run(folder)
    assert (run.state, run.reason) == (RUNNING, "")
    assert read_run(folder).state == FINISHED
    with (folder / ".lock").open("r+") as free:
        fcntl.flock(free, fcntl.LOCK_EX | fcntl.LOCK_NB)  # looking leaves no lock behind


def test_an_old_run(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", 'net = "lenet5"\nnew = [1, {a = 2}]\n[train]\nlr = 0.1\n[data]\nsource = "digits"\n', rows=0)
    (folder / "metrics.jsonl").write_text(
        '{"epoch": 1, "train_loss": 2.0, "train_accuracy": 0.3, "best": true, "future": {"x": 1}}\n{"epoch": 2, "train_loss": 1.0}\n'
    )
    run = read_run(folder)
    assert (run.planned, run.best) == (None, run.epochs[0])
    assert math.isnan(run.epochs[0].lr)
    assert math.isnan(run.epochs[1].train_accuracy)
    assert (run.epochs[0].step, run.epochs[0].seconds, run.epochs[0].val_loss) == (0, 0, None)


def test_a_run_before_its_first_epoch(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", rows=0)
    (folder / "metrics.jsonl").unlink()
    run = read_run(folder)
    assert (run.epochs, run.best, run.seconds) == ((), None, 0)
    assert run.changed > 0


def test_lines_that_break_off_and_epochs_that_come_again(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", rows=3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(ROW | {"epoch": 2, "train_loss": 9.0}) + '\n{"epoch": 4, "tra')
    run = read_run(folder)
    assert [(row.epoch, row.train_loss) for row in run.epochs] == [(1, 0.5), (2, 9.0), (3, 0.5)]
    assert run.complaints == ()


@pytest.mark.parametrize(
    "line", ["rubbish", "[1]", "null", '{"epoch": true}', '{"epoch": 0}', '{"epoch": 1.5}', "[" * 100_000, "\x00", '{"epoch": "1"}']
)
def test_lines_that_are_no_epochs(line: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a", rows=1)
    (folder / "metrics.jsonl").write_text(line + "\n" + (folder / "metrics.jsonl").read_text())
    run = read_run(folder)
    assert len(run.epochs) == 1
    assert run.complaints == (f"{folder / 'metrics.jsonl'}: line 1 is no epoch (1 such line)",)


@pytest.mark.parametrize("value", ["true", '"x"', "1e999", "-Infinity", "NaN", "1" + "0" * 400, "[1]"])
def test_figures_that_are_no_numbers(value: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a", rows=0)
    (folder / "metrics.jsonl").write_text(f'{{"epoch": 1, "step": {value}, "seconds": {value}, "val_loss": {value}, "lr": {value}}}\n')
    run = read_run(folder)
    assert (run.epochs[0].step, run.epochs[0].seconds) == (0, 0)


@pytest.mark.parametrize("text", ["{", "[]", "", "null", "\x00"])
def test_a_damaged_result(text: str, tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    (folder / "result.json").write_text(text)
    run = read_run(folder)
    assert run.state == STOPPED
    assert run.complaints == (f"{folder / 'result.json'} is damaged",)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (None, "is no run folder: it has no config.toml"),
        ("x = = 3", "config.toml is damaged"),
        ("x = " + "[" * 100_000, "config.toml is damaged"),
        ('title = "a site"', "its config.toml has neither net nor"),
        ("net = 3", "its config.toml has neither net nor"),
    ],
)
def test_no_runs(settings: str | None, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    if settings is not None:
        (folder / "config.toml").write_text(settings)
    with pytest.raises(InputError, match=words):
        read_run(folder)


def test_settings_that_are_not_utf8(tmp_path: Path) -> None:
    folder = make(tmp_path / "a")
    (folder / "config.toml").write_bytes(b'net = "\xff"')
    with pytest.raises(InputError, match="damaged"):
        read_run(folder)


def test_find_runs(tmp_path: Path) -> None:
    for name in ("a-10", "a-2", ".hidden"):
        make(tmp_path / name)
    (tmp_path / "b").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "again").symlink_to("a-2")
    make(tmp_path / "c", "x = = 3")
    runs, complaints = find_runs([tmp_path, tmp_path / "a-2", tmp_path / "none"])
    assert [run.name for run in runs] == ["a-2", "a-10"]
    assert [line.split(" ")[0] for line in complaints] == [str(tmp_path / "b"), f"{tmp_path / 'c'}/config.toml", str(tmp_path / "none")]


def test_differing(tmp_path: Path) -> None:
    settings = 'net = "x"\n[train]\nseed = 0\nepochs = 3\nema = 1\n[optim]\nlr = 1\n[data]\nsource = "d"\n'
    other = settings.replace("seed = 0\nepochs", "seed = 1\nsteps").replace("lr = 1", "lr = 1.0").replace("ema = 1", "ema = true")
    a = read_run(make(tmp_path / "a", settings + '[set]\nhidden = "9"'))
    b = read_run(make(tmp_path / "b", other + "[keep]\ntensorboard = true"))
    assert differing([a, b]) == {"seed": (0, 1), "epochs": (3, None), "ema": (1, True), "hidden": ("9", None), "steps": (None, 3)}
    assert differing([a, a]) == {}


def test_differing_where_two_tables_have_a_name(tmp_path: Path) -> None:
    a = read_run(make(tmp_path / "a", 'net = "x"\n[train]\nseed = 0\n[data]\nseed = 1'))
    b = read_run(make(tmp_path / "b", 'net = "y"\n[train]\nseed = 0\n[data]\nseed = 2'))
    assert differing([a, b]) == {"net": ("x", "y"), "data.seed": (1, 2)}


def test_a_setting_that_moved_to_another_table(tmp_path: Path) -> None:
    old = read_run(make(tmp_path / "a", 'net = "x"\n[train]\nlr = 0.1\nseed = 0'))
    new = read_run(make(tmp_path / "b", 'net = "x"\n[train]\nseed = 0\n[optim]\nlr = 0.2\nmomentum = 0.9'))
    assert differing([old, new]) == {"lr": (0.1, 0.2)}


def test_natural_order() -> None:
    assert sorted(["a-10", "a-2", "a", "10", "9b"], key=natural) == ["9b", "10", "a", "a-2", "a-10"]
