"""How a model falls into blocks that run one after another, and where it can be cut in two: seen in one run, however it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile
from typing import Any

from torch import Tensor, nn

from cnncli.engine.recording import Call, Recording


@dataclass(frozen=True)
class Block:
    """A stretch of a model between two places where one tensor is all that is handed on.

    name: the module that it is, or that it begins with. modules: paths of the modules with weights in it, in the order in which they run.
    parameters: the names of its weights. start: the module before which the model can be cut, so that this block and all behind it are
    computed from that module's input; None where it begins with the images.
    """

    name: str
    modules: tuple[str, ...]
    parameters: tuple[str, ...]
    start: str | None


@dataclass(frozen=True)
class Cut:
    """A module before which a model can be cut: what it is given is all that it and everything behind it need.

    number: of the operation before which it runs. around: the modules that it runs in. before: what these have run by then, with the shapes
    of what that returned for one image.
    """

    path: str
    number: int
    around: tuple[str, ...]
    before: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Structure:
    """What a run of a model on one image shows of it.

    cuts: in the order in which they run. ran: the number of the operation before which each module first began. activations: how many
    numbers the run made. image: (C, H, W).
    """

    blocks: tuple[Block, ...]
    cuts: tuple[Cut, ...]
    ran: dict[str, int]
    activations: int
    image: tuple[int, ...]

    def cut_before(self, modules: Iterable[str]) -> Cut | None:
        """The last place to cut before the first of these modules runs; None where that is only before the whole model."""
        first = self.first(modules)
        last = max((cut.number for cut in self.cuts if cut.number <= first), default=None)
        return next((cut for cut in self.cuts if cut.number == last), None)  # the outermost, where several are given the same

    def first(self, modules: Iterable[str]) -> int:
        """The number of the operation before which the first of these modules runs."""
        return min(self.ran[path] for path in modules)


def structure_of(model: nn.Module, image: Tensor) -> Structure:
    """The blocks of a model in the order in which they run, and where it can be cut.

    image: [1, C, H, W] on the model's device. A layer without a matrix (batch norm) belongs to the block before it. A module with its own
    way of running (a residual block, an inception module) is one block, unless it holds a sequence of such modules. A module that runs more
    than once belongs to the block in which it first does. Weights that no module of its own runs with, such as a class token, belong to the
    first block. Modules that do not run are in none.
    """
    was = model.training
    try:
        recording = Recording(model.eval(), image)
    finally:
        model.train(was)
    found: list[list[Call]] = []
    known: set[nn.Module] = set()
    for call in _leaves(recording, recording.calls[0]):
        weights = list(call.module.parameters())
        if not weights or call.module in known:
            continue
        known.add(call.module)
        if found and (not recording.is_cut(call) or all(weight.ndim < 2 for weight in weights)):
            found[-1].append(call)
        else:
            found.append([call])
    cuts = [_cut(call) for call in recording.calls if call.path and recording.is_cut(call)]
    return Structure(
        tuple(_named(list(_blocks(model, recording, found)))),
        tuple(cut for cut in cuts if cut is not None and cut.number > 0),
        {call.path: call.number for call in reversed(recording.calls)},
        recording.activations,
        tuple(image.shape[1:]),
    )


def _cut(call: Call) -> Cut | None:
    around = [*call.ancestors(), call]
    before = []
    for outer, inner in pairwise(around):
        before += [(one.path, one.shapes) for one in outer.calls[: outer.calls.index(inner)]]
    if any(shapes is None for _, shapes in before):
        return None  # something returns more than tensors, which nothing can be put in the place of
    return Cut(call.path, call.number, tuple(one.path for one in around[:-1]), tuple(before))


def _named(blocks: list[Block]) -> Iterator[Block]:
    """Blocks, each with the name of the module that holds all of it and nothing of another one, where there is one."""
    for block in blocks:
        names = [path.split(".") for path in block.modules]
        common = [words[0] for words in takewhile(lambda words: len(set(words)) == 1, zip(*names, strict=False))]
        others = [path for other in blocks if other is not block for path in other.modules]
        shared = ".".join(common)
        fits = shared and not any(_is_within(path, shared) for path in others)
        yield replace(block, name=shared if fits else block.modules[0])


def _blocks(model: nn.Module, recording: Recording, found: list[list[Call]]) -> Iterator[Block]:
    names = [name for name, _ in model.named_parameters()]
    ran = [call.path for calls in found for call in calls]
    inner = {call.path for call in recording.calls if call.path}
    # A weight of a module that runs others, or that nothing but such a module runs with.
    loose = [name for name in names if not any(_is_within(name, path) for path in ran) and _owner(name) in inner | {""}]
    for number, calls in enumerate(found):
        modules = tuple(call.path for call in calls)
        own = [name for name in names if any(_is_within(name, path) for path in modules)]
        start = calls[0].path if number or recording.is_cut(calls[0]) else None
        if number == 0:
            own, start = [*loose, *own], None
        yield Block(modules[0], modules, tuple(own), start)


def _leaves(recording: Recording, call: Call) -> Iterator[Call]:
    if call.calls and (call.inside is None or isinstance(call.module, nn.Sequential) or _is_sequence(recording, call)):
        for inner in call.calls:
            yield from _leaves(recording, inner)
    else:
        yield call


def _is_sequence(recording: Recording, call: Call) -> bool:
    """Whether blocks follow each other within a module that runs in its own way: an encoder, a stage."""
    holds = any(
        isinstance(child, nn.Sequential)
        and sum(any(True for _ in inner.children()) and not isinstance(inner, nn.Sequential) for inner in child.children()) > 1
        for child in call.module.children()
    )
    inner = [one for one in call.calls if any(weight.ndim > 1 for weight in one.module.parameters())]
    return holds and all(recording.is_cut(one) for one in inner[1:])


def _is_within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.") or not path


def _owner(name: str) -> str:
    return name.rpartition(".")[0]
