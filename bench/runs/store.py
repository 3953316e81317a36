"""Run directories: layout, atomic writes, states. No shared file and no database; who may write is claim.py's.

results/<experiment>/runs/<run_id>/
    config.json          the run as planned: resolved config, seed, preset, overrides, label
    claim-<k>.json       who executes it (bench.runs.claim)
    checkpoint.pt, checkpoint.previous.pt    while running
    metrics.jsonl        one JSON object a logged epoch
    encoder.safetensors  backbone weights
    result.json          written last: its existence is "done"
    error.txt            why the run failed, if it did
    evaluations/         bench.runs.evaluations: one JSON file an evaluation
    log.txt              what its workers said
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import UserError
from bench.files import dump_json, first_line, is_number, parse_json, write_atomic
from bench.runs.claim import ClaimFile, is_alive, newest_claim
from bench.runs.identity import SCHEMA, other_version

if TYPE_CHECKING:
    from bench.runs.result import Result

State = Literal["done", "failed", "running", "interrupted", "planned", "damaged"]
"""failed: error.txt; running: claimed by a live process; interrupted: begun, no live process; planned: not begun;
damaged: result.json or config.json cannot be read."""
CLAIMABLE: frozenset[State] = frozenset({"planned", "interrupted"})
"""States in which a process may claim a run and execute it."""


MAX_NAME = 200  # characters of an experiment's name; file systems end at 255, and reports and jobs add to it
REFERENCE = "reference"
"""results/reference/<name>/ are committed results: experiments only where --results names that folder."""


LABEL = ("entry", "entry_keys", "search")
"""In config.json: what tables call the run's row, the settings that the row is about and, of a run of a search, what it
stands for. No part of a result."""

_SCHEMA = re.compile(rb'"schema":\s*([^\s,}]*)')


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
    def evaluations(self) -> Path:
        """The folder of its evaluations (bench.runs.evaluations)."""
        return self.path / "evaluations"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def ended(self) -> bool:
        """Whether the run is done or has failed, by the names in its directory."""
        return self.result.exists() or self.error.exists()

    def begun(self) -> bool:
        """Whether anything of the run's training is there."""
        return self.result.exists() or self.metrics.exists()

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl; a last line torn by a kill is left out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").split("\n")[:-1]:
            with contextlib.suppress(ValueError, RecursionError):
                rows.append(parse_json(line))
        return [row for row in rows if isinstance(row, dict)]

    def append_history(self, row: Mapping[str, Any]) -> None:
        """Add one row with a single write."""
        with self.metrics.open("ab") as file:
            file.write(dump_json(row, indent=None).encode())

    def last_epoch(self) -> dict[str, Any]:
        """The numbers of the newest history row, read from the file's end; {} before the first epoch."""
        try:
            with self.metrics.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 4096))
                lines = file.read().split(b"\n")[:-1]
            row = parse_json(lines[-1].decode()) if lines else {}
            return {key: value for key, value in row.items() if is_number(value)} if isinstance(row, dict) else {}
        except (OSError, ValueError, RecursionError):
            return {}


@dataclass(frozen=True)
class RunRecord:
    """What a run directory says about its run."""

    dir: RunDir
    state: State
    config: dict[str, Any] = field(default_factory=dict)
    """The whole of config.json; {} if it was not read."""
    result: "Result | None" = None
    """The content of result.json; None if there is none, or if it was not read."""
    error: str = ""
    """The reason of a failed or damaged run, one line."""
    owner: ClaimFile | None = None
    """The newest claim on a run that is not done."""


