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
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from cnncli.engine.layers import ACTIVATIONS

Rule = Literal["gradient", "guided", "deconvnet"]
RULES: tuple[Rule, ...] = get_args(Rule)

RELU = frozenset({"relu", "relu_"})
CUT = frozenset({"relu6", "hardtanh", "hardtanh_"})  # ReLU6 is hardtanh from 0 to 6
CLAMPS = frozenset({"clamp", "clamp_", "clamp_min", "clamp_min_"})
IN_PLACE = 1  # where F.relu and F.relu6 take `inplace`


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
        found = _cut_at(name, args, kwargs)
        if found is not None:
            self.relus += 1
            if self.rule != "gradient":
                low, in_place = found
                return _passed(args[0] if args else kwargs["input"], self.rule, low, in_place=in_place)
        elif name in ACTIVATIONS:
            self.others[name.rstrip("_")] += 1
        return function(*args, **kwargs)


def _cut_at(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float | None, bool] | None:
    """(where it cuts off what is large, None for nowhere; whether in place) of a call that is a ReLU; None for any other."""
    in_place = bool(kwargs.get("inplace", False)) or name.endswith("_")
    if name in RELU:
        return None, in_place or (len(args) > IN_PLACE and bool(args[IN_PLACE]))
    if name in CUT:
        if name == "relu6":
            return 6.0, in_place or (len(args) > IN_PLACE and bool(args[IN_PLACE]))
        given: list[Any] = [*args[1:], *[-1.0, 1.0, False][len(args) - 1 :]]
        low, high = kwargs.get("min_val", given[0]), kwargs.get("max_val", given[1])
        return (float(high), in_place or bool(given[2])) if low == 0 else None
    if name in CLAMPS:
        least = kwargs.get("min", args[1] if len(args) > 1 else None)
        most = kwargs.get("max", args[2] if len(args) > 2 else None)
        return (None, in_place) if not isinstance(least, Tensor) and least == 0 and most is None else None
    return None


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
