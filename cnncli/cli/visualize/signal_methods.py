"""The methods that send a signal back to the pixels: one way for saliency, guided backpropagation, the deconvnet, and all three beside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.visualize.asking import Asked, ask
from cnncli.cli.visualize.job import AskJob
from cnncli.cli.visualize.paging import Page, page_by_page
from cnncli.data.config import DataConfig
from cnncli.errors import UsageError
from cnncli.reports.signal_figure import Panel
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import torch

    from cnncli.engine.relu_rules import Rule
    from cnncli.visualize.backprop import Signals


PlainGradient = Annotated[
    bool, typer.Option("--plain-gradient", help="Draw the gradient, called that, where there is no rule for the model's activations.")
]
NOTHING = "nothing above 0 to send back"


@dataclass(frozen=True)
class Shown:
    """A column of the picture. rule: of the ReLUs. key: its name in the numbers' file. name: what stands above it. kind: how the signal is
    drawn: `map`, its largest magnitude over the channels, or `colour`, as an image. samples, noise: of SmoothGrad, 0 without. times_input:
    the signal times the pixels.
    """

    rule: Rule
    key: str
    name: str
    kind: str
    samples: int = 0
    noise: float = 0.0
    times_input: bool = False


SALIENCY = Shown("gradient", "saliency", "saliency: |gradient|, largest of channels", "map")
GUIDED = Shown("guided", "guided", "guided backpropagation", "colour")
DECONVNET = Shown("deconvnet", "deconvnet", "deconvnet", "colour")
PLAIN = Shown("gradient", "gradient", "plain gradient (no rule)", "colour")


def run(job: AskJob, config: DataConfig, columns: list[Shown], *, plain_gradient: bool = False) -> int:
    """Compute, draw and write. Exit code 5 when images were left out.

    plain_gradient: where a column's rule has nothing to say of the model's activations, the gradient is drawn and called that.
    """
    asked = ask(job, config)
    columns = _with_rules(job, asked, columns, plain_gradient=plain_gradient)

    def compute(images: torch.Tensor, rows: range) -> Page:
        found = [_signals(asked, column, images, job.seed) for column in columns]
        panels = [_panel(column, own) for column, own in zip(columns, found, strict=True)]
        for row, note in zip(rows, next((panel.notes for panel in panels if panel.notes), ()), strict=False):
            if note:
                talk(f"note: {asked.names[row]}: {asked.neuron(found[0], row - rows.start)}: the deconvnet has {NOTHING}")
        raw = {column.key: own.pixels.cpu().numpy() for column, own in zip(columns, found, strict=True)}
        raw |= {name: getattr(found[0], name).cpu().numpy() for name in ("values", "channels")}
        return Page(panels, [asked.neuron(found[0], row) for row in range(len(rows))], _facts(asked, found[0]), raw)

    return page_by_page(job, asked, compute, doing=f"computing {', '.join(column.key for column in columns)}")


def _with_rules(job: AskJob, asked: Asked, columns: list[Shown], *, plain_gradient: bool) -> list[Shown]:
    """The columns, with the plain gradient once instead of those whose rule says nothing of the model, if that is wished. UsageError."""
    found: list[Shown] = []
    for column in columns:
        own = column if has_rule(job, asked, column.rule, needed=not plain_gradient) else PLAIN
        if own not in found:
            found.append(own)
    return found


def has_rule(job: AskJob, asked: Asked, rule: Rule, *, needed: bool = False) -> bool:
    """Whether a rule says something of the activations of a model, which one image tells. needed: UsageError where it does not."""
    from cnncli.visualize.backprop import check_rule, signals

    made = signals(asked.model, asked.normalised(range(1)), asked.aim, rule)
    try:
        check_rule(made, rule, job.model)
    except UsageError:
        if needed:
            raise
        return False
    return True


def _signals(asked: Asked, column: Shown, images: torch.Tensor, seed: int) -> Signals:
    from cnncli.visualize.backprop import signals, smooth_gradient

    if column.samples:
        made = smooth_gradient(asked.model, images, asked.aim, samples=column.samples, noise=column.noise, seed=seed)
    else:
        made = signals(asked.model, images, asked.aim, column.rule)
    return replace(made, pixels=made.pixels * images) if column.times_input else made


def _panel(column: Shown, found: Signals) -> Panel:
    """A column, with words beneath where the deconvnet has nothing to send back."""
    nothing = [column.rule == "deconvnet" and value <= 0 for value in found.values.tolist()]
    notes = [NOTHING if own else "" for own in nothing] if any(nothing) else ()
    return Panel(column.name, column.kind, list(found.pixels.cpu().numpy()), notes)


def _facts(asked: Asked, found: Signals) -> list[dict[str, Any]]:
    """Of each image, for the JSON."""
    facts: list[dict[str, Any]] = []
    for row, (channel, value) in enumerate(zip(found.channels.tolist(), found.values.tolist(), strict=True)):
        own: dict[str, Any] = {"channel": channel, "value": value}
        if asked.aim.tap is None:
            own["class"] = asked.info.classes[channel]
        if found.positions is not None:
            own["position"] = found.positions[row].tolist()
        facts.append(own)
    return facts
