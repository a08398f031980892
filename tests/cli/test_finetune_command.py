"""`cnn finetune`, run as a user runs it: what learns, what stays as it was to the bit, and what is told before and after."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import harness
import pytest
from harness import Done, run
from pretrained import BLOCKS, HEAD, THREE, changed_tensors, digit_images, finetuned, owners, pretrained_digits, rows, tensors

pytestmark = pytest.mark.slow
SHORT = ("--batch-size", "8", "--epochs", "2", "--head-epochs", "2")
ALONE = ("--freeze", "--batch-size", "8", "--epochs", "2", "--precision", "fp32")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of them run: `data` has three digits in train/ and val/; `source` leads to the net that has learned ten."""
    folder = tmp_path_factory.mktemp("finetune")
    digit_images(folder / "data", THREE)
    made = pretrained_digits()
    (folder / "source").symlink_to(made.folder)
    yield folder
    assert harness.tree(made.folder) == made.hashes, "finetuning changed the model that it began with"


@pytest.fixture(scope="module")
def plain(place: Path) -> Done:
    """The recipe without a word about what is frozen, in the folder `plain`."""
    return finetuned("source", "--data", "data", "--head-epochs", "6", "--epochs", "4", "--batch-size", "8", cwd=place, out="plain")


@pytest.fixture(scope="module")
def frozen(place: Path) -> Done:
    """The classifier alone, in the folder `frozen`."""
    return finetuned("source", "--data", "data", *ALONE, cwd=place, out="frozen")


# ---- the recipe ----


def test_the_plan_is_told_before_anything_learns(plain: Done) -> None:
    told = plain.err
    for words in (
        f"classifier {HEAD}: Linear 32 -> 10 becomes 32 -> 3, 99 parameters",
        "3 blocks before it",
        "stage 1, classifier: 6 epochs, 99 parameters learn, ",
        f"what comes before {HEAD} is computed once",
        "stage 2, everything: 4 epochs, all ",
    ):
        assert words in told, words
        assert told.index(words) < told.index("epoch 1/6"), words
    assert re.search(r"conv1_1 to conv2_2 +\d+ +in stage 2 +0.0001\n", told)
    assert re.search(rf"{HEAD} +99 +always +0.001\n", told)
    stages = [told.index("stage 1 of 2: classifier"), told.index("epoch  6/6" if "epoch  6/6" in told else "epoch 6/6")]
    assert stages[0] < stages[1] < told.index("stage 2 of 2: everything")
    assert "trained 10 epochs in " in told


def test_files_of_the_run(place: Path, plain: Done) -> None:
    names = {path.name for path in (place / "plain").iterdir()}
    wanted = {"best.safetensors", "last.safetensors", "state.safetensors", "metrics.jsonl", "config.toml", "curves.png", "result.json"}
    assert wanted <= names
    assert not [name for name in names if name.startswith(".") or name.endswith(".tmp")]
    assert [row["epoch"] for row in rows(place / "plain")] == list(range(1, 11))


def test_eval_agrees_with_what_was_told(place: Path, plain: Done) -> None:
    found = re.fullmatch(r"plain/best\.safetensors: validation accuracy ([0-9.]+)% at epoch (\d+)\n", plain.out)
    assert found, plain.out
    best = max(rows(place / "plain"), key=lambda row: row["val_accuracy"])
    assert best["epoch"] == int(found[2]) or rows(place / "plain")[int(found[2]) - 1]["val_accuracy"] == best["val_accuracy"]
    done = run("eval", "plain", "--data", "data", "--json", cwd=place, warm=True)
    assert done.code == 0, done.err
    assert done.json["split"] == "val"
    assert f"{100 * done.json['top1']:.2f}" == found[1]
    assert done.json["top1"] > 0.6  # a third of the images would be chance
    assert [row["class"] for row in done.json["per_class"]] == ["one", "two", "zero"]


def test_the_result_is_a_model_like_any(place: Path, plain: Done) -> None:
    from cnncli.models.modelfile import read_info

    source, own = read_info(place / "source" / "best.safetensors"), read_info(place / "plain" / "best.safetensors")
    assert own.classes == ("one", "two", "zero")
    assert own.data == "data"
    assert own.preprocess == source.preprocess
    image = place / "data" / "val" / "two" / "000.png"
    done = run("predict", "plain", image, "--json", cwd=place, warm=True)
    assert done.code == 0, done.err
    assert {one["class"] for one in done.json["predictions"]} == {"one", "two", "zero"}
    done = run("report", "plain", "-o", "page.html", cwd=place, warm=True)
    assert done.code == 0, done.err
    assert (place / "page.html").stat().st_size > 10_000
    done = run("finetune", "plain", "--data", "digits", *ALONE, "-o", "again", cwd=place, warm=True)
    assert done.code == 0, done.err
    assert f"classifier {HEAD}: Linear 32 -> 3 becomes 32 -> 10, 330 parameters" in done.err


