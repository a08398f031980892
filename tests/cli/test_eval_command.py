"""`cnn eval`: the documented JSON, the splits, what --out writes, and models side by side."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from harness import Trained, make_folder, run
from PIL import Image

pytestmark = pytest.mark.slow


def evaluated(here: Path, *arguments: object) -> dict[str, object]:
    done = run("eval", *map(str, arguments), "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    return done.json


def test_json(here: Path, digits_run: Trained) -> None:
    found = evaluated(here, digits_run.folder)
    assert list(found) == [
        *("model", "data", "split", "tta", "count", "top1", "top5", "loss", "per_class", "confusion"),
        *("top1_interval", "top5_interval", "loss_interval", "balanced_accuracy", "macro", "weighted", "calibration", "how", "left_out"),
    ]
    assert (found["model"], found["data"], found["split"], found["count"]) == (str(digits_run.folder), "digits", "test", 359)
    assert 0.5 < found["top1"] <= found["top5"] <= 1
    assert [entry["class"] for entry in found["per_class"]] == list("0123456789")
    for number, entry in enumerate(found["per_class"]):
        assert list(entry) == ["class", "precision", "recall", "f1", "support"]
        row = found["confusion"][number]
        column = [other[number] for other in found["confusion"]]
        assert entry["support"] == sum(row)
        assert entry["recall"] == pytest.approx(row[number] / sum(row))
        assert entry["precision"] == pytest.approx(row[number] / max(1, sum(column)))
    assert sum(map(sum, found["confusion"])) == found["count"]
    assert sum(found["confusion"][i][i] for i in range(10)) == round(found["top1"] * found["count"])


def test_text_tells_the_same(here: Path, digits_run: Trained) -> None:
    found = evaluated(here, digits_run.folder)
    out = run("eval", digits_run.folder, cwd=here, warm=True).out
    low, high = found["top1_interval"]
    lines = [line.split() for line in out.splitlines()]
    assert ["top-1", f"{found['top1']:.2%}", f"{100 * low:.2f}", "to", f"{high:.2%}"] in lines
    assert "split test: 359 images" in out
    assert f"ECE {found['calibration']['ece']:.2%}" in out
    assert f"computed in {found['how']}\n" in out
    for entry in found["per_class"]:
        assert [entry["class"], f"{entry['precision']:.1%}", f"{entry['recall']:.1%}", f"{entry['f1']:.1%}", str(entry["support"])] in [
            line.split() for line in out.splitlines()
        ]


def test_splits(here: Path, digits_run: Trained) -> None:
    counts = {split: evaluated(here, digits_run.folder, "--split", split)["count"] for split in ("train", "val", "test", "all", "auto")}
    assert counts == {"train": 1259, "val": 179, "test": 359, "all": 1797, "auto": 359}


def test_run_folder_best_and_file_are_the_same(here: Path, digits_run: Trained) -> None:
    folder, file = evaluated(here, digits_run.folder), evaluated(here, digits_run.best)
    assert folder.pop("model") != file.pop("model")
    assert folder == file


def test_split_is_the_training_s(here: Path) -> None:
    """A share given at training is known at evaluation: no training image is judged as if it were new."""
    make_folder(here / "photos", {"a": 20, "b": 20})
    arguments = ("--data", "photos", "--input", "1x8x8", "--epochs", "1", "--val-fraction", "0.4", "--test-fraction", "0.1", "-o", "run")
    assert run("train", "mlp", *arguments, cwd=here, warm=True).code == 0
    last = json.loads((here / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    found = evaluated(here, "run", "--split", "val")
    assert found["count"] == 16
    assert found["top1"] == pytest.approx(last["val_accuracy"], abs=1e-9)
    assert found["loss"] == pytest.approx(last["val_loss"], rel=1e-5)
    assert evaluated(here, "run")["split"] == "test"
    assert evaluated(here, "run", "--split", "test")["count"] == 4
    assert evaluated(here, "run", "--split", "train")["count"] == 20
    assert evaluated(here, "run", "--split", "val", "--val-fraction", "0.2")["count"] == 8, "flags go first"
    (here / "run" / "best.safetensors").rename(here / "moved.safetensors")
    assert evaluated(here, "moved.safetensors", "--data", "photos", "--split", "val")["count"] == 16, "the file itself knows"


def test_auto_split(here: Path) -> None:
    make_folder(here / "photos", {"a": 10, "b": 10})
    assert run("train", "mlp", "--data", "photos", "--input", "1x8x8", "--epochs", "1", "-o", "run", cwd=here, warm=True).code == 0
    assert evaluated(here, "run")["split"] == "val"


def test_moved_file_needs_data(here: Path, folder_run: tuple[Trained, Path]) -> None:
    (here / "model.safetensors").write_bytes(folder_run[0].best.read_bytes())
    done = run("eval", "model.safetensors", cwd=here, warm=True)
    assert done.code == 3
    assert "--data" in done.errors[0]


FILES = {"eval.json", "confusion.png", "confusion.csv", "reliability.png", "mistakes.png", "predictions.csv"}


def listed(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_out(here: Path, digits_run: Trained) -> None:
    done = run("eval", digits_run.folder, "--json", "-o", "out/deep", cwd=here, warm=True)
    assert done.code == 0, done.err
    out = here / "out" / "deep"
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "eval.json").read_text()) == done.json
    for name in FILES:
        assert f"wrote out/deep/{name}" in done.err
    for name in ("confusion.png", "reliability.png", "mistakes.png"):
        with Image.open(out / name) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300
    rows = listed(out / "predictions.csv")
    confusion = [[sum(r["true"] == a and r["predicted"] == b for r in rows) for b in "0123456789"] for a in "0123456789"]
    assert confusion == done.json["confusion"] == [[int(r[b]) for b in "0123456789"] for r in listed(out / "confusion.csv")]
    assert sum(float(r["loss"]) for r in rows) / 359 == pytest.approx(done.json["loss"], rel=1e-6)
    assert sum(r["correct"] == "True" for r in rows) / 359 == pytest.approx(done.json["top1"])


def test_predictions_say_what_predict_says(here: Path, folder_run: tuple[Trained, Path]) -> None:
    """Image by image, by another command on the same files."""
    trained, data = folder_run
    assert run("eval", trained.folder, "--data", data, "--split", "all", "-o", "out", cwd=here, warm=True).code == 0
    rows = {row["path"]: row for row in listed(here / "out" / "predictions.csv")}
    done = run("predict", trained.folder, data, "--json", "--top", "3", cwd=here, warm=True)
    for line in done.out.splitlines():
        told = json.loads(line)
        row = rows.pop(str(Path(told["path"]).relative_to(data)))
        assert row["predicted"] == told["predictions"][0]["class"]
        assert float(row["probability"]) == pytest.approx(told["predictions"][0]["probability"], abs=1e-5)
        true = next(entry["probability"] for entry in told["predictions"] if entry["class"] == row["true"])
        assert float(row["true_probability"]) == pytest.approx(true, abs=1e-5)
        assert row["true"] == Path(row["path"]).parent.name
    assert not rows


def test_parquet_and_no_mistakes(here: Path, digits_run: Trained) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    done = run("eval", digits_run.folder, "-o", "out", "--predictions", "parquet", "--mistakes", "0", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert {path.name for path in (here / "out").iterdir()} == FILES - {"mistakes.png", "predictions.csv"} | {"predictions.parquet"}
    assert parquet.read_table(here / "out" / "predictions.parquet").num_rows == 359


def test_slices(here: Path, folder_run: tuple[Trained, Path]) -> None:
    trained, data = folder_run
    rows = ["path,label,camera,year"]
    files = sorted(data.rglob("*.png"))
    rows += [f"{path},{path.parent.name},{'=big' if number % 3 else 'old'},{2000 + number % 2}" for number, path in enumerate(files)]
    (here / "list.csv").write_text("\n".join(rows))
    arguments = ("eval", trained.folder, "--data", "list.csv", "--split", "all", "--slice", "camera", "--slice", "year")
    done = run(*arguments, "--json", "-o", "out", cwd=here, warm=True)
    assert done.code == 0, done.err
    found = done.json["slices"]
    assert list(found) == ["camera", "year"]
    assert [(s["value"], s["count"]) for s in found["camera"]] == [("=big", 24), ("old", 12)]
    assert [(s["value"], s["count"]) for s in found["year"]] == [("2000", 18), ("2001", 18)]
    right = {row["path"]: row["correct"] == "True" for row in listed(here / "out" / "predictions.csv")}
    old = [right[str(path)] for number, path in enumerate(files) if number % 3 == 0]
    assert found["camera"][1]["top1"] == pytest.approx(sum(old) / 12)
    for name, entries in found.items():
        assert sum(s["top1"] * s["count"] for s in entries) == pytest.approx(done.json["top1"] * 36), name
        assert all(s["top1_interval"][0] <= s["top1"] <= s["top1_interval"][1] for s in entries)
    written = listed(here / "out" / "slices.csv")
    assert [(row["column"], row["value"]) for row in written] == [
        *(("camera", "'=big"), ("camera", "old"), ("year", "2000"), ("year", "2001")),
    ]
    told = run(*arguments, cwd=here, warm=True).out
    assert "by camera\n" in told
    assert "by year\n" in told


@pytest.fixture(scope="module")
def second_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another net on the digits."""
    home = tmp_path_factory.mktemp("second")
    done = run("train", "mlp", "--epochs", "1", "-o", "other", cwd=home, warm=True)
    assert done.code == 0, done.err
    return home / "other"


