"""What a training is told: defaults, a recipe, the user's file, flags; or what a run was told that is resumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnncli.cli.options import parse_input
from cnncli.engine import recipe
from cnncli.engine.config import ComputeConfig, KeepConfig, OptimConfig, TrainConfig
from cnncli.errors import UsageError, printable
from cnncli.settings import flag_name

DEFAULT_DATA = "digits"
FINETUNE = "finetune"  # the table of config.toml that only `cnn finetune` writes
# What may be said anew when a run is resumed: how long it goes on, and what does not touch its numbers.
CHANGEABLE = {
    *TrainConfig.LENGTHS, "patience", "keep_going", "device", "gpus", "processes", "shard", "save_every", "stall_timeout", "tensorboard",
    "workers", "cache_limit", "data_root",
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Everything that is chosen about a training. values: the fields of all configurations, flat."""

    net: str
    data: str
    input: tuple[int, int, int] | None
    arguments: dict[str, str]
    recipe: str | None
    values: dict[str, Any]

    def of(self, config: type) -> Any:
        """One of the configurations."""
        table = next(table for table, kind in recipe.TABLES.items() if kind is config)
        return recipe.made(self.values)[table]

    @property
    def train(self) -> TrainConfig:
        """How long, on what batches."""
        return self.of(TrainConfig)  # type: ignore[no-any-return]

    @property
    def optim(self) -> OptimConfig:
        """By which rule."""
        return self.of(OptimConfig)  # type: ignore[no-any-return]

    @property
    def compute(self) -> ComputeConfig:
        """On what."""
        return self.of(ComputeConfig)  # type: ignore[no-any-return]

    @property
    def keep(self) -> KeepConfig:
        """What is written."""
        return self.of(KeepConfig)  # type: ignore[no-any-return]

    def tables(self, net_input: tuple[int, int, int], chosen: Mapping[str, Any]) -> dict[str, Any]:
        """As config.toml holds them: every setting in force; `chosen`: what was found for those left open."""
        told = {"recipe": self.recipe, "net": self.net, "input": "x".join(map(str, net_input)), "set": self.arguments or None}
        tables = recipe.as_tables(recipe.made(self.values | dict(chosen)))
        tables["data"] = {recipe.SOURCE: self.data} | tables["data"]
        return {key: value for key, value in told.items() if value is not None} | tables


def new_settings(
    net: str | None,
    data: str | None,
    input: str | None,
    arguments: dict[str, str],
    *,
    name: str | None,
    file: Path | None,
    given: dict[str, Any],
    defaults: Mapping[str, Any] | None = None,
) -> Settings:
    """Flags before the user's file before the recipe before the defaults. UsageError for what contradicts itself, or says nothing.

    defaults: of the command, in the place of the settings' own.
    """
    layers = [defaults or {}, recipe.read_bundled(name) if name else {}, recipe.read_recipe(file) if file else {}, given]
    values = recipe.combined(layers)
    net = net or values.get("net")
    if not net:
        raise UsageError("which net?", "`cnn models` lists them: cnn train lenet5; --recipe NAME brings its own", path="NET")
    configs = recipe.made(values)
    in_force = recipe.in_force(configs)
    recipe.check_given(given, in_force)
    told = {str(key): str(value) for key, value in values.get("set", {}).items()} | arguments
    # A recipe's input and arguments belong to its own net.
    own = net == values.get("net")
    size = parse_input(input or (values.get("input") if own else None))
    return Settings(
        net,
        data or values.get(recipe.SOURCE) or DEFAULT_DATA,
        size,
        told if own else arguments,
        name or (str(file) if file else None),
        in_force,
    )


def resumed_settings(
    run: Path,
    stored: dict[str, Any],
    net: str | None,
    data: str | None,
    input: str | None,
    arguments: dict[str, str],
    given: dict[str, Any],
) -> Settings:
    """The settings of a run, with what may be said anew. UsageError listing what was said differently and may not be."""
    if FINETUNE in stored:
        raise UsageError(f"{run} was made by `cnn finetune`", f"cnn finetune --resume {run}", path="--resume")
    values = recipe.flat(stored, str(run))
    words: dict[str, tuple[Any, Any]] = {
        "NET": (net, values["net"]),
        "--data": (data, values[recipe.SOURCE]),
        "--input": (input, values.get("input")),
    }
    said = {word: pair for word, pair in words.items() if pair[0] is not None and pair[0] != pair[1]}
    said |= {flag_name(key): (value, values.get(key)) for key, value in given.items() if key not in CHANGEABLE and value != values.get(key)}
    if arguments and arguments != values.get("set"):
        said["--set"] = arguments, values.get("set")
    if said:
        listed = ", ".join(f"{flag} {printable(str(now))} (was {printable(str(before))})" for flag, (now, before) in said.items())
        raise UsageError(
            f"--resume {run} goes on as it began, but is given {listed}",
            "leave these out, or train anew; --epochs, --workers, --device and --save-every may change",
            path=next(iter(said)),
        )
    changed = {key: value for key, value in given.items() if key in CHANGEABLE}
    values = recipe.combined([values, changed])
    own = {str(key): str(value) for key, value in values.get("set", {}).items()}
    in_force = recipe.in_force(recipe.made(values))
    return Settings(values["net"], values[recipe.SOURCE], parse_input(values.get("input")), own, values.get("recipe"), in_force)
