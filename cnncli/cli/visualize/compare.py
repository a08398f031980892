"""`cnn visualize compare`: saliency, guided backpropagation and the deconvnet side by side."""

from __future__ import annotations

from cnncli.cli.visualize.job import NEURON, AskJob, asks
from cnncli.cli.visualize.signal_methods import DECONVNET, GUIDED, SALIENCY, PlainGradient, run
from cnncli.data.config import DataConfig


@asks("compare", "images", *NEURON)
def command(job: AskJob, data_config: DataConfig, plain_gradient: PlainGradient = False) -> int:
    """Saliency, the deconvnet and guided backpropagation side by side: one way back to the pixels, three rules for ReLUs.

    -o DIR writes compare.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "channel", "position", "value"}), "columns", "files", "left_out"}.
    """
    return run(job, data_config, [SALIENCY, DECONVNET, GUIDED], plain_gradient=plain_gradient)
