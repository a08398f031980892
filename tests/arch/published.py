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
    # By hand, nothing being published for these widths: filters 24*12 + 24; 3x3 kernels 24*32, 32*32, 32*128, 128*128, 128*256, 256*256
    # times 9 on maps of 31, 15, 15, 7, 7, 3; two batch norms of each width; 256 x 10.
    "cifar-speed": (1_089_720, 44_274_208),
    "alexnet": (62_378_344, 1_135_256_096),  # Krizhevsky et al. 2012 as one tower, 227 x 227
    "alexnet-two-tower": (60_965_224, 724_406_816),
    "alexnet-owt": (61_100_840, 714_188_480),  # torchvision: 61,100,840 and 0.714e9
    "zfnet": (62_357_608, 1_168_032_896),  # by hand from the sizes of figure 3, see test_zoo_families.py
    "vgg11": (132_863_336, 7_609_090_048),  # Simonyan & Zisserman 2014, table 2: 133 million
    "vgg11-lrn": (132_863_336, 7_609_090_048),
    "vgg13": (133_047_848, 11_308_466_176),
    "vgg16-c": (133_638_952, 11_770_888_192),  # table 2: 134 million
    "vgg16": (138_357_544, 15_470_264_320),  # table 2: 138 million
    "vgg19": (143_667_240, 19_632_062_464),  # table 2: 144 million
    # torchvision: 132,868,840, 133,053,736, 138,365,992 and 143,678,248; twice the channels more than without batch norm
    "vgg11-bn": (132_868_840, 7_609_090_048),
    "vgg13-bn": (133_053_736, 11_308_466_176),
    "vgg16-bn": (138_365_992, 15_470_264_320),
    "vgg19-bn": (143_678_248, 19_632_062_464),
    "googlenet": (6_624_904, 1_498_376_192),  # torchvision: 6,624,904 and 1.498e9
    "googlenet-v1": (6_998_552, 1_582_671_872),  # Szegedy et al. 2014, section 5: about 1.5 billion multiply-adds
    "resnet18": (11_689_512, 1_814_073_344),  # He et al. 2015, table 1: 1.8e9
    "resnet34": (21_797_672, 3_663_761_408),  # 3.6e9
    "resnet50": (25_557_032, 4_089_184_256),  # torchvision: 25,557,032 and 4.089e9
    "resnet101": (44_549_160, 7_801_405_440),
    "resnet152": (60_192_808, 11_513_626_624),
    "resnet50-v1": (25_557_032, 3_857_973_248),  # He et al. 2015, table 1: 3.8e9
    "resnet101-v1": (44_549_160, 7_570_194_432),  # 7.6e9
    "resnet152-v1": (60_192_808, 11_282_415_616),  # 11.3e9
    # Huang et al. 2016, and torchvision: 7,978,856, 14,149,480 and 20,013,928; 2.834e9, 3.36e9 and 4.291e9
    "densenet121": (7_978_856, 2_834_161_664),
    "densenet169": (14_149_480, 3_359_843_328),
    "densenet201": (20_013_928, 4_291_365_888),
    # Huang et al. 2016, table 2: 0.8M, 15.3M and 25.6M parameters; recomputed in test_zoo_families.py
    "densenet-bc-100-12": (769_162, 287_929_692),
    "densenet-bc-250-24": (15_324_406, 5_418_785_724),
    "densenet-bc-190-40": (25_624_430, 9_301_945_740),
    "squeezenet1_1": (1_235_496, 349_151_936),  # torchvision: 1,235,496 and 0.349e9
    "mobilenet_v2": (3_504_872, 300_774_272),  # Sandler et al. 2018, table 4: 300M multiply-adds; torchvision: 3,504,872
    # He et al. 2015, section 4.2: 0.27M, 0.46M, 0.66M, 0.85M and 1.7M parameters, with option A shortcuts; 19.4M at 1202 layers
    **dict.fromkeys(("resnet20", "plain20"), (269_722, 40_551_040)),
    **dict.fromkeys(("resnet32", "plain32"), (464_154, 68_862_592)),
    **dict.fromkeys(("resnet44", "plain44"), (658_586, 97_174_144)),
    **dict.fromkeys(("resnet56", "plain56"), (853_018, 125_485_696)),
    **dict.fromkeys(("resnet110", "plain110"), (1_727_962, 252_887_680)),
    "resnet1202": (19_421_274, 2_829_238_912),
    # Cells that search found. Large NASNet-A and PNASNet-5: timm's nasnetalarge and pnasnet5large have exactly as many of both.
    "nasnet-a": (3_346_538, 544_333_312),  # Zoph et al. 2017, table 1: 3.3M
    "nasnet-a-mobile": (5_289_978, 563_638_816),  # table 3: 5.3M, 564M
    "nasnet-a-large": (88_753_150, 23_783_414_658),  # table 2: 88.9M, 23.8B
    "pnasnet-5": (3_189_082, 574_891_392),  # Liu, Zoph et al. 2017: 3.2M
    "pnasnet-5-mobile": (5_064_487, 587_293_200),  # 5.1M, 588M
    "pnasnet-5-large": (86_057_668, 24_937_395_792),  # 86.1M, 25.0B
    "amoebanet-a": (3_218_266, 509_668_992),  # Real et al. 2018, table 1: 3.2M
    "amoebanet-a-mobile": (5_086_930, 554_687_204),  # 5.1M, 555M
    "darts-v1": (3_169_414, 500_987_520),  # Liu, Simonyan, Yang 2018, without the auxiliary head
    "darts-v2": (3_349_342, 528_359_040),  # table 1: 3.3M
    "darts-v1-imagenet": (4_510_432, 505_864_704),
    "darts-v2-imagenet": (4_718_752, 529_911_552),  # table 3: 4.7M
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
    "zfnet": {"conv1": 7, "pool1": 11, "conv2": 27, "pool2": 43, "conv3": 75, "conv5": 139, "pool3": 171},
    "googlenet-v1": {"conv2": 19, "pool2": 27, "inception_3a.concat": 59, "inception_4e.concat": 427, "inception_5b.concat": 715},
    "googlenet": {"conv2": 19, "pool2": 27, "inception_3a.concat": 43, "inception_4e.concat": 235, "inception_5b.concat": 379},
    "resnet18": {"pool1": 11, "conv5_x.block2.conv2": 435},
    "resnet34": {"pool1": 11, "conv5_x.block3.conv2": 899},
    "resnet50": {"pool1": 11, "conv5_x.block3.conv3": 427},
    "resnet101": {"conv5_x.block3.conv3": 971},
    "resnet152": {"conv5_x.block3.conv3": 1451},
    # Araujo, Norris & Sim 2019, "Computing receptive fields of convolutional neural networks", have these three, too
    "resnet50-v1": {"conv5_x.block3.conv3": 483},
    "resnet101-v1": {"conv5_x.block3.conv3": 1027},
    "resnet152-v1": {"conv5_x.block3.conv3": 1507},
    "densenet121": {"pool1": 11, "block1.concat6": 59, "block2.concat12": 255, "block3.concat24": 1031, "block4.concat16": 2071},
    "mobilenet_v2": {"bottleneck3.block3.project": 59, "bottleneck5.block3.project": 267, "bottleneck7.block1.project": 491},
}
JUMPS: dict[str, dict[str, int]] = {
    "alexnet": {"conv1": 4, "pool1": 8, "conv3": 16, "pool3": 32},
    "vgg16": {"pool5": 32},
    **{
        f"resnet{layers}": {"conv1": 2, "pool1": 4, "conv3_x.block1.add": 8, "conv4_x.block1.add": 16, "conv5_x.block1.add": 32}
        for layers in ("18", "34", "50", "101", "152", "50-v1", "101-v1", "152-v1")
    },
    "densenet121": {"transition1.pool": 8, "transition2.pool": 16, "transition3.pool": 32},
}

