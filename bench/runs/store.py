"""Run directories: layout, atomic writes, states. No shared file and no database; who may write is claim.py's.

results/<experiment>/runs/<run_id>/
    config.json          the run as planned: resolved config, seed, preset, overrides
    claim-<k>.json       who executes it (bench.runs.claim)
    checkpoint.pt, checkpoint.previous.pt    while running
    metrics.jsonl        one JSON object a logged epoch
    encoder.safetensors  backbone weights
    result.json          written last: its existence is "done"
    error.txt            why the run failed, if it did
    log.txt              what its workers said
"""

import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn

from bench.errors import UserError
from bench.runs.claim import CLAIM_NAME, is_alive, newest_claim

SCHEMA = 1  # version of config.json and result.json

State = Literal["done", "failed", "running", "interrupted", "pending", "damaged"]
"""failed: error.txt; running: claimed by a live process; interrupted: begun, nobody is at it; pending: only planned;
damaged: result.json or config.json cannot be read."""


@dataclass(frozen=True)
class RunDir:
    """One run's directory; the names in it are given by the module's docstring."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        return self.path / "checkpoint.previous.pt"

    @property
    def encoder(self) -> Path:
        return self.path / "encoder.safetensors"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def error(self) -> Path:
        return self.path / "error.txt"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line torn by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").split("\n")[:-1]:
            with contextlib.suppress(ValueError):
                rows.append(parse_json(line))
        return rows

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Add one row with a single write."""
        with self.metrics.open("ab") as file:
            file.write(dump_json(row, indent=None).encode())

    def last_epoch(self) -> dict[str, Any]:
        """The newest history row, read from the file's end; {} before the first epoch."""
        try:
            with self.metrics.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 4096))
                lines = file.read().split(b"\n")[:-1]
            return parse_json(lines[-1].decode()) if lines else {}
        except (OSError, ValueError):
            return {}


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says about its run."""

    dir: RunDir
    state: State
    config: dict[str, Any] = field(default_factory=dict)
    """The whole of config.json."""
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    """The reason of a failed or damaged run, one line."""


def experiment_dir(results: Path, experiment: str) -> Path:
    """Raises UserError if the name could leave `results` or trouble a shell."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", experiment):
        raise UserError(
            f"experiment {experiment!r}: use letters, digits, '.', '_' and '-' only, beginning with a letter or digit"
        )
    return results / experiment


def plan_run(experiment: Path, planned: Mapping[str, Any]) -> RunDir:
    """Write `planned` as config.json of its run directory, unless the run has begun. Raises UserError if it cannot.

    A config.json that cannot be read is written anew: the directory's name holds the hash of what was in it.
    """
    run = RunDir(experiment / "runs" / planned["run_id"])
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        content = dump_json(planned).encode()
        before = run.config.read_bytes() if run.config.exists() else b""
        if before != content and (newest_claim(run.path) is None or not _is_object(before)):
            write_atomic(run.config, content)  # until it begins, settings that change no result may change
    except OSError as error:
        raise UserError(f"cannot write results to {experiment}: {error.strerror or error}") from error
    return run


def experiments(results: Path) -> list[str]:
    """Names of the experiments in `results`, sorted."""
    if not results.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(results) if (Path(entry.path) / "runs").is_dir())


def run_dirs(experiment: Path) -> list[RunDir]:
    """All run directories of an experiment, sorted by name; foreign files beside them are not runs."""
    runs = experiment / "runs"
    if not runs.is_dir():
        return []
    return [RunDir(Path(path)) for path in sorted(entry.path for entry in os.scandir(runs) if entry.is_dir())]


def records(experiment: Path) -> Iterator[RunRecord]:
    """Read every run directory of an experiment, one at a time."""
    for run in run_dirs(experiment):
        yield read_run(run)


def read_run(run: RunDir) -> RunRecord:
    """State and content of a run directory; never raises for what is in it: damage is a state with a reason."""
    try:
        names = set(os.listdir(run.path))
    except OSError as error:
        return RunRecord(run, "damaged", error=f"cannot be read: {error.strerror}")
    try:
        config = _object(run.config)
    except (OSError, ValueError, RecursionError) as error:
        return RunRecord(run, "damaged", error=f"config.json: {_reason(error)}")
    if "result.json" in names:
        try:
            result = _object(run.result)
            if result.get("schema") != SCHEMA or result.get("run_id") != run.run_id:
                raise ValueError(f"not a result of {run.run_id} with schema {SCHEMA}")
            return RunRecord(run, "done", config, result)
        except (OSError, ValueError, RecursionError) as error:
            return RunRecord(run, "damaged", config, error=f"result.json: {_reason(error)}")
    claim = newest_claim(run.path, names)
    if claim and is_alive(claim):
        return RunRecord(run, "running", config)
    if "error.txt" in names:
        return RunRecord(run, "failed", config, error=first_line(run.error))
    begun = any(CLAIM_NAME.fullmatch(name) for name in names)
    return RunRecord(run, "interrupted" if begun else "pending", config)


def dataset_label(section: Mapping[str, Any]) -> str:
    """What tables call a dataset, from a config's `data`: its name, or folder:<last name>@<8 hex> of an image folder.

    The fingerprint tells folders apart that have the same name; the path is this machine's and no one else's.
    """
    name, fingerprint = str(section["name"]), str(section.get("fingerprint", ""))
    if not name.startswith("folder:"):
        return name
    return f"folder:{Path(name.removeprefix('folder:')).name}@{fingerprint[:8]}"


def seed_list(seeds: Iterable[int]) -> str:
    """[0, 1, 2, 5] -> "0-2,5" """
    ordered = sorted(set(map(int, seeds)))
    parts: list[list[int]] = []
    for seed in ordered:
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def first_line(path: Path) -> str:
    """The first line of a text file, "" if it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _is_object(content: bytes) -> bool:
    try:
        return isinstance(parse_json(content.decode()), dict)
    except (ValueError, RecursionError):
        return False


def _object(path: Path) -> dict[str, Any]:
    values = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else " ".join(str(error).split())


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def parse_json(text: str) -> Any:
    """Strict JSON: NaN and Infinity are errors (ValueError)."""
    return _DECODER.decode(text)


def dump_json(values: Any, indent: int | None = 1) -> str:
    """Strict JSON with a newline at its end. Raises ValueError on NaN and infinities."""
    return json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False) + "\n"


def write_atomic(path: Path, content: bytes) -> None:
    """The file appears whole or not at all: same-directory temporary, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames in `path` last through a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
