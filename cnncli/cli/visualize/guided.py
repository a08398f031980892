"""`cnn visualize guided`: what a neuron reacts to, by guided backpropagation."""

from __future__ import annotations

from cnncli.cli.visualize.job import NEURON, AskJob, asks
from cnncli.cli.visualize.signal_methods import GUIDED, PlainGradient, run
from cnncli.data.config import DataConfig


@asks("guided", "images", *NEURON)
def command(job: AskJob, data_config: DataConfig, plain_gradient: PlainGradient = False) -> int:
    """What in an image makes a neuron or a class score strong: guided backpropagation (Springenberg et al. 2014), the gradient with what
    inhibits left out at every ReLU. Of nets with other activations there is no such rule, and they are refused.

    -o DIR writes guided.png, a line an image, twelve a page. JSON: {"title", "random": the seed of random weights or null, "images":
    ({"path", "class", "channel", "position", "value"}), "columns", "files", "left_out"}.
    """
    return run(job, data_config, [GUIDED], plain_gradient=plain_gradient)