# Zeiler & Fergus 2013, figure 3: the sizes under the boxes.
ZFNET_ROWS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("conv1", (96, 110, 110)),
    ("pool1", (96, 55, 55)),
    ("conv2", (256, 26, 26)),
    ("pool2", (256, 13, 13)),
    ("conv3", (384, 13, 13)),
    ("conv4", (384, 13, 13)),
    ("conv5", (256, 13, 13)),
    ("pool3", (256, 6, 6)),
    ("fc6", (4096,)),
    ("fc7", (4096,)),
    ("fc8", (1000,)),
)

# Szegedy et al. 2014, table 1: output size, and multiply-adds in millions. Two of its figures do not follow from its own
# numbers of filters and are left out: 34 for conv1 (118) and 54 for inception_5a (51).
GOOGLENET_TABLE_1: tuple[tuple[str, tuple[int, ...], int | None], ...] = (
    ("conv1", (64, 112, 112), None),
    ("pool1", (64, 56, 56), None),
    ("conv2", (192, 56, 56), 360),  # with its reduction
    ("pool2", (192, 28, 28), None),
    ("inception_3a", (256, 28, 28), 128),
    ("inception_3b", (480, 28, 28), 304),
    ("pool3", (480, 14, 14), None),
    ("inception_4a", (512, 14, 14), 73),
    ("inception_4b", (512, 14, 14), 88),
    ("inception_4c", (512, 14, 14), 100),
    ("inception_4d", (528, 14, 14), 119),
    ("inception_4e", (832, 14, 14), 170),
    ("pool4", (832, 7, 7), None),
    ("inception_5a", (832, 7, 7), None),
    ("inception_5b", (1024, 7, 7), 71),
    ("pool5", (1024, 1, 1), None),
    ("fc", (1000,), 1),
)

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
