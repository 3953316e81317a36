"""Cluster profiles: what a job asks SLURM for. Ours are in clusters.toml; the user's own replace them by name."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError, field_validator, model_validator

from bench.errors import UserError, unknown
from bench.planning.toml import line_of, read_toml

MARGIN_SECONDS = 90
OURS = Path(__file__).with_name("clusters.toml")

_LIMIT = re.compile(
    r"(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"
    r"|(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)|(?P<only_m>\d+)(?::(?P<only_s>\d+))?)",
    re.ASCII,
)
_REFERENCE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\}|(\$))", re.ASCII)

ONE_TASK = "a job is one task on one node"
LOGS = "logs lie in the submission's folder"
OURS_ALONE = {
    **{name: f"use the key {name}" for name in ("partition", "account", "qos", "constraint", "time", "mem")},
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"), "use the key gpus"),
    **dict.fromkeys(("cpus-per-task", "cpus-per-gpu"), "use the key cpus"),
    **dict.fromkeys(("nodes", "ntasks", "ntasks-per-node", "tasks-per-node", "ntasks-per-gpu"), ONE_TASK),
    **dict.fromkeys(("export", "export-file"), "use the key environment"),
    **dict.fromkeys(("output", "error", "open-mode"), LOGS),
    "array": "--runs-per-job and --max-parallel shape the array",
    "dependency": "arrays wait for each other by it",
    "job-name": "jobs are found by their names",
    "signal": "use the key margin",
    "requeue": "jobs are always requeued",
    "no-requeue": "jobs are always requeued",
    "clusters": "jobs are looked for on the cluster at hand: submit from one of its machines",
    "wrap": "a job's script is made here",
    "wait": "`bench status --watch` waits",
    **dict.fromkeys(("test-only", "help", "usage", "version"), "nothing would be submitted"),
    **dict.fromkeys(("parsable", "quiet"), "sbatch's answer is read here"),
}
"""Options of sbatch that a profile's `sbatch` cannot set, as they are set here or would break what is, and why."""


