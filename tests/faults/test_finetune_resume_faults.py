"""`cnn finetune --resume`: an interrupted finetuning ends to the bit like one that was not, in whichever stage it was stopped."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import harness
import pytest
from harness import Done, assert_failed, run, start, unchanged
from holding import WAITING, hold
from pretrained import HEAD, NET, THREE, assert_same_end, changed_tensors, digit_images, finetuned, owners, pretrained_digits, rows
from ranks import together, wait_until

pytestmark = pytest.mark.slow
WORDS = ("--batch-size", "8", "--save-every", "0", "--precision", "fp32")  # six steps an epoch
CASES = {  # settings; steps of the stage to stop after, the stage (from 0)
    "in the first stage": ("--head-epochs 4 --epochs 2 --views 2", 8, 0),
    "in the second": ("--head-epochs 1 --epochs 3 --ema 0.9", 9, 1),
    "behind a solver": ("--solver lbfgs --epochs 3", 9, 1),
    "where a part is frozen": ("--head-epochs 1 --epochs 3 --freeze-until conv2_2 --optimizer sgd", 9, 1),
    "unfreezing gradually": ("--head-epochs 0 --epochs 4 --gradual 3 --layer-decay 0.7 --features off", 8, 2),
    "frozen": ("--freeze --epochs 4 --features disk", 13, 0),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` has three digits in train/ and val/; `source` is a copy of the net that has learned ten."""
    folder = tmp_path_factory.mktemp("finetune-resume")
    digit_images(folder / "data", THREE)
    shutil.copytree(pretrained_digits().folder, folder / "source")
    return folder


def where(folder: Path) -> tuple[int, int]:
    """The stage of the newest state and the steps of it that are behind; (-1, 0) without one."""
    from cnncli.engine.state import read_description

    if not (folder / "state.safetensors").exists():
        return -1, 0
    described = read_description(folder)
    return int(described["facts"]["stage"]), int(described["position"]["steps"])


def stopped(folder: Path, *words: str | Path, steps: int, stage: int, number: int = signal.SIGTERM, code: int = 143) -> Done:
    """Start in `folder`, and send the signal when the saved state is past so many steps of a stage, and the next ones wait for it.

    The stages before must be shorter than that.
    """
    held = hold(folder, steps + 2)
    started = start("finetune", *words, cwd=folder, warm=True, first=WAITING)
    wait_until(lambda: where(folder / "run") >= (stage, steps), pause=0.005)
    harness.stop(started, number)
    held.unlink()
    done = started.wait()
    assert done.code == code, done.err
    assert where(folder / "run")[0] == stage
    assert not (folder / "run" / "result.json").exists()
    return done


