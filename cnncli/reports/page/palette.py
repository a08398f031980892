"""The colours of the page: each has a twin for dark screens, and figures are drawn in the light one and recoloured by the page."""

from __future__ import annotations

from typing import NamedTuple


class Colour(NamedTuple):
    """Of a light and of a dark page, as #rrggbb."""

    light: str
    dark: str


# Text has a contrast of 4.5 or more to both papers (WCAG 2.2, 1.4.3). Training and validation have the colours of curves.png, which are
# Paul Tol's, apart for every kind of colour vision. No light colour stands twice: the page finds the dark twin by the light one.
PALETTE = {
    "paper": Colour("#ffffff", "#14171b"),
    "panel": Colour("#f5f7f9", "#1d2227"),
    "ink": Colour("#1c2127", "#e6e9ec"),
    "muted": Colour("#59636d", "#9ea8b2"),
    "line": Colour("#d8dee4", "#3a424b"),
    "link": Colour("#2a5d94", "#8fbdf0"),
    "training": Colour("#4477aa", "#77aadd"),
    "validation": Colour("#cc6677", "#ee99aa"),
    "rate": Colour("#666666", "#aaaaaa"),
    "least": Colour("#dce8f4", "#1e3247"),
    "few": Colour("#a3c4e4", "#2a5580"),
    "middle": Colour("#6c9fd0", "#3f77ad"),
    "most": Colour("#12406f", "#a9d3fb"),
}
TWINS = {colour.light: colour.dark for colour in PALETTE.values()}


def light(name: str) -> str:
    """The colour with which a figure is drawn."""
    return PALETTE[name].light
