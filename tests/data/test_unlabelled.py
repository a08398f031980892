"""Images without classes: all below a folder, in the order of their paths, or the files that are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import png

from cnncli.data.unlabelled import open_files, open_unlabelled
from cnncli.errors import InputError


def test_all_below_a_folder(tmp_path: Path) -> None:
    for name in ("b.png", "a/z.png", "a/b/c.png", ".hidden/x.png", "a/notes.txt", "train/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png() if name.endswith("png") else b"text")
    source = open_unlabelled(str(tmp_path))
    assert [sample.path for sample in source.samples("all")] == ["a/b/c.png", "a/z.png", "b.png", "train/d.png"]
    assert source.read(source.samples("all")[2]).mode in ("L", "RGB")
    assert any(".hidden" in notice for notice in source.notices)
    assert len(open_unlabelled(str(tmp_path), include_hidden=True).samples("all")) == 5


def test_one_file(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(png())
    assert [sample.path for sample in open_unlabelled(str(tmp_path / "x.png")).samples("all")] == [str(tmp_path / "x.png")]


def test_files_in_the_order_given(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("b.png", "a.png", "b.png")]
    for name in set(names):
        Path(name).write_bytes(png())
    assert [sample.path for sample in open_files(names).samples("all")] == names


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no images below"):
        open_unlabelled(str(tmp_path))
    with pytest.raises(InputError, match="is not a folder of images"):
        open_unlabelled(str(tmp_path / "nope"))
    with pytest.raises(InputError, match=r"nope\.png: no such file"):
        open_files([str(tmp_path / "nope.png")])
    with pytest.raises(InputError, match="it is a folder"):
        open_files([str(tmp_path)])
