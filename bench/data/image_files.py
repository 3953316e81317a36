"""The splits of an image folder, decoded once."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bench.config.schema import DataConfig
from bench.data import cache, folders, pictures
from bench.data.split import Batch, Pixels, Source, Split
from bench.errors import UserError

log = logging.getLogger("bench")


def read(config: DataConfig, data_dir: Path) -> tuple[Split, Callable[[], Split]]:
    """The training split of an image folder, and a function that reads the test split. Raises UserError."""
    folder = folders.read(config.name)
    fingerprint = folders.fingerprint(folder)
    if config.fingerprint not in ("", fingerprint):
        raise UserError(f"{config.name} has changed since the run was planned: plan a new run")

    def split(part: str, files: tuple[tuple[str, int], ...]) -> Split:
        path = data_dir / "cache" / f"folder-{fingerprint}-{part}-{config.size}.npy"

        def source() -> Source:
            return Source(len(files), folder.classes, file_batches(folder.root, files, config.size))

        try:
            return cache.cached(path, config.size, source, config.skip_bad)
        except UserError as error:
            raise UserError(f"{config.name}: {error}") from None

    def load_test() -> Split:
        test = split("test", folder.test)
        if test.skipped:
            log.warning(
                "%s: left out %d unreadable test images: %s",
                config.name,
                len(test.skipped),
                "; ".join(test.skipped[:3]),
            )
        return test

    return split("train", folder.train), load_test


def file_batches(root: Path, files: Sequence[tuple[str, int]], size: int) -> Iterator[Batch]:
    """Batches of image files, (path below `root`, label) each, decoded by several threads."""

    def read(file: tuple[str, int]) -> tuple[Pixels | None, int, str]:
        name, label = file
        try:
            return pictures.decode(root / name, size), label, ""
        except Exception as error:  # decoders of damaged files raise nearly anything; the reason is shown
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            return None, label, f"{name} ({reason.replace(str(root / name), 'image')})"

    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files), pictures.AT_ONCE):
            results = list(pool.map(read, files[start : start + pictures.AT_ONCE]))
            good = [(pixels, label) for pixels, label, _ in results if pixels is not None]
            images = [pixels for pixels, _ in good]
            yield Batch(
                images=np.stack(images) if images else np.empty((0, 3, size, size), dtype=np.uint8),
                labels=[label for _, label in good],
                skipped=[problem for _, _, problem in results if problem],
            )
