"""Nearest neighbours are those that every cosine gives; the same runs give the same files; the page shows them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bench import backbone
from bench.data.augment import normalize
from bench.errors import UserError
from bench.export import pictures, trained
from bench.report import write
from bench.runs import store
from bench.runs.store import RunDir
from bench.tables.leaderboard import collect


def test_neighbours_are_those_of_brute_force(results: Path, tmp_path: Path) -> None:
    (path,) = (results / "small/runs").glob("byol-*-s0")
    run = trained.load(store.read_run(RunDir(path)), tmp_path)
    images, labels = run.dataset.load_test()
    found = pictures.neighbours(run, images, labels, torch.device("cpu"))
    network = backbone.load(RunDir(path).encoder).eval()
    data = run.dataset
    with torch.no_grad():
        bank = network(normalize(data.images[:], data.mean, data.std)).double().numpy()
        asked = network(normalize(images[found.queries], data.mean, data.std)).double().numpy()
    for query, nearest, right, place in zip(asked, found.nearest, found.right, found.queries, strict=True):
        cosines = bank @ query / np.linalg.norm(bank, axis=1) / np.linalg.norm(query)
        assert cosines[nearest] == pytest.approx(np.sort(cosines)[::-1][:5], abs=1e-6)
        assert right.tolist() == [data.labels[i] == labels[place] for i in nearest]


def test_images_are_taken_evenly_over_classes() -> None:
    few = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2])
    assert few[pictures.spread(few, 6)].tolist() == [0, 1, 2, 0, 2, 0]
    many = torch.arange(100).repeat(2)
    assert pictures.spread(many, 4).tolist() == [0, 25, 50, 75]
    assert sorted(pictures.spread(few, 50).tolist()) == list(range(9))


def test_frames_tell_right_from_wrong() -> None:
    framed = pictures.framed(torch.zeros(1, 3, 3, 8, 8, dtype=torch.uint8), torch.tensor([[True, False]]))
    corners = [tuple(image[:, 0, 0].tolist()) for image in framed[0]]
    assert corners == [pictures.NONE, pictures.RIGHT, pictures.WRONG]
    assert framed[0, :, :, 20, 20].sum() == 0


def test_a_collapsed_encoder_has_a_map_of_one_point() -> None:
    assert np.ptp(pictures.placed(torch.ones(40, 8)), axis=0).max() < 1e-3


def test_of_several_seeds_the_lowest_is_shown(results: Path) -> None:
    chosen = list(pictures.chosen(results / "small", collect(results, ["small"])))
    assert sorted((title, run.run_id[-2:]) for title, run in chosen) == [
        ("BYOL, seed 0", "s0"),
        ("untrained, seed 0", "s0"),
    ]


@pytest.mark.slow  # two t-SNEs, twice
def test_the_same_runs_give_the_same_files_which_reports_keep_and_show(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "MAPPED", 60)
    files = list(pictures.write(results, "small", tmp_path))
    before = [path.read_bytes() for path in files]
    assert [path.name for path in files] == ["neighbours.png", "feature-map.png", "feature-map.pdf"]
    assert [path.read_bytes() for path in pictures.write(results, "small", tmp_path)] == before
    written = write.write(results, ["small"], ["html", "png", "pdf"])
    assert [path.read_bytes() for path in files] == before
    page = next(path for path in written if path.name == "report.html").read_text()
    assert [name for name in ("neighbours", "feature-map", "preview") if f'id="figure-{name}"' in page] == [
        "neighbours",
        "feature-map",
    ]


def test_what_cannot_be_drawn_is_told_in_a_line(results: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown experiment 'smal'"):
        list(pictures.write(results, "smal", tmp_path))
    (run,) = (results / "small/runs").glob("byol-*-s0")
    planned = tmp_path / "results/planned/runs" / run.name
    planned.mkdir(parents=True)
    (planned / "config.json").write_bytes((run / "config.json").read_bytes())
    with pytest.raises(UserError, match="no run of 'planned' is done: bench status planned tells why"):
        list(pictures.write(tmp_path / "results", "planned", tmp_path))
