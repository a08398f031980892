"""The classifier of a finetuning, solved for: a logistic regression on the features before it, put into the model's own layer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cnncli.engine.events import EpochDone
from cnncli.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cnncli.data.loader import Batches
    from cnncli.engine.solve import LinearHead
    from cnncli.engine.training import Training
    from cnncli.models.head import Head
    from cnncli.transfer.kept import Kept
    from cnncli.transfer.plan import Stage

AT_ONCE = 256  # images
ROUNDING = 1e-3  # by which scores may differ from linear ones, as a share of their spread
ROOM = 1.25  # above what the training images need, so that others have it too


def solve_classifier(
    training: Training,
    stage: Stage,
    head: Head,
    batches: tuple[Batches, Batches | None],
    kept: tuple[Kept, Kept | None],
    tell: Callable[[str], None],
) -> EpochDone:
    """Solve for the classifier on all views of the training images; validation images choose the penalty, a rule does without them."""
    from cnncli.engine.validation import validate

    began = time.perf_counter()
    layer = _layer(training.model, stage, head)
    train, val = kept
    features, labels = _pooled(train.features), train.labels.repeat_interleave(train.views)
    solved, how = _solved(training, features, labels, None if val is None else (_pooled(val.features[:, :1]), val.labels))
    tell(how)
    _put(layer, solved)
    _make_linear(training, layer, train, solved)
    if training.average is not None:  # there were no steps to average over
        training.average.model.load_state_dict(training.model.state_dict())
    loss, accuracy = _fit(features, labels, solved)
    found = None
    if batches[1] is not None:
        found = validate(training.judged, batches[1], numbers=training.plan.numbers, world=training.world, views="none")
    seconds = max(1e-9, time.perf_counter() - began)
    return EpochDone(
        epoch=training.position.epoch,
        step=0,
        train_loss=loss,
        train_accuracy=accuracy,
        val_loss=found.loss if found else None,
        val_accuracy=found.accuracy if found else None,
        val_top5=found.top5 if found else None,
        val_macro_f1=found.macro_f1 if found else None,
        val_balanced_accuracy=found.balanced_accuracy if found else None,
        lr=0.0,
        seconds=seconds,
        images_per_second=len(labels) / seconds,
        best=True,
        skipped=0,
    )


def _layer(model: nn.Module, stage: Stage, head: Head) -> Any:
    """The classifier's own layer. UsageError where it is none that a linear function of kept features fits in."""
    assert stage.cut is not None
    layer = model.get_submodule(f"model.{head.path}")
    if head.others or stage.cut.path != head.path or getattr(layer, "bias", None) is None:
        raise UsageError(
            f"--solver lbfgs: the classifier {head.path} is more than one linear layer with a bias", "use --solver sgd", path="--solver"
        )
    return layer


def _pooled(features: Tensor) -> Tensor:
    """[N, V, C] or [N, V, C, H, W] as [N V, C]: means over positions, with which linear functions of each position go together."""
    flat = features.flatten(0, 1).float()
    return flat.flatten(2).mean(2) if flat.dim() > 2 else flat


def _solved(training: Training, features: Tensor, labels: Tensor, val: tuple[Tensor, Tensor] | None) -> tuple[LinearHead, str]:
    from cnncli.engine.solve import choose, fallback_penalty, solve

    classes, weighted = training.plan.classes, training.plan.loss.weights
    weights = None if weighted is None else weighted.cpu()[labels]
    if val is None or not len(val[1]):
        penalty = fallback_penalty(len(labels))
        told = f"penalty {penalty:.0e}, by the number of training images, since there are none to validate on"
        return solve(features, labels, classes, penalty=penalty, weights=weights), told
    choice = choose((features, labels), val, classes, weights=weights)
    return choice.best, f"penalty {choice.best.penalty:.1e}: of {len(choice.tried)} the one with the least loss on the validation images"


def _put(layer: Any, solved: LinearHead) -> None:
    import torch

    with torch.no_grad():
        layer.weight.copy_(solved.weight.view(layer.weight.shape))
        layer.bias.copy_(solved.bias)


def _make_linear(training: Training, layer: Any, kept: Kept, solved: LinearHead) -> None:
    """See to it that the model gives the scores of the solution, but for a number that is the same for all classes.

    In SqueezeNet a ReLU follows the classifier. It does nothing where all of the classifier's outputs are above 0, and a number added to
    all biases changes no probability: so they get as much as that takes.
    """
    import torch

    with torch.no_grad():
        if _deviation(training, kept, solved) <= ROUNDING:
            return
        least = 0.0
        for part in torch.split(kept.features.flatten(0, 1), AT_ONCE):
            least = min(least, float(layer(part.float().to(training.device)).min()))
        layer.bias.add_(-ROOM * least)
        if _deviation(training, kept, solved) > ROUNDING:
            raise UsageError(
                "--solver lbfgs: the scores are no linear function of what the classifier is given", "use --solver sgd", path="--solver"
            )


def _deviation(training: Training, kept: Kept, solved: LinearHead) -> float:
    """How far the model's scores are from the solution's, each less its mean over classes; as a share of their spread."""
    features = kept.features[:AT_ONCE, 0]
    wanted = _pooled(features[:, None]).double() @ solved.weight.T + solved.bias
    found = training.model.eval()(features.float().to(training.device)).double().cpu()
    wanted, found = (scores - scores.mean(1, keepdim=True) for scores in (wanted, found))
    return float((found - wanted).abs().max() / wanted.abs().max().clamp_min(1e-30))


def _fit(features: Tensor, labels: Tensor, solved: LinearHead) -> tuple[float, float]:
    """Mean loss and accuracy on the training views."""
    from torch.nn.functional import cross_entropy

    scores = features.double() @ solved.weight.T + solved.bias
    return float(cross_entropy(scores, labels)), float((scores.argmax(1) == labels).double().mean())
