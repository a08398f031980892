"""Where in a set of images each channel of some layers is strongest: one pass, whatever the number of layers and channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnncli.engine.layers import Layer, Layers, Tap
from cnncli.engine.tapped import Watched, watched
from cnncli.errors import CnnError, UsageError
from cnncli.visualize.activations import map_layer

STAGES = 5  # layers that are looked at where none is named, as in the paper


@dataclass(frozen=True)
class Strongest:
    """Of each of C channels the k images in which it is strongest, falling; images that are as strong in their order.

    values: float32 [C, k], the channel's largest value in the image. rows: int64 [C, k], which image. positions: int64 [C, k, 2], row and
    column in the map. dead: bool [C], channels behind a ReLU, or the like, that are 0 in all images.
    """

    values: Tensor
    rows: Tensor
    positions: Tensor

    @property
    def dead(self) -> Tensor:
        """See above. What is below 0 in all images is behind no such function, and strongest where it is nearest to 0."""
        return self.values[:, 0] == 0


class Search:
    """Takes batch after batch, and remembers k places a channel; memory does not grow with the images."""

    def __init__(self, taps: Sequence[Tap], k: int) -> None:
        """taps: of layers with maps, [C, H, W]."""
        self.taps, self.k = tuple(taps), k
        self._values = [torch.full((tap.shape[0], k), -torch.inf) for tap in taps]
        self._rows = [torch.full((tap.shape[0], k), -1, dtype=torch.int64) for tap in taps]
        self._places = [torch.zeros((tap.shape[0], k), dtype=torch.int64) for tap in taps]

    def see(self, model: Watched, images: Tensor, rows: Tensor) -> None:
        """Run a batch [N, C, H, W] of the images `rows` [N], int64. CnnError where the model's numbers are not finite.

        model: made ready with these taps.
        """
        rows = rows.cpu()
        model.run(images, lambda number, maps, which: self._take(number, maps, rows[which]))

    def _take(self, number: int, maps: Tensor, rows: Tensor) -> None:
        best = maps.amax((2, 3)).cpu()
        if not bool(torch.isfinite(best).all()):
            raise CnnError(f"the numbers of {self.taps[number].path} are not finite", "look at the weights: cnn eval names the first")
        values, kept_rows, kept_places = self._values[number], self._rows[number], self._places[number]
        channels = (best > values[:, -1:].T).any(0).nonzero()[:, 0]
        if not len(channels):
            return
        together = torch.cat([values[channels], best[:, channels].T.float()], 1)
        together, order = together.sort(dim=1, descending=True, stable=True)
        order = order[:, : self.k]
        own, places = kept_rows[channels], kept_places[channels]
        own = torch.cat([own, rows.expand(len(channels), -1)], 1).gather(1, order)
        places = places.gather(1, order.clamp(max=self.k - 1))
        # Where in its map a channel is strongest is looked up only for those that stay: that costs more than the maximum.
        row, place = (order >= self.k).nonzero(as_tuple=True)
        image, channel = (order[row, place] - self.k).to(maps.device), channels[row].to(maps.device)
        places[row, place] = maps[image, channel].flatten(1).argmax(1).cpu()
        values[channels], kept_rows[channels], kept_places[channels] = together[:, : self.k], own, places

    def found(self) -> list[Strongest]:
        """Of each tap."""
        return [
            Strongest(values, rows, torch.stack([places // tap.shape[2], places % tap.shape[2]], 2))
            for tap, values, rows, places in zip(self.taps, self._values, self._rows, self._places, strict=True)
        ]


def map_of(layers: Layers, name: str) -> Tap:
    """The tap behind the activation function of a layer. UsageError where it gives no map."""
    return map_layer(layers, name, "after")[1]


def all_maps(layers: Layers) -> list[str]:
    """The names of all layers that give a map of more than one position, each map once."""
    return [layer.called for layer in layers.distinct() if layers.is_map(layer.shape)]


def usual_layers(model: nn.Module, layers: Layers) -> list[str]:
    """Five layers from the first to the last: conv1 to conv5 where a net has these names, else blocks of the net, evenly spaced."""
    names = [f"conv{number}" for number in range(1, STAGES + 1)]
    try:
        return [layers.called(name) for name in names]
    except UsageError:
        pass
    known = set(all_maps(layers))
    blocks = list(
        dict.fromkeys(layer.name for layer in layers.all if layers.is_map(layer.shape) and _is_block(model, layer) and layer.runs == 1)
    )
    found = [name for name in blocks if name in known] or all_maps(layers)
    if not found:
        raise UsageError("the model has no layer that gives a map", "--list-layers lists them", path="--layer")
    count = min(STAGES, len(found))
    return [found[round(place * (len(found) - 1) / max(1, count - 1))] for place in range(count)]


def _is_block(model: nn.Module, layer: Layer) -> bool:
    """Whether it is no part of another block than the net and its sequences, and no pooling or activation."""
    parts = layer.name.split(".")
    above = [model.get_submodule(".".join(parts[:depth])) for depth in range(1, len(parts))]
    if not all(isinstance(module, nn.Sequential | nn.ModuleList) for module in above):
        return False
    module = model.get_submodule(layer.name)
    own = any(True for _ in module.parameters())
    return own and not isinstance(module, nn.Sequential | nn.modules.batchnorm._BatchNorm)  # noqa: SLF001 - torch's only name for them all


def search(
    model: nn.Module, taps: Sequence[Tap], batches: Iterable[tuple[Tensor, Tensor]], k: int, *, count: int | None = None
) -> list[Strongest]:
    """The k strongest images of each channel of each tap. batches: (images, rows); see `Search`. count: of all images, if known."""
    found = Search(taps, k)
    was = model.training
    model.eval()
    try:
        ready: Watched | None = None
        for images, rows in batches:
            ready = ready or watched(model, taps, images, count=count)
            found.see(ready, images, rows)
    finally:
        model.train(was)
    return found.found()
