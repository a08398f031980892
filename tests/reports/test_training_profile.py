"""What is said of a measured step: its parts, what bounds it, what to try."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from cnncli.engine.profiling import PARTS, Profile
from cnncli.reports.profile import MEANING, bound, share_of, show_profile

# 64 images of 1e9 MACs, three passes of that size, in 60 ms: 3.2e12 MACs a second.
GPU = Profile(
    {"data": 0.001, "transfer": 0.001, "forward": 0.02, "backward": 0.04, "step": 0.002, "other": 0.001}, 64, 10**9, device="cuda"
)


def test_figures() -> None:
    assert set(MEANING) == set(PARTS)
    assert GPU.total == pytest.approx(0.065)
    assert GPU.images_per_second == pytest.approx(64 / 0.065)
    assert GPU.macs_per_second == pytest.approx(3.2e12)
    assert replace(GPU, peak_macs=6.4e12).peak_share == pytest.approx(0.5)
    assert GPU.peak_share is None
    assert replace(GPU, traffic=0.06e12, bandwidth=2e12).bandwidth_share == pytest.approx(0.5)
    assert replace(GPU, bandwidth=2e12).bandwidth_share is None
    assert share_of(GPU, "forward", "backward") == pytest.approx(60 / 65)


def test_nothing_measured() -> None:
    empty = Profile({}, 64, 10**9, peak_macs=1e12, bandwidth=1e9, traffic=1.0)
    assert (empty.images_per_second, empty.macs_per_second, empty.bandwidth_share) == (0, 0, None)
    assert bound(empty) == "Nothing was measured."


@pytest.mark.parametrize(
    ("changes", "words", "advice"),
    [
        ({"seconds": GPU.seconds | {"data": 0.05}}, "Data-bound: 44% of a step waits", "--workers"),
        ({"seconds": GPU.seconds | {"transfer": 0.05}}, "Transfer-bound: 44% of a step", "--store memory"),
        ({"seconds": GPU.seconds | {"other": 0.05}}, "Overhead-bound: 44% of a step", "--batch-size"),
        ({"seconds": GPU.seconds | {"step": 0.05}}, "Bound by the optimizer", "--batch-size"),
        ({}, "The net takes 92% of a step; how near", "--precision bf16"),
        ({"peak_macs": 4e12}, "Compute-bound: the net reaches 80% of the measured peak.", "--precision bf16"),
        ({"peak_macs": 4e12, "precision": "bf16"}, "Compute-bound: the net reaches 80%", "fewer MACs"),
        ({"peak_macs": 32e12}, "Memory- or overhead-bound: the net reaches 10%", "--batch-size"),
        (
            {"peak_macs": 32e12, "bandwidth": 2e12, "traffic": 0.1e12},
            "Memory-bound: the net needs 83% of the measured bandwidth",
            "--compile",
        ),
        ({"peak_macs": 32e12, "bandwidth": 2e12, "traffic": 0.01e12}, "Overhead-bound: the net reaches 10%", "--batch-size"),
        ({"peak_macs": 8e12, "bandwidth": 2e12, "traffic": 0.01e12}, "Compute-bound in part: the net reaches 40%", "--batch-size"),
    ],
)
def test_bounds(changes: dict[str, object], words: str, advice: str) -> None:
    said = bound(replace(GPU, **changes))  # type: ignore[arg-type]
    assert said.startswith(words)
    assert advice in said


@pytest.mark.parametrize("columns", [20, 80, 140])
def test_table(columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show_profile(replace(GPU, peak_macs=4e12, precision="fp32"))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    text = " ".join(out.split())
    assert "64 images a step, 985 images/s, on cuda in fp32; forward and backward 3.2 T MACs/s of 4 T measured" in text
    if columns > 20:
        assert "backward 40.00 62% ████████████▌ gradients" in text


def test_a_poor_encoding_gets_ascii(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "encoding", "ascii", raising=False)
    show_profile(GPU)
    assert "####" in capsys.readouterr().out
