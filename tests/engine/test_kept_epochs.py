"""The models that a run keeps on the way: which are written, which are removed, and what is left alone."""

from __future__ import annotations

from pathlib import Path

from cnncli.engine.kept_epochs import drop_epochs, epoch_file, kept_epochs


def filled(run: Path, *epochs: int) -> None:
    for epoch in epochs:
        epoch_file(run, epoch).parent.mkdir(parents=True, exist_ok=True)
        epoch_file(run, epoch).touch()


def test_in_the_order_of_epochs(tmp_path: Path) -> None:
    assert kept_epochs(tmp_path) == []
    filled(tmp_path, 3, 12000, 0)
    (tmp_path / "epochs" / "epoch-1.safetensors").touch()
    assert [epoch for epoch, _ in kept_epochs(tmp_path)] == [0, 3, 12000]
    assert kept_epochs(tmp_path)[1][1].name == "epoch-0003.safetensors"


def test_what_is_dropped(tmp_path: Path) -> None:
    drop_epochs(tmp_path)
    filled(tmp_path, 0, 2, 4)
    drop_epochs(tmp_path, 2)
    assert [epoch for epoch, _ in kept_epochs(tmp_path)] == [0, 2]
    (tmp_path / "epochs" / "notes.txt").touch()
    drop_epochs(tmp_path)
    assert [path.name for path in (tmp_path / "epochs").iterdir()] == ["notes.txt"]
    (tmp_path / "epochs" / "notes.txt").unlink()
    drop_epochs(tmp_path)
    assert not (tmp_path / "epochs").exists()
