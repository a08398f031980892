"""Models to look into: which have trained weights, which have drawn ones, and that this is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from cnncli.errors import CnnError, UsageError
from cnncli.models.looking import Opened, check_looking, drawn, open_to_look
from cnncli.models.resolve import resolve

NET = "conv3-4 relu maxpool FC-10"
MINE = """
import torch
class Net(torch.nn.Module):
    input_shape = (3, 8, 8)
    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(192, 4)
    def forward(self, images):
        return self.fc(images.flatten(1))
"""


def opened(text: str, weights: str | None = None, *, classes: int | None = None, seed: int = 0) -> tuple[Opened, list[str]]:
    told: list[str] = []
    spec = resolve(text)
    check_looking(spec, weights, classes)
    return open_to_look(spec, weights, classes=classes, seed=seed, tell=told.append), told


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


@pytest.mark.parametrize("text", ["lenet5", NET])
def test_bare_nets_have_random_weights(text: str) -> None:
    one, told = opened(text, seed=3)
    assert one.seed == 3
    assert told == [f"note: {text} has random weights, seed 3"]
    assert not one.model.training
    assert same(one.model, opened(text, seed=3)[0].model)
    assert not same(one.model, opened(text, seed=4)[0].model)


def test_where_published_weights_are_is_told() -> None:
    _, told = opened("squeezenet1_1")
    assert told == ["note: squeezenet1_1 has random weights, seed 0 (--weights imagenet takes the published ones)"]


def test_drawing_leaves_the_random_state() -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    opened("lenet5")
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_librarys_model_with_random_weights() -> None:
    one, told = opened("torchvision/squeezenet1_1", "random")
    assert told == ["note: torchvision/squeezenet1_1 has random weights, seed 0"]
    assert (one.info.spec, len(one.info.classes)) == ("torchvision/squeezenet1_1", 1000)
    assert same(one.model, drawn(one.info, 0))
    assert one.model(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)


def test_other_numbers_of_classes() -> None:
    one, _ = opened("lenet5", classes=3)
    assert one.info.classes == ("0", "1", "2")
    assert one.model(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


def test_code_of_the_users(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    one, told = opened(f"{tmp_path}/mine.py:Net")
    assert told == [f"note: {tmp_path}/mine.py:Net has the weights that its code gives it"]
    assert one.info.preprocess.height == 8
    assert same(one.model, opened(f"{tmp_path}/mine.py:Net")[0].model)


def test_a_trained_model_is_no_random_one(tmp_path: Path) -> None:
    from cnncli.models.modelfile import save

    one, _ = opened("lenet5")
    save(tmp_path / "m.safetensors", one.model, one.info)
    trained, told = opened(str(tmp_path / "m.safetensors"))
    assert (trained.seed, told) == (None, [])
    assert same(trained.model, one.model)
    with pytest.raises(UsageError, match="has its own weights; leave out --weights random"):
        opened(str(tmp_path / "m.safetensors"), "random")


@pytest.mark.parametrize(
    ("text", "weights", "message"),
    [
        (NET, "imagenet", "a net in notation has no weights to take"),
        ("lenet5", "imagenet", "lenet5 has no published weights"),
        ("lenet5", "nope.pth", "no such weights file"),
        ("lenet5", "randon", "no such weights file"),
    ],
)
def test_what_is_refused(text: str, weights: str, message: str) -> None:
    with pytest.raises(CnnError, match=message):
        opened(text, weights)
