"""The page as a file: it asks for nothing, escapes everything, tells the numbers of the judgement, and has a form that can be walked."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from cnncli.reports.page.page import page_html

VOID = {"meta", "link", "img", "br", "input", "hr"}


class Element:
    """An element with its words and children; what html.parser saw, as a tree."""

    def __init__(self, tag: str, attributes: dict[str, str | None], parent: Element | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.content: list[Element | str] = []

    @property
    def children(self) -> list[Element]:
        return [part for part in self.content if isinstance(part, Element)]

    @property
    def raw(self) -> str:
        """Its own words, to the letter."""
        return "".join(part for part in self.content if isinstance(part, str))

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            yield from child.walk()

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.walk() if element.tag == tag]

    def named(self, name: str) -> Element:
        (found,) = [element for element in self.walk() if element.attributes.get("id") == name]
        return found

    @property
    def text(self) -> str:
        """All that is read in it, in its order."""
        if self.tag in ("script", "style"):
            return ""
        return " ".join(" ".join(part if isinstance(part, str) else part.text for part in self.content).split())


class Tree(HTMLParser):
    """Refuses what is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.root = self.open = Element("#", {}, None)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, dict(attrs), self.open)
        assert len(made.attributes) == len(attrs), f"an attribute twice: {attrs}"
        self.open.content.append(made)
        if tag not in VOID:
            self.open = made

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.tag, f"</{tag}> where <{self.open.tag}> is open"
        self.open = self.open.parent

    def handle_data(self, data: str) -> None:
        self.open.content.append(data)


def parsed(html: str) -> Element:
    tree = Tree()
    tree.feed(html)
    tree.close()
    assert tree.open is tree.root, f"<{tree.open.tag}> is never closed"
    return tree.root


@pytest.fixture(scope="module")
def page(make_data) -> Element:
    return parsed(page_html(make_data()))


def scripts(page: Element) -> list[str]:
    return [element.raw for element in page.all("script") if element.attributes.get("type") != "application/json"]


def policy(page: Element) -> dict[str, list[str]]:
    (meta,) = [element for element in page.all("meta") if element.attributes.get("http-equiv") == "Content-Security-Policy"]
    return {words[0]: words[1:] for part in meta.attributes["content"].split(";") if (words := part.split())}


