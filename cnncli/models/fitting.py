"""A file's tensors onto a model: all of them, by name or by order and shape, or an error that says what does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor, nn

from cnncli.arch.net import walk
from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import InputError, printable
from cnncli.models.published import TWINS

COUNTER = "num_batches_tracked"  # of batch normalisation: how many batches its averages saw. Evaluation does not use it.
AVERAGES = ("running_mean", "running_var")
NAMED_IN_A_MESSAGE = 3

# Checkpoints of torchvision that are older than the names of its layers: DenseNet's than torch's rule that a module's name holds no dot,
# vision transformers' than the module of two linear layers that others share (positions 0 and 3 of it).
_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var|num_batches_tracked))")
_OLD_TRANSFORMER = re.compile(r"(.*\.mlp)\.linear_([12])(\.(?:weight|bias))")


def fitted(
    model: nn.Module, wanted: Sequence[str], tensors: Mapping[str, Tensor], *, name: str, classes: int, path: Path
) -> dict[str, Tensor]:
    """The tensors of the file `path` as the state of `model`.

    wanted: the names that they must have, in the order of the model's own; the file may list them in any order. name, classes: of the
    model, for messages. InputError with what is missing, unexpected or of another shape, and the net that the file is likely from.
    """
    if not same_names(wanted, tensors):
        raise _wrong_names(path, name, wanted, tensors)
    ordered = {one: tensors[one] for one in wanted if one in tensors}
    _check_outputs(model, name, classes, ordered, path)
    try:
        return map_state(model, ordered)
    except InputError as error:
        raise InputError(f"{path} does not fit {name}: {error.message}", _alike(tensors), path=str(path)) from None


def map_state(ours: nn.Module, theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`theirs`, in the order of the twin's module, under the names of `ours` and in its number types.

    Tensors are paired by order; the last word of both names (weight, bias, running_mean, ...) and the shapes must agree.
    Counters of batches are paired among themselves, and are 0 where `theirs` has none (checkpoints older than torch 0.4.1).
    InputError with the count and the first pairs that do not agree.
    """
    own = ours.state_dict()
    names, their_names = _without_counters(own), _without_counters(theirs)
    wrong = [
        f"{_shown(a, own)} would get {_shown(b, theirs)}"
        for a, b in zip_longest(names, their_names, fillvalue="")
        if not a or not b or _last(a) != _last(b) or own[a].shape != theirs[b].shape
    ]
    if wrong:
        raise InputError(f"{len(wrong)} of {len(names)} tensors do not fit, first {_some(wrong)}")
    counters, their_counters = [n for n in own if _last(n) == COUNTER], [n for n in theirs if _last(n) == COUNTER]
    if their_counters and len(their_counters) != len(counters):
        raise InputError(f"it has {len(their_counters)} counters of batches for {len(counters)} layers")
    mapped = {a: theirs[b].to(own[a].dtype) for a, b in zip(names, their_names, strict=True)}
    for a, b in zip_longest(counters, their_counters, fillvalue=""):
        mapped[a] = theirs[b].to(own[a].dtype) if b else torch.zeros((), dtype=own[a].dtype)
    return {name: mapped[name].contiguous() for name in own}


def _check_outputs(model: nn.Module, name: str, classes: int, ordered: Mapping[str, Tensor], path: Path) -> None:
    """The commonest misfit in words of its own: a file that differs in its last layer alone, by the number of classes."""
    own = model.state_dict()
    pairs = list(zip(_without_counters(own), _without_counters(ordered), strict=True))
    different = {ours.rpartition(".")[0] for ours, theirs in pairs if own[ours].shape != ordered[theirs].shape}
    ours, theirs = pairs[-1]
    shape = ordered[theirs].shape
    if different == {ours.rpartition(".")[0]} and len(shape) == 1:
        hint = f"--classes {shape[0]} builds the net for it"
        raise InputError(f"{path} has {shape[0]} outputs, but {name} has {classes} classes here", hint, path=str(path))


def outputs_in(own: Sequence[str], wanted: Sequence[str], tensors: Mapping[str, Tensor], *, head: str) -> int | None:
    """How many outputs a file's classifier has: that of the tensor for `head`.weight. None where the file has none.

    own: the names of the model's tensors; wanted: those of the file's, in the same order.
    """
    names = dict(zip(_without_counters(own), _without_counters(wanted), strict=True))
    found = tensors.get(names.get(f"{head}.weight", ""))
    return len(found) if found is not None and found.ndim > 1 else None


def check_carried(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor], new: Iterable[str], *, input: str) -> None:
    """InputError unless `theirs` fill `own`, all but the tensors under the module paths `new`, in the same shapes.

    own: of a model for an input of another size; input: the size that `theirs` are for, as --input takes it.
    """
    carried = [name for name in own if name.rpartition(".")[0] not in set(new)]
    wrong = [
        f"{_shown(name, theirs)} would be {'x'.join(map(str, own[name].shape))}"
        for name in carried
        if name in theirs and own[name].shape != theirs[name].shape
    ]
    if wrong:
        raise InputError(f"the weights do not fit this size of input: {_some(wrong)}", f"keep --input {input}", path="--input")
    odd = sorted({*carried} - set(theirs))
    if odd:
        raise InputError(f"the weights lack {len(odd)} tensors, first {_some(odd)}", "name the net that they were saved from")


def current_name(name: str) -> str:
    """`denselayer1.norm.1.weight` of old checkpoints as `denselayer1.norm1.weight`, `mlp.linear_2.bias` as `mlp.3.bias`; others as is."""
    if found := _OLD_DENSENET.fullmatch(name):
        return f"{found[1]}{found[2]}"
    if found := _OLD_TRANSFORMER.fullmatch(name):
        return f"{found[1]}.{0 if found[2] == '1' else 3}{found[3]}"
    return name


def same_names(wanted: Iterable[str], found: Iterable[str]) -> bool:
    """Whether both name the same tensors, counters of batches aside."""
    return set(_without_counters(wanted)) == set(_without_counters(found))


def _without_counters(names: Iterable[str]) -> list[str]:
    return [name for name in names if _last(name) != COUNTER]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _shown(name: str, tensors: Mapping[str, Tensor]) -> str:
    return f"{name} {'x'.join(map(str, tensors[name].shape))}" if name else "nothing"


def _some(texts: Iterable[str]) -> str:
    return ", ".join(printable(text)[:120] for text in list(texts)[:NAMED_IN_A_MESSAGE])


def _wrong_names(path: Path, name: str, wanted: Iterable[str], tensors: Mapping[str, Tensor]) -> InputError:
    known = set(_without_counters(wanted))
    missing = [name for name in _without_counters(wanted) if name not in tensors]
    unexpected = [name for name in _without_counters(tensors) if name not in known]
    told = [f"{len(names)} {word} ({_some(names)})" for word, names in (("missing", missing), ("unexpected", unexpected)) if names]
    return InputError(f"{path} does not hold {name}: tensors {' and '.join(told)}", _alike(tensors), path=str(path))


def _alike(tensors: Mapping[str, Tensor]) -> str:
    """Nets with published weights that have just as many parameters, as a hint."""
    count = sum(math.prod(tensor.shape) for name, tensor in tensors.items() if _last(name) not in (COUNTER, *AVERAGES))
    alike = [name for name in TWINS if name in ZOO and sum(row.params for row in walk(build(name))) == count]
    return f"its {count:,} parameters are those of {' or '.join(alike)}" if alike else "name the net that it was saved from"
