"""How tests change a module in every Python process that a command starts: as soon as it has been imported there."""

from __future__ import annotations

import os
from pathlib import Path

LATE = """
import sys
from importlib.machinery import PathFinder
class Late:
    def find_spec(self, name, path=None, target=None):
        if name != {module!r}:
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        def exec_module(module):
            execute(module)
{change}
        spec.loader.exec_module = exec_module
        return spec
sys.meta_path.insert(0, Late())
"""


def in_every_process(folder: Path, text: str) -> dict[str, str]:
    """Environment variables under which every Python process runs `text` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def changed(folder: Path, module: str, change: str) -> dict[str, str]:
    """Environment variables under which `change`, which calls it `module`, is run as soon as a process has imported that module."""
    return in_every_process(folder, LATE.format(module=module, change="\n".join(f"            {line}" for line in change.splitlines())))
