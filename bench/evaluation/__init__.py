"""Judging an encoder. The registry of evaluations: add one with one file and one line here.

An evaluation is a class: its fields are its settings (`bench list keys`), its method `classifiers` fits what it judges
with. Neither this file nor those of the evaluations import torch before something is fitted, so that evaluations can be
planned, refused and listed at once.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from bench.config.problems import first_problem
from bench.errors import UserError, unknown
from bench.evaluation.base import Evaluation
from bench.evaluation.few import Few
from bench.evaluation.finetune import Finetune
from bench.evaluation.knn import Knn
from bench.evaluation.linear import Linear
from bench.runs.evaluations import Asked

EVALUATIONS: dict[str, type[Evaluation]] = {"linear": Linear, "knn": Knn, "few": Few, "finetune": Finetune}


def parse(text: str) -> list[str]:
    """ "linear,knn" -> ["linear", "knn"]. Raises UserError on an unknown name, or if there is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UserError(f"evaluations {text!r}: name one or more of {', '.join(EVALUATIONS)}")
    for name in names:
        if name not in EVALUATIONS:
            raise unknown("evaluation", name, EVALUATIONS)
    return list(dict.fromkeys(names))


def ask(name: str, settings: Mapping[str, Any], data: Mapping[str, Any]) -> Asked:
    """The evaluation `name` with these settings (text or values) of that data set ({}: the run's own). UserError."""
    try:
        chosen = EVALUATIONS[name](**settings)
    except ValidationError as error:
        raise first_problem(error, EVALUATIONS[name], f"{name}.") from None
    return Asked(evaluation=name, settings=chosen.model_dump(mode="json", exclude_defaults=True), data=dict(data))


__all__ = ["EVALUATIONS", "Evaluation", "ask", "parse"]
