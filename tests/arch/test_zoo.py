"""Every net of the zoo against the numbers that its paper, or the lecture, gives for it."""

from __future__ import annotations

import pytest
from published import ALEXNET_CONV1_PARAMS, ALEXNET_ROWS, COUNTS, JUMPS, RECEPTIVE_FIELDS, VGG16_CONVOLUTION_MACS

from cnncli.arch.folding import fold
from cnncli.arch.layers import ShapeError
from cnncli.arch.net import Row, smallest_side, totals, walk
from cnncli.arch.zoo.table import ZOO, arguments_of, build
from cnncli.errors import UsageError


def rows_of(name: str) -> dict[str, Row]:
    return {row.name: row for row in walk(build(name))}


def test_every_net_has_published_numbers() -> None:
    assert set(COUNTS) == set(ZOO)


@pytest.mark.parametrize("name", ZOO)
def test_parameters_and_macs_are_the_published_ones(name: str) -> None:
    net = build(name)
    rows = walk(net)
    params = macs = memory = 0
    for row in rows:  # re-added by hand: the totals are no second source
        params, macs, memory = params + row.params, macs + row.macs, memory + row.memory
    assert (params, macs) == COUNTS[name]
    sums = totals(rows, net.input)
    assert (sums.params, sums.macs, sums.flops) == (params, macs, 2 * macs)
    channels, height, width = net.input
    assert sums.activations == memory + channels * height * width
    assert (sums.weight_bytes, sums.activation_bytes) == (4 * params, 4 * sums.activations)
    assert net.name == name
    assert net.paper
    assert ZOO[name].summary


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "vgg16-c", "resnet20"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_folding_loses_nothing(name: str, depth: int) -> None:
    net = build(name)
    rows = walk(net)
    folded = fold(rows, depth)
    assert totals(folded, net.input) == totals(rows, net.input)
    assert folded[-1].output == rows[-1].output
    assert max(row.name.count(".") for row in folded) < depth
    if depth == 3:
        assert folded == rows


def test_folding_needs_a_depth() -> None:
    with pytest.raises(UsageError, match="--depth 0"):
        fold((), 0)


def test_alexnet_is_the_lecture_s() -> None:
    rows = rows_of("alexnet")
    assert [(name, rows[name].output) for name, _ in ALEXNET_ROWS] == list(ALEXNET_ROWS)
    assert [name for name in rows if name.startswith(("conv", "pool", "fc"))] == [name for name, _ in ALEXNET_ROWS]
    assert rows["conv1"].params == ALEXNET_CONV1_PARAMS


def test_two_towers_halve_what_they_split() -> None:
    one, two = rows_of("alexnet"), rows_of("alexnet-two-tower")
    for name, row in one.items():
        halved = name in ("conv2", "conv4", "conv5")
        assert two[name].macs * (2 if halved else 1) == row.macs
        assert two[name].output == row.output


def test_vgg16_convolutions_alone() -> None:
    assert sum(row.macs for name, row in rows_of("vgg16").items() if name.startswith("conv")) == VGG16_CONVOLUTION_MACS


@pytest.mark.parametrize("name", RECEPTIVE_FIELDS)
def test_receptive_fields(name: str) -> None:
    rows = rows_of(name)
    for layer, side in RECEPTIVE_FIELDS[name].items():
        assert rows[layer].receptive_field == (side, side), layer
    for layer, jump in JUMPS.get(name, {}).items():
        assert rows[layer].jump == (jump, jump), layer


@pytest.mark.parametrize("name", ["resnet20", "plain56", "resnet110"])
def test_cifar_names_say_the_number_of_layers(name: str) -> None:
    weighted = [row for row in walk(build(name)) if row.macs]
    assert len(weighted) == int(name.removeprefix("resnet").removeprefix("plain"))


@pytest.mark.parametrize("name", ZOO)
def test_the_smallest_side_is_the_smallest(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    side = smallest_side(build(name))
    assert side is not None
    assert walk(build(name, input=(3, side, side)))
    if side > 1:
        with pytest.raises(ShapeError) as caught:
            walk(build(name, input=(3, side - 1, side - 1)))
        assert f"3x{side}x{side}" in caught.value.hint
        assert name in caught.value.message
    monkeypatch.setattr("cnncli.arch.net.smallest_side", lambda _: side)  # the search for the hint is what takes long
    for smaller in range(max(1, side - 40), side):
        with pytest.raises(ShapeError):
            walk(build(name, input=(3, smaller, smaller)))


def test_too_small_an_input_names_the_layer_and_the_arithmetic() -> None:
    with pytest.raises(ShapeError) as caught:
        walk(build("alexnet", input=(3, 10, 300)))
    assert "layer conv1: conv 11x11" in caught.value.message
    assert "height: N=10, F=11, P=0, S=4" in caught.value.message
    assert "--input 3x" in caught.value.hint


@pytest.mark.parametrize("name", ZOO)
def test_input_and_classes_can_be_chosen(name: str) -> None:
    own = build(name)
    side = max(own.input[1], smallest_side(own) or 0)
    net = build(name, input=(2, side + 8, side + 5), classes=7)
    assert net.input == (2, side + 8, side + 5)
    assert net.classes == 7
    assert walk(net)[-1].output == (7,)
    assert build(name) == own


@pytest.mark.parametrize("classes", [0, -1, 10**7 + 1])
def test_impossible_classes_are_refused(classes: int) -> None:
    with pytest.raises(UsageError, match="--classes"):
        build("lenet5", classes=classes)


@pytest.mark.parametrize(
    ("given", "named"),
    [("alexnt", "alexnet"), ("VGG16", "vgg16"), ("resnet-20", "resnet20"), ("lenet", "lenet5"), ("convnetjs", "convnetjs")],
)
def test_unknown_names_name_the_nearest(given: str, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(given)
    assert given in caught.value.message
    assert named in caught.value.hint


def test_a_name_like_no_other_points_to_the_list() -> None:
    with pytest.raises(UsageError, match="cnn models"):
        build("zzz")


def test_the_lecture_s_fully_connected_layer() -> None:
    """200x200 grey pixels, each read by each of 40,000 hidden units."""
    net = build("mlp", input=(1, 200, 200), hidden=40_000)
    fc1 = {row.name: row for row in walk(net)}["fc1"]
    assert fc1.macs == 1_600_000_000
    assert fc1.params == 1_600_000_000 + 40_000


def test_settings_are_the_numbers_that_the_name_leaves_open() -> None:
    assert arguments_of("mlp") == {"hidden": int}
    for name in ("alexnet", "alexnet-two-tower", "vgg16", "vgg16-bn", "resnet20", "resnet50", "resnet50-v1", "densenet121", "lenet5"):
        assert arguments_of(name) == {}, name
    with pytest.raises(UsageError, match="alexnet"):
        arguments_of("alexnt")


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("mlp", {"hiden": 3}, "mlp has no setting 'hiden'; did you mean hidden?"),
        ("mlp", {"zzz": 3}, r"mlp has no setting 'zzz'; mlp takes hidden \(int\)"),
        ("mlp", {"hidden": True}, r"mlp: hidden=True should be of type int; mlp takes hidden \(int\)"),
        ("mlp", {"hidden": 2.5}, "hidden=2.5 should be of type int"),
        ("mlp", {"hidden": 0}, "features=0 should be a whole number from 1"),
        ("resnet20", {"n": 4}, "resnet20 has no setting 'n'; resnet20 takes none"),
    ],
)
def test_settings_that_a_net_does_not_take(name: str, settings: dict[str, int | float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        build(name, **settings)
