"""`cnn models`: list the nets that have a name."""

from __future__ import annotations

from cnncli.arch.net import totals, walk
from cnncli.arch.zoo.table import ZOO, build
from cnncli.cli.options import Json
from cnncli.errors import ExitCode
from cnncli.reports.shape import print_models


def command(json: Json = False) -> int:
    """List the nets that have a name, with their size and cost.

    JSON: {"models": [{"name", "summary", "year", "paper", "input", "classes", "params", "macs"}]}.
    """
    entries = []
    for name, entry in ZOO.items():
        net = build(name)
        entries.append((net, totals(walk(net), net.input), entry.summary, entry.year))
    print_models(entries, as_json=json)
    return ExitCode.DONE
