"""Models from a user's Python file: `nets/mine.py:Net`. The file is run because the user spelled it, and for no other reason."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.errors import CnnError, UsageError, near_miss

if TYPE_CHECKING:
    from torch import nn

CLASSES = ("num_classes", "classes")  # what models call the number of their classes
_RUN: dict[Path, tuple[int, ModuleType]] = {}  # what this process has run: when the file was written, and its module
INPUT_SHAPE = "input_shape"  # how a file says what its model takes: (channels, height, width)


class Own(NamedTuple):
    """A model in evaluation mode; input_shape: what its code says of its input, None where it says nothing.

    finished: it is a module that the file holds ready made, so that there is no other like it with other weights.
    """

    model: nn.Module
    input_shape: tuple[int, int, int] | None
    finished: bool = False


def make(path: Path, name: str, *, classes: int | None) -> Own:
    """The model that `name` in the file is, or gives when it is called; made without memory for its weights where that can be.

    This runs the file. UsageError for a name that is not there or is no model, and for a number of classes that it does not
    take; what the file itself raises is passed on (see `explain`).
    """
    from cnncli.models.hollow import make_hollow

    return _made(run_file(path), path, name, classes, make_hollow)


def make_whole(path: Path, name: str, *, classes: int) -> Own:
    """As `make`, in this process and with the weights that its code gives it, for a model that will be run, trained and saved.

    classes: for a model that cannot be made without their number; any other is made with its own. The file is run once in a process;
    what it prints goes to standard error. A finished module is copied, so that the file's own stays as it is. CnnError for whatever
    the code raises.
    """
    from copy import deepcopy

    with running(path):
        module = _run_once(path)
        own = _made(module, path, name, None, lambda build: build(), needed=classes)
        return own._replace(model=deepcopy(own.model)) if own.finished else own


@contextmanager
def running(path: Path, hint: str = "--debug shows the traceback") -> Iterator[None]:
    """While the user's code runs in this process: its words go to standard error, its errors become a CnnError, our settings stay."""
    kept = sys.argv, sys.dont_write_bytecode
    try:
        with redirect_stdout(sys.stderr):
            yield
    except CnnError:
        raise
    except (Exception, SystemExit) as error:  # code that is not ours raises anything, and may want to end the process
        raise explain(path, error, hint) from error
    finally:
        sys.argv, sys.dont_write_bytecode = kept


def _run_once(path: Path) -> ModuleType:
    """The file as a module; run again only when it has been written since. Its folder then stands last on the search path.

    There it finds what stands beside it, and hides no package that we import later.
    """
    place, written = path.resolve(), path.stat().st_mtime_ns
    if place not in _RUN or _RUN[place][0] != written:
        try:
            _RUN[place] = written, run_file(path)
        finally:
            sys.path.append(sys.path.pop(sys.path.index(str(place.parent))))
    return _RUN[place][1]


def _made(
    module: ModuleType,
    path: Path,
    name: str,
    classes: int | None,
    build: Callable[[Callable[[], Any]], Any],
    *,
    needed: int | None = None,
) -> Own:
    """The model that `name` is in the file's module; `build` calls what makes it. needed: see `_arguments`."""
    from torch import nn

    what = f"{path}:{name}"
    models = [key for key, value in vars(module).items() if _is_own_model(value, module)]
    there = f"models in {path}: {', '.join(models)}" if models else f"{path} defines no torch.nn.Module"
    if not hasattr(module, name):
        raise UsageError(f"{path} has no {name}", near_miss(name, models) or there, path=what)
    found = getattr(module, name)
    if isinstance(found, nn.Module):
        if classes is not None:
            raise UsageError(f"--classes {classes}: {what} is a finished module, its classes are fixed", "name its class", path="--classes")
        model: Any = found
    elif inspect.isclass(found) and not issubclass(found, nn.Module):
        raise UsageError(f"{what} is a class that is no torch.nn.Module", there, path=what)
    elif not callable(found):
        raise UsageError(f"{what} is no torch.nn.Module but {_kind(found)}", there, path=what)
    else:
        arguments = _arguments(what, found, classes, needed)
        model = build(lambda: found(**arguments))
    if not isinstance(model, nn.Module):
        raise UsageError(f"{what} gives no torch.nn.Module but {_kind(model)}", "let it return the model", path=what)
    with suppress(NotImplementedError):  # what torch.export made has one mode
        model.eval()
    return Own(model, _input_shape(what, model, found), finished=model is found)


