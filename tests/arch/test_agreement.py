"""What a net declares is what torch does: shapes, parameters, MACs and refusals, for every layer, block and net of the zoo.

Each layer is described twice, as a rule and as a module. Without this test that would be worth nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from math import gcd
from random import Random

import pytest
import torch
from randomnets import random_net
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Layer, Linear, Pair, Pool, ShapeError, SubsamplePad
from cnncli.arch.net import Net, smallest_side, totals, walk
from cnncli.arch.pointwise import ACTIVATIONS, Activation, BatchNorm, Dropout, DropPath, LocalResponseNorm
from cnncli.arch.serial import PARTS
from cnncli.arch.shift import Shift
from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble

Shape = tuple[int, ...]
Sample = tuple[Callable[[], Layer], Shape]  # a layer, not yet made (making it may be refused), and the shape it is given


def sides(rng: Random) -> tuple[int, int]:
    return rng.randint(1, 12), rng.randint(1, 12)


def pair_of(rng: Random, low: int, high: int) -> Pair:
    return rng.randint(low, high) if rng.random() < 0.4 else (rng.randint(low, high), rng.randint(low, high))


def convolutions(rng: Random) -> Sample:
    groups = rng.choice((1, 1, 2, 3))
    arguments = {
        "kernel": pair_of(rng, 1, 5),
        "stride": pair_of(rng, 1, 4),
        "padding": pair_of(rng, 0, 3),
        "dilation": pair_of(rng, 1, 3),
        "groups": groups,
        "bias": rng.random() < 0.5,
    }
    filters = groups * rng.randint(1, 3)
    return lambda: Conv(filters, **arguments), (rng.randint(1, 6), *sides(rng))


def pools(rng: Random) -> Sample:
    kind = rng.choice(("max", "average"))
    arguments = {
        "kernel": pair_of(rng, 1, 5),
        "stride": rng.choice((None, pair_of(rng, 1, 5))),
        "padding": rng.choice((0, 0, pair_of(rng, 0, 3))),
        "ceil": rng.random() < 0.5,
        "count_padding": rng.random() < 0.5,
    }
    return lambda: Pool(kind, **arguments), (rng.randint(1, 3), *sides(rng))


def adaptive_pools(rng: Random) -> Sample:
    kind, size = rng.choice(("max", "average")), pair_of(rng, 1, 7)
    return lambda: AdaptivePool(kind, size=size), (rng.randint(1, 3), *sides(rng))


def fully_connected(rng: Random) -> Sample:
    features, bias = rng.randint(1, 20), rng.random() < 0.5
    return lambda: Linear(features, bias=bias), (rng.randint(1, 30),)


def batch_norms(rng: Random) -> Sample:
    affine = rng.random() < 0.5
    return lambda: BatchNorm(affine=affine), image_or_vector(rng)


def response_norms(rng: Random) -> Sample:
    size = rng.randint(1, 6)
    return lambda: LocalResponseNorm(size=size), image_or_vector(rng)


def activations(rng: Random) -> Sample:
    kind = rng.choice(tuple(ACTIVATIONS))
    return lambda: Activation(kind), image_or_vector(rng)


def dropouts(rng: Random) -> Sample:
    p = rng.choice((0, 0.3, 1))
    return lambda: Dropout(p), image_or_vector(rng)


def drop_paths(rng: Random) -> Sample:
    rate = rng.choice((0, 0.3, 1))
    return lambda: DropPath(rate), image_or_vector(rng)


def flattens(rng: Random) -> Sample:
    return Flatten, image_or_vector(rng)


def subsamples(rng: Random) -> Sample:
    channels = rng.randint(1, 4)
    filters, stride = channels + rng.randint(0, 4), rng.randint(1, 4)
    return lambda: SubsamplePad(filters, stride=stride), (channels, *sides(rng))


def shifts(rng: Random) -> Sample:
    pixels = rng.randint(1, 6)
    return lambda: Shift(pixels), (rng.randint(1, 4), *sides(rng))


def image_or_vector(rng: Random) -> Shape:
    channels = rng.randint(1, 8)
    return (channels, *sides(rng)) if rng.random() < 0.6 else (channels,)


SAMPLERS: dict[type[Layer], Callable[[Random], Sample]] = {
    Conv: convolutions,
    Pool: pools,
    AdaptivePool: adaptive_pools,
    Linear: fully_connected,
    BatchNorm: batch_norms,
    LocalResponseNorm: response_norms,
    Activation: activations,
    Dropout: dropouts,
    DropPath: drop_paths,
    Flatten: flattens,
    SubsamplePad: subsamples,
    Shift: shifts,
}
COUNTS: dict[type[Layer], int] = {Conv: 600, Pool: 600, AdaptivePool: 100}


def samples(kind: type[Layer]) -> Iterator[Sample]:
    rng = Random(kind.__name__)
    for _ in range(COUNTS.get(kind, 50)):
        yield SAMPLERS[kind](rng)


def test_every_layer_is_sampled() -> None:
    layers = {kind for kind in PARTS.values() if issubclass(kind, Layer)}
    assert layers == set(SAMPLERS), "give the new layer a sampler, so that its rule is held against torch"


def test_every_kind_and_field_is_sampled() -> None:
    seen: dict[tuple[str, str], set[object]] = {}
    for kind in SAMPLERS:
        for make, _ in samples(kind):
            try:
                layer = make()
            except UsageError:
                continue
            for field in dataclasses.fields(layer):
                seen.setdefault((kind.__name__, field.name), set()).add(getattr(layer, field.name))
    assert seen["Pool", "kind"] == seen["AdaptivePool", "kind"] == {"max", "average"}
    assert seen["Activation", "kind"] == set(ACTIVATIONS)
    constant = {name for name, values in seen.items() if len(values) < 2}
    # what changes no shape, parameter or MAC is held against the formulas in tests/models
    assert constant == {("BatchNorm", "eps"), ("BatchNorm", "momentum")} | {("LocalResponseNorm", n) for n in ("alpha", "beta", "k")}


@pytest.fixture
def no_onednn() -> Iterator[None]:
    """oneDNN compiles a kernel for every new shape, which takes 8 ms each."""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(before)


def run(module: nn.Module, shape: Shape) -> tuple[Shape, int]:
    """Shape and MACs that torch gives for one image; RuntimeError or ValueError where it refuses."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = module.eval()(torch.zeros(1, *shape))
    flops = counter.get_total_flops()
    assert flops % 2 == 0
    return tuple(output.shape[1:]), flops // 2


