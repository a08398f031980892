"""`cnn predict`: order, forms of input, and the same pixels as training and evaluation saw."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import Trained, png, run

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
    from PIL import Image

    for name, seen in zip(names, pixels.images[::9].flip(0), strict=True):
        with Image.open(here / name) as image:
            assert torch.equal(torch.tensor(info.preprocess.pixels(image.convert("L"))), seen)


def test_forms_of_input(here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    files = records(here, digits_run.folder, *names)
    assert records(here, digits_run.folder, "images") == files
    assert records(here, digits_run.folder, "images/") == files
    assert records(here, digits_run.folder, "images/*.png") == files
    assert records(here, digits_run.folder, "**/0[0-4].png") == files[:5]
    listed = "\n".join(names).encode()
    assert records(here, digits_run.folder, "-", stdin=listed) == files
    assert records(here, digits_run.folder, "-", stdin=listed.replace(b"\n", b"\r\n\r\n") + b"\n") == files
    single = records(here, digits_run.folder, "-", stdin=(here / names[3]).read_bytes())
    assert [record["path"] for record in single] == ["-"]
    for one, other in zip(single[0]["predictions"], files[3]["predictions"], strict=True):
        assert one["class"] == other["class"]
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-6)  # a batch of one rounds otherwise
    mixed = records(here, digits_run.folder, names[7], "images/0[12].png", names[7], "images/00.png")
    assert [record["path"] for record in mixed] == [names[7], names[1], names[2], names[7], names[0]]
    assert mixed[0] == mixed[3] == files[7]


@pytest.mark.parametrize("size", ["1", "7", "64"])
def test_batch_size_does_not_change_the_result(size: str, here: Path, digits_run: Trained, digits) -> None:
    names, _ = digits
    reference = records(here, digits_run.folder, *names)
    for one, other in zip(records(here, digits_run.folder, *names, "--batch-size", size), reference, strict=True):
        assert [guess["class"] for guess in one["predictions"]] == [guess["class"] for guess in other["predictions"]]
        assert [g["probability"] for g in one["predictions"]] == pytest.approx([g["probability"] for g in other["predictions"]], abs=1e-6)


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
