"""Cluster profiles: what a job asks SLURM for. Ours are in clusters.toml; the user's own replace them by name."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from bench.errors import UserError, unknown
from bench.planning.toml import line_of, read_toml

MARGIN_SECONDS = 90
OURS = Path(__file__).with_name("clusters.toml")

_LIMIT = re.compile(
    r"(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?"
    r"|(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)|(?P<only_m>\d+)(?::(?P<only_s>\d+))?)"
)


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


class Profile(BaseModel):
    """What one job of a sweep asks for; keys as clusters.toml explains them."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: str = "4:00:00"
    gpus: str = Field("1", pattern=r"^([A-Za-z0-9_.-]+:)?\d+$")
    cpus: int = Field(0, ge=0)
    """0: as many as the runs at a time have threads."""
    mem: str = Field("", pattern=r"^(\d+[KMGTkmgt]?)?$")
    margin: int = Field(0, ge=0, le=65535)
    """0: MARGIN_SECONDS, or half of a shorter time limit."""
    setup: list[str] = []
    environment: dict[str, str] = {}
    sbatch: dict[str, str] = {}
    max_array_size: int = Field(1001, ge=2)
    on_code_change: Literal["refuse", "warn"] = "refuse"

    @field_validator("time")
    @classmethod
    def _is_a_limit(cls, time: str) -> str:
        minutes(time)
        return time

    @field_validator("partition", "account", "qos", "constraint", "environment", "sbatch")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        """A line break would end the #SBATCH line that the value is written to."""
        for text in value.values() if isinstance(value, dict) else [value]:
            if not text.isprintable():
                raise ValueError(f"{text!r} has a line break or another character that cannot be printed")
        return value

    @field_validator("environment", "sbatch")
    @classmethod
    def _names(cls, table: dict[str, str], info: Any) -> dict[str, str]:
        pattern = r"[A-Za-z_][A-Za-z0-9_]*" if info.field_name == "environment" else r"[a-z][a-z0-9-]*"
        for name in table:
            if not re.fullmatch(pattern, name):
                raise ValueError(f"{name!r} is not a name that {info.field_name} can have")
        return table

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


def users_file() -> Path:
    """The user's own profiles."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "bench" / "clusters.toml"


def load(name: str, changes: Mapping[str, Any]) -> Profile:
    """The profile `name` with `changes` (command-line flags; None: not given) on top.

    Raises UserError on an unknown profile or key and on values that cannot be, naming file and line.
    """
    profiles: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in (OURS, users_file()):
        if path.exists():
            for profile, values in read_toml(path).items():
                if not isinstance(values, dict):
                    raise UserError(
                        f"{path}:{line_of(path, profile)}: {profile!r} stands outside a profile: begin one with [NAME]"
                    )
                _check(values, path, profile)
                profiles[profile] = path, values
    if name not in profiles:
        problem = unknown("cluster profile", name, profiles)
        raise UserError(f"{problem} (your own go to {users_file()})")
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
