"""Small nets whose structure is known, for the tests of finetuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cnncli.data.loader import Loader
from cnncli.data.pixels import Pixels
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Sample


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Nets this small are slower on two, and far slower where other tests run beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Residual(nn.Module):
    """A residual block: its ReLU a function, or one module that is called twice."""

    def __init__(self, channels: int, *, reused: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True) if reused else None

    def forward(self, x: Tensor) -> Tensor:
        relu = self.relu or F.relu
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(x))))) + x)


class ResidualNet(nn.Module):
    """A stem, two residual blocks, and a classifier."""

    def __init__(self, *, reused: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.stage = nn.Sequential(Residual(4, reused=reused), Residual(4, reused=reused))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage(F.relu(self.bn(self.stem(x))))
        return self.fc(self.drop(self.pool(x).flatten(1)))


class Inception(nn.Module):
    """Four branches side by side, as GoogLeNet's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, 2, 1)
        self.three = nn.Sequential(nn.Conv2d(channels, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1))
        self.five = nn.Sequential(nn.Conv2d(channels, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 5, padding=2))
        self.pool = nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), nn.Conv2d(channels, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)


class InceptionNet(nn.Module):
    """Two inception modules, which its own forward pass calls one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.first, self.second = Inception(4), Inception(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.first(self.stem(x).tanh())).mean((2, 3)))


class EncoderBlock(nn.Module):
    """Attention and a small net, each with a norm before it and a skip connection around both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.norm2, self.mlp = nn.LayerNorm(width), nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class Encoder(nn.Module):
    """Holds the positions itself, and its blocks in a sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 17, width))
        self.drop = nn.Dropout(0.3)
        self.layers = nn.Sequential(EncoderBlock(width), EncoderBlock(width))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(self.drop(x + self.positions)))


class EncoderNet(nn.Module):
    """A vision transformer: the class token belongs to no module but the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.patches = nn.Conv2d(3, 4, 2, stride=2)
        self.encoder = Encoder(4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return self.head(self.encoder(x)[:, 0])


class Twice(nn.Module):
    """A layer that runs before and behind another one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.middle = nn.Linear(192, 5), nn.Linear(5, 5), nn.Linear(5, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.first(x.flatten(1)).tanh())
        return self.fc(self.shared(self.middle(x.tanh()).tanh()).tanh())


class Around(nn.Module):
    """A skip connection around all layers, from the first to the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(192, 3), nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        return x + self.third(self.second(x).tanh())


class DenseNet(nn.Module):
    """Each layer reads the outputs of all before it; a transition is all that the second half reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 3, padding=1)
        self.a, self.b = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(4, 2, 3, padding=1)
        self.transition = nn.Sequential(nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Conv2d(6, 3, 1))
        self.c = nn.Conv2d(3, 2, 3, padding=1)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for layer in (self.a, self.b):
            found.append(layer(torch.cat(found, 1)))
        x = self.transition(torch.cat(found, 1))
        return self.fc(torch.cat([x, self.c(x)], 1).mean((2, 3)))


def plain() -> nn.Module:
    """Layers one after another, with in-place ReLUs, a norm, and dropout."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Dropout(0.4),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


NETS: dict[str, Callable[[], nn.Module]] = {
    "plain": plain,
    "residual": lambda: ResidualNet(reused=False),
    "reused": lambda: ResidualNet(reused=True),
    "inception": InceptionNet,
    "encoder": EncoderNet,
    "twice": Twice,
    "around": Around,
    "dense": DenseNet,
}


@pytest.fixture
def make_net() -> Callable[..., nn.Module]:
    """make_net("residual"): a net for images of 3 x 8 x 8 and three classes, in float64, whose norms have statistics other than 0 and 1."""

    def make(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
        torch.manual_seed(5)
        model = NETS[name]().to(dtype)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
        return model

    return make


@pytest.fixture
def pixels() -> Pixels:
    """21 images of three classes, 3 x 8 x 8, which differ in colour."""
    labels = np.arange(21) % 3
    images = np.random.default_rng(1).integers(0, 150, (21, 3, 8, 8)) + 100 * np.eye(3, dtype=np.int64)[labels][:, :, None, None]
    samples = tuple(Sample(f"{number}.png", int(label)) for number, label in enumerate(labels))
    return Pixels(torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels), samples)


@pytest.fixture
def make_loader(pixels: Pixels) -> Callable[..., Loader]:
    """make_loader(batch_size=4, shuffle=True): the images themselves."""
    return lambda **options: Loader(pixels, Preprocess(3, 8, 8), **options)