def test_runs_lists_it(place: Path, plain: Done) -> None:
    done = run("runs", ".", "--json", cwd=place, warm=True)
    assert done.code == 0, done.err
    (own,) = (one for one in done.json if one["name"] == "plain")
    assert (own["state"], own["epochs"]) == ("finished", 10)


# ---- what stays as it was ----


def test_freeze_leaves_all_but_the_classifier(place: Path, frozen: Done) -> None:
    """Running means and variances of batch norms, too."""
    assert owners(changed_tensors(place / "source", place / "frozen")) == {HEAD}
    last = place / "frozen" / "last.safetensors"
    assert owners(changed_tensors(place / "source" / "best.safetensors", last)) == {HEAD}
    assert any("running_mean" in name for name in tensors(last))
    assert "stage 1, classifier: 2 epochs, 99 parameters learn" in frozen.err
    assert "stage 2" not in frozen.err


PARTS = {
    "--freeze-until conv2_2": {"conv2_2", "bn2_2", HEAD},
    "--freeze-until conv2_1": {"conv2_1", "bn2_1", "conv2_2", "bn2_2", HEAD},
    "--unfreeze 1": {"conv2_2", "bn2_2", HEAD},
    "--unfreeze 2 --head-epochs 0": {"conv2_1", "bn2_1", "conv2_2", "bn2_2", HEAD},
    "--unfreeze 3": {"conv1_1", "bn1_1", "conv2_1", "bn2_1", "conv2_2", "bn2_2", HEAD},
    "--freeze-until conv2_2 --features off": {"conv2_2", "bn2_2", HEAD},
}


@pytest.mark.parametrize("words", PARTS)
def test_a_part_learns(words: str, place: Path, here: Path) -> None:
    finetuned(place / "source", "--data", place / "data", *SHORT, *words.split(), cwd=here)
    changed = owners(changed_tensors(place / "source" / "best.safetensors", here / "run" / "last.safetensors"))
    assert changed == PARTS[words]


def test_the_classifier_itself_may_be_named(place: Path, here: Path) -> None:
    finetuned(place / "source", "--data", place / "data", *SHORT, "--freeze-until", HEAD, cwd=here)
    assert owners(changed_tensors(place / "source", here / "run")) == {HEAD}


def test_gradual_lets_the_deepest_learn_first(place: Path, here: Path) -> None:
    words = ("--gradual", "3", "--head-epochs", "1", "--epochs", "3", "--batch-size", "8", "--layer-decay", "0.5")
    done = finetuned(place / "source", "--data", place / "data", *words, cwd=here)
    stages = re.findall(r"^stage \d of 4: (.*)$", done.err, re.MULTILINE)
    assert stages == ["classifier", "from conv2_2", "from conv2_1", "everything"]
    for name, when, rate in (
        ("conv1_1", "in stage 4", "0.000125"),
        ("conv2_1", "from stage 3", "0.00025"),
        ("conv2_2", "from stage 2", "0.0005"),
    ):
        assert re.search(rf"^{name} +\d+ +{when} +{rate}$", done.err, re.MULTILINE), name
    assert [row["epoch"] for row in rows(here / "run")] == [1, 2, 3, 4]


def test_smaller_rates_move_less(place: Path, here: Path) -> None:
    """One step of Adam moves each weight by about the rate: by a tenth in the blocks, and by all of it in the classifier."""
    common = ("--head-epochs", "0", "--steps", "1", "--schedule", "constant", "--warmup", "0", "--weight-decay", "0", "--lr", "0.01")
    moved = {}
    for name, words in {"tenth": (), "same": ("--backbone-lr-factor", "1"), "decay": ("--layer-decay", "0.5")}.items():
        finetuned(place / "source", "--data", place / "data", *common, *words, cwd=here, out=name)
        before, after = tensors(place / "source"), tensors(here / name / "last.safetensors")
        moved[name] = [float((after[f"{block}.weight"] - before[f"{block}.weight"]).abs().median()) for block in BLOCKS]
    assert moved["tenth"] == pytest.approx([0.001] * 3, rel=0.05)
    assert moved["same"] == pytest.approx([0.01] * 3, rel=0.05)
    assert moved["decay"] == pytest.approx([0.00125, 0.0025, 0.005], rel=0.05)


