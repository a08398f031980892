"""Published and foreign weights onto our nets, by order and shape.

A net of the zoo and its twin in torchvision list the same tensors in the same order under other names. A file's tensors are first
put into the order of torchvision's own module, by name, since a file may list them in any order; then they take our names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cnncli.arch.net import Net, walk
from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import InputError, printable
from cnncli.models.assemble import assemble
from cnncli.models.checkpoint import read_checkpoint
from cnncli.models.download import fetch
from cnncli.models.imagenet import entry, info_of, info_of_file
from cnncli.models.modelfile import ModelInfo, load
from cnncli.models.published import TWINS, Twin, version_of

if TYPE_CHECKING:
    from cnncli.models.resolve import Spec

Tell = Callable[[str], None]

COUNTER = "num_batches_tracked"  # of batch normalisation: how many batches its averages saw. Evaluation does not use it.
AVERAGES = ("running_mean", "running_var")
NAMED_IN_A_MESSAGE = 3

# Checkpoints of DenseNet are older than torch's rule that a module's name holds no dot.
_OLD_DENSENET = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var|num_batches_tracked))")


def open_model(
    spec: Spec, weights: str | None, *, classes: int | None = None, device: str = "cpu", tell: Tell
) -> tuple[nn.Module, ModelInfo]:
    """The model that a spec and --weights name together (see `check_weights`), in evaluation mode on `device`, and what is known of it."""
    if weights is None:
        return load(spec.path, device=device)
    return load_published(spec.name, weights, classes=classes, device=device, tell=tell)


def load_published(name: str, weights: str, *, classes: int | None = None, device: str = "cpu", tell: Tell) -> tuple[nn.Module, ModelInfo]:
    """A net of the zoo with published weights (`imagenet`, `imagenet-v2`) or with those of a file; see `fetch` and `read_checkpoint`.

    classes: how many outputs the net is built with, its own number by default. tell: receives each line of talk.
    UsageError when the version does not exist, InputError when a file does not hold this net, EnvironmentFault without a network.
    """
    net = build(name, classes=classes)
    version = version_of(weights)
    if version is None:
        path = Path(weights)
        tensors = read_checkpoint(path, tell)
        state = state_from(net, tensors, path)
        info = info_of_file(net, path, tell)
    else:
        published = entry(net, version)
        info = info_of(net, published)
        path = fetch(published.url, tell)
        state = state_from(net, read_checkpoint(path, tell), path)
    with torch.device("meta"):
        model = assemble(net)
    model.load_state_dict(state, assign=True)
    return model.to(device).eval(), info


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


def twin_module(twin: Twin) -> nn.Module:
    """The module of torchvision, without memory for its weights."""
    from torchvision.models import get_model

    with torch.device("meta"):
        module: nn.Module = get_model(twin.name, weights=None, **twin.arguments)
    return module


def state_from(net: Net, tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors of the file `path` as the state of the assembled `net`: under our own names, or under torchvision's.

    InputError with what is missing, unexpected or of another shape, and the net that the file is likely from.
    """
    with torch.device("meta"):
        model = assemble(net)
    twin, wanted = TWINS.get(net.name), list(model.state_dict())
    if twin is not None and not _same_names(wanted, tensors):
        tensors = {_new_name(name): tensor for name, tensor in tensors.items() if not name.startswith(twin.dropped)}
        wanted = list(twin_module(twin).state_dict())
    if not _same_names(wanted, tensors):
        raise _wrong_names(path, net, wanted, tensors)
    ordered = {name: tensors[name] for name in wanted if name in tensors}
    _check_outputs(model, net, ordered, path)
    try:
        return map_state(model, ordered)
    except InputError as error:
        raise InputError(f"{path} does not fit {net.name}: {error.message}", _alike(tensors), path=str(path)) from None


def _check_outputs(model: nn.Module, net: Net, ordered: Mapping[str, Tensor], path: Path) -> None:
    """The commonest misfit in words of its own: a file that differs in its last layer alone, by the number of classes."""
    own = model.state_dict()
    pairs = list(zip(_without_counters(own), _without_counters(ordered), strict=True))
    different = {ours.rpartition(".")[0] for ours, theirs in pairs if own[ours].shape != ordered[theirs].shape}
    ours, theirs = pairs[-1]
    shape = ordered[theirs].shape
    if different == {ours.rpartition(".")[0]} and len(shape) == 1:
        hint = f"--classes {shape[0]} builds the net for it"
        raise InputError(f"{path} has {shape[0]} outputs, but {net.name} has {net.classes} classes here", hint, path=str(path))


def _new_name(name: str) -> str:
    """`denselayer1.norm.1.weight` of old checkpoints as `denselayer1.norm1.weight`; other names as they are."""
    found = _OLD_DENSENET.fullmatch(name)
    return f"{found[1]}{found[2]}" if found else name


def _same_names(wanted: Iterable[str], found: Iterable[str]) -> bool:
    return set(_without_counters(wanted)) == set(_without_counters(found))


def _without_counters(names: Iterable[str]) -> list[str]:
    return [name for name in names if _last(name) != COUNTER]


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _shown(name: str, tensors: Mapping[str, Tensor]) -> str:
    return f"{name} {'x'.join(map(str, tensors[name].shape))}" if name else "nothing"


def _some(texts: Iterable[str]) -> str:
    return ", ".join(printable(text)[:120] for text in list(texts)[:NAMED_IN_A_MESSAGE])


def _wrong_names(path: Path, net: Net, wanted: Iterable[str], tensors: Mapping[str, Tensor]) -> InputError:
    known = set(_without_counters(wanted))
    missing = [name for name in _without_counters(wanted) if name not in tensors]
    unexpected = [name for name in _without_counters(tensors) if name not in known]
    told = [f"{len(names)} {word} ({_some(names)})" for word, names in (("missing", missing), ("unexpected", unexpected)) if names]
    return InputError(f"{path} does not hold {net.name}: tensors {' and '.join(told)}", _alike(tensors), path=str(path))


def _alike(tensors: Mapping[str, Tensor]) -> str:
    """Nets with published weights that have just as many parameters, as a hint."""
    count = sum(math.prod(tensor.shape) for name, tensor in tensors.items() if _last(name) not in (COUNTER, *AVERAGES))
    alike = [name for name in TWINS if name in ZOO and sum(row.params for row in walk(build(name))) == count]
    return f"its {count:,} parameters are those of {' or '.join(alike)}" if alike else "name the net that it was saved from"
