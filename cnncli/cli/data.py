"""`cnn data`: look at a data set before anything is trained on it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnncli.cli.options import Json, Overwrite, open_data, parse_input
from cnncli.data.config import DataConfig
from cnncli.errors import ExitCode, UsageError, printable
from cnncli.reports.audit import JSON_HELP, audit_json, print_audit
from cnncli.reports.decoding import DecodingReport
from cnncli.reports.terminal import Column, print_json, print_result, table, talk, write_result
from cnncli.settings import setting_of

if TYPE_CHECKING:
    from cnncli.data.decode import Decoding
    from cnncli.data.examine import Looks
    from cnncli.data.facts import Audit
    from cnncli.data.source import Source


def _flag(name: str) -> Any:
    """The flag of a field of DataConfig, with the meaning that stands there."""
    declared = setting_of(DataConfig, name)
    return typer.Option("--" + name.replace("_", "-"), help=declared.meaning, rich_help_panel=declared.panel)


def command(
    source: Annotated[
        str | None, typer.Argument(help="A data set by name (see --list), a folder of class folders, a CSV file, tar shards.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the data sets that are known by name.")] = False,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", help="Remove all caches of decoded images, and say how large they were.")
    ] = False,
    input_: Annotated[
        str | None,
        typer.Option("--input", help="Size to compute the memory for, 3x224x224 (default: the images' median size, at most 224 x 224)."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", "-o", help="Write a contact sheet to this PNG file; duplicates go to NAME-duplicates.png beside it."),
    ] = None,
    fix: Annotated[
        Path | None, typer.Option("--fix", help="Write a cleaned list of the images to this CSV file: path,label,split.")
    ] = None,
    overwrite: Overwrite = False,
    val_fraction: Annotated[float | None, _flag("val_fraction")] = None,
    test_fraction: Annotated[float | None, _flag("test_fraction")] = None,
    subset: Annotated[float | None, _flag("subset")] = None,
    limit_per_class: Annotated[int | None, _flag("limit_per_class")] = None,
    data_root: Annotated[str | None, _flag("data_root")] = None,
    max_pixels: Annotated[int, _flag("max_pixels")] = 2**26,
    background: Annotated[str, _flag("background")] = "white",
    no_exif: Annotated[bool, _flag("no_exif")] = False,
    workers: Annotated[int | None, _flag("workers")] = None,
    include_hidden: Annotated[bool, _flag("include_hidden")] = False,
    json: Json = False,
) -> int:
    """Audit a data set: every image is decoded in full, and no file of it is touched."""
    config = DataConfig(
        val_fraction=val_fraction,
        test_fraction=test_fraction,
        subset=subset,
        limit_per_class=limit_per_class,
        data_root=data_root,
        max_pixels=max_pixels,
        background=background,
        no_exif=no_exif,
        workers=workers,
        allow_empty=True,
        include_hidden=include_hidden,
    )
    if list_ or clear_cache:
        if source is not None:
            raise UsageError(f"--list and --clear-cache take no data set, but {source!r} is given", "leave it away", path=source)
        return list_sources(json=json) if list_ else clear(json=json)
    if source is None:
        raise UsageError("cnn data needs a data set", "for example `cnn data photos`; `cnn data --list` names some", path="SOURCE")
    return inspect(Job(source, parse_input(input_), sheet, fix, overwrite, json), config)


def epilog() -> str:
    """What stands below the options in the help."""
    return EPILOG


EPILOG = (
    "Exit code 3 when something would spoil a training: unreadable images above 1 % or all of a class, fewer than two classes, a class "
    "that train lacks, class names that differ only in case, spaces, hyphens or Unicode form, the same picture in several classes, or in "
    "train and in another split. All is printed first. Near duplicates: a perceptual hash within 8 of 64 bits, and thumbnails that "
    "correlate by 0.9.\n\n"
    "--fix leaves out unreadable images and pictures with conflicting labels, keeps one of each picture (not the one in train), and merges "
    "class names that mean the same.\n\n" + " ".join(JSON_HELP.split())
)


@dataclass(frozen=True)
class Job:
    """What is looked at, and what is written of it."""

    source: str
    input: tuple[int, int, int] | None
    sheet: Path | None
    fix: Path | None
    overwrite: bool
    json: bool

    @property
    def duplicates_sheet(self) -> Path | None:
        """The sheet of duplicates, beside that of the classes."""
        return self.sheet.with_name(f"{self.sheet.stem}-duplicates.png") if self.sheet else None


def inspect(job: Job, config: DataConfig) -> int:
    """Open, decode, print, write. Exit code 3 when something would spoil a training."""
    _check_targets(job)

    from cnncli.data.audit import audit
    from cnncli.data.examine import look
    from cnncli.data.lenient import open_anyway

    how = _decoding(config)
    source, refused = open_anyway(
        job.source,
        lambda: open_data(job.source, config),
        val_fraction=config.val_fraction,
        test_fraction=config.test_fraction,
        include_hidden=config.include_hidden,
    )
    if refused:
        for notice in source.notices:
            talk(f"note: {notice}")
    with DecodingReport("decoding images") as report:
        looks = look(source, how=how, threads=config.workers, on_progress=report.show)
    found = audit(source, looks, refused=refused, input=job.input)
    # Before anything is printed: what cannot be written must not leave a report that looks complete.
    wrote = _write_sheets(job, source, looks, found, how)
    told, usable = _write_fix(job, source, looks)
    if job.json:
        print_json(audit_json(found))
    else:
        print_audit(found)
    for line in (*wrote, *told):
        talk(line)
    if not found.spoiled:
        return ExitCode.DONE
    kinds = [finding.kind for finding in found.findings if finding.grade == "spoils"]
    fix = f"`cnn data {shlex.quote(printable(job.source))} --fix cleaned.csv` writes a cleaned list"
    if job.fix:
        fix = f"train on {job.fix}" if usable else f"{job.fix} is cleaned, but still lacks what is told above"
    talk(f"cnn: error: {printable(job.source)} would spoil a training ({', '.join(kinds)}); {fix}")
    return ExitCode.INPUT


def _decoding(config: DataConfig) -> Decoding:
    from cnncli.data.decode import Decoding
    from cnncli.data.preprocess import background_of

    return Decoding(background_of(config.background), exif=not config.no_exif, max_pixels=config.max_pixels)


def _check_targets(job: Job) -> None:
    """The files that would be written, before any work."""
    for flag, path, suffix in (("--sheet", job.sheet, ".png"), ("--sheet", job.duplicates_sheet, ".png"), ("--fix", job.fix, ".csv")):
        if path is None:
            continue
        if path.suffix.lower() != suffix:
            raise UsageError(f"{flag} {path} should end in {suffix}", f"{flag} {path.with_suffix(suffix)}", path=flag)
        if path.is_dir():
            raise UsageError(f"{flag} {path} is a folder", f"give a file: {flag} {path / ('data' + suffix)}", path=str(path))
        if path.exists() and Path(job.source).exists() and path.samefile(job.source):
            raise UsageError(f"{flag} {path} is the data set itself", "give another file", path=str(path))
        if path.exists() and not job.overwrite:
            raise UsageError(f"{path} exists", f"use --overwrite, or another {flag}", path=str(path))


def _write_sheets(job: Job, source: Source, looks: Looks, found: Audit, how: Decoding) -> list[str]:
    if job.sheet is None or job.duplicates_sheet is None:
        return []
    from cnncli import atomic
    from cnncli.data.thumbnails import rows, twice
    from cnncli.reports.contact_sheet import CELL, LARGE_CELL, draw_classes, draw_duplicates, per_split

    splits = {split: sum(counts) for split, counts in found.counts.items()}
    atomic.make_folder(job.sheet.parent)
    shown, left_out = rows(source, looks, size=CELL, per_split=per_split(list(splits)), how=how)
    title = f"{found.data}: {found.images:,} images, {len(found.classes):,} classes"
    draw_classes(job.sheet, shown, splits, title=title, left_out=left_out)
    groups = twice(source, looks, found, size=LARGE_CELL, how=how)
    if not groups:
        return [f"wrote {job.sheet}"]
    count = len(found.duplicates) + len(found.near)
    draw_duplicates(job.duplicates_sheet, groups, title=f"{found.data}: pictures it holds twice, or nearly", left_out=count - len(groups))
    return [f"wrote {job.sheet}", f"wrote {job.duplicates_sheet}"]


def _write_fix(job: Job, source: Source, looks: Looks) -> tuple[list[str], bool]:
    """(what to tell, whether what was written can be trained on)."""
    if job.fix is None:
        return [], False
    from cnncli import atomic
    from cnncli.data.cleaned import cleaned, csv_text

    clean = cleaned(source, looks)
    atomic.make_folder(job.fix.parent)
    atomic.write_text(job.fix, csv_text(clean.rows, job.fix))
    count = f"{len(clean.rows):,} of {len(looks.items):,} images"
    return [*clean.told, *clean.left, f"wrote {job.fix}: {count}"], not clean.left


def list_sources(*, json: bool) -> int:
    """The data sets that are known by name."""
    from cnncli.data.source import SOURCES

    if json:
        print_json([{"name": name, "about": known.about, "megabytes": known.megabytes} for name, known in SOURCES.items()])
        return ExitCode.DONE
    rows = [(name, f"{known.megabytes:,} MB" if known.megabytes else "-", known.about) for name, known in SOURCES.items()]
    print_result(table((Column("name"), Column("download", number=True), Column("about", text=True)), rows))
    return ExitCode.DONE


def clear(*, json: bool) -> int:
    """Remove the caches of decoded images that no run uses."""
    from cnncli.data.cache import clear as clear_caches

    removed, freed = clear_caches()
    if json:
        print_json({"removed": removed, "bytes": freed})
    else:
        write_result(f"removed {removed:,} cache{'' if removed == 1 else 's'} of decoded images, {freed / 1e6:,.1f} MB\n")
    return ExitCode.DONE
