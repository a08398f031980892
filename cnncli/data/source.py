"""What a source of images is: its classes, its splits, its samples; and the names that open one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from cnncli.data.decode import USUAL, BadImage, Decoding, Located, decode
from cnncli.data.named import NAMED, VAL_FRACTION
from cnncli.errors import InputError, UsageError, near_miss, printable
from cnncli.sniff import sniff


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled image.

    path: its name within the source, with forward slashes; bytes that are not UTF-8 survive as surrogates.
    label: index into the source's classes.
    """

    path: str
    label: int


@dataclass(frozen=True)
class Source:
    """Labelled images in splits; opening one decodes nothing.

    name: short name, for run folders and titles.
    classes: class names in order; a label is an index into them.
    splits: "train", "val", "test", as far as they exist, in this order.
    notices: what the user should know about how it was read, one line each.
    derived: whether a split was made by hash (see cnncli.data.split) rather than given.
    locate: says where a sample's image is: its file, its bytes, or decoded pixels.
    columns: what else a list says of each sample, for later slicing: `source.columns["camera"][sample.path]`.
    weigh: says how many bytes a sample's image has, where that is known without reading it and `locate` would read it.
    """

    name: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[Sample, ...]]
    notices: tuple[str, ...]
    derived: bool
    locate: Callable[[Sample], Located]
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    weigh: Callable[[Sample], int] | None = None

    def read(self, sample: Sample, how: Decoding = USUAL) -> Image.Image:
        """The pixels of `sample`, as an upright Pillow image of mode "L" or "RGB". BadImage when it cannot be decoded."""
        image, name = self.find(sample)
        return decode(image, name=name, how=how)

    def find(self, sample: Sample) -> tuple[Located, str]:
        """Where the image of `sample` is, and what errors call it. BadImage when that cannot be told, as for a lost archive."""
        try:
            image = self.locate(sample)
        except OSError as error:
            raise BadImage(sample.path, error.strerror or "cannot be read") from error
        return image, str(image) if isinstance(image, Path) else sample.path

    def samples(self, split: str) -> tuple[Sample, ...]:
        """The samples of a split, or of all of them one after the other for "all". UsageError names the splits there are."""
        if split == "all":
            return tuple(sample for samples in self.splits.values() for sample in samples)
        if split not in self.splits:
            raise UsageError(f"{printable(self.name)} has no split {split!r}", f"choose from {', '.join((*self.splits, 'all'))}")
        return self.splits[split]

    def counts(self, split: str) -> tuple[int, ...]:
        """How many samples each class has in `split`, in the order of `classes`."""
        counts = [0] * len(self.classes)
        for sample in self.samples(split):
            counts[sample.label] += 1
        return tuple(counts)

    def fingerprint(self) -> str:
        """A hash of the classes and of which sample lies in which split: another one means that files came, went or moved."""
        digest = hashlib.sha256()
        for text in (*self.classes, *(f"{s}\0{x.path}\0{x.label}" for s, samples in self.splits.items() for x in samples)):
            digest.update(os.fsencode(text) + b"\n\0")
        return digest.hexdigest()


@dataclass(frozen=True)
class BuiltIn:
    """A source that is opened by name.

    about: one line for listings.
    splits: those that it has of its own; others are derived.
    megabytes: size of the download; 0 without one.
    val_fraction, test_fraction: shares when none are asked for.
    """

    about: str
    splits: tuple[str, ...]
    megabytes: int
    val_fraction: float
    test_fraction: float


SOURCES: dict[str, BuiltIn] = {
    "digits": BuiltIn("1,797 real handwritten digits of 8x8 pixels, inside scikit-learn: no download", (), 0, 0.1, 0.2),
    **{
        name: BuiltIn(known.about, tuple(known.splits), known.megabytes, VAL_FRACTION, known.test_fraction) for name, known in NAMED.items()
    },
}

FOLDER_VAL_FRACTION = 0.2
FOLDER_TEST_FRACTION = 0.0
ALL_NAMES = "`cnn data --list` has all names"


