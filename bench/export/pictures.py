"""What encoders hold to be alike: nearest neighbours of test images, and a map of the test features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from bench.data.whole import Images
from bench.errors import UserError
from bench.evaluation.protocol import features
from bench.evaluation.scale import unit
from bench.export.sheet import SHOWN, Panel, draw
from bench.export.trained import Trained, load
from bench.files import write_atomic
from bench.report.columns import boards
from bench.report.figures import render
from bench.report.names import entry_name
from bench.report.pictures import MAP, NEIGHBOURS
from bench.report.style import plain
from bench.runs import store
from bench.runs.store import RunDir
from bench.tables.leaderboard import Tables, collect, standing

QUERIES, NEAREST = 8, 5
MAPPED = 2_000
"""Test images on a map at most: t-SNE takes seconds for so many."""
DIMENSIONS = 50  # that PCA leaves to t-SNE, as its authors did
SAME = 1e-6
"""Unit vectors that differ by less are one in float32."""
LEGEND = 20
"""Classes of a legend at most."""
RIGHT, WRONG, NONE = (0x00, 0x9E, 0x73), (0xD5, 0x5E, 0x00), (0xFF, 0xFF, 0xFF)
"""Frames: Okabe and Ito's green and vermilion, which colour-blind readers tell apart."""


@dataclass(frozen=True)
class Neighbours:
    """Test images with the training images whose features have the highest cosine with theirs."""

    queries: Tensor
    """int64 [q]: places in the test split."""
    nearest: Tensor
    """int64 [q, k]: places among the data set's images, the nearest first."""
    right: Tensor
    """bool [q, k]: whether they are of the test image's class."""


@dataclass(frozen=True)
class Seen:
    """What the pictures show of a run."""

    title: str
    panel: Panel
    places: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    """[n, 2]: of the mapped test images."""
    labels: np.ndarray[tuple[int], np.dtype[np.int64]]
    """[n], of those."""
    classes: tuple[str, ...]
    tests: int
    """Test images that there are."""


def write(results: Path, experiment: str, data_dir: Path) -> Iterator[Path]:
    """Draw the lowest done seed of every entry; gives the files in the experiment's folder `figures/`.

    Raises UserError if there is no such experiment, no run is done, or a file cannot be written.
    """
    runs = list(chosen(results / experiment, collect(results, [experiment])))
    if not runs:
        raise UserError(f"no run of {experiment!r} is done: bench status {experiment} tells why")
    seen = [look(title, load(store.read_run(run), data_dir)) for title, run in runs]
    folder = results / experiment / "figures"
    sheet, places = draw([each.panel for each in seen], across=3), feature_map(seen)
    for name, figure in ((f"{NEIGHBOURS}.png", sheet), (f"{MAP}.png", places), (f"{MAP}.pdf", places)):
        try:
            folder.mkdir(exist_ok=True)
            write_atomic(folder / name, render(figure, name[-3:]))
        except OSError as error:
            raise UserError(f"cannot write {folder / name}: {error.strerror or error}") from error
        yield folder / name


def chosen(experiment: Path, tables: Tables) -> Iterator[tuple[str, RunDir]]:
    """(title, run): the lowest done seed of each of the leaderboard's entries, in its order."""
    several = len(list(boards(tables.leaderboard))) > 1
    for label, rows in boards(tables.leaderboard):
        stand = standing(tables, rows)
        done = stand[stand["state"] == "done"].sort_values("seed")
        for entry in rows.loc[rows["source"] == "", "entry"]:
            for run in done[done["entry"] == entry].head(1).itertuples():
                title = f"{entry_name(entry)}, seed {run.seed}" + f" ({label})" * several
                yield title, RunDir(experiment / "runs" / str(run.run_id))


