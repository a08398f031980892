"""The nets of the NASNet search space: NASNet-A, PNASNet-5 and AmoebaNet-A.

Zoph, Vasudevan, Shlens, Le 2017, "Learning transferable architectures for scalable image recognition"; Liu et al. 2017, "Progressive
neural architecture search"; Real, Aggarwal, Huang, Le 2018, "Regularized evolution for image classifier architecture search". The
figures leave details to the authors' published TensorFlow code, which is followed here:
- a cell's input of other size or channels is projected, but the first cell reads the stem as it is, with its own channels;
- NASNet-A's and AmoebaNet-A's normal cells concatenate `before` too, although their nodes read it;
- a skip that halves the image is a 1x1 convolution; pooling does not count padding;
- N normal cells stand before, between and behind the two reduction cells: 3N + 2 cells. PNASNet's one cell keeps or halves the
  size, and its halving cells count as the first of their N: 3N cells;
- on ImageNet a 3x3 convolution with stride 2 and two reduction cells (of F/4 and F/2 filters) come first; on CIFAR, for which
  AmoebaNet's code is not published, NASNet's 3x3 convolution with 3F filters.
TensorFlow pads an even size by one pixel less on the left and top where it halves it; here padding is the same on all sides, which
changes no size and no cost, but puts the windows one pixel further up and left.

The papers' figures, parameters and multiply-adds: NASNet-A 3.3M (CIFAR), 5.3M and 564M (mobile), 88.9M and 23.8B (large); PNASNet-5
3.2M, 5.1M and 588M, 86.1M and 25.0B; AmoebaNet-A 3.2M (N=6, F=36), 5.1M and 555M (N=4, F=50). The nets here round to them or
differ by less than 0.3%. The AmoebaNet-A in the table of the DARTS authors' code is another one: its nodes read other inputs, its
output leaves out `before`, and its 1x7 and 7x1 convolutions have no bottleneck.
"""

from __future__ import annotations

from cnncli.arch.blocks import chain
from cnncli.arch.cells import State, Stem, cell_net
from cnncli.arch.genotype import Genotype, cell
from cnncli.arch.layers import Conv
from cnncli.arch.net import Net
from cnncli.arch.operations import Conventions
from cnncli.arch.pointwise import BatchNorm

PAPERS = {
    "nasnet-a": "Zoph et al. 2017, Learning transferable architectures for scalable image recognition",
    "pnasnet-5": "Liu et al. 2017, Progressive neural architecture search",
    "amoebanet-a": "Real et al. 2018, Regularized evolution for image classifier architecture search",
}
CIFAR_CONVENTIONS = Conventions(factorized_skip=False, raw_start=True, final_relu=True)
IMAGENET_CONVENTIONS = Conventions(factorized_skip=False, raw_start=True, final_relu=True, eps=1e-3)
ALL_NODES = "node1 node2 node3 node4 node5"

_PNASNET_5 = cell(
    "sep5x5(before) + max3x3(before)",
    "sep7x7(last) + max3x3(last)",
    "sep5x5(last) + sep3x3(last)",
    "sep3x3(node3) + max3x3(last)",
    "sep3x3(before) + skip(last)",
    output=ALL_NODES,
)

GENOTYPES = {
    "nasnet-a": Genotype(
        normal=cell(
            "sep5x5(last) + sep3x3(before)",
            "sep5x5(before) + sep3x3(before)",
            "avg3x3(last) + skip(before)",
            "avg3x3(before) + avg3x3(before)",
            "sep3x3(last) + skip(last)",
            output=f"before {ALL_NODES}",
        ),
        reduce=cell(
            "sep5x5(last) + sep7x7(before)",
            "max3x3(last) + sep7x7(before)",
            "avg3x3(last) + sep5x5(before)",
            "skip(node2) + avg3x3(node1)",
            "sep3x3(node1) + max3x3(last)",
            output="node2 node3 node4 node5",
        ),
    ),
    "pnasnet-5": Genotype(normal=_PNASNET_5, reduce=_PNASNET_5),
    "amoebanet-a": Genotype(
        normal=cell(
            "avg3x3(last) + max3x3(last)",
            "sep3x3(before) + skip(before)",
            "skip(last) + avg3x3(before)",
            "sep3x3(last) + sep5x5(node1)",
            "avg3x3(node4) + sep3x3(last)",
            output="before node2 node3 node5",
        ),
        reduce=cell(
            "sep3x3(before) + avg3x3(last)",
            "max3x3(last) + sep7x7(node1)",
            "max3x3(before) + max3x3(last)",
            "sep3x3(node3) + conv1x7_7x1(last)",
            "avg3x3(before) + sep7x7(last)",
            output=ALL_NODES,
        ),
    ),
}


def nasnet_cifar(
    *, input: tuple[int, int, int] = (3, 32, 32), classes: int = 10, name: str, genotype: str, filters: int, cells: int
) -> Net:
    """The net for small images: a 3x3 convolution with three times the filters, then the cells. genotype: a key of GENOTYPES."""
    stem = chain(conv=Conv(3 * filters, kernel=3, padding=1, bias=False), bn=BatchNorm(eps=CIFAR_CONVENTIONS.eps))
    start = State("stem", 3 * filters, halvings=0)
    root = cell_net(
        GENOTYPES[genotype], CIFAR_CONVENTIONS, Stem((("stem", stem),), start, start), filters=filters, cells=cells, classes=classes
    )
    return Net(name, root, input, classes, PAPERS[genotype])


def nasnet_imagenet(
    *,
    input: tuple[int, int, int] = (3, 224, 224),
    classes: int = 1000,
    name: str,
    genotype: str,
    filters: int,
    cells: int,
    stem_filters: int,
    past_reduction: bool,
) -> Net:
    """The net for large images: a 3x3 convolution with stride 2, two reduction cells, then the cells.

    genotype: a key of GENOTYPES. past_reduction: see `cell_net`; it is so in the large NASNet-A alone.
    """
    stem = chain(conv=Conv(stem_filters, kernel=3, stride=2, bias=False), bn=BatchNorm(eps=IMAGENET_CONVENTIONS.eps))
    start = State("stem", stem_filters, halvings=1)
    root = cell_net(
        GENOTYPES[genotype],
        IMAGENET_CONVENTIONS,
        Stem((("stem", stem),), start, start),
        filters=filters,
        cells=cells,
        classes=classes,
        stem_cells=2,
        dropout=0.5,
        past_reduction=past_reduction,
    )
    return Net(name, root, input, classes, PAPERS[genotype])