def run_file(path: Path) -> ModuleType:
    """Run a Python file as a module of its name, its folder first on the search path, as when Python runs it; nothing is written there."""
    place = path.resolve()
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_of_the_user"
    spec = importlib.util.spec_from_file_location(name, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(place.parent))
    sys.argv = [str(path)]  # our own flags are not the file's
    sys.dont_write_bytecode = True
    sys.modules[name] = module  # as dataclasses and files that import each other expect
    spec.loader.exec_module(module)
    return module


def explain(path: Path, error: BaseException, hint: str = "--debug shows the traceback") -> CnnError:
    """What went wrong in the user's file, or in one beside it: `mine.py:12: ValueError: ...`."""
    place = _place(path, error)
    words = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())[:300]
    if isinstance(error, SystemExit):
        return CnnError(f"{place}: the file called exit({words})", "guard it: if __name__ == '__main__':", path=str(path))
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"install {error.name.partition('.')[0]} beside cnn, or put it beside the file"
    return CnnError(f"{place}: {type(error).__name__}{': ' if words else ''}{words}", hint, path=str(path))


def _place(path: Path, error: BaseException) -> str:
    """`mine.py:12`: the last line of the user's own code that ran."""
    folder = f"{path.resolve().parent}{os.sep}"
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append((error.filename, error.lineno))
    own = [(os.path.realpath(file), line) for file, line in lines if _is_below(folder, file)]
    if not own:
        return str(path)
    file, line = own[-1]
    return f"{path.parent / file.removeprefix(folder)}:{line}"


def _is_below(folder: str, file: str) -> bool:
    """Whether a file is the user's: below this folder, and not installed in an environment there."""
    place = os.path.realpath(file)
    return not file.startswith("<") and place.startswith(folder) and "site-packages" not in Path(place.removeprefix(folder)).parts


def _is_own_model(value: object, module: ModuleType) -> bool:
    from torch import nn

    if inspect.isclass(value):
        return issubclass(value, nn.Module) and value.__module__ == module.__name__
    return isinstance(value, nn.Module)


def _arguments(what: str, found: Callable[..., Any], classes: int | None, needed: int | None = None) -> dict[str, Any]:
    """What to call it with: nothing, or the number of classes under the name that it has for that.

    needed: their number where it has a name for it and no default.
    """
    try:
        parameters: Iterable[inspect.Parameter] = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):  # built in C, which tells no signature
        parameters = ()
    number = next((parameter.name for parameter in parameters if parameter.name in CLASSES), None)
    given = {number: classes} if number is not None and classes is not None else {}
    if classes is not None and not given:
        raise UsageError(f"--classes {classes}: {what} takes neither {' nor '.join(CLASSES)}", "leave it out", path="--classes")
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    missing = [p.name for p in parameters if p.default is p.empty and p.kind not in variable and p.name not in given]
    if number is not None and missing == [number]:
        if needed is not None:
            return {number: needed}
        raise UsageError(f"{what} needs {number}", "for example --classes 10", path="--classes")
    if missing:
        raise UsageError(f"{what} needs {', '.join(missing)}", "give them defaults, or name a function that makes the model", path=what)
    return given


def _input_shape(what: str, *places: object) -> tuple[int, int, int] | None:
    shape = next((shape for place in places if (shape := getattr(place, INPUT_SHAPE, None)) is not None), None)
    if shape is None:
        return None
    sizes = tuple(shape) if isinstance(shape, tuple | list) else ()
    if len(sizes) != 3 or not all(type(size) is int and size > 0 for size in sizes):
        raise UsageError(
            f"{what}: {INPUT_SHAPE} is {repr(shape)[:80]} and should be (channels, height, width)", "for example (3, 32, 32)", path=what
        )
    return sizes


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"
