"""Net -> nn.Module. Layers build themselves; here parts are wired, named and initialised."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator

import torch
from torch import nn

from cnncli.arch.blocks import Add, Block, Chain, Concatenate, Merge, Part, Step
from cnncli.arch.layers import Conv, Linear, Shape
from cnncli.arch.net import Net
from cnncli.arch.pointwise import Activation
from cnncli.errors import UsageError


class Sum(nn.Module):
    """Adds its inputs; the module of `Add`."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Tensors of one shape (N, C, H, W) to their sum."""
        total = inputs[0]
        for other in inputs[1:]:
            total = total + other
        return total


class Join(nn.Module):
    """Concatenates its inputs along the channels; the module of `Concatenate`."""

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Tensors (N, C_i, H, W) to (N, sum C_i, H, W)."""
        return torch.cat(inputs, dim=1)


MERGES: dict[type[Merge], type[nn.Module]] = {Add: Sum, Concatenate: Join}


class Wired(nn.Module):
    """A block whose steps read other steps than the one before: residual, branches, dense.

    Its children carry the names of the steps. What no later step reads is forgotten as soon as it has been read.
    """

    def __init__(self, steps: tuple[Step, ...], modules: dict[str, nn.Module], sources: tuple[str, ...]) -> None:
        super().__init__()
        self._sources = sources
        self._wiring: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        last_read = {name: number for number, step in enumerate(steps) for name in step.inputs}
        for number, step in enumerate(steps):
            self.add_module(step.name, modules[step.name])
            done = tuple(name for name in dict.fromkeys(step.inputs) if last_read[name] == number)
            self._wiring.append((step.name, step.inputs, done))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Run the steps in order; the last one's output is the block's."""
        values = dict(zip(self._sources, inputs, strict=True))
        modules = self._modules
        out = inputs[0]
        for name, read, done in self._wiring:
            module = modules[name]
            assert module is not None
            out = values[name] = module(*[values[source] for source in read])
            for source in done:
                del values[source]
        return out


def assemble(net: Net) -> nn.Module:
    """The torch module of a net: (N, C, H, W) images to (N, classes) scores.

    Modules carry the paths of `walk`'s rows. Weights are drawn from torch's global random state; see `initialise`.
    """
    module, _ = _build(net.root, (net.input,))
    initialise(module, net)
    return module


def _build(part: Part, inputs: tuple[Shape, ...]) -> tuple[nn.Module, Shape]:
    if isinstance(part, Block):
        return _build_block(part, inputs)
    if isinstance(part, Merge):
        return MERGES[type(part)](), part.output(inputs)
    (shape,) = inputs
    return part.build(shape), part.output(shape)


def _build_block(block: Block, inputs: tuple[Shape, ...]) -> tuple[nn.Module, Shape]:
    steps = block.steps()
    shapes = dict(zip(block.sources, inputs, strict=True))
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    out = inputs[0]
    for step in steps:
        modules[step.name], out = _build(step.part, tuple(shapes[name] for name in step.inputs))
        shapes[step.name] = out
    for name in overwritable(steps, block.sources):
        module = modules[name]
        if hasattr(module, "inplace"):
            module.inplace = True  # type: ignore[assignment]
    try:
        return (nn.Sequential(modules) if isinstance(block, Chain) else Wired(steps, modules, block.sources)), out
    except KeyError as error:  # torch's modules keep `forward`, `training` and others for themselves
        raise UsageError(f"a part has a name that torch does not allow: {error.args[0]}") from None


def overwritable(steps: tuple[Step, ...], sources: tuple[str, ...]) -> Iterator[str]:
    """Activations that may overwrite their input: a layer of this block computed it and no other step reads it."""
    readers = Counter(name for step in steps for name in step.inputs)
    parts = {step.name: step.part for step in steps}
    for step in steps:
        source = step.inputs[0]
        computed = source not in sources and not isinstance(parts[source], Block) and not getattr(parts[source], "shares_memory", False)
        if isinstance(step.part, Activation) and computed and readers[source] == 1:
            yield step.name


# sqrt(2) keeps the variance through a ReLU (He et al. 2015, "Delving deep into rectifiers", equation 10); 1 through what is
# near the identity at 0 (LeCun et al. 1998, "Efficient backprop", section 4.6). A last layer has no activation behind it.
GAINS = {
    "relu": math.sqrt(2),
    "relu6": math.sqrt(2),
    "leaky-relu": math.sqrt(2),
    "elu": math.sqrt(2),
    "gelu": math.sqrt(2),
    "silu": math.sqrt(2),
}


def initialise(module: nn.Module, net: Net) -> None:
    """Draw the weights of convolutions and fully connected layers from N(0, gain^2 / fan_in); biases are 0.

    The gain belongs to the next activation that the output meets on its way.
    """
    if any(parameter.is_meta for parameter in module.parameters()):
        return  # no numbers to draw, and torch would take a millisecond for each
    paths = list(_leaves(net.root, ""))
    for number, (path, part) in enumerate(paths):
        if not isinstance(part, Conv | Linear):
            continue
        following = (p for _, p in paths[number + 1 :] if isinstance(p, Activation | Conv | Linear))
        meets = next(following, None)
        gain = GAINS.get(meets.kind, 1.0) if isinstance(meets, Activation) else 1.0
        layer = module.get_submodule(path)
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, nn.Parameter)
        nn.init.normal_(weight, std=gain / math.sqrt(weight[0].numel()))
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)


def _leaves(part: Part, path: str) -> Iterator[tuple[str, Part]]:
    if not isinstance(part, Block):
        yield path, part
        return
    for step in part.steps():
        yield from _leaves(step.part, f"{path}.{step.name}" if path else step.name)
