"""Stochastic depth against a loop that reads like the paper; nets that get it or other rates keep their weights and their cost."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
from torch import nn

from cnncli.arch.blocks import Chain, Concat, Dense, Graph, Part, Residual, chain
from cnncli.arch.drawing.builder import draw
from cnncli.arch.drawing.plan import Frame, Item, Parallel
from cnncli.arch.explain import explain
from cnncli.arch.folding import fold, fold_repeats
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear
from cnncli.arch.net import Net, totals, walk
from cnncli.arch.pointwise import Activation, BatchNorm, Dropout, DropPath
from cnncli.arch.regularise import with_dropout, with_stochastic_depth
from cnncli.arch.serial import net_from_json, net_to_json
from cnncli.arch.zoo.table import ZOO, build
from cnncli.errors import UsageError
from cnncli.models.assemble import assemble


def residual_blocks(part: Part) -> list[Residual]:
    """Those of a part, as they end when it runs."""
    inner = [block for step in part.steps() for block in residual_blocks(step.part)] if hasattr(part, "steps") else []
    return [*inner, part] if isinstance(part, Residual) else inner


NETS = {name: build(name) for name in ZOO}
RESIDUAL = [name for name, net in NETS.items() if residual_blocks(net.root) and name not in {"resnet1202", "resnet152"}]


def drops(net: Net) -> list[tuple[str, float]]:
    return [(row.name, row.part.rate) for row in walk(net) if isinstance(row.part, DropPath)]


def keys(net: Net) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in assemble(net).state_dict().items()}


@pytest.mark.parametrize("name", RESIDUAL)
def test_stochastic_depth_adds_a_step_to_each_block_and_nothing_else(name: str) -> None:
    net, deep = NETS[name], with_stochastic_depth(NETS[name], 0.4)
    rows, deep_rows = walk(net), walk(deep)
    assert keys(deep) == keys(net)
    before, after = totals(rows, net.input), totals(deep_rows, net.input)
    assert before == after
    blocks = len(residual_blocks(net.root))
    assert [rate for _, rate in drops(deep)] == pytest.approx([number / blocks * 0.4 for number in range(1, blocks + 1)])
    assert [row[:3] for row in deep_rows if not isinstance(row.part, DropPath)] == [row[:3] for row in rows]
    for block in residual_blocks(deep.root):
        names = [step.name for step in block.steps()]
        add = names.index("add")
        assert block.steps()[add].inputs[0] == block.body.parts[-1][0]  # what is added is what may be dropped
        assert isinstance(block.body.parts[-1][1], DropPath)
    assert net_from_json(json.loads(json.dumps(net_to_json(deep)))) == deep
    assert with_stochastic_depth(with_stochastic_depth(net, 0.9), 0.4) == deep
    assert with_stochastic_depth(deep, 0) == net


def test_which_zoo_nets_have_residual_blocks() -> None:
    assert {"resnet18", "resnet50", "resnet50-v1", "resnet20", "mobilenet_v2"} <= set(RESIDUAL)


def test_blocks_within_blocks_within_anything() -> None:
    conv = Conv(4, kernel=3, padding=1)
    inner = Residual(chain(conv=conv, bn=BatchNorm()), then=None)
    outer = Residual(chain(inner=inner, drop_path=conv), shortcut=chain(inside=inner, conv=conv), then=Activation())
    graph = Graph((("first", outer, ("a",)), ("last", inner, ("first",))), inputs=("a",))
    branches = Concat((("left", inner), ("right", Dense((("layer", inner),)))))
    root = chain(stem=conv, graph=graph, empty=Residual(Chain()), branches=branches, pool=AdaptivePool(), flatten=Flatten(), fc=Linear(2))
    net = Net("nested", root, (3, 8, 8), 2)
    deep = with_stochastic_depth(net, 0.7)
    assert drops(deep) == [
        ("graph.first.inner.drop_path", pytest.approx(0.1)),
        ("graph.first.drop_path2", pytest.approx(0.3)),  # the block ends behind those in its body and in its shortcut
        ("graph.first.shortcut.inside.drop_path", pytest.approx(0.2)),
        ("graph.last.drop_path", pytest.approx(0.4)),
        ("empty.drop_path", pytest.approx(0.5)),
        ("branches.left.drop_path", pytest.approx(0.6)),
        ("branches.right.layer.drop_path", pytest.approx(0.7)),
    ]
    assert keys(deep) == keys(net)
    assert with_stochastic_depth(deep, 0) == net
    torch.manual_seed(0)
    plain, same = assemble(net).eval(), assemble(deep).eval()
    same.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(plain(images), same(images))


def slow(branch: torch.Tensor, keep: list[bool], rate: float) -> torch.Tensor:
    """Image by image: b f(x), with what the paper multiplies by at test time divided out in training."""
    return torch.stack([image / (1 - rate) if kept else torch.zeros_like(image) for image, kept in zip(branch, keep, strict=True)])


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,)])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.6])
def test_the_module_drops_whole_images_as_often_as_it_should(shape: tuple[int, ...], rate: float) -> None:
    torch.manual_seed(3)
    module = DropPath(rate).build(shape).double()
    branch = torch.randn(4000, *shape, dtype=torch.float64, requires_grad=True)
    dropped = module(branch)
    keep = [bool(image.any()) for image in dropped]
    torch.testing.assert_close(dropped, slow(branch, keep, rate), rtol=1e-14, atol=0)
    assert abs(sum(keep) / 4000 - (1 - rate)) < 4 * (rate * (1 - rate) / 4000) ** 0.5 + 1e-12
    assert rate == 0 or keep != [bool(image.any()) for image in module(branch)]
    dropped.sum().backward()
    assert branch.grad is not None
    want = torch.tensor([1 / (1 - rate) if kept else 0.0 for kept in keep], dtype=torch.float64)
    torch.testing.assert_close(branch.grad.flatten(1)[:, 0], want)
    assert module.eval()(branch) is branch


def test_a_rate_of_1_gives_zeros_and_rates_beyond_are_refused() -> None:
    assert not DropPath(1).build((3,))(torch.ones(5, 3)).any()
    for rate in (-0.1, 1.1, float("nan"), True):
        with pytest.raises(UsageError, match="drop path: rate"):
            DropPath(rate)


def test_the_module_is_copied_and_pickled() -> None:
    module = DropPath(0.5).build((3,)).eval()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(twin) is type(module)
        assert (twin.p, twin.training) == (0.5, False)
    assert str(module) == "DropPath(p=0.5, inplace=False)"


def test_a_training_step_goes_through() -> None:
    model = assemble(with_stochastic_depth(build("resnet20"), 0.5))
    images = torch.randn(4, 3, 32, 32)
    torch.manual_seed(0)
    one, two = model(images), model(images)
    assert not torch.equal(one, two)
    two.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(isinstance(m, nn.Module) and m.p > 0 for m in model.modules() if type(m).__name__ == "DropPath")


def test_nets_that_have_none_are_refused() -> None:
    with pytest.raises(UsageError, match="resnet20 has no dropout layer") as told:
        with_dropout(build("resnet20"), 0.2)
    assert told.value.path == "--dropout"
    with pytest.raises(UsageError, match="vgg11 has no residual block") as told:
        with_stochastic_depth(build("vgg11"), 0.2)
    assert told.value.path == "--stochastic-depth"


def test_every_dropout_layer_gets_the_rate() -> None:
    net = build("alexnet")
    changed = with_dropout(net, 0.15)
    rates = [row.part.p for row in walk(changed) if isinstance(row.part, Dropout)]
    assert rates == [0.15, 0.15]
    assert with_dropout(changed, 0.5) == net
    assert [(row.name, row.macs) for row in walk(changed)] == [(row.name, row.macs) for row in walk(net)]
    with pytest.raises(UsageError, match=r"dropout: p=1\.5"):
        with_dropout(net, 1.5)


def test_rows_folds_and_explanations_know_it() -> None:
    net, deep = build("resnet56"), with_stochastic_depth(build("resnet56"), 0.5)
    rows = walk(deep)
    row = next(row for row in rows if isinstance(row.part, DropPath))
    assert (row.operation, row.params, row.macs, row.memory) == (f"drop path {0.5 / 27:g}", 0, 0, 0)
    assert explain(row).lines == ()
    assert [folded.name for folded in fold_repeats(rows, 2)] == [folded.name for folded in fold_repeats(walk(net), 2)]
    assert totals(fold(rows, 2), deep.input) == totals(rows, deep.input)


def boxes(item: Item) -> list[tuple[str, ...]]:
    if isinstance(item, Parallel):
        return [*(box for branch in item.branches for inner in branch.items for box in boxes(inner)), *boxes(item.merge)]
    return [box for inner in item.item.items for box in boxes(inner)] if isinstance(item, Frame) else [(item.label, *item.after)]


def test_equal_blocks_are_still_drawn_once() -> None:
    plain, deep = draw(build("resnet56")).main.items, draw(with_stochastic_depth(build("resnet56"), 0.5)).main.items
    assert [getattr(item, "times", 1) for item in deep] == [getattr(item, "times", 1) for item in plain]
    drawn = [box for item in deep for box in boxes(item)]
    assert ("3x3 conv, 16", "BN", "drop path") in drawn
    assert [tuple(word for word in box if word != "drop path") for box in drawn] == [box for item in plain for box in boxes(item)]
