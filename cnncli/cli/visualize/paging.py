"""What methods that look at images one by one share: a page is computed, drawn and forgotten, then the next one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli import atomic
from cnncli.cli.visualize.asking import Asked
from cnncli.cli.visualize.job import AskJob
from cnncli.cli.visualize.written import clear_pages, ended, pages, write_raw
from cnncli.reports.decoding import DecodingReport
from cnncli.reports.signal_figure import Panel, draw_signals

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Page:
    """Some images. panels: the columns. words: beneath each image. facts: of each, for the JSON, but for its path. raw: rows of the numbers
    behind the picture, by their names in the file.
    """

    panels: Sequence[Panel]
    words: Sequence[str]
    facts: Sequence[dict[str, Any]]
    raw: dict[str, Any] = field(default_factory=dict)


Compute = Callable[["torch.Tensor", range], Page]


def page_by_page(job: AskJob, asked: Asked, compute: Compute, *, doing: str = "", title: str = "") -> int:
    """Compute and draw all images, write the numbers if asked for, and print. Exit code 5 when images were left out.

    compute: of images [N, C, H, W], normalised, and which they are. doing: what the terminal shows meanwhile.
    """
    import numpy as np

    title, captions = title or asked.title, asked.captions
    wrote: list[Path] = []
    facts: list[dict[str, Any]] = []
    columns: list[str] = []
    arrays: dict[str, list[Any]] = {}
    with ExitStack() as stack:
        report = stack.enter_context(DecodingReport(doing)) if doing else None
        for rows, path in pages(len(asked.pixels), job.method, job.folder):
            page = compute(asked.normalised(rows), rows)
            atomic.make_folder(job.folder)
            images, names = [asked.pixels[row] for row in rows], [captions[row] for row in rows]
            draw_signals(path, images, page.panels, names=names, words=page.words, title=title)
            wrote.append(path)
            facts += [{"path": asked.names[row], **own} for row, own in zip(rows, page.facts, strict=True)]
            columns = [panel.name for panel in page.panels]
            for name, array in page.raw.items() if job.raw is not None else ():
                arrays.setdefault(name, []).append(array)
            if report is not None:
                report.show(rows.stop, len(asked.pixels))
    clear_pages(job, wrote)
    if job.raw is not None:
        numbers = {name: np.concatenate(parts) for name, parts in arrays.items()}
        write_raw(job.raw, {"paths": np.array(asked.names, dtype=str), "images": asked.pixels, **numbers})
        wrote.append(job.raw)
    result = {"title": title, "random": asked.random, "images": facts, "columns": columns}
    return ended(job, asked.left_out, result | {"files": [str(path) for path in wrote], "left_out": list(asked.left_out)})


def of_class(facts: Sequence[dict[str, Any]]) -> list[str]:
    """The words beneath images of which a class was asked about."""
    return [f"{one['class']}: {one['what']} {one['value']:.3g}" for one in facts]
