"""Figures by what they show: numbers are read back from the axes."""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_results import fake_experiment, fake_grid, fake_run
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.accuracy_figures import BELOW
from bench.report.figures import figures, render, slug
from bench.report.names import entry_name
from bench.report.palette import LOOKS, SPARE_COLOURS, looks
from bench.report.style import plain
from bench.report.write import write
from bench.tables.leaderboard import Tables, collect
from methods import METHODS as REGISTRY


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    results = tmp_path_factory.mktemp("results")
    fake_experiment(results / "quick")
    return collect(results, ["quick"])


@pytest.fixture(scope="module")
def drawn(tables: Tables) -> dict[str, Figure]:
    return {name: figure for name, _, figure in figures(tables)}


def bars(axes: Axes) -> list[ErrorbarContainer]:
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def lines_of(axes: Axes, method: str) -> list[Line2D]:
    return [line for line in axes.get_lines() if to_hex(line.get_color()) == LOOKS[method].colour.lower()]


def test_every_figure_has_data(drawn: dict[str, Figure]) -> None:
    assert set(drawn) == {
        *("leaderboard", "differences", "curves-accuracy", "curves-loss"),
        *("alignment-uniformity", "effective-rank", "cost"),
    }


def test_leaderboard_shows_means_intervals_and_seeds(tables: Tables, drawn: dict[str, Figure]) -> None:
    (axes,) = drawn["leaderboard"].axes
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels[0] == "SimCLR *"
    assert labels[-2:] == ["supervised (reference)", "untrained (reference)"]
    for y, bar in enumerate(bars(axes)):
        row = tables.leaderboard.iloc[y]
        assert bar.lines[0].get_xdata()[0] == pytest.approx(row["test_linear_top1_mean"])
        ends = bar.lines[2][0].get_segments()[0][:, 0]
        assert ends == pytest.approx([row["test_linear_top1_low"], row["test_linear_top1_high"]])
        done = tables.runs[(tables.runs["method"] == row["method"]) & (tables.runs["state"] == "done")]
        dots = next(
            x for x in axes.get_lines() if set(x.get_ydata()) == {y + BELOW} and len(x.get_xdata()) == len(done)
        )
        assert sorted(dots.get_xdata()) == pytest.approx(sorted(done["test_linear_top1"]))


def test_differences_are_the_pairs(tables: Tables, drawn: dict[str, Figure]) -> None:
    (axes,) = drawn["differences"].axes
    pairs = tables.pairs[~tables.pairs["reference"]]
    assert len(bars(axes)) == len(pairs) == 10
    for bar, pair, label in zip(bars(axes), pairs.itertuples(), axes.get_yticklabels(), strict=True):
        assert bar.lines[0].get_xdata()[0] == pytest.approx(pair.difference)
        assert label.get_text() == f"{entry_name(pair.method_a)} − {entry_name(pair.method_b)}"
        assert (bar.lines[0].get_markerfacecolor() == "white") != pair.significant
        ends = bar.lines[2][0].get_segments()[0][:, 0]
        assert ends == pytest.approx([pair.low_simultaneous, pair.high_simultaneous])
    runs = tables.runs[tables.runs["state"] == "done"].set_index(["method", "seed"])["test_linear_top1"]
    for y, pair in enumerate(pairs.itertuples()):
        dots = next(line for line in axes.get_lines() if len(line.get_xdata()) == pair.n and line.get_ydata()[0] > y)
        expected = (runs[pair.method_a] - runs[pair.method_b]).dropna()
        assert sorted(dots.get_xdata()) == pytest.approx(sorted(expected))
    assert [text.get_text().startswith((" Holm p = ", " Holm p < ")) for text in axes.texts] == [True] * 10


