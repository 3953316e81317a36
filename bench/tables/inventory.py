"""What is on disk: run directories -> one row a run, one row a logged epoch, and what was unusable, and why.

Nothing is dropped without a word: a damaged run keeps its row (its state is `damaged` or `duplicate`), and
every file that is not what it should be has a row in `problems`.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd

from bench.config import backbones
from bench.config.schema import SECTIONS
from bench.errors import UserError, unknown
from bench.files import printable
from bench.runs import evaluations, store
from bench.runs.evaluations import Evaluated
from bench.runs.identity import ADDED, NOT_HASHED, PATHS, RUN_NAME, dataset_label
from bench.runs.result import CHOICES, IDENTITY, METRICS, PROVENANCE, TIMINGS, Result
from bench.tables import entries, evaluated, foreign
from bench.tables.epochs import HistoryColumns

RUN_COLUMNS = (
    *("experiment", "run_id", "entry", *IDENTITY, "state", "reason", "collapsed"),
    *(*METRICS, *CHOICES, *TIMINGS, "overrides", "entry_keys", "search_for", "search_space", *PROVENANCE),
)


@dataclass
class Inventory:
    """Everything that the run directories of some experiments say."""

    runs: pd.DataFrame
    """One row a run: RUN_COLUMNS, then those of evaluations alone (bench.tables.evaluated.measures)."""
    history: pd.DataFrame
    """One row a logged epoch: experiment, run_id, entry, method, config_hash, seed, epoch, then what was logged."""
    evaluations: pd.DataFrame
    """One row a classifier of an evaluation: what identifies the run, then bench.tables.evaluated.COLUMNS."""
    encoders: pd.DataFrame
    """One row an encoder from elsewhere: experiment, entry, source, content_hash."""
    problems: pd.DataFrame
    """experiment, path (inside the experiment's directory), reason."""
    configs: dict[str, dict[str, Any]]
    """config_hash -> resolved config with dotted keys."""


def take(results: Path, experiments: Iterable[str]) -> Inventory:
    """Read all run directories of `experiments`, each once. Raises UserError if one does not exist."""
    there = store.experiments(results)
    reader = _Reader()
    for experiment in dict.fromkeys(experiments):
        if not there:
            raise UserError(f"no experiments in {results}: `bench run` makes one")
        if experiment not in there:
            raise unknown("experiment", experiment, there)
        reader.read(results / experiment, experiment)
    return reader.inventory()


class _Reader:
    """Gathers rows while it walks over run directories."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.problems: list[tuple[str, str, str]] = []
        self.configs: dict[str, dict[str, Any]] = {}
        self.history = HistoryColumns()
        self.as_before = flatten(ADDED)
        self.scores = evaluated.ScoreColumns()
        self.encoders: list[tuple[str, ...]] = []

    def read(self, directory: Path, experiment: str) -> None:
        """All runs of one experiment, and the files among them that are not runs."""
        for name in sorted(os.listdir(directory / "runs")):
            run = store.RunDir(directory / "runs" / name)
            if not run.path.is_dir():
                self._problem(experiment, name, "not a run directory: left out")
                continue
            try:
                self._run(experiment, store.read_run(run))
            except RecursionError:
                self._problem(experiment, name, "its JSON is nested too deeply: left out")
        for name, encoder in foreign.found(directory):
            if isinstance(encoder, str):
                self._problem(experiment, name, encoder, evaluations.ENCODERS)
                continue
            told = (encoder.name, encoder.source, encoder.content_hash)
            self.encoders.append((experiment, *map(printable, told)))
            for _ in self._judged(experiment, directory / evaluations.ENCODERS / name, -len(self.encoders)):
                pass

    def _run(self, experiment: str, record: store.RunRecord) -> None:
        name, reason, state = record.dir.run_id, printable(record.error), record.state
        planned = identity = _identity(record.config)
        if planned is None:
            if state != "damaged" and not (state == "planned" and not record.dir.config.exists()):
                state, reason = "damaged", "config.json: not the plan of a run"
            parsed = RUN_NAME.fullmatch(name)
            identity = None
            if parsed:
                identity = {**parsed.groupdict(), "method": printable(parsed["method"]), "seed": int(parsed["seed"])}
        elif record.config.get("run_id") != name:
            reason = f"a copy or renamed directory of {record.config.get('run_id')}: left out"
            return self._problem(experiment, name, reason)
        if identity is None:
            return self._problem(
                experiment, name, f"{reason or 'empty'}: left out, not a run directory that can be read"
            )
        row = {"experiment": experiment, "run_id": printable(name), **identity, "state": state, "reason": reason}
        if state == "done" and record.result:
            try:
                row.update(_columns(record.result, row))
            except ValueError as error:
                row.update(state="damaged", reason=f"result.json: {error}")
        if row["state"] == "damaged":
            self._problem(experiment, name, row["reason"])
        row["overrides"] = _pairs(record.config.get("overrides"), "=", " ")
        row["entry"], row["entry_keys"] = entries.stored(record.config)
        row["search_for"], row["search_space"] = entries.searched(record.config)
        if planned:
            config = self.as_before | flatten(record.config["config"])
            first = self.configs.setdefault(row["config_hash"], config)
            if first != config and (edited := _edited(first, config)):
                others = f"other runs of configuration {row['config_hash']}"
                self._problem(experiment, name, f"config.json: not as in {others}: {', '.join(edited)}")
        self.rows.append(row)
        for problem in self.history.read(record.dir, len(self.rows) - 1, torn_is_news=state != "running"):
            self._problem(experiment, name, f"metrics.jsonl: {problem}")
        for judged in self._judged(experiment, record.dir.path, len(self.rows) - 1, row.get("dataset", "")):
            for metric, value in evaluated.reported(judged).items():
                if row.setdefault(metric, value) != value and not math.isnan(row[metric]):
                    told = f"evaluations: {metric} is {value:g}, in result.json {row[metric]:g}, which is shown"
                    self._problem(experiment, name, told)
                row[metric] = value if math.isnan(row[metric]) else row[metric]

    def _judged(self, experiment: str, subject: Path, number: int, dataset: str = "") -> Iterator[Evaluated]:
        """Add what the run or the encoder of this directory was judged by."""
        for found in evaluated.found(subject / evaluations.FOLDER, subject.name, dataset):
            if isinstance(found, evaluated.Unusable):
                reason = f"{evaluations.FOLDER}{found.name and '/'}{found.name}: {found.reason}"
                self._problem(experiment, subject.name, reason, subject.parent.name)
            elif isinstance(found, evaluated.Failed):
                self.scores.fail(found, number)
            else:
                self.scores.add(found, number)
                yield found

    def _problem(self, experiment: str, name: str, reason: str, folder: str = "runs") -> None:
        self.problems.append((experiment, f"{folder}/{printable(name)}", printable(reason)))

    def inventory(self) -> Inventory:
        runs = pd.DataFrame(self.rows, columns=list(RUN_COLUMNS))
        numbers = [*METRICS, *CHOICES, *TIMINGS]
        runs[numbers] = runs[numbers].astype(float)
        runs["collapsed"] = runs["collapsed"].eq(True)
        _complete(runs)
        for index, reason in entries.assign(runs):
            self._problem(runs.loc[index, "experiment"], runs.loc[index, "run_id"], f"config.json: {reason}")
        for index, kept_in in _duplicates(runs):
            reason = f"the same run as in {kept_in}, counted there"
            self._problem(runs.loc[index, "experiment"], runs.loc[index, "run_id"], reason)
            runs.loc[index, ["state", "reason"]] = ["duplicate", reason]
        runs = pd.concat([runs, self.scores.wide(len(runs))], axis=1)
        encoders = pd.DataFrame(self.encoders, columns=["experiment", "entry", "source", "content_hash"])
        history = self.history.frame(runs)
        twice = history.duplicated(["experiment", "run_id", "epoch"], keep="last")
        for run, n in history.loc[twice, ["experiment", "run_id"]].astype(str).value_counts().items():
            experiment, name = cast(tuple[str, str], run)
            self._problem(experiment, name, f"metrics.jsonl: {n} epoch{'s' * (n > 1)} twice, the later used")
        return Inventory(
            runs,
            history[~twice] if twice.any() else history,
            self.scores.frame(_subjects(runs, encoders)),
            encoders,
            pd.DataFrame(self.problems, columns=["experiment", "path", "reason"]),
            self.configs,
        )


def _subjects(runs: pd.DataFrame, encoders: pd.DataFrame) -> pd.DataFrame:
    """What identifies those that were judged; encoders from elsewhere, backwards, have a name alone."""
    known = runs[list(evaluated.IDENTITY)]
    if encoders.empty:
        return known
    named = encoders[["experiment", "entry"]].iloc[::-1].reindex(columns=known.columns, fill_value="")
    return pd.concat([known.astype({"seed": "Int64"}), named.assign(seed=pd.array([pd.NA] * len(named), "Int64"))])


def _complete(runs: pd.DataFrame) -> None:
    """Runs without a readable config belong where their siblings (same configuration, or experiment) do."""
    for index in runs.index[runs["dataset"].isna()]:
        same_experiment = runs["experiment"] == runs.loc[index, "experiment"]
        same_config = runs["config_hash"] == runs.loc[index, "config_hash"]
        for siblings in (runs[same_config], runs[same_experiment]):
            known = siblings[["dataset", "preset", "protocol", "backbone"]].dropna().drop_duplicates()
            if len(known) == 1:
                for column, value in known.iloc[0].items():
                    runs.loc[index, str(column)] = value
                break
    for column in ("dataset", "preset", "backbone"):
        runs[column] = runs[column].astype(object).fillna("unknown").astype(str)
    runs["protocol"] = runs["protocol"].fillna(0).astype(int)


def _duplicates(runs: pd.DataFrame) -> Iterator[tuple[Any, str]]:
    """Rows of runs that another experiment has too, and which: finished runs count, then the first found."""
    key = ["method", "config_hash", "seed"]
    order = runs.assign(unfinished=runs["state"] != "done").sort_values("unfinished", kind="stable")
    kept = order.drop_duplicates(key).set_index(key)["experiment"]
    for index in order.index[order.duplicated(key)]:
        yield index, kept[tuple(runs.loc[index, key])]


def _identity(planned: Mapping[str, Any]) -> dict[str, Any] | None:
    """The IDENTITY of config.json; None if a part is missing or of the wrong type."""
    config = planned.get("config")
    if not isinstance(config, dict) or not all(isinstance(config.get(name, {}), dict) for name in SECTIONS):
        return None
    names = {"dataset": config.get("data"), "backbone": config.get("backbone")}
    found = {key: section.get("name") for key, section in names.items() if isinstance(section, dict)}
    if isinstance(found.get("dataset"), str) and found["dataset"]:
        found["dataset"] = dataset_label(config["data"], config.get("eval"))
    if isinstance(found.get("backbone"), str) and found["backbone"]:
        found["backbone"] = backbones.label(found["backbone"], config["backbone"].get("args"))
    found |= {key: planned.get(key) for key in ("method", "config_hash", "preset")}
    whole = {"seed": planned.get("seed"), "protocol": config.get("protocol")}
    if len(found) != 5 or not all(isinstance(value, str) and value for value in found.values()):
        return None
    if not all(isinstance(value, int) and 0 <= value < 2**63 for value in whole.values()):
        return None
    return {**{key: printable(str(value)) for key, value in found.items()}, **whole}


def _edited(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Dotted keys in which two configurations differ although they have one hash: a file was edited."""
    free = {*NOT_HASHED, *(path for path, content in PATHS.items() if other.get(content))}  # what is there may be moved
    return [key for key in {**first, **other} if key not in free and repr(first.get(key)) != repr(other.get(key))]


def _columns(result: Result, row: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a run's row from its result. Raises ValueError if it is not the result of what config.json plans."""
    for key in IDENTITY:
        if _text(getattr(result, key)) != _text(row[key]):
            raise ValueError(f"its {key} is {getattr(result, key)!r}, in config.json {row[key]!r}")
    found: dict[str, Any] = {"collapsed": result.collapsed}
    for names, part in ((METRICS, result.metrics), (CHOICES, result.metrics), (TIMINGS, result.timing)):
        found |= {name: math.nan if (value := getattr(part, name)) is None else value for name in names}
    found |= {name: _text(getattr(result.provenance, name)) for name in PROVENANCE}
    found["versions"] = _pairs(result.provenance.versions, " ", ", ")
    found["devices"] = ", ".join(map(str, result.provenance.devices))
    found["attempts"] = _attempts(result.provenance.attempts)
    return found


def _attempts(attempts: list[dict[str, Any]]) -> str:
    """ "from step 120: methods/losses.py changed; from step 300: as before", "" for a run in one go."""
    said = []
    for attempt in attempts[1:]:
        changed = attempt.get("changed")
        told = ", ".join(map(_text, changed)) if isinstance(changed, list) else ""
        said.append(f"from step {_text(attempt.get('from_step'))}: {told or 'as before'}")
    return "; ".join(said)


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optim": {"lr": 0.1}} -> {"optim.lr": 0.1}; what is neither text, number nor null becomes JSON."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = printable(f"{prefix}{key}")
        if isinstance(value, dict):
            flat.update(flatten(value, f"{name}."))
        elif isinstance(value, str):
            flat[name] = printable(value)
        elif isinstance(value, int) and abs(value) >= 2**63:
            flat[name] = f"{value:#x}"  # no number to place on an axis
        else:
            flat[name] = json.dumps(value) if isinstance(value, list) else value
    return flat


def _text(value: Any) -> str:
    return "" if value is None else printable(str(value))


def _pairs(values: Any, joint: str, between: str) -> str:
    items = values.items() if isinstance(values, dict) else ()
    return between.join(f"{_text(key)}{joint}{_text(value)}" for key, value in items)
