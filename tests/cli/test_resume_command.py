"""`cnn train --resume`: an interrupted run ends to the bit like one that was not, wherever and however often it was stopped."""

from __future__ import annotations

import json
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import harness
import pytest
from harness import Done, make_folder, run, start
from holding import WAITING, hold
from ranks import wait_until

pytestmark = pytest.mark.slow
DIGITS = ("conv3-4 bn relu maxpool dropout-0.3 FC-10", "--input", "1x8x8", "--limit-per-class", "64")  # ten steps an epoch
FANCY = (*DIGITS, "--ema", "0.9", "--optimizer", "adamw", "--flip", "--erase", "0.5", "--cutmix", "0.5", "--save-every", "0")
RUN = "-o", "run"


def trained(here: Path, *words: str, out: str = "run") -> Done:
    done = run("train", *words, "-o", out, cwd=here, warm=True)
    assert done.code == 0, done.err
    return done


def timeless(folder: Path) -> list[dict[str, object]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def content(path: Path) -> tuple[object, bytes]:
    """The header of a model file, in whose text safetensors puts its two keys in any order, and every byte behind it."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def assert_same_end(one: Path, other: Path) -> None:
    """The weights byte for byte and the rows but for their seconds; none twice, none missing."""
    assert timeless(one) == timeless(other)
    assert [row["epoch"] for row in timeless(one)] == list(range(1, len(timeless(one)) + 1))
    for name in ("last.safetensors", "best.safetensors"):
        assert content(one / name) == content(other / name), name
    names = [{path.name for path in folder.iterdir() if path.name != "tensorboard"} for folder in (one, other)]
    assert names[0] == names[1]
    result = json.loads((one / "result.json").read_text())
    assert result["finished"] is True
    assert result["best"]["epoch"] == json.loads((other / "result.json").read_text())["best"]["epoch"]


def steps_in_state(folder: Path) -> int:
    """Steps that the newest state has behind it; 0 without one."""
    from cnncli.engine.state import read_description

    if not (folder / "state.safetensors").exists():
        return 0
    return int(read_description(folder)["position"]["steps"])


def stopped(here: Path, *words: str, steps: int, number: int, code: int, pause: float = 0.0) -> Done:
    """Start, and send the signal once the saved state is past so many steps; --save-every 0 saves at every one.

    Four steps later the training waits for it, so that it never comes too late. pause: seconds before it comes.
    """
    held = hold(here, steps + 4)
    started = start("train", *words, cwd=here, warm=True, first=WAITING)
    wait_until(lambda: steps_in_state(here / "run") >= steps, pause=0.005)
    time.sleep(pause)
    harness.stop(started, number)
    held.unlink()
    done = started.wait()
    assert done.code == code, done.err
    return done


@pytest.fixture(scope="module")
def fancy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What nothing interrupted."""
    folder = tmp_path_factory.mktemp("fancy")
    trained(folder, *FANCY, "--epochs", "8")
    return folder / "run"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143), (signal.SIGKILL, -9)], ids=lambda x: str(int(x))
)
def test_R1_stopped_within_an_epoch(number: int, code: int, here: Path, fancy: Path) -> None:
    """Dropout, an average of the weights, Adam's means, erasing, mixing: all of it goes on where it was; with other threads, too."""
    done = stopped(here, *FANCY, "--epochs", "8", *RUN, steps=23, number=number, code=code)
    where = steps_in_state(here / "run")
    assert 23 <= where <= 28
    if number != signal.SIGKILL:
        epoch, step = (where - (where > 0 and where % 10 == 0)) // 10 + 1, where % 10
        assert "resume with: cnn train --resume run" in done.err
        if step:
            assert f"saved epoch {epoch} step {step}; resume with: cnn train --resume run" in done.err
    done = run("train", "--resume", "run", "--workers", "3", "--save-every", "9", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert "resumed at epoch " in done.err
    assert "will not be the same" not in done.err
    assert_same_end(here / "run", fancy)


def test_R2_stopped_again_and_again(here: Path, fancy: Path) -> None:
    """By every means in turn, a step or an epoch after it went on."""
    moments = random.Random(2)
    done = stopped(here, *FANCY, "--epochs", "8", *RUN, steps=1, number=signal.SIGTERM, code=143)
    kills = 0
    while (where := steps_in_state(here / "run")) < 62:
        number, code = moments.choice([(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
        words = ("--resume", "run", "--workers", str(moments.randint(1, 4)))
        done = stopped(here, *words, steps=where + moments.randint(1, 13), number=number, code=code)
        kills += 1
    assert kills >= 4
    done = run("train", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert_same_end(here / "run", fancy)


def test_R2_twenty_kills(here: Path, tmp_path: Path) -> None:
    """kill -9 at random moments of a few runs, the saving included; one step at most is lost, and no file is ever torn."""
    from cnncli.models.modelfile import load

    words = (*DIGITS, "--save-every", "0", "--epochs", "40")
    trained(here, *words, out="whole")
    moments, kills, began = random.Random(0), 0, None
    while kills < 20:
        began = began or start("train", *words, "--overwrite", *RUN, cwd=here, warm=True)
        time.sleep(moments.uniform(0.2, 0.9))
        before = steps_in_state(here / "run") if (here / "run").is_dir() else 0
        with suppress(ProcessLookupError):  # a run may come to its end before
            harness.stop(began)
        code, began = began.wait().code, None
        if code == 0:
            assert_same_end(here / "run", here / "whole")
            continue
        kills += 1
        if not (here / "run" / "state.safetensors").exists():
            continue
        assert steps_in_state(here / "run") >= before
        for name in ("best.safetensors", "last.safetensors"):
            if (here / "run" / name).exists():
                load(here / "run" / name)
        for line in (here / "run" / "metrics.jsonl").read_text().splitlines() if (here / "run" / "metrics.jsonl").exists() else ():
            json.loads(line)
        began = start("train", "--resume", "run", cwd=here, warm=True)
    if began is not None:
        done = began.wait()
        assert done.code == 0, done.err
        assert_same_end(here / "run", here / "whole")


def test_R1_stream_of_files(here: Path) -> None:
    """Decoded anew each epoch, cropped, augmented and mixed by threads; resumed with another number of them."""
    make_folder(here / "photos", {"train/a": 40, "train/b": 40, "val/a": 8, "val/b": 8})
    words = (
        "conv3-4 relu maxpool FC-2",
        "--input",
        "3x8x8",
        "--data",
        "photos",
        "--store",
        "stream",
        "--crop-scale",
        "0.3",
        "--mixup",
        "0.5",
    )
    words += ("--auto-augment", "trivial", "--batch-size", "8", "--epochs", "6", "--save-every", "0", "--sampling", "balanced")
    trained(here, *words, "--workers", "1", out="whole")
    stopped(here, *words, "--workers", "4", *RUN, steps=23, number=signal.SIGTERM, code=143)
    done = run("train", "--resume", "run", "--workers", "2", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert_same_end(here / "run", here / "whole")


OTHERS = ["--optimizer muon", "--optimizer rmsprop --schedule one-cycle", "--optimizer adadelta --precision bf16"]
OTHERS += ["--optimizer adam --accumulate 3 --sampling balanced --validate-every 3 --patience 5"]


@pytest.mark.parametrize("words", OTHERS)
def test_R1_other_settings(words: str, here: Path) -> None:
    words = (*DIGITS, *words.split(), "--epochs", "5", "--save-every", "0")
    trained(here, *words, out="whole")
    stopped(here, *words, *RUN, steps=17, number=signal.SIGINT, code=130)
    done = run("train", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert_same_end(here / "run", here / "whole")


def test_a_run_is_extended(here: Path) -> None:
    """A finished run goes on; with a constant rate it ends like one that was meant to be so long from the beginning."""
    words = (*DIGITS, "--schedule", "constant", "--warmup", "0")
    trained(here, *words, "--epochs", "4", out="whole")
    trained(here, *words, "--epochs", "2")
    done = run("train", "--resume", "run", "--epochs", "4", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert_same_end(here / "run", here / "whole")


def test_a_run_is_shortened(here: Path) -> None:
    """It ends at once, with the result of what it has."""
    trained(here, *DIGITS, "--epochs", "3")
    done = run("train", "--resume", "run", "--epochs", "2", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert len(timeless(here / "run")) == 3
    assert "Traceback" not in done.err


def test_minutes_go_on(here: Path) -> None:
    """What was trained before the stop counts: most of the three seconds."""
    words = (*DIGITS, "--minutes", "0.05", "--save-every", "0")
    stopped(here, *words, *RUN, steps=5, number=signal.SIGTERM, code=143, pause=2)
    done = run("train", "--resume", "run", cwd=here, warm=True)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    assert 2.9 < sum(row["seconds"] for row in rows) < 4.5
