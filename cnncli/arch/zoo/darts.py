"""DARTS, Liu, Simonyan, Yang 2018, "DARTS: Differentiable architecture search", section 3 and appendix A.

v1 is the first-order search, v2 the second-order one; both found their cells on CIFAR-10. There 20 of them with 36 filters
make the net, 3.3 million parameters in the paper (v1 has 3.17, v2 3.35); on ImageNet 14 cells with 48 filters stand behind two
convolutional stems, 4.7 million parameters and 574 million multiply-adds in the paper, of which the convolutions and the
classifier of v2 are 530 million. Genotypes and conventions are those of the authors' published code.
"""

from __future__ import annotations

from cnncli.arch.blocks import chain
from cnncli.arch.cells import State, Stem, cell_net
from cnncli.arch.genotype import Genotype, cell
from cnncli.arch.layers import Conv
from cnncli.arch.net import Net
from cnncli.arch.operations import RELU, Conventions
from cnncli.arch.pointwise import BatchNorm

PAPER = "Liu et al. 2018, DARTS: Differentiable architecture search"
CONVENTIONS = Conventions(factorized_skip=True, raw_start=False, final_relu=False)
ALL_NODES = "node1 node2 node3 node4"

GENOTYPES = {
    "v1": Genotype(
        normal=cell(
            "sep3x3(last) + sep3x3(before)",
            "skip(before) + sep3x3(last)",
            "skip(before) + sep3x3(last)",
            "sep3x3(before) + skip(node1)",
            output=ALL_NODES,
        ),
        reduce=cell(
            "max3x3(before) + max3x3(last)",
            "skip(node1) + max3x3(before)",
            "max3x3(before) + skip(node1)",
            "skip(node1) + avg3x3(before)",
            output=ALL_NODES,
        ),
    ),
    "v2": Genotype(
        normal=cell(
            "sep3x3(before) + sep3x3(last)",
            "sep3x3(before) + sep3x3(last)",
            "sep3x3(last) + skip(before)",
            "skip(before) + dil3x3(node1)",
            output=ALL_NODES,
        ),
        reduce=cell(
            "max3x3(before) + max3x3(last)",
            "skip(node1) + max3x3(last)",
            "max3x3(before) + skip(node1)",
            "skip(node1) + max3x3(last)",
            output=ALL_NODES,
        ),
    ),
}


def darts_cifar(
    *,
    input: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    name: str,
    genotype: Genotype | str,
    filters: int,
    cells: int,
) -> Net:
    """The net for small images: a 3x3 convolution with three times the filters, then the cells.

    genotype: a key of GENOTYPES, or one that another search found.
    """
    stem = chain(conv=Conv(3 * filters, kernel=3, padding=1, bias=False), bn=BatchNorm())
    start = State("stem", 3 * filters, halvings=0)
    return _net(genotype, Stem((("stem", stem),), start, start), name=name, filters=filters, cells=cells, input=input, classes=classes)


def darts_imagenet(
    *,
    input: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    name: str,
    genotype: Genotype | str,
    filters: int,
    cells: int,
) -> Net:
    """The net for large images: three convolutions with stride 2 bring 224 pixels to 28; the first cell reads the last two."""
    stem1 = chain(
        conv1=Conv(filters // 2, kernel=3, stride=2, padding=1, bias=False),
        bn1=BatchNorm(),
        relu1=RELU,
        conv2=Conv(filters, kernel=3, stride=2, padding=1, bias=False),
        bn2=BatchNorm(),
    )
    stem2 = chain(relu=RELU, conv=Conv(filters, kernel=3, stride=2, padding=1, bias=False), bn=BatchNorm())
    before, last = State("stem1", filters, halvings=2), State("stem2", filters, halvings=3)
    both = Stem((("stem1", stem1), ("stem2", stem2)), before, last)
    return _net(genotype, both, name=name, filters=filters, cells=cells, input=input, classes=classes)


def _net(genotype: Genotype | str, stem: Stem, *, name: str, filters: int, cells: int, input: tuple[int, int, int], classes: int) -> Net:
    found = GENOTYPES[genotype] if isinstance(genotype, str) else genotype
    return Net(name, cell_net(found, CONVENTIONS, stem, filters=filters, cells=cells, classes=classes), input, classes, PAPER)
