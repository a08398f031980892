"""The live view of a training: a table of the last epochs, the loss so far, how far the whole is. Lines of text for a given width."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cnncli.engine.events import EpochDone, Progress

if TYPE_CHECKING:
    from rich.text import Text

ROWS = 5  # epochs in the table
LINES_BESIDE_TABLE = 6  # its title, the loss, the bar, and facts that may take two lines; one is left for the cursor
POINTS = 512  # of the loss that are kept, an even number; a terminal is narrower
WIDEST_LINE = 80  # a longer sparkline or bar says no more
STEADY = len("59 min 59 s")  # kept free for a duration, so that the bar does not move with it
GAP = "  "


class Glyphs(NamedTuple):
    """What a line or a bar is drawn with."""

    levels: str
    done: str
    left: str
    to: str


UNICODE = Glyphs("▁▂▃▄▅▆▇█", "━", "─", "→")
ASCII = Glyphs("_.-~=+*#", "#", "-", "to")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Blocks where the encoding has them, else ASCII."""
    try:
        "".join(UNICODE).encode(encoding or "utf-8")
    except (UnicodeError, LookupError):
        return ASCII
    return UNICODE


class _Group(NamedTuple):
    """Losses that are one point: the last of their steps, their sum and number."""

    step: float
    total: float
    number: int

    @property
    def mean(self) -> float:
        """Their mean."""
        return self.total / self.number

    def joined(self, later: _Group) -> _Group:
        """This and the next one as one."""
        return _Group(later.step, self.total + later.total, self.number + later.number)


@dataclass
class Trace:
    """The loss over the steps of the whole training in at most POINTS groups, each of as many losses as the others but the last."""

    groups: list[_Group] = field(default_factory=list)
    size: int = 1

    def add(self, step: float, loss: float) -> None:
        """The loss at a step, counted from the beginning of the training."""
        if not math.isfinite(loss):
            return
        new = _Group(step, loss, 1)
        if self.groups and self.groups[-1].number < self.size:
            self.groups[-1] = self.groups[-1].joined(new)
            return
        if len(self.groups) == POINTS:
            self.groups = [a.joined(b) for a, b in zip(self.groups[::2], self.groups[1::2], strict=True)]
            self.size *= 2
        self.groups.append(new)

    def values(self, count: int) -> list[float]:
        """The loss in `count` equal parts of the way so far; a part without a group has that of the part before."""
        if not self.groups or count < 1:
            return []
        parts: list[list[float]] = [[] for _ in range(count)]
        last = max(self.groups[-1].step, 1e-9)
        for group in self.groups:
            parts[min(int(group.step / last * count), count - 1)].append(group.mean)
        values = []
        value = self.groups[0].mean
        for part in parts:
            value = sum(part) / len(part) if part else value
            values.append(value)
        return values


@dataclass
class Standing:
    """How a training stands. epochs: None where it is not known how many there will be. left: seconds, None where not known yet."""

    epochs: int | None = None
    steps_per_epoch: int = 1
    progress: Progress | None = None
    rows: Sequence[EpochDone] = ()
    trace: Trace = field(default_factory=Trace)
    left: float | None = None


def frame(standing: Standing, columns: int, lines: int, glyphs: Glyphs = UNICODE) -> Text:
    """The whole view, no wider than `columns`, and with fewer epochs than ROWS where it would be higher than `lines`."""
    from rich.text import Text

    room = min(ROWS, lines - LINES_BESIDE_TABLE)
    pieces = _table(standing.rows[-room:], standing.epochs, columns) if room > 0 and standing.rows else []
    if standing.progress is not None:
        pieces += [
            _loss(standing.trace, columns, glyphs),
            _bar(standing.progress.done, standing.left, columns, glyphs),
            Text("\n".join(_wrapped(_facts(standing, standing.progress), columns))),
        ]
    view = Text("\n").join(pieces)
    view.no_wrap, view.overflow = True, "crop"  # the lines fit; rich need not look
    return view


def sparkline(values: Sequence[float], glyphs: Glyphs = UNICODE) -> str:
    """A character a value, from the lowest to the highest, on a logarithmic scale: a loss falls by powers."""
    logs = [math.log(max(value, 1e-12)) for value in values]
    low, high = min(logs, default=0.0), max(logs, default=0.0)
    top = len(glyphs.levels) - 1
    return "".join(glyphs.levels[round((value - low) / (high - low) * top) if high > low else 0] for value in logs)


