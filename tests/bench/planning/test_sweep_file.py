"""Sweep files: the flags' names, flags on top, errors with file and line."""

from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from bench.planning import sweep_file
from bench.planning.entries import label_of
from bench.planning.evaluate import EvaluationRequest, beside
from bench.planning.request import Request

FILE = """
method = ["raft", "byol"]
seeds = [3, 7]
preset = "quick"
experiment = "paper"
runs_per_job = 4
time = 30

[set]
train.epochs = 2
backbone.stem = "small"
optim.lars_clip = true
augment.view2.blur = 0.5

[grid]
optim.lr = [0.1, 1]
method.tau = [0.99]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "paper.toml"
    path.write_text(FILE)
    return path


def test_a_file_says_what_flags_say(file: Path) -> None:
    assert sweep_file.options(file, {"seeds": None}).model_dump(exclude_unset=True) == {
        "method": "raft,byol",
        "seeds": "3,7,",
        "preset": "quick",
        "experiment": "paper",
        "runs_per_job": 4,
        "time": "30",
        "set": {
            "train.epochs": "2",
            "backbone.stem": "small",
            "optim.lars_clip": "true",
            "augment.view2.blur": "0.5",
        },
        "grid": {"optim.lr": ["0.1", "1"], "method.tau": ["0.99"]},
    }


def test_flags_override_the_file_key_by_key(file: Path) -> None:
    flags = {"method": "simclr", "set": ["train.epochs=3", "optim.lr=0.5"], "grid": ["method.tau=0.9,0.99"]}
    options = sweep_file.options(file, flags)
    assert options.method == "simclr"
    assert options.set["train.epochs"] == "3" and options.set["backbone.stem"] == "small"
    assert options.set["optim.lr"] == "0.5"
    assert options.grid == {"method.tau": ["0.9", "0.99"]}


def test_runs_are_methods_x_seeds_x_grid_points(file: Path) -> None:
    runs = sweep_file.planned(file, sweep_file.options(file, {}))
    assert len({run["run_id"] for run in runs}) == len(runs) == 2 * 2 * 2
    assert {run["seed"] for run in runs} == {3, 7} and {run["experiment"] for run in runs} == {"paper"}


def test_equal_grid_points_are_one() -> None:
    options = sweep_file.options(None, {"method": "byol", "grid": ["optim.lr=0.1,0.10,1e-1"]})
    assert len(sweep_file.planned(None, options)) == 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds", "sedes", ":3: unknown key 'sedes': did you mean 'seeds'? one of "),
        ("runs_per_job = 4", "runs_per_job = 0", ":6: runs_per_job = 0: should be a whole number above zero"),
        ("runs_per_job = 4", "runs_per_job = true", ":6: runs_per_job = True: should be a whole number above zero"),
        ('"quick"', "3", ":4: preset = 3: should be a text in quotes"),
        ("[0.1, 1]", "0.1", ":16: optim.lr = 0.1: should be a list of values to search"),
        ("[0.1, 1]", "[[1]]", ":16: optim.lr = [1]: should be a text, a number, true or false"),
        ("= 30", "= ", ":7: not valid TOML: "),
        ("[3, 7]", "[3, 7", ":4: not valid TOML: "),
        ("train.epochs", "train.epoch", ":10: unknown key 'train.epoch': did you mean 'train.epochs'?"),
        ("train.epochs = 2", "train.epochs = -2", ":10: train.epochs='-2': should be greater than or equal to 0"),
        ('"byol"', '"simclr"', ":17: unknown key of simclr 'method.tau'"),
    ],
)
def test_errors_name_file_and_line(file: Path, old: str, new: str, message: str) -> None:
    file.write_text(FILE.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        sweep_file.planned(file, sweep_file.options(file, {}))
    text = str(error.value)
    assert "\n" not in text and text.startswith(f"{file}{message}")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "which methods?"),
        ({"method": "raft", "on": "slrum"}, "unknown --on 'slrum': did you mean 'slurm'?"),
        ({"method": "raft", "grid": ["optim.lr"]}, "--grid 'optim.lr': expected KEY=VALUE,VALUE"),
        ({"method": "raft", "grid": ["optim.lr=1", "optim.lr=2"]}, "optim.lr is searched already"),
        ({"method": "raft", "grid": ["optim.lr=1"], "set": ["optim.lr=2"]}, "optim.lr is both set and searched"),
    ],
)
def test_wrong_flags(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        sweep_file.options(None, flags)
    assert message in str(error.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.toml: No such file"):
        sweep_file.options(tmp_path / "none.toml", {})


ENTRIES = """
seeds = 2

[set]
train.epochs = 2
optim.lr = 0.5

[[entry]]
method = "raft"

[[entry]]
label = "RAFT, no predictor"
method = "raft"
set = { "method.predictor" = "none", optim.lr = 0.25 }

