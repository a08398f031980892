"""Which layers a model has to take features from, by the names that papers and torch give them; seen in one run on one image."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from cnncli.engine.recording import Call, Operation, Recording
from cnncli.errors import UsageError, near_miss, printable

Activation = Literal["after", "before"]
INPUT = ":input"  # behind a layer's name: what it is given
LISTED = "--list-layers lists them"

# Functions of torch, as they are called, that act on each number by itself and make a layer's output its activation.
ACTIVATIONS = frozenset(
    {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "leaky_relu", "leaky_relu_", "elu", "elu_", "selu", "selu_", "celu", "celu_"}
    | {"gelu", "silu", "mish", "hardswish", "hardsigmoid", "tanh", "tanh_", "sigmoid", "sigmoid_", "softplus", "softsign", "rrelu"}
    | {"prelu", "rrelu_", "log_sigmoid", "hardshrink", "softshrink", "tanhshrink", "threshold", "threshold_", "_threshold"}
)
NORMS = frozenset({"batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm"})
# Between the features and the classifier: what changes no number of an image, or only its order.
PASSED = frozenset({"dropout", "dropout_", "feature_dropout", "alpha_dropout", "flatten", "reshape", "view", "squeeze", "unsqueeze"})
IDLE = ("Dropout", "Flatten", "Identity")  # modules of that kind, by the beginning of their names


@dataclass(frozen=True)
class Tap:
    """Where numbers are taken from: what a module gives in its `run`-th run (0 is the first), or is given.

    behind: a function that is applied to it, where an activation is no module of its own. shape: of one image's numbers.
    """

    path: str
    run: int
    shape: tuple[int, ...]
    given: bool = False
    behind: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Layer:
    """A layer that ran. operation: the type of its module. runs: how often it ran. tap: what it gives. shape: of that, for one image.

    active: what the activation function behind it gives, where one follows directly or behind a normalisation; else what it gives itself.
    """

    name: str
    operation: str
    shape: tuple[int, ...]
    tap: Tap
    active: Tap
    runs: int = 1

    @property
    def called(self) -> str:
        """Its name, with the number of the run where there are several."""
        return f"{self.name}#{self.tap.run + 1}" if self.runs > 1 else self.name


class Layers:
    """The layers of a model in the order in which they run."""

    def __init__(self, model: nn.Module, image: Tensor) -> None:
        """image: [1, C, H, W] on the model's device. The model is run once, in evaluation mode."""
        self._square = image.shape[2] == image.shape[3]
        was = model.training
        try:
            self._recording = Recording(model.eval(), image)
        finally:
            model.train(was)
        self._readers: dict[int, list[Operation]] = {}
        for operation in self._recording.operations:
            for tensor in operation.taken:
                self._readers.setdefault(tensor, []).append(operation)
        calls = [call for call in self._recording.calls if call.path and _one_image(call.given)]
        self._calls = sorted(calls, key=lambda call: (call.end, -call.number))
        self.all = tuple(self._layer(call) for call in self._calls)
        self._unusable = {call.path for call in self._recording.calls} - {call.path for call in self._calls}

    @property
    def output(self) -> object:
        """What the model gave of the one image."""
        return self._recording.output

    def is_map(self, shape: Sequence[int]) -> bool:
        """Whether a layer of this shape (of one image) gives maps [C, H, W] of more than one position."""
        return len(shape) == 3 and max(shape[1:]) > 1 and not self.channels_last(shape)

    def channels_last(self, shape: Sequence[int]) -> bool:
        """Whether these are numbers [H, W, C], as in blocks of ConvNeXt and Swin.

        Of a square image no map [C, H, W] has a shape a, a, b.
        """
        return self._square and len(shape) == 3 and shape[0] == shape[1] != shape[2]

    def called(self, text: str, tell: Callable[[str], None] = lambda _: None) -> str:
        """The model's own name for what a layer's name stands for: `pool3` for pool5 of AlexNet, see `_meant`; which tell hears.

        UsageError for a name that is unknown, with the nearest ones, or that gives no tensor.
        """
        name, number, given = _split(text)
        return self._known(name, text, tell) + (f"#{number}" if number else "") + (INPUT if given else "")

    def find(self, text: str, activation: Activation) -> Tap:
        """The tap that a layer's name asks for: `fc7`, `pool5`, `layer2.0.conv1`, `relu#2` (its second run), `fc:input`.

        UsageError as in `called`, and for a run that there is not.
        """
        name, number, given = _split(text)
        name = self._known(name, text, lambda _: None)
        ran = [layer for layer in self.all if layer.name == name]
        run = self._run(name, number, ran)
        if given:
            return self._input_of(name, run, text)
        return ran[run].active if activation == "after" else ran[run].tap

    def last(self, head: str) -> tuple[str, Tap]:
        """(name, tap) of what the classifier `head` is given, by the name of the layer that made it: fc7 of AlexNet, pool of a ResNet."""
        call = next(call for call in self._recording.calls if call.path == head)
        if call.taken is None:
            raise UsageError(f"{head} is given more than one tensor", f"name a layer: --layer NAME; {LISTED}", path="--layer")
        wanted = self._behind(id(call.taken))
        made = [layer for layer, one in zip(self.all, self._calls, strict=True) if id(one.given) == wanted and one.end <= call.number]
        own = [layer for layer in made if not layer.operation.startswith(IDLE)]
        weighted = next(
            (layer for layer in reversed(self.all) if layer.active is not layer.tap and self._gives(layer.active) == wanted), None
        )
        if weighted is not None:
            return weighted.name, weighted.active
        if own and own[-1].runs == 1:
            return own[-1].name, own[-1].tap
        return head + INPUT, self._input_of(head, 0, head + INPUT)

    def distinct(self) -> list[Layer]:
        """The layers of which each gives other numbers than the others, behind its activation. Of a convolution, its ReLU and the block
        that ends with them it is the block, else the first.
        """
        found: dict[object, Layer] = {}
        for layer in self.all:
            tensor = self._activated_tensor(layer.active)
            first = found.setdefault(layer.active if tensor is None else tensor, layer)
            is_block = first.name.startswith(f"{layer.name}.") and layer.operation != "Sequential" and layer.runs == 1
            if is_block and layer.name:
                found[layer.active if tensor is None else tensor] = layer
        return list(found.values())

    def _activated_tensor(self, tap: Tap) -> int | None:
        """The tensor that a tap sees, or what the function behind it gave."""
        if tap.behind is None:
            return self._gives(tap)
        call = next(one for one in self._calls if one.path == tap.path and one.run == tap.run)
        reader = self._only_reader(id(call.given), call.end)
        return reader.given[0] if reader is not None and reader.given else None

    # ---- what a name means ----

    def _known(self, name: str, text: str, tell: Callable[[str], None]) -> str:
        names = list(dict.fromkeys(layer.name for layer in self.all))
        if name in names:
            return name
        if name in self._unusable and name:
            raise UsageError(f"layer {name!r} gives no tensor of one row an image", f"name one within it; {LISTED}", path="--layer")
        meant = _meant(name, self.all)
        if meant is not None:
            tell(f"note: {name} is {meant} here")
            return meant
        hint = near_miss(name, names) or f"the last ones are {', '.join(names[-3:])}"
        raise UsageError(
            f"no layer {printable(text)!r}", f"{hint.rstrip('?.')}? {LISTED}" if "mean" in hint else f"{hint}; {LISTED}", path="--layer"
        )

    def _run(self, name: str, number: str, ran: Sequence[Layer]) -> int:
        if not number:
            if len(ran) > 1:
                several = f"{name} runs {len(ran)} times"
                raise UsageError(several, f"say which: {name}#1 to {name}#{len(ran)}", path="--layer")
            return 0
        if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= len(ran):
            many = f"{name} runs {len(ran)} time{'s' if len(ran) > 1 else ''}"
            raise UsageError(f"{many}, and there is no run {number!r}", f"say {name}#1" if len(ran) > 1 else f"say {name}", path="--layer")
        return int(number) - 1

    def _input_of(self, name: str, run: int, text: str) -> Tap:
        call = [call for call in self._recording.calls if call.path == name][run]
        if not _one_image(call.taken):
            raise UsageError(
                f"{text}: the layer is not given one tensor of a row an image", f"name another layer; {LISTED}", path="--layer"
            )
        assert call.taken is not None
        return Tap(name, run, tuple(call.taken.shape[1:]), given=True)

    # ---- what follows what ----

    def _layer(self, call: Call) -> Layer:
        assert call.given is not None
        tap = Tap(call.path, call.run, tuple(call.given.shape[1:]))
        return Layer(call.path, type(call.module).__name__, tap.shape, tap, self._active(call, tap), self._recording.counts[call.module])

    def _active(self, call: Call, tap: Tap) -> Tap:
        """The tap behind the activation function that directly follows, perhaps behind a normalisation; else `tap` itself."""
        tensor, made = id(call.given), call.end
        for _ in range(2):
            reader = self._only_reader(tensor, made)
            if reader is None or len(reader.given) != 1:
                return tap
            if reader.name in ACTIVATIONS:
                return self._activated(reader, tap)
            if reader.name not in NORMS or reader.taken[0] != tensor:
                return tap
            tensor, made = reader.given[0], reader.number
            norm = next((one for one in self._calls if id(one.given) == tensor and one.end >= made), None)
            if norm is None:
                return tap  # a normalisation that is no module
            tap = Tap(norm.path, norm.run, tap.shape)
        return Tap(call.path, call.run, tap.shape)  # a normalisation, and no activation

    def _activated(self, reader: Operation, tap: Tap) -> Tap:
        """What the function gives: by its module where it has one, else by the function once more."""
        module = next((one for one in self._calls if one.number < reader.number <= one.end and not one.calls), None)
        if module is not None and id(module.given) == reader.given[0]:
            return Tap(module.path, module.run, tap.shape)
        if reader.rest is None:
            return tap
        arguments, named = reader.rest
        return Tap(tap.path, tap.run, tap.shape, behind=partial(_applied, reader.function, arguments, named))

    def _only_reader(self, tensor: int, made: int) -> Operation | None:
        # What gives no tensor asks for a shape or the like.
        readers = [one for one in self._readers.get(tensor, []) if one.number > made and one.given]
        return readers[0] if len(readers) == 1 or (readers and readers[0].given[:1] == (tensor,)) else None

    def _behind(self, tensor: int) -> int:
        """The tensor that became this one by nothing but dropout, which does nothing here, and another order of its axes."""
        for operation in reversed(self._recording.operations):
            if operation.given == (tensor,) and operation.name in PASSED and operation.taken:
                tensor = operation.taken[0]
        return tensor

    def _gives(self, tap: Tap) -> int | None:
        """The tensor that a tap sees, where it is not computed anew."""
        if tap.behind is not None or tap.given:
            return None
        return next((id(call.given) for call in self._calls if call.path == tap.path and call.run == tap.run), None)


