"""Where the time of a training step goes, what bounds it, and what to try."""

from __future__ import annotations

from cnncli.engine.profiling import PARTS, Profile
from cnncli.reports.shape import compact
from cnncli.reports.terminal import Column, console, print_result, table

MEANING = {
    "data": "waiting for the next batch",
    "transfer": "moving it to the device",
    "forward": "the net's scores and their loss",
    "backward": "gradients",
    "step": "changing the weights",
    "other": "all else",
}
BAR = 20  # characters of a whole step

# From which share of a step on a part is what bounds it: a fifth is worth a try, and no part of it that is less is.
WORTH_A_TRY = 0.2
# Half of what large matrix products reach is good for a net of many small layers; below a third the units wait.
WELL_USED, POORLY_USED = 0.5, 0.33
MEMORY_BOUND = 0.5  # of the bandwidth, counting only what has to be moved


def show_profile(profile: Profile) -> None:
    """The parts of a step with bars, then what bounds it and what to try, on standard output."""
    from rich.console import Group
    from rich.text import Text

    block, half = ("█", "▌") if _has_blocks() else ("#", "")
    rows = [
        [name, _milliseconds(seconds), f"{share:.0%}", _bar(share, block, half), MEANING[name]]
        for name, seconds, share in ((name, profile.seconds.get(name, 0.0), share_of(profile, name)) for name in PARTS)
    ]
    numbers = [Column("ms", number=True), Column("share", number=True)]
    columns = [Column("part"), *numbers, Column("of a step", text=True), Column("what it is", text=True)]
    print_result(Group(table(columns, rows), Text(), Text(_summary(profile)), Text(bound(profile))))


def share_of(profile: Profile, *parts: str) -> float:
    """The share of a step that these parts take, 0..1."""
    return sum(profile.seconds.get(part, 0.0) for part in parts) / profile.total if profile.total > 0 else 0.0


def bound(profile: Profile) -> str:
    """One or two sentences: what bounds the step, by how much, and what to try next."""
    if profile.total <= 0:
        return "Nothing was measured."
    waits = {part: share_of(profile, part) for part in ("data", "transfer")}
    worst = max(waits, key=lambda part: waits[part])
    if waits[worst] >= WORTH_A_TRY:
        return _waiting(worst, waits[worst])
    if (share := share_of(profile, "other")) >= WORTH_A_TRY:
        return f"Overhead-bound: {share:.0%} of a step is neither data nor the net. Try a larger --batch-size, or --compile."
    if (share := share_of(profile, "step")) >= WORTH_A_TRY:
        return f"Bound by the optimizer: changing the weights takes {share:.0%} of a step. Try a larger --batch-size."
    return _computing(profile)


def _waiting(part: str, share: float) -> str:
    if part == "data":
        return f"Data-bound: {share:.0%} of a step waits for the next batch. Try more --workers, --store memory, or less augmentation."
    advice = "Try --store memory, which keeps them there, or a smaller --input."
    return f"Transfer-bound: {share:.0%} of a step moves images to the device. {advice}"


def _computing(profile: Profile) -> str:
    used, moved = profile.peak_share, profile.bandwidth_share
    if used is None:
        share = share_of(profile, "forward", "backward")
        return f"The net takes {share:.0%} of a step; how near that is to what the device can do was not measured. " + _faster(profile)
    reached = f"{used:.0%} of the measured peak"
    if used >= WELL_USED:
        return f"Compute-bound: the net reaches {reached}. {_faster(profile)}"
    if moved is not None and moved >= MEMORY_BOUND:
        needed = f"{moved:.0%} of the measured bandwidth"
        return f"Memory-bound: the net needs {needed}, and reaches {reached}. Try --compile, or --precision bf16."
    known = "Overhead-bound" if used < POORLY_USED else "Compute-bound in part"
    kind = "Memory- or overhead-bound" if moved is None else known
    return f"{kind}: the net reaches {reached}; its layers are small, or short of data. Try a larger --batch-size, or --compile."


def _faster(profile: Profile) -> str:
    if profile.precision in ("", "fp32"):
        return "Try --precision bf16, or a net or --input with fewer MACs."
    return "Only a net or an --input with fewer MACs is faster, or more devices."


def _summary(profile: Profile) -> str:
    words = f"{profile.images} images a step, {profile.images_per_second:,.0f} images/s"
    if profile.device:
        words += f", on {profile.device}" + (f" in {profile.precision}" if profile.precision else "")
    words += f"; forward and backward {_rate(profile.macs_per_second)} MACs/s"
    if profile.peak_macs:
        words += f" of {_rate(profile.peak_macs)} measured"
    return words


def _rate(macs: float) -> str:
    return f"{macs / 1e12:.3g} T" if macs >= 1e12 else compact(round(macs))


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.{0 if seconds >= 0.1 else 2}f}"


def _bar(share: float, block: str, half: str) -> str:
    halves = round(share * BAR * 2)
    return block * (halves // 2) + half * (halves % 2)


def _has_blocks() -> bool:
    try:
        "█▌".encode(console().encoding)
    except (UnicodeError, LookupError):
        return False
    return True