# ---- what is computed once ----


def test_features_in_memory_and_on_disk_are_the_same(place: Path, frozen: Done, here: Path) -> None:
    cache = here / "cache"
    done = finetuned(place / "source", "--data", place / "data", *ALONE, "--features", "disk", cwd=here, CNN_CACHE=str(cache))
    assert "in memory" in frozen.err
    assert "on disk" in done.err
    assert not changed_tensors(place / "frozen", here / "run")
    assert list((cache / "features").iterdir()) == []


def test_features_that_are_not_kept(place: Path, here: Path) -> None:
    done = finetuned(place / "source", "--data", place / "data", *ALONE, "--features", "off", cwd=here)
    assert "is computed anew in every epoch, without gradients" in done.err
    assert owners(changed_tensors(place / "source", here / "run")) == {HEAD}


def test_what_mixes_images_does_not_mix_features(place: Path, here: Path) -> None:
    """Which is told, and what does it is named."""
    done = finetuned(place / "source", "--data", place / "data", *ALONE, "--mixup", "0.5", cwd=here)
    assert "note: --mixup mixes images, and not features that are kept; --features off has it" in done.err
    done = finetuned(place / "source", "--data", place / "data", *ALONE, "--mixup", "0.5", "--features", "off", cwd=here, out="off")
    assert "mixes images" not in done.err


def test_views(place: Path, frozen: Done, here: Path) -> None:
    """Three of each image and, with mirror images, six: in as many epochs as before."""
    done = finetuned(place / "source", "--data", place / "data", *ALONE, "--views", "3", cwd=here)
    assert "6 views of each image" in done.err
    assert len(rows(here / "run")) == 2
    assert changed_tensors(place / "frozen", here / "run")
    done = finetuned(place / "source", "--data", place / "data", *ALONE, "--views", "3", "--no-flip", cwd=here, out="still")
    assert "3 views of each image" in done.err


@pytest.mark.parametrize("words", ["", "--ema 0.9"])
def test_the_classifier_is_solved_for(words: str, place: Path, frozen: Done, here: Path) -> None:
    """Steps do not come so near to the minimum. A mean over steps has none to be taken over."""
    done = finetuned(place / "source", "--data", place / "data", "--freeze", "--solver", "lbfgs", *words.split(), cwd=here)
    assert "stage 1, classifier: solved by L-BFGS" in done.err
    assert re.search(r"^penalty [0-9.e+-]+[,:] ", done.err, re.MULTILINE)
    (row,) = rows(here / "run")
    assert row["train_loss"] < rows(place / "frozen")[-1]["train_loss"]
    assert row["val_accuracy"] > 0.6
    assert owners(changed_tensors(place / "source", here / "run")) == {HEAD}
    found = run("eval", "run", "--data", place / "data", "--json", cwd=here, warm=True).json
    assert found["top1"] == pytest.approx(row["val_accuracy"])
    assert found["loss"] == pytest.approx(row["val_loss"], abs=1e-5)


def test_solved_and_then_everything(place: Path, here: Path) -> None:
    done = finetuned(place / "source", "--data", place / "data", "--solver", "lbfgs", "--epochs", "2", cwd=here)
    assert "stage 1, classifier: solved by L-BFGS" in done.err
    assert "stage 2, everything: 2 epochs" in done.err
    assert len(rows(here / "run")) == 3


# ---- how long ----


@pytest.mark.parametrize(
    ("words", "epochs"),
    [
        ("--freeze --epochs 3", 3),
        ("--freeze --head-epochs 3", 3),
        (f"--freeze-until {HEAD} --epochs 2", 2),
        ("--head-epochs 0 --epochs 2", 2),
        ("--head-epochs 2 --epochs 1", 3),
        ("--freeze --steps 4 --batch-size 21", 2),
    ],
)
def test_epochs(words: str, epochs: int, place: Path, here: Path) -> None:
    finetuned(place / "source", "--data", place / "data", *words.split(), cwd=here)
    assert len(rows(here / "run")) == epochs


def test_each_stage_ends_early_by_itself(place: Path, here: Path) -> None:
    """A rate that is far too high makes it worse with every epoch."""
    words = ("--lr", "10", "--patience", "2", "--epochs", "50", "--head-epochs", "50")
    done = finetuned(place / "source", "--data", place / "data", *words, cwd=here)
    assert 4 <= len(rows(here / "run")) < 60
    assert "stage 2 of 2: everything" in done.err
    assert "ended early: no better val_accuracy in 2 validations" in done.err
    assert f"at epoch {[row['epoch'] for row in rows(here / 'run') if row['best']][-1]}\n" in done.out