def test_curves_are_means_in_a_band_of_seeds(tables: Tables, drawn: dict[str, Figure]) -> None:
    axes, knn = drawn["curves-accuracy"].axes
    assert (axes.get_title(), knn.get_title()) == ("online linear", "val. kNN")
    history = tables.history[tables.history["method"] == "simclr"]
    by_epoch = history.groupby("epoch")["online_linear_top1"]
    (line,) = lines_of(axes, "simclr")
    assert line.get_ydata() == pytest.approx(by_epoch.mean().to_numpy())
    band = next(c for c in axes.collections if to_hex(c.get_facecolor()[0]) == LOOKS["simclr"].colour.lower())
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.max() == pytest.approx(by_epoch.max().max())
    low, high = by_epoch.min(), by_epoch.max()
    for epoch in (1, 15, 30):
        at = band.get_paths()[0].vertices[band.get_paths()[0].vertices[:, 0] == epoch, 1]
        assert (at.min(), at.max()) == pytest.approx((low[epoch], high[epoch]))
    (line,) = lines_of(knn, "simclr")
    assert line.get_xdata().tolist() == [5, 10, 15, 20, 25, 30]  # only epochs with diagnostics


def test_failed_runs_do_not_bend_the_curves(tables: Tables, drawn: dict[str, Figure]) -> None:
    """Raft's seed 3 stopped at epoch 10: its mean is of the finished runs at every epoch."""
    panel = next(axes for axes in drawn["curves-loss"].axes if axes.get_title() == "RAFT")
    failed = tables.runs.loc[tables.runs["state"] == "failed", "run_id"]
    history = tables.history[(tables.history["method"] == "raft") & ~tables.history["run_id"].isin(failed)]
    assert panel.get_lines()[0].get_ydata() == pytest.approx(history.groupby("epoch")["loss"].mean().to_numpy())


def test_the_plane_has_a_trajectory_a_seed(tables: Tables, drawn: dict[str, Figure]) -> None:
    (axes,) = drawn["alignment-uniformity"].axes
    history = tables.history[tables.history["method"] == "byol"].dropna(subset=["alignment"])
    *seeds, mean, end = lines_of(axes, "byol")
    assert len(seeds) == 4
    first = history[history["seed"] == 0]
    assert seeds[0].get_xdata() == pytest.approx(first["uniformity"].to_numpy())
    assert seeds[0].get_ydata() == pytest.approx(first["alignment"].to_numpy())
    assert end.get_xdata()[0] == pytest.approx(history[history["epoch"] == 30]["uniformity"].mean())
    assert mean.get_ydata()[-1] == end.get_ydata()[0]


def test_collapsed_runs_are_crossed(tables: Tables, drawn: dict[str, Figure]) -> None:
    (axes,) = drawn["effective-rank"].axes
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert len(crosses) == 1
    assert to_hex(crosses[0].get_color()) == LOOKS["simsiam"].colour.lower()
    assert crosses[0].get_ydata()[0] == pytest.approx(1.02, abs=0.01)
    mean = next(line for line in lines_of(axes, "simsiam") if line.get_marker() == LOOKS["simsiam"].marker)
    assert min(mean.get_ydata()) > 10  # the collapsed run is not hidden in the mean
    texts = [text.get_text() for legend in drawn["effective-rank"].legends for text in legend.get_texts()]
    assert "collapsed run" in texts


def test_all_runs_collapsed_is_still_a_figure(tmp_path: Path) -> None:
    for seed in range(2):
        fake_run(tmp_path / "e", "byol", seed, collapsed=True)
        fake_run(tmp_path / "f", "byol", seed, collapsed=True)
        fake_run(tmp_path / "f", "raft", seed)
    for name, methods in (("e", ["BYOL"]), ("f", ["RAFT", "BYOL"])):
        figure = {name: figure for name, _, figure in figures(collect(tmp_path, [name]))}["effective-rank"]
        (axes,) = figure.axes
        assert sum(line.get_marker() == "x" for line in axes.get_lines()) == 2
        texts = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        assert texts == [*methods, "collapsed run"]