def minutes(limit: str) -> int:
    """SLURM's time formats (M, M:S, H:M:S, D-H, D-H:M, D-H:M:S) -> minutes, rounded up. Raises ValueError."""
    found = _LIMIT.fullmatch(limit.strip())
    if not found:
        raise ValueError(f"{limit!r} is no time limit: give minutes, H:MM:SS or D-HH:MM:SS, e.g. 4:00:00")
    n = {name: int(text or 0) for name, text in found.groupdict().items()}
    seconds = 86400 * n["days"] + 3600 * (n["hours"] + n["h"]) + 60 * (n["minutes"] + n["m"] + n["only_m"])
    seconds += n["seconds"] + n["s"] + n["only_s"]
    if not 0 < seconds <= 366 * 86400:
        raise ValueError(f"{limit!r} is no time limit: it should be above zero and at most a year")
    return -(-seconds // 60)


def memory(amount: str) -> str:
    """ "16G", "16GB", "16 gib", "16000M", "16000" (MB) -> as sbatch takes it: "16G". Raises ValueError."""
    found = re.fullmatch(r"(\d+)\s*(?:([KMGT])(?:i?B)?|MB)?", amount.strip(), re.IGNORECASE | re.ASCII)
    if not found:
        raise ValueError(f"{amount!r} is no amount of memory: give a whole number and its unit, e.g. 16G or 16000M")
    return found[1] + (found[2] or "").upper()


def devices(request: str) -> str:
    """ "2", "a100", "gpu:a100:2" -> as --gpus-per-node takes it: "2", "a100:1", "a100:2". Raises ValueError."""
    number, kind = r"\d+", r"\w[\w.-]*"
    text = request.strip().removeprefix("gpu:")
    if re.fullmatch(rf"({kind}:)?{number}", text, re.ASCII):
        return text
    if text == "gpu":
        return "1"
    if re.fullmatch(kind, text, re.ASCII) and re.search("[A-Za-z]", text):
        return f"{text}:1"
    raise ValueError(f"{request!r} is no request for GPUs: give a number, a type or both, e.g. 2, a100 or a100:2")


class Profile(BaseModel):
    """What one job of a sweep asks for; keys as clusters.toml explains them."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: str = "4:00:00"
    gpus: str = "1"
    cpus: int = Field(0, ge=0)
    """0: as many as the runs at a time have threads."""
    mem: str = ""
    margin: int = Field(0, ge=0, le=65535)
    """0: MARGIN_SECONDS, or half of a shorter time limit."""
    setup: list[str] = []
    environment: dict[str, str] = {}
    sbatch: dict[str, StrictBool | str] = {}
    max_array_size: int = Field(1001, ge=2)
    on_code_change: Literal["refuse", "warn"] = "refuse"

    @field_validator("time")
    @classmethod
    def _is_a_limit(cls, time: str) -> str:
        minutes(time)
        return time

    @field_validator("gpus")
    @classmethod
    def _are_gpus(cls, gpus: str) -> str:
        return devices(gpus)

    @field_validator("mem")
    @classmethod
    def _is_memory(cls, mem: str) -> str:
        return memory(mem) if mem else ""

    @field_validator("partition", "account", "qos", "constraint", "environment", "sbatch")
    @classmethod
    def _one_line(cls, value: Any, info: Any) -> Any:
        """A line break would end the #SBATCH line that the value is written to, and sbatch drops a backslash."""
        for text in value.values() if isinstance(value, dict) else [value]:
            if isinstance(text, str) and not text.isprintable():
                raise ValueError(f"{text!r} has a line break or another character that cannot be printed")
            if isinstance(text, str) and "\\" in text and info.field_name != "environment":
                raise ValueError(f"{text!r} has a backslash, which sbatch would drop")
        return value

    @field_validator("sbatch", mode="before")
    @classmethod
    def _values(cls, options: Any) -> Any:
        for name, value in options.items() if isinstance(options, dict) else ():
            if not isinstance(value, (str, int, float)):
                raise ValueError(f"{name} = {value!r}: should be a text, a number, or true for no value")
        return options

    @field_validator("environment", "sbatch")
    @classmethod
    def _names(cls, table: dict[str, Any], info: Any) -> dict[str, Any]:
        pattern = r"[A-Za-z_][A-Za-z0-9_]*" if info.field_name == "environment" else r"[a-z][a-z0-9-]*"
        for name in table:
            if not re.fullmatch(pattern, name):
                raise ValueError(f"{name!r} is not a name that {info.field_name} can have")
        return table

    @field_validator("environment")
    @classmethod
    def _references(cls, environment: dict[str, str]) -> dict[str, str]:
        for value in environment.values():
            if "$" in _REFERENCE.sub("", value):
                raise ValueError(f"{value!r}: only $NAME and ${{NAME}} are replaced; write $$ for a dollar sign")
        return environment

    @field_validator("sbatch")
    @classmethod
    def _not_ours(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            for own, reason in OURS_ALONE.items():
                if own.startswith(name):  # sbatch takes beginnings of its options' names for them
                    raise ValueError(f"{name!r}{'' if own == name else f' (short for {own})'} cannot be set: {reason}")
        return options

    @field_validator("setup")
    @classmethod
    def _no_options(cls, lines: list[str]) -> list[str]:
        """sbatch reads options up to the first command of the script."""
        for line in "\n".join(lines).splitlines():
            if re.match(r"\s*#(SBATCH|SLURM|PBS|BSUB)", line):
                raise ValueError(f"{line!r} is an option, not a command: give it as a key of the profile")
        return lines

    @model_validator(mode="after")
    def _leaves_time(self) -> "Profile":
        if self.margin >= 60 * self.minutes:
            raise ValueError(f"margin = {self.margin} s leaves no time to work before the limit of {self.time}")
        return self

    @property
    def minutes(self) -> int:
        """The time limit in minutes."""
        return minutes(self.time)

    @property
    def margin_seconds(self) -> int:
        """Seconds before the time limit at which jobs stop."""
        return self.margin or min(MARGIN_SECONDS, 30 * self.minutes)

    @property
    def n_gpus(self) -> int:
        """GPUs a job."""
        return int(self.gpus.rpartition(":")[2])

    def gpus_for(self, processes: int) -> str:
        """The request for GPUs with one for each of so many processes of a node, of the profile's type."""
        kind = self.gpus.rpartition(":")[0]
        return f"{kind}:{processes}" if kind else str(processes)

    def exports(self) -> list[str]:
        """Shell lines that set `environment` in the job: $NAME is the job's variable, all else is as it stands."""

        def quoted(match: re.Match[str]) -> str:
            return "\\$" if match[3] else f"${{{match[1] or match[2]}}}"

        escaped = {name: re.sub(r'[\\"`]', r"\\\g<0>", value) for name, value in self.environment.items()}
        return [f'export {name}="{_REFERENCE.sub(quoted, value)}"' for name, value in escaped.items()]

    def options(self) -> dict[str, str | bool]:
        """`sbatch` without what is false; true: an option without a value."""
        return {name: value for name, value in self.sbatch.items() if value is not False}


def users_file() -> Path | None:
    """The user's own profiles; None where the user has no home directory."""
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "bench" / "clusters.toml"
    except RuntimeError:
        return None


def load(name: str, changes: Mapping[str, Any]) -> Profile:
    """The profile `name` with `changes` (command-line flags; None: not given) on top.

    Raises UserError on an unknown profile or key and on values that cannot be, naming file and line.
    """
    profiles: dict[str, tuple[Path, dict[str, Any]]] = {}
    own = users_file()
    for path in (OURS, own):
        if path and os.path.lexists(path):
            for profile, values in read_toml(path).items():
                if not isinstance(values, dict):
                    raise UserError(
                        f"{path}:{line_of(path, profile)}: {profile!r} stands outside a profile: begin one with [NAME]"
                    )
                _check(values, path, profile)
                profiles[profile] = path, values
    if name not in profiles:
        problem = unknown("cluster profile", name, profiles)
        raise UserError(f"{problem} (your own go to {own or 'bench/clusters.toml in $XDG_CONFIG_HOME'})")
    given = {key: value for key, value in changes.items() if value is not None}
    try:
        return Profile(**{**profiles[name][1], **given})
    except ValidationError as error:
        key, message = _first(error)
        raise UserError(f"--{key.replace('_', '-')}: {message}") from None


def _check(values: dict[str, Any], path: Path, profile: str) -> None:
    for key in values:
        if key not in Profile.model_fields:
            problem = unknown("key", key, Profile.model_fields)
            raise UserError(f"{path}:{line_of(path, key, profile)}: profile {profile!r}: {problem}")
    try:
        Profile(**values)
    except ValidationError as error:
        key, message = _first(error)
        raise UserError(f"{path}:{line_of(path, key, profile)}: profile {profile!r}: {key}: {message}") from None


def _first(error: ValidationError) -> tuple[str, str]:
    """(key, what is wrong with it) of the first problem."""
    problem = error.errors()[0]
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] != "value_error":
        message = f"{problem['input']!r}: {message[0].lower()}{message[1:]}"
    return str(problem["loc"][0]) if problem["loc"] else "margin", message