# ---- other images, other models ----


def test_few_and_uneven_images(place: Path, here: Path) -> None:
    digit_images(here / "data", {"one": 1, "two": 4, "zero": 20})
    done = finetuned(place / "source", "--data", "data", *ALONE, cwd=here)
    assert "note: class one has one image to train on" in done.err
    assert "note: no validation image of 1 of 3 classes: one" in done.err
    assert "note: class zero has 16 training images and one 1: the loss is weighed by class" in done.err
    settings = (here / "run" / "config.toml").read_text()
    assert 'class_weights = "balanced"' in settings
    assert 'monitor = "val_balanced_accuracy"' in settings
    done = finetuned(place / "source", "--data", "data", *ALONE, "--class-weights", "none", cwd=here, out="other")
    assert "is weighed" not in done.err
    assert 'class_weights = "none"' in (here / "other" / "config.toml").read_text()
    assert changed_tensors(here / "run" / "last.safetensors", here / "other" / "last.safetensors")


def test_images_without_a_split_for_validation(place: Path, here: Path) -> None:
    digit_images(here / "data", {"one": 9, "two": 9})
    words = ("--freeze", "--solver", "lbfgs", "--val-fraction", "0")
    done = finetuned(place / "source", "--data", "data", *words, cwd=here)
    assert "penalty 1e-03" in done.err
    assert "training accuracy 100.00%" in done.out


def test_a_model_of_torchvision(here: Path) -> None:
    import torch
    from torchvision.models import resnet18

    torch.save(resnet18().state_dict(), here / "weights.pth")
    digit_images(here / "data", {"one": 6, "two": 6}, colours=True, size=16)
    words = ("--weights", "weights.pth", "--input", "3x32x32", "--freeze", "--epochs", "1")
    done = finetuned("torchvision/resnet18", *words, "--data", "data", cwd=here)
    assert "classifier fc: Linear 512 -> 1000 becomes 512 -> 2" in done.err
    before, after = torch.load(here / "weights.pth", weights_only=True), tensors(here / "run")
    assert all(torch.equal(before[name], after[name]) for name in after if not name.startswith("fc."))
    assert run("predict", "run", "data/one/000.png", cwd=here, warm=True).code == 0


CODE = """
import torch
from torch import nn
class Mine(nn.Module):
    input_shape = (1, 8, 8)
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.conv, self.bn, self.fc = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(144, 10)
    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).flatten(1))
"""


def test_a_file_of_code(place: Path, here: Path) -> None:
    (here / "nets.py").write_text(CODE)
    done = finetuned("nets.py:Mine", "--data", place / "data", *SHORT, cwd=here)
    assert "note: no --weights: those that nets.py:Mine is made with are used, which may be random" in done.err
    assert "classifier fc: Linear 144 -> 10 becomes 144 -> 3" in done.err
    done = run("eval", "nets.py:Mine", "--weights", "run", "--data", place / "data", "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert done.json["top1"] == pytest.approx(max(row["val_accuracy"] for row in rows(here / "run")))
    words = ("--weights", here / "run", "--freeze", "--epochs", "1")
    finetuned("nets.py:Mine", "--data", place / "data", *words, cwd=here, out="second")
    assert owners(changed_tensors(here / "run", here / "second")) == {"fc"}


def test_photos(flowers: Path, here: Path) -> None:
    """A real net on real photos: the classifier of SqueezeNet, solved for on 21 of each of five flowers."""
    weights = Path(os.environ.get("CNNCLI_TEST_DATA", flowers.parent)) / "weights" / "squeezenet1_1_imagenet.pth"
    if not weights.is_file():
        pytest.skip(f"real weights are absent: {weights} (set CNNCLI_TEST_DATA)")
    for path in (path for folder in flowers.iterdir() if folder.is_dir() for path in sorted(folder.iterdir())[:30]):
        (here / "flowers" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (here / "flowers" / path.parent.name / path.name).symlink_to(path.resolve())
    words = ("--weights", weights, "--freeze", "--solver", "lbfgs", "--no-flip", "--val-fraction", "0.3")
    finetuned("squeezenet1_1", "--data", "flowers", *words, cwd=here)
    result = json.loads((here / "run" / "result.json").read_text())
    assert result["best"]["val_accuracy"] > 0.75
