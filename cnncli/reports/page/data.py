"""What the page of a judged model is made from: plain facts, gathered elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cnncli.arch.layers import Shape
from cnncli.arch.net import Net, Row, Totals
from cnncli.engine.metrics import Judgement
from cnncli.engine.run_folders import RunRecord
from cnncli.reports.mistakes import Mistake

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image


@dataclass(frozen=True)
class NetFacts:
    """The net's table. classes: None where a traced model does not say. rows: as they are shown; folded: whether some stand for several
    layers. totals: of all layers. net: the net as data, for its drawing; None for a model that was traced. notes: what to know of the rows.
    """

    name: str
    paper: str
    input: Shape
    classes: int | None
    rows: tuple[Row, ...]
    totals: Totals
    folded: bool = False
    net: Net | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Filters:
    """The weights of a first convolution: its name in the model, and float [filters, channels, height, width] with 1 or 3 channels."""

    layer: str
    weights: npt.NDArray[np.floating[Any]]


class Pictured(NamedTuple):
    """A mistake and its image; None where that is not at hand."""

    mistake: Mistake
    picture: Image | None


@dataclass(frozen=True)
class PageData:
    """All that a page tells.

    model, source, split: what was judged on what. views: the --tta that scores were averaged over, `none` for none. how: how the scores
    were computed, one line. date: when, for people. version: of cnncli. mistakes: those that are shown, the most confident first.
    run: the training, None for a model without a run folder. left_out: a line for each image that could not be read.
    """

    model: str
    source: str
    split: str
    views: str
    how: str
    date: str
    version: str
    judgement: Judgement
    net: NetFacts | None = None
    run: RunRecord | None = None
    filters: Filters | None = None
    mistakes: tuple[Pictured, ...] = ()
    left_out: tuple[str, ...] = ()
