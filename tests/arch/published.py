"""Numbers that other people published, paired with the names of the zoo.

Parameters count every learnable number. MACs are multiply-adds of convolutions and fully connected layers for one image, without
biases. Sources: the papers named in each family of `cnncli.arch.zoo`; where torchvision 0.29 has the net, its parameter counts agree.
"""

from __future__ import annotations

# name: (parameters, MACs)
COUNTS: dict[str, tuple[int, int]] = {
    "mlp": (308_310, 308_200),  # by hand: 3072 x 100 + 100 and 100 x 10 + 10
    "lenet5": (61_706, 416_520),  # LeCun et al. 1998, with a full C3
    "convnetjs-cifar10": (22_466, 3_920_000),  # Karpathy 2014
    "alexnet": (62_378_344, 1_135_256_096),  # Krizhevsky et al. 2012 as one tower, 227 x 227
    "alexnet-two-tower": (60_965_224, 724_406_816),
    "vgg11": (132_863_336, 7_609_090_048),  # Simonyan & Zisserman 2014, table 2: 133 million
    "vgg11-lrn": (132_863_336, 7_609_090_048),
    "vgg13": (133_047_848, 11_308_466_176),
    "vgg16-c": (133_638_952, 11_770_888_192),  # table 2: 134 million
    "vgg16": (138_357_544, 15_470_264_320),  # table 2: 138 million
    "vgg19": (143_667_240, 19_632_062_464),  # table 2: 144 million
    # He et al. 2015, section 4.2: 0.27M, 0.46M, 0.66M, 0.85M and 1.7M parameters, with option A shortcuts
    **dict.fromkeys(("resnet20", "plain20"), (269_722, 40_551_040)),
    **dict.fromkeys(("resnet32", "plain32"), (464_154, 68_862_592)),
    **dict.fromkeys(("resnet44", "plain44"), (658_586, 97_174_144)),
    **dict.fromkeys(("resnet56", "plain56"), (853_018, 125_485_696)),
    **dict.fromkeys(("resnet110", "plain110"), (1_727_962, 252_887_680)),
}
VGG16_CONVOLUTION_MACS = 15_346_630_656  # the 15.3 billion that are often quoted are the convolutions alone

# The summary slide of the lecture: name, output.
ALEXNET_ROWS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("conv1", (96, 55, 55)),
    ("pool1", (96, 27, 27)),
    ("conv2", (256, 27, 27)),
    ("pool2", (256, 13, 13)),
    ("conv3", (384, 13, 13)),
    ("conv4", (384, 13, 13)),
    ("conv5", (256, 13, 13)),
    ("pool3", (256, 6, 6)),
    ("fc6", (4096,)),
    ("fc7", (4096,)),
    ("fc8", (1000,)),
)
ALEXNET_CONV1_PARAMS = 34_944

# net: {layer: side of its receptive field}; computed by hand with r' = r + (F - 1) j, j' = j S.
RECEPTIVE_FIELDS: dict[str, dict[str, int]] = {
    "alexnet": {"conv1": 11, "pool1": 19, "conv2": 51, "pool2": 67, "conv3": 99, "conv4": 131, "conv5": 163, "pool3": 195},
    "vgg11": {"pool5": 150},
    "vgg16": {"pool1": 6, "pool2": 16, "pool3": 44, "pool4": 100, "pool5": 212, "fc6": 404},
    "vgg19": {"pool5": 268},
}
JUMPS: dict[str, dict[str, int]] = {"alexnet": {"conv1": 4, "pool1": 8, "conv3": 16, "pool3": 32}, "vgg16": {"pool5": 32}}

# N, F, S, P, (N - F + 2P)/S + 1 as the lecture writes it; it fits when that is a whole number.
FITS: tuple[tuple[int, int, int, int, str], ...] = (
    (7, 3, 1, 0, "5"),
    (7, 3, 2, 0, "3"),
    (7, 3, 3, 0, "7/3"),
    (7, 3, 1, 1, "7"),
    (32, 5, 1, 2, "32"),
    (32, 5, 1, 0, "28"),
    (227, 11, 4, 0, "55"),
    (224, 11, 4, 0, "217/4"),
    (224, 11, 4, 2, "221/4"),
)