def torch_module(layer: Layer, shape: Shape) -> nn.Module | None:
    """The built module, or None where torch refuses to make it."""
    try:
        return layer.build(shape)
    except ValueError:
        return None


def says(layer: Layer, shape: Shape) -> Shape | None:
    try:
        return layer.output(shape)
    except ShapeError:
        return None


@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda kind: kind.__name__)
def test_layers_declare_what_torch_does(kind: type[Layer], no_onednn: None) -> None:
    taken = refused = 0
    for make, shape in samples(kind):
        try:
            layer = make()
        except UsageError:
            assert kind is Pool  # judged in test_pool_padding_is_refused_with_torch
            continue
        declared, module = says(layer, shape), torch_module(layer, shape)
        try:
            got = None if module is None else run(module, shape)
        except (RuntimeError, IndexError, ValueError):
            got = None
        assert declared == (got and got[0]), (layer, shape)
        if declared is None:
            refused += 1
            continue
        assert module is not None
        assert got is not None
        taken += 1
        assert layer.params(shape) == sum(p.numel() for p in module.parameters()), (layer, shape)
        assert layer.macs(shape) == got[1], (layer, shape)
    assert taken > 20
    assert refused > 20 or kind not in (Conv, Pool)


def test_pool_padding_is_refused_with_torch() -> None:
    for kind, torch_kind in (("max", nn.MaxPool2d), ("average", nn.AvgPool2d)):
        for kernel in range(1, 7):
            for padding in range(5):
                try:
                    Pool(kind, kernel=kernel, stride=1, padding=padding)
                    ours = True
                except UsageError:
                    ours = False
                try:
                    torch_kind(kernel, 1, padding)(torch.zeros(1, 1, 9, 9))
                    theirs = True
                except RuntimeError:
                    theirs = False
                assert ours == theirs, (kind, kernel, padding)