[[entry]]
label = "BYOL, slow teacher"
method = "byol"
[entry.set]
method.tau = 0.999
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.toml"
    path.write_text(ENTRIES)
    return path


def rows(file: Path, flags: dict[str, Any]) -> list[tuple[str, str, dict[str, str]]]:
    """(method, label, overrides) of the configurations of a file, in order."""
    runs = sweep_file.planned(file, sweep_file.options(file, flags))
    return [(run["method"], run.get("entry", ""), run["overrides"]) for run in runs if run["seed"] == 0]


def test_an_entry_is_a_method_with_settings_which_win_over_those_of_all(table: Path) -> None:
    assert rows(table, {}) == [
        ("raft", "", {"train.epochs": "2", "optim.lr": "0.5"}),
        ("raft", "RAFT, no predictor", {"train.epochs": "2", "optim.lr": "0.25", "method.predictor": "none"}),
        ("byol", "BYOL, slow teacher", {"train.epochs": "2", "optim.lr": "0.5", "method.tau": "0.999"}),
    ]


def test_seeds_grid_and_flags_apply_to_every_entry(table: Path) -> None:
    flags = {"seeds": "3", "set": ["train.epochs=4"], "grid": ["method.projector_hidden=64,128"]}
    runs = sweep_file.planned(table, sweep_file.options(table, flags))
    assert len({run["run_id"] for run in runs}) == len(runs) == 3 * 3 * 2
    assert {run["overrides"]["train.epochs"] for run in runs} == {"4"}


def test_methods_stand_beside_entries_by_their_own_names(table: Path) -> None:
    table.write_text('method = ["simclr"]\n' + ENTRIES)
    assert [(method, label) for method, label, _ in rows(table, {})] == [
        ("simclr", ""),
        ("raft", ""),
        ("raft", "RAFT, no predictor"),
        ("byol", "BYOL, slow teacher"),
    ]


def test_the_flag_for_methods_selects_entries(table: Path) -> None:
    table.write_text('method = ["simclr"]\n' + ENTRIES)
    assert [label for _, label, _ in rows(table, {"method": "raft"})] == ["", "RAFT, no predictor"]
    assert [method for method, _, _ in rows(table, {"method": "byol,simclr"})] == ["simclr", "byol"]
    with pytest.raises(
        UserError, match=r"--method dino: no entry of .*table.toml has it; they have simclr, raft, byol"
    ):
        sweep_file.options(table, {"method": "dino"})


def test_only_selected_entries_are_looked_at_and_lines_are_the_files(table: Path) -> None:
    assert len(rows(table, {"method": "raft", "grid": ["method.tau=0.9,0.99"]})) == 4  # byol's entry sets it
    table.write_text(ENTRIES.replace("method.tau = 0.999", "method.tau = 9"))
    with pytest.raises(UserError, match=r"table.toml:20: byol's method.tau='9'"):
        rows(table, {"method": "byol"})


def test_labels_are_no_part_of_a_run_id(table: Path) -> None:
    runs = sweep_file.planned(table, sweep_file.options(table, {}))
    own = {"method": "byol", "set": ["train.epochs=2", "optim.lr=0.5", "method.tau=0.999"]}
    (alone,) = sweep_file.planned(None, sweep_file.options(None, own))
    assert runs[2]["run_id"] == alone["run_id"]
    assert {key: runs[2][key] for key in runs[2] if key not in alone} == {
        "entry": "BYOL, slow teacher",
        "entry_keys": ["method.tau"],
    }


def test_without_entries_a_plan_says_nothing_of_them(file: Path) -> None:
    for run in sweep_file.planned(file, sweep_file.options(file, {})):
        assert not {"entry", "entry_keys"} & set(run)


