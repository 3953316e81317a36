"""What a sweep is asked for, stated once, for the command line and for sweep files. Imports little: --help needs it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bench.planning.entries import Entry


class SweepOptions(BaseModel):
    """Options of `bench sweep` and keys of a sweep file; their docstrings are the command line's help."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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
    entry: list[Entry] = []
    """Rows of the leaderboard beside `method`: the [[entry]] tables of a sweep file; no flag."""
    experiment: str = ""
    """Name of the folder in the results; by default the preset's name."""
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
    """Runs that one job executes."""
    concurrent: int = Field(1, ge=1)
    """Runs side by side in one job."""
    on_code_change: str | None = None
    """refuse or warn, when a queued job finds other code than was submitted."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto, cpu or cuda."""
    jobs: int | None = Field(None, ge=1)
    """Runs at a time on this machine; by default one a GPU, or as many as cores allow."""
    log: str = ""
    """Show epochs live in tensorboard, wandb (extras to install)."""
