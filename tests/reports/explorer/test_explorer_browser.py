"""The page of a projection in headless Chromium: alone, under the mouse, searched, in the dark, on a phone."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from browser import DESKTOP, PHONE, Chromium
from PIL import Image

from cnncli.features.projected import Projection
from cnncli.reports.explorer.explorer import SHEET, Explored, explorer_html
from cnncli.reports.page.palette import PALETTE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

HOSTILE = "</script><img src=x onerror=window.harm=1>"
CLASSES = (HOSTILE, "cat", "dog", "{{ 7 * 7 }}")
COUNT = SHEET * SHEET + 75  # two sheets of thumbnails


def hover(chromium: Chromium, row: int) -> None:
    """Put the mouse on an image's point, and wait for its thumbnail."""
    x, y = chromium.run(
        """
        const place = document.getElementById('plot');
        const { xaxis, yaxis } = place._fullLayout, box = place.getBoundingClientRect();
        const [trace, at] = [place.data[0], place.data[0].customdata.indexOf(arguments[0])];
        return [box.x + xaxis._offset + xaxis.d2p(trace.x[at]), box.y + yaxis._offset + yaxis.d2p(trace.y[at])];
        """,
        row,
    )
    for step in (3, 0):
        chromium.mouse("mouseMoved", x + step, y)
        time.sleep(0.1)  # plotly looks at most every 50 ms
    chromium.until(f"document.getElementById('thumbnail').dataset.row === '{row}'")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Points on a lattice; the thumbnail of image n has the red n % 256, and blue above the first sheet."""
    points = np.array([(number % 28, number // 28) for number in range(COUNT)], dtype=float)
    found = Explored(
        f"net on {HOSTILE}",
        Projection("tsne", "fc7", "layer", points, perplexity=30, kept=0.5),
        np.arange(COUNT) % len(CLASSES),
        CLASSES,
        [f"{number:04d}{HOSTILE}.png" for number in range(COUNT)],
        ["test"] * COUNT,
        lambda n, side: Image.new("RGB", (side, side), (n % 256, 0, 255 if n >= SHEET * SHEET else 0)),
    )
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    path.write_text(explorer_html(found), encoding="utf-8")
    return path


def drawn(chromium: Chromium, trace: int = 0) -> list[int]:
    """The images in the plot: all that are shown, or (1) those that were searched for."""
    return chromium.run("return document.getElementById('plot').data[arguments[0]].customdata", trace)


def test_it_opens_alone_and_names_are_text(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    time.sleep(0.3)
    assert chromium.complaints() == []
    asked = [json.loads(entry["message"])["message"] for entry in chromium.logs("performance")]
    urls = {told["params"]["request"]["url"] for told in asked if told["method"] == "Network.requestWillBeSent"}
    assert {url for url in urls if not url.startswith(("data:", "blob:"))} == {page.as_uri()}
    assert chromium.run("return document.querySelector('h1').textContent") == f"net on {HOSTILE}"
    assert chromium.run("return [...document.querySelectorAll('#classes button span:nth-child(2)')].map((e) => e.textContent)") == [
        *CLASSES
    ]
    assert chromium.run("return window.harm") is None
    assert sorted(drawn(chromium)) == list(range(COUNT))
    assert chromium.run("return document.querySelectorAll('#plot canvas').length") > 0


def test_hover_shows_the_image(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    assert chromium.run("return document.getElementById('card').hidden")
    for row in (0, 41, SHEET * SHEET - 1, SHEET * SHEET, COUNT - 1):
        hover(chromium, row)
        pixel = "return [...document.getElementById('thumbnail').getContext('2d').getImageData(20, 20, 1, 1).data]"
        red, _, blue, solid = chromium.run(pixel)
        assert abs(red - row % 256) < 12
        assert (blue > 128) == (row >= SHEET * SHEET)
        assert solid == 255
        assert chromium.run("return document.getElementById('class').textContent") == CLASSES[row % len(CLASSES)]
        assert chromium.run("return document.getElementById('name').textContent") == f"{row:04d}{HOSTILE}.png (test)"
        box = chromium.run("const b = document.getElementById('card').getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]")
        assert box[0] >= 0
        assert box[1] >= 0
        assert box[2] <= DESKTOP[0]
        assert box[3] <= DESKTOP[1]
    chromium.mouse("mouseMoved", 1190, 890)
    chromium.until("document.getElementById('card').hidden")
    assert chromium.run("return window.harm") is None


def test_the_wheel_zooms(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    span = "(() => { const r = document.getElementById('plot')._fullLayout.xaxis.range; return r[1] - r[0]; })()"
    before = chromium.run(f"return {span}")
    chromium.mouse("mouseMoved", 400, 450)
    chromium.mouse("mouseWheel", 400, 450, deltaX=0, deltaY=-300)
    chromium.until(f"{span} < {0.95 * before}")
    time.sleep(0.3)
    zoomed = chromium.run(f"return {span}")
    chromium.run("document.querySelector('#classes button').click()")
    assert chromium.run(f"return {span}") == pytest.approx(zoomed), "a filter leaves the view as it is"


def test_classes_and_search(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    of_class = [list(range(label, COUNT, len(CLASSES))) for label in range(len(CLASSES))]
    buttons = "document.querySelectorAll('#classes button')"
    chromium.run(f"{buttons}[1].click()")
    assert sorted(drawn(chromium)) == sorted(of_class[0] + of_class[2] + of_class[3])
    assert chromium.run(f"return [...{buttons}].map((b) => b.getAttribute('aria-pressed'))") == ["true", "false", "true", "true"]
    chromium.run("document.getElementById('none').click()")
    assert drawn(chromium) == []
    chromium.run("document.getElementById('all').click()")
    chromium.run("const s = document.getElementById('search'); s.value = ' DOG '; s.dispatchEvent(new Event('input'))")
    told = "document.getElementById('told').textContent"
    chromium.until(f"{told} === '{len(of_class[2])} images found'")
    assert sorted(drawn(chromium, 1)) == of_class[2]
    chromium.run("const s = document.getElementById('search'); s.value = '0033</script>'; s.dispatchEvent(new Event('input'))")
    chromium.until(f"{told} === '1 image found'")
    assert drawn(chromium, 1) == [33]
    chromium.run("const s = document.getElementById('search'); s.value = ''; s.dispatchEvent(new Event('input'))")
    chromium.until(f"{told} === ''")
    assert len(drawn(chromium)) == COUNT
    assert chromium.complaints() == []


@pytest.mark.parametrize("size", [PHONE, (320, 640), DESKTOP], ids=["400", "320", "1200"])
def test_it_never_scrolls_sideways(size: tuple[int, int], chromium: Chromium, page: Path) -> None:
    chromium.open(page, size)
    wide, seen = chromium.run("const e = document.scrollingElement; return [e.scrollWidth, e.clientWidth]")
    assert wide <= seen
    hover(chromium, 5)
    left, right = chromium.run("const b = document.getElementById('card').getBoundingClientRect(); return [b.left, b.right]")
    assert left >= 0
    assert right <= size[0]


def test_dark(chromium: Chromium, page: Path) -> None:
    chromium.open(page, scheme="dark")
    paper = PALETTE["paper"].dark
    wanted = f"rgb({', '.join(str(int(paper[i : i + 2], 16)) for i in (1, 3, 5))})"
    assert chromium.run("return getComputedStyle(document.documentElement).backgroundColor") == wanted
