"""`cnn predict`: order, forms of input, and the same pixels as training and evaluation saw."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
from harness import Trained, assert_failed, png, run, tree, unchanged
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture
def digits(here: Path) -> tuple[list[str], list[int]]:
    """Some test digits as files, in an order that is not theirs; and their labels."""
    from cnncli.data.source import open_source

    source = open_source("digits")
    samples = list(source.samples("test"))[::9][::-1]
    (here / "images").mkdir()
    names = []
    for number, sample in enumerate(samples):
        names.append(f"images/{number:02d}.png")
        source.read(sample).save(here / names[-1])
    return names, [sample.label for sample in samples]


def records(here: Path, run_folder: Path, *arguments: str, stdin: bytes = b"") -> list[dict[str, object]]:
    done = run("predict", run_folder, *arguments, "--json", cwd=here, stdin=stdin, warm=True)
    assert done.code == 0, done.err
    assert done.err == ""
    return [json.loads(line) for line in done.out.splitlines()]


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """The same classes, and the same probabilities but for rounding."""
    guesses = [(a, b) for a, b in zip(one["predictions"], other["predictions"], strict=True)]
    return all(a["class"] == b["class"] and abs(a["probability"] - b["probability"]) < 1e-6 for a, b in guesses)


def test_json_lines(here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    found = records(here, digits_run.folder, *names)
    assert [record["path"] for record in found] == names
    for record in found:
        assert list(record) == ["path", "predictions"]
        assert [list(guess) for guess in record["predictions"]] == [["class", "probability"]] * 5
        probabilities = [guess["probability"] for guess in record["predictions"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(0 <= p <= 1 for p in probabilities)
    for record in records(here, digits_run.folder, *names, "--top", "99"):
        assert len(record["predictions"]) == 10
        assert sum(guess["probability"] for guess in record["predictions"]) == pytest.approx(1, abs=1e-5)


def test_the_same_answer_as_evaluation(here: Path, digits_run: Trained, digits) -> None:
    """Label and probability are those that the evaluation path computes for the same samples, to the last bit of the pixels."""
    import torch

    from cnncli.data.loader import Loader
    from cnncli.data.pixels import load_pixels
    from cnncli.data.source import open_source
    from cnncli.engine.infer import scores
    from cnncli.models.modelfile import load

    names, labels = digits
    model, info = load(digits_run.best)
    source = open_source("digits")
    pixels = load_pixels(source, "test", info.preprocess)
    found = torch.cat(list(scores(model, (batch.images for batch in Loader(pixels, info.preprocess, batch_size=256).epoch(0)))))
    expected = found.softmax(1)[::9].flip(0)
    truth = pixels.labels[::9].flip(0)
    assert truth.tolist() == labels
    predicted = records(here, digits_run.folder, *names)
    for record, row in zip(predicted, expected, strict=True):
        best = record["predictions"][0]
        assert best["class"] == str(int(row.argmax()))
        assert best["probability"] == pytest.approx(row.max().item(), rel=1e-5)
    for name, seen in zip(names, pixels.images[::9].flip(0), strict=True):
        with Image.open(here / name) as image:
            assert torch.equal(torch.tensor(info.preprocess.pixels(image.convert("L"))), seen)


def test_forms_of_input(here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    files = records(here, digits_run.folder, *names)
    assert records(here, digits_run.folder, "images") == files
    assert records(here, digits_run.folder, "images/") == files
    assert records(here, digits_run.folder, "images/*.png") == files
    few = records(here, digits_run.folder, "**/0[0-4].png")
    assert [record["path"] for record in few] == names[:5]
    for record, other in zip(few, files, strict=False):  # a batch of another size rounds otherwise
        assert alike(record, other)
    listed = "\n".join(names).encode()
    assert records(here, digits_run.folder, "-", stdin=listed) == files
    assert records(here, digits_run.folder, "-", stdin=listed.replace(b"\n", b"\r\n\r\n") + b"\n") == files
    single = records(here, digits_run.folder, "-", stdin=(here / names[3]).read_bytes())
    assert [record["path"] for record in single] == ["-"]
    assert alike(single[0], files[3])
    mixed = records(here, digits_run.folder, names[7], "images/0[12].png", names[7], "images/00.png")
    assert [record["path"] for record in mixed] == [names[7], names[1], names[2], names[7], names[0]]
    assert mixed[0] == mixed[3]
    assert alike(mixed[0], files[7])


@pytest.mark.parametrize("size", ["1", "7", "64"])
def test_batch_size_does_not_change_the_result(size: str, here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    reference = records(here, digits_run.folder, *names)
    for one, other in zip(records(here, digits_run.folder, *names, "--batch-size", size), reference, strict=True):
        assert alike(one, other)


def test_text_lines(here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    done = run("predict", digits_run.folder, *names, "--top", "2", cwd=here, warm=True)
    assert done.code == 0
    for line, record in zip(done.out.splitlines(), records(here, digits_run.folder, *names, "--top", "2"), strict=True):
        told = ", ".join(f"{guess['class']} {guess['probability']:.1%}" for guess in record["predictions"])
        assert line == f"{record['path']}: {told}"


def test_max_pixels(here: Path, digits_run: Trained) -> None:
    (here / "x.png").write_bytes(png())
    done = run("predict", digits_run.folder, "x.png", "--max-pixels", "63", cwd=here, warm=True)
    assert done.code == 3
    assert "8 x 8 pixels, more than 63" in done.err
    assert run("predict", digits_run.folder, "x.png", "--max-pixels", "64", cwd=here, warm=True).code == 0


def test_real_process(here: Path, digits_run: Trained, digits) -> None:
    """Once from the installed command, imports and all."""
    names, _ = digits
    done = run("predict", digits_run.folder, "images", "--json", cwd=here)
    assert done.code == 0, done.err
    assert [json.loads(line)["path"] for line in done.out.splitlines()] == names


@pytest.mark.parametrize(("net", "gain"), [("resnet18", 1.5), ("googlenet", 2.3)])
def test_weights_of_torchvision_give_its_answers(net: str, gain: float, here: Path) -> None:
    """From image file to class names and probabilities: the command against torchvision's own module, transform and categories."""
    import torch
    from torchvision.models import get_model, get_model_weights

    torch.manual_seed(0)
    options = {"init_weights": False, "transform_input": True} if net == "googlenet" else {}
    module = get_model(net, weights=None, **options)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif tensor.ndim > 1:  # so that the answer depends on the image
            tensor.normal_(std=(gain / tensor[0].numel()) ** 0.5)
    torch.save(module.state_dict(), here / "weights.pth")
    weights = get_model_weights(net).IMAGENET1K_V1
    names = []
    for number, size in enumerate([(300, 400), (500, 240), (224, 224)]):
        names.append(f"{number}.png")
        patches = np.random.default_rng(number).integers(0, 256, (5, 4, 3), dtype=np.uint8)
        Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC).save(here / names[-1])
    done = run("predict", net, "--weights", "weights.pth", *names, "--json", cwd=here, warm=True)
    assert done.code == 0, done.err
    assert f"assumed: classes those of ImageNet, images prepared as for {weights}" in done.err
    with torch.inference_mode():
        batch = torch.stack([weights.transforms()(Image.open(here / name)) for name in names])
        expected = module.eval()(batch).softmax(1).topk(5)
    assert (expected.values.std(0) / expected.values.mean(0)).min() > 0.01, "the answer hardly depends on the image"
    for line, values, indices in zip(done.out.splitlines(), expected.values, expected.indices, strict=True):
        guesses = json.loads(line)["predictions"]
        assert [guess["class"] for guess in guesses] == [weights.meta["categories"][i] for i in indices]
        assert [guess["probability"] for guess in guesses] == pytest.approx(values.tolist(), rel=1e-4)