def test_ceil_mode_on_every_small_size() -> None:
    """The rule with the most corners, without gaps: input 1..9, kernel 1..4, stride 1..5, padding up to half."""
    for n in range(1, 10):
        for kernel in range(1, 5):
            for stride in range(1, 6):
                for padding in range(kernel // 2 + 1):
                    layer = Pool("max", kernel=(kernel, 1), stride=(stride, 1), padding=(padding, 0), ceil=True)
                    try:
                        want = tuple(layer.build((1, n, 1))(torch.zeros(1, 1, n, 1)).shape[1:])
                    except RuntimeError:
                        want = None
                    assert says(layer, (1, n, 1)) == want, (n, layer)


@pytest.mark.parametrize("layer", [Conv(2, kernel=1), Pool("max", kernel=1), AdaptivePool(), SubsamplePad(4), LocalResponseNorm()])
def test_a_vector_is_refused_where_torch_refuses_it(layer: Layer) -> None:
    assert says(layer, (4,)) is None
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        layer.build((4,))(torch.zeros(2, 4))


def test_stricter_than_torch_on_purpose() -> None:
    # torch would apply a Linear to the last axis of an image, cut channels with a negative padding and shift the batch of vectors:
    # all are mistakes in a net
    assert says(Linear(2), (3, 3, 3)) is None
    assert says(SubsamplePad(2), (3, 4, 4)) is None
    assert says(Shift(), (4,)) is None


def test_a_fit_is_refused_for_its_size_only_where_a_larger_input_helps() -> None:
    for make, shape in samples(Conv):
        layer = make()
        try:
            layer.output(shape)
        except ShapeError as error:
            assert error.too_small == (shape[0] % layer.groups == 0)
            if error.too_small:
                assert layer.output((shape[0], 40, 40))


def test_adaptive_windows_are_the_widest_that_torch_uses() -> None:
    for n in range(1, 14):
        for size in range(1, 14):
            x = torch.ones(1, 1, n, 1, requires_grad=True)
            y = nn.AdaptiveAvgPool2d((size, 1))(x)
            widest = 0
            for i in range(size):
                (gradient,) = torch.autograd.grad(y[0, 0, i, 0], x, retain_graph=True)
                widest = max(widest, int((gradient != 0).sum()))
            layer = AdaptivePool(size=(size, 1))
            assert layer.windows((1, n, 1))[0].kernel == widest, (n, size)
            strides = layer.strides((1, n, 1))
            assert (strides[0] if strides else layer.windows((1, n, 1))[0].stride) == n / size


def test_adaptive_windows_cost_no_more_on_a_large_map() -> None:
    layer = AdaptivePool(size=9_999_991)
    assert layer.windows((1, 9_999_973, 9_999_991))[0].kernel == 2
    assert gcd(9_999_973, 9_999_991) == 1


# Whole nets.

LARGEST_REAL_RUN = 3_000_000  # parameters: beyond, a forward pass is left to the meta device


@cache
def zoo_net(name: str) -> Net:
    return build(name)


def check_net(net: Net) -> nn.Module:
    """Rows against hooks and the flop counter on the meta device."""
    rows = walk(net)
    with torch.device("meta"):
        model = assemble(net).eval()
    modules = dict(model.named_modules())
    seen: list[tuple[str, Shape]] = []
    for row in rows:
        assert row.name in modules, f"{net.name}: no module {row.name}"

        def hook(module: nn.Module, inputs: object, output: torch.Tensor, name: str = row.name) -> None:
            seen.append((name, tuple(output.shape[1:])))

        modules[row.name].register_forward_hook(hook)
        assert row.params == sum(p.numel() for p in modules[row.name].parameters()), row.name
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        output = model(torch.empty(1, *net.input, device="meta"))
    assert seen == [(row.name, row.output) for row in rows]  # the order in which they run, too
    registered = [name for name in modules if name in {row.name for row in rows}]
    assert registered == [row.name for row in rows]
    sums = totals(rows, net.input)
    assert counter.get_total_flops() == 2 * sums.macs == sums.flops
    assert sum(p.numel() for p in model.parameters()) == sums.params
    by_layer = {name.partition(".")[2]: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    for row in rows:
        assert by_layer.get(row.name, 0) == 2 * row.macs, row.name
    assert tuple(output.shape) == (1, *rows[-1].output)
    return model


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name == "resnet1202" else name for name in ZOO])
def test_zoo_rows_are_what_the_model_does(name: str) -> None:
    net = zoo_net(name)
    check_net(net)
    assert walk(net)[-1].output == (net.classes,)


@pytest.mark.parametrize("seed", range(40))
def test_random_nets_are_what_the_model_does(seed: int) -> None:
    check_net(random_net(seed))


SMALL_ENOUGH = [
    name for name in ZOO if name in ("alexnet", "vgg11-lrn") or sum(row.params for row in walk(zoo_net(name))) <= LARGEST_REAL_RUN
]


@pytest.mark.parametrize("name", SMALL_ENOUGH)
def test_zoo_models_run(name: str) -> None:
    """Two images, seeded weights, finite scores; the nets of hundreds of megabytes only at ten classes and their smallest input."""
    net = zoo_net(name)
    if sum(row.params for row in walk(net)) > LARGEST_REAL_RUN:
        side = smallest_side(net)
        assert side is not None
        net = build(name, input=(3, side, side), classes=10)
    torch.manual_seed(0)
    model = assemble(net)
    images = torch.randn(2, *net.input, generator=torch.Generator().manual_seed(1))
    for mode in (model.train(), model.eval()):
        with torch.no_grad():
            scores = mode(images)
        assert scores.shape == (2, net.classes)
        assert scores.isfinite().all()
        assert not torch.equal(scores[0], scores[1])
