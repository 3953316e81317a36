"""The splits of a table of images (`bench.data.rows`), decoded once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import islice
from pathlib import Path

from bench.config.sections import DataConfig
from bench.data import pictures, row_files, rows, shards
from bench.data.cache import cached, shown
from bench.data.image_files import Encoded, decoded
from bench.data.split import Source, Split
from bench.errors import UserError


def read(config: DataConfig, data_dir: Path) -> tuple[Split, Callable[[], Split]]:
    """The training split, and a function that reads the test split. Raises UserError.

    The cache is named by the fingerprint: where a planned run's is made, neither the table nor a network is needed.
    """

    @cache
    def opened() -> tuple[rows.Table, str]:
        table = row_files.read(config.name, rows.Choice.of(config))
        return table, table.fingerprint()

    fingerprint = config.fingerprint or opened()[1]

    def encoded(part: str) -> tuple[int, tuple[str, ...], Callable[[], Iterator[list[Encoded]]]]:
        """How many images a split has, their classes, and the images from the first on."""
        table, own = opened()
        if own != fingerprint:
            raise UserError("has changed since the run was planned: plan a new run")
        classes, train, test = rows.labels(table)
        split, labels = (table.train, train) if part == "train" else (table.test, test)
        return len(labels), classes, partial(_chunks, split, table.image, labels, part)

    def source(part: str) -> Source:
        n, classes, chunks = encoded(part)
        return Source(n, classes, decoded(chunks(), config.size, config.channels))

    def kept(part: str) -> shards.Kept:
        n, classes, chunks = encoded(part)
        rows_of = _Forward(chunks)
        return shards.Kept(
            n, classes, lambda places: decoded(rows_of(places), config.store, config.channels, whole=True)
        )

    def split(part: str) -> Split:
        path = data_dir / "cache" / f"rows-{fingerprint}-{part}-{shown(config)}"
        try:
            if config.store:
                found = shards.cached(path, partial(kept, part), config, pictures.VERSION)
            else:
                path, n = path.with_name(f"{path.name}.npy"), config.channels
                found = cached(path, config.size, partial(source, part), config.skip_bad, pictures.VERSION, n)
        except UserError as error:
            raise UserError(f"{config.name}: {error}") from None
        unreadable = {name for name, _ in found.skipped}
        every = (_name(part, i) for i in range(len(found.images) + len(unreadable)))
        return replace(found, names=tuple(name for name in every if name not in unreadable))

    return split("train"), partial(split, "test")


class _Forward:
    """Some rows of those that can be read from the first on alone: begun anew only to go back."""

    def __init__(self, chunks: Callable[[], Iterator[list[Encoded]]]) -> None:
        self.chunks, self.at = chunks, 0
        self.rows: Iterator[Encoded] = iter(())

    def __call__(self, places: slice) -> Iterator[list[Encoded]]:
        if places.start < self.at or not self.at:
            self.rows, self.at = (row for chunk in self.chunks() for row in chunk), 0
        wanted = islice(self.rows, places.start - self.at, places.stop - self.at)
        self.at = places.stop
        while chunk := list(islice(wanted, pictures.AT_ONCE)):
            yield chunk


def _name(part: str, row: int) -> str:
    return f"{part} row {row}"


def _chunks(part: rows.Part, image: str, labels: Sequence[int], which: str) -> Iterator[list[Encoded]]:
    """Rows as they come from disk, with their labels."""
    row = 0
    for batch in part.batches([image]):
        chunk = []
        for value in batch.column(image).to_pylist():
            chunk.append(Encoded(_name(which, row), labels[row], partial(row_files.content, value, part.root)))
            row += 1
        yield chunk
