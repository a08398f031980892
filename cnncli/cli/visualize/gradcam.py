"""`cnn visualize gradcam`: where in the image a class is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cnncli.cli.visualize.asking import ask
from cnncli.cli.visualize.job import AskJob, asks
from cnncli.data.config import DataConfig
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    import torch

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

    from cnncli.cli.visualize.paging import Page, of_class, page_by_page
    from cnncli.reports.signal_figure import Panel
    from cnncli.visualize.activations import map_layer
    from cnncli.visualize.gradcam import enlarged, grad_cam, last_map

    form = asked.preprocess
    name = last_map(asked.layers) if job.layer is None else asked.layers.called(job.layer, talk)
    tap = asked.layers.find(name, "after")
    if asked.layers.channels_last(tap.shape):
        map_layer(asked.layers, name, "after")  # refuses it, and names another
    method = "Grad-CAM++" if plus_plus else "Grad-CAM"

    def compute(images: torch.Tensor, _rows: range) -> Page:
        found = grad_cam(asked.model, images, tap, number=asked.number, plus_plus=plus_plus)
        large = enlarged(found.maps, (form.height, form.width)).cpu().numpy()
        size = list(found.maps.shape[1:])
        facts = [
            {"class": asked.info.classes[number], "what": "score", "value": score, "size": size}
            for number, score in zip(found.classes.tolist(), found.scores.tolist(), strict=True)
        ]
        panel = Panel(f"{method}: {name}, {size[0]}x{size[1]}", "heat", list(large))
        return Page([panel], of_class(facts), facts, {"maps": found.maps.cpu().numpy()})

    return page_by_page(job, asked, compute, doing=f"computing {method}")