def test_equal_seeds_are_all_seen(tmp_path: Path) -> None:
    for seed in range(5):
        fake_run(tmp_path / "e", "byol", seed, test_linear_top1=90.0 + (seed == 4))
    (axes,) = {name: figure for name, _, figure in figures(collect(tmp_path, ["e"]))}["leaderboard"].axes
    dots = next(line for line in axes.get_lines() if len(line.get_xdata()) == 5)
    assert len({(x, round(y, 6)) for x, y in dots.get_xydata()}) == 5
    assert max(dots.get_ydata()) < 0.5


def test_every_column_of_losses_has_epochs(drawn: dict[str, Figure]) -> None:
    panels = [axes for axes in drawn["curves-loss"].axes if axes.axison]
    assert len(panels) == 7  # in rows of four
    drawn["curves-loss"].draw_without_rendering()
    labelled = [any(t.label1.get_visible() for t in axes.xaxis.get_major_ticks()) for axes in panels]
    assert labelled == [False, False, False, True, True, True, True]


def test_cost_is_time_against_accuracy(tables: Tables, drawn: dict[str, Figure]) -> None:
    (axes,) = drawn["cost"].axes
    found = {bar.get_label(): bar.lines[0].get_xydata()[0] for bar in bars(axes)}
    for row in tables.leaderboard.itertuples():
        assert found[entry_name(row.method)] == pytest.approx([row.train_seconds_mean, row.test_linear_top1_mean])
    assert "training time of one run, as measured (seconds)" in axes.get_xlabel()


def test_cost_on_gpus_is_in_gpu_hours(tables: Tables) -> None:
    on_gpus = replace(tables, runs=tables.runs.assign(device="NVIDIA H100"))
    (axes,) = {name: figure for name, _, figure in figures(on_gpus)}["cost"].axes
    assert "as measured (GPU-hours)\nNVIDIA H100" in axes.get_xlabel()
    longest = tables.leaderboard["train_seconds_mean"].max() / 3600
    assert max(bar.lines[0].get_xdata()[0] for bar in bars(axes)) == pytest.approx(longest)
    assert axes.get_xlim()[0] < 0


def test_the_cost_of_runs_on_several_devices_names_each(tables: Tables) -> None:
    runs = tables.runs.assign(device="NVIDIA H100")
    runs.loc[runs["method"] == "byol", "device"] = "cpu (AMD EPYC 9654 96-Core Processor)"
    (axes,) = {name: figure for name, _, figure in figures(replace(tables, runs=runs))}["cost"].axes
    _, *devices = axes.get_xlabel().splitlines()
    assert devices == ["NVIDIA H100", "cpu (AMD EPYC 9654 96-Core Processor)"]


