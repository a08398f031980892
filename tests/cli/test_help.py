"""Help, version and flags: every flag is explained, declared once, and means the same on the command line and in the code."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from importlib import import_module, metadata
from pathlib import Path

import pytest
import typer
from harness import assert_failed, run

from cnncli.arch.notation.language import GRAMMAR
from cnncli.cli.main import COMMANDS, GROUPS, every_name, module_of
from cnncli.data.config import AugmentConfig, DataConfig
from cnncli.engine.config import ComputeConfig, InferConfig, KeepConfig, OptimConfig, TrainConfig
from cnncli.settings import flag_name, setting_of
from cnncli.transfer.config import FinetuneConfig


def parameters(name: str) -> list[object]:
    """What the parser knows of a command: its arguments and options."""
    app = typer.Typer(add_completion=False)
    app.command(name)(import_module(module_of(name)).command)
    return typer.main.get_command(app).params


def options(name: str) -> dict[str, object]:
    return {flag: p for p in parameters(name) if p.param_type_name == "option" for flag in p.opts if flag.startswith("--")}


def squeezed(text: str) -> str:
    """Help text without its frame and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", text).split())


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []], ids=str)
def test_overview(arguments: list[str], here: Path) -> None:
    done = run(*arguments, cwd=here)
    assert (done.code, done.err) == (0, "")
    for name, line in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", done.out, re.MULTILINE)
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []], ids=str)
def test_overview_of_a_group(group: str, arguments: list[str], here: Path) -> None:
    done = run(group, *arguments, cwd=here)
    assert (done.code, done.err) == (0, "")
    for name, line in GROUPS[group].items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", done.out, re.MULTILINE)
    assert max(map(len, done.out.splitlines())) <= 80


@pytest.mark.parametrize("group", GROUPS)
def test_unknown_command_of_a_group(group: str, here: Path) -> None:
    near = next(iter(GROUPS[group]))
    assert_failed(run(group, near[:-1], cwd=here), 2, rf"unknown command '{near[:-1]}' of cnn {group}; did you mean {near}( or |\?)")
    assert_failed(run(group, "zzzzzz", cwd=here), 2, f"`cnn {group} --help` lists all")
    assert_failed(run(group, "--nope", cwd=here), 2, "unknown option '--nope'")


def test_version(here: Path) -> None:
    done = run("--version", cwd=here)
    assert (done.code, done.out, done.err) == (0, f"cnn {metadata.version('cnncli')}\n", "")


@pytest.mark.parametrize("columns", ["80", "140"])
@pytest.mark.parametrize("name", every_name())
def test_help_names_every_flag(name: str, columns: str, here: Path) -> None:
    done = run(*name.split(), "--help", cwd=here, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    text = squeezed(done.out)
    for parameter in parameters(name):
        if parameter.param_type_name == "argument":
            assert parameter.name in text
            continue
        for flag in (*parameter.opts, *parameter.secondary_opts):
            assert re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text), f"{flag} is not in the help"
        if parameter.name != "help":
            assert parameter.help, f"{parameter.name} is not explained"
    assert "--debug" not in text or name == "cnn"


@pytest.mark.parametrize("name", every_name())
def test_short_help(name: str, here: Path) -> None:
    assert run(*name.split(), "-h", cwd=here).out == run(*name.split(), "--help", cwd=here).out


@pytest.mark.parametrize("columns", ["80", "140"])
def test_the_grammar_of_nets_stands_in_the_help(columns: str, here: Path) -> None:
    """Line by line as it is written: square brackets are no markup, and nothing is wrapped."""
    lines = [line.rstrip() for line in run("shape", "--help", cwd=here, COLUMNS=columns).out.splitlines()]
    grammar = [f" {line}" for line in GRAMMAR.splitlines()]
    start = lines.index(grammar[0])
    assert lines[start : start + len(grammar)] == grammar


@pytest.mark.parametrize("name", every_name())
def test_square_brackets_in_the_help(name: str, here: Path) -> None:
    """`[what, arithmetic]` would be taken for markup and left out."""
    described = import_module(module_of(name)).command.__doc__
    text = squeezed(run(*name.split(), "--help", cwd=here).out)
    assert all(" ".join(words.split()) in text for words in re.findall(r"\[[^][]*\]", described))


