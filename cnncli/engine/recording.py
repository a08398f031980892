"""One run of a model, watched: which modules ran in which, what they were given and gave, whatever their code looks like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cnncli.engine.folding import tensors_in


@dataclass(frozen=True)
class Operation:
    """A function of torch that was called: its name, `relu_`; the numbers of the tensors that it was given and gave; its other arguments.

    rest: what followed the first argument, and the named ones, where no tensor is among them; None where one is.
    """

    number: int
    name: str
    function: Any
    taken: tuple[int, ...]
    given: tuple[int, ...]
    rest: tuple[tuple[Any, ...], dict[str, Any]] | None


@dataclass
class Call:
    """A module that ran.

    number: of the operation before which it began; end: of its last one. inside: the call that made it. taken: the tensor it was given,
    where that is all it was given. run: how many times the module had run before. given: the tensor that it returned, where that is all.
    shapes: of what it returned; None where that is not made of tensors alone.
    """

    path: str
    module: nn.Module
    number: int
    inside: Call | None
    taken: Tensor | None
    run: int = 0
    given: Tensor | None = None
    shapes: Any = None
    end: int = 0
    calls: list[Call] = field(default_factory=list)

    def ancestors(self) -> Iterator[Call]:
        """The calls that it was made in, from the outermost."""
        if self.inside is not None:
            yield from self.inside.ancestors()
            yield self.inside


class Recording(TorchFunctionMode):
    """One run: which modules ran in which, which functions of torch were called, and from when to when each tensor was of use."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        """images: [1, C, H, W]. The model is run in evaluation mode, in which it must already be."""
        super().__init__()
        self.paths = {module: path for path, module in model.named_modules()}
        self.calls: list[Call] = []
        self.counts: dict[nn.Module, int] = {}
        self.operations: list[Operation] = []
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
        taken = tuple(id(tensor) for tensor in tensors_in((args, kwargs or {})))
        result = function(*args, **(kwargs or {}))
        for tensor in tensors_in((result,)):
            self._see(tensor)
        rest = None if any(True for _ in tensors_in((args[1:], kwargs or {}))) else (args[1:], kwargs or {})
        given = tuple(id(tensor) for tensor in tensors_in((result,)))
        name = getattr(function, "__name__", "")
        self.operations.append(Operation(self._number, name, function, taken, given, rest))
        return result

    def _see(self, tensor: Tensor) -> None:
        if id(tensor) not in self._own and id(tensor) not in self._made:
            self._kept[id(tensor)] = tensor
            self._made[id(tensor)] = self._number

    def _begun(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = list(tensors_in((args, kwargs)))
        alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
        inside = self._stack[-1] if self._stack else None
        run = self.counts.get(module, 0)
        call = Call(self.paths[module], module, self._number, inside, given[0] if alone else None, run)
        self.counts[module] = run + 1
        self.calls.append(call)
        if inside is not None:
            inside.calls.append(call)
        self._stack.append(call)

    def _ended(self, _module: nn.Module, _args: Any, output: Any) -> None:
        call = self._stack.pop()
        call.shapes, call.end = _shapes(output), self._number
        if isinstance(output, Tensor):
            call.given = output
            self._see(output)

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


def _shapes(output: Any) -> Any:
    """The shapes of a tensor, or of a list or tuple of such; None for anything else."""
    if isinstance(output, Tensor):
        return output.shape
    if type(output) in (list, tuple):
        shapes = [_shapes(one) for one in output]
        return None if None in shapes else type(output)(shapes)
    return None
