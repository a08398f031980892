"""`cnn eval`: the documented JSON, the splits, and what --out writes."""

from __future__ import annotations

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
    assert list(found) == ["model", "data", "split", "tta", "count", "top1", "top5", "loss", "per_class", "confusion"]
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
    assert f"top-1 {found['top1']:.2%}" in out
    assert "split test: 359 images" in out
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


def test_out(here: Path, digits_run: Trained) -> None:
    done = run("eval", digits_run.folder, "--json", "-o", "out/deep", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert {path.name for path in (here / "out" / "deep").iterdir()} == {"eval.json", "confusion.png"}
    assert json.loads((here / "out" / "deep" / "eval.json").read_text()) == done.json
    with Image.open(here / "out" / "deep" / "confusion.png") as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
    assert "wrote out/deep/eval.json" in done.err


def test_out_takes_no_broken_json(here: Path, digits_run: Trained) -> None:
    """A model whose weights are not finite has no loss; the file and standard output say null, not NaN."""
    from cnncli.models.modelfile import load, save

    model, info = load(digits_run.best)
    model.state_dict()["fc8.bias" if "fc8.bias" in model.state_dict() else list(model.state_dict())[-1]].fill_(float("nan"))
    save(here / "nan.safetensors", model, info)
    done = run("eval", "nan.safetensors", "--json", "-o", "out", cwd=here, warm=True)
    assert done.code == 0, done.err
    for text in (done.out, (here / "out" / "eval.json").read_text()):
        found = json.loads(text, parse_constant=pytest.fail)
        assert found["loss"] is None
        assert found["nonfinite"] is True


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
    assert (refused.code, refused.err) == (2, "cnn: error: --tta 'flip' is not one of none, flips, shifts; did you mean flips?\n")
