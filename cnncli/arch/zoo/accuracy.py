"""What is published of the accuracy of the zoo's nets: facts, each with its source.

Figures are typed as their source prints them, errors as errors and accuracies as accuracies, in percent. torchvision's are
those of its own weights, for its twin of our net; a paper's are for the net as the paper trained it. A net without a figure
that its paper or torchvision gives for this very net has none here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cnncli.arch.net import Net

IMAGENET = "imagenet"  # ILSVRC 2012, validation images
CIFAR10 = "cifar10"  # test images
MNIST = "mnist"  # test images
DATA_SETS = (IMAGENET, CIFAR10, MNIST)

ONE_CROP = "one crop"


class Source(NamedTuple):
    """Where figures were published, and on what view of the images they were measured."""

    text: str
    url: str
    view: str = ONE_CROP


@dataclass(frozen=True)
class Accuracy:
    """Published accuracy in percent: of all images, those whose class came first (top-1) or among the first five (top-5).

    None where the source does not give it. data: one of DATA_SETS.
    """

    top1: float | None
    top5: float | None
    data: str
    source: Source


TORCHVISION = Source("torchvision, IMAGENET1K_V1 weights, one crop", "https://docs.pytorch.org/vision/stable/models.html")
ALEXNET = Source(
    "Krizhevsky et al. 2012, table 2, one net, ten crops",
    "https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html",
    "ten crops",
)
ZFNET = Source("Zeiler & Fergus 2013, table 2, one net, ten crops", "https://arxiv.org/abs/1311.2901", "ten crops")
VGG = Source("Simonyan & Zisserman 2014, table 3, whole images", "https://arxiv.org/abs/1409.1556", "whole images")
GOOGLENET = Source("Szegedy et al. 2014, table 3, one net, one crop", "https://arxiv.org/abs/1409.4842")
RESNET_V1 = Source("He et al. 2015, their released models, one crop", "https://github.com/KaimingHe/deep-residual-networks")
RESNET_CIFAR = Source("He et al. 2015, table 6", "https://arxiv.org/abs/1512.03385")
DENSENET = Source("Huang et al. 2016, table 2, flipped and shifted images", "https://arxiv.org/abs/1608.06993")
LENET = Source("LeCun et al. 1998, section III, C3 sparse, RBF output", "http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf")
NASNET_CIFAR = Source("Zoph et al. 2017, table 1, trained with cutout", "https://arxiv.org/abs/1707.07012")
NASNET = Source("Zoph et al. 2017, tables 2 and 3, one crop", "https://arxiv.org/abs/1707.07012")
PNASNET = Source("Liu et al. 2017, Progressive neural architecture search", "https://arxiv.org/abs/1712.00559")
AMOEBANET = Source("Real et al. 2018, Regularized evolution", "https://arxiv.org/abs/1802.01548")
DARTS_CIFAR = Source("Liu et al. 2018, DARTS, table 1, trained with cutout", "https://arxiv.org/abs/1806.09055")
DARTS = Source("Liu et al. 2018, DARTS, table 3, one crop", "https://arxiv.org/abs/1806.09055")

# Accuracies (top-1, top-5) of torchvision's weights, by the name of our net.
_TORCHVISION = {
    "alexnet-owt": (56.522, 79.066),
    "vgg11": (69.02, 88.628),
    "vgg11-bn": (70.37, 89.81),
    "vgg13": (69.928, 89.246),
    "vgg13-bn": (71.586, 90.374),
    "vgg16": (71.592, 90.382),
    "vgg16-bn": (73.36, 91.516),
    "vgg19": (72.376, 90.876),
    "vgg19-bn": (74.218, 91.842),
    "googlenet": (69.778, 89.53),
    "resnet18": (69.758, 89.078),
    "resnet34": (73.314, 91.42),
    "resnet50": (76.13, 92.862),
    "resnet101": (77.374, 93.546),
    "resnet152": (78.312, 94.046),
    "densenet121": (74.434, 91.972),
    "densenet169": (75.6, 92.806),
    "densenet201": (76.896, 93.37),
    "squeezenet1_1": (58.178, 80.624),
    "mobilenet_v2": (71.878, 90.286),
}

# Errors (top-1, top-5) on ImageNet, where the source prints errors.
_IMAGENET_ERRORS: dict[str, tuple[float | None, float, Source]] = {
    "alexnet-two-tower": (40.7, 18.2, ALEXNET),
    "zfnet": (38.4, 16.5, ZFNET),
    "vgg11-lrn": (29.7, 10.5, VGG),
    "vgg16-c": (27.3, 8.8, VGG),
    "googlenet-v1": (None, 10.07, GOOGLENET),
    "resnet50-v1": (24.7, 7.8, RESNET_V1),
    "resnet101-v1": (23.6, 7.1, RESNET_V1),
    "resnet152-v1": (23.0, 6.7, RESNET_V1),
    "darts-v2-imagenet": (26.7, 8.7, DARTS),
}

# Accuracies (top-1, top-5) on ImageNet, where the source prints accuracies.
_IMAGENET_ACCURACIES = {
    "nasnet-a-mobile": (74.0, 91.6, NASNET),
    "nasnet-a-large": (82.7, 96.2, NASNET),
    "amoebanet-a-mobile": (74.5, 92.0, AMOEBANET),
    "pnasnet-5-mobile": (74.2, 91.9, PNASNET),
    "pnasnet-5-large": (82.9, 96.2, PNASNET),
}

# Errors on the test images of CIFAR-10: the mean where a source gives mean and spread, but He et al.'s single or best run.
_CIFAR10_ERRORS = {
    "resnet20": (8.75, RESNET_CIFAR),
    "resnet32": (7.51, RESNET_CIFAR),
    "resnet44": (7.17, RESNET_CIFAR),
    "resnet56": (6.97, RESNET_CIFAR),
    "resnet110": (6.43, RESNET_CIFAR),
    "resnet1202": (7.93, RESNET_CIFAR),
    "densenet-bc-100-12": (4.51, DENSENET),
    "densenet-bc-250-24": (3.62, DENSENET),
    "densenet-bc-190-40": (3.46, DENSENET),
    "nasnet-a": (2.65, NASNET_CIFAR),
    "amoebanet-a": (3.34, AMOEBANET),
    "pnasnet-5": (3.41, PNASNET),
    "darts-v1": (3.00, DARTS_CIFAR),
    "darts-v2": (2.76, DARTS_CIFAR),
}


def _right(error: float | None) -> float | None:
    """The accuracy (percent) that an error leaves, with the digits that the error has."""
    return None if error is None else round(100 - error, 2)


PUBLISHED: dict[str, Accuracy] = {
    **{name: Accuracy(*figures, IMAGENET, TORCHVISION) for name, figures in _TORCHVISION.items()},
    **{name: Accuracy(_right(top1), _right(top5), IMAGENET, source) for name, (top1, top5, source) in _IMAGENET_ERRORS.items()},
    **{name: Accuracy(top1, top5, IMAGENET, source) for name, (top1, top5, source) in _IMAGENET_ACCURACIES.items()},
    **{name: Accuracy(_right(error), None, CIFAR10, source) for name, (error, source) in _CIFAR10_ERRORS.items()},
    "lenet5": Accuracy(_right(0.95), None, MNIST, LENET),
}

# Nets that a program found, and not a person.
_SEARCHED = ("nasnet", "amoebanet", "pnasnet", "darts")


def is_searched(name: str) -> bool:
    """Whether the net of this name was found by architecture search."""
    return name.startswith(_SEARCHED)


def data_set_of(net: Net) -> str | None:
    """The data set that a net of the zoo is made for, as its input and its number of classes tell; None for any other net."""
    return {(3, 1000): IMAGENET, (3, 10): CIFAR10, (1, 10): MNIST}.get((net.input[0], net.classes))
