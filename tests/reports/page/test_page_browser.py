"""The page in a real browser, headless Chromium: alone, in the dark, on a phone, on paper, under the mouse."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest
from browser import DESKTOP, PHONE, Chromium

from cnncli.reports.page.page import page_html
from cnncli.reports.page.palette import PALETTE

pytestmark = [pytest.mark.browser, pytest.mark.slow]

INJECTED = "<img src=x onerror='window.harm = 2'>"


@pytest.fixture(scope="module")
def page(make_data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_html(make_data()), encoding="utf-8")
    return path


def test_it_opens_alone(chromium: Chromium, page: Path) -> None:
    chromium.open(page)
    assert chromium.complaints() == []
    assert chromium.run("return performance.getEntriesByType('resource').map((entry) => entry.name)") == []
    asked = [json.loads(entry["message"])["message"] for entry in chromium.logs("performance")]
    urls = [told["params"]["request"]["url"] for told in asked if told["method"] == "Network.requestWillBeSent"]
    assert {url for url in urls if not url.startswith("data:")} == {page.as_uri()}
    drawn = chromium.run("return [...document.querySelectorAll('.plot')].map((place) => place.querySelectorAll('.main-svg').length > 0)")
    assert drawn == [True] * 5, "confusion, reliability, loss, accuracy, learning rate"


def test_what_was_injected_does_not_run_and_cannot_ask(chromium: Chromium, page: Path) -> None:
    """Even where escaping had failed: the browser refuses."""
    chromium.open(page)
    chromium.run("const s = document.createElement('script'); s.textContent = 'window.harm = 1'; document.body.append(s)")
    chromium.run("const d = document.createElement('div'); d.innerHTML = arguments[0]; document.body.append(d)", INJECTED)
    chromium.run("fetch('https://example.org').then(() => window.harm = 3, () => window.refused = true)")
    chromium.until("window.refused")
    assert chromium.run("return window.harm") is None
    assert any("Content Security Policy" in message for message in chromium.complaints())


def test_hostile_names(chromium: Chromium, make_data, hostile, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(page_html(make_data(names=hostile, count=80, model=hostile[0])), encoding="utf-8")
    chromium.open(path)
    assert chromium.complaints() == []
    assert chromium.run("return document.querySelector('h1').textContent") == hostile[0]
    names = chromium.run("return [...document.querySelectorAll('#classes tbody th')].map((cell) => cell.textContent)")
    assert names == list(hostile)
    ticks = chromium.run("return [...document.querySelectorAll('#confusion .ytick text')].map((tick) => tick.textContent)")
    assert sorted(tick for tick in ticks if len(tick) < 18) == sorted(name for name in hostile if len(name) <= 18)
    told = hover(chromium, 2, 2)
    assert f"true: {hostile[2]}predicted: {hostile[2]}" in told


def hover(chromium: Chromium, row: int, column: int) -> str:
    """What stands beside the mouse over a cell of the confusion matrix."""
    x, y = chromium.run(
        """
        const place = document.querySelector('#confusion .plot');
        place.scrollIntoView({ block: 'center' });
        const { xaxis, yaxis } = place._fullLayout, box = place.getBoundingClientRect();
        return [box.x + xaxis._offset + xaxis.c2p(arguments[1]), box.y + yaxis._offset + yaxis.c2p(arguments[0])];
        """,
        row,
        column,
    )
    for step in (3, 0):
        chromium.tell("Input.dispatchMouseEvent", type="mouseMoved", x=x + step, y=y)
        time.sleep(0.1)  # plotly looks at most every 50 ms
    chromium.until("document.querySelector('#confusion .hoverlayer text')")
    return str(chromium.run("return document.querySelector('#confusion .hoverlayer').textContent"))


def test_hover_over_the_confusion_matrix(chromium: Chromium, page: Path, make_data) -> None:
    judgement = make_data().judgement
    chromium.open(page)
    for i, j in ((3, 3), (0, 9), (9, 0)):
        n = judgement.confusion[i][j]
        told = hover(chromium, i, j)
        assert f"true: {i}" in told
        assert f"predicted: {j}" in told
        assert f"{n} image" in told
        assert f"{100 * n / judgement.per_class[i].support:.1f}% of {i}" in told


@pytest.mark.parametrize("size", [PHONE, (320, 640), DESKTOP], ids=["400", "320", "1200"])
def test_the_page_never_scrolls_sideways(size: tuple[int, int], chromium: Chromium, page: Path) -> None:
    chromium.open(page, size)
    wide, seen = chromium.run("const e = document.scrollingElement; return [e.scrollWidth, e.clientWidth]")
    assert wide <= seen
    beyond = chromium.run(
        "return [...document.querySelectorAll('main *, header *')]"
        ".filter((e) => !e.closest('.scroll, .plot') && e.getBoundingClientRect().right > innerWidth + 0.5).map((e) => e.tagName)"
    )
    assert beyond == []


def colours(chromium: Chromium) -> tuple[str, str, str]:
    """Of the page, of its words, and of the words in a figure."""
    return tuple(
        chromium.run(
            """
            const page = getComputedStyle(document.documentElement);
            return [page.backgroundColor, page.color, getComputedStyle(document.querySelector('#confusion .ytick text')).fill];
            """
        )
    )


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


def test_light_and_dark(chromium: Chromium, page: Path) -> None:
    """The figures follow, also while the page is open."""
    light = (rgb(PALETTE["paper"].light), rgb(PALETTE["ink"].light), rgb(PALETTE["ink"].light))
    dark = (rgb(PALETTE["paper"].dark), rgb(PALETTE["ink"].dark), rgb(PALETTE["ink"].dark))
    chromium.open(page)
    assert colours(chromium) == light
    chromium.scheme("dark")
    chromium.until(f"getComputedStyle(document.querySelector('#confusion .ytick text')).fill === '{dark[2]}'")
    assert colours(chromium) == dark
    chromium.open(page, scheme="dark")
    assert colours(chromium) == dark


def test_printing(chromium: Chromium, page: Path) -> None:
    """Light, nothing folded, no wider than the paper; and afterwards as before."""
    chromium.open(page, scheme="dark")
    chromium.run(
        """
        addEventListener('beforeprint', () => {
          const plots = [...document.querySelectorAll('.plot .main-svg')];
          window.printed = {
            open: [...document.querySelectorAll('details')].every((details) => details.open),
            ink: getComputedStyle(document.querySelector('#confusion .ytick text')).fill,
            widest: Math.max(...plots.map((svg) => svg.getBoundingClientRect().width)),
          };
        });
        """
    )
    made = chromium.tell("Page.printToPDF", printBackground=True)
    assert base64.b64decode(made["data"]).startswith(b"%PDF-")
    printed = chromium.run("return window.printed")
    assert printed["open"]
    assert printed["ink"] == rgb(PALETTE["ink"].light)
    assert printed["widest"] <= 680
    chromium.until("!document.documentElement.classList.contains('printing')")
    assert chromium.run("return document.querySelectorAll('details[open]').length") == 0
    assert colours(chromium)[2] == rgb(PALETTE["ink"].dark)


def test_tables_sort(chromium: Chromium, page: Path, make_data) -> None:
    """By the keyboard too: a heading is a button."""
    judgement = make_data().judgement
    chromium.open(page)
    heading = "document.querySelectorAll('#classes thead th')[2]"

    def shown() -> list[str]:
        return chromium.run("return [...document.querySelectorAll('#classes tbody tr')].map((row) => row.cells[2].textContent)")

    recalls = sorted((c.recall for c in judgement.per_class), reverse=True)
    chromium.run(f"{heading}.querySelector('button').focus()")
    for sort, wanted in (("descending", recalls), ("ascending", recalls[::-1])):
        for kind in ("rawKeyDown", "char", "keyUp"):
            chromium.tell("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
        assert shown() == [f"{recall:.1%}" for recall in wanted]
        assert chromium.run(f"return {heading}.getAttribute('aria-sort')") == sort
    chromium.run("document.querySelector('#classes thead button').click()")
    names = chromium.run("return [...document.querySelectorAll('#classes tbody th')].map((cell) => cell.textContent)")
    assert names == list("0123456789")
    assert chromium.run("return document.querySelectorAll('#classes [aria-sort]').length") == 1


def test_a_large_evaluation_opens_quickly(chromium: Chromium, make_data, tmp_path: Path) -> None:
    """100 classes, 10,000 images: the page is there within 2 s, doubled here for busy neighbours; its figures follow."""
    path = tmp_path / "report.html"
    path.write_text(page_html(make_data(names=[f"class number {i}" for i in range(100)], count=10_000, mistakes=24)), encoding="utf-8")
    chromium.open(path)
    assert chromium.run("return performance.getEntriesByType('navigation')[0].loadEventEnd") < 4000
