"""The command line: which commands there are, and what every one of them does with errors, Ctrl-C and a closed pipe.

Only the command that is called is imported, so that `cnn --help` and `cnn shape` answer at once.
"""

from __future__ import annotations

import gc
import inspect
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from cnncli.errors import CnnError, EnvironmentFault, ExitCode, UsageError, near_miss, printable
from cnncli.reports.terminal import output_fault, print_json, silence, talk, write_result
from cnncli.visualize.methods import METHODS

if TYPE_CHECKING:
    import typer

# name: one line for the overview. The module is cnncli.cli.<name>, its function `command`; of those in GROUPS cnncli.cli.<name>.<command>.
COMMANDS = {
    "shape": "explain a net: output sizes, parameters, MACs, receptive fields",
    "models": "list the nets that have a name",
    "convolve": "work a convolution or a pooling by hand, step by step",
    "data": "look at a data set: counts, bad images, duplicates, leaks",
    "train": "train a net on images",
    "finetune": "teach a pretrained net the classes of a folder of images",
    "runs": "list trainings and compare them",
    "experiment": "repeat an experiment of the lecture: plain-vs-residual",
    "eval": "judge a trained model on a data set",
    "predict": "classify images with a trained model",
    "report": "everything about a trained model on one HTML page",
    "export": "write a trained model as ONNX or torch.export, checked",
    "features": "what layers say of images: neighbours, projections, probes",
    "visualize": "what a network looks at: filters, saliency, guided backprop",
}
GROUPS = {
    "features": {
        "extract": "run a model on images and keep what its layers say of them",
        "neighbors": "the nearest images in feature space and in pixel space",
        "project": "PCA, t-SNE or UMAP of features, as picture and as page",
        "probe": "linear classifiers and nearest neighbours on each layer",
        "retrieve": "the images of a set that are most like an image",
    },
    "visualize": {method.name: method.about for method in METHODS},
}

# What to install for a package whose name on the index differs from the one that is imported.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "tomli_w": "tomli-w"}

OVERVIEW = """\
Usage: cnn COMMAND [OPTIONS]

Convolutional networks from the command line.

Commands:
{commands}

Options:
  --help                  this text; `cnn COMMAND --help` explains a command
  --version               the version
  --debug                 show the traceback of an error
  --install-completion    complete commands and flags in your shell
  --show-completion       print the completion script

Start with: cnn shape alexnet
"""
OVERVIEW_OF_GROUP = """\
Usage: cnn {group} COMMAND [OPTIONS]

{about}

Commands:
{commands}

`cnn {group} COMMAND --help` explains a command.{more}
"""


MORE = {"visualize": "\n`cnn visualize --list` says after whom each is and what it needs."}


_typed: list[str] = []


def command_line() -> list[str]:
    """What the user typed behind the program's name."""
    return list(_typed)


