"""A model as a function from images to the numbers of some of its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cnncli.engine.capture import capture
from cnncli.engine.config import ComputeConfig, InferConfig
from cnncli.engine.infer import Forward, prepare
from cnncli.engine.layers import Tap
from cnncli.engine.precision import candidates

Pool = Literal["avg", "max", "flatten", "none"]

NOTHING = torch.empty(0)
CHECKED_IMAGES = 4
ROUNDING = 1e-4  # by which a layer's numbers may differ after folding, as a share of its largest one; rounding makes 1e-6 to 1e-5


@dataclass(frozen=True)
class Wanted:
    """A layer's numbers under a name, pooled; see `pooled`. layer: what the model calls it."""

    name: str
    tap: Tap
    pool: Pool
    layer: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of what is kept of an image."""
        return tuple(pooled(torch.empty(1, *self.tap.shape, device="meta"), self.pool).shape[1:])


def pooled(output: Tensor, pool: Pool) -> Tensor:
    """What is kept of a layer's output [N, C, H, W]: one number a channel, its mean (avg) or its maximum (max), [N, C]; everything in one
    row (flatten), [N, C H W]; or the map as it is (none). Of tokens [N, T, C] the mean or maximum over the tokens, [N, C].
    """
    if pool == "none":
        return output
    if pool == "flatten" or output.ndim < 3:
        return output.flatten(1)
    axes = tuple(range(2, output.ndim)) if output.ndim > 3 else (1,)
    return output.mean(axes) if pool == "avg" else output.amax(axes)


class Tapped(nn.Module):
    """Images [N, C, H, W] to the numbers of the wanted layers, one after the other: [N, D]. What comes behind the last one is not run."""

    def __init__(self, model: nn.Module, wanted: Sequence[Wanted]) -> None:
        super().__init__()
        self.model, self.wanted = model, tuple(wanted)

    def forward(self, images: Tensor) -> Tensor:
        """Run the model until all taps have been passed."""

        def keep(place: int, output: Tensor) -> Tensor:
            kept = pooled(output, self.wanted[place].pool).flatten(1)
            # What comes behind may overwrite the layer's own numbers, as ReLU does in place.
            return kept.clone() if kept.data_ptr() == output.data_ptr() else kept

        return torch.cat(capture(self.model, images, [one.tap for one in self.wanted], keep), 1)


@dataclass(frozen=True)
class Watched:
    """A model made ready for looking into: run in float32, as fast as gives the same numbers in its layers. forward: of a `Tapped`."""

    forward: Forward

    @torch.inference_mode()
    def run(self, images: Tensor, keep: Callable[[int, Tensor, slice], object]) -> None:
        """Run preprocessed images [N, C, H, W], some at a time.

        keep: (place of the tap, what it sees [n, ...] of some images, which of the N these are). What comes behind may overwrite that
        tensor, so what is kept of it must be copied.
        """
        tapped = self.forward.runner
        assert isinstance(tapped, Tapped)
        taps = [one.tap for one in tapped.wanted]
        first = 0
        for part in self.forward.parts(images):
            own = slice(first, first + len(part))

            def seen(place: int, tensor: Tensor, own: slice = own) -> Tensor:
                keep(place, tensor, own)
                return NOTHING  # or all of them would be held until the last one is there

            capture(tapped.model, self.forward.numbers.laid_out(part), taps, seen)
            first = own.stop


def watched(model: nn.Module, taps: Sequence[Tap], images: Tensor, *, count: int | None = None) -> Watched:
    """The model, in evaluation mode and on the device of the images, made ready; images and count as in `prepared`."""
    wanted = [Wanted(str(place), tap, "max") for place, tap in enumerate(taps)]
    return Watched(prepared(model, wanted, images, "fp32", images.device, count=count))


def prepared(
    model: nn.Module, wanted: Sequence[Wanted], images: Tensor, precision: str, device: torch.device, *, count: int | None = None
) -> Forward:
    """The fastest forward pass from preprocessed images [N, C, H, W] to what `Tapped` gives, float32 [N, D], that is right in every layer.

    precision: as in InferConfig; auto is float32, since what is kept serves for more than a label. count: images that are to come, as in
    `prepare`. Batch norms are folded where all wanted numbers stay the same, each layer's within ROUNDING of its largest.
    """
    tapped = Tapped(model, wanted)
    ways = candidates(ComputeConfig(precision="fp32" if precision == "auto" else precision, memory_format="contiguous"), device)
    config = InferConfig(precision=ways[0].precision)
    made = prepare(tapped, lambda: images, config, device=device, images=count)
    few = images[:CHECKED_IMAGES]
    with torch.inference_mode():
        exact = tapped(few)
    if ways[0].precision != "fp32" or _same(made(few), exact, wanted):
        return made
    return Forward(tapped, tapped, how="fp32; its batch norms cannot be folded before these layers", chunk=made.chunk)


def _same(found: Tensor, exact: Tensor, wanted: Sequence[Wanted]) -> bool:
    """Whether the numbers of each layer are the same but for rounding."""
    first = 0
    for one in wanted:
        last = first + int(torch.Size(one.shape).numel())
        own, true = found[:, first:last], exact[:, first:last]
        if float((own - true).abs().max()) > ROUNDING * float(true.abs().max().clamp_min(1e-30)):
            return False
        first = last
    return True
