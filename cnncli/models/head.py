"""The classifier at the end of a model: where it is, found by structure and not by name, and a new one in its place.

A model that can be made for any number of classes is made for two, without memory: the tensors whose shapes differ are the classifier's.
A module that comes as it is, is run once: the last layer with weights that it calls must give its scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cnncli.errors import UsageError, near_miss, printable
from cnncli.models.description import Size, size_text

STD = 0.01  # of new weights, as AlexNet's (Krizhevsky et al. 2012, section 5) and VGG's (Simonyan and Zisserman 2014, section 3.1)
SECOND = ("aux", "dist")  # how libraries name a further classifier: VOLO's for patches, DeiT's that learns from a teacher
REPLACEABLE = (nn.Linear, nn.Conv2d)
NAMED = 5  # in a message
HINT = "name the layer that gives the scores: --head LAYER"


@dataclass(frozen=True)
class Head:
    """The classifier of a model.

    path: of its module. kind: the module's type, "Linear" or "Conv2d". features: numbers that it reads (of a convolution: channels).
    before, after: outputs it had, and has now. others: paths of further modules whose tensors depend on the number of classes.
    params: learnable numbers of all of them, now.
    """

    path: str
    kind: str
    features: int
    before: int
    after: int
    params: int
    others: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All module paths whose tensors are new."""
        return (self.path, *self.others)


def find_head(model: nn.Module, other: nn.Module, *, before: int, after: int, what: str, name: str | None = None) -> Head:
    """The classifier of `model`, by comparison with `other`: the same architecture for another number of classes.

    Both may be without memory. before, after: see `Head`; `model` has `after` outputs. what: the model, for messages. name: where the user
    says it is. UsageError when no layer's shape depends on the number of classes, or `name` is no such layer.
    """
    one, two = model.state_dict(), other.state_dict()
    paths = list(dict.fromkeys(key.rpartition(".")[0] for key in one if key not in two or one[key].shape != two[key].shape))
    modules = {path: model.get_submodule(path) for path in paths if path}
    layers = [path for path in modules if f"{path}.weight" in one and one[f"{path}.weight"].ndim > 1]
    if not layers or one.keys() != two.keys() or "" in paths:
        raise UsageError(f"{what}: no layer with weights depends on the number of classes alone, so the classifier cannot be replaced")
    first = next((path for path in layers if not any(word in path for word in SECOND)), layers[0])
    if name is not None and name not in modules:
        named_layer(model, name, after, what)
        raise UsageError(f"--head {name}: {what} gives its scores in {first}", "leave it out", path="--head")
    path = first if name is None else name
    return _head(model, path, before, after, tuple(one for one in paths if one != path))


def find_by_running(model: nn.Module, size: Size, *, what: str, name: str | None = None) -> Head:
    """The classifier of a module as it is, in evaluation mode, which is run once on zeros of this size (channels, height, width).

    It is the last layer with weights that is called, when that is called once, gives as many outputs as the model scores, and is
    an nn.Linear or an nn.Conv2d with a 1x1 kernel; or the layer `name`. UsageError when it is none of that, or the model gives no scores;
    what the module itself raises is passed on.
    """
    calls, scores = _run(model, size, what)
    if name is not None:
        return _head(model, named_layer(model, name, scores, what), scores, scores)
    last = calls[-1] if calls else ""
    module = model.get_submodule(last)
    reasons = (
        (not last, "it calls no layer with weights"),
        (type(module) not in REPLACEABLE, f"the last layer with weights, {last}, is of type {type(module).__name__}"),
        (calls.count(last) > 1, f"the last layer with weights, {last}, is called {calls.count(last)} times"),
        (_outputs(module) != scores, f"the last layer with weights, {last}, gives {_outputs(module)} outputs, and the net {scores} scores"),
        (not _is_plain(module), f"the last layer with weights, {last}, is a convolution of more than one pixel or in groups"),
    )
    for wrong, reason in reasons:
        if wrong:
            raise UsageError(f"{what}: its classifier cannot be found: {reason}", HINT, path="--head")
    return _head(model, last, scores, scores)


def named_layer(model: nn.Module, name: str, scores: int, what: str) -> str:
    """`name` when it is a fully connected layer or a convolution with `scores` outputs; else UsageError, with the nearest names."""
    modules = dict(model.named_modules())
    fitting = [path for path, module in modules.items() if path and type(module) in REPLACEABLE and _outputs(module) == scores]
    listed = f"layers with {scores} outputs: {', '.join(fitting[-NAMED:])}" if fitting else ""
    if not name or name not in modules:
        layers = [path for path, module in modules.items() if path and isinstance(module, REPLACEABLE)]
        raise UsageError(f"--head {printable(name)!r}: {what} has no such layer", near_miss(name, layers) or listed, path="--head")
    module = modules[name]
    if not isinstance(module, REPLACEABLE):
        told = f"--head {name} is of type {type(module).__name__}, and a classifier is a Linear or Conv2d layer"
        raise UsageError(told, listed, path="--head")
    if _outputs(module) != scores:
        raise UsageError(f"--head {name} gives {_outputs(module)} outputs, and the net {scores} scores", listed, path="--head")
    return name