@pytest.mark.parametrize("case", CASES)
def test_F2_stopped(case: str, place: Path, here: Path) -> None:
    text, steps, stage = CASES[case]
    words = (place / "source", "--data", place / "data", *WORDS, *text.split())
    finetuned(*words, cwd=here, out="whole")
    done = stopped(here, *words, "-o", "run", steps=steps, stage=stage)
    assert "resume with: cnn finetune --resume run" in done.err
    done = run("finetune", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "will not be the same" not in done.err
    assert_same_end(here / "run", here / "whole")


def test_F2_stopped_again_and_again(place: Path, here: Path) -> None:
    """By kill -9, too, in each of the stages."""
    words = (place / "source", "--data", place / "data", *WORDS, "--head-epochs", "1", "--epochs", "5", "--gradual", "2")
    finetuned(*words, cwd=here, out="whole")
    stopped(here, *words, "-o", "run", steps=3, stage=0, number=signal.SIGKILL, code=-9)
    stopped(here, "--resume", "run", steps=8, stage=1)
    stopped(here, "--resume", "run", steps=10, stage=1, number=signal.SIGKILL, code=-9)
    stopped(here, "--resume", "run", steps=13, stage=2, number=signal.SIGINT, code=130)
    done = run("finetune", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert_same_end(here / "run", here / "whole")


@pytest.fixture
def halfway(place: Path, here: Path) -> Path:
    """Here with a copy of all there is, and a run that was stopped in its second stage."""
    shutil.copytree(place / "source", here / "source")
    shutil.copytree(place / "data", here / "data")
    words = ("source", "--data", "data", *WORDS, "--head-epochs", "1", "--epochs", "3", "--freeze-until", "conv2_2")
    stopped(here, *words, "-o", "run", steps=9, stage=1)
    return here


REFUSED = {
    "--freeze": r"--freeze True \(was False\)",
    "--freeze-until conv2_1": r"--freeze-until conv2_1 \(was conv2_2\)",
    "--views 3": r"--views 3 \(was 1\)",
    "--head-epochs 5": r"--head-epochs 5 \(was 1\)",
    "--lr 0.5": r"--lr 0.5 \(was 0.001\)",
    "--seed 4": r"--seed 4 \(was 0\)",
    "--weights source": r"--weights contradict each other",
    "-o other": r"--out contradict each other",
    "--overwrite": r"--overwrite contradict each other",
}


def test_R4_other_words_than_stored(halfway: Path) -> None:
    with unchanged(halfway):
        for words, pattern in REFUSED.items():
            assert_failed(run("finetune", "--resume", "run", *words.split(), cwd=halfway, warm=True), 2, pattern)
        done = run("finetune", "lenet5", "--resume", "run", cwd=halfway, warm=True)
        assert_failed(done, 2, r"NET lenet5 \(was source\)")
        assert_failed(run("train", "--resume", "run", cwd=halfway, warm=True), 2, r"`cnn finetune`; cnn finetune --resume run")
        assert_failed(run("finetune", "--resume", "source", cwd=halfway, warm=True), 2, r"`cnn train`; cnn train --resume source")
    done = run(
        "finetune", "source", "--resume", "run", "--data", "data", "--freeze-until", "conv2_2", "--workers", "1", cwd=halfway, warm=True
    )
    assert done.code == 0, done.err
    assert len(rows(halfway / "run")) == 4


def test_R3_a_finished_run(place: Path, here: Path) -> None:
    finetuned(place / "source", "--data", place / "data", "--freeze", "--epochs", "2", cwd=here)
    with unchanged(here):
        done = run("finetune", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "run is already finished (2 epochs)" in done.err
    before = (here / "run" / "curves.png").read_bytes()
    (here / "run" / "curves.png").unlink()
    assert run("finetune", "--resume", "run", cwd=here, warm=True).code == 0
    assert (here / "run" / "curves.png").read_bytes() == before


def test_R6_nothing_to_go_on_with(here: Path) -> None:
    assert_failed(run("finetune", "--resume", "run", cwd=here, warm=True), 3, "run")


def test_F2_the_model_that_it_began_with_is_gone(halfway: Path) -> None:
    """The features of the images are computed from it anew, so it is said what is missing."""
    shutil.rmtree(halfway / "source")
    with unchanged(halfway):
        assert_failed(run("finetune", "--resume", "run", cwd=halfway, warm=True), 2, "source")


def test_F2_the_model_that_it_began_with_is_another_one(halfway: Path) -> None:
    """A state is complete in itself: what it goes on with is what it had, and the end the same."""
    words = ("source", "--data", "data", *WORDS, "--head-epochs", "1", "--epochs", "3", "--freeze-until", "conv2_2")
    finetuned(*words, cwd=halfway, out="whole")
    words = ("--input", "1x8x8", "--epochs", "1", "--seed", "9", "--overwrite", "-o", "source")
    assert run("train", NET, *words, cwd=halfway, warm=True).code == 0
    done = run("finetune", "--resume", "run", cwd=halfway, warm=True)
    assert done.code == 0, done.err
    assert_same_end(halfway / "run", halfway / "whole")


# ---- several processes ----


def test_R13_two_processes(place: Path, here: Path) -> None:
    """Each computes features of its part of the images, and the classifier learns as in one, but for the rounding of sums.

    What follows it has batch norms, which see half of a batch in each.
    """
    words = ("finetune", place / "source", "--data", place / "data", "--batch-size", "7", "--freeze-until", "conv2_2")
    words += ("--head-epochs", "3", "--epochs", "1", "--precision", "fp32", "--memory-format", "contiguous")
    first, second = together(2, *words, "-o", "two", cwd=here)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert first.err.count("stage 1 of 2: classifier") == 1
    assert "stage" not in second.err
    assert run(*words, "-o", "one", cwd=here, warm=True).code == 0
    one, two = rows(here / "one"), rows(here / "two")
    assert len(one) == len(two) == 4
    for own, other in zip(one[:3], two[:3], strict=True):
        for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy"):
            assert own[name] == pytest.approx(other[name], abs=1e-5), name
    changed = changed_tensors(place / "source" / "best.safetensors", here / "two" / "last.safetensors")
    assert owners(changed) == {"conv2_2", "bn2_2", HEAD}
