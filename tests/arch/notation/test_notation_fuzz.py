"""Notations at random: what is accepted agrees with torch and is written again; what is refused is refused in one line.

The drawn ones are made here together with the layers that they should mean, by rules of their own: a parser that read
`/s2` as padding would agree with torch about the wrong net.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random

import pytest
from test_agreement import check_net

from cnncli.arch.blocks import Chain
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Layer, Linear, Pool, SubsamplePad
from cnncli.arch.net import Net, walk
from cnncli.arch.notation.labels import write_label
from cnncli.arch.notation.language import looks_like_notation, parse, write
from cnncli.arch.pointwise import Activation, BatchNorm, Dropout, LocalResponseNorm
from cnncli.errors import CnnError

FEW, MANY = 300, 10_000
MOST_ROWS = 40  # of a net that is built in torch; more only cost time
ODD = "()[]{}|*+-,/>?=.:;_ \n\t\0\u0663\u2192\u2013\u00e90123456789xXspdgCONVRELUfcpool\"'\\#@~"


@dataclass
class Drawn:
    """A notation under way, and the layers it means."""

    rng: Random
    filters: int = 64
    image: bool = True
    layers: list[Layer] = field(default_factory=list)

    def add(self, text: str, layer: Layer) -> str:
        self.layers.append(layer)
        return "".join(self.rng.choice((c.lower(), c.upper())) for c in text) if self.rng.random() < 0.3 else text

    def label(self) -> str:
        kinds = [self.conv] * 5 + [self.pool] * 2 + [self.simple] * 4 + [self.bare]
        return self.rng.choice(kinds if self.image else [self.connected, self.connected, self.simple])()

    def conv(self) -> str:
        rng = self.rng
        height, width = (rng.choice((1, 3, 3, 5, 2)) for _ in range(2))
        width = height if rng.random() < 0.7 else width
        filters, stride, dilation = 2 * rng.randint(1, 4), rng.choice((1, 1, 1, 2)), rng.choice((1, 1, 1, 2))
        groups = 2 if self.layers and rng.random() < 0.1 else 1
        text = f"conv{height}-{filters}" if height == width else f"conv{height}x{width}-{filters}"
        options = [f"/s{stride}" if rng.random() < 0.5 else f"/{stride}"] * (stride != 1) + [f"/d{dilation}"] * (dilation != 1)
        options += [f"/g{groups}"] * (groups != 1)
        padding = tuple((dilation * (f - 1)) // 2 if stride == 1 else 0 for f in (height, width))
        if rng.random() < 0.4:
            padding = (rng.randint(0, 2), rng.randint(0, 2))
            options.append(f"/p{padding[0]}x{padding[1]}")
        bias = rng.random() < 0.8
        options += ["/nobias"] * (not bias)
        rng.shuffle(options)
        self.filters = filters
        layer = Conv(filters, kernel=(height, width), stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias)
        return self.add(text + "".join(options), layer)

    def bare(self) -> str:
        return self.add("conv", Conv(self.filters, kernel=3, padding=1))

    def pool(self) -> str:
        rng = self.rng
        if rng.random() < 0.15:
            size, kind = rng.randint(1, 4), rng.choice(("max", "average"))
            word = {"max": "maxpool", "average": "avgpool"}[kind]
            return self.add(f"{word}/to{size}", AdaptivePool(kind, size=size))
        word, kind = rng.choice((("pool", "max"), ("maxpool", "max"), ("max-pool", "max"), ("avgpool", "average")))
        kernel, stride, padding, ceil = rng.choice((None, 2, 3)), rng.choice((None, None, 1, 2)), rng.choice((0, 0, 1)), rng.random() < 0.2
        text = word + (str(kernel) if kernel else "") + (f"/s{stride}" if stride else "") + (f"/p{padding}" if padding else "")
        kernel = kernel or 2
        if (stride or kernel) > 1:
            self.filters = max(self.filters, min(512, 2 * self.filters))
        layer = Pool(kind, kernel=kernel, stride=stride, padding=padding, ceil=ceil)
        return self.add(text + ("/ceil" if ceil else ""), layer)

    def simple(self) -> str:
        choices = [
            ("relu", Activation()),
            ("tanh", Activation("tanh")),
            ("Leaky-ReLU", Activation("leaky-relu")),
            ("relu6", Activation("relu6")),
        ]
        choices += [("BN", BatchNorm()), ("dropout", Dropout()), ("dropout0.25", Dropout(0.25)), ("swish", Activation("silu"))]
        choices += [("LRN", LocalResponseNorm()), ("lrn3", LocalResponseNorm(size=3))] * self.image
        return self.add(*self.rng.choice(choices))

    def connected(self) -> str:
        units = self.rng.randint(1, 30)
        if self.image:
            self.layers.append(Flatten())
            self.image = False
        return self.add(f"FC-{units}", Linear(units))

    def joined(self, texts: list[str]) -> str:
        text = ""
        for number, item in enumerate(texts):
            text += (self.rng.choice((" ", " ", "-", ", ", " -> ", "\n", " - ")) if number else "") + item
        return text

    def group(self) -> str:
        """A repeated group of layers that mean the same each time."""
        before = len(self.layers)
        texts = [self.conv(), *(self.simple() for _ in range(self.rng.randint(0, 2)))]
        times = self.rng.randint(1, 3)
        self.layers += self.layers[before:] * (times - 1)
        opening, closing = self.rng.choice(("()", "[]"))
        return f"{opening}{self.joined(texts)}{closing}*{times}"

    def block(self) -> str:
        """Braces around branches of 1x1 convolutions and activations, which always meet."""
        width, branches = self.rng.randint(1, 4), []
        added = self.rng.random() < 0.5
        for _ in range(2):
            texts = [self.simple() for _ in range(self.rng.randint(0, 2))]
            texts.append(self.add(f"conv1-{width}", Conv(width, kernel=1)))
            branches.append(self.joined(texts))
        if not added:
            return "{" + self.rng.choice((" | ", "|")).join(branches) + "}"
        then = self.simple_activation()
        return "{" + " | ".join(branches) + "}+ " + then

    def simple_activation(self) -> str:
        return self.add("relu", Activation())


def draw(seed: int) -> tuple[str, Drawn, tuple[int, int, int]]:
    """A notation, what it means, and an input; about every fifth does not fit its input."""
    rng = Random(f"notation {seed}")
    drawn = Drawn(rng)
    texts = ["INPUT"] if rng.random() < 0.1 else []
    for _ in range(rng.randint(1, 5)):
        texts.append(rng.choice((drawn.label, drawn.label, drawn.label, drawn.group, drawn.block))())
    if rng.random() < 0.7:
        texts += [drawn.connected() for _ in range(rng.randint(0, 2))]
        if not drawn.image and rng.random() < 0.5:
            texts.append(drawn.add("relu", Activation()))
        texts.append(rng.choice(("softmax", "SOFTMAX", "soft-max")))
        if not isinstance(drawn.layers[-1], Linear):
            drawn.layers += [*([Flatten()] if drawn.image else []), Linear(10)]
    return drawn.joined(texts), drawn, (rng.choice((2, 4)), rng.randint(8, 20), rng.randint(8, 20))


def mutate(seed: int) -> tuple[str, tuple[int, int, int]]:
    """A drawn notation with one or two things lost, doubled, swapped, replaced or put in: characters, digits or words."""
    text, _, shape = draw(seed)
    rng = Random(f"mutation {seed}")
    for _ in range(rng.randint(1, 2)):
        text = rng.choice((_change_character, _change_digit, _change_words))(text, rng)
    return text, shape


def _change_character(text: str, rng: Random) -> str:
    at, odd = rng.randrange(len(text) + 1), rng.choice(ODD)
    swapped = text[at : at + 2][::-1]
    return rng.choice(
        (text[:at] + text[at + 1 :], text[:at] + odd + text[at:], text[:at] + odd + text[at + 1 :], text[:at] + swapped + text[at + 2 :])
    )


def _change_digit(text: str, rng: Random) -> str:
    digits = [at for at, c in enumerate(text) if c.isdigit()]
    if not digits:
        return text
    at = rng.choice(digits)
    return text[:at] + rng.choice(("", "0", "1", "2", "3", "5", "7", "23", "999", "99999999", "99999999999999999999")) + text[at + 1 :]


def _change_words(text: str, rng: Random) -> str:
    """Words stand between spaces, so that brackets and their contents come apart, too."""
    words = text.split(" ")
    one, other = rng.randrange(len(words)), rng.randrange(len(words))
    kind = rng.randrange(4)
    if kind == 0:
        words[one], words[other] = words[other], words[one]
    elif kind == 1:
        words.insert(one, words[other])
    elif kind == 2:
        words = words[:one] + words[other:]
    else:
        words[one] += rng.choice(
            ("/s3", "/p1", "/ceil", "*2", "+", "/nobias", "/d4", "/g3", "/to2", "?", "-9", "x3", " relu", " {pool3/s1/p1 | relu}")
        )
    return " ".join(words)


def judge(text: str, shape: tuple[int, int, int]) -> Net | None:
    """The net, proved against torch and its own notation; None where it was refused as a user would want it."""
    looks_like_notation(text)
    try:
        net = parse(text, input=shape)
        rows = walk(net)
    except CnnError as error:
        said = str(error)
        assert said.startswith("notation: "), said
        assert said.isprintable(), ascii(said)
        assert len(said) < 600, said
        return None
    assert rows[-1].output == (net.classes,) or net.paper.startswith("no classifier")
    again = parse(write(net), input=shape)
    assert [row._replace(name="", part=None) for row in walk(again)] == [row._replace(name="", part=None) for row in rows]
    if len(rows) <= MOST_ROWS:
        check_net(net)
    return net


def leaves(net: Net) -> list[str]:
    """What the layers of a net say of themselves, without what joins branches."""
    return [_facts(row.part) for row in walk(net) if isinstance(row.part, Layer)]


def _facts(layer: Layer) -> str:
    """The operation, and what it does not tell."""
    rest = (getattr(layer, "bias", True), float(getattr(layer, "p", 0)), getattr(layer, "eps", 0))
    return f"{layer.operation()} {rest}"


def judge_drawn(seeds: range) -> None:
    counts: Counter[bool] = Counter()
    for seed in seeds:
        text, drawn, shape = draw(seed)
        net = judge(text, shape)
        counts[net is not None] += 1
        if net is not None:
            assert leaves(net) == [_facts(layer) for layer in drawn.layers], text
    assert counts[True] > 0.6 * len(seeds), counts
    assert counts[False] > 0.03 * len(seeds), counts


def judge_mutated(seeds: range) -> None:
    accepted = sum(judge(*mutate(seed)) is not None for seed in seeds)
    assert 0.2 * len(seeds) < accepted < 0.8 * len(seeds), accepted


def test_some_drawn_notations() -> None:
    judge_drawn(range(FEW))


def test_some_mutated_notations() -> None:
    judge_mutated(range(FEW))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_thousands_of_drawn_notations(part: int) -> None:
    judge_drawn(range(part * MANY // 10, (part + 1) * MANY // 10))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_thousands_of_mutated_notations(part: int) -> None:
    judge_mutated(range(part * MANY // 10, (part + 1) * MANY // 10))


def test_random_labels_are_read_as_they_are_written() -> None:
    """Every layer that has a label is read back as the layer that it was."""
    rng = Random(0)

    def size(low: int, high: int):
        return rng.randint(low, high) if rng.random() < 0.5 else (rng.randint(low, high), rng.randint(low, high))

    for _ in range(2000):
        groups, kernel = rng.choice((1, 1, 3)), size(2, 12)
        layers = (
            Conv(
                groups * rng.randint(1, 9),
                kernel=size(1, 12),
                stride=size(1, 3),
                padding=size(0, 7),
                dilation=size(1, 3),
                groups=groups,
                bias=rng.random() < 0.5,
            ),
            Pool(
                rng.choice(("max", "average")),
                kernel=kernel,
                stride=rng.choice((None, size(1, 3))),
                padding=size(0, 1),
                ceil=rng.random() < 0.5,
            ),
            AdaptivePool(rng.choice(("max", "average")), size=size(1, 9)),
            Dropout(rng.choice((rng.random(), 0, 1, 1e-9, rng.random() * 1e-6))),
            BatchNorm(eps=rng.choice((1e-5, 1e-3, 1e-12))),
            SubsamplePad(99, stride=rng.randint(1, 3)),
        )
        for layer in layers:
            net = parse(write_label(layer), input=(3, 99, 99))
            assert isinstance(net.root, Chain)
            assert leaves(net) == [_facts(layer)]
