"""Write a few test images of the digits as PNG files, named by what they show."""

from __future__ import annotations

import sys
from pathlib import Path

from cnncli.data.source import open_source


def main(folder: Path) -> None:
    source = open_source("digits")
    folder.mkdir(parents=True, exist_ok=True)
    shown: set[int] = set()
    for sample in source.samples("test"):
        if sample.label not in shown:
            shown.add(sample.label)
            source.read(sample).save(folder / f"a-{source.classes[sample.label]}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
