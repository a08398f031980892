"""The models that a run keeps on the way: RUN/epochs/epoch-0003.safetensors, ordinary model files; epoch 0 is the model before training."""

from __future__ import annotations

import re
from pathlib import Path

from cnncli import atomic

EPOCHS = "epochs"
NAME = re.compile(r"epoch-([0-9]{4,9})\.safetensors")


def epoch_file(run: Path, epoch: int) -> Path:
    """Where the model of an epoch is kept."""
    return run / EPOCHS / f"epoch-{epoch:04d}.safetensors"


def kept_epochs(run: Path) -> list[tuple[int, Path]]:
    """(epoch, model file) of all that a run has kept, the first first; none where it kept none."""
    folder = run / EPOCHS
    if not folder.is_dir():
        return []
    found = [(int(name[1]), path) for path in folder.iterdir() if (name := NAME.fullmatch(path.name))]
    return sorted(found)


def drop_epochs(run: Path, after: int = -1) -> None:
    """Remove the models of later epochs than `after`, and the folder where nothing else is in it. OSError."""
    folder = run / EPOCHS
    if not folder.is_dir():
        return
    atomic.remove_stale(folder)
    for epoch, path in kept_epochs(run):
        if epoch > after:
            path.unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
