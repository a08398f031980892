"""Evaluating what cannot be evaluated: models, data, columns and targets that do not fit, each in one line and before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import HTML, Trained, assert_failed, make_folder, run, unchanged
from PIL import Image

pytestmark = pytest.mark.slow


def test_E1_other_numbers_of_channels(here: Path, folder_run: tuple[Trained, Path]) -> None:
    """Grey, coloured, with transparency: all are what the model's file says, and as good as the same image in one channel."""
    trained, _ = folder_run
    data = make_folder(here / "data", {"bus": 8, "cat": 8, "dog": 8})
    plain = run("eval", trained.folder, "--data", "data", "--split", "all", "--json", cwd=here, warm=True)
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        with Image.open(path) as image:
            image.convert(("L", "RGB", "RGBA", "LA")[number % 4]).save(path)
    mixed = run("eval", trained.folder, "--data", "data", "--split", "all", "--json", cwd=here, warm=True)
    assert (plain.code, mixed.code) == (0, 0), mixed.err
    assert mixed.out == plain.out


def test_E2_files_are_written_though_images_are_left_out(here: Path, folder_run: tuple[Trained, Path]) -> None:
    trained, _ = folder_run
    data = make_folder(here / "data", {"bus": 40, "cat": 40, "dog": 40})
    (data / "cat" / "020.png").write_bytes(HTML)
    done = run("eval", trained.folder, "--data", "data", "--split", "all", "-o", "out", "--json", cwd=here, warm=True)
    assert done.code == 5, done.err
    assert done.json["count"] == 119
    assert len(done.json["left_out"]) == 1
    assert "cat/020.png" in done.json["left_out"][0]
    rows = (here / "out" / "predictions.csv").read_text().splitlines()[1:]
    assert len(rows) == 119
    assert not any("cat/020.png" in row for row in rows)
    both = run("eval", trained.folder, trained.best, "--data", "data", "--split", "all", cwd=here, warm=True)
    assert both.code == 5
    assert sum("left out" in line for line in both.err.splitlines()) == 1, "told once, not once a model"


def test_E3_nothing_in_common(here: Path, folder_run: tuple[Trained, Path]) -> None:
    trained, _ = folder_run
    make_folder(here / "tools", {"saw": 4, "axe": 4})
    (here / "void").mkdir()
    with unchanged(here):
        for data, pattern in (("tools", "no class in common.*axe, saw"), ("void", "void")):
            for flags in ((), ("-o", "out"), ("--classes-subset",)):
                assert_failed(run("eval", trained.folder, "--data", data, *flags, cwd=here, warm=True), 3, pattern)


def test_G16_targets_are_checked_before_the_work(here: Path, digits_run: Trained) -> None:
    """Whichever of the files exists; a folder in its place; a folder that cannot be made. Nothing is decoded, nothing changed."""
    (here / "file").write_text("mine")
    for name in ("eval.json", "confusion.png", "confusion.csv", "reliability.png", "mistakes.png", "predictions.csv"):
        (here / name).mkdir()
        (here / name / name).write_text("mine")
    (here / "taken" / "eval.json").mkdir(parents=True)
    with unchanged(here):
        for name in ("eval.json", "confusion.png", "confusion.csv", "reliability.png", "mistakes.png", "predictions.csv"):
            done = run("eval", digits_run.folder, "-o", name, cwd=here, warm=True)
            assert_failed(done, 2, f"{name}/{name} exists; use --overwrite")
        assert_failed(
            run("eval", digits_run.folder, digits_run.best, "-o", "eval.json", cwd=here, warm=True), 2, "eval.json/eval.json exists"
        )
        assert_failed(run("eval", digits_run.folder, "-o", "taken", "--overwrite", cwd=here, warm=True), 2, "taken/eval.json is a folder")
        assert_failed(run("eval", digits_run.folder, "-o", "file", "--overwrite", cwd=here, warm=True), 2, "--out file is a file")
        assert_failed(run("eval", digits_run.folder, "-o", "file/out", cwd=here, warm=True), 4, "file/out.*no folder")
        assert_failed(run("eval", digits_run.folder, "-o", "/proc/x/y", cwd=here, warm=True), 4, "/proc/x/y")


