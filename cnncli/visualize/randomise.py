"""How far a method's picture depends on what the model has learned: its layers are given random weights from the output downward.

The cascading randomisation of Adebayo et al. 2018, "Sanity checks for saliency maps", section 3.1. A picture that stays the same when the
weights are random is one of the image, such as its edges, and explains nothing of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cnncli.engine.layers import Layers
from cnncli.errors import UsageError
from cnncli.visualize.maps import magnitude, signed

TRAINED = "trained"  # the first stage


@dataclass(frozen=True)
class Stage:
    """count: how many layers, from the output on, have random weights. name: of the last of them."""

    count: int
    name: str


@dataclass(frozen=True)
class Randomised:
    """Of each method: how its maps at each stage agree with those of the trained model, rank correlations from -1 to 1, [stages, N].

    magnitudes: of the maps without their signs; signed: with them. first: [stages, H, W], the first image's magnitudes.
    """

    magnitudes: dict[str, np.ndarray]
    signed: dict[str, np.ndarray]
    first: dict[str, np.ndarray]


def weighted(model: nn.Module, layers: Layers) -> tuple[str, ...]:
    """The modules with parameters or buffers of their own, the last to run first; those that never ran at the end."""
    own = [name for name, module in model.named_modules() if _tensors(module)]
    ran = list(dict.fromkeys(layer.name for layer in reversed(layers.all)))
    order = [name for name in ran if name in own]
    return (*order, *(name for name in reversed(own) if name not in order))


def stages(order: Sequence[str], steps: int) -> tuple[Stage, ...]:
    """The trained model, then about `steps` stages, evenly spaced among the layers; at the last one all of them are random."""
    counts = sorted({round(step * len(order) / steps) for step in range(1, steps + 1)} - {0})
    return (Stage(0, TRAINED), *(Stage(count, order[count - 1]) for count in counts))


def cascade(model: nn.Module, fresh: nn.Module, order: Sequence[str], at: Sequence[Stage]) -> Iterator[nn.Module]:
    """The model at each stage: one copy, whose layers take the weights of `fresh` one after the other. The model itself stays as it is."""
    copy = deepcopy(model)
    done = 0
    for stage in at:
        for name in order[done : stage.count]:
            _take(copy.get_submodule(name), fresh.get_submodule(name))
        done = stage.count
        yield copy


def check_fresh(model: nn.Module, fresh: nn.Module) -> None:
    """UsageError where `fresh` is not of the model's form, or is the same model, as of code that brings its own weights."""
    own, other = model.state_dict(), fresh.state_dict()
    if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in other.items()}:
        raise UsageError("the model cannot be drawn anew: its layers are others then", "take a net that `cnn models` lists", path="MODEL")
    parameters = [name for name, _ in model.named_parameters()]
    if all(torch.equal(own[name].cpu(), other[name].cpu()) for name in parameters):
        raise UsageError("the model has the same weights when it is made again", "draw them in its code", path="MODEL")


def randomised(
    model: nn.Module,
    fresh: nn.Module,
    order: Sequence[str],
    at: Sequence[Stage],
    methods: Mapping[str, Callable[[nn.Module], Tensor]],
    *,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Randomised:
    """Compare the maps of each stage with those of the trained model, the first stage.

    methods: by name, model -> signals [N, C, H, W] for the same images and classes. on_progress: hears how many maps have been made.
    """
    trained: dict[str, tuple[Tensor, Tensor]] = {}
    sizes: dict[str, list[np.ndarray]] = {name: [] for name in methods}
    signs: dict[str, list[np.ndarray]] = {name: [] for name in methods}
    first: dict[str, list[np.ndarray]] = {name: [] for name in methods}
    made = 0
    for state in cascade(model, fresh, order, at):
        for name, ask in methods.items():
            found = ask(state).detach()
            pair = magnitude(found).cpu(), signed(found).cpu()
            own = trained.setdefault(name, pair)
            sizes[name].append(rank_correlation(own[0], pair[0]))
            signs[name].append(rank_correlation(own[1], pair[1]))
            first[name].append(pair[0][0].numpy())
            made += 1
            on_progress(made)
    return Randomised(*({name: np.stack(values) for name, values in of.items()} for of in (sizes, signs, first)))


def rank_correlation(one: Tensor, other: Tensor) -> np.ndarray:
    """Spearman's rank correlation of each pair of maps [N, H, W]: [N], -1 to 1. Equal values share the mean of their ranks.

    A map of one value has no order: its correlation is 1 with itself, and 0 with any other.
    """
    from scipy.stats import rankdata

    first, second = (rankdata(maps.flatten(1).double().numpy(), axis=1) for maps in (one, other))
    first -= first.mean(1, keepdims=True)
    second -= second.mean(1, keepdims=True)
    below = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    same = (one == other).flatten(1).all(1).numpy()
    found: np.ndarray = np.where(below > 0, (first * second).sum(1) / np.where(below > 0, below, 1), same.astype(float))
    return found


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """A module's own parameters and buffers, not those of modules within it."""
    own = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
    return {name: tensor for name, tensor in own.items() if tensor is not None}


@torch.no_grad()
def _take(module: nn.Module, fresh: nn.Module) -> None:
    given = _tensors(fresh)
    for name, tensor in _tensors(module).items():
        tensor.copy_(given[name])
