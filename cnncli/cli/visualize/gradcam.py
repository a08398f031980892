"""`cnn visualize gradcam`: where in the image a class is seen."""

from __future__ import annotations

from typing import Annotated

import typer

from cnncli.cli.visualize.asking import ask
from cnncli.cli.visualize.job import AskJob, asks
from cnncli.data.config import DataConfig
from cnncli.reports.terminal import talk

MapLayer = Annotated[list[str] | None, typer.Option("--layer", help="A layer that gives a map (default: the last one).")]


@asks("gradcam", "images", "layer", "class_", layer=MapLayer)
def command(
    job: AskJob,
    data_config: DataConfig,
    plus_plus: Annotated[
        bool, typer.Option("--plus-plus", help="Grad-CAM++, which also finds the second of two things of a class.")
    ] = False,
) -> int:
    """Where in an image a class is seen: the maps of a layer, weighted by how they change the class score (Selvaraju et al. 2017), or
    Grad-CAM++ (Chattopadhay et al. 2018). The map has the layer's size and is enlarged to the image's.

    -o DIR writes gradcam.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "what", "value", "size"}), "columns", "files", "left_out"}.
    """
    return draw(job, data_config, plus_plus=plus_plus)


def draw(job: AskJob, config: DataConfig, *, plus_plus: bool) -> int:
    """Compute and draw. Exit code 5 when images were left out."""
    asked = ask(job, config, neuron=False)

    import torch

    from cnncli.cli.visualize.class_methods import finish
    from cnncli.reports.signal_figure import Panel
    from cnncli.visualize.gradcam import enlarged, grad_cam, last_map

    form = asked.preprocess
    name = last_map(asked.layers) if job.layer is None else asked.layers.called(job.layer, talk)
    found = [
        grad_cam(asked.model, images, asked.layers.find(name, "after"), number=asked.number, plus_plus=plus_plus)
        for images in asked.batches()
    ]
    maps = torch.cat([one.maps for one in found]).cpu()
    numbers, scores = (torch.cat([getattr(one, what) for one in found]).tolist() for what in ("classes", "scores"))
    large = enlarged(maps, (form.height, form.width)).numpy()
    method = "Grad-CAM++" if plus_plus else "Grad-CAM"
    facts = [
        {"class": asked.info.classes[number], "what": "score", "value": score, "size": list(maps.shape[1:])}
        for number, score in zip(numbers, scores, strict=True)
    ]
    size = "x".join(map(str, maps.shape[1:]))
    panels = [Panel(f"{method}: {name}, {size}", "heat", list(large))]
    return finish(job, asked, panels, facts, raw={"maps": maps.numpy()})