def duration(seconds: float) -> str:
    """`9.9 s`, `59 s`, `1 min 01 s`, `10 h 59 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def epoch_of(epoch: int, epochs: int | None) -> str:
    """` 3/30`, or `  3` where nobody knows how many there will be; below each other they line up."""
    return f"{epoch:>3}" if epochs is None else f"{epoch:>{len(str(epochs))}}/{epochs}"


def _loss(trace: Trace, columns: int, glyphs: Glyphs) -> Text:
    from rich.text import Text

    first, last = (f"{trace.groups[place].mean:.4f}" if trace.groups else "" for place in (0, -1))
    words = f"loss {first} "
    end = f" {glyphs.to} {last}"
    room = min(columns - len(words) - len(end), WIDEST_LINE)
    if not trace.groups or room < 4:
        return Text("loss ").append(sparkline(trace.values(columns - 5), glyphs), style="cyan")
    return Text(words).append(sparkline(trace.values(room), glyphs), style="cyan").append(end)


def _bar(done: float, left: float | None, columns: int, glyphs: Glyphs) -> Text:
    from rich.text import Text

    share = f"{min(max(done, 0.0), 1.0):4.0%} "
    end = ""
    if left is not None:
        short = f" {duration(left)} left"
        until = f", ends {_clock(left)}"
        end = short + until if columns >= len(share) + len(short) + len(until) + 20 else short
        end = end.ljust(len(end) - len(duration(left)) + STEADY)
    if columns - len(share) - len(end) < 4:
        end = ""
    room = max(min(columns - len(share) - len(end), WIDEST_LINE), 1)
    full = round(min(max(done, 0.0), 1.0) * room)
    return Text(share).append(glyphs.done * full, style="green").append(glyphs.left * (room - full), style="dim").append(end)


def _clock(left: float) -> str:
    """When it will be over, by the clock on the wall; with the day where that is another one."""
    end = time.localtime(time.time() + left)
    today = time.localtime()
    same = (end.tm_year, end.tm_yday) == (today.tm_year, today.tm_yday)
    return time.strftime("%H:%M" if same else "%a %H:%M" if left < 6 * 86400 else "%Y-%m-%d", end)


def _facts(standing: Standing, now: Progress) -> list[str]:
    facts = [
        f"epoch {epoch_of(now.epoch, standing.epochs).strip()}",
        f"step {now.step}/{standing.steps_per_epoch}",
        f"loss {now.loss:.4f}",
        f"accuracy {now.accuracy:.1%}",
        f"lr {now.lr:.3g}",
        f"{now.images_per_second:,.0f} images/s",
    ]
    return facts + ([f"{now.skipped} skipped"] if now.skipped else [])


def _wrapped(words: Sequence[str], columns: int) -> list[str]:
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(GAP) + len(word) <= columns:
            lines[-1] += GAP + word
        else:
            lines.append(word[:columns])
    return lines


class _Column(NamedTuple):
    """A column of the table; the one with the lowest rank is the last to be left out."""

    rank: int
    title: str
    cells: list[str]

    @property
    def width(self) -> int:
        return max(len(self.title), *map(len, self.cells))


def _table(rows: Sequence[EpochDone], epochs: int | None, columns: int) -> list[Text]:
    from rich.text import Text

    chosen: list[_Column] = []
    for column in sorted(_columns(rows, epochs)):
        if sum(one.width + len(GAP) for one in chosen) + column.width <= columns:
            chosen.append(column)
    shown = [column for column in _columns(rows, epochs) if column in chosen]
    title = Text(GAP.join(column.title.rjust(column.width) for column in shown)[:columns], style="dim")
    lines = [GAP.join(column.cells[place].rjust(column.width) for column in shown)[:columns] for place in range(len(rows))]
    return [title, *(Text(line, style="bold" if row.best else "") for line, row in zip(lines, rows, strict=True))]


def _columns(rows: Sequence[EpochDone], epochs: int | None) -> list[_Column]:
    """All columns that have something to show, from left to right."""
    validated = any(row.val_accuracy is not None for row in rows)
    all_columns = [
        _Column(0, "epoch", [epoch_of(row.epoch, epochs) for row in rows]),
        _Column(2, "train loss", [f"{row.train_loss:.4f}" for row in rows]),
        _Column(4 if validated else 1, "train acc", [f"{row.train_accuracy:.1%}" for row in rows]),
    ]
    if validated:
        all_columns += [
            _Column(3, "val loss", [_or_blank(row.val_loss, "{:.4f}") for row in rows]),
            _Column(1, "val acc  ", [_or_blank(row.val_accuracy, "{:.1%}") + (" *" if row.best else "  ") for row in rows]),
        ]
    if any(row.val_top5 is not None for row in rows):
        all_columns.append(_Column(8, "top-5", [_or_blank(row.val_top5, "{:.1%}") for row in rows]))
    if any(row.val_macro_f1 is not None for row in rows):
        all_columns.append(_Column(9, "macro F1", [_or_blank(row.val_macro_f1, "{:.3f}") for row in rows]))
    if any(row.skipped for row in rows):
        all_columns.append(_Column(5, "skipped", [str(row.skipped) for row in rows]))
    return [
        *all_columns,
        _Column(6, "lr", [f"{row.lr:.3g}".rjust(8) for row in rows]),  # 0.000123: the table stands still while the rate falls
        _Column(7, "images/s", [f"{row.images_per_second:,.0f}" for row in rows]),
        _Column(10, "time", [duration(row.seconds) for row in rows]),
    ]


def _or_blank(value: float | None, pattern: str) -> str:
    return "" if value is None else pattern.format(value)
