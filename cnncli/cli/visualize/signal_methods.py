"""The methods that send a signal back to the pixels: one way for saliency, guided backpropagation, the deconvnet, and all three beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.visualize.asking import Asked, ask, ended, pages, write_raw
from cnncli.cli.visualize.job import AskJob
from cnncli.data.config import DataConfig
from cnncli.reports.signal_figure import Panel, draw_signals

if TYPE_CHECKING:
    from cnncli.engine.relu_rules import Rule
    from cnncli.visualize.backprop import Signals


PlainGradient = Annotated[
    bool, typer.Option("--plain-gradient", help="Draw the gradient, called that, where there is no rule for the model's activations.")
]


@dataclass(frozen=True)
class Shown:
    """A column of the picture. rule: of the ReLUs. name: what stands above it. kind: how the signal is drawn: `map`, its largest magnitude
    over the channels, or `colour`, as an image. samples, noise: of SmoothGrad, 0 without. times_input: the signal times the pixels.
    """

    rule: Rule
    name: str
    kind: str
    samples: int = 0
    noise: float = 0.0
    times_input: bool = False


SALIENCY = Shown("gradient", "saliency: |gradient|, largest of channels", "map")
GUIDED = Shown("guided", "guided backpropagation", "colour")
DECONVNET = Shown("deconvnet", "deconvnet", "colour")
PLAIN = Shown("gradient", "plain gradient (no rule)", "colour")


def run(job: AskJob, config: DataConfig, columns: list[Shown], *, plain_gradient: bool = False) -> int:
    """Compute, draw and write. Exit code 5 when images were left out.

    plain_gradient: where a column's rule has nothing to say of the model's activations, the gradient is drawn and called that.
    """
    asked = ask(job, config)
    if plain_gradient:
        columns = [column if column.rule == "gradient" else PLAIN for column in columns]
    found = [_signals(asked, column, job) for column in columns]
    wrote = _draw(job, asked, columns, found)
    if job.raw is not None:
        write_raw(job.raw, _raw(asked, columns, found))
        wrote.append(job.raw)
    return ended(job, asked.left_out, _told(asked, found[0], wrote, columns))


def _signals(asked: Asked, column: Shown, job: AskJob) -> list[Signals]:
    from dataclasses import replace

    from cnncli.reports.decoding import DecodingReport
    from cnncli.visualize.backprop import check_rule, signals, smooth_gradient

    found: list[Signals] = []
    done = 0
    with DecodingReport(f"computing {column.name}") as report:
        for images in asked.batches():
            if column.samples:
                made = smooth_gradient(asked.model, images, asked.aim, samples=column.samples, noise=column.noise, seed=job.seed + done)
            else:
                made = signals(asked.model, images, asked.aim, column.rule)
            check_rule(made, column.rule, job.model)
            if column.times_input:
                made = replace(made, pixels=made.pixels * images)
            found.append(made)
            done += len(images)
            report.show(done, len(asked.pixels))
    return found


def _draw(job: AskJob, asked: Asked, columns: list[Shown], found: list[list[Signals]]) -> list[Any]:
    import numpy as np

    from cnncli import atomic

    atomic.make_folder(job.folder)
    pixels = [np.concatenate([one.pixels.cpu().numpy() for one in own]) for own in found]
    words = [asked.neuron(one, row) for one in found[0] for row in range(len(one.values))]
    wrote = []
    for rows, path in pages(len(words), job.method, job.folder):
        panels = [Panel(column.name, column.kind, [own[row] for row in rows]) for column, own in zip(columns, pixels, strict=True)]
        images = [asked.pixels[row] for row in rows]
        names, own_words = [asked.captions[row] for row in rows], [words[row] for row in rows]
        draw_signals(path, images, panels, names=names, words=own_words, title=asked.title)
        wrote.append(path)
    return wrote


def _told(asked: Asked, found: Sequence[Signals], wrote: Sequence[Any], columns: list[Shown]) -> dict[str, Any]:
    """The JSON of the method."""
    rows: list[dict[str, Any]] = []
    for signals in found:
        for row in range(len(signals.values)):
            channel = int(signals.channels[row])
            own: dict[str, Any] = {"path": asked.names[len(rows)], "channel": channel, "value": float(signals.values[row])}
            if asked.aim.tap is None:
                own["class"] = asked.info.classes[channel]
            if signals.positions is not None:
                own["position"] = signals.positions[row].tolist()
            rows.append(own)
    return {
        "title": asked.title,
        "random": asked.random,
        "images": rows,
        "columns": [column.name for column in columns],
        "files": [str(path) for path in wrote],
        "left_out": list(asked.left_out),
    }


def _raw(asked: Asked, columns: list[Shown], found: list[list[Signals]]) -> dict[str, Any]:
    import numpy as np

    arrays: dict[str, Any] = {"paths": np.array(asked.names, dtype=str), "images": asked.pixels}
    for column, own in zip(columns, found, strict=True):
        arrays[column.name] = np.concatenate([one.pixels.cpu().numpy() for one in own])
    for name in ("values", "channels"):
        arrays[name] = np.concatenate([getattr(one, name).cpu().numpy() for one in found[0]])
    return arrays
