"""What was exported, and how its numbers compare with the model's, as lines."""

from __future__ import annotations

from typing import Any

from cnncli.reports.terminal import listing, print_result

FORMATS = {"onnx": "ONNX", "torch-export": "torch.export"}


def print_exported(result: dict[str, Any]) -> None:
    """The documented result of `cnn export` as lines: the file, its input and output, and the check."""
    form = FORMATS[result["format"]] + (f", operator set {result['opset']}" if result["opset"] else "")
    taken, given, check = result["input"], result["output"], result["check"]
    prepared = "pixels of 0..255" if taken["type"] == "uint8" else "prepared as its metadata say"
    lines = [
        ("model", result["model"]),
        ("file", f"{result['file']}, {form}, {size_text(result['bytes'])}"),
        *([("weights in", result["data_file"])] if result["data_file"] else []),
        ("input", f"{taken['name']}, {taken['type']} {_shape(taken['shape'])}, {prepared}"),
        ("output", f"{given['name']}, {given['type']} {_shape(given['shape'])}"),
        ("checked", f"{check['by']}, {check['images']} images of {check['data']}, {_batches(check['batches'])}"),
        ("difference", f"at most {check['difference']:.2g}, of {given['name']} up to {check['largest']:.4g}"),
        ("labels", f"{check['same_labels']} of {check['images']} the same"),
    ]
    print_result(listing(lines, indent=0))


def size_text(size: int) -> str:
    """Bytes in words: 812 bytes, 251.3 kB, 102.5 MB, 2.4 GB."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def _shape(shape: list[Any]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _batches(sizes: list[int]) -> str:
    if len(sizes) == 1:
        return f"in one batch of {sizes[0]}"
    return f"in batches of {', '.join(map(str, sizes[:-1]))} and {sizes[-1]}"
