"""Feature files of every form: what was written comes back, for odd names too; what is damaged is refused; numpy alone can read them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnncli.errors import CnnError, EnvironmentFault, InputError, UsageError
from cnncli.features.beside import content_of
from cnncli.features.feature_set import UNLABELLED, FeatureSet, Origin, Space
from cnncli.features.files import SUFFIXES, check_target, is_feature_file, read_features, write_features

ODD = (
    "a b.jpg",
    "x\ny.jpg",
    "%s",
    "-weird.jpg",
    "Ünï😀.png",
    "bytes\udcff.jpg",
    "same.jpg",
    "same.jpg",
    "a,b\t'\".png",
    "..\\..\\x",
    "é\u0301",
    "c",
)


def made(count: int = 12, *, spaces: int = 2, dtype: str = "float32", odd: tuple[str, ...] = ODD) -> FeatureSet:
    generator = np.random.default_rng(0)
    known = (Space("fc7", "layer", (5,), "fc7", "avg", "after"), Space("a/b c", "pixels", (2, 3, 1)))[:spaces]
    return FeatureSet(
        {space.name: generator.standard_normal((count, *space.shape)).astype(dtype) for space in known},
        known,
        np.array([number % 3 - 1 for number in range(count)], dtype=np.int64),
        ("cat\n", "Ünï😀"),
        tuple(odd[number % len(odd)] for number in range(count)),
        tuple(("train", "val", "")[number % 3] for number in range(count)),
        Origin("alexnet", None, 7, "abc", 3, "photos", "root", "all", False, {"channels": 3}),
    )


def assert_same(found: FeatureSet, features: FeatureSet, *, exact_paths: bool = True) -> None:
    assert found.spaces == features.spaces
    for space in features.spaces:
        assert found.arrays[space.name].dtype == features.arrays[space.name].dtype
        assert np.array_equal(found.arrays[space.name], features.arrays[space.name])
    assert found.labels.tolist() == features.labels.tolist()
    assert found.classes == features.classes
    assert found.splits == features.splits
    if exact_paths:
        assert found.paths == features.paths
    assert replace(found.origin, cnncli="") == features.origin


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_written_comes_back(suffix: str, dtype: str, tmp_path: Path) -> None:
    """Parquet's texts are UTF-8, so bytes in names that are not are escaped there."""
    names = ODD if suffix != ".parquet" else tuple(name for name in ODD if "\udcff" not in name)
    features = made(spaces=1 if suffix == ".npy" else 2, dtype=dtype, odd=names)
    path = tmp_path / f"f{suffix}"
    write_features(path, content_of(features))
    assert is_feature_file(str(path))
    assert_same(read_features(path), features)
    left = {"f.npy", "f.npy.jsonl"} if suffix == ".npy" else {path.name}
    assert {one.name for one in tmp_path.iterdir()} == left


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_images(suffix: str, tmp_path: Path) -> None:
    features = made(0, spaces=1)
    write_features(tmp_path / f"f{suffix}", content_of(features))
    assert len(read_features(tmp_path / f"f{suffix}")) == 0


def test_numpy_alone_reads_them(tmp_path: Path) -> None:
    features = made()
    write_features(tmp_path / "f.npz", content_of(features))
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert np.array_equal(file["fc7"], features.arrays["fc7"])
        assert np.array_equal(file["a/b c"], features.arrays["a/b c"])
        assert file["labels"].tolist() == features.labels.tolist()
        assert tuple(file["paths"]) == features.paths
        assert json.loads(str(file["about"]))["origin"]["model"] == "alexnet"
    one = made(spaces=1)
    write_features(tmp_path / "f.npy", content_of(one))
    assert np.array_equal(np.load(tmp_path / "f.npy", allow_pickle=False), one.arrays["fc7"])
    lines = [json.loads(line) for line in (tmp_path / "f.npy.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines[1:]] == list(one.paths)
    assert [line["class"] for line in lines[1:4]] == [None, "cat\n", "Ünï😀"]


def test_other_libraries_read_them(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet
    from safetensors.numpy import load_file

    features = made()
    write_features(tmp_path / "f.safetensors", content_of(features))
    assert np.array_equal(load_file(tmp_path / "f.safetensors")["fc7"], features.arrays["fc7"])
    write_features(tmp_path / "f.parquet", content_of(features))
    rows = pyarrow.parquet.read_table(tmp_path / "f.parquet").to_pylist()
    assert np.array_equal(np.array([row["fc7"] for row in rows], dtype=np.float32), features.arrays["fc7"])
    assert rows[5]["path"] == "bytes\\xff.jpg"
    assert rows[0]["class"] is None


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_arrays_are_mapped(suffix: str, tmp_path: Path) -> None:
    write_features(tmp_path / f"f{suffix}", content_of(made(spaces=1)))
    assert isinstance(read_features(tmp_path / f"f{suffix}").arrays["fc7"], np.memmap)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_off_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"f{suffix}"
    write_features(path, content_of(made(spaces=1)))
    whole = path.read_bytes()
    for length in (0, 1, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError) as caught:
            read_features(path)
        assert str(path) in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), suffix=st.sampled_from(SUFFIXES))
def test_damaged_files_are_read_or_refused(data: st.DataObject, suffix: str, tmp_path: Path) -> None:
    """Never another exception, whatever byte is changed."""
    path = tmp_path / f"f{suffix}"
    write_features(path, content_of(made(3, spaces=1)))
    whole = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=3)):
        whole[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole))
    try:
        found = read_features(path)
    except CnnError:
        return
    assert len(found.paths) == len(found.labels)


