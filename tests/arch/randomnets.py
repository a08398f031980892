"""Random nets of every kind of part, for the tests that hold two descriptions of a net together."""

from __future__ import annotations

from random import Random

from cnncli.arch.blocks import INPUT, Add, Chain, Concat, Concatenate, Dense, Graph, Part, Residual
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Layer, Linear, Pair, Pool, SubsamplePad
from cnncli.arch.net import Net
from cnncli.arch.pointwise import ACTIVATIONS, Activation, BatchNorm, Dropout, LocalResponseNorm


def random_net(seed: int) -> Net:
    """A net of three to six random parts, then a classifier; equal for equal seeds."""
    rng = Random(seed)
    channels, height, width = rng.choice((1, 2, 3)), rng.randint(16, 24), rng.randint(16, 24)
    makers = (_simple, _simple, _residual, _concat, _dense, _shrink, _cells)
    parts: list[tuple[str, Part]] = [("stem", Conv(4, kernel=3, padding=1))]
    now = 4
    for number in range(rng.randint(3, 6)):
        part, now = rng.choice(makers)(rng, now)
        parts.append((f"part{number}", part))
    parts += [("pool", AdaptivePool(rng.choice(("average", "max")), size=rng.choice((1, 2, (1, 2))))), ("flatten", Flatten())]
    parts += [("drop", Dropout(rng.choice((0, 0.25, 0.5)))), ("fc", Linear(5, bias=rng.random() < 0.5))]
    return Net(f"random{seed}", Chain(tuple(parts)), (channels, height, width), 5, "drawn at random: 한국 \u00e9 \"'\\")


def _pair(rng: Random, values: tuple[int, ...]) -> Pair:
    return rng.choice(values) if rng.random() < 0.5 else (rng.choice(values), rng.choice(values))


def _simple(rng: Random, now: int) -> tuple[Part, int]:
    layers: list[Layer] = [
        BatchNorm(eps=rng.choice((1e-5, 1e-3)), momentum=rng.choice((0.1, 0.01)), affine=rng.random() < 0.7),
        LocalResponseNorm(size=rng.choice((3, 5)), k=rng.choice((1, 2.0))),
        *(Activation(kind) for kind in ACTIVATIONS),
        Pool(rng.choice(("max", "average")), kernel=3, stride=1, padding=1, ceil=rng.random() < 0.5, count_padding=rng.random() < 0.5),
    ]
    return Chain((("conv", Conv(now, kernel=3, padding=_pair(rng, (1, 2)), dilation=1)), ("then", rng.choice(layers)))), now


def _shrink(rng: Random, now: int) -> tuple[Part, int]:
    return Conv(2 * now, kernel=_pair(rng, (1, 2, 3)), stride=_pair(rng, (1, 2)), padding=1, groups=rng.choice((1, 2))), 2 * now


def _residual(rng: Random, now: int) -> tuple[Part, int]:
    stride = rng.choice((1, 2))
    wide = now * rng.choice((1, 2))
    body = Chain(
        (
            ("conv1", Conv(wide, kernel=3, stride=stride, padding=1, bias=False)),
            ("bn1", BatchNorm()),
            ("relu1", Activation(rng.choice(("relu", "silu")))),
            ("conv2", Conv(wide, kernel=(1, 3), padding=(0, 1), groups=2)),
        )
    )
    kept = stride == 1 and wide == now
    shortcut: Part = rng.choice((SubsamplePad(wide, stride=stride), Conv(wide, kernel=1, stride=stride)))
    then = rng.choice((Activation("relu"), Activation("tanh"), None))
    return Residual(body, shortcut=None if kept and rng.random() < 0.7 else shortcut, then=then), wide


def _concat(rng: Random, now: int) -> tuple[Part, int]:
    branches: tuple[tuple[str, Part], ...] = (
        ("one", Conv(2, kernel=1)),
        ("three", Chain((("reduce", Conv(2, kernel=1)), ("relu", Activation()), ("conv", Conv(4, kernel=3, padding=2, dilation=2))))),
        ("pooled", Chain((("pool", Pool("max", kernel=3, stride=1, padding=1)), ("conv", Conv(2, kernel=(5, 1), padding=(2, 0)))))),
    )
    taken = branches[: rng.randint(1, 3)]
    return Concat(taken), (2, 6, 8)[len(taken) - 1]


def _dense(rng: Random, now: int) -> tuple[Part, int]:
    count = rng.randint(1, 3)
    layers = tuple(
        (f"layer{i}", Chain((("bn", BatchNorm()), ("relu", Activation()), ("conv", Conv(2, kernel=3, padding=1))))) for i in range(count)
    )
    return Dense(layers), now + 2 * count


def _cells(rng: Random, now: int) -> tuple[Part, int]:
    """Two cells, each of which reads the two outputs before it."""

    def cell(stride: int) -> Graph:
        nodes: list[tuple[str, Part, tuple[str, ...]]] = [
            ("old", Conv(now, kernel=1, stride=stride), ("before",)),
            ("new", Pool("max", kernel=3, stride=stride, padding=1), ("last",)),
            ("sum", Add(), ("old", "new")),
            ("again", Activation(rng.choice(("relu", "tanh"))), ("old",)),
            ("join", Concatenate(), ("sum", "again") if rng.random() < 0.5 else ("again", "sum", "new")),
            ("fit", Conv(now, kernel=1), ("join",)),
        ]
        return Graph(tuple(nodes), inputs=("before", "last"))

    stem: Part = Chain((("conv", Conv(now, kernel=3, padding=1)), ("relu", Activation())))
    nodes = (("stem", stem, (INPUT,)), ("cell1", cell(1), (INPUT, "stem")), ("cell2", cell(rng.choice((1, 2))), ("stem", "cell1")))
    return Graph(nodes), now
