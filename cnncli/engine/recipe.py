"""Recipes: settings of a training as TOML, those of the package and the user's own, and how they and flags go together.

    about = "one line"
    net = "resnet20"                 # any of these may be missing
    input = "3x32x32"
    set = { hidden = 40000 }         # arguments of the net's own
    [data]
    source = "cifar10"               # and fields of DataConfig
    [train]                          # fields of TrainConfig, and so on

The settings that a run writes to config.toml are a recipe, too.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.config import ComputeConfig, KeepConfig, OptimConfig, TrainConfig
from cnncli.errors import InputError, UsageError, near_miss

TABLES: dict[str, type] = {
    "train": TrainConfig,
    "optim": OptimConfig,
    "compute": ComputeConfig,
    "keep": KeepConfig,
    "data": DataConfig,
    "augment": AugmentConfig,
}
TOP: dict[str, Any] = {"about": str, "recipe": str, "net": str, "input": str, "set": dict}
SOURCE = "source"  # in [data]: the word of --data
TABLE_OF = {f.name: table for table, config in TABLES.items() for f in fields(config)} | {SOURCE: "data"}

# Flags that do nothing without another setting: (field, its values).
ONLY_WITH: dict[str, tuple[str, tuple[str, ...]]] = {
    "milestones": ("schedule", ("step",)),
    "step_factor": ("schedule", ("step",)),
    "power": ("schedule", ("polynomial",)),
    "final_lr": ("schedule", ("cosine", "linear", "polynomial")),
    "other_lr": ("optimizer", ("muon",)),
    "other_momentum": ("optimizer", ("muon",)),
    "fixed_norm": ("optimizer", ("muon",)),
    "nesterov": ("optimizer", ("sgd", "muon")),
    "momentum": ("optimizer", ("sgd", "muon", "rmsprop", "adam", "adamw")),
    "beta2": ("optimizer", ("adam", "adamw", "rmsprop", "adadelta")),
    "epsilon": ("optimizer", ("adam", "adamw", "rmsprop", "adadelta")),
    "rand_ops": ("auto_augment", ("rand",)),
    "rand_magnitude": ("auto_augment", ("rand",)),
}


def bundled() -> dict[str, str]:
    """The recipes of the package: name -> what it says of itself."""
    folder = files("cnncli.engine").joinpath("recipes")
    names = sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))
    return {name: str(tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8")).get("about", "")) for name in names}


def read_bundled(name: str) -> dict[str, Any]:
    """The settings of a recipe of the package, flat. UsageError, with the nearest names, when there is none of that name."""
    known = list(bundled())
    if name not in known:
        raise UsageError(
            f"--recipe {name!r} is not one of {', '.join(known)}", near_miss(name, known) or "a file goes with --config", path="--recipe"
        )
    text = files("cnncli.engine").joinpath("recipes").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return flat(tomllib.loads(text), f"recipe {name}")


def read_recipe(path: Path, beside: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings of a user's file, flat; tables of the names in `beside` as they are.

    InputError when it cannot be read; UsageError for keys and values that are none.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror}", "give a TOML file with settings", path=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path} is not TOML: {error}", "`cnn train --help` names the settings", path=str(path)) from error
    own = {name: tables.pop(name) for name in beside if isinstance(tables.get(name), dict)}
    return flat(tables, str(path)) | own


def flat(tables: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings without their tables; fields may also stand at the top. UsageError names what is unknown, with the nearest."""
    values: dict[str, Any] = {}
    for key, value in tables.items():
        if key in TABLES:
            if not isinstance(value, Mapping):
                raise UsageError(f"{where}: {key} should be a table, [{key}]", path=where)
            for name, inner in value.items():
                if TABLE_OF.get(name) != key:
                    home = f"it belongs in [{TABLE_OF[name]}]" if name in TABLE_OF else ""
                    known = [field for field, table in TABLE_OF.items() if table == key]
                    raise UsageError(
                        f"{where}: [{key}] has no setting {name!r}",
                        home or near_miss(name, known) or near_miss(name, list(TABLE_OF)),
                        path=where,
                    )
                values[name] = _typed(name, inner, where)
        elif key in TOP:
            if not isinstance(value, TOP[key]):
                raise UsageError(f"{where}: {key} should be a {TOP[key].__name__}", path=where)
            values[key] = value
        elif key in TABLE_OF:
            values[key] = _typed(key, value, where)
        else:
            near = near_miss(key, [*TABLE_OF, *TABLES, *TOP])
            raise UsageError(f"{where}: unknown setting {key!r}", near or "`cnn train --help` names the settings", path=where)
    try:
        made(values)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", error.hint, path=where) from None
    return values


def _typed(name: str, value: Any, where: str) -> Any:
    """A value of the type that its field has."""
    if name == "milestones" and isinstance(value, list):
        return ",".join(map(str, value))
    hint = str if name == SOURCE else get_type_hints(TABLES[TABLE_OF[name]])[name]
    allowed = tuple(kind for kind in (bool, int, float, str) if kind is hint or kind in getattr(hint, "__args__", ()))
    if float in allowed:
        allowed += (int,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise UsageError(f"{where}: {name} = {value!r} should be {' or '.join(kind.__name__ for kind in allowed)}", path=where)
    return value


def combined(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Later layers before earlier ones; whoever says how long to train drops what earlier ones said about that in other units."""
    values: dict[str, Any] = {}
    for layer in layers:
        if any(name in layer for name in TrainConfig.LENGTHS):
            values = {name: value for name, value in values.items() if name not in TrainConfig.LENGTHS}
        values |= layer
    return values


def made(values: Mapping[str, Any]) -> dict[str, Any]:
    """The configurations, by table, that flat settings make; the rest are defaults. UsageError for values out of range."""
    return {table: config(**{f.name: values[f.name] for f in fields(config) if f.name in values}) for table, config in TABLES.items()}


def check_given(given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """UsageError for a flag that would do nothing beside the settings in force."""
    for name, (other, needed) in ONLY_WITH.items():
        if given.get(name, False) is not False and values[other] not in needed:
            flag, other_flag = f"--{name.replace('_', '-')}", f"--{other.replace('_', '-')}"
            raise UsageError(
                f"{flag} does nothing with {other_flag} {values[other]}", f"it goes with {other_flag} {' or '.join(needed)}", path=flag
            )


def in_force(configs: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of the configurations, flat."""
    return {name: value for config in configs.values() for name, value in asdict(config).items()}


def as_tables(configs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The configurations as TOML can hold them: what is None is left out."""
    return {table: {name: value for name, value in asdict(config).items() if value is not None} for table, config in configs.items()}
