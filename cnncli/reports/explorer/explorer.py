"""A projection to walk through: one HTML file that asks the network for nothing.

Style, script, plotly and thumbnails stand in the file. Its Content-Security-Policy forbids every request. plotly compiles its drawing
on the graphics card by the Function constructor, hence unsafe-eval; no name of a file or class ever comes near it.
"""

from __future__ import annotations

import colorsys
import io
import math
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnncli.errors import printable
from cnncli.reports.page.palette import PALETTE
from cnncli.reports.scatter import UNKNOWN, colours, panel_title
from cnncli.reports.standalone import plain_lines, plotly_script, policy, script_json, templates

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

    from cnncli.features.projected import Projection

FOLDER = Path(__file__).parent
SHEET = 25  # thumbnails a side of a sheet: what is decoded when the mouse comes to the first of them
SIDES = ((2_000, 96), (6_000, 64), (math.inf, 48))  # images up to which a thumbnail has so many pixels a side: about 20 MB at 20,000
QUALITY = 60  # of WebP
NIGHT = 0.58  # least lightness of a colour on a dark page


@dataclass(frozen=True)
class Explored:
    """What the page shows. title: the model and the images. labels: [N], -1 without a class. splits: of each image, "" where none.

    thumbnail: (row, side) -> image; None where the images are not at hand.
    """

    title: str
    projection: Projection
    labels: npt.NDArray[np.int64]
    classes: Sequence[str]
    paths: Sequence[str]
    splits: Sequence[str]
    thumbnail: Callable[[int, int], Image] | None


def explorer_html(explored: Explored) -> str:
    """The page as HTML. ImportError where plotly or jinja2 is missing."""
    from markupsafe import Markup

    environment = templates(FOLDER)
    plotly = plotly_script()
    script = plain_lines((FOLDER / "explorer.js").read_text(encoding="utf-8"))
    return environment.get_template("explorer.html.jinja").render(
        title=explored.title,
        what=panel_title(explored.projection).replace(r"\$", "$"),
        kept=explored.projection.kept,
        count=len(explored.labels),
        version=version("cnncli"),
        palette=PALETTE,
        css=Markup((FOLDER / "explorer.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        plotly=Markup(plotly),  # noqa: S704 - it is made to stand in pages
        script=Markup(script),  # noqa: S704 - our own file
        policy=policy([plotly, script], evaluates=True),
        points=script_json(_points(explored)),
    )


def _points(explored: Explored) -> dict[str, Any]:
    """All that the script knows."""
    labels = [int(label) if label >= 0 else len(explored.classes) for label in explored.labels]
    unknown = (["no class"], [UNKNOWN]) if any(label == len(explored.classes) for label in labels) else ([], [])
    splits = list(dict.fromkeys(explored.splits))
    x, y = explored.projection.points.T
    side = next(side for most, side in SIDES if len(labels) <= most)
    pca = explored.projection.method == "pca"
    return {
        "x": [float(f"{value:.5g}") for value in x],
        "y": [float(f"{value:.5g}") for value in y],
        "label": labels,
        "classes": [printable(name) for name in explored.classes] + unknown[0],
        "colours": [*colours(len(explored.classes)), *unknown[1]],
        "night": [_lighter(colour) for colour in (*colours(len(explored.classes)), *unknown[1])],
        "names": [printable(path) for path in explored.paths],
        "split": [splits.index(split) for split in explored.splits],
        "splits": splits,
        "axes": [f"component {n} ({share:.1%} of the variance)" for n, share in enumerate(explored.projection.explained[:2], 1)]
        if pca
        else [],
        "side": side,
        "columns": SHEET,
        "sheets": [] if explored.thumbnail is None else _sheets(explored.thumbnail, len(labels), side),
    }


def _sheets(thumbnail: Callable[[int, int], Image], count: int, side: int) -> list[str]:
    """Thumbnails in rows, SHEET x SHEET a picture, as data URIs."""
    from PIL import Image

    made = []
    for first in range(0, count, SHEET * SHEET):
        held = min(SHEET * SHEET, count - first)
        page = Image.new("RGB", (SHEET * side, math.ceil(held / SHEET) * side), "white")
        for place in range(held):
            picture = thumbnail(first + place, side)
            x, y = place % SHEET * side, place // SHEET * side
            page.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
        stream = io.BytesIO()
        page.save(stream, "WEBP", quality=QUALITY, method=2)
        made.append(f"data:image/webp;base64,{b64encode(stream.getvalue()).decode('ascii')}")
    return made


def _lighter(colour: str) -> str:
    """A colour that can be seen on a dark page: no darker than NIGHT."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)))
    parts = colorsys.hls_to_rgb(hue, max(lightness, NIGHT), saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)
