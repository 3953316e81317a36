"""Cluster profiles: what they may say, whose they are, and errors that name the file and the line."""

from pathlib import Path

import pytest

from bench.errors import UserError
from slurm import clusters


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = clusters.users_file()
    path.parent.mkdir()
    return path


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        ("30", 30),
        ("0:30", 1),
        ("90:00", 90),
        ("4:00:00", 240),
        ("1:00:01", 61),
        ("2-0", 2880),
        ("1-12:30", 2190),
        ("1-00:00:30", 1441),
    ],
)
def test_time_limits_as_slurm_writes_them(limit: str, minutes: int) -> None:
    assert clusters.minutes(limit) == minutes


@pytest.mark.parametrize("limit", ["", "4h", "-1", "0", "0:00:00", "1:2:3:4", "1-", "4:00:00 ", "99999-0", "1,5"])
def test_what_is_no_time_limit(limit: str) -> None:
    if limit == "4:00:00 ":
        assert clusters.minutes(limit) == 240
    else:
        with pytest.raises(ValueError, match=r"is no time limit: "):
            clusters.minutes(limit)


def test_ours_are_valid_and_flags_go_on_top(own: Path) -> None:
    assert clusters.load("default", {"gpus": None}).n_gpus == 1
    profile = clusters.load("cpu", {"time": "1-0", "gpus": "a100:2", "partition": "long"})
    assert (profile.minutes, profile.n_gpus, profile.partition) == (1440, 2, "long")


def test_the_users_own_replace_ours(own: Path) -> None:
    own.write_text('[default]\npartition = "mine"\ngpus = 0\n[lab]\ntime = 90\nenvironment = { A = "x y" }\n')
    assert clusters.load("default", {}).partition == "mine"
    assert clusters.load("lab", {}).minutes == 90
    assert clusters.load("cpu", {}).n_gpus == 0


def test_margins(own: Path) -> None:
    assert clusters.load("default", {"time": "10"}).margin_seconds == 90
    assert clusters.load("default", {"time": "2"}).margin_seconds == 60
    own.write_text("[x]\nmargin = 300\ntime = 60\n")
    assert clusters.load("x", {}).margin_seconds == 300
    with pytest.raises(UserError, match="margin: margin = 300 s leaves no time to work before the limit of 5"):
        clusters.load("x", {"time": "5"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[lab]\npartition = "x"\npartitoin = "y"\n', ":3: profile 'lab': unknown key 'partitoin': did you mean"),
        ('[lab]\ntime = "4h"\n', ":2: profile 'lab': time: '4h' is no time limit"),
        ('[lab]\ngpus = "two gpus"\n', ":2: profile 'lab': gpus: 'two gpus' is no request for GPUs: give a number"),
        ('[lab]\npartition = "a\\nb"\n', ":2: profile 'lab': partition: 'a\\nb' has a line break"),
        ('[lab]\n[lab.environment]\n"A B" = "x"\n', ":2: profile 'lab': environment: 'A B' is not a name"),
        ('[lab]\nsbatch = { "x; rm" = "y" }\n', ":2: profile 'lab': sbatch: 'x; rm' is not a name"),
        ('[lab]\non_code_change = "ask"\n', ":2: profile 'lab': on_code_change: 'ask': input should be 'refuse'"),
        ('\npartition = "x"\n', ":2: 'partition' stands outside a profile"),
        ("[lab]\npartition = \n", ":2: not valid TOML: "),
        ("[lab\n", ":1: not valid TOML: "),
    ],
)
def test_errors_name_file_and_line(own: Path, content: str, message: str) -> None:
    own.write_text(content)
    with pytest.raises(UserError) as error:
        clusters.load("default", {})
    assert str(error.value).startswith(f"{own}{message}") and "\n" not in str(error.value)


def test_an_unknown_profile(own: Path) -> None:
    with pytest.raises(UserError, match=r"unknown cluster profile 'defautl': did you mean 'default'\? one of cpu, "):
        clusters.load("defautl", {})


def test_a_wrong_flag(own: Path) -> None:
    with pytest.raises(UserError, match=r"^--time: '4h' is no time limit"):
        clusters.load("default", {"time": "4h"})