def open_source(
    spec: str,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    include_hidden: bool = False,
    allow_empty: bool = False,
    subset: float | None = None,
    limit_per_class: int | None = None,
    data_root: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Source:
    """The source that `spec` names: one of SOURCES, a list (see cnncli.data.listed), tar shards (see cnncli.data.shards.local) or
    a folder (see cnncli.data.folder).

    val_fraction, test_fraction: shares of each class for a split that is not given; None is the source's own default, 0 is none.
    include_hidden: keep folders such as `.git` and `__MACOSX` as classes.
    allow_empty: keep class folders without images.
    subset, limit_per_class: keep this share, and at most so many, of each class's training images (see cnncli.data.split.keep_some);
    validation and test stay as they are without.
    data_root: where named data sets lie or are downloaded to; by default `data` in the cache folder. tell: hears of a download.

    UsageError: a name that is both built in and a folder here, fractions out of range. InputError: everything wrong with the data.
    EnvironmentFault: a data set that cannot be downloaded.
    """
    val, test = _fractions(val_fraction, test_fraction, SOURCES.get(spec))
    if spec in SOURCES:
        if Path(spec).is_dir():
            raise UsageError(f"{spec!r} is a built-in data set and also a folder here", f"write ./{spec} for the folder", path=spec)
        source = _open_name(spec, val, test, data_root, tell)
    else:
        source = _open_path(spec, val, test, include_hidden=include_hidden, allow_empty=allow_empty)
    return source if subset is None and limit_per_class is None else _with_less(source, subset, limit_per_class)


def _open_name(name: str, val: float, test: float, data_root: str | None, tell: Callable[[str], None]) -> Source:
    if name == "digits":
        from cnncli.data.digits import open_digits

        return open_digits(val_fraction=val, test_fraction=test)
    from cnncli.data.named_source import open_named

    return open_named(name, val_fraction=val, test_fraction=test, data_root=data_root, tell=tell)


def _open_path(spec: str, val: float, test: float, *, include_hidden: bool, allow_empty: bool) -> Source:
    from cnncli.data.folder import open_folder  # late: these files build on this one
    from cnncli.data.listed import SUFFIXES, open_list
    from cnncli.data.shards.addresses import is_address, refuse_address
    from cnncli.data.shards.local import are_shards, open_shards

    path = Path(spec)
    if is_address(spec):
        raise refuse_address(spec)
    if are_shards(spec):
        return open_shards(spec, val_fraction=val, test_fraction=test, allow_empty=allow_empty)
    if not spec or not os.path.lexists(path):
        raise _missing(spec)
    if path.is_file() and (path.suffix.lower() in SUFFIXES or sniff(path) == "text"):
        return open_list(path, val_fraction=val, test_fraction=test)
    return open_folder(path, val_fraction=val, test_fraction=test, include_hidden=include_hidden, allow_empty=allow_empty)


def _with_less(source: Source, subset: float | None, limit: int | None) -> Source:
    from cnncli.data.split import keep_some

    everything = source.splits.get("train", ())
    kept = keep_some(everything, share=subset, most=limit)
    told = f"training on {len(kept):,} of {len(everything):,} images"
    return replace(source, splits=source.splits | ({"train": kept} if everything else {}), notices=(*source.notices, told))


def _fractions(val: float | None, test: float | None, known: BuiltIn | None) -> tuple[float, float]:
    if val is None:
        val = known.val_fraction if known else FOLDER_VAL_FRACTION
    if test is None:
        test = known.test_fraction if known else FOLDER_TEST_FRACTION
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise UsageError(f"validation share {val:g} and test share {test:g} leave nothing to train on", "both from 0, together below 1")
    return val, test


def _missing(spec: str) -> InputError:
    from cnncli.data.folder import LAYOUT

    bare_word = not any(mark in spec for mark in "/\\.")
    close = near_miss(spec, list(SOURCES)) if bare_word else ""
    names = f"the name of a data set ({ALL_NAMES}), a list FILE.csv, or " if bare_word else "a list FILE.csv, or "
    hint = f"{close} {ALL_NAMES}" if close else f"expected {names}{LAYOUT}"
    return InputError(f"no such data: '{printable(spec)}'", hint, path=spec)