def test_the_methods_own_name_is_no_label(table: Path) -> None:
    table.write_text(ENTRIES.replace('method = "raft"', 'method = "raft"\nlabel = "RAFT"', 1))
    assert rows(table, {})[0][:2] == ("raft", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"byol"', '"boyl"', ":18: unknown method 'boyl': did you mean 'byol'?"),
        ('method = "byol"', "", ":16: an entry needs a method"),
        ('method = "byol"', "method = 3", ":18: method = 3: should be a text in quotes"),
        (
            "label = ",
            "lable = ",
            ":12: unknown key of [[entry]] 'lable': did you mean 'label'? one of label, method, set",
        ),
        ('"RAFT, no predictor"', '""', ":12: label = '': should be printable text"),
        ('"RAFT, no predictor"', r'"a\nb"', r":12: label = 'a\nb': should be printable text on one line"),
        ('"RAFT, no predictor"', "1", ":12: label = 1: should be a text in quotes"),
        (
            '"RAFT, no predictor"',
            f'"{"x" * 61}"',
            ":12: label = 'xxxxxxxxxxxxxxxxxxxx'...: 61 characters; use at most 60",
        ),
        ('"RAFT, no predictor"', '"BYOL\'"', ":12: label = \"BYOL'\": that is the name of the method 'byol_prime'"),
        ('"RAFT, no predictor"', '"byol"', ":12: label = 'byol': that is the name of the method 'byol'"),
        ('"RAFT, no predictor"', '"RAFT"', ":12: two entries are called 'raft': give one of them a label"),
        ('"BYOL, slow teacher"', '"raft, NO predictor"', ":17: two entries are called 'raft, NO predictor'"),
        ('"none"', "[1]", ":14: method.predictor = [1]: should be a text, a number, true or false"),
        (
            '"none"',
            '"no"',
            ":14: raft's method.predictor='no': should be 'mlp', 'mlp_no_bn', 'linear_bn', 'linear' or 'none'",
        ),
        ("method.tau =", "method.tua =", ":20: unknown key of byol 'method.tua': did you mean 'method.tau'?"),
        ("optim.lr = 0.5", "optim.ls = 0.5", ":6: unknown key 'optim.ls': did you mean 'optim.lr'?"),
        ("[set]", "[grid]\nmethod.tau = [0.9]\n[set]", ":22: entry 'BYOL, slow teacher' sets method.tau, which [grid]"),
        ("seeds = 2", "seeds = 2\nentry = 3\n[other]", ":3: entry should be tables: [[entry]]"),
    ],
)
def test_errors_in_entries_name_file_and_line(table: Path, old: str, new: str, message: str) -> None:
    text = ENTRIES.replace(old, new, 1)
    table.write_text(text.partition("[[entry]]")[0] if "entry = 3" in text else text)
    with pytest.raises(UserError) as error:
        sweep_file.planned(table, sweep_file.options(table, {}))
    said = str(error.value)
    assert "\n" not in said and said.startswith(f"{table}{message}")


@pytest.mark.parametrize("flag", ["set", "grid"])
def test_no_flag_changes_what_an_entry_sets(table: Path, flag: str) -> None:
    with pytest.raises(
        UserError, match=f"--{flag} method.tau: entry 'BYOL, slow teacher' of .* sets it; change it there"
    ):
        sweep_file.options(table, {flag: ["method.tau=0.5"]})


def test_entries_of_the_same_settings_are_the_same_runs(table: Path) -> None:
    same = "set = { optim.lr = 0.50 }"  # what [set] says for all
    table.write_text(ENTRIES.replace('set = { "method.predictor" = "none", optim.lr = 0.25 }', same))
    with pytest.raises(
        UserError, match="'raft' and 'RAFT, no predictor' have the same settings: these are the same runs"
    ):
        sweep_file.planned(table, sweep_file.options(table, {}))


ENCODERS = """method = "raft"
[encoder]
r50 = "timm:resnet50.a1_in1k"
mine = { source = "file:mine.pth", mean = [0.5, 0.5, 0.5], std = "0.5,0.5,0.5", size = 32 }
"""


def judged(path: Path, text: str) -> list[EvaluationRequest]:
    path.write_text(text)
    asked = sweep_file.options(path, {"jobs": 1})
    return beside(Request(sweep_file.planned(path, asked), path.parent, path.parent, asked, "x"), asked.encoder)


def test_encoders_from_elsewhere_are_judged_beside_the_runs_by_what_ends_their_training(tmp_path: Path) -> None:
    (request,) = judged(tmp_path / "sweep.toml", ENCODERS)
    assert [run["run_id"] for run in request.planned] == ["r50", "mine"]
    assert [asked.evaluation for asked in request.asked] == ["linear", "knn"] and request.options.jobs == 1
    (_, r50), (_, mine) = request.encoders
    assert r50.source == "timm:resnet50.a1_in1k" and r50.mean is None
    assert (mine.mean, mine.std, mine.size) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 32)
    assert not judged(tmp_path / "without.toml", 'method = "raft"')


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("mine = 3", ":3: mine = 3: should be a source"),
        ("mine = { size = 32 }", ":3: mine = {'size': 32}: should be a source"),
        ('mine = "resnet50"', "--encoder mine='resnet50': give timm:NAME.TAG"),
        ('mine = { source = "file:x.pth", sice = 3 }', "did you mean 'encoder.mine.size'"),
        ('raft = "file:x.pth"', "raft is a method here"),
        ('mine = "file:x.pth"\n[grid]\ndata.name = ["digits", "cifar10"]', "have several data sets"),
    ],
)
def test_an_encoder_that_cannot_be_is_told_before_anything_is_done(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(UserError) as told:
        judged(tmp_path / "sweep.toml", f'method = "raft"\n[encoder]\n{line}\n')
    assert reason in str(told.value)


@pytest.mark.parametrize("label", ["=cmd()", "+1", "-1", "@x"])
def test_no_label_is_a_formula_of_a_spreadsheet(label: str) -> None:
    with pytest.raises(ValueError, match="should not begin with"):
        label_of(label, "raft")
