"""Frozen means frozen: to the bit, without a gradient, and not computed again behind a cut; and a cut changes no number of what learns."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncli.data.loader import Batch
from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.engine.training import Plan, Training
from cnncli.transfer.chain import Cut, Structure, structure_of
from cnncli.transfer.partial import Partial, Prefix

IMAGE = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
DEEPEST = {
    "plain": ("4", "5", "9"),
    "residual": ("stage.1", "fc"),
    "reused": ("stage.1", "fc"),
    "encoder": ("encoder.layers.1", "encoder.norm", "head"),
}
NORM = {"plain": ("1", "5"), "residual": ("bn", "stage.1.bn1"), "reused": ("stage.0.bn2", "stage.1.bn2")}  # frozen, learning
CUTS = {"plain": "4", "residual": "stage.1", "reused": "stage.1", "encoder": "encoder.layers.1"}


def parted(name: str, model: nn.Module) -> tuple[Structure, tuple[str, ...], Cut]:
    """The net's structure, what learns when its deepest block does, and the cut before that."""
    structure = structure_of(model, IMAGE)
    learning = tuple(key for key, _ in model.named_parameters() if key.startswith(tuple(f"{path}." for path in DEEPEST[name])))
    cut = structure.cut_before([key.rpartition(".")[0] for key in learning if key.rpartition(".")[0] in structure.ran])
    assert cut is not None
    assert cut.path == CUTS[name]
    return structure, learning, cut


def batches(count: int) -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(7)
    for _ in range(count):
        yield Batch(torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=generator), torch.arange(6) % 3, torch.arange(6))


def training_of(model: nn.Module, **optim: Any) -> Training:
    return Training(model, Plan(TrainConfig(epochs=2), OptimConfig(lr=0.1, warmup=0.0, **optim), 5, 3))