def test_nothing_is_asked_of_the_network(page: Element) -> None:
    for element in page.walk():
        for name, value in element.attributes.items():
            if name in ("src", "href", "srcset", "action", "data", "poster", "background"):
                assert value.startswith(("data:", "#")), f"<{element.tag} {name}={value[:60]!r}>"
        assert element.tag not in ("iframe", "object", "embed", "form", "base", "video", "audio")
    style = "".join(element.raw for element in page.all("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert policy(page)["default-src"] == ["'none'"]
    assert policy(page)["img-src"] == ["data:", "blob:"]
    assert "connect-src" not in policy(page), "default-src forbids it"


def test_only_the_two_scripts_may_run(page: Element) -> None:
    """Recomputed from what a browser would run: the bytes between the tags."""
    hashes = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in scripts(page)]
    assert policy(page)["script-src"] == hashes
    assert len(hashes) == 2
    for element in page.walk():
        assert not [name for name in element.attributes if name.startswith("on")]


def test_the_policy_comes_before_what_it_governs(page: Element) -> None:
    (head,) = page.all("head")
    assert [child.tag for child in head.children][:2] == ["meta", "meta"]
    assert head.children[1].attributes["http-equiv"] == "Content-Security-Policy"


def test_names_are_text(make_data, make_run, hostile) -> None:
    from dataclasses import replace

    plain = make_data(names="abcde", count=60, mistakes=4)
    run = make_run(net=hostile[0], data=hostile[1], reason=hostile[2], settings={"net": hostile[0], "train": {"note": hostile[3]}})
    words = {"model": hostile[0], "source": hostile[1], "split": hostile[2], "how": hostile[3], "left_out": hostile}
    data = make_data(names=hostile, count=60, mistakes=4, run=run, **words)
    data = replace(data, net=replace(data.net, name=hostile[0], paper=hostile[1], notes=hostile))
    made, usual = parsed(page_html(data)), parsed(page_html(plain))

    def tags(page: Element) -> set[str]:
        return {element.tag for element in page.walk()}

    assert tags(made) - tags(usual) <= {"li", "ul", "details", "summary"}, "no element came from a name"
    assert len(made.all("script")) == len(usual.all("script"))
    assert hostile[0] in made.named("classes").text
    assert hostile[1] in made.named("classes").text
    assert made.all("h1")[0].text == hostile[0]
    assert all(name in made.all("header")[0].text for name in hostile)
    for element in made.all("script"):
        if element.attributes.get("type") == "application/json":
            json.loads(element.raw)


def test_odd_letters_in_names(make_data) -> None:
    """Bytes that are no UTF-8, escapes, line breaks, and text that runs from right to left or is none of these."""
    names = ("caf\udce9", "a\x1b[31mb", "two\nlines", "שלום", "日本語 🐈", "\u202eevil")
    html = page_html(make_data(names=names, count=60))
    html.encode("utf-8")
    assert "\x1b" not in html
    assert "\u202e" not in html
    text = parsed(html).named("classes").text
    for word in ("caf\\udce9", "a\\x1b[31mb", "two\\nlines", "שלום", "日本語 🐈", "\\u202eevil"):
        assert word in text


def test_the_numbers_are_the_judgement_s(page: Element, make_data) -> None:
    judgement = make_data().judgement
    header, metrics = page.all("header")[0].text, page.named("metrics").text
    assert f"{judgement.top1:.2%} accuracy" in header
    assert "400 images, 10 classes" in header
    for number in (judgement.top1, judgement.top5, judgement.balanced_accuracy, judgement.macro.f1, judgement.weighted.precision):
        assert f"{number:.2%}" in metrics
    assert f"{judgement.loss:.4f}" in metrics
    assert f"{judgement.top1_interval.high:.2%}" in metrics
    rows = [[cell.text for cell in row.children] for row in page.named("classes").all("tbody")[0].all("tr")]
    assert rows == [[c.name, f"{c.precision:.1%}", f"{c.recall:.1%}", f"{c.f1:.1%}", f"{c.support:,}"] for c in judgement.per_class]
    assert f"{judgement.calibration.ece:.2%}" in page.named("calibration").text


def test_confused_pairs(page: Element, make_data) -> None:
    judgement = make_data().judgement
    rows = [[cell.text for cell in row.children] for row in page.named("confusion").all("tbody")[0].all("tr")]
    names = [c.name for c in judgement.per_class]
    counted = [
        (n, [names[i], names[j], str(n), f"{n / judgement.per_class[i].support:.1%}"])
        for i, row in enumerate(judgement.confusion)
        for j, n in enumerate(row)
        if i != j and n
    ]
    assert len(rows) == min(15, len(counted))
    assert all(row in [cells for _, cells in counted] for row in rows)
    assert [int(row[2]) for row in rows] == sorted((n for n, _ in counted), reverse=True)[: len(rows)]


def test_mistakes(page: Element, make_data) -> None:
    data = make_data()
    items = page.named("mistakes").all("li")
    assert len(items) == len(data.mistakes) == 12
    for item, shown in zip(items, data.mistakes, strict=True):
        mistake = shown.mistake
        (image,) = item.all("img")
        assert image.attributes["alt"] == f"{mistake.name}: {mistake.true}, taken for {mistake.predicted}"
        assert f"{mistake.confidence:.1%}" in item.text
        assert f"{mistake.true_probability:.1%}" in item.text
        assert mistake.name in item.text


def test_layers(page: Element, make_data) -> None:
    net = make_data().net
    rows = [[cell.text for cell in row.children] for row in page.named("net").all("tbody")[0].all("tr")]
    assert [row[0] for row in rows] == [row.name for row in net.rows]
    assert [row[3] for row in rows] == [f"{row.params:,}" if row.params else "-" for row in net.rows]
    assert page.named("net").all("tfoot")[0].text.split() == ["all", f"{net.totals.params:,}", f"{net.totals.macs:,}"]
    assert len(page.named("net").all("img")) == 2, "the drawing and the filters"


def test_settings_are_folded_and_can_be_read_back(page: Element, make_run) -> None:
    import tomllib

    (details,) = page.named("settings").all("details")
    assert "open" not in details.attributes
    assert tomllib.loads(details.all("pre")[0].raw) == make_run().settings


def test_a_model_without_anything_else(make_data) -> None:
    data = make_data(run=None, net=None, filters=None, mistakes=0)
    page = parsed(page_html(data))
    ids = {element.attributes.get("id") for element in page.walk()}
    assert ids >= {"metrics", "classes", "confusion", "mistakes", "calibration"}
    assert not ids & {"training", "net", "settings"}
    assert "None are shown" in page.named("mistakes").text


def test_a_model_without_mistakes(make_data) -> None:
    import torch

    from cnncli.engine.metrics import judge

    labels = torch.arange(30) % 3
    perfect = judge(torch.eye(3)[labels] * 9, labels, ("a", "b", "c"))
    page = parsed(page_html(make_data(names="abc", judgement=perfect, mistakes=0)))
    assert "No image was taken for another class." in page.named("confusion").text
    assert "There are none." in page.named("mistakes").text


def test_images_that_are_not_at_hand(make_data) -> None:
    from dataclasses import replace

    data = make_data()
    bare = replace(data, mistakes=tuple(shown._replace(picture=None) for shown in data.mistakes))
    page = parsed(page_html(bare))
    assert not page.named("mistakes").all("img")
    assert len(page.named("mistakes").all("li")) == 12


def test_left_out_images_are_told(make_data) -> None:
    header = parsed(page_html(make_data(left_out=("a.png: empty file",)))).all("header")[0].text
    assert "1 image could not be read and is not counted a.png: empty file" in header
    many = parsed(page_html(make_data(left_out=tuple(f"{i}.png: empty file" for i in range(1234))))).all("header")[0].text
    assert "1,234 images could not be read and are not counted" in many
    assert "and 1,134 more" in many


def test_headings_landmarks_and_labels(page: Element) -> None:
    (html,) = page.all("html")
    assert html.attributes["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("h1", "main", "header", "nav", "footer", "title")] == [1] * 6
    levels = [int(element.tag[1]) for element in page.walk() if re.fullmatch(r"h[1-6]", element.tag)]
    assert all(below <= above + 1 for above, below in pairwise(levels)), "no level is left out"
    ids = [element.attributes["id"] for element in page.walk() if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    for element in page.walk():
        where: dict[str, Any] = element.attributes
        if "aria-labelledby" in where:
            assert page.named(where["aria-labelledby"]).text
        if where.get("href", "").startswith("#"):
            assert where["href"][1:] in ids
        if element.tag == "img" or where.get("role") in ("img", "region"):
            assert where.get("alt") or where.get("aria-label")
        if "scroll" in (where.get("class") or "").split():
            assert where["tabindex"] == "0", "what scrolls can be reached with the keyboard"
    for table in page.all("table"):
        assert all(cell.attributes.get("scope") in ("col", "row") for cell in table.all("th"))


@pytest.mark.slow
def test_weight_of_a_large_evaluation(make_data) -> None:
    """100 classes, 10,000 images, 24 photos that compress badly: at most 10 MB."""
    data = make_data(names=[f"class number {i}" for i in range(100)], count=10_000, mistakes=24)
    assert len(page_html(data).encode()) <= 10_000_000
