"""What an HTML page needs that is one file, asks the network for nothing, and runs no script but its own."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.errors import printable

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def templates(folder: Path) -> Environment:
    """The templates of a folder: what is filled in is escaped, and printable. ImportError where jinja2 is missing."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,  # Markup, a kind of str, is left as it is
        trim_blocks=True,
        lstrip_blocks=True,
    )


def plotly_script() -> str:
    """The library that draws plots in a page. ImportError where plotly is missing."""
    return plain_lines(files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8"))


def script_json(value: Any) -> Markup:
    """JSON that may stand in a <script>: no `<`, so neither `</script>` nor `<!--`."""
    from markupsafe import Markup

    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - escaped just now


def plain_lines(text: str) -> str:
    """The text with the line ends that the browser hashes."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def policy(scripts: Sequence[str], *, evaluates: bool = False) -> str:
    """The Content-Security-Policy: nothing from anywhere but what stands in the page; of scripts, only these.

    plotly makes a <style> of its own, hence unsafe-inline for style; blob: is the picture that its camera button saves. evaluates: whether
    scripts may make functions out of text.
    """
    hashes = " ".join(f"'sha256-{b64encode(sha256(script.encode()).digest()).decode('ascii')}'" for script in scripts)
    allowed = f"{hashes} 'unsafe-eval'" if evaluates else hashes
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'"
