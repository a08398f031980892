"""Running a trained model on images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from cnncli.engine.tta import averaged


@torch.inference_mode()
def scores(model: nn.Module, batches: Iterable[torch.Tensor], views: str = "none") -> Iterator[torch.Tensor]:
    """The scores (N, classes), on the CPU in float32, of each batch (N, C, H, W) of preprocessed images; averaged as in `averaged`.

    The model is put in evaluation mode: an image's scores do not depend on the others of its batch.
    """
    model.eval()
    for images in batches:
        yield averaged(model, images, views).float().cpu()
