"""The TensorBoard log, read back by TensorBoard's own reader."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cnncli.engine.events import EpochDone, Finished, Progress, Started
from cnncli.errors import EnvironmentFault
from cnncli.reports.tensorboard import LR, TensorBoardLog

STARTED = Started(3, 30, None, 10, 1000, 200)
DONE = EpochDone(1, 10, 2.0, 0.5, 1.5, 0.75, None, None, None, 0.125, 1.0, 100.0, best=True)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def write(folder: Path, *events: object) -> None:
    pytest.importorskip("tensorboard")
    with TensorBoardLog(folder) as log:
        for event in events:
            log.record(event)  # type: ignore[arg-type]


def test_scalars(tmp_path: Path) -> None:
    progress = Progress(2, 5, 1.0, 0.6, 0.25, 50.0, 0.5)
    write(tmp_path / "tb", STARTED, DONE, progress, replace(DONE, epoch=2, step=20, val_loss=None, val_accuracy=None), Finished(DONE, 2.0))
    found = scalars(tmp_path / "tb")
    assert found["loss/train"] == [(10, 2.0), (20, 2.0)]
    assert found["accuracy/val"] == [(10, 0.75)]
    assert found[LR] == [(10, 0.125), (15, 0.25), (20, 0.125)]
    assert "top5/val" not in found


def test_a_resumed_log_goes_on(tmp_path: Path) -> None:
    epochs = [replace(DONE, epoch=n, step=10 * n, train_loss=float(n)) for n in (1, 2, 3)]
    write(tmp_path, STARTED, *epochs)
    write(tmp_path, replace(STARTED, epoch=2, step=5), *(replace(row, train_loss=9.0) for row in epochs[1:]))
    assert scalars(tmp_path)["loss/train"] == [(10, 1.0), (20, 9.0), (30, 9.0)]


def test_a_new_training_hides_an_old_log(tmp_path: Path) -> None:
    write(tmp_path, STARTED, replace(DONE, step=30))
    write(tmp_path, STARTED, DONE)
    assert scalars(tmp_path)["loss/train"] == [(10, 2.0)]


def test_nothing_is_written_before_the_start_and_closing_twice_is_safe(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = TensorBoardLog(tmp_path / "tb")
    log.record(DONE)
    log.close()
    assert not (tmp_path / "tb").exists()
    log.record(STARTED)
    log.close()
    log.close()
    assert (tmp_path / "tb").is_dir()


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(EnvironmentFault, match=r"the package tensorboard is missing; pip install 'cnncli\[tensorboard\]'"):
        TensorBoardLog(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    log = TensorBoardLog(tmp_path / "file" / "tb")
    with pytest.raises(EnvironmentFault, match="cannot write TensorBoard's log"):
        log.record(STARTED)