@pytest.mark.parametrize("cut_off", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize("name", ["plain", "residual", "reused", "encoder"])
def test_frozen_is_frozen(name: str, cut_off: bool, make_net) -> None:
    """Weight decay, momentum, statistics, the average: nothing reaches it. What learns does change."""
    model = make_net(name)
    structure, learning, cut = parted(name, model)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    part = Partial(model, structure, learning, cut if cut_off else None)
    training = training_of(part, optimizer="adamw", weight_decay=0.5, ema=0.9)
    part.train()
    for batch in batches(5):
        training.step(
            Batch(Prefix(copy.deepcopy(model).eval(), cut)(batch.images).detach(), batch.labels, batch.indices) if cut_off else batch
        )
    moved = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    within = tuple(f"{path}." for path in DEEPEST[name])
    no_effect = {
        key for key in before if key.endswith(("conv1.bias", "conv2.bias", "4.bias")) and name != "encoder"
    }  # a batch norm follows
    assert moved - no_effect == {key for key in before if key.startswith(within)} - no_effect
    if name in NORM:
        frozen, learns = NORM[name]
        assert f"{learns}.running_mean" in moved
        assert int(model.state_dict()[f"{learns}.num_batches_tracked"]) == 5
        assert int(model.state_dict()[f"{frozen}.num_batches_tracked"]) == 0
    assert all((parameter.grad is None) == (key not in learning) for key, parameter in model.named_parameters())
    average = training.average.model.state_dict()
    assert all(torch.equal(average[key], before[key]) for key in before if not key.startswith(within))
    assert not torch.equal(average[learning[0]], before[learning[0]])


def test_no_gradient_is_computed_of_what_is_frozen(make_net) -> None:
    """The graph begins at what learns: one convolution of three goes backwards where one learns."""
    model = make_net("residual")
    structure, learning, _ = parted("residual", model)
    part = Partial(model, structure, learning).train()
    seen: dict[str, bool] = {}
    for path, module in model.named_modules():
        module.register_forward_hook(lambda _m, _args, out, path=path: seen.__setitem__(path, out.requires_grad))
    loss = part(next(batches(1)).images).sum()
    assert not any(seen[path] for path in ("stem", "bn", "stage.0", "stage.0.conv2"))
    assert all(seen[path] for path in ("stage.1.conv1", "stage.1", "fc"))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss.backward()
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["aten::convolution_backward"] == 2  # of the five convolutions those of the last block
    whole = make_net("residual")(next(batches(1)).images).sum()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        whole.backward()
    assert {event.key: event.count for event in profile.key_averages()}["aten::convolution_backward"] == 5


def test_modes(make_net) -> None:
    """Dropout and norms of the frozen part are as in use, whatever is asked for; those of what learns follow."""
    model = make_net("plain")
    structure, learning, _ = parted("plain", model)
    part = Partial(model, structure, learning)
    for _ in range(2):
        part.train()
        assert {path for path, module in model.named_modules() if path and module.training} == {"4", "5", "6", "7", "8", "9"}
        part.eval()
        assert not any(module.training for module in part.modules())
    images = next(batches(1)).images
    part.train()
    torch.manual_seed(0)
    first = part(images)
    torch.manual_seed(1)
    assert torch.equal(part(images), first), "no dropout is left before what learns"
    learning = tuple(key for key, _ in model.named_parameters())
    whole = Partial(model, structure, learning).train()
    assert all(module.training for module in whole.modules())
    torch.manual_seed(0)
    first = whole(images)
    torch.manual_seed(1)
    assert not torch.equal(whole(images), first)


class Listed(nn.Module):
    """Its dropouts are in a list, which itself never runs; so are its norms, which are shared between places."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(192, 6), nn.Linear(6, 6), nn.Linear(6, 3)])
        self.drops = nn.ModuleList([nn.Dropout(0.5), nn.Dropout(0.5)])
        self.norm = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.drops[0](self.layers[0](x.flatten(1))))
        return self.layers[2](self.drops[1](self.norm(self.layers[1](x).relu())))


def test_modules_in_lists_and_in_two_places() -> None:
    model = Listed().double()
    structure = structure_of(model, IMAGE)
    part = Partial(model, structure, ("layers.1.weight", "layers.1.bias", "layers.2.weight", "layers.2.bias")).train()
    assert [drop.training for drop in model.drops] == [False, True]
    assert not model.norm.training, "it is part of what is frozen, wherever it runs again"
    part(next(batches(1)).images)
    assert int(model.norm.num_batches_tracked) == 0


@pytest.mark.parametrize("name", ["plain", "residual", "reused", "encoder"])
def test_a_cut_changes_no_number(name: str, make_net) -> None:
    """Scores and gradients are those of the whole, in training as in use; what the cut is given is not changed."""
    model = make_net(name)
    structure, learning, cut = parted(name, model)
    for mode in (True, False):
        found = []
        images, labels = next(batches(1)).images, torch.arange(6) % 3
        features = Prefix(copy.deepcopy(model).eval(), cut)(images)
        for end in (None, cut):
            own = copy.deepcopy(model)
            part = Partial(own, structure, learning, end).train(mode)
            if name in ("residual", "reused"):
                own.drop.p = 0.0
            scores = part(images if end is None else features.detach().clone())
            F.cross_entropy(scores, labels).backward()
            found.append((scores, {key: p.grad for key, p in own.named_parameters() if p.grad is not None}, own.state_dict()))
        (scores, gradients, state), (cut_scores, cut_gradients, cut_state) = found
        torch.testing.assert_close(cut_scores, scores, rtol=1e-12, atol=1e-13)
        assert gradients.keys() == cut_gradients.keys() == set(learning)
        for key in gradients:
            torch.testing.assert_close(cut_gradients[key], gradients[key], rtol=1e-9, atol=1e-12)
        for key in state:
            torch.testing.assert_close(cut_state[key], state[key], rtol=1e-12, atol=1e-13)


def test_every_cut_of_every_net_gives_the_same_scores(make_net) -> None:
    for name in ("plain", "residual", "reused", "inception", "encoder", "twice", "dense"):
        model = make_net(name).eval()
        structure = structure_of(model, IMAGE)
        images = next(batches(1)).images
        wanted = model(images)
        for cut in structure.cuts:
            scores = Partial(model, structure, (), cut)(Prefix(model, cut)(images))
            torch.testing.assert_close(scores, wanted, rtol=1e-12, atol=1e-13, msg=f"{name} {cut.path}")
            torch.testing.assert_close(model(images), wanted, rtol=1e-12, atol=1e-13)  # attention rounds otherwise where nothing learns


@pytest.mark.parametrize("cut_off", [False, True], ids=["whole", "cut"])
def test_state_is_the_model_s_own(cut_off: bool, make_net) -> None:
    model, other = make_net("encoder"), make_net("encoder")
    structure, learning, cut = parted("encoder", model)
    names = list(model.state_dict())
    part = Partial(model, structure, learning, cut if cut_off else None)
    assert list(part.state_dict()) == names
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    part.load_state_dict(other.state_dict())
    assert all(torch.equal(one, two) for one, two in zip(model.state_dict().values(), other.state_dict().values(), strict=True))
    with pytest.raises(RuntimeError, match="Missing key"):
        part.load_state_dict({})
    copied = copy.deepcopy(part)
    assert list(copied.state_dict()) == names
    assert copied.model is not model
    given = Prefix(model, cut)(next(batches(1)).images) if cut_off else next(batches(1)).images
    assert torch.equal(copied.eval()(given), part.eval()(given))
    with torch.no_grad():
        part.model.head.weight.zero_()
    assert not torch.equal(copied(given), part(given)), "a copy runs on its own weights"


@pytest.mark.parametrize("broken", [False, True])
def test_what_is_put_aside_comes_back(broken: bool, make_net) -> None:
    """The class token, positions and forward passes that are replaced while what is behind a cut runs; also where it fails."""
    model = make_net("encoder").eval()
    structure, learning, cut = parted("encoder", model)
    own = model.patches.forward
    model.patches.forward = lambda x: own(x)  # a library may have replaced it already
    replaced = model.patches.forward
    held = dict(model.named_parameters())
    images = next(batches(1)).images
    wanted, features = model(images), Prefix(model, cut)(images)
    part = Partial(model, structure, learning, cut)
    with torch.no_grad():
        if broken:
            with pytest.raises(RuntimeError):
                part(features[..., :3])
        else:
            part(features)
    assert all(held[name] is parameter for name, parameter in model.named_parameters())
    assert [name for name, _ in model.named_parameters()] == list(held)
    assert model.patches.forward is replaced
    assert [path for path, module in model.named_modules() if "forward" in vars(module)] == ["patches"]
    torch.testing.assert_close(model(images), wanted, rtol=1e-12, atol=1e-13)


def test_a_cut_that_is_none_is_refused(make_net) -> None:
    """What needs more than the cut gives is not computed from nothing."""
    model = make_net("around").eval()
    structure = structure_of(model, IMAGE)
    wrong = Cut("third", 3, ("",), (("first", torch.Size([1, 3])), ("second", torch.Size([1, 3]))))
    with pytest.raises((RuntimeError, ValueError)):
        Partial(model, structure, (), wrong)(torch.randn(6, 3, dtype=torch.float64))
    one = Cut("second", 2, ("",), (("first", torch.Size([1, 3])),))
    model.forward = lambda x: model.first(x.flatten(1)) + 0 * model.first.weight.sum()
    with pytest.raises((RuntimeError, ValueError)):
        Partial(model, structure, (), one)(torch.randn(6, 3, dtype=torch.float64))


def test_prefix_restores_the_model_and_stops_at_the_cut(make_net) -> None:
    model = make_net("residual").eval()
    structure, _, cut = parted("residual", model)
    assert structure.cut_before(["stage.1.conv1"]) == cut
    ran: list[str] = []
    for path, module in model.named_modules():
        module.register_forward_hook(lambda _m, _args, _out, path=path: ran.append(path))
    features = Prefix(model, cut)(next(batches(1)).images)
    assert features.shape == (6, 4, 8, 8)
    assert ran == ["stem", "bn", *(f"stage.0.{path}" for path in ("conv1", "bn1", "conv2", "bn2")), "stage.0"]
    ran.clear()
    Partial(model, structure, (), cut)(features)
    assert ran[:3] == ["stem", "bn", "stage.0"], "called, without computing: what they hold does not run"
    assert "stage.1.conv1" in ran
    with pytest.raises(RuntimeError):
        Prefix(model, cut)(torch.randn(2, 5, 8, 8, dtype=torch.float64))
    assert not any(module._forward_pre_hooks for module in model.modules())
