"""Distances between feature vectors, exactly; and the scores of products by which they are ranked fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]

PAIRS = 2**18  # numbers in float64 at a time: what a core has near
PIECE = {"cpu": PAIRS, "cuda": 2**24}  # numbers of a matrix at a time
USUAL = (1e-12, 1e12)  # sizes of numbers whose squares and sums of squares float32 holds; others are scaled
DIVISORS = (1e-30, 1e30)  # lengths whose inverse float32 holds with all digits
SLACK = 8  # roundings beside those of the sum: of the shifted vectors, of the bias, and second-order terms
TF32 = 2.0**-10  # relative error of a factor where torch is allowed to compute float32 products in TF32


@dataclass(frozen=True)
class Frame:
    """How vectors become such that the nearest has the highest score q.b + bias(b).

    l2: -|q - b|^2 / 2 = q.b - |b|^2 / 2 - |q|^2 / 2, and a shift of all vectors by their mean changes no distance: it only takes away
    what would be cancelled in the product. cosine: vectors of length 1 (zeros stay zeros), which are shifted too: with m for the mean,
    (q + m).(b + m) = q.b + m.b + terms of q alone. mean: [D]. scale: a power of two, exact. lengths: float64 [N], for cosine, of the rows
    of the base, 1 for zeros.
    """

    metric: Literal["l2", "cosine"]
    mean: Tensor
    scale: float = 1.0
    lengths: Tensor | None = None

    def shifted(
        self, rows: Tensor, dtype: torch.dtype, *, lengths: Tensor | None = None, out: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """float32 [n, D] as vectors of `dtype` [n, D], their biases [n], and their lengths [n].

        lengths: float64 [n], those before, where they are known. out: where the vectors go.
        """
        mean = self.mean.to(dtype)
        if self.metric == "cosine":
            known = lengths_of(rows) if lengths is None else lengths
            moved = _divided(rows, known, dtype, less=mean, out=out)
        else:
            moved = torch.mul(rows.to(dtype), self.scale, out=out).sub_(mean)
        new = torch.linalg.vector_norm(moved, dim=1)
        return moved, moved @ mean if self.metric == "cosine" else new.square() / -2, new

    def error(self, lengths: Tensor, longest: Tensor, dtype: torch.dtype) -> Tensor:
        """float64 [Q]: how far a score can be from the true one, for shifted queries of these lengths and rows no longer than `longest`.

        The sums of the score and of the bias have D terms each. What rounding in float64 does to the distances by which candidates are
        ranked is in it too.
        """
        size = len(self.mean) + SLACK
        unit = torch.finfo(dtype).eps / 2
        cosine = float(self.metric == "cosine")
        lengths, longest = lengths.double() * (1 + size * unit), longest.double() * (1 + size * unit)
        bias = longest * (torch.linalg.vector_norm(self.mean) if cosine else longest / 2)
        if dtype == torch.float32 and lengths.device.type == "cuda" and torch.get_float32_matmul_precision() != "highest":
            unit = TF32
        exact = torch.finfo(torch.float64).eps / 2 * size * (lengths + longest + cosine).square()
        return unit * (size * (lengths * longest + 2 * bias) + SLACK * cosine) + exact + torch.finfo(torch.float32).tiny


def frame_of(base: Tensor | Array, metric: Literal["l2", "cosine"], device: torch.device) -> Frame:
    """The frame of the rows of a matrix: one walk over it."""
    total = torch.zeros(base.shape[1], dtype=torch.float64, device=device)
    lengths = torch.empty(len(base) if metric == "cosine" else 0, dtype=torch.float64, device=device)
    largest = 0.0
    size = max(1, PIECE.get(device.type, PAIRS) // base.shape[1])
    for first in range(0, len(base), size):
        rows = rows_of(base, slice(first, first + size), device)
        if metric == "cosine":
            own = lengths[first : first + size] = lengths_of(rows)
            total += _divided(rows, own, torch.float32).mean(0).double() * len(rows)
        else:
            least, most = rows.aminmax()
            largest = max(largest, float(torch.maximum(-least, most)))
            total += rows.mean(0).double() * len(rows)
    mean = (total / len(base)).float().double()  # any mean will do, as long as the same is taken off all
    if metric == "cosine":
        return Frame(metric, mean, lengths=lengths)
    usual = largest == 0 or USUAL[0] < largest < USUAL[1] or not np.isfinite(largest)
    scale = 1.0 if usual else 2.0 ** -float(np.frexp(largest)[1])
    return Frame(metric, (mean * scale).float().double(), scale)


def _divided(rows: Tensor, lengths: Tensor, dtype: torch.dtype, *, less: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    """Rows [n, D] / lengths [n], less a vector [D]. Each number is rounded at most four times."""
    if dtype == torch.float32 and bool(((lengths > DIVISORS[0]) & (lengths < DIVISORS[1])).all()):
        inverse = lengths.reciprocal().float()[:, None]
        return torch.mul(rows, inverse, out=out) if less is None else torch.addcmul(-less, rows, inverse, out=out)
    exact = rows / lengths[:, None]
    exact = (exact if less is None else exact - less).to(dtype)
    return exact if out is None else out.copy_(exact)


def rows_of(matrix: Tensor | Array, rows: slice | Tensor, device: torch.device) -> Tensor:
    """Some rows as float32 [n, D] on the device; not to be written to, as they may be the matrix itself."""
    if isinstance(matrix, Tensor):
        return matrix[rows].to(device, torch.float32)
    found = np.asarray(matrix[rows if isinstance(rows, slice) else rows.cpu().numpy()], dtype=np.float32)
    return torch.from_numpy(found if found.flags.writeable else np.array(found)).to(device)


def lengths_of(rows: Tensor) -> Tensor:
    """float64 [n] of rows [n, D], computed in float64; 1 for zeros."""
    size = max(1, PIECE.get(rows.device.type, PAIRS) // rows.shape[1])  # at once, the conversion of all takes most of the time
    found = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    for first in range(0, len(rows), size):
        found[first : first + size] = torch.linalg.vector_norm(rows[first : first + size].double(), dim=1)
    return torch.where(found == 0, 1.0, found)


def unit(rows: Tensor) -> Tensor:
    """float64: rows [n, D] of length 1; zeros stay zeros."""
    return rows.double().div_(lengths_of(rows)[:, None])


def _units(rows: Tensor) -> tuple[Tensor, Tensor]:
    """As `unit`, of few rows, and which of them are zeros."""
    exact = rows.double()
    lengths = torch.linalg.vector_norm(exact, dim=-1)
    empty = lengths == 0
    return exact / torch.where(empty, 1.0, lengths)[:, None], empty


def distances(queries: Tensor, base: Tensor | Array, asking: Tensor, rows: Tensor, metric: Literal["l2", "cosine"]) -> Tensor:
    """float64 [P]: between row asking[i] of queries [Q, D] and rows[i] of the base; 0 exactly for equal vectors. asking ascends.

    cosine is |a - b|^2 / 2 of vectors of length 1, which keeps all digits where 1 - a.b would lose them: between near ones.
    """
    found = torch.empty(len(rows), dtype=torch.float64, device=queries.device)
    size = max(1, PIECE.get(queries.device.type, PAIRS) // queries.shape[1])
    for first in range(0, len(rows), size):
        places = asking[first : first + size]
        least, most = int(places[0]), int(places[-1])  # a query is prepared once for all rows it is compared with
        left = queries[least : most + 1]
        right = rows_of(base, rows[first : first + size], queries.device)
        if metric == "l2":
            found[first : first + size] = torch.linalg.vector_norm(right.double().sub_(left[places - least]), dim=-1)
            continue
        (left, empty), (right, zero) = _units(left), _units(right)
        square = torch.linalg.vector_norm(right.sub_(left[places - least]), dim=-1).square_()
        found[first : first + size] = torch.where(zero | empty[places - least], 1.0, square / 2)
    return found
