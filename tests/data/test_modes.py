"""Golden pixels: files made byte by byte, and what must come out of them, written down or worked out by hand."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from handmade import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, gif, png, tiff
from PIL import Image

from cnncli.data.decode import BadImage, Decoding, decode
from cnncli.data.jpeg import decode_array

BLACK = Decoding(background=(0, 0, 0))


def words(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def little(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


COLOURS = (b"PLTE", bytes((10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120)))

# Grey is listed as numbers, colour as triples.
CASES = {
    "PNG grey 1 bit": (png(4, 1, GREY, [b"\x50"]), [0, 255, 0, 255]),
    "PNG grey 2 bits": (png(4, 2, GREY, [b"\x1b"]), [0, 85, 170, 255]),
    "PNG grey 4 bits": (png(4, 4, GREY, [b"\x01\x2f"]), [0, 17, 34, 255]),
    "PNG grey 8 bits": (png(3, 8, GREY, [b"\x00\x7f\xff"]), [0, 127, 255]),
    "PNG grey 16 bits": (png(4, 16, GREY, [words(0, 255, 256, 65535)]), [0, 0, 1, 255]),
    "PNG grey 1 bit, 0 transparent": (png(4, 1, GREY, [b"\x50"], (b"tRNS", words(0))), [255, 255, 255, 255]),
    "PNG grey 2 bits, 1 transparent": (png(4, 2, GREY, [b"\x1b"], (b"tRNS", words(1))), [0, 255, 170, 255]),
    "PNG grey 4 bits, 2 transparent": (png(4, 4, GREY, [b"\x01\x2f"], (b"tRNS", words(2))), [0, 17, 255, 255]),
    "PNG grey 8 bits, 127 transparent": (png(3, 8, GREY, [b"\x00\x7f\x80"], (b"tRNS", words(127))), [0, 255, 128]),
    "PNG grey 16 bits, 257 transparent": (png(3, 16, GREY, [words(256, 257, 258)], (b"tRNS", words(257))), [1, 255, 1]),
    "PNG RGB 8 bits": (png(2, 8, RGB, [bytes((1, 2, 3, 4, 5, 6))]), [(1, 2, 3), (4, 5, 6)]),
    "PNG RGB 8 bits, one transparent": (png(2, 8, RGB, [bytes((1, 2, 3, 4, 5, 6))], (b"tRNS", words(4, 5, 6))), [(1, 2, 3), (255,) * 3]),
    "PNG RGB 16 bits": (png(2, 16, RGB, [words(255, 256, 65535, 32768, 1, 0)]), [(0, 1, 255), (128, 0, 0)]),
    "PNG RGB 16 bits, one transparent": (
        png(2, 16, RGB, [words(513, 256, 65535, 514, 256, 65535)], (b"tRNS", words(513, 256, 65535))),
        [(255, 255, 255), (2, 1, 255)],
    ),
    "PNG palette 1 bit": (png(4, 1, PALETTE, [b"\x50"], COLOURS), [(10, 20, 30), (40, 50, 60)] * 2),
    "PNG palette 2 bits": (png(4, 2, PALETTE, [b"\x1b"], COLOURS), [(10, 20, 30), (40, 50, 60), (70, 80, 90), (100, 110, 120)]),
    "PNG palette 4 bits": (png(2, 4, PALETTE, [b"\x30"], COLOURS), [(100, 110, 120), (10, 20, 30)]),
    "PNG palette 8 bits": (png(2, 8, PALETTE, [b"\x02\x01"], COLOURS), [(70, 80, 90), (40, 50, 60)]),
    # 40 x 128/255 + 255 x 127/255 = 147.1 and so on
    "PNG palette, some transparent": (
        png(4, 2, PALETTE, [b"\x1b"], COLOURS, (b"tRNS", b"\x00\x80\xff")),
        [(255, 255, 255), (147, 152, 157), (70, 80, 90), (100, 110, 120)],
    ),
    "PNG grey and alpha 8 bits": (png(3, 8, GREY_ALPHA, [bytes((100, 0, 100, 128, 100, 255))]), [255, 177, 100]),
    "PNG RGBA 8 bits": (png(2, 8, RGBA, [bytes((100, 50, 0, 128, 9, 8, 7, 0))]), [(177, 152, 127), (255, 255, 255)]),
    "PNG RGBA 16 bits": (png(2, 16, RGBA, [words(25700, 12850, 0, 32896, 1, 2, 3, 0)]), [(177, 152, 127), (255, 255, 255)]),
    "TIFF grey 1 bit": (tiff(4, [1], 1, b"\x50"), [0, 255, 0, 255]),
    "TIFF grey 1 bit, white is 0": (tiff(4, [1], 0, b"\x50"), [255, 0, 255, 0]),
    "TIFF grey 4 bits": (tiff(2, [4], 1, b"\xf5"), [255, 85]),
    "TIFF grey 4 bits, white is 0": (tiff(2, [4], 0, b"\xf5"), [0, 170]),
    "TIFF grey 8 bits": (tiff(3, [8], 1, b"\x00\x40\xff"), [0, 64, 255]),
    "TIFF grey 8 bits, white is 0": (tiff(3, [8], 0, b"\x00\x40\xff"), [255, 191, 0]),
    "TIFF grey 8 bits signed": (tiff(3, [8], 1, struct.pack("3b", -128, 0, 127), form=2), [0, 128, 255]),
    "TIFF grey 12 bits": (tiff(2, [12], 1, b"\xff\xf8\x00"), [255, 128]),
    "TIFF grey 16 bits": (tiff(4, [16], 1, little(0, 255, 256, 65535)), [0, 0, 1, 255]),
    "TIFF grey 16 bits, big-endian": (tiff(4, [16], 1, words(0, 255, 256, 65535), big=True), [0, 0, 1, 255]),
    "TIFF grey 16 bits, white is 0": (tiff(4, [16], 0, little(0, 255, 256, 65535)), [255, 255, 254, 0]),
    "TIFF grey 16 bits signed": (tiff(3, [16], 1, struct.pack("<3h", -255, 1, 255), form=2), [0, 128, 255]),
    "TIFF grey 32 bits": (tiff(3, [32], 1, struct.pack("<3I", 0, 2**31, 2**32 - 1)), [0, 128, 255]),
    "TIFF grey 32 bits signed": (tiff(3, [32], 1, struct.pack("<3i", -510, 0, 510), form=2), [0, 128, 255]),
    "TIFF grey 32 bits, small": (tiff(3, [32], 1, struct.pack("<3I", 0, 9, 255)), [0, 9, 255]),
    "TIFF float": (tiff(3, [32], 1, struct.pack("<3f", 0, 0.2, 1), form=3), [0, 51, 255]),
    "TIFF float, big-endian": (tiff(3, [32], 1, struct.pack(">3f", 0, 0.2, 1), form=3, big=True), [0, 51, 255]),
    "TIFF float, white is 0": (tiff(3, [32], 0, struct.pack("<3f", 0, 0.2, 1), form=3), [255, 204, 0]),
    "TIFF grey and alpha": (tiff(2, [8, 8], 1, bytes((100, 128, 100, 0)), extra=[2]), [177, 255]),
    "TIFF RGB 8 bits": (tiff(2, [8] * 3, 2, bytes((1, 2, 3, 4, 5, 6))), [(1, 2, 3), (4, 5, 6)]),
    "TIFF RGB 16 bits": (tiff(1, [16] * 3, 2, little(255, 256, 65535)), [(0, 1, 255)]),
    "TIFF RGB 16 bits, big-endian": (tiff(1, [16] * 3, 2, words(255, 256, 65535), big=True), [(0, 1, 255)]),
    "TIFF RGB and a fourth that means nothing": (tiff(1, [8] * 4, 2, bytes((1, 2, 3, 0)), extra=[0]), [(1, 2, 3)]),
    "TIFF RGBA": (tiff(1, [8] * 4, 2, bytes((100, 50, 0, 128)), extra=[2]), [(177, 152, 127)]),
    "TIFF RGBA 16 bits": (tiff(1, [16] * 4, 2, little(25700, 12850, 0, 32896), extra=[2]), [(177, 152, 127)]),
    # premultiplied: what is there is what is added to the background, 50 + 127 and so on
    "TIFF RGBA premultiplied": (tiff(1, [8] * 4, 2, bytes((50, 25, 0, 128)), extra=[1]), [(177, 152, 127)]),
    # (255 - C) x (255 - K) / 255
    "TIFF CMYK": (tiff(2, [8] * 4, 5, bytes((0, 127, 255, 0, 51, 0, 0, 51))), [(255, 128, 0), (163, 204, 204)]),
    "TIFF palette": (
        tiff(2, [8], 3, b"\x01\x00", more=[(320, 3, [v * 257 for a, b in ((10, 40), (20, 50), (30, 60)) for v in (a, b, *[0] * 254)])]),
        [(40, 50, 60), (10, 20, 30)],
    ),
    # ITU-R BT.601, full range: R = Y + 1.402 (Cr - 128)
    "TIFF YCbCr": (tiff(2, [8] * 3, 6, bytes((76, 85, 255, 128, 128, 128)), more=[(530, 3, [1, 1])]), [(254, 0, 0), (128, 128, 128)]),
    # CIE L* = 50.2 without colour is sRGB 119
    "TIFF Lab": (tiff(1, [8] * 3, 8, bytes((128, 0, 0))), [(119, 119, 119)]),
    "PBM": (b"P4 4 1\n\x50", [255, 0, 255, 0]),
    "PGM": (b"P5 3 1 255\n\x00\x40\xff", [0, 64, 255]),
    "PGM 16 bits": (b"P5 3 1 65535\n" + words(255, 256, 65535), [0, 1, 255]),
    "PPM": (b"P6 1 1 255\n\x01\x02\x03", [(1, 2, 3)]),
    "PPM as text": (b"P3 1 1 255\n1 2 3\n", [(1, 2, 3)]),
    "PFM": (b"Pf\n2 1\n-1.0\n" + struct.pack("<2f", 0.2, 1), [51, 255]),
    "GIF of three frames": (gif(3), [(0, 0, 255), (0, 0, 255), (0, 0, 255), (0, 0, 255)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_d16_d17_golden_pixels(case: str) -> None:
    data, want = CASES[case]
    image = decode(data)
    got = np.asarray(image)
    assert got.reshape(-1, *got.shape[2:]).tolist() == [list(pixel) if isinstance(pixel, tuple) else pixel for pixel in want]
    for channels, mode in ((1, "L"), (3, "RGB")):
        array = decode_array(data, channels=channels)
        assert array.flags.c_contiguous
        assert array.shape == (image.height, image.width, channels)
        np.testing.assert_array_equal(array.squeeze(2) if channels == 1 else array, np.asarray(image.convert(mode)))


def test_there_are_forty_cases() -> None:
    assert len(CASES) >= 40


TRANSPARENT = {
    "PNG grey 2 bits, 1 transparent": [0, 0, 170, 255],
    "PNG grey 16 bits, 257 transparent": [1, 0, 1],
    "PNG RGB 8 bits, one transparent": [(1, 2, 3), (0, 0, 0)],
    "PNG RGB 16 bits, one transparent": [(0, 0, 0), (2, 1, 255)],
    "PNG palette, some transparent": [(0, 0, 0), (20, 25, 30), (70, 80, 90), (100, 110, 120)],
    "PNG grey and alpha 8 bits": [0, 50, 100],
    "PNG RGBA 16 bits": [(50, 25, 0), (0, 0, 0)],
    "TIFF RGBA premultiplied": [(50, 25, 0)],
}


@pytest.mark.parametrize("case", TRANSPARENT)
def test_d17_over_black(case: str) -> None:
    got = np.asarray(decode(CASES[case][0], how=BLACK))
    want = np.array(TRANSPARENT[case]).reshape(got.shape)
    assert np.abs(got.astype(int) - want).max() <= (case == "TIFF RGBA premultiplied")  # divided by alpha and multiplied again


def test_grey_over_a_coloured_background_is_coloured() -> None:
    got = np.asarray(decode(CASES["PNG grey and alpha 8 bits"][0], how=Decoding(background=(255, 0, 0))))
    assert got[0].tolist() == [[255, 0, 0], [177, 50, 50], [100, 100, 100]]


def twelve_bits() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "JPEG")
    data = stream.getvalue()
    frame = data.index(b"\xff\xc0")
    return data[: frame + 4] + b"\x0c" + data[frame + 5 :]


RAW = tiff(1, [8] * 3, 2, bytes(3), more=[(50706, 1, [1, 4, 0, 0])])
REFUSED = {
    "float RGB": (tiff(1, [32] * 3, 2, bytes(12), form=3), r"TIFF of 3 x 32 bits a pixel \(float, RGB, little-endian, compression 1\)"),
    "half float": (tiff(1, [16], 1, bytes(2), form=3), r"TIFF of 1 x 16 bits a pixel \(float, grey"),
    "double": (tiff(1, [64], 1, bytes(8), form=3), r"TIFF of 1 x 64 bits a pixel \(float, grey"),
    "grey and alpha of 16 bits": (tiff(1, [16] * 2, 1, bytes(4), extra=[2]), r"TIFF of 2 x 16 bits a pixel \(unsigned, grey"),
    "seven channels": (tiff(1, [8] * 7, 2, bytes(7), extra=[0] * 4), r"TIFF of 7 x 8 bits a pixel"),
    "ICC Lab": (tiff(1, [8] * 3, 9, bytes(3)), r"TIFF of 3 x 8 bits a pixel \(unsigned, ICC Lab"),
    "DNG": (RAW, "camera raw file, which is not read: save it as JPEG or PNG"),
    "NEF": (tiff(1, [8] * 3, 2, bytes(3), more=[(254, 4, [1]), (330, 4, [8])]), "camera raw file"),
    "CR2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(50), "camera raw file"),
    "12-bit JPEG": (twelve_bits(), "JPEG of 1 x 12 bits a pixel, which is not read"),
    "JPEG 2000": (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(50), "JPEG 2000 image, which is not read: save it as PNG"),
    "JPEG XL": (b"\xff\x0a" + bytes(50), "JPEG XL image"),
    "DICOM": (bytes(128) + b"DICM" + bytes(50), "DICOM image, which is not read: save it as 16-bit PNG"),
    "not finite": (tiff(1, [32], 1, struct.pack("<f", float("inf")), form=3), "values that are not finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_d17_what_is_not_read_is_refused_by_name(case: str) -> None:
    data, reason = REFUSED[case]
    for read in (decode, decode_array):
        with pytest.raises(BadImage, match=rf"cannot read image x: .*{reason}"):
            read(data, name="x")
