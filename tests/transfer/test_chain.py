"""Blocks of nets whose structure is known, and cuts against a second look: giving a module the numbers of another image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cnncli.transfer.chain import Structure, structure_of
from cnncli.transfer.partial import Prefix, is_faithful

IMAGE = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
NAMES = ("plain", "residual", "reused", "inception", "encoder", "twice", "around", "dense")
BLOCKS = {
    "plain": ["0", "4", "9"],
    "residual": ["stem", "stage.0", "stage.1", "fc"],
    "reused": ["stem", "stage.0", "stage.1", "fc"],
    "inception": ["stem", "first", "second", "fc"],
    "encoder": ["patches", "encoder.layers.0", "encoder.layers.1", "head"],
    "twice": ["first", "middle", "fc"],
    "around": ["first"],
    "dense": ["stem", "transition.2", "fc"],
}
FIRSTS = {  # weights of the first block
    "plain": {"0.weight", "0.bias", "1.weight", "1.bias"},
    "residual": {"stem.weight", "stem.bias", "bn.weight", "bn.bias"},
    "encoder": {"token", "encoder.positions", "patches.weight", "patches.bias"},
    "twice": {"first.weight", "first.bias", "shared.weight", "shared.bias"},
    "dense": {f"{layer}.{name}" for layer in ("stem", "a", "b") for name in ("weight", "bias")}
    | {"transition.0.weight", "transition.0.bias"},
}


def found_by_swapping(model: nn.Module, images: Tensor) -> set[str]:
    """Modules before which a model can be cut: given what they are given for other images, the scores are those of the other images.

    Anything else that were handed on past such a module would still be that of the first images. Modules that are called more than once,
    in another one that is, with other things than one tensor, with the images themselves, or that give back the very tensor they are given
    (in place, or dropout that does nothing) are left out.
    """
    model.eval()
    one, other = images[: len(images) // 2], images[len(images) // 2 :]
    calls: dict[str, list[list[Any]]] = {}
    same: set[str] = set()
    handles = []
    for path, module in model.named_modules():

        def copied(one: Any) -> Any:
            return one.clone() if isinstance(one, Tensor) and one is not other else None

        def see(_: nn.Module, args: Any, kwargs: Any, path: str = path) -> None:
            calls.setdefault(path, []).append([*map(copied, (*args, *kwargs.values()))])

        def compare(_: nn.Module, args: Any, out: Any, path: str = path) -> None:
            same.update([path] if any(out is one for one in args) else [])

        handles += [module.register_forward_pre_hook(see, with_kwargs=True), module.register_forward_hook(compare)]
    with torch.no_grad():
        wanted = model(other)
    for handle in handles:
        handle.remove()
    good = set()
    for path, made in calls.items():
        above = [".".join(path.split(".")[:depth]) for depth in range(1, path.count(".") + 2)]
        if not path or path in same or any(len(calls.get(outer, [])) > 1 for outer in above) or len(made[0]) != 1 or made[0][0] is None:
            continue
        handle = model.get_submodule(path).register_forward_pre_hook(lambda _, _args, made=made: (made[0][0].clone(),))
        with torch.no_grad():
            found = model(one)
        handle.remove()
        if torch.allclose(found, wanted, rtol=1e-9, atol=1e-12):
            good.add(path)
    return good


def partition(model: nn.Module, structure: Structure) -> None:
    """Every weight is in exactly one block."""
    names = [name for block in structure.blocks for name in block.parameters]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


@pytest.mark.parametrize("name", NAMES)
def test_blocks(name: str, make_net) -> None:
    model = make_net(name).train()
    structure = structure_of(model, IMAGE)
    assert [block.name for block in structure.blocks] == BLOCKS[name]
    partition(model, structure)
    if name in FIRSTS:
        assert set(structure.blocks[0].parameters) == FIRSTS[name]
    assert structure.blocks[0].start is None
    assert all(block.start in {cut.path for cut in structure.cuts} for block in structure.blocks[1:])
    assert structure.image == (3, 8, 8)
    assert all(module.training for module in model.modules()), "it is left in the mode that it was in"


@pytest.mark.parametrize("name", NAMES)
def test_cuts_are_those_that_swapping_finds(name: str, make_net) -> None:
    model = make_net(name)
    structure = structure_of(model, IMAGE)
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = found_by_swapping(model, images)
    assert {cut.path for cut in structure.cuts} == wanted
    assert (wanted == {"first"}) == (name == "around")
    assert [cut.number for cut in structure.cuts] == sorted(cut.number for cut in structure.cuts)
    for cut in structure.cuts:
        assert is_faithful(model, structure, cut, images), cut.path


def test_no_cut_within_a_block_with_a_way_around(make_net) -> None:
    """Named here, so that this does not rest on the second look alone."""
    paths = {cut.path for cut in structure_of(make_net("reused"), IMAGE).cuts}
    assert {"bn", "stage", "stage.0", "stage.1", "pool", "fc"} == paths
    paths = {cut.path for cut in structure_of(make_net("encoder"), IMAGE).cuts}
    assert {"encoder", "encoder.layers", "encoder.layers.0", "encoder.layers.1", "encoder.norm", "head"} == paths


class Wired(nn.Module):
    """Layers each of which reads the sum of some earlier outputs; the last one gives the scores."""

    def __init__(self, wires: list[list[int]]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.wires = wires
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in wires)

    def forward(self, x: Tensor) -> Tensor:
        outputs = [x.flatten(1) * 1.0]
        for layer, sources in zip(self.layers, self.wires, strict=True):
            given = outputs[sources[0]]
            for source in sources[1:]:
                given = given + outputs[source]
            outputs.append(layer(given).tanh())
        return outputs[-1]


@st.composite
def wirings(draw: st.DrawFn) -> list[list[int]]:
    count = draw(st.integers(2, 6))
    near = [st.integers(max(0, place - 2), place) for place in range(count)]
    return [draw(st.lists(one, min_size=1, max_size=2, unique=True)) for one in near]


@settings(max_examples=60, deadline=None)
@given(wirings())
def test_cuts_of_any_wiring(wires: list[list[int]]) -> None:
    model = Wired(wires).double()
    images = torch.randn(4, 1, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    structure = structure_of(model, images[:1])
    live = {len(wires)}  # outputs that the scores depend on: what comes to nothing is of no use, and a cut may pass it
    for place in range(len(wires) - 1, -1, -1):
        if place + 1 in live:
            live |= set(wires[place])
    found = {cut.path for cut in structure.cuts if int(cut.path.split(".")[1]) + 1 in live}
    wanted = {path for path in found_by_swapping(model, images) if int(path.split(".")[1]) + 1 in live}
    if len(live & set(range(1, len(wires) + 1))) == len(wires):
        assert found == wanted
    else:
        assert found <= wanted
    partition(model, structure)
    for cut in structure.cuts:
        if int(cut.path.split(".")[1]) + 1 in live:
            assert is_faithful(model, structure, cut, images)


def test_cut_before_is_the_last_that_comes_first(make_net) -> None:
    structure = structure_of(make_net("residual"), IMAGE)
    for modules, path in (
        (["fc"], "fc"),
        (["stage.1.conv2", "fc"], "stage.1"),
        (["stage.0.bn1"], "stage"),
        (["stem"], None),
        (["bn", "fc"], "bn"),
    ):
        cut = structure.cut_before(modules)
        assert (cut and cut.path) == path, modules


def test_a_layer_that_runs_twice_counts_from_where_it_first_does(make_net) -> None:
    """Were it to learn, what comes before `middle` would change, too."""
    structure = structure_of(make_net("twice"), IMAGE)
    assert structure.first(["shared"]) < structure.first(["middle"])
    cut = structure.cut_before(["shared", "fc"])
    assert cut is None or cut.number <= structure.first(["shared"])


def test_modules_that_do_not_run_are_in_no_block(make_net) -> None:
    model = make_net("inception")
    names = [name for name, _ in model.named_parameters()]
    model.aside = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    structure = structure_of(model, IMAGE)
    assert sorted(name for block in structure.blocks for name in block.parameters) == sorted(names)
    assert not {path for path in structure.ran if path.startswith("aside")}


def test_prefix_gives_what_the_module_is_given(make_net) -> None:
    """Also where the module then changes it in place, and for a batch of any size."""
    model = make_net("plain").eval()
    structure = structure_of(model, IMAGE)
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    for cut in structure.cuts:
        assert torch.equal(Prefix(model, cut)(images), model[: int(cut.path)](images)), cut.path
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["fc", "stage.1"])
def test_unfaithful_where_the_model_keeps_something_aside(name: str, make_net) -> None:
    """A model may carry over numbers in ways that no call shows. Then the two parts do not give what the whole gives."""
    model = make_net("residual")
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    structure = structure_of(model, IMAGE)
    cut = next(cut for cut in structure.cuts if cut.path == name)
    assert is_faithful(model, structure, cut, images)
    kept: list[float] = []
    model.stem.register_forward_hook(lambda _m, _args, out: kept.append(out.sum().item()))
    model.fc.register_forward_hook(lambda _m, _args, out: out * kept.pop())
    assert not is_faithful(model, structure, cut, images)


def check(model: nn.Module, size: tuple[int, int, int], blocks: list[str] | int, tried: int = 3) -> None:
    """Names or number of blocks, every weight in one of them, and cuts that are faithful before some of them."""
    torch.manual_seed(0)
    structure = structure_of(model, torch.zeros(1, *size))
    names = [block.name for block in structure.blocks]
    assert names == blocks or len(names) == blocks
    partition(model, structure)
    cuts = {cut.path: cut for cut in structure.cuts}
    starts = [block.start for block in structure.blocks[1:]]
    assert all(start in cuts for start in starts)
    for start in {starts[0], starts[len(starts) // 2], starts[-1]} if tried == 3 else {starts[-1]}:
        assert is_faithful(model, structure, cuts[start], torch.randn(2, *size)), start


INCEPTIONS = [f"inception{number}" for number in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")]
STAGES = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("lenet5", ["c1", "c3", "c5", "f6", "output"]),
        ("squeezenet1_1", ["conv1", *(f"fire{number}" for number in range(2, 10)), "conv10"]),
        ("resnet20", ["conv1", *(f"stage{stage}.block{block}" for stage in (1, 2, 3) for block in (1, 2, 3)), "fc"]),
        ("densenet-bc-100-12", ["conv1", "block1", "transition1.conv", "block2", "transition2.conv", "block3", "fc"]),
    ],
)
def test_zoo(name: str, blocks: list[str]) -> None:
    from cnncli.arch.zoo.table import build
    from cnncli.models.assemble import assemble

    net = build(name)
    check(assemble(net), tuple(net.input), blocks, tried=1 if "dense" in name else 3)


@pytest.mark.parametrize(
    ("name", "size", "options", "blocks"),
    [
        ("resnet18", 32, {}, ["conv1", *STAGES, "fc"]),
        ("googlenet", 64, {"init_weights": False, "aux_logits": False}, ["conv1", "conv2", "conv3", *INCEPTIONS, "fc"]),
        ("mobilenet_v3_small", 32, {}, [*(f"features.{number}" for number in range(13)), "classifier.0", "classifier.3"]),
        ("efficientnet_b0", 32, {}, 19),  # a stem, 16 inverted residual blocks, a convolution, the classifier
    ],
)
def test_torchvision(name: str, size: int, options: dict[str, bool], blocks: list[str] | int) -> None:
    models = pytest.importorskip("torchvision.models")
    check(models.get_model(name, **options), (3, size, size), blocks)


def test_torchvision_transformer() -> None:
    models = pytest.importorskip("torchvision.models")
    layers = [f"encoder.layers.encoder_layer_{number}" for number in range(2)]
    check(models.VisionTransformer(32, 8, 2, 2, 16, 32), (3, 32, 32), ["conv_proj", *layers, "heads.head"])


def test_timm() -> None:
    timm = pytest.importorskip("timm")
    deit = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, depth=3)
    check(deit, (3, 32, 32), ["patch_embed", "blocks.0", "blocks.1", "blocks.2"])  # both classifiers read the last one's output
    convnext = timm.create_model("convnext_atto")
    stages = [
        f"stages.{stage}.{part}"
        for stage, count in enumerate((2, 2, 6, 2))
        for part in (*(["downsample.1"] if stage else []), *(f"blocks.{number}" for number in range(count)))
    ]
    check(convnext, (3, 32, 32), ["stem", *stages, "head"])
