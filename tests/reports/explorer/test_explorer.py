"""The page of a projection, without a browser: it is whole, asks for nothing, and names do no harm."""

from __future__ import annotations

import base64
import io
import json
import re
from html import unescape

import numpy as np
from PIL import Image

from cnncli.features.projected import Projection
from cnncli.reports.explorer.explorer import SHEET, Explored, explorer_html

HOSTILE = ("</script><img src=x onerror=alert(1)>", "<!--", "{{ 7 * 7 }}", "\x1b[31m")


def page(count: int = 40, *, pictures: bool = True) -> tuple[str, dict]:
    points = np.random.default_rng(0).normal(size=(count, 2))
    found = Explored(
        f"net on {HOSTILE[0]}",
        Projection("pca", "fc7", "layer", points, (0.5, 0.25)),
        np.array([number % 5 - 1 for number in range(count)]),
        HOSTILE,
        [f"{number}{HOSTILE[0]}" for number in range(count)],
        ["test"] * count,
        (lambda n, side: Image.new("RGB", (side, side), (n % 256, 0, 255))) if pictures else None,
    )
    html = explorer_html(found)
    held = re.search(r'<script type="application/json" id="points">(.*?)</script>', html, re.DOTALL)
    assert held is not None
    return html, json.loads(held[1])


def test_hostile_names_are_text() -> None:
    html, points = page(pictures=False)
    assert "<img src=x" not in html
    assert points["classes"] == [*HOSTILE[:3], r"\x1b[31m", "no class"]
    assert points["names"][3] == f"3{HOSTILE[0]}"
    assert points["label"][:6] == [4, 0, 1, 2, 3, 4]
    assert points["sheets"] == []


def test_it_asks_for_nothing() -> None:
    html, _ = page()
    assert "default-src 'none'" in unescape(html[:2000])
    assert re.findall(r'(?:src|href)="([^"]*)"', html.split('id="points"')[0]) == ["data:,"]


def test_every_thumbnail_is_where_the_script_looks() -> None:
    count = SHEET * SHEET + 30
    _, points = page(count)
    assert len(points["sheets"]) == 2
    for row in (0, 26, SHEET * SHEET - 1, SHEET * SHEET, count - 1):
        sheet = Image.open(io.BytesIO(base64.b64decode(points["sheets"][row // SHEET**2].split(",")[1]))).convert("RGB")
        at, side = row % SHEET**2, points["side"]
        red, _, blue = sheet.getpixel((at % SHEET * side + side // 2, at // SHEET * side + side // 2))
        assert abs(red - row % 256) < 12
        assert blue > 230


def test_colours_can_be_seen_on_a_dark_page() -> None:
    _, points = page(pictures=False)
    for colour in points["night"]:
        parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert max(parts) + min(parts) >= 2 * 255 * 0.57
    assert len(set(points["night"])) == len(points["night"])
