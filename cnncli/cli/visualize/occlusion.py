"""`cnn visualize occlusion`: how a class fares when parts of the image are covered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.visualize.asking import ask
from cnncli.cli.visualize.job import AskJob, asks
from cnncli.data.config import DataConfig

if TYPE_CHECKING:
    import torch

    from cnncli.visualize.occlusion import Occluded

GREY = 128  # brightness of the square
SHARE = 4  # the square's side is this part of the image's, by default


@asks("occlusion", "images", "class_")
def command(
    job: AskJob,
    data_config: DataConfig,
    size: Annotated[
        int | None, typer.Option("--size", help="Side of the square in pixels (default: a quarter of the image).", min=1)
    ] = None,
    stride: Annotated[
        int | None, typer.Option("--stride", help="Pixels from one place to the next (default: an eighth of --size).", min=1)
    ] = None,
) -> int:
    """Slide a grey square over an image and look at the class's probability and at the best class with the square at each place (Zeiler and
    Fergus 2013, figure 7, d and e): where the probability falls, the net saw the class.

    -o DIR writes occlusion.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "what", "value", "least", "least_at": [top, left], "size", "stride"}), "columns", "files", "left_out"}.
    """
    return draw(job, data_config, size, stride)


def draw(job: AskJob, config: DataConfig, size: int | None, stride: int | None) -> int:
    """Compute and draw. Exit code 5 when images were left out."""
    asked = ask(job, config)
    asked.check_probabilities("occlusion")

    from cnncli.cli.visualize.paging import Page, of_class, page_by_page
    from cnncli.reports.decoding import DecodingReport
    from cnncli.reports.signal_figure import Panel
    from cnncli.visualize.occlusion import occlusion, spread

    form = asked.preprocess
    side = size or max(1, min(form.height, form.width) // SHARE)
    step = stride or max(1, side // 8)
    grey = asked.colour(GREY)

    def compute(images: torch.Tensor, rows: range) -> Page:
        import numpy as np

        found: list[Occluded] = []
        for row, image in zip(rows, images, strict=True):
            with DecodingReport(f"covering {asked.names[row]}") as report:
                found.append(occlusion(asked.model, image, size=side, stride=step, number=asked.number, grey=grey, on_progress=report.show))
        drops = [spread(one, form.height, form.width, side).numpy() for one in found]
        shares, best = [one.probabilities.cpu().numpy() for one in found], [one.predicted.cpu().numpy() for one in found]
        panels = [
            Panel(f"how far the probability falls: square {side}, step {step}", "fall", drops),
            Panel("its probability with the square there", "share", shares, [f"{own.min():.3g} to {own.max():.3g}" for own in shares]),
            Panel("the best class there", "classes", best, classes=asked.info.classes),
        ]
        facts = [_facts(one, asked.info.classes, side, step) for one in found]
        raw = {"probabilities": np.stack(shares), "predicted": np.stack(best), "drops": np.stack(drops)}
        return Page(panels, of_class(facts), facts, raw)

    return page_by_page(job, asked, compute, title=asked.title.replace(": the score of", ": the probability of"))


def _facts(found: Occluded, classes: Sequence[str], side: int, step: int) -> dict[str, Any]:
    place = int(found.probabilities.argmin())
    row, column = divmod(place, found.probabilities.shape[1])
    return {
        "class": classes[found.number],
        "what": "probability",
        "value": found.whole,
        "least": float(found.probabilities.min()),
        "least_at": [found.tops[row], found.lefts[column]],
        "size": side,
        "stride": step,
    }
