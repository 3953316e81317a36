"""What can be asked for, stated once, for the command line and for sweep files. Imports little: --help needs it."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.errors import UserError, unknown
from bench.planning.entries import Entry

Options = TypeVar("Options", bound="MachineOptions")


class MachineOptions(BaseModel):
    """Where work is done; docstrings are the command line's help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    on: Literal["local", "slurm", "dry"] = "local"
    """local, slurm, or dry: only say what slurm would do."""
    cluster: str = "default"
    """Cluster profile; see slurm/README.md."""
    partition: str | None = None
    """SLURM partition."""
    time: str | None = None
    """Time limit of a job: minutes, H:MM:SS or D-HH:MM:SS."""
    gpus: str | None = None
    """GPUs a job: a number, or type:number."""
    max_parallel: int | None = Field(None, ge=1)
    """Jobs at a time."""
    runs_per_job: int = Field(1, ge=1)
    """Runs that one job works off."""
    concurrent: int = Field(1, ge=1)
    """Runs side by side in one job."""
    on_code_change: str | None = None
    """refuse or warn, when a queued job finds other code than was submitted."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto, cpu or cuda."""
    devices_per_run: int = Field(1, ge=1)
    """GPUs that train one run together, or processes on CPUs; the results are those of one."""
    nodes: int = Field(1, ge=1)
    """Nodes of a SLURM job, among which the devices of a run are shared out."""
    jobs: int | None = Field(None, ge=1)
    """Runs at a time on this machine; by default one a GPU, or as many as cores allow."""
    plugin: list[str] = []
    """A Python file with methods of yours, which is executed; see methods/README.md."""

    @classmethod
    def of(cls: type[Options], values: Mapping[str, Any]) -> Options:
        """These options, the others at their defaults. Raises UserError."""
        for key, field in cls.model_fields.items():
            valid = get_args(field.annotation)
            if get_origin(field.annotation) is Literal and values.get(key, field.default) not in valid:
                raise unknown(f"--{key}", values[key], valid)
        try:
            return cls(**values)
        except ValidationError as error:  # a number out of range that did not come through the command line
            problem = error.errors()[0]
            raise UserError(f"{problem['loc'][0]} = {problem['input']!r}: {problem['msg'].lower()}") from None


class SweepOptions(MachineOptions):
    """Options of `bench sweep` and keys of a sweep file."""

    method: str = Field("", json_schema_extra={"short": "-m"})
    """Methods, separated by commas; see `bench list methods`."""
    seeds: str = Field("1", json_schema_extra={"short": "-s"})
    """How many seeds (5 is 0 to 4), or which (3,7)."""
    preset: str = Field("quick", json_schema_extra={"short": "-p"})
    """Settings to start from; see `bench list presets`."""
    set: dict[str, str] = {}
    """KEY=VALUE: change a setting; see `bench list keys`."""
    grid: dict[str, list[str]] = {}
    """KEY=VALUE,VALUE: search these; all combinations."""
    search: dict[str, str] = {}
    """KEY=VALUE: search on seeds of its own first: points=20, from.optim.lr=log:0.03,3, ...; see slurm/README.md."""
    entry: list[Entry] = Field([], json_schema_extra={"flag": ""})
    """Rows of the leaderboard beside `method`: the [[entry]] tables of a sweep file; no flag."""
    encoder: dict[str, dict[str, str]] = Field({}, json_schema_extra={"flag": ""})
    """Encoders from elsewhere that are judged beside the runs: name -> source, mean, ...; of a sweep file, no flag."""
    experiment: str = ""
    """Name of the folder in the results; by default the preset's name."""
    margin: float | None = Field(None, gt=0)
    """Points of accuracy within which two methods are as good as each other; to be named before the results."""
    until: str = ""
    """Add seeds until the 95 % interval of a difference is narrower: "raft,byol: 0.5" points."""
    max_seeds: int = Field(50, ge=1)
    """With --until: no more seeds than that."""
    log: str = ""
    """Show epochs live in tensorboard, wandb (extras to install)."""

    @property
    def folder(self) -> str:
        """The experiment's name. A published preset is called SOURCE/DATA."""
        return self.experiment or self.preset.replace("/", "-")


class EvaluateOptions(MachineOptions):
    """Options of `bench evaluate`."""

    evaluations: str = Field("linear,knn", json_schema_extra={"flag": "--with"})
    """Evaluations, separated by commas; see `bench list evaluations`."""
    data: str = "own"
    """Data sets, separated by commas; own: the one that a run was trained on (or its eval.data)."""
    set: dict[str, str] = {}
    """NAME.KEY=VALUE: change a setting of an evaluation, e.g. few.draws=3."""
    encoder: dict[str, str] = {}
    """NAME=SOURCE: judge an encoder from elsewhere too, timm:NAME.TAG or file:PATH."""
    devices_per_run: int = Field(1, ge=1, le=1, json_schema_extra={"flag": ""})
    """An encoder is judged on one device: no flag."""
    nodes: int = Field(1, ge=1, le=1, json_schema_extra={"flag": ""})
