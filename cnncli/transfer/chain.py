"""How a model falls into blocks that run one after another, and where it can be cut in two: seen in one run, however it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise, takewhile
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnncli.engine.folding import tensors_in


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


@dataclass
class Call:
    """A module that ran.

    number: of the operation before which it began; end: of its last one. inside: the call that made it. taken: the tensor it was given,
    where that is all it was given. shapes: of what it returned; None where that is not made of tensors alone.
    """

    path: str
    module: nn.Module
    number: int
    inside: Call | None
    taken: Tensor | None
    shapes: Any = None
    end: int = 0
    calls: list[Call] = field(default_factory=list)

    def ancestors(self) -> Iterator[Call]:
        """The calls that it was made in, from the outermost."""
        if self.inside is not None:
            yield from self.inside.ancestors()
            yield self.inside


class Recording(TorchFunctionMode):
    """One run: which modules ran in which, and from when to when each tensor was of use."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        """images: [1, C, H, W]. The model is run in evaluation mode, in which it must already be."""
        super().__init__()
        self.paths = {module: path for path, module in model.named_modules()}
        self.calls: list[Call] = []
        self.counts: dict[nn.Module, int] = {}
        self._number = 0
        self._stack: list[Call] = []
        self._kept: dict[int, Tensor] = {}  # so that no other tensor gets the identity of one that is gone
        self._made: dict[int, int] = {}
        self._used: dict[int, int] = {}
        self._own = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self._see(images)
        handles = [module.register_forward_pre_hook(self._begun, with_kwargs=True) for module in self.paths]
        handles += [module.register_forward_hook(self._ended) for module in self.paths]
        try:
            with torch.no_grad(), self:
                self.output: Any = model(images)
        finally:
            for handle in handles:
                handle.remove()
        for tensor in tensors_in((self.output,)):
            self._used[id(tensor)] = self._number + 1
        self.activations = sum(tensor.numel() for tensor in self._kept.values())

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        self._number += 1
        for tensor in tensors_in((args, kwargs or {})):
            self._see(tensor)
            self._used[id(tensor)] = self._number
        result = function(*args, **(kwargs or {}))
        for tensor in tensors_in((result,)):
            self._see(tensor)
        return result

    def _see(self, tensor: Tensor) -> None:
        if id(tensor) not in self._own and id(tensor) not in self._made:
            self._kept[id(tensor)] = tensor
            self._made[id(tensor)] = self._number

    def _begun(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = list(tensors_in((args, kwargs)))
        alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
        inside = self._stack[-1] if self._stack else None
        call = Call(self.paths[module], module, self._number, inside, given[0] if alone else None)
        self.counts[module] = self.counts.get(module, 0) + 1
        self.calls.append(call)
        if inside is not None:
            inside.calls.append(call)
        self._stack.append(call)

    def _ended(self, _module: nn.Module, _args: Any, output: Any) -> None:
        call = self._stack.pop()
        call.shapes, call.end = _shapes(output), self._number

    def is_cut(self, call: Call) -> bool:
        """Whether what this call was given is all that it and everything behind it need, and nothing but the call needs it."""
        taken = call.taken
        if taken is None or any(self.counts[one.module] > 1 for one in (*call.ancestors(), call)):
            return False
        if self._used.get(id(taken), 0) > call.end:
            return False  # a residual branch, within which another module comes first
        return not any(
            made <= call.number and self._used.get(one, 0) > call.number and one != id(taken) for one, made in self._made.items()
        )


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


def _shapes(output: Any) -> Any:
    """The shapes of a tensor, or of a list or tuple of such; None for anything else."""
    if isinstance(output, Tensor):
        return output.shape
    if type(output) in (list, tuple):
        shapes = [_shapes(one) for one in output]
        return None if None in shapes else type(output)(shapes)
    return None
