"""What a source of images is: its classes, its splits, its samples; and the names that open one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from PIL import Image

from cnncli.data.decode import USUAL, BadImage, Decoding, Located, decode
from cnncli.errors import InputError, UsageError, near_miss, printable


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
    """

    name: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[Sample, ...]]
    notices: tuple[str, ...]
    derived: bool
    locate: Callable[[Sample], Located]

    def read(self, sample: Sample, how: Decoding = USUAL) -> Image.Image:
        """The pixels of `sample`, as an upright Pillow image of mode "L" or "RGB". BadImage when it cannot be decoded."""
        try:
            image = self.locate(sample)
        except OSError as error:
            raise BadImage(sample.path, error.strerror or "cannot be read") from error
        return decode(image, name="" if isinstance(image, Path) else sample.path, how=how)

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
    target: "module:function"; the function takes val_fraction and test_fraction and gives a Source.
    val_fraction, test_fraction: shares when none are asked for.
    """

    about: str
    target: str
    val_fraction: float
    test_fraction: float


SOURCES: dict[str, BuiltIn] = {
    "digits": BuiltIn(
        "1,797 real handwritten digits of 8x8 pixels, inside scikit-learn: no download", "cnncli.data.digits:open_digits", 0.1, 0.2
    ),
}

FOLDER_VAL_FRACTION = 0.2
FOLDER_TEST_FRACTION = 0.0


def open_source(
    spec: str,
    *,
    val_fraction: float | None = None,
    test_fraction: float | None = None,
    include_hidden: bool = False,
    allow_empty: bool = False,
) -> Source:
    """The source that `spec` names: a built-in name (see SOURCES) or a folder (see cnncli.data.folder).

    val_fraction, test_fraction: shares of each class for a split that is not given; None is the source's own default, 0 is none.
    include_hidden: keep folders such as `.git` and `__MACOSX` as classes.
    allow_empty: keep class folders without images.

    UsageError: a name that is both built in and a folder here, fractions out of range. InputError: everything wrong with a folder.
    """
    known = SOURCES.get(spec)
    folder = Path(spec)
    val, test = _fractions(val_fraction, test_fraction, known)
    if known:
        if folder.is_dir():
            raise UsageError(f"{spec!r} is a built-in data set and also a folder here", f"write ./{spec} for the folder", path=spec)
        module, function = known.target.split(":")
        source: Source = getattr(import_module(module), function)(val_fraction=val, test_fraction=test)
        return source
    from cnncli.data.folder import open_folder  # late: that file builds on this one

    if not spec or not os.path.lexists(folder):
        raise _missing(spec)
    return open_folder(folder, val_fraction=val, test_fraction=test, include_hidden=include_hidden, allow_empty=allow_empty)


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
    names = f"a built-in data set ({', '.join(SOURCES)}) or " if bare_word else ""
    return InputError(f"no such data: '{printable(spec)}'", close or f"expected {names}{LAYOUT}", path=spec)
