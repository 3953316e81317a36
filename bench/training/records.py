"""What a worker reads and notes in a folder that it has claimed: the plan, its log, why something failed."""

import errno
import logging
import traceback
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from bench.config.schema import RunConfig
from bench.errors import UserError
from bench.files import write_atomic
from bench.runs.claim import Claim
from bench.runs.identity import completed, run_id
from bench.training.trainer import NonFinite
from methods.plugins import PluginError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

log = logging.getLogger("bench")


def plan_of(planned: Mapping[str, Any], name: str) -> tuple[RunConfig, int]:
    """Settings and seed in the config.json of the run `name`. Raises UserError if they are not those of its name."""
    try:
        config, seed = RunConfig(**completed(planned["config"])), int(planned["seed"])
        if run_id(config.model_dump(mode="json"), seed) == name:
            return config, seed
    except (KeyError, TypeError, AttributeError, ValueError):
        pass
    raise UserError(
        f"config.json does not belong to {name}: it was edited, or written by another version of the program"
    )


def note_failure(error: Exception, path: Path, claim: Claim) -> None:
    """Write to `path` why something failed: a line, and a traceback unless it is the user's to mend.

    Raises the error again if a full disk is to blame: what was tried stays to be done.
    """
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        raise error
    to_mend = isinstance(error, (UserError, PluginError))
    reason = str(error) if to_mend or isinstance(error, NonFinite) else f"{type(error).__name__}: {error}"
    if not claim.owned():
        log.warning("taken over by another process; not noted as failed here: %s", reason)
        return
    details = "" if to_mend else "".join(traceback.format_exception(error))
    log.error("failed: %s", reason)
    write_atomic(path, f"{' '.join(reason.split())}\n{details}".encode())


class logging_to:
    """Send the log to a file for a while."""

    def __init__(self, path: Path) -> None:
        self.handler = logging.FileHandler(path, encoding="utf-8")
        self.handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))

    def __enter__(self) -> None:
        log.setLevel(logging.INFO)
        log.addHandler(self.handler)

    def __exit__(self, *_: object) -> None:
        log.removeHandler(self.handler)
        self.handler.close()


def now() -> str:
    """As results note times."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