def main(arguments: list[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    _typed[:] = arguments
    # Importing makes many objects and no garbage: collecting it every 700 of them is a tenth of a short command's time.
    gc.set_threshold(50_000, 10, 10)
    # Spinning OpenMP threads collapse when a neighbour is busy; read when torch loads its OpenMP.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if sys.stderr is None:  # started without one
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open as long as the process
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name must never stop a report: what the encoding lacks is escaped
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _terminate)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        return _guarded(arguments, debug=debug)
    except BrokenPipeError:
        silence(sys.stdout)
        return ExitCode.READER_GONE
    finally:
        _flush_output()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # all is said; what Python still does at its end is not worth a word


def _guarded(arguments: list[str], *, debug: bool) -> int:
    """Run, and turn every failure into one line on standard error and an exit code."""
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        talk("cnn: interrupted")
        return ExitCode.INTERRUPTED
    except Terminated:
        talk("cnn: terminated")
        return ExitCode.TERMINATED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug, too, ends in one line that says how to see more
        if debug:
            traceback.print_exc()
        return _fail(_as_cnn_error(error), as_json="--json" in arguments)


class Terminated(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt it is no Exception, so that no handler of errors swallows it."""


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def _dispatch(arguments: list[str]) -> int:
    if "_CNN_COMPLETE" in os.environ or arguments[:1] in (["--install-completion"], ["--show-completion"]):
        _every_command()(args=arguments, prog_name="cnn")
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        write_result(OVERVIEW.format(commands="\n".join(f"  {name:<10} {line}" for name, line in COMMANDS.items())))
        return ExitCode.DONE
    if arguments[0] == "--version":
        from importlib.metadata import version

        write_result(f"cnn {version('cnncli')}\n")
        return ExitCode.DONE
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        raise UsageError(f"unknown {kind} {name!r}", near_miss(name, list(COMMANDS)) or "`cnn --help` lists all", path=name)
    return _of_group(name, rest) if name in GROUPS else _run(name, rest)


def every_name() -> list[str]:
    """All commands as they are typed: `train`, `features extract`."""
    return [f"{name} {of}".rstrip() for name in COMMANDS for of in GROUPS.get(name, [""])]


def module_of(name: str) -> str:
    """The module of a command, as it is typed."""
    return f"cnncli.cli.{name.replace(' ', '.')}"


def _of_group(group: str, arguments: list[str]) -> int:
    """A command of several: `features extract`."""
    known = GROUPS[group]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        longest = max(10, *map(len, known))
        commands = "\n".join(f"  {name:<{longest}} {line}" for name, line in known.items())
        about = COMMANDS[group][:1].upper() + COMMANDS[group][1:] + "."
        write_result(OVERVIEW_OF_GROUP.format(group=group, about=about, commands=commands, more=MORE.get(group, "")))
        return ExitCode.DONE
    if group == "visualize" and arguments == ["--list"]:
        _list_methods()
        return ExitCode.DONE
    if arguments[0] not in known:
        kind = "option" if arguments[0].startswith("-") else "command"
        hint = near_miss(arguments[0], list(known)) or f"`cnn {group} --help` lists all"
        raise UsageError(f"unknown {kind} {arguments[0]!r} of cnn {group}", hint, path=arguments[0])
    return _run(f"{group} {arguments[0]}", arguments[1:])


def _list_methods() -> None:
    """The methods of `cnn visualize`: what each draws, after whom, and what it needs."""
    from cnncli.reports.terminal import Column, print_result, table

    columns = [Column("method"), Column("what it draws", text=True), Column("after", text=True), Column("needs")]
    print_result(table(columns, [(method.name, method.about, method.paper, method.needs) for method in METHODS]))


def _run(name: str, arguments: list[str]) -> int:
    import typer

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    module = import_module(module_of(name))
    texts = _help_texts(module) if {"--help", "-h"} & set(arguments) else {}
    app.command(name, no_args_is_help=False, context_settings={"help_option_names": ["--help", "-h"]}, **texts)(module.command)
    # Not app(...): typer answers Ctrl-C and a closed pipe in its own way, and `main` has to see both.
    parser: Any = typer.main.get_command(app)
    try:
        with _parsed(parser, name, arguments) as context:
            result = parser.invoke(context)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:  # the parser's exceptions have no public base class; every other is raised again
        if isinstance(error, CnnError) or not hasattr(error, "format_message"):
            raise
        raise _usage_error(error, name) from error
    return result if isinstance(result, int) else ExitCode.DONE


def _help_texts(module: Any) -> dict[str, Any]:
    """What a command's help says above its options, and below them where the module has an `epilog`; square brackets are no markup."""
    from rich.markup import escape

    texts: dict[str, Any] = {"help": escape(inspect.getdoc(module.command) or "")}
    if hasattr(module, "epilog"):
        texts["epilog"] = escape(module.epilog())
    return texts


def _parsed(parser: Any, name: str, arguments: list[str]) -> Any:
    """The command line in the parser's form. --help is printed here, by rich, which leaves when its reader has gone."""
    try:
        return parser.make_context(f"cnn {name}", arguments)
    except SystemExit:
        raise BrokenPipeError from None
    except OSError as error:
        raise output_fault(error) from error


def _usage_error(error: Any, name: str) -> UsageError:
    """A complaint of the argument parser, in our words: the nearest flags, and where the help is."""
    message = getattr(error, "message", None) or error.format_message()
    if not getattr(error, "option_name", None):
        message = error.format_message()
    flag = getattr(error, "option_name", None) or next(iter(getattr(getattr(error, "param", None), "opts", [])), None)
    near = getattr(error, "possibilities", None) or []
    hint = f"did you mean {' or '.join(near)}?" if near else f"`cnn {name} --help` explains its options"
    text = " ".join(message.split()).rstrip(".")
    return UsageError(text[:1].lower() + text[1:], hint, path=flag)


def _every_command() -> typer.Typer:
    """All commands in one application: what shell completion needs."""
    import typer

    app = typer.Typer(name="cnn", add_completion=True)
    groups = {group: typer.Typer() for group in GROUPS}
    for name in every_name():
        group, _, of = name.partition(" ")
        (groups[group] if of else app).command(of or name)(import_module(module_of(name)).command)
    for group, inner in groups.items():
        app.add_typer(inner, name=group)
    return app


def _as_cnn_error(error: Exception) -> CnnError:
    if isinstance(error, CnnError):
        return error
    if isinstance(error, ImportError):
        package = (error.name or str(error)).split(".")[0]
        return EnvironmentFault(f"the package {package} cannot be imported ({error})", f"pip install {DISTRIBUTIONS.get(package, package)}")
    return CnnError(f"unexpected {type(error).__name__}: {error}", "run again with --debug and report the traceback")


def _fail(error: CnnError, *, as_json: bool) -> int:
    """One line on standard error; with --json the same facts as an object on standard output."""
    talk("cnn: error: " + printable(str(error)), error=True)
    if as_json:
        try:
            print_json({"error": {"code": int(error.code), "message": error.message, "path": error.path, "fix": error.hint or None}})
        except EnvironmentFault:
            return ExitCode.ENVIRONMENT
    return error.code


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            silence(stream)
