"""What can be chosen about training, with flags: how long, by which rule, how computed, what is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cnncli.errors import UsageError
from cnncli.settings import check, setting

TRAINING = "Training"
OPTIMISATION = "Optimisation"
COMPUTING = "Computing"
KEEPING = "Run folder"

DEFAULT_EPOCHS = 30

# Peak rates and decays that work without tuning: He et al. 2015 for SGD; Kingma & Ba 2015 for Adam; Loshchilov & Hutter 2019 (torch's
# default decay) for AdamW; Zeiler 2012 for Adadelta, whose rate is 1; a tenth of SGD's for RMSprop's step, which is of the rate's size in
# every coordinate; Jordan 2024 for Muon, whose step has a norm that does not depend on the gradient's.
DEFAULT_LR = {"sgd": 0.05, "adam": 0.001, "adamw": 0.001, "rmsprop": 0.001, "adadelta": 1.0, "muon": 0.02}
DEFAULT_DECAY = {"sgd": 5e-4, "adam": 0.0, "adamw": 1e-2, "rmsprop": 0.0, "adadelta": 0.0, "muon": 1e-2}
OPTIMIZERS = tuple(DEFAULT_LR)
SCHEDULES = ("cosine", "constant", "step", "linear", "polynomial", "one-cycle")
TRAINING_VIEWS = ("none", "flips", "shifts")  # views of the images as the net sees them
VIEWS = (*TRAINING_VIEWS, "ten-crop")  # and parts of larger ones
MONITORS = ("val_accuracy", "val_loss", "val_top5", "val_macro_f1", "val_balanced_accuracy", "train_loss", "train_accuracy")


@dataclass(frozen=True)
class TrainConfig:
    """How long a model is trained, on batches of what size, and by which figure the best epoch is chosen."""

    # Of these at most one is in force: whoever sets one by flag or recipe drops the others.
    LENGTHS: ClassVar[tuple[str, ...]] = ("epochs", "steps", "minutes")

    epochs: int | None = setting(None, "Passes over the training images (default: 30).", panel=TRAINING, low=1, high=1_000_000)
    steps: int | None = setting(None, "Train for this many steps instead.", panel=TRAINING, low=1, high=2**40)
    minutes: float | None = setting(
        None, "Train for this many minutes instead, validation not counted.", panel=TRAINING, low=1e-3, high=1e6
    )
    batch_size: int | str = setting(
        64,
        "Images per step, over all devices; auto: the largest power of two that fits.",
        panel=TRAINING,
        low=1,
        high=1_000_000,
        words=("auto",),
    )
    accumulate: int = setting(
        1,
        "Parts in which a step's batch goes through the net, their gradients added up: less memory, the same step.",
        panel=TRAINING,
        low=1,
        high=100_000,
    )
    seed: int = setting(0, "Seed of everything random.", panel=TRAINING, low=0, high=2**31 - 1)
    deterministic: bool = setting(False, "Refuse operations whose results differ from run to run on a GPU.", panel=TRAINING)
    monitor: str = setting(
        "val_accuracy",
        "The figure that says which epoch is the best (without validation images: the last).",
        panel=TRAINING,
        choices=MONITORS,
    )
    patience: int | None = setting(
        None, "Stop after this many validations in a row without a better one (default: never).", panel=TRAINING, low=1, high=1_000_000
    )
    validate_every: int = setting(
        1, "Epochs from one validation to the next; the last epoch always has one.", panel=TRAINING, low=1, high=1_000_000
    )
    tta: str = setting(
        "none",
        "What validation averages the scores of, besides the image: its mirror image (flips), and both moved diagonally (shifts).",
        panel=TRAINING,
        choices=TRAINING_VIEWS,
    )
    sampling: str = setting(
        "all",
        "Images of an epoch: all once, or as many drawn so that each class comes up equally often (balanced).",
        panel=TRAINING,
        choices=("all", "balanced"),
    )
    class_weights: str = setting(
        "none",
        "Weigh the loss of an image by one over its class's share of the images (balanced).",
        panel=TRAINING,
        choices=("none", "balanced"),
    )
    dropout: float | None = setting(
        None, "Probability with which every dropout layer of the net drops (default: the net's own).", panel=TRAINING, low=0, high=0.99
    )
    stochastic_depth: float | None = setting(
        None, "Probability with which the last residual block is skipped, growing linearly up to it (default: the net's own).",
        panel=TRAINING, low=0, high=0.99,
    )  # fmt: skip
    whiten: bool = setting(
        False, "Set the first convolution to filters that whiten its patches of the training images, and freeze it.", panel=TRAINING
    )
    identity: bool = setting(
        False, "Let convolutions begin by passing on their input: their first filters are identities, what is random is small.",
        panel=TRAINING,
    )  # fmt: skip
    keep_going: bool = setting(
        False, "Skip steps whose loss or gradient is not finite and count them; else three in a row end the run.", panel=TRAINING
    )

    def __post_init__(self) -> None:
        check(self)
        given = [name for name in self.LENGTHS if getattr(self, name) is not None]
        if len(given) > 1:
            raise UsageError(f"--{given[0]} and --{given[1]} both say how long to train", "give one of them", path=f"--{given[1]}")

    @property
    def passes(self) -> int | None:
        """The epochs to train; None where steps or minutes end it."""
        return self.epochs or (None if self.steps or self.minutes else DEFAULT_EPOCHS)


@dataclass(frozen=True)
class OptimConfig:
    """By which rule weights are changed. A rate or decay that is None follows the optimizer."""

    optimizer: str = setting(
        "sgd", "The optimizer; muon takes convolutions and leaves the rest to sgd.", panel=OPTIMISATION, choices=OPTIMIZERS
    )
    lr: float | None = setting(
        None,
        "Peak learning rate (default: 0.05 for sgd, 0.02 for muon, 1 for adadelta, else 0.001).",
        panel=OPTIMISATION,
        low=1e-12,
        high=1e9,
    )
    momentum: float = setting(0.9, "Momentum of sgd, rmsprop and muon; beta1 of adam and adamw.", panel=OPTIMISATION, low=0, high=0.9999)
    nesterov: bool | None = setting(None, "Nesterov's momentum in sgd and muon (default: on).", panel=OPTIMISATION)
    beta2: float | None = setting(
        None,
        "Decay of the mean of squared gradients (default: 0.999; 0.99 for rmsprop, 0.95 for adadelta).",
        panel=OPTIMISATION,
        low=0,
        high=0.999999,
    )
    epsilon: float | None = setting(
        None, "Added to the root of that mean (default: 1e-8; 1e-6 for adadelta).", panel=OPTIMISATION, low=1e-20, high=1
    )
    weight_decay: float | None = setting(
        None,
        "Weight decay (default: 0.0005 for sgd, 0.01 for adamw and muon, else 0).",
        panel=OPTIMISATION,
        low=0,
        high=10,
    )
    decay_all: bool = setting(False, "Decay norms and biases too.", panel=OPTIMISATION)
    other_lr: float | None = setting(
        None, "With muon: the rate of what is not a convolution, which sgd trains (default: 0.05).", panel=OPTIMISATION, low=1e-12, high=1e9
    )
    other_momentum: float | None = setting(
        None, "With muon: the momentum of what sgd trains (default: that of muon).", panel=OPTIMISATION, low=0, high=0.9999
    )
    fixed_norm: bool = setting(
        False, "With muon: keep the norm of each convolution's filters, for nets with batch norm behind them.", panel=OPTIMISATION
    )
    bias_lr_factor: float = setting(
        1.0, "How many times the rate biases learn with, those of norms too.", panel=OPTIMISATION, low=0, high=1e4
    )
    schedule: str = setting("cosine", "How the rate falls after the warm-up.", panel=OPTIMISATION, choices=SCHEDULES)
    warmup: float | None = setting(
        None,
        "Share of the steps in which the rate rises to its peak (default: 0.05; 0.3 for one-cycle).",
        panel=OPTIMISATION,
        low=0,
        high=1,
    )
    final_lr: float = setting(
        0.0, "The rate at the end, as a share of the peak; not for constant and step.", panel=OPTIMISATION, low=0, high=1
    )
    milestones: str = setting(
        "0.5,0.75",
        "With --schedule step: shares of the training at which the rate falls, or --milestones 30,60 in epochs.",
        panel=OPTIMISATION,
    )
    step_factor: float = setting(0.1, "With --schedule step: what the rate is multiplied with there.", panel=OPTIMISATION, low=0, high=1)
    power: float = setting(2.0, "With --schedule polynomial: the exponent.", panel=OPTIMISATION, low=0.01, high=100)
    clip_grad: float = setting(
        2.0, "Largest norm of a step's gradient, which is scaled down to it; 0 leaves it as it is.", panel=OPTIMISATION, low=0, high=1e9
    )
    label_smoothing: float = setting(0.0, "Share of each label that is spread over all classes.", panel=OPTIMISATION, low=0, high=0.99)
    ema: float = setting(
        0.0, "Decay, a step, of the moving average of the weights that is judged and kept; 0 keeps the weights themselves.",
        panel=OPTIMISATION, low=0, high=0.999999,
    )  # fmt: skip

    def __post_init__(self) -> None:
        check(self)
        milestones(self.milestones)

    @property
    def peak_lr(self) -> float:
        """The learning rate at the end of the warm-up."""
        return DEFAULT_LR[self.optimizer] if self.lr is None else self.lr

    @property
    def decay(self) -> float:
        """The weight decay in force."""
        return DEFAULT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay


@dataclass(frozen=True)
class ComputeConfig:
    """On what and how it is computed."""

    device: str = setting("auto", "Where to compute: auto, cpu, cuda, cuda:1, mps.", panel=COMPUTING)
    gpus: str | None = setting(None, "Train on these GPUs together, a process on each: 0,1,2,3 or all.", panel=COMPUTING)
    processes: int | None = setting(
        None, "Train in this many processes of this machine's CPU, which share its cores (default: one).", panel=COMPUTING, low=1, high=1024
    )
    precision: str = setting(
        "auto",
        "Numbers of forward and backward pass; auto times a few steps and takes the fastest that trains.",
        panel=COMPUTING,
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    memory_format: str = setting("auto", "Layout of images in memory.", panel=COMPUTING, choices=("auto", "contiguous", "channels-last"))
    compile: bool = setting(False, "Compile the net with torch.compile: minutes at the start, faster steps.", panel=COMPUTING)
    sync_bn: bool = setting(False, "Batch norm over the images of all GPUs.", panel=COMPUTING)
    shard: bool = setting(False, "Share weights, gradients and optimizer state among the processes (FSDP2).", panel=COMPUTING)

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class KeepConfig:
    """What a run writes besides its best and last model."""

    save_every: float = setting(
        10.0,
        "Minutes from one training state to the next within an epoch; each epoch's end writes one too.",
        panel=KEEPING,
        low=0,
        high=1e5,
    )
    keep_every: int | None = setting(
        None,
        "Keep the model of every so many epochs, and that before the first, in RUN/epochs (default: none).",
        panel=KEEPING,
        low=1,
        high=1_000_000,
    )
    tensorboard: bool = setting(False, "Also write TensorBoard's event files into RUN/tensorboard.", panel=KEEPING)
    stall_timeout: float = setting(
        600.0, "Seconds that reading a batch may take before the run gives up.", panel=KEEPING, low=0.1, high=1e6
    )

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class InferConfig:
    """In which numbers a trained model is computed when it is used, and whether it is compiled."""

    precision: str = setting(
        "auto",
        "Numbers of the forward pass: fp32 is exact; auto takes bf16 or fp16 where that is much faster, the labels of some images are the "
        "same, and there are enough images to try it.",
        panel=COMPUTING,
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    compile: bool = setting(
        False, "Compile the net with torch.compile: a minute at the start, faster batches; needs a C++ compiler.", panel=COMPUTING
    )

    def __post_init__(self) -> None:
        check(self)


def milestones(text: str) -> tuple[float, ...]:
    """`30,60` or `0.5,0.75` as rising numbers above 0. UsageError for anything else."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    rising = all(a < b for a, b in zip((0.0, *values), values, strict=False))
    mixed = any(value < 1 for value in values) and any(value >= 1 for value in values)
    if not values or not rising or mixed or not all(value < 1e6 for value in values):
        raise UsageError(
            f"--milestones {text!r} should be rising shares of the training below 1, or epochs", "for example 0.5,0.75", path="--milestones"
        )
    return values
