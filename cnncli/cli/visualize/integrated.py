"""`cnn visualize integrated`: what each pixel adds to a class score."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncli.cli.visualize.asking import ask
from cnncli.cli.visualize.job import AskJob, asks
from cnncli.data.config import DataConfig

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

    import torch

    from cnncli.cli.visualize.class_methods import finish, normalised_colour
    from cnncli.reports.decoding import DecodingReport
    from cnncli.reports.signal_figure import Panel
    from cnncli.visualize.integrated import integrated_gradients

    colour = normalised_colour(asked.preprocess, baseline).to(asked.device)[:, None, None]
    found = []
    done = 0
    with DecodingReport("integrating gradients") as report:
        for images in asked.batches():
            start = colour.expand(images.shape[1:])
            found.append(integrated_gradients(asked.model, images, start, number=asked.number, steps=steps))
            done += len(images)
            report.show(done, len(asked.pixels))
    pixels = torch.cat([one.pixels for one in found]).cpu().numpy()
    numbers, scores, gaps = (torch.cat([getattr(one, what) for one in found]).tolist() for what in ("classes", "scores", "gaps"))
    facts = [
        {"class": asked.info.classes[number], "what": "score", "value": score, "gap": gap}
        for number, score, gap in zip(numbers, scores, gaps, strict=True)
    ]
    notes = [f"sum {float(own.sum()):.3g}, gap {gap:.2g}" for own, gap in zip(pixels, gaps, strict=True)]
    panels = [Panel(f"integrated gradients: {steps} steps, sum over channels", "signed", [own.sum(0) for own in pixels], notes)]
    return finish(job, asked, panels, facts, raw={"pixels": pixels})
