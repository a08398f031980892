"""The files of diagrams: SVG that is sound and can be searched, PNG of the right size, PDF; the same bytes each time; any name."""

from __future__ import annotations

import re
import time
import warnings
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from cnncli.arch.blocks import chain
from cnncli.arch.drawing.builder import draw
from cnncli.arch.drawing.plan import boxes
from cnncli.arch.layers import AdaptivePool, Conv, Flatten, Linear
from cnncli.arch.net import Net
from cnncli.arch.zoo.table import build
from cnncli.errors import EnvironmentFault, UsageError
from cnncli.reports.diagram.marks import Text
from cnncli.reports.diagram.page import Page, page
from cnncli.reports.diagram.write import MOST_PIXELS, PIXELS_PER_INCH, SUFFIXES, paint, write_diagram

SVG = "{http://www.w3.org/2000/svg}"
NETS = ("lenet5", "resnet20", pytest.param("darts-v2", marks=pytest.mark.slow), pytest.param("densenet121", marks=pytest.mark.slow))
HOSTILE = (
    "<script>alert(1)</script>",
    "a & b \"c\" 'd' ]]> <!-- ",
    "$x^2$ and $\\frac{1}{0}$ and \\undefined{",
    "line\nbreak\ttab\r\x00\x07\x1b[31mred\x7f\ufffe",
    "\udc80 \u202e right to left \u2028",
    "한국 \U0001f600 é",
    "",
    " ",
    "&#0; &amp;lt; %s {} %(x)s",
)


def written(net: Net, path: Path, **options: object) -> bytes:
    write_diagram(net, path, **options)  # type: ignore[arg-type]
    return path.read_bytes()


def words(path: Path) -> list[str]:
    return ["".join(element.itertext()) for element in ET.parse(path).iter(f"{SVG}text")]


@pytest.mark.parametrize("name", NETS)
def test_svg_is_sound_and_keeps_words_and_names(name: str, tmp_path: Path) -> None:
    net = build(name)
    path = tmp_path / "net.svg"
    written(net, path)
    root = ET.parse(path).getroot()
    drawing = draw(net)
    sheet = page(drawing)
    assert root.tag == f"{SVG}svg"
    assert [float(side) for side in root.attrib["viewBox"].split()] == pytest.approx([0, 0, sheet.width, sheet.height], abs=1e-3)
    assert Counter(words(path)) == Counter(mark.text for mark in sheet.marks if isinstance(mark, Text))
    ids = Counter(element.attrib["id"] for element in root.iter() if "id" in element.attrib)
    assert max(ids.values()) == 1, "ids stand once, or links and scripts meet another"
    assert all(re.fullmatch(r"\S+", one) for one in ids)
    shown = [drawing.main, *(panel.wiring for panel in drawing.panels)]
    assert {box.path for item in shown for box in boxes(item)} <= set(ids)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_runs_give_the_same_bytes(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is in none of them: matplotlib would take it from this variable."""
    found = set()
    for day in range(2):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", str(86_400 * day))
        found.add(written(build("mlp"), tmp_path / f"{day}{suffix}"))
    assert len(found) == 1
    assert written(build("mlp", hidden=7), tmp_path / f"other{suffix}") not in found


@pytest.mark.parametrize("name", NETS)
def test_png_has_the_size_of_the_page(name: str, tmp_path: Path) -> None:
    net = build(name)
    written(net, tmp_path / "net.png")
    sheet = page(draw(net))
    with Image.open(tmp_path / "net.png") as picture:
        picture.load()
        assert picture.size == pytest.approx((sheet.width / 72 * PIXELS_PER_INCH, sheet.height / 72 * PIXELS_PER_INCH), abs=1)
        colours = picture.convert("RGB").getcolors(2**20)
    assert colours is not None
    assert {(255, 255, 255), (0x77, 0xAA, 0xDD)} <= {colour for count, colour in colours if count > 1000}


def test_a_page_of_any_length_can_be_a_png() -> None:
    """matplotlib refuses 2^16 pixels; resolution is lowered instead."""
    for width, height in ((100.0, 60_000.0), (60_000.0, 100.0)):
        figure = paint(Page(width, height, ()))
        sides = figure.get_size_inches() * figure.dpi
        assert max(sides) == pytest.approx(MOST_PIXELS)


def test_pdf_keeps_its_letters(tmp_path: Path) -> None:
    data = written(build("lenet5"), tmp_path / "net.pdf")
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert b"/Type3" not in data, "outlines of letters could not be searched"
    assert b"CreationDate" not in data


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_files_do_no_harm(name: str, tmp_path: Path) -> None:
    """Name and paper of a net in a model file are what someone wrote there."""
    net = Net(name, Conv(2, kernel=3), (1, 8, 8), 2, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for suffix in SUFFIXES:
            written(net, tmp_path / f"net{suffix}")
    root = ET.parse(tmp_path / "net.svg").getroot()
    assert not [element for element in root.iter() if element.tag.endswith(("script", "image", "foreignObject"))]
    text = (tmp_path / "net.svg").read_text("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e\u2028\ufffe]", text)
    if name.isprintable() and name.strip() and name.isascii():
        assert words(tmp_path / "net.svg").count(" ".join(name.split())) == 2, "each character as it is, no formulas"


def test_names_of_layers_are_words_too(tmp_path: Path) -> None:
    """Underscores and digits are no formula."""
    net = Net(
        "x", chain(a_b_1=Conv(2, kernel=1), _2=Conv(2, kernel=1), pool=AdaptivePool("average"), f=Flatten(), out=Linear(2)), (1, 4, 4), 2
    )
    written(net, tmp_path / "net.svg")
    assert {"a_b_1", "_2", "pool", "out"} <= set(words(tmp_path / "net.svg"))


@pytest.mark.parametrize("options", [{}, {"depth": 1}, {"depth": 2}])
def test_a_net_of_1202_layers_is_drawn_in_time(options: dict[str, object], tmp_path: Path) -> None:
    """Folded it is as small as resnet20; it takes half a second here."""
    net = build("resnet1202")
    begin = time.monotonic()
    written(net, tmp_path / "net.svg", **options)
    assert time.monotonic() - begin < 10
    assert len(words(tmp_path / "net.svg")) < 100


@pytest.mark.slow
def test_each_of_1202_layers_can_be_drawn(tmp_path: Path) -> None:
    net = build("resnet1202")
    begin = time.monotonic()
    written(net, tmp_path / "net.svg", all_layers=True)
    assert time.monotonic() - begin < 120
    ids = {element.attrib.get("id") for element in ET.parse(tmp_path / "net.svg").iter()}
    assert {f"stage3.block{block}.conv2" for block in range(1, 201)} <= ids


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    written(build("mlp"), tmp_path / "net.SVG")
    assert ET.parse(tmp_path / "net.SVG").getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize("file", ["net", "net.jpg", "net.svgz", "net.svg.txt", ".svg", "net."])
def test_other_suffixes_are_refused(file: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"should end in \.svg, \.png or \.pdf"):
        write_diagram(build("mlp"), tmp_path / file)
    assert not list(tmp_path.iterdir())


def test_what_exists_is_kept_unless_told(tmp_path: Path) -> None:
    path = tmp_path / "net.svg"
    path.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        write_diagram(build("mlp"), path)
    assert path.read_text() == "mine"
    assert written(build("mlp"), path, overwrite=True).startswith(b"<?xml")
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.svg"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"cannot write .*nowhere.net\.svg"):
        write_diagram(build("mlp"), tmp_path / "nowhere" / "net.svg")
