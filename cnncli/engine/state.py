"""The state of a training in a file: complete in itself, and the one before it is kept.

A safetensors file with a checksum like a model file. Its description holds the settings in force, the facts of `Training.state`, and what
the data were.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli import atomic
from cnncli.errors import InputError
from cnncli.models.tensorfile import KEY, check_file, load_tensors, read_header, read_metadata, save_tensors, undisturbed

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 1
STATE, BEFORE = "state.safetensors", "state-before.safetensors"


@dataclass(frozen=True)
class State:
    """settings: tables of values, as in config.toml. data: what the images were. facts, tensors: of `Training.state`."""

    settings: dict[str, Any]
    data: dict[str, Any]
    facts: dict[str, Any]
    tensors: dict[str, Tensor]
    path: Path = Path()

    @property
    def where(self) -> str:
        """`epoch 3 step 17`."""
        return f"epoch {self.facts['position']['epoch']} step {self.facts['position']['step']}"


def save_state(folder: Path, state: State) -> None:
    """Write state.safetensors; what it was becomes state-before.safetensors. At any instant one of them is whole."""
    path, before = folder / STATE, folder / BEFORE
    description = {
        "format": FORMAT,
        "cnncli": version("cnncli"),
        "position": state.facts["position"],
        "settings": state.settings,
        "data": state.data,
        "facts": state.facts,
    }
    try:
        with atomic.temporary_folder(folder) as aside:
            kept = aside / BEFORE
            with suppress(OSError):  # there is none yet; or a file system without links, which keeps no older state
                kept.hardlink_to(path)  # a second name for the same bytes: nothing is copied
            save_tensors(path, state.tensors, description)
            with suppress(OSError):  # only now, so that a save that fails takes neither of the two that are there
                kept.replace(before)
    except OSError as error:
        raise atomic.cannot_write(path, error) from error


def drop_damaged(folder: Path) -> None:
    """Remove a newest state that cannot be read where the one before it can: the next save would put it in the place of that one."""
    if (folder / STATE).is_file() and (folder / BEFORE).is_file():
        try:
            _load(folder / STATE)
        except InputError:
            with suppress(InputError):  # where both are damaged, neither is better
                _load(folder / BEFORE)
                (folder / STATE).unlink()


def read_description(folder: Path, *, strict: bool = False) -> dict[str, Any]:
    """What the newest state of a run that can be read says of itself: settings, data, facts. Without torch. Errors as in `load_state`."""
    return _newest(folder, _checked, lambda _: None, strict=strict)  # type: ignore[no-any-return]


def load_state(folder: Path, *, strict: bool = False, tell: Callable[[str], None] = lambda _: None) -> State:
    """The newest state of a run that is whole; where the one before had to be taken, that is told.

    InputError when there is none, or, with `strict`, when the newest is damaged.
    """
    return _newest(folder, _load, tell, strict=strict)  # type: ignore[no-any-return]


def _newest(folder: Path, read: Callable[[Path], Any], tell: Callable[[str], None], *, strict: bool = False) -> Any:
    if not folder.is_dir():
        kind = "a file" if folder.exists() else "not there"
        raise InputError(f"--resume {folder} is {kind}", "give the run folder of a `cnn train`", path=str(folder))
    there = [folder / name for name in (STATE, BEFORE) if (folder / name).is_file()]
    if not there:
        raise InputError(f"{folder} holds no {STATE}", "only a run of `cnn train` can be resumed", path=str(folder))
    failure: InputError | None = None
    for path in there:
        try:
            found = undisturbed(path, read)
        except InputError as error:
            if strict or "this version reads" in error.message:
                raise
            failure = failure or error
            continue
        if failure:
            where = f", from {found.where}" if isinstance(found, State) else ""
            tell(f"warning: {failure.message}; the state before it is taken{where}")
        return found
    assert failure is not None
    raise failure


def _described(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    metadata = read_metadata(path, read_header(path))
    try:
        found = json.loads(metadata[KEY])
        if found["format"] > FORMAT:
            raise InputError(
                f"{path}: its format is {found['format']}, this version reads {FORMAT}", "pip install -U cnncli", path=str(path)
            )
        sound = all(isinstance(found[name], dict) for name in ("settings", "data", "facts", "position"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is no state of a training, or damaged", "resume from another run", path=str(path)) from error
    if not sound:
        raise InputError(f"{path} is no state of a training, or damaged", "resume from another run", path=str(path))
    return found, metadata


def _checked(path: Path) -> dict[str, Any]:
    found, metadata = _described(path)
    check_file(path, read_header(path), metadata)  # the text too may be damaged: a training must not go on with another rate
    return found


def _load(path: Path) -> State:
    found, metadata = _described(path)
    return State(found["settings"], found["data"], found["facts"], load_tensors(path, metadata), path)
