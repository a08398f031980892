"""Flags that several commands share, and flags made from a configuration's fields."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from cnncli.errors import UsageError
from cnncli.reports.terminal import talk

if TYPE_CHECKING:
    from cnncli.data.config import DataConfig
    from cnncli.data.shards.remote import RemoteShards
    from cnncli.data.source import Source

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]
Device = Annotated[str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:1, mps.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="imagenet, imagenet-v2, or a .pth or .safetensors file; torchvision/NAME and timm/NAME take their published ones without it.",
    ),
]
Classes = Annotated[
    int | None,
    typer.Option("--classes", help="Outputs of the net that the file of --weights was saved from (default: the net's own).", min=1),
]
Set = Annotated[list[str] | None, typer.Option("--set", help="An argument of the net's own, NAME=VALUE: mlp --set hidden=40000.")]
RunFolder = Annotated[Path | None, typer.Option("--out", "-o", help="The run folder (default: a new one in runs/).")]
Resume = Annotated[Path | None, typer.Option("--resume", help="Go on with this run, from where its state was saved.")]
AcceptDataChange = Annotated[bool, typer.Option("--accept-data-change", help="With --resume: go on although the images have changed.")]
StrictResume = Annotated[
    bool, typer.Option("--strict-resume", help="With --resume: refuse a damaged state instead of taking the one before it.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call wrote there.")]

_SIZE = re.compile(r"([0-9]{1,7})x([0-9]{1,7})x([0-9]{1,7})", re.ASCII)
MOST_CHANNELS_GUESSED = 4  # in 224x224x3 the last number is meant as channels


def parse_input(text: str | None) -> tuple[int, int, int] | None:
    """`3x227x227` as (channels, height, width). UsageError with an example for anything else."""
    if text is None:
        return None
    found = _SIZE.fullmatch(text)
    sizes = tuple(int(number) for number in found.groups()) if found else ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise UsageError(f"--input {text!r} should be channels x height x width, for example --input 3x224x224", path="--input")
    channels, height, width = sizes
    if width <= MOST_CHANNELS_GUESSED < min(channels, height):  # 512x4x4 is a small map of many channels
        raise UsageError(
            f"--input {text} has {channels} channels", f"channels come first: --input {width}x{channels}x{height}", path="--input"
        )
    return channels, height, width


def parse_settings(texts: list[str] | None) -> dict[str, str]:
    """`hidden=40000` of --set as {"hidden": "40000"}. UsageError for anything else, and for a name that stands twice."""
    settings: dict[str, str] = {}
    for text in texts or ():
        name, sign, value = text.partition("=")
        if not sign or not name or name in settings:
            raise UsageError(f"--set {text!r} should be NAME=VALUE, each name once, for example --set hidden=40000", path="--set")
        settings[name] = value
    return settings


def open_data(spec: str, config: DataConfig) -> Source:
    """Open a source as the flags say, and tell what there is to tell about it."""
    from cnncli.data.source import open_source

    source = open_source(
        spec,
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        include_hidden=config.include_hidden,
        allow_empty=config.allow_empty,
        subset=config.subset,
        limit_per_class=config.limit_per_class,
        data_root=config.data_root,
        tell=talk,
    )
    for notice in source.notices:
        talk(f"note: {notice}")
    return source


def open_images_of(spec: str, config: DataConfig) -> Source | RemoteShards:
    """As `open_data`, for commands that also take what is streamed: shards at https addresses. UsageError for flags that it cannot heed."""
    from cnncli.data.shards.addresses import is_address

    if not is_address(spec):
        return open_data(spec, config)
    from cnncli.data.shards.remote import open_remote

    for flag, value in (("--subset", config.subset), ("--limit-per-class", config.limit_per_class)):
        if value is not None:
            raise UsageError(f"{flag} needs images that are at hand, and remote shards are streamed", "name fewer shards", path=flag)
    source = open_remote(spec, val_fraction=config.val_fraction, test_fraction=config.test_fraction, tell=talk)
    for notice in source.notices:
        talk(f"note: {notice}")
    return source


def with_settings(*, given: tuple[type, ...] = (), **configs: type) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Decorate a command whose keyword parameters `configs` names take configuration objects.

    Each such parameter is replaced by one flag per field of its dataclass, with the field's default and meaning; the
    command receives the finished object. So an option is declared once, in the configuration.
    given: configurations whose flags are handed over as they were typed, those that were, in one dictionary by field, to a parameter
    `given`: for commands in which a recipe stands between the defaults and the flags.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        replaced = {*configs, "given"} if given else set(configs)
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name not in replaced]
        flags = [parameter for config in configs.values() for parameter in _flags(config)]
        flags += [parameter for config in given for parameter in _flags(config, typed_only=True)]

        def run(**arguments: Any) -> int:
            made = {name: config(**{f.name: arguments.pop(f.name) for f in fields(config)}) for name, config in configs.items()}
            if given:
                typed = {(config, f.name): arguments.pop(f.name) for config in given for f in fields(config)}
                made["given"] = {name: _number(config, name, value) for (config, name), value in typed.items() if value is not None}
            return command(**arguments, **made)

        run.__doc__ = command.__doc__
        run.__signature__ = inspect.Signature([*own, *flags], return_annotation=int)  # type: ignore[attr-defined]
        run.__annotations__ = {}
        return run

    return decorate


def _number(config: type, name: str, value: Any) -> Any:
    """The value of a flag that takes a number or a word: the word, else the number. UsageError for anything else."""
    from cnncli.settings import flag_name, setting_of

    words = setting_of(config, name).words
    if not words or value in words:
        return value
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{flag_name(name)} {value!r} should be {' or '.join(words)} or a whole number", path=flag_name(name)) from None


def _flags(config: type, *, typed_only: bool = False) -> list[inspect.Parameter]:
    """typed_only: a flag that was not typed is None."""
    from cnncli.settings import flag_name, setting_of

    hints = get_type_hints(config)
    made = []
    for f in fields(config):
        declared = setting_of(config, f.name)
        meaning = declared.meaning + (f" One of {', '.join(declared.choices)}." if declared.choices else "")
        # An Optional default is not printed: its meaning says what happens without the flag.
        flag, hint, default = flag_name(f.name), hints[f.name], f.default
        if hint == bool | None:  # neither flag: the command decides
            flag = f"{flag}/--no-{flag.removeprefix('--')}"
        elif typed_only and hint is bool:  # so that a recipe's yes can be taken back
            bare = flag.removeprefix("--")
            flag = f"{flag}/--{bare.removeprefix('no-') if bare.startswith('no-') else f'no-{bare}'}"
        if declared.words:
            hint = str
        if typed_only:
            if default is not None and default is not False:
                # Escaped as rich does it: a word in square brackets would be taken for markup and left out.
                meaning += f" \\[default: {default:g}]" if isinstance(default, float) else f" \\[default: {default}]"
            hint, default = hint | None, None
        option = typer.Option(flag, help=meaning, rich_help_panel=declared.panel, show_default=default is not None)
        made.append(inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[hint, option]))
    return made
