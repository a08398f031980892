"""The grammar of specs: what the word means that names a model on the command line.

    alexnet                      a net of the zoo (no trained weights)
    runs/lenet5-digits-1         a run folder: its best model
    x.safetensors                a model file

A word that is both a zoo name and an existing file or folder is refused, never guessed: `./alexnet` is the folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnncli.arch.zoo.table import ZOO
from cnncli.errors import InputError, UsageError, near_miss

BEST = "best.safetensors"
LAST = "last.safetensors"


@dataclass(frozen=True)
class Spec:
    """What a spec names. kind: `zoo` (name is the net's) or `file` (path is a model file)."""

    kind: Literal["zoo", "file"]
    name: str
    path: Path = Path()


def resolve(text: str) -> Spec:
    """The meaning of a spec. UsageError when it is unknown or ambiguous, InputError for a run folder without a model."""
    path = _path(text)
    looks_like_path = "/" in text or text.endswith(".safetensors") or text in (".", "..")
    if text in ZOO:
        if path.exists():
            raise UsageError(
                f"{text!r} is a net of the zoo and also {'a folder' if path.is_dir() else 'a file'} here", f"write ./{text} for the latter"
            )
        return Spec("zoo", text)
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return Spec("file", text, path / name)
        raise InputError(f"{text} holds no {BEST}", "give a run folder that `cnn train` made, or a model file", path=text)
    if path.exists():
        return Spec("file", text, path)
    if looks_like_path:
        raise InputError(
            f"no such model file or run folder: {text}", "check the path; `cnn train` prints the run folder it makes", path=text
        )
    raise UsageError(
        f"unknown net or model {text!r}",
        near_miss(text, list(ZOO)) or "`cnn models` lists the nets; a path names a trained model",
        path=text,
    )


def _path(text: str) -> Path:
    """`text` as a path that the system agrees to look for."""
    if not text:
        raise UsageError("the name of a net or model is empty", "`cnn models` lists the nets; a path names a trained model")
    try:
        path = Path(text).expanduser() if text.startswith("~") else Path(text)
        path.exists()
    except (OSError, RuntimeError) as error:  # too long, not permitted, the home of nobody
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot look for a model at {text[:200]}: {reason}", "check the path", path=text[:200]) from None
    return path
