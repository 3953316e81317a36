"""Cluster profiles: what they may say, whose they are, and errors that name the file and the line."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bench.errors import UserError
from slurm import clusters


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = clusters.users_file()
    assert path
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
        (
            "[lab]\nsbatch = { nice = [1] }\n",
            ":2: profile 'lab': sbatch: nice = [1]: should be a text, a number, or true",
        ),
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


@pytest.mark.parametrize(
    ("asked", "gpus", "n"),
    [
        ("2", "2", 2),
        ("0", "0", 0),
        ("a100", "a100:1", 1),
        ("a100:2", "a100:2", 2),
        ("gpu:a100:2", "a100:2", 2),
        ("gpu:a100", "a100:1", 1),
        ("gpu:2", "2", 2),
        ("gpu", "1", 1),
        ("gtx_1080:4", "gtx_1080:4", 4),
        ("3g.20gb:1", "3g.20gb:1", 1),
        ("1080:2", "1080:2", 2),
    ],
)
def test_gpus_as_people_write_them(asked: str, gpus: str, n: int) -> None:
    profile = clusters.load("default", {"gpus": asked})
    assert (profile.gpus, profile.n_gpus) == (gpus, n)


@pytest.mark.parametrize("asked", ["two gpus", "-1", "", "a100:", "a100:x", ":2", "a:b:2", "2.5", "a100 2"])
def test_what_is_no_request_for_gpus(asked: str) -> None:
    with pytest.raises(UserError, match=r"^--gpus: '.*' is no request for GPUs: give .*, e.g. 2, a100 or a100:2$"):
        clusters.load("default", {"gpus": asked})


@pytest.mark.parametrize(
    ("asked", "mem"),
    [
        ("16G", "16G"),
        ("16GB", "16G"),
        ("16 gb", "16G"),
        ("16GiB", "16G"),
        ("500mb", "500M"),
        ("16000", "16000"),
        ("0", "0"),
    ],
)
def test_memory_as_people_write_it(asked: str, mem: str) -> None:
    assert clusters.load("default", {"mem": asked}).mem == mem


@pytest.mark.parametrize("asked", ["16.5G", "lots", "16X", "G", "-1G", "16G 2", "١٦G"])
def test_what_is_no_amount_of_memory(own: Path, asked: str) -> None:
    own.write_text(f'[lab]\nmem = "{asked}"\n')
    message = f":2: profile 'lab': mem: '{asked}' is no amount of memory: give a whole number and its unit, e.g. 16G"
    with pytest.raises(UserError) as error:
        clusters.load("lab", {})
    assert str(error.value).startswith(f"{own}{message}")


def test_options_without_a_value(own: Path) -> None:
    own.write_text('[x]\nsbatch = { exclusive = true, spread-job = false, reservation = "r", nice = 5 }\n')
    assert clusters.load("x", {}).options() == {"exclusive": True, "reservation": "r", "nice": "5"}


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("array", "'array' cannot be set: --runs-per-job and --max-parallel shape the array"),
        ("output", "'output' cannot be set: logs lie in the submission's folder"),
        ("arr", "'arr' (short for array) cannot be set: "),
        ("o", "'o' (short for output) cannot be set: "),
        ("mem", "'mem' cannot be set: use the key mem"),
        ("signal", "'signal' cannot be set: use the key margin"),
        ("clusters", "'clusters' cannot be set: jobs are looked for on the cluster at hand"),
        ("parsable", "'parsable' cannot be set: sbatch's answer is read here"),
        *((name, f"'{name}' cannot be set: ") for name in clusters.OURS_ALONE),
    ],
)
def test_what_the_program_sets_itself_cannot_be_replaced(own: Path, option: str, told: str) -> None:
    for value in ('"x"', "true", "false"):
        own.write_text(f"[lab]\nsbatch = {{ {option} = {value} }}\n")
        with pytest.raises(UserError) as error:
            clusters.load("lab", {})
        assert str(error.value).startswith(f"{own}:2: profile 'lab': sbatch: {told}") and "\n" not in str(error.value)


def test_everything_that_a_script_sets_is_protected(tmp_path: Path) -> None:
    """A new option of ours, or of submitit's, needs its row in OURS_ALONE."""
    from submitit.slurm.slurm import _make_sbatch_string

    asked: Any = dict.fromkeys(("partition", "account", "qos", "constraint", "mem", "dependency"), "x")
    asked |= {"cpus_per_task": 1, "gpus_per_node": "1", "ntasks_per_node": 1, "wckey": None, "map_count": 2}
    text = _make_sbatch_string("x", tmp_path, additional_parameters={"requeue": True}, **asked)
    options = {line.removeprefix("#SBATCH --").partition("=")[0] for line in text.splitlines() if "#SBATCH" in line}
    assert len(options) > 15 and options <= clusters.OURS_ALONE.keys()


@pytest.mark.parametrize("line", ["#SBATCH --array=0-9", "  #SBATCH -p x", "module load a\\n#SBATCH -p x", "#PBS -q x"])
def test_setup_cannot_hide_options(own: Path, line: str) -> None:
    """sbatch reads them up to the first command of the script."""
    own.write_text(f'[lab]\nsetup = ["{line}"]\n')
    with pytest.raises(UserError, match=r":2: profile 'lab': setup: '.*' is an option, not a command"):
        clusters.load("lab", {})


def test_a_backslash_would_be_dropped(own: Path) -> None:
    own.write_text("[lab]\nsbatch = { comment = 'a\\b' }\n")
    with pytest.raises(UserError, match="has a backslash, which sbatch would drop"):
        clusters.load("lab", {})


def test_variables_of_the_job_are_replaced_and_nothing_else_is(own: Path) -> None:
    values = {
        "PATH": "/x:$PATH",
        "BOTH": "${HOME}x$PATH",
        "PRICE": "5$$",
        "QUOTES": "a'b\"c",
        "COMMAND": "`id`; id; a && b | c > d * ~ !! # e",
        "BACK": "a\\b\\$PATH",
        "NEXT": "$PRICE",
    }
    own.write_text("[lab.environment]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    lines = clusters.load("lab", {}).exports()
    script = "\n".join([*lines, *(f'printf "%s\\0" "${key}"' for key in values)])
    done = subprocess.run(
        ["bash", "-c", script], env={"PATH": "/bin:/p", "HOME": "/h h"}, capture_output=True, text=True
    )
    assert dict(zip(values, done.stdout.split("\0"), strict=False)) == values | {
        "PATH": "/x:/bin:/p",
        "BOTH": "/h hx/x:/bin:/p",
        "PRICE": "5$",
        "BACK": "a\\b\\/x:/bin:/p",
        "NEXT": "5$",
    }
    assert not done.stderr


@pytest.mark.parametrize("value", ["$(id)", "${A:-b}", "5$", "$1", "a$ b", "${A"])
def test_what_is_no_reference_to_a_variable(own: Path, value: str) -> None:
    own.write_text(f'[lab]\nenvironment = {{ A = "{value}" }}\n')
    with pytest.raises(UserError, match=r":2: profile 'lab': environment: .* write \$\$ for a dollar sign$"):
        clusters.load("lab", {})


def test_without_a_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user has no name."""

    def no_home(self: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", no_home)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert clusters.load("default", {}).n_gpus == 1
    with pytest.raises(UserError, match=r"your own go to bench/clusters.toml in \$XDG_CONFIG_HOME"):
        clusters.load("lab", {})
