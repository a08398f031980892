"""A spec -> the facts of its net, whatever kind of model it names.

Nets of the zoo, in notation and in a model file are walked, without torch. All others are traced; what became of a model
of torchvision or timm is kept, so that only the first time is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from cnncli.arch.checks import LARGEST_NUMBER
from cnncli.arch.layers import Linear
from cnncli.arch.net import Net, Row, walk
from cnncli.arch.zoo.table import Setting, arguments_of, build
from cnncli.errors import CnnError, InputError, UsageError, printable
from cnncli.models.description import Description, Size, description_from_json, description_to_json, size_text
from cnncli.models.resolve import Library, Spec, library_spec, resolve, stored_spec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Description", "describe", "described_net"]

DEFAULT_INPUT = (3, 224, 224)  # of a user's model that does not say; ImageNet's
WORDS = {"true": True, "false": False}
NAMED_BLOCKS = 5  # in a note


def describe(
    text: str,
    *,
    input: Size | None = None,
    classes: int | None = None,
    settings: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> Description:
    """The facts behind a spec, with another input (channels, height, width) or number of classes if asked.

    settings: the texts of --set, for a net of the zoo. timeout: seconds that the code of a user's file may take. UsageError or
    InputError for what does not exist or does not fit, EnvironmentFault for a library that is missing, CnnError for code of
    the user's that fails.
    """
    spec = resolve(text)
    _check(spec, classes, settings or {}, timeout)
    if spec.kind == "zoo":
        net = _zoo_net(spec, input, classes, settings or {})
        return Description(net.name, net.paper, net.input, net.classes, walk(net), net)
    if spec.kind == "notation":
        return _from_notation(spec, input, classes)
    if spec.kind == "file":
        return _from_file(spec, input, classes)
    if spec.library is not None:
        return _from_library(spec, spec.library, input, classes)
    return _from_python(spec, input, classes, timeout)


def described_net(spec: Spec, *, input: Size | None = None, classes: int | None = None, settings: Mapping[str, str] | None = None) -> Net:
    """The net of a spec that describes one as data: of the zoo, or in notation. UsageError for any other.

    With `classes` a net in notation must end in that many scores; UsageError says what to add to one that does not.
    """
    settings = settings or {}
    _check(spec, classes, settings)
    if spec.kind == "zoo":
        return _zoo_net(spec, input, classes, settings)
    if spec.kind == "notation":
        return _parse(spec, input, classes)
    raise UsageError(f"{spec.text} is not described as data", "name a net of the zoo (`cnn models` lists them), or write one in notation")


# ---- walked ----


def _check(spec: Spec, classes: int | None, settings: Mapping[str, str], timeout: float = 1.0) -> None:
    if classes is not None and not 1 <= classes <= LARGEST_NUMBER:
        raise UsageError(f"--classes {classes} should be a whole number from 1 to {LARGEST_NUMBER}", path="--classes")
    if settings and spec.kind != "zoo":
        name, value = next(iter(settings.items()))
        raise UsageError(f"--set {name}={value}: {spec.text} is no net of the zoo, which alone take it", "leave it out", path="--set")
    if not 0 < timeout < float("inf"):
        raise UsageError(f"--timeout {timeout:g} should be a number of seconds above 0", path="--timeout")


def _zoo_net(spec: Spec, input: Size | None, classes: int | None, settings: Mapping[str, str]) -> Net:
    known = arguments_of(spec.name) if settings else {}
    # A name that the net does not have is left to `build`, which tells the ones it has.
    values = {key: _value(key, text, known[key]) if key in known else 0 for key, text in settings.items()}
    return build(spec.name, input=input, classes=classes, **values)


def _value(key: str, text: str, kind: type[Setting]) -> Setting:
    """The text of --set as the type that the net declares."""
    try:
        value = WORDS[text.lower()] if kind is bool else kind(text)
        if kind is not float or isfinite(value):
            return value
    except (KeyError, ValueError):
        pass
    wanted: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}
    raise UsageError(f"--set {key}={text[:80]} should be {wanted[kind]}", path="--set")


def _parse(spec: Spec, input: Size | None, classes: int | None) -> Net:
    from cnncli.arch.notation.language import parse

    return parse(spec.name, classes=classes) if input is None else parse(spec.name, input=input, classes=classes)


def _from_notation(spec: Spec, input: Size | None, classes: int | None) -> Description:
    net = _parse(spec, input, classes)
    rows = walk(net)
    ends_in_classifier = isinstance(rows[-1].part, Linear)
    return Description(net.name, net.paper, net.input, net.classes if ends_in_classifier else classes, rows, net)


def _from_file(spec: Spec, input: Size | None, classes: int | None) -> Description:
    from cnncli.models.modelfile import read_info

    if classes is not None:
        raise UsageError(f"--classes {classes}: {spec.text} is a trained model, its classes are fixed", path="--classes")
    info = read_info(spec.path)
    if info.net is None and stored_spec(info.spec).kind == "python":
        shown = printable(info.spec)
        raise InputError(
            f"{spec.path} holds weights of {shown}; code runs only when it is named", f"`cnn shape {shown}`", path=str(spec.path)
        )
    if info.net is None:
        named, preprocess = library_spec(info.spec), info.preprocess
        assert named.library is not None
        size = input or (preprocess.channels, preprocess.height, preprocess.width)
        try:
            return _from_library(named, named.library, size, len(info.classes))
        except UsageError as error:
            if input is not None:
                raise
            raise InputError(f"{spec.path}: {error.message}", error.hint, path=str(spec.path)) from error
    net = info.net if input is None else replace(info.net, input=input)
    return Description(net.name, net.paper, net.input, net.classes, walk(net), net)


# ---- traced ----


def _from_library(spec: Spec, library: Library, input: Size | None, classes: int | None) -> Description:
    from cnncli.models import row_cache

    key = row_cache.Key(spec.text, input, classes)
    if known := row_cache.load(key):
        return known

    from cnncli.models.sources import make

    made = make(library, spec.name, input=input, classes=classes)
    try:
        found = _traced(made.model, spec.text, made.source, made.input)
    except CnnError:
        raise
    except Exception as error:  # the code of a foreign model raises anything
        words = " ".join(str(error).split())[:200] or type(error).__name__
        if input is None:
            raise CnnError(f"{spec.text} does not run on {size_text(made.input)}: {words}", path=spec.text) from error
        message = f"{spec.text} does not take --input {size_text(input)}: {words}"
        raise UsageError(message, "leave it out for the model's own", path="--input") from error
    row_cache.keep(key, found)
    return found


def _from_python(spec: Spec, input: Size | None, classes: int | None, timeout: float) -> Description:
    from cnncli.models.foreign_code import explain, make
    from cnncli.models.own_process import in_own_process

    guessed: list[Size] = []

    def work(started: Callable[[], None]) -> dict[str, Any]:
        import cnncli.models.tracing.trace  # noqa: F401 - torch and what traces: its import is not the user's time

        started()
        own = make(spec.path, spec.name, classes=classes)
        size = input or own.input_shape
        if size is None:
            guessed.append(size := DEFAULT_INPUT)
        found = _traced(own.model, spec.text, "", size)
        remedy = "--input says it, or input_shape = (3, 32, 32) in the class"
        note = f"The file does not say what it takes, so this is for {size_text(size)}; {remedy}."
        return description_to_json(replace(found, notes=(note, *found.notes)) if guessed else found)

    def told(error: BaseException) -> CnnError:
        if isinstance(error, TypeError) and "forward() missing" in str(error):
            return explain(spec.path, error, "it is given one image and nothing else: name a function whose model needs no more")
        if guessed and isinstance(error, RuntimeError) and not isinstance(error, NotImplementedError):
            return explain(spec.path, error, f"the input was taken as {size_text(guessed[0])}: --input says another")
        return explain(spec.path, error)

    return description_from_json(in_own_process(work, what=spec.text, seconds=timeout, explain=told))


def _traced(model: nn.Module, name: str, source: str, size: Size) -> Description:
    from cnncli.models.tracing.trace import trace_model

    traced = trace_model(model, size)
    if not traced.rows:
        raise CnnError(f"{name} has no layers: its forward pass computes nothing from the image and has no parameters", path=name)
    classes = traced.output[0] if traced.output is not None and len(traced.output) == 1 else None
    return Description(name, source, size, classes, traced.rows, None, _notes(traced.rows, traced.batch))


def _notes(rows: Sequence[Row], batch: int) -> tuple[str, ...]:
    """What a reader of traced rows should know, as far as these rows have it."""
    from cnncli.models.tracing.ledger import SHARED, UNUSED

    notes = (
        ["Traced in evaluation mode, without weights."]
        if batch == 1
        else ["Traced in evaluation mode on two images: it does not take one."]
    )
    if any(row.operation.startswith("attention") for row in rows):
        notes.append("Attention: its two matrix products are counted as MACs, its softmax is not.")
    if any(row.operation.endswith(SHARED) for row in rows):
        notes.append("(shared): parameters that an earlier layer has counted already.")
    if unused := [row for row in rows if row.operation == UNUSED]:
        blocks = list(dict.fromkeys(row.name.partition(".")[0] for row in unused))
        listed = ", ".join(blocks[:NAMED_BLOCKS]) + (", ..." if len(blocks) > NAMED_BLOCKS else "")
        notes.append(f"{sum(row.params for row in unused):,} parameters are not used in the forward pass: {listed}.")
    if any(row.field is None and row.depth > 0 for row in rows):
        notes.append("field -: not known, as between the two products of attention, or where an image was resized or cut into windows.")
    return tuple(notes)
