"""Kernels with a name, and what each of them shows.

They are written for true convolution, which flips them: `sobel-x` is then positive where the picture brightens to the right.
Cross-correlation of the same kernel turns the sign of the antisymmetric ones.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from cnncli.arch.matrix import Matrix, tidy


class Kernel(NamedTuple):
    """weights / divisor. meaning: what its convolution with a picture shows. source: where the numbers are from."""

    weights: tuple[tuple[int, ...], ...]
    divisor: int
    meaning: str
    source: str

    @property
    def matrix(self) -> Matrix:
        return tuple(tuple(tidy(Fraction(weight, self.divisor)) for weight in row) for row in self.weights)


_SMOOTHING = "binomial weights, as in Burt & Adelson 1983, The Laplacian pyramid as a compact image code"
_DIFFERENCES = "second differences; Gonzalez & Woods, Digital image processing, chapter 3"
_SOBEL = "Sobel & Feldman 1968; in Duda & Hart 1973, Pattern classification and scene analysis, p. 271"
_PREWITT = "Prewitt 1970, Object enhancement and extraction"
_SCHARR = "Scharr 2000, Optimale Operatoren in der Digitalen Bildverarbeitung (rounded weights)"
_ROBERTS = "Roberts 1963, Machine perception of three-dimensional solids"

KERNELS: dict[str, Kernel] = {
    "identity": Kernel(((0, 0, 0), (0, 1, 0), (0, 0, 0)), 1, "the picture itself", "neutral element of convolution"),
    "shift-right": Kernel(
        ((0, 0, 0), (0, 0, 1), (0, 0, 0)), 1, "the picture one pixel further right (correlation: left)", "shifted unit impulse"
    ),
    "box3": Kernel(((1,) * 3,) * 3, 9, "blur: the mean of 3x3 pixels", "moving average"),
    "box5": Kernel(((1,) * 5,) * 5, 25, "blur: the mean of 5x5 pixels", "moving average"),
    "gaussian3": Kernel(((1, 2, 1), (2, 4, 2), (1, 2, 1)), 16, "smooth blur, standard deviation 0.71", _SMOOTHING),
    "gaussian5": Kernel(
        ((1, 4, 6, 4, 1), (4, 16, 24, 16, 4), (6, 24, 36, 24, 6), (4, 16, 24, 16, 4), (1, 4, 6, 4, 1)),
        256,
        "smooth blur, standard deviation 1",
        _SMOOTHING,
    ),
    "sharpen": Kernel(((0, -1, 0), (-1, 5, -1), (0, -1, 0)), 1, "sharper: the picture minus its laplacian4", _DIFFERENCES),
    "unsharp": Kernel(((-1, -2, -1), (-2, 28, -2), (-1, -2, -1)), 16, "sharper: twice the picture minus its gaussian3", "unsharp masking"),
    "laplacian4": Kernel(((0, 1, 0), (1, -4, 1), (0, 1, 0)), 1, "edges in every direction, two-sided (4 neighbours)", _DIFFERENCES),
    "laplacian8": Kernel(((1, 1, 1), (1, -8, 1), (1, 1, 1)), 1, "edges in every direction, two-sided (8 neighbours)", _DIFFERENCES),
    "sobel-x": Kernel(((1, 0, -1), (2, 0, -2), (1, 0, -1)), 1, "vertical edges: positive where it brightens to the right", _SOBEL),
    "sobel-y": Kernel(((1, 2, 1), (0, 0, 0), (-1, -2, -1)), 1, "horizontal edges: positive where it brightens downwards", _SOBEL),
    "prewitt-x": Kernel(((1, 0, -1), (1, 0, -1), (1, 0, -1)), 1, "vertical edges, without sobel's weighting", _PREWITT),
    "prewitt-y": Kernel(((1, 1, 1), (0, 0, 0), (-1, -1, -1)), 1, "horizontal edges, without sobel's weighting", _PREWITT),
    "scharr-x": Kernel(((3, 0, -3), (10, 0, -10), (3, 0, -3)), 1, "vertical edges, nearly the same for every angle", _SCHARR),
    "scharr-y": Kernel(((3, 10, 3), (0, 0, 0), (-3, -10, -3)), 1, "horizontal edges, nearly the same for every angle", _SCHARR),
    "roberts-1": Kernel(((1, 0), (0, -1)), 1, "edges across the diagonal, positive where it brightens down and right", _ROBERTS),
    "roberts-2": Kernel(((0, 1), (-1, 0)), 1, "edges across the other diagonal, positive where it brightens down and left", _ROBERTS),
    "emboss": Kernel(((2, 1, 0), (1, 1, -1), (0, -1, -2)), 1, "relief: slopes that brighten down and right stand out", "image editors"),
}