def look(title: str, run: Trained) -> Seen:
    """The neighbours and the map of one run, on a GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, data, own = run.encoder.to(device), run.judged_on, run.dataset
    images, labels = data.load_test()
    mapped = spread(labels, MAPPED)
    found = neighbours(run, images, labels, device)
    near = data.images[found.nearest.flatten()].unflatten(0, found.nearest.shape)
    shown = torch.cat([images[found.queries][:, None], near], dim=1)  # [q, 1 + k, 3, S, S]
    right = f"{int(found.right.sum())} of {found.right.numel()} right"
    panel = Panel(f"{title}: {right}", framed(shown, found.right), ["test", *map(str, range(1, NEAREST + 1))])
    of_test = features(encoder, images, mapped, own.mean, own.std, device)
    return Seen(title, panel, placed(of_test.cpu()), labels[mapped].numpy(), data.classes, len(images))


def neighbours(run: Trained, images: Images, labels: Tensor, device: torch.device) -> Neighbours:
    """Of some test images (uint8 [M, 3, S, S], labels [M]), among the labelled training images."""
    data, own = run.judged_on, run.dataset
    bank, queries = torch.cat([data.train, data.validation]), spread(labels, QUERIES)
    of_bank = unit(features(run.encoder, data.images, bank, own.mean, own.std, device))
    of_queries = unit(features(run.encoder, images, queries, own.mean, own.std, device))
    nearest = bank[(of_queries @ of_bank.T).topk(min(NEAREST, len(bank)), dim=1).indices.cpu()]
    return Neighbours(queries, nearest, data.labels[nearest] == labels[queries, None])


def spread(labels: Tensor, n: int) -> Tensor:
    """Places of n of the labels (fewer if there are fewer), int64: of each class one in turn, of many classes some."""
    classes = labels.unique()
    members = [torch.nonzero(labels == label)[:, 0] for label in classes]
    if len(classes) >= n:
        return torch.stack([members[i * len(classes) // n][0] for i in range(n)])
    rounds = max(map(len, members))
    return torch.stack([own[i] for i in range(min(rounds, n)) for own in members if i < len(own)][:n])


def framed(images: Tensor, right: Tensor) -> Tensor:
    """uint8 [q, 1 + k, 3, S, S] enlarged, within frames that say whether the last k are right (bool [q, k])."""
    times = -(-SHOWN // images.shape[-1])
    large = images.repeat_interleave(times, dim=3).repeat_interleave(times, dim=4)
    side = large.shape[-1]
    width = max(4, side // 16)
    colours = torch.tensor([WRONG, RIGHT], dtype=torch.uint8)[right.long()]  # [q, k, 3]
    colours = torch.cat([torch.tensor(NONE, dtype=torch.uint8).expand(len(right), 1, 3), colours], dim=1)
    sheet = colours[..., None, None].repeat(1, 1, 1, side + 2 * width, side + 2 * width)
    sheet[..., width:-width, width:-width] = large
    return sheet


def placed(of_test: Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Features [n, D], of which directions count -> places on a map [n, 2]: PCA, then t-SNE from two components on."""
    n, dim = of_test.shape
    with np.errstate(invalid="ignore"):  # a collapsed encoder's features have no variance
        reduced = PCA(min(DIMENSIONS, n, dim), svd_solver="full").fit_transform(unit(of_test).double().numpy())
    deviation = reduced[:, 0].std()
    if deviation > SAME:
        reduced /= deviation  # scikit-learn's search for the perplexity fails on tiny distances
    start = reduced[:, :2] * 1e-4
    places: np.ndarray[tuple[int, int], np.dtype[np.float32]] = TSNE(
        init=start.astype(np.float32), perplexity=min(30.0, (n - 1) / 3), random_state=0
    ).fit_transform(reduced)
    return places


def feature_map(seen: Sequence[Seen]) -> Figure:
    """A panel a run, coloured by class; a legend if all have the same classes, and not too many."""
    across = min(4, len(seen))
    down = -(-len(seen) // across)
    figure = Figure(figsize=(max(5.0, 2.4 * across), 2.6 * down + 0.8), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, each in zip(panels, seen, strict=False):
        colours = colours_of(len(each.classes))
        x, y = each.places.T
        axes.scatter(x, y, s=4, c=colours[each.labels], linewidths=0, rasterized=True)
        axes.set(xticks=[], yticks=[], title=plain(each.title, 40))
        axes.set_aspect("equal", "datalim")
        axes.spines[:].set(visible=True, color="#c8c8c8")
    for axes in panels[len(seen) :]:
        axes.set_visible(False)
    counts = {f"{len(each.labels):,} of {each.tests:,}" for each in seen}
    told = f"Frozen features by PCA and t-SNE, {' or '.join(sorted(counts))} test images"
    figure.suptitle(told, fontsize=10)
    if len({each.classes for each in seen}) == 1 and len(seen[0].classes) <= LEGEND:
        names = [plain(name, 20) for name in seen[0].classes]
        dots = [Line2D([], [], marker="o", ls="", ms=5, color=tuple(colour)) for colour in colours_of(len(names))]
        figure.legend(dots, names, loc="outside lower center", ncols=min(len(names), max(5, 3 * across)), fontsize=8)
    return figure


def colours_of(n: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """[n, 4]: a colour a class, each its own up to 20."""
    if n > LEGEND:
        return np.asarray(colormaps["turbo"](np.linspace(0, 1, n)))
    return np.asarray(colormaps["tab10" if n <= 10 else "tab20"](range(n)))
