"""Models to look into: trained ones, and such whose weights are drawn, for which that is said wherever something of them is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cnncli.arch.zoo.table import build
from cnncli.data.preprocess import Preprocess
from cnncli.errors import UsageError
from cnncli.models.modelfile import ModelInfo, make_for
from cnncli.models.published import TWINS, check_weights
from cnncli.models.resolve import Spec, stored_spec

if TYPE_CHECKING:
    from torch import nn

RANDOM = "random"  # of --weights
SIZE = (3, 224, 224)  # of a user's model that does not say; ImageNet's

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Opened:
    """A model in evaluation mode and what is known of it. seed: with which its weights were drawn; None where they are trained."""

    model: nn.Module
    info: ModelInfo
    seed: int | None = None


def check_looking(spec: Spec, weights: str | None, classes: int | None) -> None:
    """Refuse what `open_to_look` cannot open, before anything is loaded; see `check_weights`. UsageError, or InputError for a file."""
    if _is_drawn(spec, weights):
        return
    if spec.kind == "notation":
        raise UsageError(
            "a net in notation has no weights to take", f"leave out --weights, or train it: cnn train {spec.name!r}", path="--weights"
        )
    check_weights(spec, weights, classes)


def open_to_look(spec: Spec, weights: str | None, *, classes: int | None = None, seed: int = 0, device: str = "cpu", tell: Tell) -> Opened:
    """The model that a spec and --weights name together, as `open_model`; with weights that are drawn with `seed` where a net has none.

    weights: also `random`, for drawn ones of a net that has others. A user's `file.py:Name` without --weights has those that its code gives
    it, after the random state was set to `seed`. tell: hears that weights are random.
    UsageError for `random` and a trained model's own file, and what `open_model` raises.
    """
    from cnncli.models.weights import open_model

    if not _is_drawn(spec, weights):
        model, info = open_model(spec, weights, classes=classes, device=device, tell=tell)
        return Opened(model, info)
    if spec.kind == "file":
        raise UsageError(f"{spec.name} has its own weights", "leave out --weights random, or name a net", path="--weights")
    info = _described(spec, classes)
    published = " (--weights imagenet takes the published ones)" if spec.kind == "zoo" and spec.name in TWINS else ""
    what = "the weights that its code gives it" if spec.kind == "python" else f"random weights, seed {seed}"
    tell(f"note: {spec.text} has {what}{published}")
    return Opened(drawn(info, seed).to(device), info, seed)


def drawn(info: ModelInfo, seed: int) -> nn.Module:
    """The architecture that `info` names with its weights drawn, as `assemble` or the library draws them; on the CPU, in evaluation mode.

    A user's model is made by its code, which need not draw them. torch's random state stays as it is.
    """
    import torch

    from cnncli.models.assemble import assemble
    from cnncli.models.foreign_code import make_whole

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if info.net is not None:
            return assemble(info.net).eval()
        spec = stored_spec(info.spec)
        if spec.kind == "python":
            return make_whole(spec.path, spec.name, classes=len(info.classes)).model.eval()
        return make_for(info).again().eval()


def _is_drawn(spec: Spec, weights: str | None) -> bool:
    return (weights == RANDOM and not Path(RANDOM).exists()) or (weights is None and spec.kind in ("zoo", "notation", "python"))


def _described(spec: Spec, classes: int | None) -> ModelInfo:
    """What is known of a model without trained weights: pixel values from -1 to 1, classes 0, 1, ..."""
    from cnncli.models.imagenet import numbers

    if spec.kind == "python":
        from cnncli.models.foreign_code import make_whole

        own = make_whole(spec.path, spec.name, classes=classes or 1000)
        return ModelInfo(None, numbers(classes or 1000), Preprocess(*(own.input_shape or SIZE)), spec=spec.text)
    if spec.library is not None:
        from cnncli.models.sources import make

        made = make(spec.library, spec.name, input=None, classes=classes, classifies=True)
        return ModelInfo(None, numbers(classes or 1000), Preprocess(*made.input), spec=spec.text)
    if spec.kind == "notation":
        from cnncli.arch.notation.language import parse

        net = parse(spec.name, classes=classes)
    else:
        net = build(spec.name, classes=classes)
    return ModelInfo(net, numbers(net.classes), Preprocess(*net.input))