def test_models_side_by_side(here: Path, digits_run: Trained, second_run: Path) -> None:
    models = (digits_run.folder, second_run, digits_run.best)
    done = run("eval", *models, "--json", "-o", "out", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert list(done.json) == ["models", "comparisons"]
    assert done.json["models"] == [evaluated(here, model) for model in models], "each is judged as it is alone"
    assert {path.name for path in (here / "out").iterdir()} == {"eval.json", "comparison.png"}
    assert json.loads((here / "out" / "eval.json").read_text()) == done.json
    worse, same = done.json["comparisons"]
    assert [(c["first"], c["model"]) for c in (worse, same)] == [(str(models[0]), str(models[1])), (str(models[0]), str(models[2]))]
    assert (same["difference"], same["only_first"], same["only_model"], same["p"], same["p_holm"]) == (0, 0, 0, 1, 1)
    first, other = done.json["models"][:2]
    assert worse["difference"] == pytest.approx(other["top1"] - first["top1"])
    for name, model in (("a", models[0]), ("b", models[1])):
        assert run("eval", model, "-o", name, cwd=here, warm=True).code == 0
    right = [[row["correct"] == "True" for row in listed(here / name / "predictions.csv")] for name in "ab"]
    only = [sum(a and not b for a, b in zip(*pair, strict=True)) for pair in (right, right[::-1])]
    assert [worse["only_first"], worse["only_model"]] == only
    from scipy.stats import binomtest

    assert worse["p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert worse["p_holm"] == pytest.approx(min(1, 2 * worse["p"]))


def test_models_side_by_side_as_text(here: Path, digits_run: Trained, second_run: Path) -> None:
    done = run("eval", digits_run.folder, second_run, cwd=here, warm=True, COLUMNS="140")
    assert done.code == 0, done.err
    assert done.out.startswith("2 models on digits, split test: 359 images\n")
    assert sum(str(second_run) in line for line in done.out.splitlines()) == 2
    assert "McNemar" in done.out


def test_another_data_set(here: Path, digits_run: Trained) -> None:
    """Digits as files in folders: the same images, so the same scores."""
    from cnncli.data.source import open_source

    source = open_source("digits")
    for sample in source.samples("test"):
        path = here / "photos" / source.classes[sample.label] / Path(sample.path).name
        path.parent.mkdir(parents=True, exist_ok=True)
        source.read(sample).save(path)
    found, expected = evaluated(here, digits_run.folder, "--data", "photos", "--split", "all"), evaluated(here, digits_run.folder)
    assert (found["data"], found["split"]) == ("photos", "all")
    assert found["confusion"] == expected["confusion"]
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_test_time_augmentation_is_said_and_changes_scores(digits_run: Trained, here: Path) -> None:
    plain = evaluated(here, digits_run.folder)
    flipped = evaluated(here, digits_run.folder, "--tta", "flips")
    assert (plain["tta"], flipped["tta"]) == ("none", "flips")
    assert flipped["loss"] != plain["loss"]
    told = run("eval", digits_run.folder, "--tta", "shifts", cwd=here, warm=True).out
    assert "averaged over mirror images and shifts by a pixel" in told
    refused = run("eval", digits_run.folder, "--tta", "flip", cwd=here, warm=True)
    assert (refused.code, refused.err) == (2, "cnn: error: --tta 'flip' is not one of none, flips, shifts, ten-crop; did you mean flips?\n")


def test_numbers_of_16_bits_are_told(here: Path, digits_run: Trained) -> None:
    exact, rounded = (evaluated(here, digits_run.folder, "--precision", precision) for precision in ("fp32", "bf16"))
    assert "bf16" in rounded["how"]
    assert "bf16" not in exact["how"]
    assert rounded["loss"] == pytest.approx(exact["loss"], rel=0.05)
