"""Images as points of a plane: what a projection found. Plain facts, for those that print and draw them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Method = Literal["pca", "tsne", "umap"]
METHODS: tuple[Method, ...] = ("pca", "tsne", "umap")


@dataclass(frozen=True)
class Projection:
    """N images in a plane.

    space, kind: the numbers that were projected (see Space). points: float64 [N, 2]. explained: of PCA, the shares of the variance along
    both axes; () else. perplexity: of t-SNE, None else. kept: the share of each image's nearest neighbours among all numbers that are
    its nearest neighbours in the plane too, in the mean; None where there are too few images. seconds: that it took.
    """

    method: Method
    space: str
    kind: str
    points: npt.NDArray[np.float64]
    explained: tuple[float, ...] = ()
    perplexity: float | None = None
    kept: float | None = None
    seconds: float = 0.0
