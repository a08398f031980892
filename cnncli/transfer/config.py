"""What can be chosen about finetuning, with flags: what is frozen, what learns how fast, and how the new classifier is found."""

from __future__ import annotations

from dataclasses import dataclass

from cnncli.errors import UsageError
from cnncli.settings import check, setting

FINETUNING = "Finetuning"
SOLVERS = ("sgd", "lbfgs")
PLACES = ("auto", "memory", "disk", "off")

# Settings of a training that are others here than in `cnn train`: few images, and weights that need small steps. The rate is AdamW's usual
# one, since the sizes of features differ between nets and its steps do not depend on them.
DEFAULTS = {"optimizer": "adamw", "epochs": 10, "batch_size": 32, "patience": 10}
CLASSIFIER = "classifier"  # the name of the stage in which it learns alone
HEAD_EPOCHS = 30
BACKBONE_FACTOR = 0.1
CROPS_FROM = 64  # pixels of the input's shorter side from which training images are random crops; smaller ones are shifted
CROP_SCALE = 0.5


@dataclass(frozen=True)
class FinetuneConfig:
    """Which part of a pretrained net learns, when, and how fast."""

    freeze: bool = setting(False, "The new classifier alone learns.", panel=FINETUNING)
    freeze_until: str | None = setting(None, "Freeze all layers before this one; it and what follows learn.", panel=FINETUNING)
    unfreeze: int | None = setting(
        None, "Let this many of the deepest blocks learn besides the classifier.", panel=FINETUNING, low=1, high=10_000
    )
    head: str | None = setting(None, "The layer that gives the scores, where the net's structure does not show it.", panel=FINETUNING)
    head_epochs: int | None = setting(
        None,
        "Epochs in which the new classifier learns alone at first (default: 30; 0 leaves them out).",
        panel=FINETUNING,
        low=0,
        high=1_000_000,
    )
    solver: str = setting(
        "sgd",
        "How it learns alone: in steps of --optimizer (sgd), or solved as a logistic regression whose penalty the validation images choose "
        "(lbfgs).",
        panel=FINETUNING,
        choices=SOLVERS,
    )
    backbone_lr_factor: float | None = setting(
        None,
        "Rate of all other layers, as a share of the classifier's (default: 0.1; 1 with --layer-decay).",
        panel=FINETUNING,
        low=0,
        high=100,
    )
    layer_decay: float | None = setting(
        None,
        "Multiply the rate with this from each block to the one before it; 0.75 is usual (default: 1).",
        panel=FINETUNING,
        low=0.01,
        high=1,
    )
    gradual: int = setting(
        1, "Unfreeze in so many equal parts, the deepest first, each after its share of the epochs.", panel=FINETUNING, low=1, high=1000
    )
    views: int = setting(
        1,
        "Views of each training image of which a frozen part's output is kept: the image itself, and random variations; with --flip "
        "the mirror image of each, too.",
        panel=FINETUNING,
        low=1,
        high=1000,
    )
    features: str = setting(
        "auto", "Where a frozen part's output is kept (off: computed anew in each epoch).", panel=FINETUNING, choices=PLACES
    )

    def __post_init__(self) -> None:
        check(self)
        given = [
            flag
            for flag, value in (("--freeze", self.freeze), ("--freeze-until", self.freeze_until), ("--unfreeze", self.unfreeze))
            if value
        ]
        if len(given) > 1:
            raise UsageError(f"{given[0]} and {given[1]} both say what is frozen", "give one of them", path=given[1])
        if self.solver == "lbfgs" and self.features == "off":
            raise UsageError("--solver lbfgs needs what is frozen computed once, and --features off does not keep it", path="--features")
        if self.solver == "lbfgs" and self.head_epochs == 0:
            raise UsageError("--solver lbfgs is about the classifier learning alone, and --head-epochs 0 leaves that out", path="--solver")
        if self.freeze and self.gradual > 1:
            raise UsageError("--gradual says how to unfreeze, and --freeze keeps all frozen", "leave out one of them", path="--gradual")
