"""`cnn export`: what is written, what is said about it, and that another program gets the model's answers from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from harness import Done, Trained, assert_failed, run, unchanged
from PIL import Image

from cnncli.cli.export import target_of
from cnncli.models.modelfile import load
from cnncli.models.resolve import resolve

pytestmark = pytest.mark.slow


def export(here: Path, *arguments: object, err: str = "", **options: object) -> Done:
    done = run("export", *arguments, cwd=here, warm=True, **options)
    assert (done.code, done.err) == (0, err), done.err
    return done


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_json(here: Path, digits_run: Trained) -> None:
    found = export(here, digits_run.folder, "-o", "m.onnx", "--json").json
    check = found.pop("check")
    assert found == {
        "model": str(digits_run.folder),
        "file": "m.onnx",
        "data_file": None,
        "format": "onnx",
        "opset": 18,
        "bytes": (here / "m.onnx").stat().st_size,
        "input": {"name": "image", "type": "float32", "shape": ["batch", 1, 32, 32]},
        "output": {"name": "scores", "type": "float32", "shape": ["batch", 10]},
    }
    assert list(check) == ["by", "data", "images", "batches", "difference", "largest", "tolerance", "same_labels"]
    assert check["by"] == f"onnxruntime {onnxruntime.__version__}"
    assert (check["data"], check["images"], check["batches"], check["same_labels"]) == ("digits, test", 16, [1, 7, 8], 16)
    assert 0 < check["difference"] <= 1e-4 * check["largest"]
    assert check["tolerance"] == 1e-4
    assert [path.name for path in here.iterdir()] == ["m.onnx"]


def test_text(here: Path, digits_run: Trained) -> None:
    lines = export(here, digits_run.folder, "-o", "m.pt2", COLUMNS="80").out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert f"file m.pt2, torch.export, {(here / 'm.pt2').stat().st_size / 1000:.1f} kB" in text
    assert "input image, float32 [batch, 1, 32, 32], prepared as its metadata say" in text
    assert "output scores, float32 [batch, 10]" in text
    assert "torch.export, 16 images of digits, test, in batches of 1, 7 and 8" in text
    assert "difference at most 0, of scores up to" in text
    assert "labels 16 of 16 the same" in text


def test_another_program_gets_the_same_answers(here: Path, digits_run: Trained) -> None:
    """With numpy, Pillow and onnxruntime, from an image file and what the ONNX file says of itself, as `cnn predict` answers."""
    from cnncli.data.source import open_source

    source = open_source("digits")
    files = []
    for number, sample in enumerate(source.samples("test")[::30]):
        files.append(f"{number}.png")
        source.read(sample).save(here / files[-1])
    export(here, digits_run.folder, "-o", "m.onnx", "--with-preprocessing", "--softmax")
    said = metadata(here / "m.onnx")
    preprocess, classes = json.loads(said["preprocessing"]), json.loads(said["classes"])
    assert (said["preprocessing_inside"], preprocess["channels"], preprocess["crop_fraction"]) == ("normalisation", 1, 1)
    size = preprocess["width"], preprocess["height"]
    pixels = np.stack([np.asarray(Image.open(here / file).convert("L").resize(size, Image.Resampling.BILINEAR))[None] for file in files])
    session = onnxruntime.InferenceSession(str(here / "m.onnx"), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"image": pixels})
    done = run("predict", digits_run.folder, *files, "--json", "--top", "1", cwd=here, warm=True)
    for line, row in zip(done.out.splitlines(), probabilities, strict=True):
        (guess,) = json.loads(line)["predictions"]
        assert guess["class"] == classes[row.argmax()]
        assert guess["probability"] == pytest.approx(row.max(), rel=1e-4)


def test_torch_export(here: Path, digits_run: Trained) -> None:
    found = export(here, digits_run.folder, "-o", "m.pt2", "--json").json
    assert (found["format"], found["opset"], found["check"]["by"]) == ("torch-export", None, "torch.export")
    assert (found["check"]["difference"], found["check"]["same_labels"]) == (0, 16)
    model, _ = load(digits_run.best)
    extra = {"cnncli.json": ""}
    program = torch.export.load(here / "m.pt2", extra_files=extra).module()
    for count in (1, 2, 9):
        images = torch.randn(count, 1, 32, 32)
        with torch.inference_mode():
            assert torch.equal(program(images), model(images))
    assert json.loads(json.loads(extra["cnncli.json"])["classes"]) == list("0123456789")


def test_names_and_formats(here: Path, digits_run: Trained) -> None:
    """Without -o a file has the name of the run, or of the model file; the suffix says the format, or --format does."""

    def target(model: Path | str, out: str | None = None, kind: str | None = None) -> tuple[str, str]:
        path, found = target_of(resolve(str(model)), None if out is None else Path(out), kind)
        return str(path), found

    shutil.copy(digits_run.best, here / "mine.safetensors")
    assert target(digits_run.folder) == ("run.onnx", "onnx")
    assert target(digits_run.best, kind="torch-export") == ("run.pt2", "torch-export")
    assert target(here / "mine.safetensors") == ("mine.onnx", "onnx")
    assert target("alexnet") == ("alexnet.onnx", "onnx")
    assert target("timm/resnet50.a1_in1k") == ("resnet50.a1_in1k.onnx", "onnx")
    assert target("alexnet", "new/M.PT2") == ("new/M.PT2", "torch-export")
    assert target("alexnet", "m", "onnx") == ("m", "onnx")
    assert export(here, digits_run.folder, "--format", "torch-export", "--json").json["file"] == "run.pt2"
    assert export(here, digits_run.folder, "-o", "new/folder/m", "--format", "torch-export", "--json").json["file"] == "new/folder/m"
    assert (here / "new" / "folder" / "m").stat().st_size == (here / "run.pt2").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (("-o", "m.onx"), r"--out m\.onx ends in neither \.onnx nor \.pt2; end it so, or add --format"),
        (("-o", "m.onnx", "--format", "torch-export"), r"has the suffix of --format onnx, not torch-export"),
        (("--format", "onx"), r"--format 'onx' is not one of onnx, torch-export; did you mean onnx\?"),
        (("--tolerance", "-1"), r"--tolerance.*-1"),
    ],
)
def test_usage(arguments: tuple[str, ...], pattern: str, here: Path, digits_run: Trained) -> None:
    with unchanged(here):
        assert_failed(run("export", digits_run.folder, *arguments, cwd=here, warm=True), 2, pattern)


def test_images_to_check_with(here: Path, folder_run: tuple[Trained, Path]) -> None:
    """Those that the model was trained on; those that are named; and digits where neither can be had, which is told."""
    trained, data = folder_run
    own = export(data.parent, trained.folder, "-o", here / "a.pt2", "--json").json["check"]  # the data's path in the run is relative
    assert own["data"] == "data, val"
    named = export(here, trained.folder, "-o", "b.pt2", "--data", data, "--json").json["check"]
    assert named == own
    assert (named["images"], sum(named["batches"]), named["batches"][0]) == (named["same_labels"], named["images"], 1)
    shutil.copy(trained.best, here / "alone.safetensors")
    told = "note: what alone.safetensors was trained on is not at hand; checking with digits\n"
    assert export(here, "alone.safetensors", "-o", "c.pt2", "--json", err=told).json["check"]["data"] == "digits, test"
    done = run("export", trained.folder, "-o", "d.onnx", "--data", "nowhere", cwd=here, warm=True)
    assert_failed(done, 3, "no such data: 'nowhere'")
    assert not (here / "d.onnx").exists()


def test_a_net_of_the_zoo_with_weights(here: Path) -> None:
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    module = squeezenet1_1(weights=None).eval()
    torch.save(module.state_dict(), here / "w.pth")
    done = run("export", "squeezenet1_1", "--weights", "w.pth", "-o", "s.onnx", "--opset", "20", cwd=here, warm=True)
    assert done.code == 0, done.err
    session = onnxruntime.InferenceSession(str(here / "s.onnx"), providers=["CPUExecutionProvider"])
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(session.run(None, {"image": images.numpy()})[0]), module(images), rtol=1e-4, atol=1e-4)
    assert len(json.loads(metadata(here / "s.onnx")["classes"])) == 1000
    assert_failed(run("export", "squeezenet1_1", cwd=here, warm=True), 2, "squeezenet1_1 has no trained weights")
