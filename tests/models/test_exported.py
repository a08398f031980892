"""A file gets its name only when it computes what the model does."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnncli.arch.blocks import chain
from cnncli.arch.layers import Flatten, Linear
from cnncli.arch.net import Net
from cnncli.data.preprocess import Preprocess
from cnncli.errors import CnnError, EnvironmentFault
from cnncli.models import exported
from cnncli.models.assemble import assemble
from cnncli.models.export import Deployed, capture, data_file_of, describe, save_onnx, to_onnx, to_torch_export
from cnncli.models.exported import Agreement, Differs, compare, run_onnx, run_program, write_checked
from cnncli.models.modelfile import ModelInfo

NET = Net("small", chain(flatten=Flatten(), fc=Linear(400)), (1, 2, 2), 400)


@cache
def made() -> tuple[nn.Module, Deployed, dict[str, str]]:
    torch.manual_seed(0)
    model = assemble(NET).eval()
    nn.init.normal_(model.fc.bias)
    info = ModelInfo(NET, tuple(map(str, range(400))), Preprocess(1, 2, 2))
    module = Deployed(model, info.preprocess, pixels=False, softmax=False).eval()
    return model, module, describe(info, module)


# ---- the comparison ----

ROWS = st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_agreement_is_what_numpy_says(one: list[list[float]], other: list[list[float]]) -> None:
    count = min(len(one), len(other))
    ours, theirs = np.array(one[:count], dtype=np.float32), np.array(other[:count], dtype=np.float32)
    places = torch.arange(count)
    found = compare(lambda i: torch.from_numpy(ours)[i], lambda i: torch.from_numpy(theirs)[i], places, (1, 2, 3))
    assert found.difference == np.abs(ours - theirs).max()
    assert found.largest == np.abs(ours).max()
    assert found.agree == (ours.argmax(1) == theirs.argmax(1)).sum()
    assert found.images == count
    assert found.batches == {1: (1,), 2: (1, 1), 3: (1, 2), 4: (1, 2, 1), 5: (1, 2, 2), 6: (1, 2, 3)}[count]


@pytest.mark.parametrize(
    ("difference", "largest", "agree", "holds"),
    [
        (0.0, 5.0, 8, True),
        (9e-4, 10.0, 8, True),
        (1.1e-3, 10.0, 8, False),
        (9e-5, 0.01, 8, True),  # small outputs are measured against 1
        (1.1e-4, 0.01, 8, False),
        (0.0, 5.0, 7, False),
        (float("nan"), 5.0, 8, False),
        (float("nan"), float("nan"), 8, False),
        (float("inf"), float("inf"), 8, True),
    ],
)
def test_what_counts_as_the_same(difference: float, largest: float, agree: int, holds: bool) -> None:
    assert Agreement(difference, largest, (8,), agree).holds(1e-4) == holds


def test_other_shapes() -> None:
    with pytest.raises(CnnError, match=r"outputs of shape \[2, 4\], the model \[2, 3\]"):
        compare(lambda i: torch.zeros(len(i), 3), lambda i: torch.zeros(len(i), 4), torch.arange(2), (2,))


# ---- a name for what is right ----


def put(text: str) -> object:
    return lambda path, _: path.write_text(text)


def no(error: BaseException) -> object:
    def check(_: Path) -> None:
        raise error

    return check


def listed(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_check_sees_the_file_before_it_has_its_name(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("old")
    seen = []
    write_checked(target, None, put("new"), lambda path: seen.append((path.read_text(), target.read_text(), path.suffix)))
    assert seen == [("new", "old", ".onnx")]
    assert listed(tmp_path) == {"net.onnx": "new"}


def test_what_differs_is_kept_as_failed(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("old")
    (tmp_path / "net.onnx.failed").write_text("of an earlier call")
    with pytest.raises(Differs):
        write_checked(target, None, put("new"), no(Differs("differs")))
    assert listed(tmp_path) == {"net.onnx": "old", "net.onnx.failed": "new"}


@pytest.mark.parametrize("error", [CnnError("no"), KeyboardInterrupt(), MemoryError(), OSError(28, "No space left on device")])
def test_after_anything_else_nothing_is_left(error: BaseException, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("old")
    with pytest.raises(EnvironmentFault if isinstance(error, OSError) else type(error)):
        write_checked(target, None, put("new"), no(error))
    with pytest.raises(EnvironmentFault if isinstance(error, OSError) else type(error)):
        write_checked(target, tmp_path / "net.onnx.data", lambda *paths: [path.write_text("new") for path in paths], no(error))
    assert listed(tmp_path) == {"net.onnx": "old"}


@cache
def graph() -> object:
    _, module, described = made()
    return to_onnx(capture(module), module, described)


def large(tmp_path: Path, check: object) -> tuple[Path, nn.Module]:
    """Written as if a file could hold no weights."""
    model, module, _ = made()
    target = tmp_path / "net.onnx"
    data = data_file_of(module, target, most=100)
    assert data == tmp_path / "net.onnx.data"
    write_checked(target, data, lambda path, weights: save_onnx(graph(), path, weights), check)
    return target, model


def test_weights_that_do_not_fit_lie_beside_it(tmp_path: Path) -> None:
    images, seen = torch.randn(3, 1, 2, 2), []
    target, model = large(tmp_path, lambda path: seen.append(run_onnx(path)(images)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert target.stat().st_size < 6000
    assert (tmp_path / "net.onnx.data").stat().st_size >= 400 * 5 * 4
    with torch.inference_mode():
        torch.testing.assert_close(run_onnx(target)(images), model(images), rtol=1e-5, atol=1e-5)
    assert torch.equal(seen[0], run_onnx(target)(images))
    places = {entry.value for tensor in onnx.load(target, load_external_data=False).graph.initializer for entry in tensor.external_data
              if entry.key == "location"}  # fmt: skip
    assert places == {"net.onnx.data"}


def test_a_failed_file_keeps_its_weights(tmp_path: Path) -> None:
    with pytest.raises(Differs):
        large(tmp_path, no(Differs("differs")))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx.failed", "net.onnx.failed.data"]
    run_onnx(tmp_path / "net.onnx.failed")(torch.randn(3, 1, 2, 2))


def test_most_models_are_one_file(tmp_path: Path) -> None:
    _, module, _ = made()
    assert data_file_of(module, tmp_path / "net.onnx") is None
    size = (4 * 400 + 400) * 4
    assert data_file_of(module, tmp_path / "net.onnx", most=size) is None
    assert data_file_of(module, tmp_path / "net.onnx", most=size - 1) is not None
    with torch.device("meta"):
        assert data_file_of(nn.Linear(2**15, 2**14), tmp_path / "net.onnx") is not None


# ---- what is run ----


def test_a_file_that_onnxruntime_does_not_take(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model")
    with pytest.raises(CnnError, match="onnxruntime does not take the file: ") as raised:
        run_onnx(tmp_path / "net.onnx")
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_the_program_as_torch_loads_it(tmp_path: Path) -> None:
    """The package never loads such a file; this test does, and finds what was compared in memory."""
    model, module, described = made()
    program = capture(module)
    to_torch_export(program, tmp_path / "net.pt2", described)
    images = torch.randn(8, 1, 2, 2)
    with torch.inference_mode():
        wanted = model(images)
        assert torch.equal(run_program(tmp_path / "net.pt2", program)(images), wanted)
        assert torch.equal(torch.export.load(tmp_path / "net.pt2").module()(images), wanted)
        assert torch.equal(torch.export.load(tmp_path / "net.pt2").module()(images[:1]), model(images[:1]))


def test_a_damaged_program_is_found(tmp_path: Path) -> None:
    _, module, described = made()
    program, path = capture(module), tmp_path / "net.pt2"
    to_torch_export(program, path, described)
    content = path.read_bytes()
    weights = program.state_dict["model.fc.weight"].detach().numpy().tobytes()
    place = content.index(weights[:400])
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(CnnError, match=r"net\.pt2 is damaged: "):
        run_program(path, program)
    path.write_bytes(content)
    program.state_dict["model.fc.weight"] = program.state_dict["model.fc.weight"] + 1
    with pytest.raises(CnnError, match=r"does not hold model\.fc\.weight as it is"):
        run_program(path, program)


@pytest.mark.parametrize("package", exported.PACKAGES)
def test_a_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentFault, match=f"ONNX needs the package {package}") as raised:
        exported.need_onnx()
    assert raised.value.hint == 'pip install "cnncli[onnx]"'
