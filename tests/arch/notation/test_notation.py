"""The lecture's notation: what it means, what it refuses and where it points, and that it can be written again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from random import Random

import pytest
import torch
from published import ALEXNET_ROWS, COUNTS
from randomnets import random_net
from torch.nn.functional import cross_entropy

from cnncli.arch.blocks import INPUT, Add, Chain, Concatenate, Graph, Residual
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear, Pool, ShapeError
from cnncli.arch.net import Net, smallest_side, totals, walk
from cnncli.arch.notation.check import smallest_input
from cnncli.arch.notation.labels import WORDS
from cnncli.arch.notation.language import GRAMMAR, looks_like_notation, parse, write
from cnncli.arch.pointwise import Activation, BatchNorm, Dropout, LocalResponseNorm
from cnncli.arch.serial import net_from_json, net_to_json
from cnncli.arch.window import Window
from cnncli.arch.zoo.table import ZOO, build
from cnncli.arch.zoo.vgg import TABLE_1
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble

LECTURE = "[(CONV-RELU)*2-POOL]*3-(FC-RELU)*1-SOFTMAX"


def names(net: Net) -> list[str]:
    return [row.name for row in walk(net)]


def parts(net: Net) -> list[object]:
    return [row.part for row in walk(net)]


def facts(net: Net) -> list[object]:
    """Everything about the rows of a net but their names."""
    return [row._replace(name="", part=None) for row in walk(net)]


def refusal(text: str, **arguments) -> str:
    with pytest.raises(UsageError) as caught:
        parse(text, **arguments)
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()
    return str(caught.value)


# What it means.


def test_the_lectures_example() -> None:
    """By hand: 3x3 convolutions that keep the size, 64, 128, 256 filters, a hidden layer of 512, 10 classes."""
    net = parse(LECTURE)
    rows = walk(net)
    assert [(row.name, row.output) for row in rows if row.params or row.name.startswith("pool")] == [
        ("conv1_1", (64, 32, 32)),
        ("conv1_2", (64, 32, 32)),
        ("pool1", (64, 16, 16)),
        ("conv2_1", (128, 16, 16)),
        ("conv2_2", (128, 16, 16)),
        ("pool2", (128, 8, 8)),
        ("conv3_1", (256, 8, 8)),
        ("conv3_2", (256, 8, 8)),
        ("pool3", (256, 4, 4)),
        ("fc4", (512,)),
        ("fc5", (10,)),
    ]
    convolutions = sum(9 * c * k + k for c, k in ((3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)))
    assert totals(rows, net.input).params == convolutions + 256 * 4 * 4 * 512 + 512 + 512 * 10 + 10
    assert [name for name in names(net) if "relu" in name] == [f"relu{n}" for n in ("1_1", "1_2", "2_1", "2_2", "3_1", "3_2", "4")]
    assert net.name == LECTURE
    assert (net.classes, net.input, net.paper) == (10, (3, 32, 32), "")


@pytest.mark.parametrize(
    ("name", "column"), [("vgg11", "A"), ("vgg11-lrn", "A-LRN"), ("vgg13", "B"), ("vgg16-c", "C"), ("vgg16", "D"), ("vgg19", "E")]
)
def test_vggs_own_table_can_be_pasted(name: str, column: str) -> None:
    net = parse(TABLE_1[column] + "\n            maxpool FC-4096\nFC-4096 FC-1000 soft-max".replace("maxpool ", ""), input=(3, 224, 224))
    assert totals(walk(net), net.input)[:2] == COUNTS[name]
    assert net.classes == 1000


def test_alexnet_of_the_lecture_and_of_the_paper() -> None:
    rest = "conv5-256 maxpool3/s2 conv3-384 conv3-384 conv3-256 maxpool3/s2 FC-4096 FC-4096 FC-1000 softmax"
    lecture = parse(f"conv11-96/s4 maxpool3/s2 {rest}", input=(3, 227, 227))
    assert [row.output for row in walk(lecture) if row.operation != "flatten"] == [output for _, output in ALEXNET_ROWS]
    assert totals(walk(lecture), lecture.input)[:2] == COUNTS["alexnet"]
    paper = parse(f"conv11-96/s4/p2 maxpool3/s2 {rest}", input=(3, 224, 224))
    assert walk(paper)[0].output == (96, 55, 55)


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("CONV-RELU-POOL-FC", "conv3-64 relu maxpool2/s2 FC-10 softmax"),
        ("INPUT -> [[CONV -> RELU]*2 -> POOL]*1 -> FC", "conv3-64 relu conv3-64 relu maxpool FC-10"),
        ("conv,relu,pool,fc", "conv relu pool fc"),
        ("Conv - ReLU - Pool - Fc", "conv relu pool fc"),
        ("conv3\u201364 \u2192 relu \u2014 FC\u221210", "conv3-64 relu FC-10"),
        ("conv\n  relu\n\tpool\nfc", "conv relu pool fc"),
        ("CONV*2", "CONV CONV"),
        ("(conv3-8 relu) * 2 softmax", "conv3-8 relu conv3-8 relu softmax"),
        ("[{conv1-8}]*2", "{conv1-8}{conv1-8}"),
        ("(conv3-8)(relu)", "conv3-8 relu"),
        ("conv3x3-8 conv3X1-8", "conv3-8 conv3x1-8"),
        ("conv5-8/2", "conv5-8/s2/p0"),
        ("conv5-8/s1x2", "conv5-8/s1x2/p2x0"),
        ("conv3-8/d2", "conv3-8/d2/p2"),
        ("conv4-8", "conv4-8/p1"),
        ("conv-8", "conv3-8"),
        ("max-pool max_pool MaxPool pool2", "maxpool*4"),
        ("pool3", "maxpool3/s3"),
        ("average-pool avgpool2x2/s2", "avg-pool*2"),
        ("gap", "avgpool/to1"),
        ("global-max-pool", "maxpool/to1x1"),
        ("batchnorm drop swish leakyrelu", "BN dropout0.5 silu leaky-relu"),
        ("dropout-0.3 LRN5", "dropout0.3 lrn"),
        ("FC-7", "linear-7"),
        ("FC softmax", "FC"),
        ("conv3-8 FC", "conv3-8 flatten FC"),
        ("conv3-8 softmax", "conv3-8 FC-10"),
        ("FC relu softmax", "FC-512 relu FC-10"),
        ("FC-5 dropout softmax", "FC-5 dropout FC-10"),
        ("conv3-1024 pool conv3-1024", "conv3-1024 pool conv"),
        ("{conv3-3 | }+", "{conv3-3}+"),
        ("conv3-3 {relu conv3}+", "conv3-3 {relu conv3-3 | }+"),
    ],
)
def test_spellings(text: str, same_as: str) -> None:
    assert facts(parse(text)) == facts(parse(same_as))


LABELS = [
    ("conv3-8", Conv(8, kernel=3, padding=1)),
    ("conv1-8", Conv(8, kernel=1)),
    ("conv5-8/s2", Conv(8, kernel=5, stride=2)),
    ("conv5-8/s2/p2", Conv(8, kernel=5, stride=2, padding=2)),
    ("conv1x7-9/g3", Conv(9, kernel=(1, 7), padding=(0, 3), groups=3)),
    ("conv3-8/d2/nobias", Conv(8, kernel=3, padding=2, dilation=2, bias=False)),
    ("conv3x5-8/s1x2/p2x0/d1x3", Conv(8, kernel=(3, 5), stride=(1, 2), padding=(2, 0), dilation=(1, 3))),
    ("maxpool", Pool("max", kernel=2)),
    ("avgpool3/s2/p1/ceil", Pool("average", kernel=3, stride=2, padding=1, ceil=True)),
    ("maxpool2x3", Pool("max", kernel=(2, 3))),
    ("avgpool/to3x4", AdaptivePool("average", size=(3, 4))),
    ("globalmaxpool", AdaptivePool("max")),
    ("BN", BatchNorm()),
    ("BN/eps0.001", BatchNorm(eps=0.001)),
    ("LRN3", LocalResponseNorm(size=3)),
    ("dropout0.25", Dropout(0.25)),
    ("dropout1", Dropout(1.0)),
    ("leaky-relu", Activation("leaky-relu")),
    ("relu6", Activation("relu6")),
    ("flatten", Flatten()),
]


@pytest.mark.parametrize(("text", "part"), LABELS, ids=[text for text, _ in LABELS])
def test_one_label(text: str, part: object) -> None:
    net = parse(text)
    (made,) = parts(net)
    assert made.operation() == part.operation()
    rebuilt = vars(made) | {"stride": made.windows((3, 32, 32))[0].stride} if isinstance(made, Pool) else vars(made)
    wanted = vars(part) | {"stride": part.windows((3, 32, 32))[0].stride} if isinstance(part, Pool) else vars(part)
    assert rebuilt == wanted
    assert write(net) == text


def test_bare_words_follow_vgg() -> None:
    """64 filters, doubled behind every POOL, at most 512; an explicit number is the new beginning."""
    net = parse("(CONV POOL)*5", input=(3, 64, 64))
    assert [part.filters for part in parts(net) if isinstance(part, Conv)] == [64, 128, 256, 512, 512]
    net = parse("conv3-5 POOL CONV avgpool/to4 CONV maxpool3/s1 CONV conv3-7 CONV")
    assert [part.filters for part in parts(net) if isinstance(part, Conv)] == [5, 10, 10, 10, 7, 7]
    net = parse("conv3-5 {CONV POOL CONV | conv1-7/s2 CONV} CONV")
    assert [part.filters for part in parts(net) if isinstance(part, Conv)] == [5, 5, 10, 7, 7, 5]


def test_names() -> None:
    """VGG's where pools divide the net into groups, AlexNet's where each has one convolution; always unique."""
    assert names(parse("conv relu pool conv relu pool FC relu dropout FC")) == (
        ["conv1", "relu1", "pool1", "conv2", "relu2", "pool2", "flatten", "fc3", "relu3", "drop3", "fc4"]
    )
    assert names(parse("conv BN relu conv BN relu pool conv LRN relu6 FC"))[:7] == [
        "conv1_1",
        "bn1_1",
        "relu1_1",
        "conv1_2",
        "bn1_2",
        "relu1_2",
        "pool1",
    ]
    assert names(parse("relu relu conv relu relu softmax")) == ["relu", "relu_2", "conv1", "relu1", "relu1_2", "flatten", "fc2"]
    residual = names(parse("conv3-8 ({conv BN relu | conv1}+ relu)*2 {conv1-4 | pool3/s1/p1} tanh softmax"))
    assert residual == (
        ["conv1"]
        + [f"block{i}.{name}" for i in (1, 2) for name in ("conv1", "bn1", "relu1", "shortcut.conv1", "add", "out")]
        + ["mixed1.branch1.conv1", "mixed1.branch2.pool1", "mixed1.concat", "tanh_mixed1", "flatten", "fc2"]
    )
    for text in ("relu*50", "(conv relu pool/s1)*9 relu*9", "(FC relu relu)*30", "(pool/s1 LRN)*5 (conv conv pool/s1)*3"):
        every = names(parse(text))
        assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    ("text", "classes", "found"),
    [
        ("conv3-8 FC", None, 10),
        ("conv3-8 FC", 7, 7),
        ("conv3-8 FC-5", None, 5),
        ("conv3-8 FC-5 softmax", 5, 5),
        ("conv3-8 softmax", 4, 4),
        ("FC-5 relu softmax", 4, 4),
        ("softmax", 3, 3),
        ("(FC)*3 softmax", 6, 6),
        ("conv1-6 globalpool flatten", 6, 6),
        ("conv1-6 globalpool flatten", None, 6),
    ],
)
def test_classes(text: str, classes: int | None, found: int) -> None:
    net = parse(text, classes=classes)
    assert net.classes == found
    assert walk(net)[-1].output == (found,)
    assert net.paper == ""


def test_a_net_without_classifier_says_so() -> None:
    net = parse("conv3-8 relu pool")
    assert net.classes == 8 * 16 * 16
    assert net.paper == "no classifier: its outputs are features, 8x16x16"
    assert "ends in 8x16x16 and not in 10 classes; end it with SOFTMAX" in refusal("conv3-8 relu pool", classes=10)


def test_input_and_name_are_the_callers() -> None:
    net = parse("conv3-8 FC", input=(1, 9, 12), name="mine")
    assert (net.input, net.name) == ((1, 9, 12), "mine")
    assert parse("conv99-8/p0 FC-5", input=None).input == (3, 32, 32), "without an input, nothing is checked against it"
    long = parse("conv3-16 relu " * 20 + "softmax")
    assert len(long.name) == 60
    assert long.name.startswith("conv3-16 relu conv3-16")
    assert parse(" conv3-8\n\trelu ").name == "conv3-8 relu"


# It trains: a module, weights, a stored description.


@pytest.mark.parametrize(
    "text",
    [LECTURE.replace("CONV", "conv3-4"), "conv3-4 relu ({conv3-4 BN relu conv3-4 BN}+ relu)*2 {conv1-2 | pool3/s1/p1} globalpool softmax"],
)
def test_it_trains_and_is_stored(text: str) -> None:
    net = parse(text, input=(1, 16, 16), classes=3)
    torch.manual_seed(0)
    model = assemble(net).train()
    images, targets = torch.randn(12, 1, 16, 16), torch.arange(12) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        loss = cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert net_from_json(net_to_json(net)) == net


# What it refuses, and where it points.

MISTAKES = [
    ("[(CONV-*RELU)*2-POOL]", 'expected a layer at character 8, found "*": [(CONV->>>*<<<RELU)*2-POOL]'),
    ("CONV--RELU", 'expected a layer at character 6, found "-": CONV->>>-<<<RELU'),
    ("CONV-RELU-", "expected a layer at character 11, found the end"),
    ("CONV-(RELU-)", 'expected a layer at character 12, found ")"'),
    ("CONV-()", 'expected a layer at character 7, found ")": CONV-(>>>)<<<; there is no layer before it'),
    ("", "expected a layer at character 1, found the end"),
    (" \n ", "expected a layer at character 4, found the end"),
    ("conv3-64 maxpol FC-10", 'unknown layer "maxpol" at character 10: conv3-64 >>>maxpol<<< FC-10; did you mean maxpool'),
    ("CONV-RELUU-POOL", 'unknown layer "RELUU" at character 6: CONV->>>RELUU<<<-POOL; did you mean relu'),
    ("COVN3-64", 'unknown layer "COVN3" at character 1: >>>COVN3<<<-64; did you mean conv'),
    ("conv3-64-64", 'expected a layer at character 10, found "6": conv3-64->>>6<<<4; a number belongs directly behind its word'),
    ("conv3 - 64", 'expected a layer at character 9, found "6"'),
    ("(CONV-RELU", "a ( that is never closed at character 1: >>>(<<<CONV-RELU; add a )"),
    ("[(CONV]-RELU)", 'expected a layer at character 7, found "]": [(CONV>>>]<<<-RELU); a ) is wanted'),
    ("CONV)", 'expected a layer at character 5, found ")": CONV>>>)<<<; nothing is open that it closes'),
    ("CONV*N", 'unexpected "*" at character 5: CONV>>>*<<<N; write a number behind the *'),
    ("CONV*0", "the number of repetitions should be from 1 to 10,000 at character 6: CONV*>>>0<<<"),
    ("CONV*2*3", 'unexpected "*" at character 7'),
    ("CONV*2.5", 'unexpected "*" at character 5'),
    ("CONV-POOL?", 'unexpected "?" at character 10: CONV-POOL>>>?<<<; POOL? leaves open'),
    ("CONV+", 'unexpected "+" at character 5: CONV>>>+<<<; a + stands only behind braces'),
    ("conv3-64b", 'unexpected "b" at character 9'),
    ("conv\u0663-64", 'unexpected "\u0663" at character 5'),
    ("conv3-\u0666\u0664", 'expected a layer at character 7, found "\u0666"'),
    ("conv3-64\0relu", r'unexpected "\x00" at character 9'),
    ("{conv3-8}+ {}", "there is no layer between these braces at character 12: {conv3-8}+ >>>{}<<<"),
    ("{conv|conv|conv}+", "only two branches can be added at character 1"),
    ("conv | relu", 'expected a layer at character 6, found "|"'),
    ("conv3-64/s0", 'layer 1, "conv3-64/s0" at character 1: conv: stride=0 should be a whole number from 1'),
    ("CONV-conv3-64/d0", 'layer 2, "conv3-64/d0" at character 6: conv: dilation=0 should'),
    ("(CONV)*2-conv3-64/g7", 'layer 3, "conv3-64/g7" at character 10: conv: 64 filters cannot be divided into 7 groups'),
    ("conv0-64", 'layer 1, "conv0-64" at character 1: conv: kernel=0 should'),
    ("conv3.5-64", '"conv3.5-64" at character 1: 3.5 should be a whole number'),
    ("pool3/p2", '"pool3/p2" at character 1: pool: padding 2 is more than half of the kernel 3'),
    ("conv3-1000000000000", "filters=1000000000000 should be a whole number from 1 to 10000000"),
    ("conv3-9223372036854775808", "a number of 19 digits is too large"),
    ("FC10", 'layer 2, "FC10" at character 1: FC takes no number directly behind it; write FC-10'),
    ("maxpool-2", "maxpool takes no number behind a dash; write maxpool2"),
    ("relu-3", "relu takes no number behind a dash; leave the number out"),
    ("relu/s2", "relu takes no option /s2; leave it out"),
    ("conv3-64/q2", "conv takes no option /q2; it takes /s2 stride"),
    ("conv3-64/s", "conv takes no option /s; did you mean s"),
    ("conv3-64/", "conv takes no option /; it takes /s2 stride"),
    ("conv3-64/s2/2", "the option /s stands twice"),
    ("maxpool3/to7", "/to fixes the size of the output"),
    ("dropout1.5", "dropout: p=1.5 should be a number from 0 to 1"),
    ("dropout1x2", "dropout takes one number"),
    ("BN/eps1x2", "/eps takes one number"),
    ("subsample", "subsample needs its number of filters; write subsample-32/s2"),
    ("CONV-SOFTMAX-RELU", 'layer 2, "SOFTMAX" at character 6: it ends the whole net'),
    ("(CONV-SOFTMAX)*2", 'layer 2, "SOFTMAX" at character 7: it ends the whole net'),
    ("CONV-INPUT-RELU", 'layer 2, "INPUT" at character 6: it begins the whole net'),
    ("INPUT", '"INPUT" at character 1 is no net yet'),
    ("INPUT-3 conv", '"INPUT-3" at character 1 takes no number and no option; write INPUT; --input gives the size'),
    ("conv SOFTMAX-10", '"SOFTMAX-10" at character 6 takes no number and no option; write FC-10 SOFTMAX'),
    ("({conv1-3}+)*3 conv3-64/s0", 'layer 7, "conv3-64/s0" at character 16'),
    ("({conv})*5001", "more than 10,000 layers at character 1"),
    ("FC conv", 'layer 3, "conv" at character 4: conv 3x3, 64, pad 1 needs an image'),
    ("conv3-64/g2", 'layer 1, "conv3-64/g2" at character 1: conv 3x3, 64, pad 1, groups 2 cannot divide 3 input channels into 2 groups'),
    ("conv3-8 {conv3-9 relu}+", 'layer 4, "{conv3-9 relu}+" at character 9: add needs inputs of one shape, but has 9x32x32 and 8x32x32'),
    ("{conv | pool}", 'layer 3, "{conv | pool}" at character 1: concat needs inputs of one height and width'),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES, ids=[ascii(text) for text, _ in MISTAKES])
def test_mistakes_are_pointed_at(text: str, message: str) -> None:
    said = refusal(text)
    assert said.startswith("notation: ")
    assert message in said
    if match := re.search(r"at character (\d+)", said):
        assert 1 <= int(match[1]) <= len(text) + 1


def test_only_the_surroundings_are_shown() -> None:
    said = refusal("conv3-64 relu " * 100 + "CONW " + "conv3-64 " * 100)
    assert "at character 1401: ...3-64 relu conv3-64 relu >>>CONW<<< conv3-64 con...;" in said
    assert len(refusal("Q" * 1000)) < 200
    assert len(refusal("conv3-64/" + "s" * 1000)) < 250


def test_what_does_not_fit_names_layer_place_and_the_smallest_input_S2() -> None:
    text = "[(CONV-RELU)*2-POOL]*5-conv7-16/s2-FC"
    said = refusal(text)
    assert 'layer 26, "conv7-16/s2" at character 24: conv 7x7, 16, /2 does not fit its input\'s height: N=1, F=7' in said
    assert said.endswith("the smallest input that fits is 3x224x224: --input 3x224x224")
    assert walk(parse(text, input=(3, 224, 224)))
    with pytest.raises(ShapeError):
        parse(text, input=(3, 223, 224))
    said = refusal("(conv3-8/p0)*20")
    assert 'layer 16, "conv3-8/p0" at character 2' in said
    assert "--input 3x41x41" in said
    said = refusal("conv3-8 {conv3-8/p0 conv40-8/p0 | conv42-8/p0}", input=(1, 8, 8))
    assert 'layer 3, "conv40-8/p0" at character 21' in said
    assert "--input 1x42x42" in said
    said = refusal("conv3-8 {conv3-8 conv40-8/p0 | conv3-8 relu}+ relu")
    assert 'layer 3, "conv40-8/p0" at character 18' in said
    assert "--input 3x40x40" not in said, "its other branch keeps the size, so that no input makes them meet"
    assert "no square input of a sensible size fits it" in refusal("{conv40-8/p0 | conv42-8/p0}")
    assert "no square input of a sensible size fits it" in refusal(" ".join(["conv3-8/p0/9"] * 30))  # it would have 30 digits


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        ("conv3-8 FC-10 softmax", 7, '"FC-10" at character 9 should have 7 outputs, one for each class; write FC-7 or FC'),
        ("conv3-8 FC-10", 7, "write FC-7 or FC"),
        ("conv3-8", 0, "--classes 0 should be a whole number from 1"),
        ("conv3-8", 10**8, "--classes 100000000 should be"),
    ],
)
def test_classes_that_do_not_go_together_S3(text: str, classes: int, message: str) -> None:
    assert message in refusal(text, classes=classes)


def test_smallest_inputs() -> None:
    """Against counting up: one window, and whole nets (where the general search of `smallest_side` is right, too)."""
    rng = Random(0)
    for _ in range(2000):
        kernel = rng.randint(1, 5)
        window = Window(kernel, rng.randint(1, 4), rng.randint(0, kernel // 2), rng.randint(1, 3), ceil=rng.random() < 0.5)
        wanted = rng.randint(1, 6)
        assert smallest_input(window, wanted) == next(n for n in range(1, 200) if window.size(n) >= wanted), (window, wanted)
    refused = 0
    for _ in range(100):
        text = " ".join(
            f"conv{rng.randint(1, 9)}-2/s{rng.randint(1, 3)}/p{rng.randint(0, 2)} pool{rng.randint(1, 4)}/ceil" for _ in range(4)
        )
        try:
            parse(text, input=(1, 9, 9))
        except ShapeError as error:
            side = int(error.hint.rpartition("x")[2])
            assert parse(text, input=(1, side, side))
            assert side == smallest_side(parse(text, input=(1, side, side)))
            refused += 1
    assert refused > 20


BOMBS = {
    "a million layers": "(CONV-RELU)*1000000",
    "a megabyte": "conv3-64 " * 120_000,
    "a megabyte of one word": "a" * 10**6,
    "a megabyte of one number": "conv3-" + "9" * 10**6,
    "brackets": "(" * 190_000,
    "calls": "conv(" * 39_000,
    "repeats of repeats": "((((conv)*1000)*1000)*1000)",
    "repeated braces": "{conv*9999}" * 18_000,
    "braces in braces": "{conv*9999|" * 12 + "conv" + "}" * 12,
    "repeats behind repeats": "conv" + "*1" * 90_000,
    "options": "conv3-64" + "/s2" * 60_000,
    "spaces": " " * 199_999 + "x",
    "NULs": "\0" * 190_000,
    "as many layers as may be, and the last does not fit": "(conv3-8/p0 relu)*4999 conv400-3/p0",
    "as many blocks as may be": "conv1-8 ({conv1-8 | relu conv2-8/p0})*2000",
}


def test_bombs_end_at_once_and_stay_small_S4() -> None:
    """In a process of its own: each below a second, all below 200 MB, and nothing but UsageError."""
    script = (
        "import json, sys, time\n"
        "from pathlib import Path\n"
        "from cnncli.arch.notation.language import looks_like_notation, parse\n"
        "from cnncli.errors import UsageError\n"
        "def peak():\n"  # of this process alone; Linux says it here
        "    status = Path('/proc/self/status')\n"
        "    return int(status.read_text().split('VmHWM:')[1].split()[0]) / 1024 if status.exists() else 0\n"
        "for name, text in json.load(sys.stdin).items():\n"
        "    start = time.perf_counter()\n"
        "    looks_like_notation(text)\n"
        "    try:\n"
        "        parse(text)\n"
        "    except UsageError as error:\n"
        "        assert len(str(error)) < 500, name\n"
        "        print(name, time.perf_counter() - start, peak(), sep='\\t')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], input=json.dumps(BOMBS), capture_output=True, text=True, timeout=60, check=True)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [name for name, _, _ in lines] == list(BOMBS)
    for name, seconds, megabytes in lines:
        assert float(seconds) < 1, name
        assert float(megabytes) < 200, name


def test_ten_thousand_layers_are_read_and_written() -> None:
    start = time.perf_counter()
    net = parse("(conv3-8 relu)*4999 FC-10 softmax")
    assert len(walk(net)) == 10_000
    assert write(net) == "(conv3-8 relu)*4999 FC-10 softmax"
    assert time.perf_counter() - start < 3
    assert "more than 10,000 layers" in refusal("(conv3-8 relu)*5000 FC-10 softmax")


def test_numbers_are_exact_S5() -> None:
    row = walk(parse("conv3-10000000 conv3-10000000 FC-9999991"))[-1]
    assert row.params == 9_999_991 * (10_000_000 * 32 * 32) + 9_999_991
    assert row.params > 2**56


# And back.


@pytest.mark.parametrize("name", list(ZOO))
def test_the_zoo_is_written_and_read_again(name: str) -> None:
    net = build(name)
    try:
        text = write(net)
    except UsageError as error:
        assert "cannot be written in the notation" in error.message
        assert name not in CHAINS
        return
    again = parse(text, input=net.input, classes=net.classes)
    assert facts(again) == facts(net)
    assert write(again) == text
    if name in NAMES_KEPT:
        assert names(again) == names(net)


CHAINS = {"squeezenet1_1", "googlenet", "densenet121", "resnet50", "mobilenet_v2"}
CHAINS |= {"mlp", "lenet5", "alexnet", "alexnet-two-tower", "convnetjs-cifar10", "plain20", "plain110", "resnet20", "resnet110"}
CHAINS |= {"vgg11", "vgg11-lrn", "vgg13", "vgg16-c", "vgg16", "vgg19"}
NAMES_KEPT = {"mlp", "vgg11", "vgg11-lrn", "vgg13", "vgg16", "vgg19"}
assert set(ZOO) >= CHAINS >= NAMES_KEPT


def test_what_is_repeated_is_written_once() -> None:
    assert write(build("vgg16")) == (
        "(conv3-64 relu)*2 maxpool (conv3-128 relu)*2 maxpool (conv3-256 relu)*3 maxpool ((conv3-512 relu)*3 maxpool)*2 "
        "(FC-4096 relu dropout)*2 FC-1000 softmax"
    )
    assert write(build("lenet5")) == "conv5-6/p0 tanh avgpool conv5-16/p0 tanh avgpool conv5-120/p0 tanh FC-84 tanh FC-10 softmax"
    assert write(build("plain20")).startswith("(conv3-16/nobias BN relu)*7 conv3-32/s2/p1/nobias BN relu (conv3-32/nobias BN relu)*5")
    assert "({conv3-16/nobias BN relu conv3-16/nobias BN}+ relu)*3" in write(build("resnet20"))
    assert "{conv3-32/s2/p1/nobias BN relu conv3-32/nobias BN | subsample-32/s2}+ relu" in write(build("resnet20"))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (BatchNorm(momentum=0.2), "x: BatchNorm(eps=1e-05, momentum=0.2, affine=True) cannot be written"),
        (LocalResponseNorm(k=1.0), "x: LocalResponseNorm"),
        (Pool("average", kernel=3, padding=1, count_padding=False), "x: Pool"),
        (Residual(Chain(())), "x: a residual block without layers"),
        (Chain((("y", Residual(Chain((("z", BatchNorm(affine=False)),)))),)), "x.y.z: BatchNorm"),
    ],
)
def test_what_cannot_be_written_is_named(part, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        write(Net("n", Chain((("x", part),)), (3, 8, 8), 1))
    assert message in str(caught.value)


def test_graphs_are_written_where_they_are_series_sums_and_branches() -> None:
    def graph(*nodes) -> Net:
        return Net("n", Graph(tuple(nodes)), (4, 8, 8), 1)

    conv, relu = Conv(4, kernel=1), Activation()
    a, b = ("a", conv, (INPUT,)), ("b", relu, ("a",))
    assert write(graph(a, b)) == "conv1-4 relu"
    assert write(graph(a, b, ("sum", Add(), ("b", "a")), ("end", relu, ("sum",)))) == "conv1-4 {relu}+ relu"
    assert write(graph(a, ("sum", Add(), (INPUT, "a")))) == "{ | conv1-4}+"
    nested = graph(a, b, ("c", relu, ("a",)), ("in", Concatenate(), ("b", "c")), ("d", conv, (INPUT,)), ("out", Concatenate(), ("in", "d")))
    assert write(nested) == "{conv1-4 {relu | relu} | conv1-4}"
    assert sorted(map(str, facts(parse(write(nested), input=(4, 8, 8))))) == sorted(map(str, facts(nested)))
    crossed = graph(a, b, ("s", Add(), ("a", "b")), ("t", Concatenate(), ("s", "b")))
    unread = graph(a, b, ("c", relu, ("a",)))
    ladder: list = [("n0", relu, (INPUT,)), ("n1", relu, (INPUT,))]
    ladder += [(f"n{i}", Add(), (f"n{i - 1}", f"n{i - 2}")) for i in range(2, 200)]
    for net in (crossed, unread, graph(*ladder), graph(a, ("sum", Add(), ("a", "a", "a")))):
        with pytest.raises(UsageError, match="cannot be written"):
            write(net)


def test_random_nets_are_written_or_refused() -> None:
    written = 0
    for seed in range(300):
        net = random_net(seed)
        try:
            text = write(net)
        except UsageError as error:
            assert "cannot be written in the notation" in error.message
            continue
        written += 1
        assert facts(parse(text, input=net.input, classes=5)) == facts(net)
    assert written > 10


def test_small_probabilities_and_vectors_are_written_without_tricks() -> None:
    root = Chain((("a", Flatten()), ("b", Flatten()), ("c", Dropout(1e-7)), ("d", Linear(5, bias=False)), ("e", Linear(2))))
    net = Net("n", root, (3, 4, 4), 2)
    twice = Net("n", Chain((("a", Flatten()), ("b", Flatten()), ("c", Linear(2)))), (3, 4, 4), 2)
    assert write(twice) == "(flatten)*2 FC-2 softmax"
    assert write(net) == "(flatten)*2 dropout0.0000001 FC-5/nobias FC-2 softmax"
    assert facts(parse(write(net), input=net.input)) == facts(net)


# Recognising it.


@pytest.mark.parametrize(
    "text",
    [
        *(LECTURE, "conv3-64 maxpool FC-10", "CONV-RELU-POOL-FC", "FC", "conv3-64", "INPUT -> FC", "conv3-64/s2", "conv5/s2", "softmax"),
        *(
            "[(CONV-RELU*2",
            "CONV-RELUU",
            "conv3-64 maxpol FC-10",
            "[(COVN-RELUU)*2-PUL]*3",
            "maxpol conv3-64",
            "((",
            "conv\u0663-64",
            "conv\0",
        ),
        *(
            "CONVV-RELU-POOL-FC",
            "{conv3-64 BN}+",
            "leaky-relu",
            "conv3-64/q2 relu",
            "conv3-64/s2/p2-RELU",
            "(CONV-RELU)*10000000",
            "CONV-POOL?",
        ),
        *re.findall('"(.+)"', GRAMMAR),
        *(text for text, _ in LABELS),
    ],
    ids=ascii,
)
def test_looks_like_notation(text: str) -> None:
    assert looks_like_notation(text)


@pytest.mark.parametrize(
    "text",
    [
        *ZOO,
        *("", " ", "./file", "torchvision/x", "torchvision/resnet50", "timm/conv-mixer", "runs/a-1", "resnet50-relu", "nets/mine.py:Net"),
        *("runs/conv3-16-relu-maxpool-FC-10-softmax-digits-1", "./conv3-16-relu", "/home/me/pool/best.safetensors", "conv.safetensors"),
        *(
            "~/conv relu",
            "relu.py:Net",
            "convnext_tiny",
            "mobilenet_v3",
            "https://example.org/conv relu",
            "photos",
            "..",
            "fully",
            "a/conv-relu",
        ),
    ],
    ids=ascii,
)
def test_does_not_look_like_notation(text: str) -> None:
    assert not looks_like_notation(text)


# Its description.


def test_the_grammar_is_true() -> None:
    lines = GRAMMAR.split("\n")
    assert len(lines) <= 28
    assert max(map(len, lines)) <= 80
    examples = re.findall('"(.+)"', GRAMMAR)
    assert len(examples) == 3
    assert all(parse(text).classes == 10 for text in examples)
    said = GRAMMAR.lower()
    assert not [word for word in WORDS if word.lower() not in said]
    layers = re.search(r"(?s)layer  = (.*?)option", GRAMMAR)[1]
    labels = re.sub(r"\(.*?\)|kernel|, filters", "", layers, flags=re.DOTALL).split()
    assert len(labels) > 25
    for label in labels:
        assert parse(label), label
