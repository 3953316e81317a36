"""Live logging (`--log tensorboard,wandb`): what metrics.jsonl says, for programs that draw it while it grows.

metrics.jsonl stays the record: a resumed run shows its rows again, and a logger that breaks costs no run.
"""

import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Protocol

from bench.errors import UserError, unknown
from bench.runs.store import RunDir

log = logging.getLogger("bench")


class Logger(Protocol):
    """What draws a run's history."""

    def add(self, row: Mapping[str, Any]) -> None:
        """A row of metrics.jsonl."""

    def close(self) -> None:
        """No more rows will come."""


class TensorBoard:
    """Event files in the run's directory: `tensorboard --logdir results/<experiment>/runs` shows every run."""

    def __init__(self, run: RunDir, planned: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.path / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was interrupted: its rows come again
        self.writer = SummaryWriter(str(folder))

    def add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name != "epoch":
                self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WandB:
    """Weights & Biases. Offline unless WANDB_MODE says otherwise: `wandb sync` sends the run's directory later."""

    def __init__(self, run: RunDir, planned: Mapping[str, Any]) -> None:
        import wandb

        self.run = wandb.init(
            project="ssl-bench",
            group=planned["experiment"],
            name=run.run_id,
            id=f"{planned['experiment']}-{run.run_id}",
            resume="allow",
            config=dict(planned["config"]),
            dir=str(run.path),
            mode=os.environ.get("WANDB_MODE", "offline"),
            settings=wandb.Settings(silent=True),
        )

    def add(self, row: Mapping[str, Any]) -> None:
        self.run.log({name: value for name, value in row.items() if name != "epoch"}, step=row["epoch"])

    def close(self) -> None:
        self.run.finish()


LOGGERS: dict[str, Callable[[RunDir, Mapping[str, Any]], Logger]] = {"tensorboard": TensorBoard, "wandb": WandB}


def parse(text: str) -> list[str]:
    """ "tensorboard,wandb" -> both names. Raises UserError on an unknown one and on one that is not installed."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in LOGGERS:
            raise unknown("logger", name, LOGGERS)
        if find_spec(name) is None:
            raise UserError(f"--log {name}: it is not installed; pip install 'ssl-bench[{name}]'")
    return list(dict.fromkeys(names))


class LiveLog:
    """The loggers of one run; one that raises is named in the run's log and left out from then on."""

    def __init__(self, names: Sequence[str], run: RunDir, planned: Mapping[str, Any]) -> None:
        self.loggers: dict[str, Logger] = {}
        for name in names:
            try:
                self.loggers[name] = LOGGERS[name](run, planned)
            except Exception as error:
                log.warning("--log %s: left out (%s)", name, _reason(error))

    def add(self, row: Mapping[str, Any]) -> None:
        """Show a row of metrics.jsonl."""
        self._each(lambda logger: logger.add(row))

    def close(self) -> None:
        """No more rows will come."""
        self._each(lambda logger: logger.close())

    def _each(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                call(logger)
            except Exception as error:
                log.warning("--log %s: left out from here on (%s)", name, _reason(error))
                del self.loggers[name]


def _reason(error: Exception) -> str:
    """In one line, whatever a logger says."""
    return " ".join(str(error).split()) or type(error).__name__
