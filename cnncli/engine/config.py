"""What can be chosen about training, with flags."""

from __future__ import annotations

from dataclasses import dataclass

from cnncli.settings import check, setting

TRAINING = "Training"
OPTIMISATION = "Optimisation"

# Peak rates and decays that work without tuning: He et al. 2015 for SGD; Loshchilov & Hutter 2019 (torch's default decay) for AdamW.
DEFAULT_LR = {"sgd": 0.05, "adamw": 0.001}
DEFAULT_DECAY = {"sgd": 5e-4, "adamw": 1e-2}


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. A rate or decay that is None follows the optimizer."""

    epochs: int = setting(30, "Passes over the training images.", panel=TRAINING, low=1, high=1_000_000)
    batch_size: int = setting(64, "Images per step.", panel=TRAINING, low=1, high=1_000_000)
    seed: int = setting(0, "Seed of everything random.", panel=TRAINING, low=0, high=2**31 - 1)
    optimizer: str = setting("sgd", "The optimizer; sgd has Nesterov momentum.", panel=OPTIMISATION, choices=("sgd", "adamw"))
    lr: float | None = setting(
        None, "Peak learning rate (default: 0.05 for sgd, 0.001 for adamw).", panel=OPTIMISATION, low=1e-12, high=1e9
    )
    momentum: float = setting(0.9, "Momentum of sgd.", panel=OPTIMISATION, low=0, high=0.9999)
    weight_decay: float | None = setting(
        None, "Weight decay, not on norms and biases (default: 0.0005 for sgd, 0.01 for adamw).", panel=OPTIMISATION, low=0, high=10
    )
    warmup: float = setting(
        0.05, "Share of the steps in which the rate rises from 0; then it falls as a cosine.", panel=OPTIMISATION, low=0, high=1
    )
    clip_grad: float = setting(
        2.0,
        "Largest norm of a step's gradient, which is scaled down to it; 0 leaves it as it is.",
        panel=OPTIMISATION,
        low=0,
        high=1e9,
    )
    label_smoothing: float = setting(0.0, "Share of each label that is spread over all classes.", panel=OPTIMISATION, low=0, high=0.99)

    def __post_init__(self) -> None:
        check(self)

    @property
    def peak_lr(self) -> float:
        """The learning rate at the end of the warm-up."""
        return DEFAULT_LR[self.optimizer] if self.lr is None else self.lr

    @property
    def decay(self) -> float:
        """The weight decay in force."""
        return DEFAULT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay
