"""Blocks on the disk: whole or absent, of one extraction, and nothing else removed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnncli.errors import CnnError, UsageError
from cnncli.features.extract import Block
from cnncli.features.parts import PLAN, Parts, folder_for, open_parts


def block(first: int, count: int) -> Block:
    rows = np.arange(first, first + count)
    return Block(rows, {"fc/7 x": rows[:, None].astype(np.float32), "map": np.ones((count, 2, 2), np.float16)})


def opened(tmp_path: Path, plan: str = "a", *, count: int = 3, anew: bool = False) -> tuple[Parts, int]:
    return open_parts(tmp_path / "f.npz", {"layers": plan}, count, anew=anew)


def test_blocks_come_back_in_order(tmp_path: Path) -> None:
    parts, there = opened(tmp_path)
    assert there == 0
    for number in (2, 0, 1):
        parts.write(number, block(4 * number, 4 if number < 2 else 1))
        assert number not in parts.missing()
    assert parts.rows().tolist() == list(range(9))
    assert np.concatenate(list(parts.chunks(0)))[:, 0].tolist() == list(range(9))
    assert np.concatenate(list(parts.chunks(1))).shape == (9, 2, 2)


def test_what_is_there_is_found_again(tmp_path: Path) -> None:
    parts, _ = opened(tmp_path)
    parts.write(1, block(4, 4))
    (folder_for(tmp_path / "f.npz") / ".cnn-part-1-block-000002.npz").write_bytes(b"half")
    again, there = opened(tmp_path)
    assert there == 1
    assert again.missing() == [0, 2]


def test_another_plan_is_refused_and_left(tmp_path: Path) -> None:
    parts, _ = opened(tmp_path)
    parts.write(0, block(0, 4))
    with pytest.raises(UsageError, match="holds an extraction with another layers"):
        opened(tmp_path, "b")
    assert parts.missing() == [1, 2]
    again, there = opened(tmp_path, "b", anew=True)
    assert there == 0
    assert again.missing() == [0, 1, 2]


def test_a_folder_of_somebody_elses_is_refused(tmp_path: Path) -> None:
    folder = folder_for(tmp_path / "f.npz")
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty, and no extraction's"):
        opened(tmp_path)
    assert (folder / "mine.txt").read_text() == "mine"
    assert not (folder / PLAN).exists()


def test_removal_leaves_what_others_put_there(tmp_path: Path) -> None:
    parts, _ = opened(tmp_path, count=1)
    parts.write(0, block(0, 1))
    (parts.folder / "mine.txt").write_text("mine")
    parts.remove()
    assert [path.name for path in parts.folder.iterdir()] == ["mine.txt"]
    (parts.folder / "mine.txt").unlink()
    parts, _ = opened(tmp_path, count=1)
    parts.remove()
    assert not parts.folder.exists()


def test_a_damaged_block_is_named(tmp_path: Path) -> None:
    parts, _ = opened(tmp_path, count=1)
    parts.write(0, block(0, 4))
    whole = parts.path(0).read_bytes()
    middle = whole.index(np.float32(1).tobytes())  # of the numbers
    for damaged in (whole[:-30], whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], b""):
        parts.path(0).write_bytes(damaged)
        with pytest.raises(CnnError, match=r"block-000000\.npz is damaged; delete it"):
            parts.rows()
            list(parts.chunks(0))
            list(parts.chunks(1))


def test_waiting_for_other_processes_ends(tmp_path: Path) -> None:
    parts, _ = opened(tmp_path)
    with pytest.raises(CnnError, match="3 of 3 blocks of other processes did not come"):
        parts.wait(0.1)