def _split(text: str) -> tuple[str, str, bool]:
    """(name, run, whether its input is meant) of NAME, NAME#2 or NAME:input."""
    name, given = (text.removesuffix(INPUT), True) if text.endswith(INPUT) else (text, False)
    name, _, number = name.partition("#")
    return name, number, given


def _applied(function: Any, arguments: tuple[Any, ...], named: dict[str, Any], tensor: Tensor) -> Tensor:
    """The function of a copy, since it may overwrite what it is given."""
    found: Tensor = function(tensor.clone(), *arguments, **named)
    return found


def _one_image(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.ndim >= 2 and tensor.shape[0] == 1 and tensor.is_floating_point() and tensor.numel() > 0


def _meant(name: str, layers: Sequence[Layer]) -> str | None:
    """What a paper's name stands for where a model calls the layer otherwise; None where that is not plain.

    conv5 of VGG is the last convolution of group 5, conv5_3; conv5 of a ResNet is its stage conv5_x (He et al. 2015, table 1); pool5 of
    AlexNet, as Caffe's model and R-CNN call it (Girshick et al. 2014), is the pooling behind conv5, the third one.
    """
    names = [layer.name for layer in layers]
    if f"{name}_x" in names:
        return f"{name}_x"
    found = re.fullmatch(r"(conv|pool)([1-9])", name)
    if found is None:
        return None
    last = [place for place, one in enumerate(names) if re.fullmatch(rf"conv{found[2]}(_[0-9]+)?", one)]
    if not last:
        return None
    if found[1] == "conv":
        return names[last[-1]]
    behind = layers[last[-1] + 1 :]
    pool = next((layer for layer in behind if layer.operation.startswith(("MaxPool", "AvgPool", "Conv", "Linear", "AdaptiveAvg"))), None)
    return pool.name if pool is not None and "Pool" in pool.operation else None


def is_vector(shape: tuple[int, ...]) -> bool:
    """Whether a layer gives one number a channel and no map."""
    return len(shape) == 1 or all(side == 1 for side in shape[1:])


@torch.no_grad()
def layers_of(model: nn.Module, size: tuple[int, int, int]) -> Layers:
    """The layers of a model for images of this size (C, H, W), on its device."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return Layers(model, torch.zeros(1, *size, device=device))
