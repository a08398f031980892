"""`cnn experiment`: nets of two depths, trained one after another, drawn together, and continued where they were interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import assert_failed, run, tree
from PIL import Image

SHORT = ("--data", "digits", "--input", "1x8x8", "--epochs", "2", "--limit-per-class", "4", "--depths", "20,32", "-o", "exp")


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["plain-vs-residuals"], r"unknown experiment 'plain-vs-residuals'; did you mean plain-vs-residual\?"),
        (["plain-vs-residual", "--depths", "20"], r"--depths '20' should be two of 20, 32, 44, 56, 110"),
        (["plain-vs-residual", "--depths", "56,20"], r"--depths '56,20' should be two of"),
        (["plain-vs-residual", "--depths", "20,21"], r"--depths '20,21' should be two of"),
        (["plain-vs-residual", "--power", "3"], r"--power does nothing with --schedule step"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(here: Path, arguments: list[str], pattern: str) -> None:
    assert_failed(run("experiment", *arguments, cwd=here), 2, pattern)
    assert not list(here.iterdir())


@pytest.mark.slow
def test_four_nets_one_figure_and_nothing_twice(here: Path) -> None:
    done = run("experiment", "plain-vs-residual", *SHORT, cwd=here, warm=True)
    assert done.code == 0, done.err
    for net in ("plain20", "resnet20", "plain32", "resnet32"):
        assert (here / "exp" / net / "best.safetensors").is_file()
        assert f"{net} " in done.out
    assert "plain nets: 32 layers have a training error" in done.out
    assert "residual nets: 32 layers have a training error" in done.out
    assert done.out.rstrip().endswith("exp/figure.png")
    with Image.open(here / "exp" / "figure.png") as figure:
        assert figure.width > 1000
    config = (here / "exp" / "plain20" / "config.toml").read_text()
    assert 'recipe = "resnet-cifar"' in config
    assert "lr = 0.1" in config
    before = tree(here / "exp" / "plain20")
    (here / "exp" / "resnet32" / "result.json").unlink()  # as if it had been interrupted
    again = run("experiment", "plain-vs-residual", *SHORT, cwd=here, warm=True)
    assert again.code == 0, again.err
    assert tree(here / "exp" / "plain20") == before
    assert "plain20, 1 of 4: exp/plain20 is there already" in again.err
    assert "resnet32, 4 of 4: going on in exp/resnet32" in again.err
    other = run("experiment", "plain-vs-residual", *SHORT, "--lr", "0.01", cwd=here, warm=True)
    assert_failed(other, 2, r"--resume exp/plain20 goes on as it began, but is given --lr 0.01 \(was 0.1\)")
