"""How a signal passes back through ReLUs: as the gradient does, or by the rules of guided backpropagation and of the deconvnet.

Seen from what came out of a ReLU, R is the signal that comes back to it and f what went in:

    gradient     R (f > 0)              Simonyan, Vedaldi, Zisserman 2013, "Deep inside convolutional networks", section 3
    deconvnet    R (R > 0)              Zeiler and Fergus 2013, "Visualizing and understanding convolutional networks", section 2.1
    guided       R (f > 0) (R > 0)      Springenberg et al. 2014, "Striving for simplicity", equation 4

Everything else is undone as the gradient undoes it: convolutions by their transposed filters, pooling by its switches, batch norm by its
scale. A rule is for what cuts off what is below 0; of other activations the papers say nothing, so these are counted and not guessed.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, NamedTuple, cast, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from cnncli.engine.layers import ACTIVATIONS

Rule = Literal["gradient", "guided", "deconvnet"]
RULES: tuple[Rule, ...] = get_args(Rule)

RELU = frozenset({"relu", "relu_"})
CUT = frozenset({"hardtanh", "hardtanh_"})  # from 0 to 6 it is ReLU6
CLAMPS = frozenset({"clamp", "clamp_", "clamp_min", "clamp_min_", "clip", "clip_"})
THRESHOLDS = frozenset({"threshold", "threshold_", "_threshold"})  # the last one is F.threshold
LARGER = frozenset({"maximum", "max"})  # of two tensors
IN_PLACE = 1  # where F.relu and F.relu6 take `inplace`
IN_PLACE_BEHIND_TWO = 3  # where F.hardtanh and F.threshold do
OTHERS = ACTIVATIONS | {"glu", "erf", "abs", "abs_"}


class Ruled(TorchFunctionMode):
    """Within it, every ReLU that is run, whatever the model's code calls it by, passes signals back by a rule.

    relus: how many were run. others: how often each other activation was, by its name; their gradient is as ever.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.relus = 0
        self.others: Counter[str] = Counter()

    def __torch_function__(self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        found = _cut_at(name, args, kwargs) or _chosen(name, args, kwargs)
        if found is not None:
            self.relus += 1
            if self.rule != "gradient":
                return _passed(found.tensor, self.rule, found.high, in_place=found.in_place)
        elif name in OTHERS:
            self.others[name.strip("_")] += 1
        return function(*args, **kwargs)


class _Cut(NamedTuple):
    """A call that is a ReLU of `tensor`. high: where it cuts off what is large, None for nowhere."""

    tensor: Tensor
    high: float | None = None
    in_place: bool = False


def _cut_at(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Cut | None:
    """A function that cuts off what is below 0, with its bounds as arguments; None for any other."""

    def argument(place: int, called: str, usual: Any = None) -> Any:
        return kwargs.get(called, args[place] if len(args) > place else usual)

    tensor = argument(0, "input")
    written = name.endswith("_")
    if name in RELU or name == "relu6":
        return _Cut(tensor, 6.0 if name == "relu6" else None, written or bool(argument(IN_PLACE, "inplace")))
    if name in CUT and argument(1, "min_val", -1.0) == 0:
        return _Cut(tensor, float(argument(2, "max_val", 1.0)), written or bool(argument(IN_PLACE_BEHIND_TWO, "inplace")))
    if name in THRESHOLDS and argument(1, "threshold") == 0 and argument(2, "value") == 0:
        return _Cut(tensor, None, written or bool(argument(IN_PLACE_BEHIND_TWO, "inplace")))
    if name in CLAMPS and _is_zero(argument(1, "min")):
        most = argument(2, "max")
        if most is None or (_is_number(most) and float(most) > 0):
            return _Cut(tensor, None if most is None else float(most), written)
    return None


def _chosen(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Cut | None:
    """The larger of a tensor and 0, whatever says so: `maximum(x, 0)`, `where(x > 0, x, 0)`, `x * (x > 0)`; None for any other call."""
    if kwargs or len(args) < 2 or not all(isinstance(one, Tensor) for one in args[:2]):
        return None
    first, second = args[:2]
    if name in LARGER and len(args) == 2:
        return next((_Cut(one) for one, other in ((first, second), (second, first)) if one.shape and _is_zero(other)), None)
    if name == "where" and len(args) == 3 and first.shape == second.shape and _is_zero(args[2]):
        return _Cut(second) if torch.equal(first, second > 0) or torch.equal(first, second >= 0) else None
    if name in {"mul", "__mul__", "__rmul__", "multiply"} and len(args) == 2 and first.shape == second.shape:
        pairs = [(one, other) for one, other in ((first, second), (second, first)) if other.dtype == torch.bool]
        return next((_Cut(one) for one, other in pairs if torch.equal(other, one > 0) or torch.equal(other, one >= 0)), None)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or (isinstance(value, Tensor) and value.numel() == 1)


def _is_zero(value: Any) -> bool:
    """Whether it is 0, or a tensor of nothing else."""
    return bool((value == 0).all()) if isinstance(value, Tensor) else isinstance(value, int | float) and value == 0


def _passed(tensor: Tensor, rule: Rule, high: float | None, *, in_place: bool) -> Tensor:
    overwrites = in_place and not tensor.is_leaf
    return cast("Tensor", _Ruled.apply(tensor, rule, high, overwrites))


class _Ruled(Function):
    """min(max(f, 0), high), and the rule on the way back. Of what is cut off above, no rule lets anything through."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, rule: Rule, high: float | None, overwrites: bool) -> Tensor:  # noqa: FBT001 # torch gives no names
        """The same numbers as without the rule, in the same place."""
        open_above = torch.ones((), dtype=torch.bool, device=tensor.device) if high is None else tensor < high
        ctx.rule = rule
        ctx.save_for_backward(open_above if rule == "deconvnet" else (tensor > 0) & open_above)
        if overwrites:
            ctx.mark_dirty(tensor)
            return tensor.clamp_(0, high)
        return tensor.clamp(0, high)

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor, None, None, None]:
        """R (R > 0), where the mask is open."""
        (mask,) = ctx.saved_tensors
        return signals[0].clamp(min=0) * mask, None, None, None