def test_files_of_others_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    np.save(tmp_path / "a.npy", np.zeros(3))
    save_file({"x": np.zeros(3)}, tmp_path / "a.safetensors")
    for name, reason in (
        ("a.npz", "no feature file of cnn"),
        ("a.npy", r"no list of its images beside it, a\.npy\.jsonl"),
        ("a.safetensors", "no feature"),
    ):
        with pytest.raises(InputError, match=reason):
            read_features(tmp_path / name)
    assert not is_feature_file(str(tmp_path / "a.safetensors"))


def test_nothing_in_a_file_is_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", about=np.array([{"x": 1}], dtype=object))
    with pytest.raises(InputError, match="no feature file, or damaged"):
        read_features(tmp_path / "a.npz")


def test_the_list_of_another_array_is_noticed(tmp_path: Path) -> None:
    write_features(tmp_path / "f.npy", content_of(made(spaces=1)))
    np.save(tmp_path / "f.npy", np.zeros((3, 5), np.float32))
    with pytest.raises(InputError, match="missing or of another shape"):
        read_features(tmp_path / "f.npy")


@pytest.mark.parametrize(
    ("name", "spaces", "error", "message"),
    [
        ("f.txt", 1, UsageError, r"should end in \.npz, .*for example -o f\.npz"),
        ("f", 1, UsageError, "should end in"),
        ("folder.npz", 1, UsageError, "is a folder"),
        ("there.npz", 1, UsageError, r"there\.npz exists; use --overwrite"),
        ("f.npy", 2, UsageError, r"holds one layer, and these are 2; use -o .*f\.npz"),
    ],
)
def test_targets_that_are_refused(name: str, spaces: int, error: type[CnnError], message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "there.npz").write_bytes(b"old")
    with pytest.raises(error, match=message):
        check_target(tmp_path / name, spaces, overwrite=False)
    assert (tmp_path / "there.npz").read_bytes() == b"old"


def test_parquet_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentFault, match=r'pip install "cnncli\[parquet\]"'):
        check_target(tmp_path / "f.parquet", 1, overwrite=False)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import namedtuple

    path = tmp_path / "f.npz"
    write_features(path, content_of(made()))
    before = path.read_bytes()
    usage = namedtuple("usage", "free")  # noqa: PYI024 # as shutil's
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10))
    with pytest.raises(EnvironmentFault, match="disk full writing"):
        write_features(path, content_of(made(3)))
    assert path.read_bytes() == before


def test_sets(tmp_path: Path) -> None:
    features = made()
    assert features.matrix("a/b c").shape == (12, 6)
    assert features.matrix("fc7", [3, 1]).tolist() == features.arrays["fc7"][[3, 1]].tolist()
    assert features.rows_of("val", "train").tolist() == [0, 1, 3, 4, 6, 7, 9, 10]
    some = features.only([2, 0])
    assert some.paths == (ODD[2], ODD[0])
    assert some.labels.tolist() == [1, UNLABELLED]
    with pytest.raises(UsageError, match="no layer 'fc8'; did you mean fc7"):
        features.matrix("fc8")
    features.arrays["fc7"][4, 1] = np.nan
    with pytest.raises(InputError, match="the fc7 features of 1 images are not finite, those of Ünï😀"):
        features.matrix("fc7")
    assert features.matrix("fc7", slice(0, 4)).shape == (4, 5)
    with pytest.raises(InputError, match="Ünï😀"):
        features.matrix("fc7", np.array([1, 4]))
