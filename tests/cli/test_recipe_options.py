"""Recipes, the user's own settings and flags: who comes before whom, what is refused, and with which words."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from harness import assert_failed, run, unchanged

from cnncli.engine import recipe

TINY = ("conv3-4 relu maxpool FC-10", "--input", "1x8x8", "--limit-per-class", "20")
FILE = """\
about = "tiny"
net = "conv3-4 relu maxpool FC-10"
input = "1x8x8"
[train]
epochs = 1
seed = 5
[optim]
lr = 0.01
schedule = "step"
milestones = [0.5, 0.9]
[data]
limit_per_class = 20
[augment]
shift = 2
"""


def config_of(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "config.toml").read_text())


def refused(here: Path, code: int, pattern: str, *words: str) -> None:
    """One line, before anything is written; these are told before torch is imported."""
    with unchanged(here):
        done = run("train", *words, cwd=here, warm=True)
    assert_failed(done, code, pattern)


def test_the_list_of_recipes(here: Path) -> None:
    done = run("train", "--recipe", "list", cwd=here)
    assert (done.code, done.err) == (0, "")
    known = recipe.bundled()
    for name, about in known.items():
        assert re.search(rf"^{re.escape(name)}\b", done.out, re.MULTILINE)
        assert about, f"{name} does not say what it is"
        assert about.split()[0] in done.out


@pytest.mark.parametrize("name", recipe.bundled())
def test_every_recipe_is_complete(name: str) -> None:
    """Its net exists and fits its input, its values are in range; a net by flag beside it drops its input."""
    from cnncli.cli.train_settings import new_settings
    from cnncli.models.describe import described_net
    from cnncli.models.resolve import resolve

    settings = new_settings(None, None, None, {}, name=name, file=None, given={})
    described_net(resolve(settings.net), input=settings.input, classes=10, settings=settings.arguments)
    assert new_settings("lenet5", None, None, {}, name=name, file=None, given={}).net == "lenet5"


@pytest.mark.slow
def test_flags_before_the_file_before_the_defaults(here: Path) -> None:
    (here / "my.toml").write_text(FILE)
    done = run("train", "--config", "my.toml", "-o", "file", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = config_of(here / "file")
    assert (found["recipe"], found["net"], found["input"]) == ("my.toml", "conv3-4 relu maxpool FC-10", "1x8x8")
    assert (found["train"]["epochs"], found["train"]["seed"], found["optim"]["lr"]) == (1, 5, 0.01)
    assert (found["optim"]["milestones"], found["augment"]["shift"]) == ("0.5,0.9", 2)
    assert found["train"]["batch_size"] == 64
    words = ("--lr", "0.02", "--steps", "3", "--shift", "1", "--milestones", "0.7", "--no-flip")
    done = run("train", "--config", "my.toml", *words, "-o", "flags", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = config_of(here / "flags")
    assert (found["optim"]["lr"], found["optim"]["milestones"], found["augment"]["shift"]) == (0.02, "0.7", 1)
    assert found["train"]["steps"] == 3
    assert "epochs" not in found["train"], "who says how long drops what the file said in other units"
    assert found["train"]["seed"] == 5


@pytest.mark.slow
def test_flat_keys_and_a_net_of_ones_own(here: Path) -> None:
    """Fields may stand at the top; another net than the file's takes neither its input nor its arguments."""
    (here / "my.toml").write_text(
        'net = "mlp"\ninput = "1x9x9"\nset = { hidden = 7 }\nepochs = 1\nlimit_per_class = 20\nkeep_going = true\n'
    )
    done = run("train", "--config", "my.toml", "-o", "own", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert config_of(here / "own")["set"] == {"hidden": "7"}
    assert config_of(here / "own")["input"] == "1x9x9"
    assert config_of(here / "own")["train"]["keep_going"] is True
    done = run("train", "mlp", "--config", "my.toml", "--set", "hidden=8", "--no-keep-going", "-o", "same", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert config_of(here / "same")["set"] == {"hidden": "8"}
    assert config_of(here / "same")["train"]["keep_going"] is False
    done = run("train", "lenet5", "--config", "my.toml", "-o", "other", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert config_of(here / "other")["input"] == "1x32x32"
    assert "set" not in config_of(here / "other")


BAD_FILES = {
    "unknown key": ("[optim]\nmomentun = 0.5\n", 2, r"my.toml: \[optim\] has no setting 'momentun'; did you mean momentum"),
    "key of another table": ("[train]\nlr = 0.5\n", 2, r"my.toml: \[train\] has no setting 'lr'; it belongs in \[optim\]"),
    "unknown table": ("[optims]\nlr = 0.5\n", 2, r"my.toml: unknown setting 'optims'; did you mean .*optim"),
    "unknown at the top": ("epoch = 5\n", 2, r"my.toml: unknown setting 'epoch'; did you mean epochs"),
    "table that is none": ("train = 5\n", 2, r"my.toml: train should be a table, \[train\]"),
    "net that is no text": ("net = 5\n", 2, "my.toml: net should be a str"),
    "text for a number": ('[optim]\nlr = "fast"\n', 2, r"my.toml: lr = 'fast' should be .*float"),
    "number for a word": ("[optim]\nschedule = 3\n", 2, "my.toml: schedule = 3 should be str"),
    "yes for a number": ("[train]\nepochs = true\n", 2, "my.toml: epochs = True should be int"),
    "half a number": ("[train]\nepochs = 1.5\n", 2, r"my.toml: epochs = 1.5 should be int"),
    "list": ("[train]\nepochs = [1]\n", 2, r"my.toml: epochs = \[1\] should be int"),
    "out of range": ("[train]\nepochs = 0\n", 2, "my.toml: --epochs 0 should be a number from 1"),
    "not a number": ("[optim]\nlr = nan\n", 2, "my.toml: --lr nan should be a number"),
    "unknown word": ('[optim]\noptimizer = "adamm"\n', 2, "my.toml: --optimizer 'adamm' is not one of .*did you mean adam"),
    "word that is not auto": ('[train]\nbatch_size = "big"\n', 2, "my.toml: --batch-size big should be auto or a number"),
    "milestones": ("[optim]\nmilestones = [0.9, 0.5]\n", 2, "my.toml: --milestones '0.9,0.5' should be rising"),
    "two lengths": ("[train]\nepochs = 2\nsteps = 9\n", 2, "my.toml: --epochs and --steps both say how long"),
    "not TOML": ("net = ", 3, "--config my.toml is not TOML"),
    "not text": ("\x00\x01", 3, "--config my.toml is not TOML"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_say_something_else(case: str, here: Path) -> None:
    text, code, pattern = BAD_FILES[case]
    (here / "my.toml").write_text(text)
    refused(here, code, pattern, *TINY[:3], "--config", "my.toml")


def test_files_that_cannot_be_read(here: Path) -> None:
    (here / "folder").mkdir()
    (here / "bytes").write_bytes(b"\xff\xfe")
    refused(here, 3, "--config absent.toml: No such file", "lenet5", "--config", "absent.toml")
    refused(here, 3, "--config folder: Is a directory", "lenet5", "--config", "folder")
    refused(here, 3, "--config bytes is not TOML", "lenet5", "--config", "bytes")


CONTRADICTIONS = {
    "no net": ((), "which net"),
    "unknown recipe": (("--recipe", "nonesuch"), "--recipe 'nonesuch' is not one of"),
    "a file as recipe": (("lenet5", "--recipe", "./my.toml"), "--recipe './my.toml'.*--config"),
    "epochs and steps": (("lenet5", "--epochs", "3", "--steps", "5"), "--epochs and --steps both"),
    "epochs and minutes": (("lenet5", "--epochs", "3", "--minutes", "5"), "--epochs and --minutes both"),
    "steps and minutes": (("lenet5", "--steps", "3", "--minutes", "5"), "--steps and --minutes both"),
    "milestones": (("lenet5", "--milestones", "0.5"), "--milestones does nothing with --schedule cosine; it goes with --schedule step"),
    "step factor": (("lenet5", "--schedule", "linear", "--step-factor", "0.5"), "--step-factor does nothing with --schedule linear"),
    "power": (("lenet5", "--power", "2"), "--power does nothing with --schedule cosine"),
    "final rate": (("lenet5", "--schedule", "constant", "--final-lr", "0.5"), "--final-lr does nothing with --schedule constant"),
    "other rate": (("lenet5", "--other-lr", "0.5"), "--other-lr does nothing with --optimizer sgd; it goes with --optimizer muon"),
    "nesterov": (("lenet5", "--optimizer", "adam", "--nesterov"), "--nesterov does nothing with --optimizer adam"),
    "beta2": (("lenet5", "--beta2", "0.9"), "--beta2 does nothing with --optimizer sgd"),
    "epsilon": (("lenet5", "--epsilon", "0.9"), "--epsilon does nothing with --optimizer sgd"),
    "momentum": (("lenet5", "--optimizer", "adadelta", "--momentum", "0.9"), "--momentum does nothing with --optimizer adadelta"),
    "rand": (("lenet5", "--rand-ops", "2"), "--rand-ops does nothing with --auto-augment off"),
    "resume and out": (("--resume", "run", "--out", "other"), "--resume run and --out contradict each other"),
    "resume and recipe": (("--resume", "run", "--recipe", "x"), "--resume run and --recipe contradict each other"),
    "resume and config": (("--resume", "run", "--config", "x.toml"), "--resume run and --config contradict each other"),
    "resume and overwrite": (("--resume", "run", "--overwrite"), "--resume run and --overwrite contradict each other"),
    "flag of resume": (("lenet5", "--accept-data-change"), "--accept-data-change goes with --resume"),
    "another flag of resume": (("lenet5", "--strict-resume"), "--strict-resume goes with --resume"),
    "two trials": (("lenet5", "--find-lr", "--profile"), "--find-lr and --profile"),
    "resume and a trial": (("--resume", "run", "--profile"), "--resume run and --profile contradict each other"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions(case: str, here: Path) -> None:
    words, pattern = CONTRADICTIONS[case]
    refused(here, 2, pattern, *words)


def test_a_file_of_settings_that_do_nothing_is_no_fault(here: Path) -> None:
    """Only flags are looked at: a config.toml names every setting, those that do nothing beside the others too."""
    (here / "my.toml").write_text('[optim]\nmilestones = "0.5"\npower = 3.0\n[data]\nsource = "nonesuch"\n')
    refused(here, 3, "no such data: 'nonesuch'", "lenet5", "--config", "my.toml")
