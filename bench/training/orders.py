"""What a worker is told: plain data, so that those who start workers need not import torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Orders:
    """What a worker needs to know beside the run directories."""

    runs: list[str]
    """Paths of run directories, in the order in which to try them."""
    data_dir: str
    device: str
    """cpu, cuda:<n>, cuda (the GPU that is this worker's by its slot), or auto (the same, or the CPU without a GPU)."""
    command: str
    """The command that planned the runs, for the record."""
    commit: str
    dirty: bool
    """Git commit of the code, and whether it had uncommitted changes; "" outside a repository."""
    log: Sequence[str] = ()
    """Loggers (bench.training.livelog) to show every logged epoch to."""
    evaluations: Sequence[str] = ()
    """Keys of the evaluations to make of the runs, which are done; none: the runs are to be trained."""
    parent: int = 0
    """Stop when this process is gone; 0: no process."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Hashes that the source files must have (bench.runs.provenance); {}: any."""
    slot: int = 0
    """Which one of the workers side by side this is; GPUs are shared out by it."""
    devices: int = 1
    """Devices of each run, with a process each."""
    nodes: int = 1
    """Machines among which these are shared out."""
    node: int = 0
    """Which of them this is; the first, 0, starts the work, and the others join."""
    meeting: str = ""
    """Path of a file in which the first node says where to meet (bench.training.launcher); one for each start."""
