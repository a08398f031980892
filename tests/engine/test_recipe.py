"""Recipes: what is read, what is refused and with which advice, and how layers go together."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import tomli_w

from cnncli.arch.zoo.table import build
from cnncli.engine.config import OPTIMIZERS, SCHEDULES, OptimConfig, TrainConfig
from cnncli.engine.recipe import (
    ONLY_WITH,
    TABLE_OF,
    TABLES,
    as_tables,
    bundled,
    check_given,
    combined,
    flat,
    in_force,
    made,
    read_bundled,
    read_recipe,
)
from cnncli.errors import InputError, UsageError


def read(text: str) -> dict[str, object]:
    return flat(tomllib.loads(text), "mine.toml")


def refused(text: str) -> str:
    with pytest.raises(UsageError) as caught:
        read(text)
    assert str(caught.value).startswith("mine.toml: ")
    assert caught.value.path == "mine.toml"
    return str(caught.value).removeprefix("mine.toml: ")


def test_tables_and_the_top() -> None:
    found = read(
        'about = "x"\nnet = "resnet20"\ninput = "3x32x32"\nset = { hidden = 9 }\nlr = 1\n[data]\nsource = "cifar10"\n[train]\nepochs = 3'
    )
    assert found == {"about": "x", "net": "resnet20", "input": "3x32x32", "set": {"hidden": 9}, "lr": 1, "source": "cifar10", "epochs": 3}
    assert made(found)["optim"].peak_lr == 1
    assert made(found)["train"] == TrainConfig(epochs=3)
    assert read("[optim]\nmilestones = [30, 60]") == {"milestones": "30,60"}
    assert read("batch_size = 'auto'\nnesterov = false") == {"batch_size": "auto", "nesterov": False}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch = 3", "unknown setting 'epoch'; did you mean epochs"),
        ("[trian]\nepochs = 3", "unknown setting 'trian'; did you mean train"),
        ("[train]\nepoch = 3", "[train] has no setting 'epoch'; did you mean epochs"),
        ("[train]\nlr = 3", "[train] has no setting 'lr'; it belongs in [optim]"),
        ("[optim]\nsource = 'x'", "[optim] has no setting 'source'; it belongs in [data]"),
        ("[train]\nnet = 'x'", "[train] has no setting 'net'"),
        ("qqqqqq = 3", "unknown setting 'qqqqqq'; `cnn train --help` names the settings"),
        ("train = 3", "train should be a table, [train]"),
        ("epochs = 1.5", "epochs = 1.5 should be int"),
        ("epochs = true", "epochs = True should be int"),
        ("lr = 'high'", "lr = 'high' should be float or int"),
        ("lr = [1]", "lr = [1] should be float or int"),
        ("nesterov = 1", "nesterov = 1 should be bool"),
        ("optimizer = 1", "optimizer = 1 should be str"),
        ("batch_size = 1.5", "batch_size = 1.5 should be int or str"),
        ("net = 3", "net should be a str"),
        ("set = 3", "set should be a dict"),
        ("epochs = 3\nsteps = 4", "--epochs and --steps both say how long to train; give one of them"),
        ("lr = -1", "--lr -1 should be a number from 1e-12 to 1e+09"),
        ("optimizer = 'adm'", "--optimizer 'adm' is not one of sgd, adam, adamw, rmsprop, adadelta, muon; did you mean"),
        ("[optim]\nmilestones = [60, 30]", "--milestones '60,30' should be rising"),
        ("[optim]\nmilestones = [[1]]", "--milestones '[1]' should be rising"),
    ],
)
def test_what_is_refused(text: str, told: str) -> None:
    assert refused(text).startswith(told)


def test_every_setting_has_one_table() -> None:
    assert len(TABLE_OF) == 1 + sum(len(fields(config)) for config in TABLES.values())


def test_later_layers_before_earlier_ones() -> None:
    assert combined([{"lr": 1, "epochs": 3}, {"lr": 2}, {}]) == {"lr": 2, "epochs": 3}
    assert combined([{"epochs": 3}, {"steps": 9}]) == {"steps": 9}
    assert combined([{"epochs": 3}, {"minutes": 2.0}, {"epochs": 4}]) == {"epochs": 4}
    layers = [{"epochs": 3}, {"seed": 1}]
    assert combined(layers) == {"epochs": 3, "seed": 1}
    assert layers[0] == {"epochs": 3}, "layers are left as they are"


@pytest.mark.parametrize("name", ONLY_WITH)
def test_a_flag_that_would_do_nothing(name: str) -> None:
    other, needed = ONLY_WITH[name]
    choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "auto_augment": ("none", "rand")}[other]
    values = in_force(made({}))
    flag = "--" + name.replace("_", "-")
    for choice in choices:
        if choice in needed:
            check_given({name: 1}, values | {other: choice})
        else:
            with pytest.raises(UsageError, match=f"^{flag} does nothing with --{other.replace('_', '-')} {choice}; it goes with") as caught:
                check_given({name: 1}, values | {other: choice})
            assert caught.value.path == flag
    check_given({}, values)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    with pytest.raises(InputError, match=r"mine\.toml: No such file"):
        read_recipe(path)
    for content in (b"x = = 3", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="is not TOML"):
            read_recipe(path)
    path.write_text("lr = 0.5")
    assert read_recipe(path) == {"lr": 0.5}
    path.write_text("lr = 0")
    with pytest.raises(UsageError, match=r"mine\.toml: --lr 0"):
        read_recipe(path)


def test_bundled_ones_by_name() -> None:
    with pytest.raises(UsageError, match="--recipe 'nonesuch' is not one of"):
        read_bundled("nonesuch")


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_recipe(name: str) -> None:
    """It loads, says what it is, names a net that there is, and nothing in it is without effect."""
    assert len(bundled()[name]) > 10
    assert "\n" not in bundled()[name]
    values = read_bundled(name)
    configs = made(values)
    check_given({key: value for key, value in values.items() if key in ONLY_WITH}, in_force(configs))
    if "net" in values:
        size = tuple(map(int, values["input"].split("x"))) if "input" in values else None
        build(values["net"], **({"input": size} if size else {}), **values.get("set", {}))
    assert (
        flat(tomllib.loads(tomli_w.dumps(as_tables(configs))), "again").items()
        >= {key: value for key, value in values.items() if key in TABLE_OF and key != "source"}.items()
    )


def test_what_a_run_writes_is_a_recipe() -> None:
    given = {"epochs": 3, "optimizer": "muon", "nesterov": False, "milestones": "30,60", "batch_size": "auto", "save_every": 1.5}
    configs = made(given)
    tables = {"recipe": "x", "net": "resnet20", "input": "3x32x32", "set": {"width": 16}} | as_tables(configs)
    tables["data"] = {"source": "digits"} | tables["data"]
    again = flat(tomllib.loads(tomli_w.dumps(tables)), "config.toml")
    assert made(again) == configs
    assert again["source"] == "digits"
    assert made({}) == {table: config() for table, config in TABLES.items()}
    assert made(again)["optim"] == OptimConfig(optimizer="muon", nesterov=False, milestones="30,60")
