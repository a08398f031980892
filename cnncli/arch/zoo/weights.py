"""What is said of weights that were published for a net of the zoo: the row that one room finds and another prints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedWeights:
    """Published weights of a net.

    weights: the word for --weights. top1, top5: accuracy on ImageNet's validation images, in percent, as torchvision measured it;
    None where it does not say. mebibytes: of the file. cached: whether it is at `path`. recipe: the page that says how they were
    trained; empty where there is none.
    """

    net: str
    weights: str
    top1: float | None
    top5: float | None
    mebibytes: float | None
    cached: bool
    path: str
    url: str
    recipe: str
