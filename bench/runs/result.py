"""What a run stores: the one model of result.json, which workers fill and tables read.

A field added to `Accuracies`, `Diagnostics`, `Choices`, `Timing` or `Provenance` is a column of runs.csv of that name;
of accuracies, diagnostics and timing the leaderboard has the mean and the standard deviation too. A result of an older
version lacks the fields added since, so these have defaults; one of a newer version may have more: they are kept in the
model and left out of tables. The schema version grows when files can no longer be read so.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.runs.identity import SCHEMA, other_version

Whole = TypeVar("Whole", bound="Stored")

Percent = Annotated[float, Field(ge=0, le=100)]


class Part(BaseModel):
    """JSON's own types, not converted; finite numbers; unknown fields are kept."""

    model_config = ConfigDict(
        strict=True,
        extra="allow",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        populate_by_name=True,
    )


class Stored(Part):
    """The whole of a JSON file that has our schema version."""

    @classmethod
    def of(cls: type[Whole], values: Any) -> Whole:
        """What strict JSON describes. Raises ValueError, one line, naming what is wrong with it."""
        if not isinstance(values, dict):
            raise ValueError("not a JSON object")
        if values.get("schema") != SCHEMA:
            raise ValueError(other_version(values))
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ValueError(_first_problem(error)) from None


class Accuracies(Part):
    """None: of an evaluation that was not among eval.at_end."""

    test_linear_top1: Percent | None = None
    test_knn_top1: Percent | None = None
    val_linear_top1: Percent | None = None
    val_knn_top1: Percent | None = None
    online_linear_top1: Percent | None = None
    """Of the layer trained beside the method, on test images; None where nothing was trained, and with eval.data."""


class Diagnostics(Part):
    alignment: float | None = None
    uniformity: float | None = None
    effective_rank: float | None = None
    feature_std: float | None = None
    loss: float | None = None
    """Mean of the last epoch; None where nothing was trained."""


class Choices(Part):
    """What the linear probe chose on validation."""

    linear_l2: float | None = None
    """Strength of the logistic probe."""
    linear_lr: float | None = None
    """Learning rate of the probe trained on crops (eval.probe=augmented)."""


class Metrics(Choices, Diagnostics, Accuracies):
    """The numbers of the trained encoder."""

    @model_validator(mode="after")
    def _of_something(self) -> "Metrics":
        if not self.model_fields_set:
            raise ValueError("no numbers")
        return self

    def told(self) -> str:
        """ "linear 93.31 %, kNN 91.09 %"."""
        shown = {"linear": self.test_linear_top1, "kNN": self.test_knn_top1}
        return ", ".join(f"{name} {value:.2f} %" for name, value in shown.items() if value is not None)


class Timing(Part):
    train_seconds: float
    """Over all resumes, without evaluation."""
    eval_seconds: float
    images_per_second: float | None = None
    """Of training; None where nothing was trained."""


class Provenance(Part):
    """What made the result; of a run that was resumed, the last attempt and, in `attempts`, all."""

    git_commit: str = ""
    git_dirty: bool | None = None
    versions: dict[str, str] = {}
    device: str = ""
    devices: list[int] = [1]
    """On how many devices at a time it was trained: every number that took part, in order."""
    host: str = ""
    threads: int | None = None
    compiled: bool | None = None
    """Whether the backbones were compiled, as train.compile asks where it is possible."""
    restarts: int | None = None
    attempts: list[dict[str, Any]] = []
    """bench.runs.provenance.told: what executed the run, each from its `from_step` on."""
    started: str = ""
    finished: str = ""
    command: str = ""


class Outcome(Part):
    """What training and evaluation give."""

    metrics: Metrics
    collapsed: bool = False
    """bench.evaluation.diagnostics.is_collapsed, when the run was evaluated."""
    timing: Timing


class Result(Outcome, Stored):
    """The whole of result.json."""

    schema_version: int = Field(alias="schema")
    run_id: str
    experiment: str
    method: str
    preset: str
    seed: int
    config_hash: str
    dataset: str
    backbone: str
    protocol: int
    overrides: dict[str, str] = {}
    provenance: Provenance = Provenance()

    def stored(self) -> dict[str, Any]:
        """What to write as result.json: the fields that were given, in the model's order."""
        return self.model_dump(by_alias=True, exclude_unset=True)


def _first_problem(error: ValidationError) -> str:
    """ "test_linear_top1 is 'high', not a number that can be used"."""
    problem = error.errors(include_url=False)[0]
    *sections, name = (str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"no {'.'.join([*sections, name])}"
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 40 else shown[:40] + "…"
    if problem["type"] in ("greater_than_equal", "less_than_equal"):
        return f"{name} is {shown}, not a percentage"
    if problem["type"] in ("float_type", "finite_number"):
        return f"{name} is {shown}, not a number that can be used"
    return f"{name} is {shown}: {problem['msg'].lower()}"


ACCURACIES = tuple(Accuracies.model_fields)
METRICS = (*ACCURACIES, *Diagnostics.model_fields)
CHOICES = tuple(Choices.model_fields)
TIMINGS = tuple(Timing.model_fields)
PROVENANCE = tuple(Provenance.model_fields)
IDENTITY = ("method", "seed", "config_hash", "preset", "dataset", "backbone", "protocol")