def replace_head(model: nn.Module, head: Head, classes: int) -> Head:
    """Put a new layer of `classes` outputs in the place of the classifier, with weights as torch draws them.

    Its number type, and whether it has biases, are as before. The head as it is now.
    """
    old = model.get_submodule(head.path)
    new: nn.Module
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(
            old.in_channels,
            classes,
            old.kernel_size,  # type: ignore[arg-type]  # a pair, which torch declares as a tuple of any length
            stride=old.stride,  # type: ignore[arg-type]
            padding=old.padding,  # type: ignore[arg-type]
            dilation=old.dilation,  # type: ignore[arg-type]
            groups=old.groups,
            bias=old.bias is not None,
            padding_mode=old.padding_mode,
            dtype=old.weight.dtype,
        )
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, classes, bias=old.bias is not None, dtype=old.weight.dtype)
    parent, _, last = head.path.rpartition(".")
    setattr(model.get_submodule(parent), last, new.train(old.training))
    return replace(_head(model, head.path, head.before, classes), others=head.others)


def resize_to(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give the one layer whose number of outputs alone differs from that of `tensors` (by name) as many as they have.

    Where more differs, nothing is changed: the caller compares names and shapes, and says what does not fit.
    """
    own = model.state_dict()
    different = [name for name in own if name in tensors and own[name].shape != tensors[name].shape]
    paths = {name.rpartition(".")[0] for name in different}
    if len(paths) != 1 or any(own[name].shape[1:] != tensors[name].shape[1:] or not tensors[name].ndim for name in different):
        return
    (path,) = paths
    module = model.get_submodule(path)
    if path and type(module) in REPLACEABLE and f"{path}.weight" in different and getattr(module, "groups", 1) == 1:
        outputs = len(own[f"{path}.weight"])
        replace_head(model, _head(model, path, outputs, outputs), len(tensors[f"{path}.weight"]))


def fresh_head(model: nn.Module, head: Head, seed: int) -> None:
    """New numbers for the classifier, in place: weights from N(0, 0.01^2), biases 0; of a norm what torch begins with.

    They are drawn from a generator of their own, on the CPU: the same for a seed whatever was drawn before.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path in head.paths:
            module = model.get_submodule(path)
            own = dict(module.named_parameters(recurse=False))
            if all(parameter.ndim < 2 for parameter in own.values()) and callable(reset := getattr(module, "reset_parameters", None)):
                reset()
                continue
            for parameter in own.values():
                if parameter.ndim < 2:
                    parameter.zero_()
                else:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * STD)


def scores_of(model: nn.Module, size: Size, what: str) -> int:
    """How many scores a module gives for an image of this size. UsageError when its output is something else."""
    return _run(model, size, what)[1]


def _run(model: nn.Module, size: Size, what: str) -> tuple[list[str], int]:
    """The layers with weights, in the order in which they are called, and the number of scores."""
    calls: list[str] = []
    layers = [(path, module) for path, module in model.named_modules() if path and any(True for _ in module.parameters())]
    with ExitStack() as stack:
        for path, module in layers:
            if not any(any(True for _ in child.parameters()) for child in module.children()):
                stack.callback(module.register_forward_pre_hook(lambda *_, path=path: calls.append(path)).remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        out = model(torch.zeros(2, *size))
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 2:
        found = f"a tensor {size_text(out.shape)}" if isinstance(out, Tensor) else f"a {type(out).__name__}"
        told = f"{what} gives {found} for two images of {size_text(size)}, and not one row of scores for each"
        raise UsageError(told, "name a function that makes a model which gives (images, classes) scores", path=what)
    return calls, out.shape[1]


def _head(model: nn.Module, path: str, before: int, after: int, others: tuple[str, ...] = ()) -> Head:
    module = model.get_submodule(path)
    weight = module.weight
    assert isinstance(weight, Tensor)
    params = sum(p.numel() for one in (path, *others) for p in model.get_submodule(one).parameters(recurse=False))
    return Head(path, type(module).__name__, weight.shape[1], before, after, params, others)


def _outputs(module: nn.Module) -> int | None:
    return module.out_channels if isinstance(module, nn.Conv2d) else module.out_features if isinstance(module, nn.Linear) else None


def _is_plain(module: nn.Module) -> bool:
    return not isinstance(module, nn.Conv2d) or (module.kernel_size == (1, 1) and module.groups == 1)