def test_a_grid_of_two_keys_is_a_heat_map(tmp_path: Path) -> None:
    fake_grid(tmp_path / "sweep")
    tables = collect(tmp_path, ["sweep"])
    figure = {name: figure for name, _, figure in figures(tables)}["grid-byol"]
    axes = figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("method.tau", "optim.lr")
    rows, columns = (
        [float(t.get_text()) for t in labels] for labels in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    assert (sorted(rows), sorted(columns)) == ([0.9, 0.99, 0.999], [0.1, 0.3, 1.0])
    shown = axes.collections[0].get_array().reshape(3, 3)
    for point in tables.grid.itertuples():
        lr, tau = tables.configs[point.config_hash]["optim.lr"], tables.configs[point.config_hash]["method.tau"]
        assert shown[rows.index(tau), columns.index(lr)] == pytest.approx(point.val_linear_top1_mean)
    (frame,) = axes.patches
    assert (rows[int(frame.get_y())], columns[int(frame.get_x())]) == (0.99, 0.3)
    assert any("2/3" in text.get_text() for text in axes.texts)


def test_a_grid_of_one_key_is_a_line(tmp_path: Path) -> None:
    for lr in (0.01, 0.1, 1.0):
        for seed in range(3):
            fake_run(tmp_path / "e", "raft", seed, overrides={"optim.lr": lr}, level=90 - abs(math.log10(lr / 0.1)))
    tables = collect(tmp_path, ["e"])
    (axes,) = {name: figure for name, _, figure in figures(tables)}["grid-raft"].axes
    assert (axes.get_xlabel(), axes.get_xscale()) == ("optim.lr", "log")
    means = tables.grid.set_index("optim.lr")["val_linear_top1_mean"].sort_index()
    line = next(line for line in axes.get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 3)
    assert line.get_xdata() == pytest.approx(means.index.to_numpy())
    assert line.get_ydata() == pytest.approx(means.to_numpy())
    ring = next(line for line in axes.get_lines() if line.get_label() == "chosen")
    assert ring.get_xdata()[0] == 0.1


@pytest.mark.parametrize("second", ["optim.momentum", "optim.schedule"])
@pytest.mark.parametrize("value", [0.5, "cosine", None])
def test_a_setting_that_some_points_lack_is_a_level(tmp_path: Path, second: str, value: object) -> None:
    """Runs planned before a setting existed have none: not set, on a line and in a heat map."""
    for keys in (1, 2):
        results = tmp_path / str(keys)
        for tau in (0.9, 0.99)[:keys]:
            fake_run(results / "e", "byol", 0, overrides={"method.tau": tau})
            fake_run(results / "e", "byol", 0, overrides={"method.tau": tau, second: value})
        tables = collect(results, ["e"])
        assert set(tables.grid.get(second, [])) == ({"not set", value} if value is not None else set())
        drawn = {name: figure for name, _, figure in figures(tables)}
        if value is not None:
            labels = drawn["grid-byol"].axes[0].get_xticklabels()
            assert {text.get_text() for text in labels} == {"not set", str(value)}
            render(drawn["grid-byol"], "svg")


def test_a_null_setting_is_a_level(tmp_path: Path) -> None:
    for value in (0.1, None, 0.3):
        fake_run(tmp_path / "e", "byol", 0, overrides={"optim.clip": value})
    tables = collect(tmp_path, ["e"])
    axes = {name: figure for name, _, figure in figures(tables)}["grid-byol"].axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0.1", "0.3", "null"]


def test_the_plane_of_a_sweep_has_a_line_for_each_configuration_and_crosses_the_collapsed(tmp_path: Path) -> None:
    for beta in (0.0, 1.0):
        for seed in range(3):
            fake_run(tmp_path / "s", "raft", seed, overrides={"method.beta": beta}, collapsed=beta == 0 and seed == 1)
    fake_run(tmp_path / "s", "simclr", 0)  # not swept: no panel
    tables = collect(tmp_path, ["s"])
    (axes,) = {name: figure for name, _, figure in figures(tables)}["grid-alignment-uniformity"].axes
    ends = {line.get_label(): line for line in axes.get_lines() if line.get_marker() in ("o", "X")}
    assert {label: line.get_marker() for label, line in ends.items()} == {"beta=0": "X", "beta=1": "o"}
    history = tables.history.merge(tables.runs[["run_id", "overrides"]], on="run_id")
    for label, line in ends.items():
        own = history[history["overrides"].str.contains(f"{label}.0")].dropna(subset=["uniformity"])
        last = own[own["epoch"] == own["epoch"].max()]
        assert line.get_markevery() == [-1]
        assert line.get_xydata()[-1] == pytest.approx([last["uniformity"].mean(), last["alignment"].mean()])


def test_what_all_methods_vary_has_one_colour_in_every_panel_of_the_plane(tmp_path: Path) -> None:
    for predictor in ("mlp", "none"):
        fake_run(tmp_path / "s", "byol", 0, overrides={"method.predictor": predictor})
        for beta in (0.0, 1.0):
            fake_run(tmp_path / "s", "raft", 0, overrides={"method.predictor": predictor, "method.beta": beta})
    panels = {name: figure for name, _, figure in figures(collect(tmp_path, ["s"]))}["grid-alignment-uniformity"].axes
    looks = {line.get_label(): (line.get_color(), line.get_linestyle()) for axes in panels for line in axes.get_lines()}
    assert set(looks) == {
        *(f"predictor={p}, beta={b}" for p in ("mlp", "none") for b in (0, 1)),
        "predictor=mlp",
        "predictor=none",
    }
    for predictor in ("mlp", "none"):
        own = [look for label, look in looks.items() if f"predictor={predictor}" in str(label)]
        assert len({shade for shade, _ in own}) == 1
        assert len(set(own)) == 2  # beta by the line
    assert len({shade for shade, _ in looks.values()}) == 2


def test_a_grid_of_three_keys_is_three_panels(tmp_path: Path) -> None:
    for lr in (0.1, 1.0):
        for tau in (0.9, 0.99):
            for crop in (0.1, 0.4):
                overrides = {"optim.lr": lr, "method.tau": tau, "augment.crop_min": crop}
                fake_run(tmp_path / "e", "byol", 0, overrides=overrides, level=80 + lr + tau + crop)
    tables = collect(tmp_path, ["e"])
    panels = {name: figure for name, _, figure in figures(tables)}["grid-byol"].axes
    assert {axes.get_xlabel() for axes in panels} == {"optim.lr", "method.tau", "augment.crop_min"}


def board(*names: str, **methods: str) -> pd.DataFrame:
    """Rows of a leaderboard: methods by their own names, and labels of methods."""
    return pd.DataFrame({"entry": [*names, *methods], "method": [*names, *methods.values()]})


def test_looks_belong_to_methods() -> None:
    assert set(LOOKS) <= set(REGISTRY)
    assert len({look.colour for look in LOOKS.values()}) == len(LOOKS)
    assert len({(look.marker, look.fill) for look in LOOKS.values()}) == len(LOOKS)  # matplotlib has 15 to fill
    assert list(looks(board("zeta", "random", "byol", "alpha", "raft"))) == ["raft", "byol", "alpha", "zeta", "random"]


@pytest.mark.parametrize("n", [1, 2, len(SPARE_COLOURS), 100])
def test_a_method_that_nobody_listed_has_a_colour_of_its_own(n: int) -> None:
    foreign = [f"package{i}:Method" for i in range(n)]
    found = looks(board(*LOOKS, *foreign))
    assert {method: found[method] for method in LOOKS} == LOOKS
    assert len({look.colour for look in found.values()}) == len(found)
    assert all(to_hex(look.colour) == look.colour.lower() for look in found.values())
    assert looks(board(*reversed([*LOOKS, *foreign]))) == found  # whatever the order


@pytest.mark.parametrize("method", [*LOOKS, "theirs"])
@pytest.mark.parametrize("n", [1, 3, 12])
def test_entries_of_a_method_are_told_apart_and_known_as_its(method: str, n: int) -> None:
    others = [name for name in LOOKS if name != method]
    labels = {f"label {i:02}": method for i in range(n)}
    found = looks(board(*others, **labels))
    alone = looks(board(*others, method))[method]
    own = [look for entry, look in found.items() if entry in labels]
    assert own[0] == alone and {look.marker for look in own} == {alone.marker}
    assert len({look.colour for look in found.values()}) == len(found)
    assert len({(look.fill, look.line) for look in own}) == n  # in grey print, too
    assert {entry: found[entry] for entry in others} == {name: LOOKS[name] for name in others}
    with_name = looks(board(method, **labels))  # the method's own name keeps the method's look
    assert with_name[method] == alone


def test_the_entries_of_a_method_stand_together() -> None:
    found = looks(board("byol", "random", b="raft", a="raft", c="random"))
    assert list(found) == ["a", "b", "byol", "random", "c"]


def test_a_figure_of_foreign_methods_has_a_colour_for_each(tmp_path: Path) -> None:
    for method in ("raft", "theirs", "ours", "other"):
        for seed in range(2):
            fake_run(tmp_path / "e", method, seed, epochs=10)
    drawn = {name: figure for name, _, figure in figures(collect(tmp_path, ["e"]))}
    shades: dict[str, set[str]] = {}
    for figure in drawn.values():
        for legend in figure.legends:
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                shades.setdefault(text.get_text(), set()).add(to_hex(handle.get_color()))
    assert set(shades) == {"RAFT", "theirs", "ours", "other"}
    assert all(len(own) == 1 for own in shades.values())  # the same in every figure
    assert len({shade for own in shades.values() for shade in own}) == 4


def test_odd_names_draw_as_they_are(tmp_path: Path) -> None:
    for seed in range(2):
        fake_run(tmp_path / "e", r"_$\frac{<script>中", seed)
        fake_run(tmp_path / "e", "byol", seed, overrides={"optim.lr": 0.1 + seed})
    tables = collect(tmp_path, ["e"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _, _, figure in figures(tables):
            render(figure, "png")
    assert plain("a" * 99) == "a" * 14 + "…" + "a" * 14
    assert plain("_$中") == r" _\$[U+4E2D]"
    assert slug("../<x>/y") == "x-y"
    assert slug("a" * 80 + "@01234567") != slug("a" * 80 + "@89abcdef")


def test_nothing_done_draws_nothing(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0, state="planned")
    assert list(figures(collect(tmp_path, ["e"]))) == []


def test_files(tmp_path: Path) -> None:
    fake_run(tmp_path / "e", "byol", 0)
    first = {path.name: path.read_bytes() for path in write(tmp_path, ["e"], ["png", "pdf"])}
    assert first["leaderboard.png"].startswith(b"\x89PNG")
    assert first["leaderboard.pdf"].startswith(b"%PDF")
    again = {path.name: path.read_bytes() for path in write(tmp_path, ["e"], ["png", "pdf"])}
    assert first == again
    assert np.all([(tmp_path / "e" / "figures" / name).exists() for name in first])


def entries(results: Path) -> Tables:
    """Four rows of RAFT, two of them swept, whose labels differ in signs alone."""
    for lr in (0.1, 1.0):
        for label in ("RAFT, half a teacher and a half", "RAFT half a teacher, and a half"):
            for seed in range(3):
                overrides = {"optim.lr": lr, "method.tau": len(label.partition(",")[0]) / 100}
                fake_run(results / "e", "raft", seed, label=label, overrides=overrides, level=80 + lr, epochs=10)
    for seed in range(3):
        fake_run(results / "e", "raft", seed, epochs=10)
        fake_run(results / "e", "raft", seed, label="$x_1$", overrides={"method.tau": 0.5}, epochs=10)
    return collect(results, ["e"])


def test_every_figure_tells_the_entries_of_a_method_apart(tmp_path: Path) -> None:
    tables = entries(tmp_path)
    drawn = {name: figure for name, _, figure in figures(tables)}
    names = {"RAFT", r"\$x_1\$", *(plain(label) for label in tables.leaderboard["entry"] if "teacher" in label)}
    assert len(names) == 4
    for name in ("curves-accuracy", "effective-rank", "alignment-uniformity", "cost"):
        (legend,) = drawn[name].legends
        assert {text.get_text() for text in legend.get_texts()} == names
        assert len({to_hex(handle.get_color()) for handle in legend.legend_handles if handle}) == 4
    titles = {axes.get_title().replace("\n", " ") for axes in drawn["curves-loss"].axes if axes.get_title()}
    assert titles == {plain(entry_name(entry), 36) for entry in tables.leaderboard["entry"]}
    labels = [text.get_text() for text in drawn["differences"].axes[0].get_yticklabels()]
    assert {part for label in labels for part in label.replace("\n− ", " − ").split(" − ")} == names
    for figure in drawn.values():
        render(figure, "png")  # a label is no formula


def test_grids_of_entries_have_files_of_their_own(tmp_path: Path) -> None:
    names = [name for name, _, _ in figures(entries(tmp_path))]
    assert len(names) == len(set(names))
    assert [name for name in names if name.startswith("grid-RAFT")] == [
        "grid-RAFT-half-a-teacher-and-a-half",
        "grid-RAFT-half-a-teacher-and-a-half-2",
    ]
