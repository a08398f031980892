"""From images to predictions: threads decode the next batch while the net computes, and two or three batches are in memory at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from cnncli.data.config import pixel_limit
from cnncli.engine.config import VIEWS
from cnncli.settings import check, setting

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from cnncli.data.decode import BadImage
    from cnncli.data.inputs import Input
    from cnncli.data.preprocess import Preprocess
    from cnncli.engine.infer import Forward

    Pixels = npt.NDArray[np.uint8] | BadImage  # [C, H, W], or why there are none

AHEAD = 1  # batches that are decoded beside the one that is computed: more would only wait
MOST_IN_A_TASK = 8  # images: handing a task to a thread costs as much as decoding a tiny image

Guess = tuple[str, float]

PANEL = "Prediction"


@dataclass(frozen=True)
class PredictConfig:
    """What is told of an image, and how images are taken in."""

    top: int = setting(5, "How many classes to name for an image.", panel=PANEL, low=1, high=1_000_000)
    threshold: float | None = setting(None, "Probability below which the best guess counts as uncertain.", panel=PANEL, low=0, high=1)
    tta: str = setting("none", "Average over views of each image, as `cnn eval --help` explains them.", panel=PANEL, choices=VIEWS)
    batch_size: int = setting(64, "Images per forward pass; does not change the result.", panel=PANEL, low=1, high=1_000_000)
    workers: int | None = setting(None, "Threads that decode images (default: one a core, at most 8).", panel=PANEL, low=1, high=256)
    max_pixels: int = pixel_limit(PANEL)

    def __post_init__(self) -> None:
        check(self)


def look_ahead(inputs: Iterator[Input | None], most: int) -> tuple[int | None, Iterator[Input | None]]:
    """(how many inputs there are, at least `most` where there are more, None where they pause before that; the same inputs again)."""
    names: list[Input | None] = []
    for entry in inputs:
        names.append(entry)
        if entry is None or len(names) >= most:
            return (None if entry is None else most), chain(names, inputs)
    return len(names), iter(names)


def predict(
    module: Any,
    preprocess: Preprocess,
    classes: Sequence[str],
    inputs: Iterable[Input | None],
    *,
    top: int,
    batch_size: int,
    max_pixels: int,
    threads: int | None = None,
    views: str = "none",
    prepared: Callable[[Callable[[], Tensor]], Forward] | None = None,
) -> Generator[tuple[Input, list[Guess] | BadImage], None, None]:
    """Each input with its `top` most probable (class, probability), or why it cannot be read; in the order of the inputs.

    inputs: None among them asks for what came before it, see cnncli.data.inputs.expand.
    threads: that decode; one for each core by default. views: as in cnncli.engine.tta.
    prepared: makes what computes the scores, given the first batch (see cnncli.engine.infer.prepare); without it the module does.
    CnnError for scores that are not finite.
    """
    import numpy as np
    import torch

    from cnncli.data.threads import usual_threads
    from cnncli.engine.infer import scores
    from cnncli.engine.tta import larger

    device = next(module.parameters()).device
    size = preprocess.height, preprocess.width
    wider = larger(preprocess, views)
    forward: Forward | Any = None
    for batch in _decoded(_groups(inputs, batch_size), _decoder(wider, max_pixels), threads or usual_threads()):
        readable = [pixels for _, pixels in batch if isinstance(pixels, np.ndarray)]
        rows: Iterator[list[Guess]] = iter(())
        if readable:
            images = wider.normalise(torch.from_numpy(np.stack(readable)).to(device))
            if forward is None:
                forward = prepared(partial(_centre, images, size)) if prepared else module
            rows = _guesses(next(scores(forward, [images], views, size=size)), classes, top)
        for entry, pixels in batch:
            yield entry, next(rows) if isinstance(pixels, np.ndarray) else pixels


def _guesses(scores: Tensor, classes: Sequence[str], top: int) -> Iterator[list[Guess]]:
    """The most probable classes of each row of scores [N, K], with softmax's probabilities."""
    found = scores.softmax(dim=1).topk(min(top, len(classes)))
    for indices, values in zip(found.indices.tolist(), found.values.tolist(), strict=True):
        yield [(classes[i], p) for i, p in zip(indices, values, strict=True)]


def _centre(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle of images [N, C, H, W] that are larger than what the net takes."""
    top, left = (round((have - want) / 2) for have, want in zip(images.shape[2:], size, strict=True))
    return images[:, :, top : top + size[0], left : left + size[1]]


def _decoder(preprocess: Preprocess, max_pixels: int) -> Callable[[Input], Pixels]:
    from cnncli.data.decode import BadImage

    how = preprocess.decoding(max_pixels)

    def pixels(entry: Input) -> Pixels:
        try:
            return preprocess.pixels(entry.read(how, preprocess.channels))
        except BadImage as error:
            return error

    return pixels


def _groups(inputs: Iterable[Input | None], size: int) -> Iterator[tuple[list[Input], bool]]:
    """Up to `size` inputs at a time, and whether there are no more of them for now."""
    group: list[Input] = []
    for entry in inputs:
        if entry is not None:
            group.append(entry)
        if entry is None or len(group) == size:
            yield group, entry is None
            group = []
    yield group, False


def _decoded(
    groups: Iterable[tuple[list[Input], bool]], decode: Callable[[Input], Pixels], threads: int
) -> Iterator[list[tuple[Input, Pixels]]]:
    """The groups with what they decode to, in order. Of the names no more are taken than are decoded."""
    from cnncli.data.threads import LEAVING, leave

    def several(entries: Sequence[Input]) -> list[tuple[Input, Pixels]]:
        return [(entry, decode(entry)) for entry in entries]

    pool = ThreadPoolExecutor(threads)
    waiting: deque[list[Future[list[tuple[Input, Pixels]]]]] = deque()

    def first() -> list[tuple[Input, Pixels]]:
        done = [pair for task in waiting[0] for pair in task.result()]
        waiting.popleft()
        return done

    try:
        for group, paused in groups:
            piece = max(1, min(MOST_IN_A_TASK, len(group) // (2 * threads)))
            waiting.append([pool.submit(several, group[start : start + piece]) for start in range(0, len(group), piece)])
            while len(waiting) > (0 if paused else AHEAD):
                yield first()
        while waiting:
            yield first()
    finally:  # after Ctrl-C, too: what is not begun is dropped
        leave(pool, [task for tasks in waiting for task in tasks], LEAVING)
