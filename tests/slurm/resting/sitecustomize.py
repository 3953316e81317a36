"""Python reads this when it starts: workers within SLURM jobs rest REST_SECONDS before every training step.

So a run lasts long enough to be hurt, on any machine, and the processor is free for what happens meanwhile.
"""

import os
import sys
import time
from typing import Any

if "SLURM_JOB_ID" in os.environ and "bench.training.worker" in sys.orig_argv:
    from bench.training.trainer import Trainer

    learn, seconds = Trainer.learn, float(os.environ["REST_SECONDS"])

    def rest_and_learn(trainer: Trainer, *batch: Any) -> Any:
        time.sleep(seconds)
        return learn(trainer, *batch)

    Trainer.learn = rest_and_learn  # type: ignore[assignment, method-assign]
