"""Where the decoded images of a split are kept: in memory, in a cache on the disk, or nowhere."""

from __future__ import annotations

from cnncli.data.cache import Tell
from cnncli.data.config import DataConfig
from cnncli.data.disk import Disk
from cnncli.data.form import Form
from cnncli.data.held import Held, Progress
from cnncli.data.pixels import available_memory, load_pixels, samples_of
from cnncli.data.preprocess import Preprocess
from cnncli.data.source import Source
from cnncli.data.stream import open_stream
from cnncli.data.threads import usual_threads
from cnncli.errors import EnvironmentFault

SMALL = 2**30  # bytes of pixels that are decoded into memory by every run: some seconds' work, and training stays within 2 GiB
LARGE_SHARE = 0.5  # of the available memory that pixels may take where they cannot lie on the disk


def open_pixels(
    source: Source,
    split: str,
    preprocess: Preprocess,
    config: DataConfig,
    *,
    whole: bool = False,
    tell: Tell = lambda _: None,
    on_progress: Progress | None = None,
) -> Held:
    """The images of a split, kept as `config.store` says.

    "auto" keeps up to SMALL bytes in memory, more in a cache on the disk; where there is no room for a cache, in memory up to
    LARGE_SHARE of what is available; else images are decoded anew each epoch. whole: whole images, cropped as batches are made.
    tell: gets a line where the user should know what was chosen and why.

    Errors as in `load_pixels`; EnvironmentFault also where "disk" was asked for and cannot be.
    """
    form = Form(preprocess, whole, config.max_pixels)
    threads = config.workers or usual_threads()
    skip_bad = config.bad_images == "skip"
    bytes_needed = len(samples_of(source, split)) * form.bytes

    def in_memory() -> Held:
        return load_pixels(
            source,
            split,
            preprocess,
            whole=whole,
            bad_images="skip" if skip_bad else "error",
            max_pixels=config.max_pixels,
            threads=threads,
            on_progress=on_progress,
        )

    store = config.store
    if store == "memory" or (
        store == "auto" and bytes_needed <= SMALL and bytes_needed <= LARGE_SHARE * (available_memory() or bytes_needed * 2)
    ):
        return in_memory()
    if store in ("auto", "disk"):
        cached = Disk(config.cache_limit * 1e9, skip_bad, threads, tell, on_progress).open(source, split, form)
        if cached is not None:
            return cached
        if store == "disk":
            raise EnvironmentFault(
                f"--store disk: {source.name} cannot be kept in a cache",
                "see above for the reason; --store stream needs none",
                path="--store",
            )
        available = available_memory()
        if available is not None and bytes_needed <= LARGE_SHARE * available:
            return in_memory()
        tell(f"{bytes_needed / 1e9:.1f} GB of decoded images fit neither into a cache nor into memory: they are decoded anew each epoch")
    return open_stream(source, split, form, skip_bad=skip_bad, threads=threads, on_progress=on_progress)
