"""Evaluations on disk -> one row a classifier, and their numbers as columns of the runs.

A number's column is test_<variant>_<score>, mean over draws: test_few_1pct_top1. On another data set than the run's own
it ends with @<data set>. Of several settings of one evaluation those that are not its defaults end with #<8 hex>, the
end of the evaluation's key.
"""

import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from bench.files import first_line, printable
from bench.runs import evaluations
from bench.runs.evaluations import Evaluated
from bench.runs.result import ACCURACIES

SCORES = {"top1": "test_top1", "top5": "test_top5", "balanced": "test_balanced", "f1": "test_f1"}
"""What a column's name ends with -> the field of Score."""
NUMBERS = ("n_labels", "n_test", *SCORES.values(), "val_top1")
TEXTS = ("state", "evaluation", "key", "variant", "dataset", "settings", "chosen", "threads", "reason")
IDENTITY = ("experiment", "run_id", "entry", "method", "config_hash", "seed")
COLUMNS = (
    *("evaluation", "key", "variant", "draw", "dataset", "column", "settings", "state", "reason"),
    *(*NUMBERS, "chosen", "seconds", "threads"),
)
VARIANT = re.compile(r"[\w.]+")

_NAME = re.compile(
    rf"(?P<split>test|val)_(?P<variant>[\w.]+)_(?P<score>{'|'.join(SCORES)})(@(?P<dataset>.+?))?(#(?P<key>[0-9a-f]{{8}}))?"
)


@dataclass(frozen=True)
class Measure:
    """What a column of evaluations says."""

    split: str
    variant: str
    score: str
    dataset: str
    """"" for the run's own."""
    key: str
    """The end of the evaluation's key, "" where settings need not be told apart."""

    @classmethod
    def parse(cls, column: str) -> "Measure | None":
        """None if it is no column of an evaluation."""
        found = _NAME.fullmatch(column)
        return cls(**{name: text or "" for name, text in found.groupdict().items()}) if found else None

    @classmethod
    def of_column(cls, column: str) -> "Measure":
        """Of what is known to be one."""
        measure = cls.parse(column)
        assert measure is not None
        return measure

    def of(self, score: str, split: str = "test") -> str:
        """The column of another score of the same classifier."""
        end = f"@{self.dataset}" * bool(self.dataset) + f"#{self.key}" * bool(self.key)
        return f"{split}_{self.variant}_{score}{end}"


def measures(runs: pd.DataFrame) -> list[str]:
    """The columns of a table of runs that are of evaluations alone: percentages, which no result has."""
    return [name for name in map(str, runs) if name not in ACCURACIES and Measure.parse(name)]


@dataclass(frozen=True)
class Unusable:
    """A file that is not what it should be."""

    name: str
    reason: str


@dataclass(frozen=True)
class Failed:
    """An evaluation that failed."""

    key: str
    reason: str


