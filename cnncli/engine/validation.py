"""How good a model is on images that it does not learn from: exact, over all processes, without waiting for the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnncli.data.loader import Batches
from cnncli.engine.distributed import World
from cnncli.engine.precision import Numbers
from cnncli.engine.tta import averaged


@dataclass(frozen=True)
class Validation:
    """loss: mean cross-entropy in nats. The rest in 0..1: accuracy, top5 (over min(5, classes) guesses), and means over the classes that
    have images: of F1, and of recall (balanced accuracy). macro_f1 also counts, as 0, classes without images that were guessed.
    """

    loss: float
    accuracy: float
    top5: float
    macro_f1: float
    balanced_accuracy: float


@torch.inference_mode()
def validate(
    model: nn.Module, loader: Batches, *, numbers: Numbers | None = None, world: World | None = None, views: str = "none"
) -> Validation:
    """Judge a model, in evaluation mode, on every image of `loader`, each once; each process of `world` has a part of them.

    numbers: how it is computed. views: as in `averaged`.
    """
    numbers, world = numbers or Numbers(), world or World()
    model.eval()
    counts: _Counts | None = None
    for batch in loader.epoch(0):
        scores = averaged(lambda images: numbers.scores(model, images), batch.images, views)
        counts = counts or _Counts(scores.shape[1], scores.device)
        counts.add(scores, batch.labels)
    return _values(counts, world)


class _Counts:
    """Per class, as float64 on the CPU at the end: images, guesses, correct guesses; and the loss, and hits among five."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.per_class = torch.zeros(3, classes, dtype=torch.int64, device=device)
        self.loss = torch.zeros((), device=device)
        self.top5 = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, scores: Tensor, labels: Tensor) -> None:
        classes = scores.shape[1]
        guesses = scores.topk(min(5, classes), dim=1).indices
        hits = guesses == labels[:, None]
        first = hits[:, 0]
        # Not bincount: on a GPU it waits for the device, and with weights torch has no deterministic one.
        ones = torch.ones_like(labels)
        for row, where, what in ((0, labels, ones), (1, guesses[:, 0], ones), (2, labels, first.long())):
            self.per_class[row].index_add_(0, where, what)
        self.loss += functional.cross_entropy(scores, labels, reduction="sum")
        self.top5 += hits.sum()


def _values(counts: _Counts | None, world: World) -> Validation:
    classes = int(world.largest([counts.per_class.shape[1] if counts else 0])[0])
    own = torch.zeros(3 * classes + 2, dtype=torch.float64)
    if counts:  # a process may have had no image
        own = torch.cat([counts.per_class.flatten().double().cpu(), torch.stack([counts.loss.double(), counts.top5.double()]).cpu()])
    total = world.summed(own)
    images, guesses, correct = total[:-2].view(3, classes)
    count = images.sum()
    there = images > 0
    recall = correct[there] / images[there]
    named = there | (guesses > 0)
    f1 = 2 * correct[named] / (images + guesses)[named]
    values = total[-2] / count, correct.sum() / count, total[-1] / count, f1.mean(), recall.mean()
    return Validation(*(float(value) for value in values))
