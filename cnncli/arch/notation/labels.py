"""The words of the lecture's notation: what `conv3-64/s2` means, and how a layer is written as such a label.

A label is a word, a number directly behind it, a number behind a dash, and options behind slashes. Which of them a word
takes stands in WORDS; reading and writing stand side by side, so that they stay each other's reverse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Layer, Linear, Pair, Pool, SubsamplePad, pair, short_size
from cnncli.arch.pointwise import ACTIVATIONS, Activation, BatchNorm, Dropout, LocalResponseNorm
from cnncli.errors import UsageError, near_miss

KERNEL = 3  # VGG's (Simonyan & Zisserman 2014, section 2.1), and the lecture's advice: small kernels, deeper nets
POOL_KERNEL = 2  # the lecture's and VGG's: halves the map
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212"  # slides and PDFs print the dash in many ways
MOST_DIGITS = 18  # of one number; the layers' own limits are far lower, and Python refuses to read some 4,000 digits

OPTIONS = {
    "s": "/s2 stride",
    "p": "/p1 padding",
    "d": "/d2 dilation",
    "g": "/g2 groups",
    "to": "/to7 pooled to 7x7 whatever the input",
    "nobias": "/nobias",
    "ceil": "/ceil rounds the size up",
    "eps": "/eps0.001 added to the variance",
}


class Word(NamedTuple):
    """How a layer is called (a dash in a spelling may be left out), and which numbers and options it takes."""

    spellings: tuple[str, ...]
    number: str = ""  # what the number directly behind the word means; empty: there is none
    width: str = ""  # what the number behind the dash means
    options: tuple[str, ...] = ()


_POOL_OPTIONS = ("s", "p", "ceil", "to")
WORDS: dict[str, Word] = {
    "conv": Word(("conv",), "kernel", "filters", ("s", "p", "d", "g", "nobias")),
    "maxpool": Word(("max-pool", "pool"), "kernel", options=_POOL_OPTIONS),
    "avgpool": Word(("avg-pool", "average-pool"), "kernel", options=_POOL_OPTIONS),
    "globalpool": Word(("global-pool", "global-avg-pool", "gap")),
    "globalmaxpool": Word(("global-max-pool",)),
    "FC": Word(("fc", "linear"), width="units", options=("nobias",)),
    "BN": Word(("bn", "batch-norm"), options=("eps",)),
    "LRN": Word(("lrn",), "size"),
    "dropout": Word(("dropout", "drop"), "probability", "probability"),
    "flatten": Word(("flatten",)),
    "subsample": Word(("subsample",), width="filters", options=("s",)),
    "softmax": Word(("soft-max",)),
    "input": Word(("input",)),
    **{kind: Word((kind,)) for kind in ACTIVATIONS},
}
POOLS = ("maxpool", "avgpool")
SPELLINGS = {spelling: word for word, entry in WORDS.items() for spelling in entry.spellings} | {"swish": "silu"}
_BY_TEXT = {spelling.replace("-", ""): word for spelling, word in SPELLINGS.items()}

_WORD = "|".join(spelling.replace("-", f"[{DASHES}_]?") for spelling in sorted(SPELLINGS, key=len, reverse=True))
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_SIZE = f"{_NUMBER}(?:x{_NUMBER})?"
_FLAGS = re.ASCII | re.IGNORECASE
_LABEL = re.compile(f"({_WORD})(?![a-z_])({_SIZE})?(?:[{DASHES}]({_NUMBER}))?((?:/[a-z]*(?:{_SIZE})?)*)", _FLAGS)
_OPTION = re.compile(f"/([a-z]*)({_SIZE})?", _FLAGS)


class Label(NamedTuple):
    """One label as it stands in a text: its word in WORDS, its parts (empty where absent), and where it begins."""

    word: str
    number: str
    width: str
    options: str
    text: str
    start: int


def match_label(text: str, start: int) -> Label | None:
    """The label that begins at `start`, or None."""
    found = _LABEL.match(text, start)
    if found is None:
        return None
    word = _BY_TEXT[re.sub(f"[{DASHES}_]", "", found[1]).lower()]
    return Label(word, found[2] or "", found[3] or "", found[4], found[0], start)


def read_label(label: Label, *, filters: int, units: int) -> Layer:
    """The layer that a label stands for. `filters` and `units` are what a bare CONV and a bare FC have.

    UsageError for numbers and options that the word does not take, or out of range.
    """
    options = _read_options(label)
    word = WORDS[label.word]
    if label.number and not word.number:
        hint = f"write {label.word}-{label.number}" if word.width else "leave the number out"
        raise UsageError(f"{label.word} takes no number directly behind it", hint)
    if label.width and not word.width:
        hint = f"write {label.word}{label.width}" if word.number else "leave the number out"
        raise UsageError(f"{label.word} takes no number behind a dash", hint)
    if label.word in FIXED:
        return FIXED[label.word]
    return READERS[label.word](_Given(label.word, label.number, label.width, options, filters, units))


class _Given(NamedTuple):
    """What a label says, and what it says nothing about."""

    word: str
    number: str
    width: str
    options: dict[str, str]
    filters: int
    units: int


def _read_options(label: Label) -> dict[str, str]:
    """Option to its value ("" for a flag); `/2` is `/s2`."""
    taken = WORDS[label.word].options
    options: dict[str, str] = {}
    for name, value in _OPTION.findall(label.options):
        option = name.lower() or "s"
        if option not in taken or bool(value) == (option in ("nobias", "ceil")):
            what = "; ".join(OPTIONS[known] for known in taken)
            hint = f"it takes {what}" if taken else "leave it out"
            raise UsageError(f"{label.word} takes no option /{name[:20]}{value[:20]}", near_miss(name[:20], list(taken)) or hint)
        if option in options:
            raise UsageError(f"the option /{option} stands twice")
        options[option] = value
    return options


def _read_conv(given: _Given) -> Conv:
    options = given.options
    kernel = _size(given.number) if given.number else KERNEL
    stride, dilation = _size(options.get("s", "1")), _size(options.get("d", "1"))
    return Conv(
        _whole(given.width) if given.width else given.filters,
        kernel=kernel,
        stride=stride,
        padding=_size(options["p"]) if "p" in options else default_padding(kernel, stride, dilation),
        dilation=dilation,
        groups=_whole(options.get("g", "1")),
        bias="nobias" not in options,
    )


def default_padding(kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """Along each axis D(F - 1)/2, rounded down, at stride 1, so that an odd kernel keeps the size, as in VGG; else 0.

    A larger stride is there to shrink the map, and the lecture's first layer of AlexNet, 11x11 at stride 4, has no padding.
    """
    axes = zip(pair(kernel), pair(stride), pair(dilation), strict=True)
    return _square([d * (f - 1) // 2 if s == 1 else 0 for f, s, d in axes])


def _read_pool(given: _Given) -> Pool | AdaptivePool:
    kind, options = "max" if given.word == "maxpool" else "average", given.options
    if "to" in options:
        if given.number or len(options) > 1:
            raise UsageError("/to fixes the size of the output: kernel, stride and padding follow from it", f"write {given.word}/to7")
        return AdaptivePool(kind, size=_size(options["to"]))
    kernel = _size(given.number) if given.number else POOL_KERNEL
    stride = _size(options["s"]) if "s" in options else None
    return Pool(kind, kernel=kernel, stride=stride, padding=_size(options.get("p", "0")), ceil="ceil" in options)


def _read_fc(given: _Given) -> Linear:
    return Linear(_whole(given.width) if given.width else given.units, bias="nobias" not in given.options)


def _read_bn(given: _Given) -> BatchNorm:
    if "x" in given.options.get("eps", "").lower():
        raise UsageError("/eps takes one number", "write BN/eps0.001")
    return BatchNorm(eps=float(given.options["eps"])) if "eps" in given.options else BatchNorm()


def _read_lrn(given: _Given) -> LocalResponseNorm:
    return LocalResponseNorm(size=_whole(given.number)) if given.number else LocalResponseNorm()


def _read_dropout(given: _Given) -> Dropout:
    text = given.number or given.width
    if (given.number and given.width) or "x" in text.lower():
        raise UsageError("dropout takes one number, a probability", "write dropout0.5")
    return Dropout(float(text)) if text else Dropout()


def _read_subsample(given: _Given) -> SubsamplePad:
    if not given.width:
        raise UsageError("subsample needs its number of filters", "write subsample-32/s2")
    return SubsamplePad(_whole(given.width), stride=_whole(given.options.get("s", "1")))


READERS: dict[str, Callable[[_Given], Layer]] = {
    "conv": _read_conv,
    "maxpool": _read_pool,
    "avgpool": _read_pool,
    "FC": _read_fc,
    "BN": _read_bn,
    "LRN": _read_lrn,
    "dropout": _read_dropout,
    "subsample": _read_subsample,
}
FIXED: dict[str, Layer] = {
    "globalpool": AdaptivePool("average"),
    "globalmaxpool": AdaptivePool("max"),
    "flatten": Flatten(),
    **{kind: Activation(kind) for kind in ACTIVATIONS},
}


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise UsageError(f"{text[:20]} should be a whole number")
    if len(text) > MOST_DIGITS:
        raise UsageError(f"a number of {len(text)} digits is too large")
    return int(text)


def _size(text: str) -> Pair:
    """`3` or `1x7`, height x width."""
    return _square([_whole(number) for number in text.lower().split("x")])


def _square(sizes: list[int]) -> Pair:
    height, width = sizes[0], sizes[-1]
    return height if height == width else (height, width)


def write_label(layer: Layer) -> str:
    """The label of a layer, which `read_label` reads back. UsageError where the notation has no word for what it is."""
    writer = WRITERS.get(type(layer))
    text = writer(layer) if writer else None
    if text is None:
        raise UsageError(f"{layer} cannot be written in the notation", "it has no words for these settings")
    return text


def _decimal(number: float) -> str:
    """All digits of a number, without an exponent."""
    from decimal import Decimal  # late: reading a label does not need it

    return f"{Decimal(repr(number)).normalize():f}"


def _write_conv(layer: Conv) -> str:
    text = f"conv{short_size(layer.kernel)}-{layer.filters}"
    text += f"/s{short_size(layer.stride)}" if pair(layer.stride) != (1, 1) else ""
    default = default_padding(layer.kernel, layer.stride, layer.dilation)
    text += f"/p{short_size(layer.padding)}" if pair(layer.padding) != pair(default) else ""
    text += f"/d{short_size(layer.dilation)}" if pair(layer.dilation) != (1, 1) else ""
    text += f"/g{layer.groups}" if layer.groups != 1 else ""
    return text + ("" if layer.bias else "/nobias")


def _write_pool(layer: Pool) -> str | None:
    padded = pair(layer.padding) != (0, 0)
    if layer.kind == "average" and padded and not layer.count_padding:
        return None
    text = "maxpool" if layer.kind == "max" else "avgpool"
    text += short_size(layer.kernel) if pair(layer.kernel) != (POOL_KERNEL, POOL_KERNEL) else ""
    stride = layer.kernel if layer.stride is None else layer.stride
    text += f"/s{short_size(stride)}" if pair(stride) != pair(layer.kernel) else ""
    text += f"/p{short_size(layer.padding)}" if padded else ""
    return text + ("/ceil" if layer.ceil else "")


def _write_adaptive_pool(layer: AdaptivePool) -> str:
    if pair(layer.size) == (1, 1):
        return "globalpool" if layer.kind == "average" else "globalmaxpool"
    return f"{'maxpool' if layer.kind == 'max' else 'avgpool'}/to{short_size(layer.size)}"


def _write_bn(layer: BatchNorm) -> str | None:
    if layer == BatchNorm():
        return "BN"
    return f"BN/eps{_decimal(layer.eps)}" if layer == BatchNorm(eps=layer.eps) else None


def _write_lrn(layer: LocalResponseNorm) -> str | None:
    if layer == LocalResponseNorm():
        return "LRN"
    return f"LRN{layer.size}" if layer == LocalResponseNorm(size=layer.size) else None


WRITERS: dict[type[Layer], Callable[[Any], str | None]] = {
    Conv: _write_conv,
    Pool: _write_pool,
    AdaptivePool: _write_adaptive_pool,
    Linear: lambda layer: f"FC-{layer.features}" + ("" if layer.bias else "/nobias"),
    BatchNorm: _write_bn,
    LocalResponseNorm: _write_lrn,
    Activation: lambda layer: layer.kind,
    Dropout: lambda layer: "dropout" if layer == Dropout() else f"dropout{_decimal(layer.p)}",
    Flatten: lambda _: "flatten",
    SubsamplePad: lambda layer: f"subsample-{layer.filters}" + (f"/s{layer.stride}" if layer.stride != 1 else ""),
}