def found(folder: Path, subject: str, dataset: str = "") -> Iterator[Evaluated | Failed | Unusable]:
    """What lies in a folder of evaluations of `subject`, a run's id or an encoder's name.

    dataset: what tables call the subject's own data set; "": not known.
    """
    try:
        names = set(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield Unusable("", f"cannot be read: {error.strerror}")
        return
    for name in sorted(names):
        key, _, kind = name.partition(".")
        if kind == "error.txt" and f"{key}.json" not in names:
            yield Failed(printable(key), printable(first_line(folder / name)))
        if kind != "json" or not key or key.startswith("claim-"):
            continue
        try:
            yield _checked(evaluations.read(folder / name), key, subject, dataset)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
            yield Unusable(printable(name), printable(reason))


def _checked(evaluated: Evaluated, key: str, subject: str, dataset: str) -> Evaluated:
    """Raises ValueError if it is not the evaluation of that key and subject, or cannot be shown."""
    if evaluated.subject != subject:
        raise ValueError(f"of another encoder, {evaluated.subject}")
    if evaluated.asked.key != key:
        raise ValueError(f"its content is that of {evaluated.asked.key}")
    if dataset and not evaluated.data and evaluated.dataset != dataset:
        raise ValueError(f"its dataset is {evaluated.dataset!r}, the run's {dataset!r}")
    if not evaluated.scores:
        raise ValueError("no scores")
    told = {(score.variant, score.draw) for score in evaluated.scores}
    if len(told) < len(evaluated.scores):
        raise ValueError("a classifier is there twice")
    for variant, _ in told:
        if not VARIANT.fullmatch(variant):
            raise ValueError(f"variant is {variant!r}: letters, digits, '_' and '.' only")
    return evaluated


@dataclass(frozen=True)
class _Group:
    """Classifiers that share columns."""

    other: bool
    """On another data set than the subject's own."""
    dataset: str
    """"" for the own."""
    variant: str
    key: str
    default: bool
    """With the settings that the evaluation has by default."""


def reported(evaluated: Evaluated) -> dict[str, float]:
    """Those of its numbers that a run's result has, by their names there."""
    return {} if evaluated.settings or evaluated.data else evaluated.metrics()


class ScoreColumns:
    """Scores of many evaluations, one compact array a column."""

    def __init__(self) -> None:
        self.subject: array[int] = array("q")
        self.draw: array[int] = array("q")
        self.group: array[int] = array("q")
        self.groups: dict[_Group, int] = {}
        self.numbers: dict[str, array[float]] = {name: array("d") for name in (*NUMBERS, "seconds")}
        self.texts: dict[str, array[int]] = {name: array("q") for name in TEXTS}
        self.words: dict[str, dict[str, int]] = {name: {} for name in TEXTS}

    def add(self, evaluated: Evaluated, subject: int) -> None:
        """A row a classifier of run number `subject` (encoders: -1, -2, ...); `seconds`: of the whole evaluation."""
        threads, key, other = evaluated.provenance.threads, evaluated.asked.key, bool(evaluated.data)
        whole = self._codes(
            state="done",
            evaluation=evaluated.evaluation,
            key=key,
            dataset=evaluated.dataset,
            settings=_pairs(evaluated.settings),
            threads="" if threads is None else str(threads),
            reason="",
        )
        on = printable(evaluated.dataset) if other else ""
        for score in evaluated.scores:
            group = _Group(other, on, score.variant, key, not evaluated.settings)
            numbers = {name: getattr(score, name) for name in NUMBERS} | {"seconds": evaluated.seconds}
            codes = whole | self._codes(variant=score.variant, chosen=_pairs(score.chosen))
            self._row(subject, self.groups.setdefault(group, len(self.groups)), score.draw, numbers, codes)

    def fail(self, failed: Failed, subject: int) -> None:
        """A row without numbers."""
        evaluation = failed.key.rpartition("-")[0]
        words = dict.fromkeys(TEXTS, "") | {"state": "failed", "evaluation": evaluation}
        self._row(subject, -1, 0, {}, self._codes(**words | {"key": failed.key, "reason": failed.reason}))

    def _codes(self, **words: str) -> dict[str, int]:
        """The number of each word among those of its column."""
        known = self.words
        return {name: known[name].setdefault(printable(word), len(known[name])) for name, word in words.items()}

    def _row(
        self, subject: int, group: int, draw: int, numbers: Mapping[str, float | None], codes: Mapping[str, int]
    ) -> None:
        self.subject.append(subject)
        self.group.append(group)
        self.draw.append(draw)
        for name, column in self.numbers.items():
            column.append(nan if (value := numbers.get(name)) is None else value)
        for name, texts in self.texts.items():
            texts.append(codes[name])

    def frame(self, subjects: pd.DataFrame) -> pd.DataFrame:
        """A row a classifier: what identifies its subject, what the file says; `column`: that of its test accuracy.

        subjects: a row a subject, runs by number, then encoders backwards.
        """
        rows = np.asarray(self.subject, dtype=np.int64)
        found = {str(name): column.astype("category").iloc[rows].array for name, column in subjects.items()}
        for name, codes in self.texts.items():
            found[name] = pd.Categorical.from_codes(np.asarray(codes, dtype=np.int64), pd.Index(list(self.words[name])))
        measures = self._measures()
        names = list(dict.fromkeys(measure.of("top1") for measure in measures))
        places = np.array([names.index(measure.of("top1")) for measure in measures] + [-1])  # -1: failed
        found["column"] = pd.Categorical.from_codes(places[np.asarray(self.group, dtype=np.int64)], pd.Index(names))
        found["draw"] = np.asarray(self.draw, dtype=np.int64)
        found |= {name: np.asarray(column, dtype=np.float64) for name, column in self.numbers.items()}
        return pd.DataFrame({name: found[name] for name in (*map(str, subjects), *COLUMNS)}, copy=False)

    def wide(self, n_runs: int) -> pd.DataFrame:
        """A row a run, by number; a column a number, mean over draws; without those that a run's result has."""
        subject, group = (np.asarray(column, dtype=np.int64) for column in (self.subject, self.group))
        order = np.argsort(group, kind="stable")
        ends = np.searchsorted(group[order], np.arange(len(self.groups) + 1))
        measures = self._measures()
        numbers = {name: np.asarray(column, dtype=np.float64) for name, column in self.numbers.items()}
        found: dict[str, np.ndarray] = {}
        for _, g in sorted(self.groups.items(), key=lambda item: _place(item[0])):
            every = order[ends[g] : ends[g + 1]]
            rows = every[subject[every] >= 0]
            draws = np.bincount(subject[rows], minlength=n_runs)
            fields = {measures[g].of(score): field for score, field in SCORES.items()}
            for name, field in {**fields, measures[g].of("top1", "val"): "val_top1"}.items():
                if name not in ACCURACIES and not np.isnan(numbers[field][every]).all():
                    with np.errstate(invalid="ignore"):  # 0 / 0: not judged so
                        found[name] = np.bincount(subject[rows], numbers[field][rows], n_runs) / draws
        return pd.DataFrame(found, index=range(n_runs))

    def _measures(self) -> list[Measure]:
        """Of every group: what its columns are called."""

        def alike(group: _Group) -> tuple[bool, str, str]:
            return group.other, group.dataset, group.variant

        several = Counter(map(alike, self.groups))
        defaults = Counter(alike(group) for group in self.groups if group.default)
        found = []
        for group in self.groups:
            plain = Measure("test", group.variant, "top1", group.dataset, "")
            if group.default:
                told_apart = defaults[alike(group)] > 1
            else:
                told_apart = several[alike(group)] > 1 or plain.of("top1") in ACCURACIES
            found.append(replace(plain, key=group.key[-8:]) if told_apart else plain)
        return found


def _place(group: _Group) -> tuple[bool, str, bool]:
    """The order of columns: the own data first, there `linear` and `knn` before others."""
    return group.other, group.dataset, f"test_{group.variant}_top1" not in ACCURACIES


def _pairs(values: Mapping[str, object]) -> str:
    """ "draws=10 labels=1%" """
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()
    )
