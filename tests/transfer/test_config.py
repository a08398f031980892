"""What of finetuning's settings contradicts itself, and what is out of range."""

from __future__ import annotations

from typing import Any

import pytest

from cnncli.engine.config import OptimConfig, TrainConfig
from cnncli.errors import UsageError
from cnncli.transfer.config import DEFAULTS, FinetuneConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"freeze": True, "unfreeze": 2}, "--freeze and --unfreeze both say what is frozen"),
        ({"freeze": True, "freeze_until": "fc"}, "--freeze and --freeze-until both say what is frozen"),
        ({"freeze_until": "fc", "unfreeze": 1}, "--freeze-until and --unfreeze both say what is frozen"),
        ({"solver": "lbfgs", "head_epochs": 0}, "--solver lbfgs is about the classifier learning alone"),
        ({"freeze": True, "gradual": 2}, "--gradual says how to unfreeze"),
        ({"unfreeze": 0}, "--unfreeze"),
        ({"head_epochs": -1}, "--head-epochs"),
        ({"solver": "adam"}, "--solver"),
        ({"backbone_lr_factor": -0.1}, "--backbone-lr-factor"),
        ({"layer_decay": 0.0}, "--layer-decay"),
        ({"layer_decay": 1.1}, "--layer-decay"),
        ({"gradual": 0}, "--gradual"),
        ({"views": 0}, "--views"),
        ({"features": "gpu"}, "--features"),
    ],
    ids=str,
)
def test_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        FinetuneConfig(**values)
    assert caught.value.path is not None
    assert caught.value.path.removeprefix("--").replace("-", "_") in values


def test_taken() -> None:
    FinetuneConfig()
    FinetuneConfig(freeze=True, head_epochs=3, solver="lbfgs", views=4, features="disk")
    FinetuneConfig(unfreeze=1, gradual=3, layer_decay=1.0, backbone_lr_factor=0.0, head_epochs=0)


def test_other_defaults_are_settings_of_a_training() -> None:
    train = {name: value for name, value in DEFAULTS.items() if name in TrainConfig.__dataclass_fields__}
    optim = {name: value for name, value in DEFAULTS.items() if name in OptimConfig.__dataclass_fields__}
    assert train | optim == DEFAULTS
    TrainConfig(**train)
    OptimConfig(**optim)
