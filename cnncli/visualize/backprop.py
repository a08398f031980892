"""From a score or a neuron back to the pixels: the gradient, guided backpropagation and the deconvnet are one way with three rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cnncli.engine.capture import capture
from cnncli.engine.layers import Tap
from cnncli.engine.relu_rules import Rule, Ruled
from cnncli.errors import CnnError, InputError, UsageError


@dataclass(frozen=True)
class Aim:
    """What is asked about: a number that the model computes of each image.

    tap: the layer, None for the model's scores. channel: of the layer, or the class; None for the strongest of each image; int64 [N] for
    one of each image's own. position: (row, column) in the channel's map; None for where it is strongest; int64 [N, 2] likewise.
    """

    tap: Tap | None = None
    channel: int | Tensor | None = None
    position: tuple[int, int] | Tensor | None = None


@dataclass(frozen=True)
class Signals:
    """pixels: [N, C, H, W], the signal that comes to each pixel. values: [N], the numbers that were asked about. channels: int64 [N].

    positions: int64 [N, 2], rows and columns; None where the layer has no map. relus: how many ran. others: other activations that did.
    """

    pixels: Tensor
    values: Tensor
    channels: Tensor
    positions: Tensor | None
    relus: int
    others: Counter[str]


def signals(model: nn.Module, images: Tensor, aim: Aim, rule: Rule) -> Signals:
    """Send a signal from what is asked about back to the pixels of images [N, C, H, W], each image by itself.

    gradient, guided: d value / d pixel, with the rule's way through ReLUs. deconvnet: the activation itself is sent back, all others of its
    layer being 0 (Zeiler and Fergus 2013, section 2.1); a score below 0 sends nothing. The model is in evaluation mode and stays as it is.

    UsageError for a channel or position out of range; InputError for images or weights that make it not finite. For a rule that has nothing
    to say of the model's activations see `check_rule`.
    """
    was = model.training
    model.eval()
    try:
        given = images.detach().clone().requires_grad_()
        with torch.enable_grad(), Ruled(rule) as ruled:
            output = model(given) if aim.tap is None else capture(model, given, [aim.tap])[0]
        values, channels, positions = _chosen(output, aim)
        check_finite(values)
        sent = values.detach().clamp(min=0) if rule == "deconvnet" else torch.ones_like(values)
        (pixels,) = torch.autograd.grad(values, given, sent)
    finally:
        model.train(was)
    return Signals(pixels, values.detach(), channels, positions, ruled.relus, ruled.others)


def check_rule(found: Signals, rule: Rule, model: str) -> None:
    """UsageError where a rule would be the plain gradient, or partly so: another activation than ReLU ran, or none."""
    if rule == "gradient":
        return
    name = {"guided": "guided backpropagation", "deconvnet": "the deconvnet"}[rule]
    hint = "--plain-gradient draws the gradient, and says so; saliency needs no rule"
    if found.others:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.others.items()))
        raise UsageError(f"{name} has a rule for ReLU alone, and {model} runs {counts}", hint, path=model)
    if not found.relus:
        raise UsageError(f"{name} has a rule for ReLU, and {model} runs none", hint, path=model)


def check_finite(values: Tensor) -> None:
    """InputError where what a model computed is not finite."""
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            "what the model computes of these images is not finite", "look at its weights: cnn eval names the first that is not"
        )


def _chosen(output: Tensor, aim: Aim) -> tuple[Tensor, Tensor, Tensor | None]:
    """(values [N], channels [N], positions [N, 2]) of what a layer gives: [N, K] or [N, K, H, W]."""
    what = "classes" if aim.tap is None else f"channels in {aim.tap.path}"
    if output.ndim not in (2, 4):
        raise UsageError(f"{what}: it gives {output.ndim - 1} axes an image", "name a layer of numbers or of maps", path="--layer")
    count, channels = output.shape[:2]
    own = None if aim.channel is None else torch.as_tensor(aim.channel, device=output.device).expand(count)
    if own is not None and not bool(((own >= 0) & (own < channels)).all()):
        raise UsageError(f"no channel {aim.channel}: there are {channels} {what}", f"0 to {channels - 1}", path="--channel")
    flat = output.reshape(count, channels, -1)
    rows = torch.arange(count, device=output.device)
    positions = None if aim.position is None else _positions(output, aim.position)
    if positions is not None:
        places = positions[:, 0] * output.shape[3] + positions[:, 1]
        at = flat.gather(2, places[:, None, None].expand(count, channels, 1))[..., 0]
        own = at.argmax(1) if own is None else own
        return at[rows, own], own, positions
    strongest = flat.amax(2)
    own = strongest.argmax(1) if own is None else own
    places = flat[rows, own].argmax(1)
    values = flat[rows, own, places]
    return values, own, None if output.ndim == 2 else torch.stack([places // output.shape[3], places % output.shape[3]], 1)


def _positions(output: Tensor, position: tuple[int, int] | Tensor) -> Tensor:
    """int64 [N, 2]."""
    if output.ndim == 2:
        raise UsageError("--position: the layer has no map", "leave it out", path="--position")
    found = torch.as_tensor(position, device=output.device).expand(len(output), 2)
    height, width = output.shape[2:]
    if not bool(((found >= 0) & (found < torch.tensor([height, width], device=found.device))).all()):
        row, column = found[0].tolist()
        raise UsageError(
            f"--position {row},{column}: the map has {height} x {width}", f"0,0 to {height - 1},{width - 1}", path="--position"
        )
    return found


# ---- saliency ----


def saliency_map(pixels: Tensor) -> Tensor:
    """[N, C, H, W] -> [N, H, W]: the largest magnitude over the channels (Simonyan, Vedaldi and Zisserman 2013, section 3.1)."""
    return pixels.abs().amax(1)


def smooth_gradient(model: nn.Module, images: Tensor, aim: Aim, *, samples: int = 25, noise: float = 0.15, seed: int = 0) -> Signals:
    """The mean gradient over noisy copies of the images: SmoothGrad (Smilkov et al. 2017, equation 1).

    noise: the standard deviation, as a share of each image's range of values; the paper's pictures have 0.1 to 0.2, and 10 to 50 samples.
    What is asked about is chosen on the image without noise. All images have the same noise, so that none depends on those beside it.
    """
    if samples < 1:
        raise CnnError(f"{samples} samples")
    found = signals(model, images, aim, "gradient")
    generator = torch.Generator(images.device).manual_seed(seed)
    spread = noise * (images.amax((1, 2, 3), keepdim=True) - images.amin((1, 2, 3), keepdim=True))
    total = torch.zeros_like(images)
    same = Aim(aim.tap, found.channels, found.positions)
    for _ in range(samples):
        noisy = images + spread * torch.randn(images.shape[1:], generator=generator, device=images.device, dtype=images.dtype)
        total += signals(model, noisy, same, "gradient").pixels
    return Signals(total / samples, found.values, found.channels, found.positions, found.relus, found.others)
