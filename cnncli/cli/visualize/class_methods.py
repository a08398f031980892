"""What the methods that ask about a class share: what is drawn of each image, page by page, and written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cnncli.cli.visualize.asking import Asked, ended, pages, write_raw
from cnncli.cli.visualize.job import AskJob
from cnncli.reports.signal_figure import Panel, draw_signals

if TYPE_CHECKING:
    import torch

    from cnncli.data.preprocess import Preprocess


def finish(
    job: AskJob, asked: Asked, panels: Sequence[Panel], facts: Sequence[dict[str, Any]], *, raw: dict[str, Any], title: str = ""
) -> int:
    """Draw the panels, of all images, write the numbers if asked for, and end. facts: of each image, for the JSON."""
    from cnncli import atomic

    atomic.make_folder(job.folder)
    words = [f"{one['class']}: {one['what']} {one['value']:.3g}" for one in facts]
    wrote = []
    for rows, path in pages(len(facts), job.method, job.folder):
        shown = [
            panel._replace(signals=[panel.signals[row] for row in rows], notes=[panel.notes[row] for row in rows] if panel.notes else ())
            for panel in panels
        ]
        images, names = [asked.pixels[row] for row in rows], [asked.captions[row] for row in rows]
        draw_signals(path, images, shown, names=names, words=[words[row] for row in rows], title=title or asked.title)
        wrote.append(path)
    if job.raw is not None:
        import numpy as np

        write_raw(job.raw, {"paths": np.array(asked.names, dtype=str), "images": asked.pixels, **raw})
        wrote.append(job.raw)
    images = [{"path": name, **one} for name, one in zip(asked.names, facts, strict=True)]
    result = {"title": title or asked.title, "random": asked.random, "images": images, "columns": [panel.name for panel in panels]}
    return ended(job, asked.left_out, result | {"files": [str(path) for path in wrote], "left_out": list(asked.left_out)})


def normalised_colour(preprocess: Preprocess, value: int) -> torch.Tensor:
    """[C], what the net sees of a pixel of this brightness, 0..255."""
    import torch

    pixel = torch.full((1, preprocess.channels, 1, 1), value, dtype=torch.uint8)
    return preprocess.normalise(pixel)[0, :, 0, 0]
