"""From the labels of a notation to a Net: what bare words mean, how layers are called, and which label does not fit.

Layers are named as in VGG and AlexNet: conv3_2 is the second convolution of the third group where pools divide the net
into groups of several, else conv1, conv2, ...; relu3_2 follows it; fully connected layers count on: fc6 after five groups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import NamedTuple

from cnncli.arch.blocks import Chain, Concat, Part, Residual
from cnncli.arch.checks import LARGEST_NUMBER
from cnncli.arch.layers import Conv, Flatten, Layer, Linear, Pool, Shape, pair
from cnncli.arch.net import Net
from cnncli.arch.notation.check import check, place_of
from cnncli.arch.notation.labels import POOLS, Label, read_label
from cnncli.arch.notation.tree import Braces
from cnncli.arch.pointwise import ACTIVATIONS, Activation
from cnncli.errors import UsageError

DEFAULT_INPUT = (3, 32, 32)  # CIFAR-10's images, the lecture's example
DEFAULT_CLASSES = 10  # CIFAR-10's, too
FIRST_FILTERS, MOST_FILTERS = 64, 512  # VGG starts with 64 filters and doubles them behind every pooling, up to 512
DEFAULT_UNITS = 512  # as many as VGG's widest convolution; its own 4096 are meant for ImageNet's 1000 classes
# How the name of a layer begins; its number is that of the last convolution, block or fully connected layer.
PREFIXES = {"BN": "bn", "LRN": "norm", "dropout": "drop", "relu6": "relu", "leaky-relu": "leaky_relu"}
NUMBERLESS = ("flatten", "globalpool", "globalmaxpool", "subsample")

Labels = Sequence[Label | Braces]


def make_net(labels: Labels, *, input: tuple[int, int, int] | None, classes: int | None, name: str) -> Net:
    """The net of these labels, checked against `input`; see `notation.parse`."""
    if classes is not None and not 1 <= classes <= LARGEST_NUMBER:
        raise UsageError(f"--classes {classes} should be a whole number from 1 to {LARGEST_NUMBER}", path="--classes")
    maker = _Maker()
    labels = _between_ends(labels)
    root = maker.chain(labels, _State(), classifier=classes or DEFAULT_CLASSES)
    shape = input or DEFAULT_INPUT
    _, last = root.parts[-1]
    if isinstance(last, Linear):
        if classes not in (None, last.features):
            raise UsageError(
                f"notation: {place_of(labels[-1])} should have {classes} outputs, one for each class", f"write FC-{classes} or FC"
            )
        net = Net(name, root, shape, last.features)
        if input is not None:
            check(net, maker.places)
        return net
    output = check(Net(name, root, shape, 1), maker.places)
    if classes is not None and output != (classes,):
        raise UsageError(f"notation: the net ends in {_size_text(output)} and not in {classes} classes", "end it with SOFTMAX")
    paper = "" if len(output) == 1 else f"no classifier: its outputs are features, {_size_text(output)}"
    return Net(name, root, shape, prod(output), paper)


def _between_ends(labels: Labels) -> Labels:
    """The labels without INPUT and SOFTMAX; where SOFTMAX has no FC before it, it becomes one."""
    ends = [(labels[0], "input", ""), (labels[-1], "softmax", "FC-10 ")]
    for label, word, before in ends:
        if _word(label) == word and isinstance(label, Label) and (label.number or label.width or label.options):
            hint = "--input gives the size" if word == "input" else "the width belongs to the FC before it"
            raise UsageError(f"notation: {place_of(label)} takes no number and no option", f"write {before}{word.upper()}; {hint}")
    inner = list(labels[1:] if _word(labels[0]) == "input" else labels)
    if inner and _word(inner[-1]) == "softmax":
        softmax = inner.pop()
        if not inner or _word(inner[-1]) != "FC":
            assert isinstance(softmax, Label)
            inner.append(softmax._replace(word="FC"))
    if not inner:
        raise UsageError(f"notation: {place_of(labels[0])} is no net yet", "such as INPUT-CONV-RELU-POOL-FC")
    return inner


@dataclass
class _State:
    """What flows: as many filters as a bare CONV has here, and whether it is an image (or a vector)."""

    filters: int = FIRST_FILTERS
    image: bool = True


class _Made(NamedTuple):
    """A block that was made before, what flows out of it, and its rows."""

    part: Part
    image: bool
    rows: int


class _Maker:
    """Makes parts of labels. Equal layers are one object, so that `walk` asks each once."""

    def __init__(self) -> None:
        self.row = 0  # of the table, where the layer stands that is being made
        self.places: dict[tuple[int, str], Label | Braces] = {}  # (id of a block, name of its step): what it was made of
        self.layers: dict[Layer, Layer] = {}
        self.blocks: dict[tuple[Braces, str, int, bool], _Made] = {}

    def chain(self, labels: Labels, state: _State, *, classifier: int = DEFAULT_UNITS) -> Chain:
        """The labels in series. `state`: what flows in, and afterwards out. classifier: units of a bare FC at the end."""
        names = _Names(labels)
        parts: list[tuple[str, Part, Label | Braces]] = []
        position = 0
        while position < len(labels):
            label = labels[position]
            position += 1
            if isinstance(label, Braces):
                then = labels[position] if label.added and position < len(labels) and _word(labels[position]) in ACTIVATIONS else None
                position += then is not None
                parts.append((names.next("block" if label.added else "mixed"), self.block(label, then, state), label))
                continue
            if label.word == "FC" and state.image:
                self.row += 1
                parts.append((names.next("flatten"), self.same(Flatten()), label))
            self.row += 1
            layer = self.read(label, state.filters, classifier if position == len(labels) else DEFAULT_UNITS)
            parts.append((names.next(label.word), layer, label))
            _pass(layer, state)
        made = Chain(tuple((name, part) for name, part, _ in parts))
        self.places |= {(id(made), name): label for name, _, label in parts}
        return made

    def block(self, braces: Braces, then: Label | Braces | None, state: _State) -> Part:
        """Added: a Residual with the activation `then`; else a Concat."""
        key = (braces, _word(then), state.filters, state.image)
        if key in self.blocks:
            part, state.image, rows = self.blocks[key]
            self.row += rows
            return part
        before = self.row
        flows = [replace(state) for _ in braces.branches]
        chains = [self.chain(labels, flow) for labels, flow in zip(braces.branches, flows, strict=True)]
        self.row += 1
        part = self.residual(chains, then) if braces.added else Concat(tuple((f"branch{i}", c) for i, c in enumerate(chains, start=1)))
        state.image = all(flow.image for flow in flows)
        self.blocks[key] = _Made(part, state.image, self.row - before)
        return part

    def residual(self, chains: Sequence[Chain], then: Label | Braces | None) -> Residual:
        body, shortcut = chains[0], chains[1] if len(chains) > 1 else Chain()
        activation: Layer | None = None
        if isinstance(then, Label):
            self.row += 1
            activation = self.read(then)
        assert activation is None or isinstance(activation, Activation)
        made = Residual(body, shortcut=shortcut if shortcut.parts else None, then=activation)
        self.places |= {(id(made), name): self.places[id(body), name] for name, _ in body.parts}
        return made

    def read(self, label: Label, filters: int = FIRST_FILTERS, units: int = DEFAULT_UNITS) -> Layer:
        where = f"notation: layer {self.row}, {place_of(label)}"
        if label.word in ("input", "softmax"):
            raise UsageError(f"{where}: it {'begins' if label.word == 'input' else 'ends'} the whole net", "leave it out here")
        try:
            return self.same(read_label(label, filters=filters, units=units))
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", error.hint) from None

    def same(self, layer: Layer) -> Layer:
        return self.layers.setdefault(layer, layer)


def _word(label: Label | Braces | None) -> str:
    return label.word if isinstance(label, Label) else ""


def _size_text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _pass(layer: Layer, state: _State) -> None:
    """What flows on behind a layer."""
    if isinstance(layer, Conv):
        state.filters = layer.filters
    elif isinstance(layer, Pool) and pair(layer.kernel if layer.stride is None else layer.stride) != (1, 1):
        state.filters = max(state.filters, min(2 * state.filters, MOST_FILTERS))
    elif isinstance(layer, Flatten | Linear):
        state.image = False


class _Names:
    """The names of the layers of one chain, in order."""

    def __init__(self, labels: Labels) -> None:
        pools, convs = 0, Counter[int]()
        for label in labels:
            pools += _word(label) in POOLS
            convs[pools] += _word(label) == "conv"
        self.grouped = pools > 0 and max(convs.values()) > 1
        self.pools = 0
        self.number = 0  # of the last convolution, block or fully connected layer; of its group where there are groups
        self.convs = 0  # of this group
        self.suffix = ""
        self.blocks: Counter[str] = Counter()
        self.given: Counter[str] = Counter()

    def next(self, word: str) -> str:
        if word in POOLS:
            self.pools += 1
            self.convs = 0
            return self.once(f"pool{self.pools}")
        if word in ("block", "mixed"):
            self.blocks[word] += 1
            self.suffix = f"{word}{self.blocks[word]}"
            return self.once(self.suffix)
        if word == "conv" and self.grouped:
            self.number = self.pools + 1
            self.convs += 1
            self.suffix = f"{self.number}_{self.convs}"
        elif word in ("conv", "FC"):
            self.number += 1
            self.suffix = str(self.number)
        prefix = PREFIXES.get(word, word.lower())
        if word in NUMBERLESS:
            return self.once(prefix)
        return self.once(f"{prefix}_{self.suffix}" if self.suffix[:1].isalpha() else prefix + self.suffix)

    def once(self, name: str) -> str:
        """The name, or name_2, name_3, ... where it was given before."""
        self.given[name] += 1
        return name if self.given[name] == 1 else self.once(f"{name}_{self.given[name]}")