def test_G16_overwrite_replaces_our_files_alone(here: Path, digits_run: Trained) -> None:
    (here / "out").mkdir()
    (here / "out" / "notes.txt").write_text("mine")
    (here / "out" / "eval.json").write_text("old")
    done = run("eval", digits_run.folder, "-o", "out", "--overwrite", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert (here / "out" / "notes.txt").read_text() == "mine"
    assert (here / "out" / "eval.json").read_text().startswith("{")


def test_G15_columns(here: Path, folder_run: tuple[Trained, Path]) -> None:
    trained, data = folder_run
    rows = [f"{path},{path.parent.name},x,y" for path in data.rglob("*.png")]
    (here / "list.csv").write_text("\n".join(["path,label,camera,year", *rows]))
    with unchanged(here):
        for column, pattern in (
            ("camrea", "no column 'camrea'; did you mean camera"),
            ("zzz", "no column 'zzz'; choose from camera, year"),
        ):
            done = run("eval", trained.folder, "--data", "list.csv", "--slice", column, "-o", "out", cwd=here, warm=True)
            assert_failed(done, 2, pattern)
        done = run("eval", trained.folder, "--data", data, "--slice", "camera", "-o", "out", "--json", cwd=here, warm=True)
        assert_failed(done, 2, "has no columns; give a list", json_out=True)


def test_flags_that_do_not_fit(here: Path, digits_run: Trained) -> None:
    model = digits_run.folder
    cases = {
        (model, "--predictions", "csv"): "--predictions needs a folder",
        (model, "--predictions", "parqet", "-o", "out"): "'parqet' is not one of csv, parquet; did you mean parquet",
        (model, digits_run.best, "--predictions", "csv", "-o", "out"): "one model",
        (model, model): "given twice",
        (model, "--mistakes", "-1"): "--mistakes.*-1",
        (model, "--tta", "ten-crop"): "ten-crop needs a margin",
        (model, "--precision", "fp8"): "--precision.*fp8",
        (model, digits_run.best, "--weights", "imagenet"): "has its own weights",
    }
    with unchanged(here):
        for arguments, pattern in cases.items():
            assert_failed(run("eval", *arguments, cwd=here, warm=True), 2, pattern)


def test_D8_models_of_other_classes(here: Path, digits_run: Trained, folder_run: tuple[Trained, Path]) -> None:
    with unchanged(here):
        done = run("eval", digits_run.folder, folder_run[0].folder, "-o", "out", cwd=here, warm=True)
        assert_failed(done, 3, "cannot be compared: only .* knows 0, 1, 2, 3, 4 and 5 more")


def test_G14_parquet_without_pyarrow(here: Path, digits_run: Trained) -> None:
    """Said before the model is opened: the package is hidden from the process."""
    (here / "site").mkdir()
    (here / "site" / "sitecustomize.py").write_text(
        "import importlib.machinery as m\n"
        "find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = classmethod(lambda c, name, *a, **k: None if name == 'pyarrow' else find(name, *a, **k))\n"
    )
    with unchanged(here):
        done = run("eval", digits_run.folder, "-o", "out", "--predictions", "parquet", cwd=here, PYTHONPATH=str(here / "site"))
        assert_failed(done, 4, r'needs the package pyarrow; pip install "cnncli\[parquet\]"')


def test_P3_formulas_in_names(here: Path) -> None:
    """Names of files and classes that a spreadsheet would compute stand with a quote in front, in every CSV file."""
    data = make_folder(here / "data", {"=1+1": 8, "@sum": 8, "plain": 8})
    for path in sorted((data / "plain").iterdir())[:2]:
        path.rename(path.with_name(f"-{path.name}"))
    assert run("train", "mlp", "--data", "data", "--input", "1x8x8", "--epochs", "1", "-o", "run", cwd=here, warm=True).code == 0
    done = run("eval", "run", "--data", "data", "--split", "all", "-o", "out", cwd=here, warm=True)
    assert done.code == 0, done.err
    import csv

    for name in ("predictions.csv", "confusion.csv"):
        with (here / "out" / name).open(newline="") as stream:
            cells = [cell for row in csv.reader(stream) for cell in row]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "-"))]
        assert "'=1+1" in cells
        assert "'@sum" in cells


def test_T13_weights_that_are_not_finite(here: Path, digits_run: Trained) -> None:
    from cnncli.models.modelfile import load, save

    model, info = load(digits_run.best)
    name = list(model.state_dict())[-1]
    model.state_dict()[name].fill_(float("nan"))
    save(here / "nan.safetensors", model, info)
    with unchanged(here):
        for flags in ((), ("--json", "-o", "out")):
            done = run("eval", "nan.safetensors", *flags, cwd=here, warm=True)
            assert_failed(done, 1, f"scores that are not finite: its {name}", json_out=bool(flags))
