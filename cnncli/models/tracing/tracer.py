"""One forward pass, seen by torch's dispatcher: every operation, whoever calls it, and the module in which it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from cnncli.arch.layers import Layer
from cnncli.models.tracing import flow
from cnncli.models.tracing.flow import UNKNOWN, Sight
from cnncli.models.tracing.leaves import is_dropout, is_leaf, leaf_text, part_of
from cnncli.models.tracing.ledger import Done, Ledger, Signal
from cnncli.models.tracing.operations import NAMES, OF_A_SIZE, Call, bind, computes, is_pointwise, layer_of, name_of, takes_weights, text_of
from cnncli.models.tracing.sights import SPLITS, leads_elsewhere, sight_of
from cnncli.models.tracing.stand_ins import StandIns

NOT_OPERATIONS = ("device", "_local_scalar_dense")


@dataclass
class Frame:
    """A module that is running. Where it is one row, what happens in it is collected here.

    given: the tensors it reads that depend on the image. made: ids of those it computed on the way. constant: what it did
    without the image. elsewhere: see `Sight`.
    """

    module: nn.Module
    path: str
    leaf: bool
    given: list[tuple[Tensor, Signal]]
    made: set[int] = field(default_factory=set)
    used: list[str] = field(default_factory=list)
    macs: int = 0
    done: list[Done] = field(default_factory=list)
    constant: list[Done] = field(default_factory=list)
    elsewhere: bool = False


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's base classes are not typed
    """Fills a ledger. Tensors that it knows are kept, so that their ids stay theirs; on the meta device they hold nothing."""

    supports_higher_order_operators = True

    def __init__(self, model: nn.Module, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's base classes are not typed
        self.ledger = Ledger(model, batch)
        self.sights: dict[tuple[str, int], Sight] = {}
        self._runs: Counter[str] = Counter()
        self._stand_ins = StandIns()
        self._signals: dict[int, tuple[Tensor, Signal]] = {}
        self._written: dict[int, Signal] = {}  # by storage, where only a part was overwritten
        # The parameters that a tensor was made of without the image, as long as no row has counted them.
        self._origins: dict[int, tuple[Tensor, tuple[str, ...]]] = {}
        for name, parameter in self.ledger.parameters.items():
            self._origins[id(parameter)] = (parameter, (name,))
        self._paths = {module: path for path, module in model.named_modules()}
        self._frames: list[Frame] = []
        self._leaf: Frame | None = None
        self._inside = 0  # depth of operations that are being taken apart into smaller ones
        self._flops = 0

    def give(self, image: Tensor) -> None:
        """The input of the model."""
        self._set(image, Signal(flow.of_image(image.shape), 0))

    # ---- modules ----

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on all modules, none on any one of them."""
        before = register_module_forward_pre_hook(self._enter)
        after = register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        path = self._paths.get(module, self._frames[-1].path if self._frames else "")
        frame = Frame(module, path, self._leaf is None and is_leaf(module), self._known(args))
        self._frames.append(frame)
        if frame.leaf:
            self._leaf = frame

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        """After the forward pass of a module, or after an exception in it."""
        while self._frames:
            frame = self._frames.pop()
            if frame.leaf:
                self._leaf = None
            if frame.module is module:
                if frame.leaf:
                    self._close(frame, args, output)
                if isinstance(output, Tensor):
                    self.sights[frame.path, self._runs[frame.path]] = self._sight(output)
                self._runs[frame.path] += 1
                return

    def _close(self, frame: Frame, args: Any, output: Any) -> None:
        """Make one row of a module."""
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if not tensors or isinstance(frame.module, nn.Identity):
            return
        first, depth = tensors[0], max((signal.depth for _, signal in frame.given), default=0) + (frame.macs > 0)
        shapes = tuple(self.ledger.shape_of(leaf) for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
        known, done = part_of(frame.module, shapes, self.ledger.shape_of(first)), frame.done or frame.constant
        part, inputs = (known, shapes) if known or len(done) != 1 else (done[0].part, done[0].inputs)
        sight = self._through(known, frame, first) if isinstance(known, Layer) else self._sight(first)
        sight = sight._replace(elsewhere=frame.elsewhere or any(signal.sight.elsewhere for _, signal in frame.given))
        text = part.operation() if part else leaf_text(frame.module, [each.text for each in done])
        stored = any(each.stored for each in done) and not is_dropout(frame.module)
        for tensor in tensors:
            self._origins.pop(id(tensor), None)
            if frame.given:
                self._set(tensor, Signal(sight if tensor is first else self._sight(tensor), depth))
        weights = [name for name in frame.used if any(self.ledger.parameters[name] is own for own in frame.module.parameters())]
        self.ledger.add_parameters(name for name in frame.used if name not in weights)
        self.ledger.add(frame.path, Done("", text, part, inputs, frame.macs, stored), first, weights, Signal(sight, depth))

    def _through(self, layer: Layer, frame: Frame, output: Tensor) -> Sight:
        """What a unit sees behind a layer that takes several operations of torch: through the layer's own windows."""
        if len(frame.given) != 1:
            return UNKNOWN
        ((tensor, signal),) = frame.given
        windows, sizes = layer.windows(self.ledger.shape_of(tensor)), tuple(tensor.shape)
        return (
            flow.combine([(signal.sight, sizes)], output.shape)
            if windows is None
            else flow.slide(signal.sight, sizes, output.shape, windows)
        )

    # ---- operations ----

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args, kwargs = self._stand_ins.replace(func, args, dict(kwargs or {}))
        if isinstance(func, HigherOrderOperator):
            return self._execute(func, func, args, kwargs) if func in flop_registry else NotImplemented
        packet, name = func._overloadpacket, name_of(func)  # noqa: SLF001 - the key of torch's table
        if self._inside or name in NOT_OPERATIONS:
            return self._execute(func, packet, args, kwargs)
        before = self._flops
        self._inside += 1
        try:
            output = self._execute(func, packet, args, kwargs)
        finally:
            self._inside -= 1
        self._record(func, name, bind(func, args, kwargs), output, (self._flops - before) // 2 // self.ledger.batch)
        return output

    def _execute(self, func: Any, packet: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation and count it, in smaller ones where torch's table of costs does not know it."""
        if packet is torch.ops.aten.dropout and not bind(func, args, kwargs)["train"]:
            return args[0]  # some versions of torch return a copy
        if packet not in flop_registry:
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        output = func(*args, **kwargs)
        if packet in flop_registry:
            self._flops += flop_registry[packet](*args, **kwargs, out_val=output)
        return output

    def _record(self, func: Any, name: str, arguments: Mapping[str, Any], output: Any, macs: int) -> None:
        """What an operation did: where its output comes from, and a row if it computed something from the image or multiplied."""
        tensors = [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]
        outputs = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        unchanged = any(out is tensor for out in outputs for tensor in tensors) and not func._schema.is_mutable  # noqa: SLF001 - torch's word
        if not outputs or unchanged or name in OF_A_SIZE:
            return
        used = self._parameters_of(tensors)
        given = self._known(tensors)
        if not given:
            self._record_constant(Call(name, arguments, tuple((t, UNKNOWN) for t in tensors), outputs), used, macs)
            return
        call = Call(name, arguments, tuple((tensor, signal.sight) for tensor, signal in given), outputs)
        shapes = tuple(self.ledger.shape_of(tensor) for tensor, _ in given)
        layer = layer_of(call, shapes)
        leaf = self._leaf
        depth = max(signal.depth for _, signal in given) + (macs > 0 and leaf is None)
        sight = sight_of(call, layer, shapes, pointwise=is_pointwise(func))
        elsewhere = leads_elsewhere(call) or any(signal.sight.elsewhere for _, signal in given)
        signal = Signal(sight._replace(elsewhere=elsewhere), depth)
        self._remember(func, call, signal)
        if leaf is not None:
            seen = {id(tensor) for tensor, _ in leaf.given} | leaf.made
            leaf.given += [entry for entry in given if id(entry[0]) not in seen]
            leaf.made |= {id(out) for out in outputs}
            leaf.used += used
            leaf.macs += macs
            leaf.elsewhere |= elsewhere
        if computes(func, call, layer):
            done = Done(name, text_of(call, layer), layer, shapes, macs, stored=not any(_shares(outputs[0], tensor) for tensor in tensors))
            if leaf is not None:
                leaf.done.append(done)
            else:
                self._add(done, used, outputs[0], signal)
        elif leaf is None:
            self.ledger.add_parameters(used)

    def _record_constant(self, call: Call, used: list[str], macs: int) -> None:
        """An operation on parameters and other constants: its own row only where it multiplies; else its reader counts its parameters."""
        shapes = tuple(self.ledger.shape_of(tensor) for tensor, _ in call.seen)
        layer = layer_of(call, shapes[:1]) if shapes else None
        done = Done(call.name, text_of(call, layer), layer, shapes[:1], macs, stored=True)
        if self._leaf is not None:
            self._leaf.constant.append(done)
            self._leaf.macs += macs
            self._leaf.used += used
        elif macs:
            self._add(done, used, call.output, Signal(UNKNOWN, 1))
            return
        for out in call.outputs:
            if used:
                self._origins[id(out)] = (out, tuple(used))

    def _add(self, done: Done, used: list[str], output: Tensor, signal: Signal) -> None:
        """A row for an operation outside of torch's own modules, and rows for parameters that are no weights of it."""
        path = self._frames[-1].path if self._frames else ""
        name = (f"{path}." if path else "") + NAMES.get(done.name, done.name).strip("_")
        if takes_weights(done.name):
            self.ledger.add(_name_by_weights(used, path) or name, done, output, used, signal)
        else:
            self.ledger.add_parameters(used)
            self.ledger.add(name, done, output, (), signal)

    # ---- what is known of tensors ----

    def _set(self, tensor: Tensor, signal: Signal) -> None:
        self._signals[id(tensor)] = (tensor, signal)

    def _parameters_of(self, tensors: list[Tensor]) -> list[str]:
        origins = [self._origins.get(id(self._stand_ins.original(tensor))) for tensor in tensors]
        return list(dict.fromkeys(name for origin in origins if origin is not None for name in origin[1]))

    def _known(self, values: Any) -> list[tuple[Tensor, Signal]]:
        """Those tensors that depend on the image, with their signals."""
        tensors = [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
        return [(tensor, signal) for tensor in tensors if (signal := self._signal(tensor)) is not None]

    def _signal(self, tensor: Tensor) -> Signal | None:
        entry = self._signals.get(id(tensor))
        written = self._written.get(_storage(tensor)) if self._written else None
        if entry is None or written is None:
            return written if entry is None else entry[1]
        return Signal(UNKNOWN, max(entry[1].depth, written.depth))

    def _sight(self, tensor: Tensor) -> Sight:
        signal = self._signal(tensor)
        return UNKNOWN if signal is None else signal.sight

    def _remember(self, func: Any, call: Call, signal: Signal) -> None:
        """The signal of the outputs, and of the tensors that were overwritten."""
        for out in call.outputs:
            alike = out.shape == call.output.shape or signal.sight.grid == (1, 1) or call.name in SPLITS
            self._set(out, signal if alike else Signal(UNKNOWN, signal.depth))
        for argument in func._schema.arguments:  # noqa: SLF001 - the only place where torch tells what is written
            tensor = call[argument.name]
            if argument.alias_info is not None and argument.alias_info.is_write and isinstance(tensor, Tensor):
                self._set(tensor, signal)
                if tensor.numel() * tensor.element_size() < tensor.untyped_storage().nbytes():
                    self._written[_storage(tensor)] = Signal(UNKNOWN, signal.depth)


def _name_by_weights(used: list[str], path: str) -> str:
    """`attn.out_proj` for a product with attn.out_proj.weight that runs in attn; `attn.in_proj` for one with attn.in_proj_weight."""
    for name in used:
        owner, _, last = name.rpartition(".")
        if last.endswith("_weight"):
            return name.removesuffix("_weight")
        if last == "weight" and owner != path:
            return owner
    return ""


def _storage(tensor: Tensor) -> int:
    """Its address, the only name that a storage without numbers has."""
    return int(tensor.untyped_storage()._cdata)  # noqa: SLF001


def _shares(one: Tensor, other: Tensor) -> bool:
    return _storage(one) == _storage(other)