def experiment_dir(results: Path, experiment: str) -> Path:
    """Raises UserError if the name could leave `results` or trouble a shell, or is that of the reference results."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", experiment):
        raise UserError(
            f"experiment {experiment!r}: use letters, digits, '.', '_' and '-' only, beginning with a letter or digit"
        )
    if len(experiment) > MAX_NAME:
        raise UserError(f"experiment {experiment[:20]}...: {len(experiment)} characters; use at most {MAX_NAME}")
    if experiment == REFERENCE:
        raise UserError(f"experiment {experiment!r}: {results / REFERENCE} holds reference results; use another name")
    return results / experiment


def plan_run(experiment: Path, planned: Mapping[str, Any]) -> RunDir:
    """Write `planned` as config.json of its run directory. Raises UserError if it cannot.

    Of a run that has begun only the LABEL changes. A config.json that cannot be read is written anew: the directory's
    name holds the hash of what was in it.
    """
    run = RunDir(experiment / "runs" / planned["run_id"])
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        content = dump_json(planned).encode()
        before = run.config.read_bytes() if run.config.exists() else b""
        if before != content and newest_claim(run.path) is not None:
            content = _relabelled(before, planned) or content
        if before != content:
            write_atomic(run.config, content)  # until it begins, settings that change no result may change
    except OSError as error:
        raise UserError(f"cannot write results to {experiment}: {error.strerror or error}") from error
    return run


def experiments(results: Path) -> list[str]:
    """Names of the experiments in `results`, sorted."""
    if not results.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(results) if _has_runs(Path(entry.path)))


def _has_runs(folder: Path) -> bool:
    try:
        return (folder / "runs").is_dir()
    except OSError:  # we may not enter it: a disk's lost+found, another user's folder
        return False


def run_dirs(experiment: Path, folder: str = "runs") -> list[RunDir]:
    """All run directories of an experiment (or of encoders), sorted by name; foreign files beside them are not runs.

    Raises UserError if we may not list them.
    """
    runs = experiment / folder
    try:
        return [RunDir(Path(path)) for path in sorted(entry.path for entry in os.scandir(runs) if entry.is_dir())]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"{runs}: {error.strerror}") from None


def records(experiment: Path) -> Iterator[RunRecord]:
    """Read every run directory of an experiment, one at a time."""
    for run in run_dirs(experiment):
        yield read_run(run)


def read_run(run: RunDir, content: bool = True) -> RunRecord:
    """State of a run directory; never raises for what is in it: damage is a state with a reason.

    Without `content` the names of its files tell, and its newest claim: enough to look at thousands on a slow disk.
    Both depths give the same state, but that files which exist and cannot be read are damage only for those who read.
    """
    try:
        names = [name for name in os.listdir(run.path) if not name.startswith(".")]  # those are temporary
    except OSError as error:
        return RunRecord(run, "damaged", error=f"cannot be read: {error.strerror}")
    if not names:  # planning was killed between the directory and its file: the same command writes it
        return RunRecord(run, "planned")
    if "config.json" not in names:
        return RunRecord(run, "damaged", error="no config.json")
    config: dict[str, Any] = {}
    result = None
    try:
        if content:
            config = _object(run.config)
            if config.get("schema", SCHEMA) != SCHEMA:
                raise ValueError(other_version(config))
    except (OSError, ValueError, RecursionError) as error:
        return RunRecord(run, "damaged", error=f"config.json: {_reason(error)}")
    if "result.json" in names:
        try:
            values = run.result.read_bytes()
            if not values:
                raise ValueError("it is empty (--retry-failed executes the run again)")
            found = _SCHEMA.search(values)
            if content or (found and found[1] != b"%d" % SCHEMA):
                result = _result(run)
        except (OSError, ValueError, RecursionError) as error:
            return RunRecord(run, "damaged", config, error=f"result.json: {_reason(error)}")
        return RunRecord(run, "done", config, result)
    owner = newest_claim(run.path, names)
    if owner and is_alive(owner):
        return RunRecord(run, "running", config, owner=owner)
    if "error.txt" in names:
        return RunRecord(run, "failed", config, error=first_line(run.error), owner=owner)
    return RunRecord(run, "interrupted" if owner else "planned", config, owner=owner)


def _result(run: RunDir) -> "Result":
    from bench.runs.result import Result  # pydantic: not for those who look at names only

    result = Result.of(_object(run.result))
    if result.run_id != run.run_id:
        raise ValueError(f"of another run, {result.run_id}")
    return result


def _relabelled(before: bytes, planned: Mapping[str, Any]) -> bytes:
    """A config.json with the label of `planned`; b"" if it cannot be read."""
    try:
        values = parse_json(before.decode())
    except (ValueError, RecursionError):
        return b""
    if not isinstance(values, dict):
        return b""
    if all(values.get(key) == planned.get(key) for key in LABEL):
        return before
    kept = {key: value for key, value in values.items() if key not in LABEL}
    return dump_json({**kept, **{key: planned[key] for key in LABEL if key in planned}}).encode()


def _object(path: Path) -> dict[str, Any]:
    values = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    return values


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else " ".join(str(error).split())
