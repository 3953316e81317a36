"""Evaluations on disk: what was asked for, and what came of it.

results/<experiment>/evaluations/<key>.json                what was asked for: `Asked`
results/<experiment>/runs/<run_id>/evaluations/            and the same in encoders/<name>/
    <key>.json       what came of it: `Evaluated`; its existence is "done"
    <key>.npz        `predicted` [classifiers, M] and `labels` [M]: the class of every test image; `classes`: names
    <key>.error.txt  why it failed, if it did
    claim-<k>.json   who is at it (bench.runs.claim): one process a run, for all its evaluations

A key is <evaluation>-<8 hex>, of the evaluation, its settings and the data set.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from bench.files import dump_json, parse_json, write_atomic
from bench.runs.identity import SCHEMA, dataset_label
from bench.runs.result import Metrics, Part, Percent, Provenance, Stored

FOLDER = "evaluations"
ENCODERS = "encoders"
"""Where an experiment's encoders from elsewhere stand: <name>/encoder.json (bench.training.judging) and FOLDER."""

EvaluationState = Literal["done", "failed", "missing", "damaged"]


class Asked(Stored):
    """An evaluation that was asked for."""

    schema_version: int = Field(SCHEMA, alias="schema")
    evaluation: str
    """A name of bench.evaluation.EVALUATIONS."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Those that are not its defaults: a setting that a later version adds means by default what was before."""
    data: dict[str, Any] = Field(default_factory=dict)
    """A config's `data` without `size`: the data set; {}: the one that the run was judged on at its end."""

    @property
    def dataset(self) -> str:
        """What tables call the data set; "" for the run's own."""
        return dataset_label(self.data) if self.data else ""

    @property
    def title(self) -> str:
        """ "few draws=5 on cifar100 (few-0123abcd)"; without a data set: on the run's own."""
        settings = "".join(f" {name}={value}" for name, value in self.settings.items())
        return f"{self.evaluation}{settings}{f' on {self.dataset}' if self.data else ''} ({self.key})"

    @cached_property
    def key(self) -> str:
        """Equal for equal questions: of a folder of images the content counts, not where it lies."""
        data = dict(self.data)
        if data.get("fingerprint"):
            data["name"] = "folder"
        data.pop("skip_bad", None)  # as in a run's identity
        values = {"evaluation": self.evaluation, "settings": self.settings, "data": data}
        text = json.dumps(values, sort_keys=True, allow_nan=False)
        return f"{self.evaluation}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def write(self, experiment: Path) -> None:
        """Note in the experiment's directory that this was asked for."""
        folder = experiment / FOLDER
        folder.mkdir(exist_ok=True)
        path = folder / f"{self.key}.json"
        content = dump_json(self.model_dump(by_alias=True)).encode()
        if not path.exists() or path.read_bytes() != content:
            write_atomic(path, content)


class Score(Part):
    """How well one classifier did."""

    variant: str
    draw: int = 0
    n_labels: int
    """Labelled images that it was fitted on."""
    n_test: int
    test_top1: Percent
    test_top5: Percent | None = None
    """None of less than 10 classes."""
    test_balanced: Percent
    """Mean over classes."""
    test_f1: Percent
    """Mean over classes of F1."""
    val_top1: Percent
    """Of the classifier from which validation chose, before it was fitted again."""
    chosen: dict[str, float] = Field(default_factory=dict)


class Evaluated(Stored):
    """The whole of an evaluation's JSON file."""

    schema_version: int = Field(SCHEMA, alias="schema")
    subject: str
    """The run's id, or the name of an encoder from elsewhere."""
    evaluation: str
    settings: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    dataset: str
    """What tables call the data set."""
    scores: list[Score]
    seconds: float
    provenance: Provenance = Provenance()

    @cached_property
    def asked(self) -> Asked:
        return Asked(evaluation=self.evaluation, settings=self.settings, data=self.data)

    def told(self) -> str:
        """ "few_1pct 71.20 %, few_5shot 74.10 % on cifar100": means over draws."""
        draws: dict[str, list[float]] = {}
        for score in self.scores:
            draws.setdefault(score.variant, []).append(score.test_top1)
        means = ", ".join(f"{variant} {sum(found) / len(found):.2f} %" for variant, found in draws.items())
        return f"{means} on {self.dataset}" if self.data else means

    def metrics(self) -> dict[str, float]:
        """Those numbers that a run's result has, by their names there: of `linear` and `knn`."""
        found: dict[str, float] = {}
        for score in self.scores:
            found |= {f"val_{score.variant}_top1": score.val_top1, f"test_{score.variant}_top1": score.test_top1}
            found |= {f"{score.variant}_{name}": value for name, value in score.chosen.items()}
        return {name: value for name, value in found.items() if name in Metrics.model_fields}


@dataclass(frozen=True)
class EvaluationFiles:
    """An evaluation's files; `folder`: that of a run's or an encoder's evaluations."""

    folder: Path
    key: str

    @property
    def result(self) -> Path:
        return self.folder / f"{self.key}.json"

    @property
    def predictions(self) -> Path:
        return self.folder / f"{self.key}.npz"

    @property
    def error(self) -> Path:
        return self.folder / f"{self.key}.error.txt"

    def state(self) -> EvaluationState:
        """By the names of the files alone."""
        return "done" if self.result.exists() else "failed" if self.error.exists() else "missing"


def asked(experiment: Path) -> list[Asked]:
    """The evaluations that were asked for in an experiment, by key; files that are none are left out."""
    found = []
    for path in sorted((experiment / FOLDER).glob("*-????????.json")):
        try:
            found.append(Asked.of(parse_json(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, RecursionError):
            continue
    return found


def forget(folder: Path) -> None:
    """Remove the evaluations of a run's directory, for an encoder that is no more."""
    for path in folder.glob("*-????????.*"):
        path.unlink(missing_ok=True)


def read(path: Path) -> Evaluated:
    """An evaluation's JSON file. Raises ValueError, one line, naming what is wrong with it."""
    try:
        return Evaluated.of(parse_json(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(error.strerror) from None
