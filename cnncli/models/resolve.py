"""The grammar of specs: what the word means that names a model on the command line.

    alexnet                      a net of the zoo (no trained weights)
    torchvision/resnet50         a model of torchvision
    timm/resnet50d               a model of timm
    nets/mine.py:Net             a class, function or module in a Python file, which is run
    runs/lenet5-digits-1         a run folder: its best model
    x.safetensors                a model file
    "(CONV-RELU)*2-POOL-SOFTMAX" a net in the lecture's notation

A word with two meanings is refused, never guessed: `./alexnet` is the folder. Nothing is imported or run here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cnncli.arch.zoo.table import ZOO
from cnncli.errors import CnnError, InputError, UsageError, near_miss

BEST = "best.safetensors"
LAST = "last.safetensors"
LONGEST_NAME = 200  # of a library's model, in a file
LONGEST_PYTHON = 4096  # of `nets/mine.py:Net` there: the longest path of Linux
LIST = "`cnn models` lists the nets; a path names a trained model"

Library = Literal["torchvision", "timm"]
LIBRARIES: tuple[Library, ...] = get_args(Library)
_LIBRARY = re.compile(rf"({'|'.join(LIBRARIES)})/([\w.-]*)(?<!\.safetensors)", re.ASCII)  # deeper ones, and model files, are paths
_PYTHON = re.compile(r"(?P<file>.*\.py):(?P<name>[^:/\\]*)", re.DOTALL)


@dataclass(frozen=True)
class Spec:
    """What a spec names.

    kind and name: `zoo` and the net's name; `torchvision` or `timm` and the model's name there; `notation` and its text;
    `file` and the spec, with the model file as path; `python` and the name in the file, with the file as path.
    """

    kind: Literal["zoo", "file", "torchvision", "timm", "python", "notation"]
    name: str
    path: Path = Path()

    @property
    def text(self) -> str:
        """The spec as it is written."""
        if self.kind in LIBRARIES:
            return f"{self.kind}/{self.name}"
        return f"{self.path}:{self.name}" if self.kind == "python" else self.name

    @property
    def library(self) -> Library | None:
        """The package that a model comes from, if it comes from one."""
        return next((library for library in LIBRARIES if library == self.kind), None)


def library_spec(text: object) -> Spec:
    """The spec of a model of a library, from a file that may be hostile. InputError for anything else; whether it exists is not asked."""
    found = _LIBRARY.fullmatch(text) if isinstance(text, str) and len(text) <= LONGEST_NAME else None
    if found is None or not found[2]:
        raise InputError(f"it names no model of {' or '.join(LIBRARIES)}")
    return Spec("timm" if found[1] == "timm" else "torchvision", found[2])


def stored_spec(text: object) -> Spec:
    """As `library_spec`, but a model file may also name a Python file, `nets/mine.py:Net`: words to show, which nothing may run."""
    found = _PYTHON.fullmatch(text) if isinstance(text, str) and len(text) <= LONGEST_PYTHON else None
    if found is None:
        return library_spec(text)
    if not found["name"].isidentifier() or not found[0].isprintable():
        raise InputError(f"it names no model of {' or '.join(LIBRARIES)} or of a Python file")
    return Spec("python", found["name"], Path(found["file"]))


def model_file(path: Path) -> Path:
    """A model file as it is; of a run folder its best model, else its last. InputError for a folder without one."""
    if not path.is_dir():
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    raise InputError(f"{path} holds no {BEST}", "give a run folder that `cnn train` made, or a model file", path=str(path))


def resolve(text: str) -> Spec:
    """The meaning of a spec. UsageError when it is unknown or ambiguous, InputError for a run folder without a model."""
    if not text:
        raise UsageError("the name of a net or model is empty", LIST)
    there = _exists(text)
    if found := _LIBRARY.fullmatch(text):
        return _of_library(text, "timm" if found[1] == "timm" else "torchvision", found[2], there=there)
    if python := _PYTHON.fullmatch(text):
        return _of_python(text, Path(python["file"]).expanduser(), python["name"], there=there)
    if text in ZOO:
        _refuse_two_meanings(text, "a net of the zoo", there=there)
        return Spec("zoo", text)
    if there:
        return _of_path(text)
    if _is_notation(text):
        return Spec("notation", text)
    raise _unknown(text)


def _of_library(text: str, library: Library, name: str, *, there: bool) -> Spec:
    if not name and there:
        return _of_path(text)
    _refuse_two_meanings(text, f"a model of {library}", there=there)
    if not name:
        raise UsageError(f"{text} should name a model of {library}", f"for example {library}/resnet50", path=text)
    return Spec(library, name)


def _of_python(text: str, file: Path, name: str, *, there: bool) -> Spec:
    _refuse_two_meanings(text, f"the name {name!r} in {file}", there=there)
    if not name.isidentifier():
        raise UsageError(f"{text} should end in the name of a class or function", f"for example {file}:Net", path=text)
    if not file.is_file():
        raise InputError(f"no such file: {file}", "file.py:Name takes the class, function or module Name from file.py", path=str(file))
    return Spec("python", name, file)


def _of_path(text: str) -> Spec:
    path = Path(text).expanduser() if text.startswith("~") else Path(text)
    if path.is_dir():
        if not any((path / name).is_file() for name in (BEST, LAST)) and _is_notation(text):
            _refuse_two_meanings(text, "a net in the lecture's notation", there=True)
        return Spec("file", text, model_file(path))
    if path.suffix == ".py":
        raise UsageError(f"{text} is a Python file", f"name a class or function in it, for example {text}:Net", path=text)
    if _is_notation(text):
        _refuse_two_meanings(text, "a net in the lecture's notation", there=True)
    return Spec("file", text, path)


def _is_notation(text: str) -> bool:
    from cnncli.arch.notation.language import looks_like_notation  # late: a net's name should not wait for it

    return looks_like_notation(text)


def _refuse_two_meanings(text: str, meaning: str, *, there: bool) -> None:
    if there:
        kind = "a folder" if Path(text).is_dir() else "a file"
        raise UsageError(f"{text!r} is {meaning} and also {kind} here", f"write ./{text} for the latter", path=text)


def _unknown(text: str) -> CnnError:
    head, _, name = text.partition("/")
    if name and head not in LIBRARIES and (close := near_miss(head, list(LIBRARIES))):
        return UsageError(f"unknown net or model {text!r}", close.replace("?", f"/{name}?"), path=text)
    if "/" in text or text.endswith(".safetensors") or text in (".", ".."):
        return InputError(
            f"no such model file or run folder: {text[:200]}", "check the path; `cnn train` prints the run folder it makes", path=text[:200]
        )
    return UsageError(f"unknown net or model {text[:200]!r}", near_miss(text, list(ZOO)) or LIST, path=text[:200])


def _exists(text: str) -> bool:
    """Whether `text` is a path that is there. InputError where the system does not even agree to look."""
    try:
        path = Path(text).expanduser() if text.startswith("~") else Path(text)
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, RuntimeError, ValueError) as error:  # too long, not permitted, a loop of links, the home of nobody, a zero byte
        if _is_notation(text):
            return False
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot look for a model at {text[:200]}: {reason}", "check the path", path=text[:200]) from None
    return True
