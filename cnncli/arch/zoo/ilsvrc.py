"""The ImageNet challenge (ILSVRC), classification: what its winners got wrong, and how deep their nets were."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass


@dataclass(frozen=True)
class Entry:
    """One entry: the percentage of test images whose class is not among its five guesses, and its place that year.

    layers: depth of its nets in layers with weights; None where that is no number, and `kind` says why. net: the zoo's net that
    it averages several of, where the zoo has one.
    """

    year: int
    name: str
    error: float
    source: str
    _: KW_ONLY
    layers: int | None = None
    kind: str = ""
    net: str | None = None
    place: int = 1


RUSSAKOVSKY = "Russakovsky et al. 2015, ImageNet large scale visual recognition challenge"

# The winner of each year, and 2014's second place, whose nets were built on more than the winner's.
ENTRIES = (
    Entry(2010, "NEC-UIUC", 28.2, RUSSAKOVSKY, kind="shallow"),
    Entry(2011, "XRCE", 25.8, RUSSAKOVSKY, kind="shallow"),
    Entry(2012, "AlexNet", 16.4, RUSSAKOVSKY, layers=8, net="alexnet-two-tower"),  # 15.3 with more images than the challenge's
    Entry(2013, "Clarifai", 11.7, RUSSAKOVSKY, layers=8, net="zfnet"),
    Entry(2014, "VGG", 7.3, RUSSAKOVSKY, layers=19, net="vgg19", place=2),
    Entry(2014, "GoogLeNet", 6.7, RUSSAKOVSKY, layers=22, net="googlenet-v1"),
    Entry(2015, "ResNet", 3.57, "He et al. 2015, table 5", layers=152, net="resnet152-v1"),
    Entry(2016, "Trimps-Soushen", 2.99, "the results page of ILSVRC 2016", kind="various"),
    Entry(2017, "SENet", 2.251, "Hu et al. 2017, abstract", layers=154),
)
HUMAN_ERROR = 5.1  # the better of two trained annotators on 1,500 test images: Russakovsky et al. 2015, section 6.4
