"""Sizes, crops and numbers as torchvision has them; and what a hostile model file may not say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from cnncli.data.preprocess import MAX_SIDE, Preprocess, background_of, measure
from cnncli.errors import InputError, UsageError


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, shape, dtype=np.uint8))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(320, 240), (240, 321), (500, 333), (224, 224), (100, 80)])
def test_resize_and_crop_agree_with_torchvision(size: tuple[int, int], interpolation: str) -> None:
    from torchvision.transforms import v2

    image = photo(*size)
    mode = v2.InterpolationMode(interpolation)
    want = np.asarray(v2.CenterCrop(224)(v2.Resize(256, interpolation=mode)(image))).transpose(2, 0, 1)
    got = Preprocess(3, 224, 224, crop_fraction=0.875, interpolation=interpolation).pixels(image)
    np.testing.assert_array_equal(got, want)


def test_strips_are_cut_by_the_same_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only the cut is computed, Pillow may resize the two directions in the other order, so rounding differs."""
    image = Image.fromarray(np.linspace(0, 255, 900 * 300).reshape(300, 900).astype(np.uint8))
    whole = Preprocess(1, 32, 32).pixels(image)
    monkeypatch.setattr("cnncli.data.preprocess.THIN", 0)
    assert np.abs(Preprocess(1, 32, 32).pixels(image).astype(int) - whole).max() <= 1


def test_same_size_is_untouched_and_contiguous() -> None:
    image = photo(32, 32)
    got = Preprocess(3, 32, 32).pixels(image)
    np.testing.assert_array_equal(got, np.asarray(image).transpose(2, 0, 1))
    assert got.flags.c_contiguous
    assert got.dtype == np.uint8


def test_stretch_keeps_all_of_the_image() -> None:
    image = photo(50, 20)
    got = Preprocess(3, 32, 32, resize="stretch").pixels(image)
    np.testing.assert_array_equal(got, np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1))


def test_a_crop_keeps_the_middle_of_a_wide_image() -> None:
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = 200
    got = Preprocess(3, 10, 10).pixels(Image.fromarray(wide))
    np.testing.assert_array_equal(got, 200)


def test_oblong_inputs_are_covered() -> None:
    for size in ((7, 90), (90, 7), (33, 32)):
        assert Preprocess(1, 20, 50, crop_fraction=0.9).pixels(photo(*size)).shape == (1, 20, 50)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (8, 8)])
def test_d24_tiny_and_thin_images(size: tuple[int, int]) -> None:
    assert Preprocess(3, 224, 224, crop_fraction=0.875).pixels(photo(*size, mode="L")).shape == (3, 224, 224)


def test_grey_and_colour_convert() -> None:
    assert Preprocess(1, 8, 8).pixels(photo(8, 8)).shape == (1, 8, 8)
    grey = Preprocess(3, 8, 8).pixels(photo(8, 8, mode="L"))
    assert (grey[0] == grey[2]).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_is_the_formula(channels: int) -> None:
    mean, std = (0.1, 0.4, 0.8)[:channels], (0.2, 0.3, 0.05)[:channels]
    batch = torch.randint(0, 256, (5, channels, 4, 6), dtype=torch.uint8)
    got = Preprocess(channels, 4, 6, mean=mean, std=std).normalise(batch)
    m, s = (torch.tensor(v, dtype=torch.float64).view(1, -1, 1, 1) for v in (mean, std))
    assert got.dtype == torch.float32
    assert got.is_contiguous()
    torch.testing.assert_close(got.double(), (batch.double() / 255 - m) / s, rtol=1e-6, atol=2e-6)


def test_default_mean_and_std_give_minus_one_to_one() -> None:
    got = Preprocess(1, 1, 2).normalise(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert got.flatten().tolist() == pytest.approx([-1, 1])


def test_measure_is_exact() -> None:
    images = torch.randint(0, 256, (700, 3, 5, 4), dtype=torch.uint8)
    mean, std = measure(images)
    values = images.double().transpose(0, 1).reshape(3, -1) / 255
    assert mean == pytest.approx(values.mean(1).tolist(), rel=1e-12)
    assert std == pytest.approx(values.std(1, correction=0).tolist(), rel=1e-12)
    assert measure(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)) == ((0.0,), (1 / 255,))


def test_json_round_trip() -> None:
    one = Preprocess(3, 224, 192, 0.875, "stretch", "bicubic", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert Preprocess.from_json(json.loads(json.dumps(one.to_json()))) == one
    assert Preprocess.from_json(Preprocess(1, 8, 8).to_json()) == Preprocess(1, 8, 8)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 2},
        {"channels": True},
        {"channels": "3"},
        {"height": 0},
        {"height": MAX_SIDE + 1},
        {"width": 10**12},
        {"width": 3.5},
        {"crop_fraction": 0},
        {"crop_fraction": math.nan},
        {"crop_fraction": "1"},
        {"crop_fraction": 10**400},
        {"resize": "os.system"},
        {"resize": ["crop"]},
        {"interpolation": "x" * 10**6},
        {"mean": [0.5]},
        {"mean": [math.nan] * 3},
        {"mean": [math.inf] * 3},
        {"mean": 0.5},
        {"mean": [0.5] * 10**6},
        {"mean": [[0.5]] * 3},
        {"std": [0.0] * 3},
        {"std": [-1.0] * 3},
        {"std": [math.nan, 1, 1]},
        {"std": []},
        {"extra": 1},
        {"__class__": "x\n"},
    ],
)
def test_hostile_values_are_refused_in_one_short_line(change: dict[str, object]) -> None:
    with pytest.raises(InputError) as caught:
        Preprocess.from_json({**Preprocess(3, 8, 8).to_json(), **change})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("obj", [None, [], "x", {}, {1: 2}])
def test_other_objects_are_refused(obj: object) -> None:
    with pytest.raises(InputError):
        Preprocess.from_json(obj)


def test_background_and_exif_of_the_first_model_files() -> None:
    """They do not say: it was white, and images were turned."""
    stored = Preprocess(3, 8, 8).to_json()
    del stored["background"], stored["exif"]
    opened = Preprocess.from_json(stored)
    assert (opened.background, opened.exif) == ((255, 255, 255), True)
    chosen = Preprocess(3, 8, 8, background=(1, 2, 3), exif=False)
    assert Preprocess.from_json(json.loads(json.dumps(chosen.to_json()))) == chosen
    how = chosen.decoding(99)
    assert (how.background, how.exif, how.max_pixels) == ((1, 2, 3), False, 99)


@pytest.mark.parametrize(
    "odd", [{"background": [1, 2]}, {"background": [0, 0, 256]}, {"background": "white"}, {"background": [True, 0, 0]}, {"exif": 1}]
)
def test_background_and_exif_of_a_hostile_file(odd: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"background|exif"):
        Preprocess.from_json(Preprocess(3, 8, 8).to_json() | odd)


@pytest.mark.parametrize(
    ("text", "want"), [("white", (255, 255, 255)), ("Black", (0, 0, 0)), ("#80ff00", (128, 255, 0)), ("teal", (0, 128, 128))]
)
def test_background_of(text: str, want: tuple[int, int, int]) -> None:
    assert background_of(text) == want


@pytest.mark.parametrize("text", ["blakc", "#12", "#12345g", "#11223344", "rgb(0,0,0)", "transparent", "", "\n", "\uff10"])
def test_what_is_no_background(text: str) -> None:
    with pytest.raises(UsageError, match="for example --background black") as caught:
        background_of(text)
    assert "\n" not in str(caught.value)
