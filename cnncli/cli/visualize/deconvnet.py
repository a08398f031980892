"""`cnn visualize deconvnet`: what a neuron reacts to, by the deconvnet."""

from __future__ import annotations

from cnncli.cli.visualize.job import NEURON, AskJob, asks
from cnncli.cli.visualize.signal_methods import DECONVNET, PlainGradient, run
from cnncli.data.config import DataConfig


@asks("deconvnet", "images", *NEURON)
def command(job: AskJob, data_config: DataConfig, plain_gradient: PlainGradient = False) -> int:
    """What in an image makes a neuron or a class score strong: the deconvnet (Zeiler and Fergus 2013), the activation sent back through
    transposed filters, ReLUs on the way back and the switches of the pooling. Nets with other activations are refused.

    -o DIR writes deconvnet.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "channel", "position", "value"}), "columns", "files", "left_out"}.
    """
    return run(job, data_config, [DECONVNET], plain_gradient=plain_gradient)