# ---- forms of output ----


def test_csv(here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    done = run("predict", digits_run.folder, *names, "--csv", "--top", "2", cwd=here, warm=True)
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert list(rows[0]) == ["path", "class", "probability", "class2", "probability2", "error"]
    for row, record in zip(rows, records(here, digits_run.folder, *names, "--top", "2"), strict=True):
        first, second = record["predictions"]
        assert (row["path"], row["class"], row["class2"], row["error"]) == (record["path"], first["class"], second["class"], "")
        assert float(row["probability"]) == pytest.approx(first["probability"], abs=6e-7)
        assert float(row["probability2"]) == pytest.approx(second["probability"], abs=6e-7)


def test_out(here: Path, digits_run: Trained, digits) -> None:
    """The file holds what standard output would, and standard output nothing."""
    for flag, name in (("--csv", "deep/a.csv"), ("--json", "a.jsonl"), ("--csv", "a.txt")):
        shown = run("predict", digits_run.folder, "images", flag, cwd=here, warm=True)
        done = run("predict", digits_run.folder, "images", "-o", name, *([flag] if name == "a.txt" else []), cwd=here, warm=True)
        assert (done.code, done.out) == (0, "")
        assert re.fullmatch(rf"wrote {name}: 40 images, [\d,]+ a second \(fp32.*\)\n", done.err)
        assert (here / name).read_text() == shown.out
    with unchanged(here):
        assert_failed(
            run("predict", digits_run.folder, "images", "-o", "a.jsonl", cwd=here, warm=True), 2, r"a.jsonl exists; .*--overwrite"
        )
    assert run("predict", digits_run.folder, "images", "-o", "a.jsonl", "--overwrite", "--top", "1", cwd=here, warm=True).code == 0
    assert len(json.loads((here / "a.jsonl").read_text().splitlines()[0])["predictions"]) == 1


WRONG = {
    "two forms": (["--csv", "--json"], "--csv and --json"),
    "another suffix": (["-o", "x.csv", "--json"], r"--out x\.csv would hold JSON; .*x\.jsonl"),
    "unknown suffix": (["-o", "x.txt"], r"--out x\.txt should end in \.csv or \.jsonl"),
    "a folder": (["-o", "images", "--csv"], "--out images is a folder"),
    "views": (["--tta", "flip"], "--tta 'flip' is not one of .*did you mean flips"),
    "a share": (["--threshold", "50"], "--threshold.*50"),
    "a file": (["--copy-to", "images/00.png"], "--copy-to images/00.png is a file"),
    "bars and JSON": (["--bars", "--json"], "--bars draws for people"),
    "sorted into itself": (["--copy-to", "."], "images is where sorted images go"),
}


@pytest.mark.parametrize("name", WRONG)
def test_refused_before_any_work(name: str, here: Path, digits_run: Trained, digits) -> None:
    flags, pattern = WRONG[name]
    with unchanged(here):
        done = run("predict", digits_run.folder, "images", *flags, cwd=here, warm=True)
        assert_failed(done, 2, pattern, json_out="--json" in flags)


@pytest.mark.parametrize("columns", ["20", "80", "140"])
def test_bars(columns: str, here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    done = run("predict", digits_run.folder, *names[:2], "--bars", "--top", "3", cwd=here, warm=True, COLUMNS=columns)
    assert (done.code, done.err) == (0, "")
    first, second = done.out.split("\n\n")
    for text, record in zip((first, second), records(here, digits_run.folder, *names[:2], "--top", "3"), strict=True):
        lines = text.splitlines()
        assert lines[0] == record["path"]
        for line, guess in zip(lines[1:], record["predictions"], strict=True):
            assert line.split()[:2] == [guess["class"], f"{guess['probability']:.1%}"]
            assert len(line) <= int(columns)


def on_a_terminal(here: Path, *arguments: str | Path, **variables: str) -> tuple[int, str]:
    """The exit code, and what a terminal of 60 columns is sent."""
    import pty
    import subprocess

    ours, theirs = pty.openpty()
    env = harness.environment(COLUMNS="60", TERM="xterm", **variables)
    process = subprocess.Popen([harness.COMMAND, "predict", *map(str, arguments)], cwd=here, env=env, stdout=theirs, stderr=theirs)
    os.close(theirs)
    sent = b""
    while True:
        try:
            sent += os.read(ours, 2**16)
        except OSError:  # the other end has closed
            break
    os.close(ours)
    return process.wait(), sent.decode().replace("\r\n", "\n")


def test_a_terminal_gets_bars_for_a_few_images(here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    code, sent = on_a_terminal(here, digits_run.folder, names[0])
    assert code == 0
    assert "█" in sent
    assert "\x1b[" in sent
    code, sent = on_a_terminal(here, digits_run.folder, *names[:5])
    assert [line.split(":")[0] for line in sent.splitlines()] == names[:5]
    assert "\x1b" not in sent


# ---- what is uncertain, and copies ----


def test_threshold(here: Path, digits_run: Trained, digits) -> None:
    plain = records(here, digits_run.folder, "images")
    middle = sorted(record["predictions"][0]["probability"] for record in plain)[len(plain) // 2]
    found = records(here, digits_run.folder, "images", "--threshold", str(middle))
    for record, without in zip(found, plain, strict=True):
        assert list(record) == ["path", "predictions", "accepted"]
        assert record["predictions"] == without["predictions"], "nothing is lost"
        assert record["accepted"] == (record["predictions"][0]["probability"] >= middle)
    assert 0 < sum(record["accepted"] for record in found) < len(found)
    lines = run("predict", digits_run.folder, "images", "--threshold", str(middle), cwd=here, warm=True).out.splitlines()
    assert [": uncertain, " not in line for line in lines] == [record["accepted"] for record in found]


def test_copies(here: Path, digits_run: Trained, digits) -> None:
    (here / "images" / "more").mkdir()
    (here / "images" / "more" / "00.png").write_bytes((here / "images" / "01.png").read_bytes())
    (here / "images" / "broken.png").write_bytes(b"no")
    arguments = ("predict", digits_run.folder, ".", "--threshold", "0.5", "--json", "--copy-to", "sorted")
    with unchanged(here / "images"):
        done = run(*arguments, cwd=here, warm=True)
    assert done.code == 5, done.err
    found = [json.loads(line) for line in done.out.splitlines()]
    assert len(found) == 42
    copied = [record for record in found if "error" not in record]
    for record in copied:
        kept = Path(record["copied"])
        assert kept.parent == Path("sorted", record["predictions"][0]["class"] if record["accepted"] else "uncertain")
        assert (here / kept).read_bytes() == (here / record["path"]).read_bytes()
    assert not list((here / "sorted").rglob("broken*"))
    assert re.search(r"^copied 41 images into sorted: \d+ into \d+ classes", done.err, re.MULTILINE)
    before = tree(here / "sorted")
    again = run(*arguments, cwd=here, warm=True)
    assert again.out == done.out, "the copies are not looked at, and not made twice"
    assert "copied 0 images into sorted; 41 more were there" in again.err
    assert tree(here / "sorted") == before


def test_copy_of_a_pipe(here: Path, digits_run: Trained) -> None:
    done = run("predict", digits_run.folder, "-", "--copy-to", "out", "--json", cwd=here, stdin=png(), warm=True)
    assert done.code == 0, done.err
    assert Path(done.json["copied"]).name == "stdin.png"
    assert (here / done.json["copied"]).read_bytes() == png()


# ---- how it is computed ----


def test_views_and_numbers(here: Path, digits_run: Trained, digits) -> None:
    """Each against the engine's own functions."""
    import torch

    from cnncli.engine.infer import scores
    from cnncli.models.modelfile import load

    names, _ = digits
    model, info = load(digits_run.best)
    images = torch.stack([torch.tensor(info.preprocess.pixels(Image.open(here / name))) for name in names])
    for views in ("flips", "shifts"):
        expected = next(scores(model, [info.preprocess.normalise(images)], views)).softmax(1).max(1).values
        found = [record["predictions"][0]["probability"] for record in records(here, digits_run.folder, "images", "--tta", views)]
        assert found == pytest.approx(expected.tolist(), rel=1e-4)
    plain = [record["predictions"][0]["probability"] for record in records(here, digits_run.folder, "images")]
    half = [record["predictions"][0]["probability"] for record in records(here, digits_run.folder, "images", "--precision", "bf16")]
    assert half != plain
    assert half == pytest.approx(plain, abs=0.05)
    done = run("predict", digits_run.folder, "images", "--tta", "ten-crop", cwd=here, warm=True)
    assert_failed(done, 2, "--tta ten-crop needs a margin")
