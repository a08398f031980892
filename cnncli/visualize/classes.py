"""What a model makes of each class of a labelled set: the mean image, the mean saliency, the images in the order of their probability."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from cnncli.errors import CnnError
from cnncli.visualize.backprop import check_finite, saliency_map


@dataclass(frozen=True)
class ClassView:
    """The N images of the class `label`, as a model sees them.

    image: float64 [C, H, W], their mean, normalised as the model gets them. saliency: float64 [H, W], the mean of their saliency maps, each
    scaled to mean 1. The others are of each image, by the falling probability of the class; images that are as probable in their order.
    rows: int64 [N], which images. probabilities: float64 [N], of the class, 0..1. predicted: int64 [N], the class with the largest score.
    """

    label: int
    image: Tensor
    saliency: Tensor
    rows: Tensor
    probabilities: Tensor
    predicted: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def recall(self) -> float:
        """The share of the images that the model recognises, 0..1."""
        return float((self.predicted == self.label).double().mean())

    @cached_property
    def taken_for(self) -> tuple[int, int] | None:
        """The other class that most of the images are taken for (the first of several), and how many; None where all are recognised."""
        wrong = self.predicted[self.predicted != self.label]
        if not len(wrong):
            return None
        counts = wrong.bincount()
        return int(counts.argmax()), int(counts.max())

    def best(self, count: int) -> range:
        """The places of the `count` most probable images, of fewer than twice as many the first half: none is among the worst too."""
        return range(min(count, (len(self) + 1) // 2))

    def worst(self, count: int) -> range:
        """The places of the `count` least probable ones, the least probable first."""
        return range(len(self) - 1, len(self) - 1 - min(count, len(self) // 2), -1)


@dataclass
class _Sums:
    """A class of which images are still coming."""

    label: int
    image: Tensor | float = 0.0
    saliency: Tensor | float = 0.0
    parts: list[tuple[Tensor, ...]] = field(default_factory=list)

    def view(self) -> ClassView:
        rows, logs, predicted = (torch.cat(column) for column in zip(*self.parts, strict=True))
        order = logs.argsort(descending=True, stable=True)
        count = len(rows)
        image, saliency = torch.as_tensor(self.image / count), torch.as_tensor(self.saliency / count)
        return ClassView(self.label, image, saliency, rows[order], logs[order].exp(), predicted[order])


def class_views(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Iterator[ClassView]:
    """What the model makes of each class, one after the other; one forward and one backward pass of each batch.

    batches: (images [N, C, H, W], labels int64 [N], rows int64 [N]: which images these are), in the order of their labels, so that one
    class is in memory at a time. The saliency of an image is the gradient of its own class's score, the largest magnitude over the
    channels (Simonyan, Vedaldi and Zisserman 2013, section 3.1). Each map is divided by its mean, so that an image with steep scores does
    not outweigh the others; one that is 0 everywhere stays 0.

    The model is in evaluation mode meanwhile and stays as it is. InputError for images or weights that make scores not finite.
    """
    sums: _Sums | None = None
    for given, owners, rows in batches:
        scores, maps = own_saliency(model, given, owners)
        images, labels = given.detach().cpu().double(), owners.cpu()
        maps = maps.cpu().double()
        maps = maps / maps.mean((1, 2), keepdim=True).clamp(min=torch.finfo(maps.dtype).tiny)
        # In float64: float32 has no numbers between the probabilities of images that the model is sure of.
        logs = scores.cpu().double().log_softmax(1)
        predicted = logs.argmax(1)
        columns = (rows.cpu(), logs.gather(1, labels[:, None])[:, 0], predicted)
        for label in sorted(set(labels.tolist())):
            if sums is not None and label < sums.label:
                raise CnnError(f"an image of class {label} behind those of class {sums.label}: they should be sorted")
            if sums is None or label != sums.label:
                if sums is not None:
                    yield sums.view()
                sums = _Sums(label)
            own = labels == label
            sums.image = sums.image + images[own].sum(0)
            sums.saliency = sums.saliency + maps[own].sum(0)
            sums.parts.append(tuple(column[own] for column in columns))
    if sums is not None:
        yield sums.view()


def own_saliency(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(scores [N, K], saliency [N, H, W] of each image's own class's score) of images [N, C, H, W] and labels int64 [N]."""
    was = model.training
    model.eval()
    try:
        given = images.detach().clone().requires_grad_()
        with torch.enable_grad():
            scores = model(given)
            check_finite(scores)
            # An image's score depends on no other image, so that the gradient of the sum is that of each.
            (gradient,) = torch.autograd.grad(scores.gather(1, labels[:, None]).sum(), given)
    finally:
        model.train(was)
    return scores.detach(), saliency_map(gradient)
