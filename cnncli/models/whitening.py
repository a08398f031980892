"""First weights that are not drawn: filters that whiten patches of the training images, convolutions that pass on what they see."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cnncli.errors import UsageError

SMALLEST = 5e-4  # added to the variances: directions that hardly vary are not blown up to noise
MOST_PATCHES = 2_000_000


@torch.no_grad()
def whiten(model: nn.Module, images: Tensor) -> None:
    """Set the first convolution to the whitening of its own patches, and freeze it (Jordan 2024, section 3.2).

    images: normalised, [N, C, H, W]. With the patches' covariance V diag(s) V^T, the filters are V / sqrt(s + SMALLEST) and their
    negatives: outputs of unit variance that are not correlated, for a ReLU or GELU behind it to see both signs of. The bias takes the
    patches' mean off; the paper lets it learn for some epochs, which would need the gradient of the largest map of all.
    UsageError when the convolution has not twice as many filters as its patches have numbers, or its channels are grouped.
    """
    name, layer = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    if layer is None:
        raise UsageError("--whiten needs a net that begins with a convolution", "leave it out", path="--whiten")
    filters, numbers = layer.out_channels, layer.weight[0].numel()
    if layer.groups != 1 or filters != 2 * numbers:
        text = f"--whiten needs {2 * numbers} filters in {name}, two for each of the {numbers} numbers it sees, but it has {filters}"
        raise UsageError(text, "the net cifar-speed has them", path="--whiten")
    places = functional.unfold(images[:1], layer.kernel_size).shape[2]
    patches = functional.unfold(images[: max(1, MOST_PATCHES // places)], layer.kernel_size).transpose(1, 2).reshape(-1, numbers).double()
    mean = patches.mean(0)
    patches -= mean
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    rows = (directions / (variances + SMALLEST).sqrt()).T.flip(0)  # the largest variance first
    rows *= rows[torch.arange(numbers), rows.abs().argmax(1)].sign()[:, None]  # a direction has two signs; one of them on every machine
    rows = torch.cat([rows, -rows])
    layer.weight.copy_(rows.view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(-rows @ mean)
    for parameter in layer.parameters():
        parameter.requires_grad = False


@torch.no_grad()
def pass_on(model: nn.Module) -> None:
    """Let the first filters of every square convolution that keeps the size pass on one input channel each; what is random starts small.

    Filter i is 1 in the middle of channel i and 0 elsewhere (torch's dirac initialisation): signals and gradients reach all layers from the
    first step on (Jordan 2024, section 3.1). The other filters have a norm of about 0.6, so that what is passed on outweighs them, and the
    weights of the last layer a deviation of 1 / inputs: its first scores are nearly equal, and a short training has nothing to unlearn.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.weight.requires_grad and layer.kernel_size[0] % 2:
            nn.init.kaiming_uniform_(layer.weight, a=math.sqrt(5))  # deviation 1 / sqrt(3 fan_in)
            nn.init.dirac_(layer.weight[: layer.in_channels])
    last = next((module for module in reversed(list(model.modules())) if isinstance(module, nn.Linear)), None)
    if last is not None:
        nn.init.normal_(last.weight, std=1 / last.in_features)