TRAIN = (TrainConfig, OptimConfig, AugmentConfig, DataConfig, ComputeConfig, KeepConfig)  # in the order of the help
JUDGING = (DataConfig, InferConfig)
CONFIGS = {"train": TRAIN, "finetune": (FinetuneConfig, *TRAIN), "eval": JUDGING, "report": JUDGING, "predict": (InferConfig,)}
CONFIGS |= {f"features {name}": JUDGING for name in GROUPS["features"]}
TYPED_ONLY = {"train", "finetune"}  # commands in which a recipe stands between the defaults and the flags: a flag that is not typed is None


@pytest.mark.parametrize(("command", "config"), [(name, config) for name, configs in CONFIGS.items() for config in configs])
def test_flags_are_the_fields(command: str, config: type) -> None:
    known = options(command)
    for f in fields(config):
        flag = flag_name(f.name)
        assert flag in known, f"{f.name} has no flag"
        declared, option = setting_of(config, f.name), known[flag]
        assert option.default == (None if command in TYPED_ONLY else f.default)
        assert f.default is not MISSING
        assert option.help.startswith(declared.meaning)
        assert option.rich_help_panel == declared.panel
        assert all(choice in option.help for choice in declared.choices)
        assert declared.meaning.endswith(".") or declared.meaning.endswith(")")
        if f.default is None:
            instead = f.name in getattr(config, "LENGTHS", ()) or "instead" in declared.meaning
            assert instead or "default:" in declared.meaning or command in TYPED_ONLY, f"{flag} does not say what happens without it"
        if isinstance(f.default, bool) and command in TYPED_ONLY:
            bare = flag.removeprefix("--")
            other = bare.removeprefix("no-") if bare.startswith("no-") else f"no-{bare}"
            assert option.secondary_opts == [f"--{other}"], "a recipe's yes can be taken back"


@pytest.mark.parametrize("columns", ["80", "140"])
def test_help_of_train_shows_defaults(columns: str, here: Path) -> None:
    """Square brackets are no markup there either, however the lines are broken."""
    text = squeezed(run("train", "--help", cwd=here, COLUMNS=columns).out)
    shown = re.findall(r"\[default: ([^]]*)\]", text)
    wanted = [f.default for config in TRAIN for f in fields(config) if f.default is not None and f.default is not False]
    assert shown == [f"{value:g}" if isinstance(value, float) else str(value) for value in wanted]
    assert "\\" not in text


def test_help_of_train_is_grouped(here: Path) -> None:
    """Every option stands under one heading, and only there."""
    heading, under = "", {}
    for line in run("train", "--help", cwd=here, COLUMNS="140").out.splitlines():
        if found := re.match(r"╭─ (.+?) ─", line):
            heading = found[1]
        elif found := re.match(r"│ +(--[a-z0-9-]+)(?= )", line):
            assert found[1] not in under
            under[found[1]] = heading
    assert set(under) == {"--help", *options("train")}
    panels = [setting_of(config, f.name).panel for config in TRAIN for f in fields(config)]
    assert list(dict.fromkeys(under.values())) == ["Options", *dict.fromkeys(panels)]


@pytest.mark.parametrize("command", CONFIGS)
def test_each_field_has_exactly_one_flag(command: str) -> None:
    names = [f.name for config in CONFIGS[command] for f in fields(config)]
    assert len(set(names)) == len(names)
    flags = [flag for p in parameters(command) for flag in p.opts]
    assert len(set(flags)) == len(flags)


@pytest.mark.parametrize("config", TRAIN)
def test_every_field_says_what_it_means(config: type) -> None:
    for f in fields(config):
        declared = setting_of(config, f.name)
        assert declared.panel
        assert declared.meaning[0].isupper()
    config()  # the defaults are in range


def test_a_flag_means_the_same_in_every_command() -> None:
    """Where two commands share a flag, its type agrees; --batch-size and --max-pixels must not mean another thing in the next command.

    `cnn models --weights` lists what --weights takes elsewhere.
    """
    seen: dict[str, tuple[str, object]] = {}
    for name in every_name():
        for flag, option in options(name).items():
            if (name, flag) == ("models", "--weights"):
                continue
            kind = (type(option.type).__name__.replace("Range", "").lower(), option.multiple, option.is_flag)
            other, found = seen.setdefault(flag, (name, kind))
            assert kind[1:] == found[1:], f"{flag} of {name} and {other}"


def test_max_pixels_is_one_number() -> None:
    from cnncli.data.decode import MAX_PIXELS

    assert options("predict")["--max-pixels"].default == options("eval")["--max-pixels"].default == DataConfig().max_pixels == MAX_PIXELS
