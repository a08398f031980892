"""The methods of `cnn visualize`: what each draws, what it needs, and where it is. Nothing here needs torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """name: as it is typed. about: one line. paper: where it is from. needs: `model` alone, or `images` too.

    relus: whether it has a rule for ReLUs, and none for other activations.
    """

    name: str
    about: str
    paper: str
    needs: str
    relus: bool = False


METHODS = (
    Method("filters", "the weights of a convolution, as pictures", "Krizhevsky et al. 2012, figure 3", "model"),
    Method("activations", "the maps of a layer for an image, the strongest first", "Zeiler and Fergus 2013, section 4", "images"),
    Method("saliency", "how much each pixel changes a score or a neuron", "Simonyan et al. 2013, section 3", "images"),
    Method("guided", "what a neuron reacts to, by guided backpropagation", "Springenberg et al. 2014, section 3.4", "images", relus=True),
    Method("deconvnet", "what a neuron reacts to, by the deconvnet", "Zeiler and Fergus 2013, section 2.1", "images", relus=True),
    Method(
        "gradcam", "where in the image a class is seen: Grad-CAM, Grad-CAM++", "Selvaraju et al. 2017, Chattopadhay et al. 2018", "images"
    ),
    Method("integrated", "what each pixel adds to a class score", "Sundararajan et al. 2017, equation 1", "images"),
    Method("occlusion", "how a class fares when parts are covered", "Zeiler and Fergus 2013, figure 7", "images"),
    Method("compare", "saliency, deconvnet and guided backpropagation side by side", "the three", "images", relus=True),
    Method("patches", "what each channel of a layer is strongest on, in a whole set", "Girshick et al. 2014, figure 4", "images"),
    Method("top9", "these patches, and what of them the channel reacts to", "Zeiler and Fergus 2013, figure 2", "images", relus=True),
    Method(
        "sanity",
        "how far a picture depends on the weights; deletion, insertion",
        "Adebayo et al. 2018, Petsiuk et al. 2018",
        "images",
    ),
    Method("classes", "mean saliency of each class, its best and its worst images", "Simonyan et al. 2013, section 3", "images"),
)
