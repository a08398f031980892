"""`cnn visualize integrated`: what each pixel adds to a class score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cnncli.cli.visualize.asking import ask
from cnncli.cli.visualize.job import AskJob, asks
from cnncli.data.config import DataConfig

if TYPE_CHECKING:
    import torch

Black = Annotated[int, typer.Option("--baseline", help="Brightness of the image that is started from, 0 (black) to 255.", min=0, max=255)]


@asks("integrated", "images", "class_")
def command(
    job: AskJob,
    data_config: DataConfig,
    steps: Annotated[int, typer.Option("--steps", help="Steps from the baseline to the image.", min=1, max=10_000)] = 50,
    baseline: Black = 0,
) -> int:
    """What each pixel adds to a class score on the way from a black image: integrated gradients (Sundararajan et al. 2017). Red adds, blue
    takes away; all pixels together are the score less that of the black image, but for the gap, which more steps make smaller.

    -o DIR writes integrated.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "what", "value", "gap"}), "columns", "files", "left_out"}.
    """
    return draw(job, data_config, steps, baseline)


def draw(job: AskJob, config: DataConfig, steps: int, baseline: int) -> int:
    """Compute and draw. Exit code 5 when images were left out."""
    asked = ask(job, config)

    from cnncli.cli.visualize.paging import Page, of_class, page_by_page
    from cnncli.reports.signal_figure import Panel
    from cnncli.visualize.integrated import integrated_gradients

    colour = asked.colour(baseline)[:, None, None]

    def compute(images: torch.Tensor, _rows: range) -> Page:
        found = integrated_gradients(asked.model, images, colour.expand(images.shape[1:]), number=asked.number, steps=steps)
        pixels = found.pixels.cpu().numpy()
        facts = [
            {"class": asked.info.classes[number], "what": "score", "value": score, "gap": gap}
            for number, score, gap in zip(found.classes.tolist(), found.scores.tolist(), found.gaps.tolist(), strict=True)
        ]
        notes = [f"sum {float(own.sum()):.3g}, gap {one['gap']:.2g}" for own, one in zip(pixels, facts, strict=True)]
        panel = Panel(f"integrated gradients: {steps} steps, sum over channels", "signed", [own.sum(0) for own in pixels], notes)
        return Page([panel], of_class(facts), facts, {"pixels": pixels})

    return page_by_page(job, asked, compute, doing="integrating gradients")
