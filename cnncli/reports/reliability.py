"""The reliability diagram: how often a model is right where it says that it is so sure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cnncli.reports.lettering import fitted
from cnncli.reports.pictures import write_picture

if TYPE_CHECKING:
    from cnncli.engine.metrics import Judgement

DOTS_PER_INCH = 200
RIGHT, GAP = "#88aacc", "#882255"  # light and dark: apart for every kind of colour vision, and in grey


def draw_reliability(path: Path, judgement: Judgement, title: str) -> None:
    """Accuracy against confidence in bins of confidence (Guo et al. 2017, figure 1), and below how many images each bin holds.

    A bar is the share of the bin's images that are right; what it lacks to the mean confidence, or has above it, is its gap.
    """
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    found = judgement.calibration
    bins = [b for b in found.bins if b.count]
    left, width = np.array([b.low for b in bins]), np.array([b.high - b.low for b in bins])
    accuracy, confidence = np.array([b.accuracy for b in bins]), np.array([b.confidence for b in bins])
    figure = Figure(figsize=(4.6, 5.6), dpi=DOTS_PER_INCH, layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    upper.bar(left, accuracy, width, align="edge", color=RIGHT, edgecolor="white", linewidth=0.6, label="accuracy")
    upper.bar(
        left, confidence - accuracy, width, bottom=accuracy, align="edge", facecolor="none", hatch="////", edgecolor=GAP,
        linewidth=0.8, label="gap to the mean confidence",
    )  # fmt: skip
    upper.plot((0, 1), (0, 1), color="0.4", linewidth=0.9, linestyle="--", label="as sure as right")
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.set_title(f"ECE {found.ece:.2%}; at temperature {found.temperature:.3g}: {found.scaled_ece:.2%}", fontsize=9)
    figure.legend(frameon=False, loc="outside lower center", fontsize=8, ncols=3, columnspacing=1, handlelength=1.6)
    lower.bar(left, [b.count / judgement.count for b in bins], width, align="edge", color="0.55", edgecolor="white", linewidth=0.6)
    lower.set(xlabel="confidence: probability of the predicted class", ylabel="images", ylim=(0, None))
    for axis in (upper.xaxis, upper.yaxis, lower.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(fitted(title, figure.get_figwidth() - 0.3, 10, lines=2), fontsize=10)
    write_picture(path, figure)
