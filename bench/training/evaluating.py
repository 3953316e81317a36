"""Carrying out evaluations: judge an encoder, put down what came of it; and what there is to do when training ends."""

import io
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench import backbone
from bench.errors import Interrupted
from bench.evaluation import EVALUATIONS, ask, diagnostics, parse
from bench.evaluation.judge import judge
from bench.evaluation.subject import Subject
from bench.files import dump_json, write_atomic
from bench.runs import evaluations
from bench.runs.claim import Claim
from bench.runs.evaluations import Asked, Evaluated, EvaluationFiles
from bench.runs.identity import dataset_label
from bench.runs.result import Metrics, Outcome, Provenance, Timing
from bench.training.trainer import Trainer

TOLD = ("git_commit", "git_dirty", "versions", "device", "host", "threads", "started", "command")


def carry_out(
    asked: Asked, subject: Subject, files: EvaluationFiles, attempt: Mapping[str, Any], claim: Claim
) -> Evaluated:
    """One evaluation, by `attempt` (bench.runs.provenance); its files are written, the JSON file last.

    Raises Interrupted, LostClaim, UserError; RuntimeError on features that are not finite.
    """
    begun = time.perf_counter()
    judged = judge(EVALUATIONS[asked.evaluation](**asked.settings), subject)
    result = Evaluated(
        schema=asked.schema_version,
        subject=subject.name,
        evaluation=asked.evaluation,
        settings=asked.settings,
        data=asked.data,
        dataset=subject.dataset_label,
        scores=judged.scores,
        seconds=time.perf_counter() - begun,
        provenance=Provenance(**{key: attempt[key] for key in TOLD if key in attempt}),
    )
    predictions = io.BytesIO()
    classes = np.array(subject.dataset.classes, dtype=np.str_)
    np.savez_compressed(predictions, predicted=judged.predicted, labels=judged.labels, classes=classes)

    def write() -> None:
        claim.check()
        files.folder.mkdir(exist_ok=True)
        write_atomic(files.predictions, predictions.getvalue())
        write_atomic(files.result, dump_json(result.model_dump(by_alias=True, exclude_unset=True)).encode())
        files.error.unlink(missing_ok=True)

    subject.team.first(write)
    return result


def at_end(job: Trainer, claim: Claim, should_stop: Callable[[], bool]) -> Outcome:
    """Judge what was trained by `eval.at_end` and by diagnostics, and write the encoder. Raises Interrupted."""
    begun = time.perf_counter()

    def agreed() -> bool:
        job.team.meet()  # one may have taken longer
        return job.team.any(should_stop())

    if agreed():
        raise Interrupted
    config, dataset = job.config, job.dataset
    last = job.dir.last_epoch() if job.epochs else {}
    subject = Subject(
        name=job.dir.run_id,
        backbone=job.method.backbone,
        dataset=job.judged_on,
        dataset_label=dataset_label(config.data.model_dump(), config.eval.model_dump()),
        mean=dataset.mean,
        std=dataset.std,
        size=config.data.size,
        device=job.device,
        seed=job.seed,
        eval=config.eval,
        augment=config.augment,
        should_stop=agreed,
        team=job.team,
    )
    job.team.first(lambda: evaluations.forget(job.dir.evaluations))  # of an encoder that was trained here before
    attempt = {**job.attempts[-1], "threads": config.train.threads}
    found: dict[str, float] = {}
    for name in parse(config.eval.at_end):
        asked = ask(name, {}, {})
        made = carry_out(asked, subject, EvaluationFiles(job.dir.evaluations, asked.key), attempt, claim)
        found |= made.metrics()
    measured = diagnostics.diagnose(job.method, dataset, job.augment, job.seed, job.device, job.team)
    online = job.online.top1(subject.test.features, subject.test.labels) if job.online and job.epochs else None
    metrics = Metrics(**found, **measured, online_linear_top1=online, loss=last.get("loss"))

    def save() -> None:
        claim.check()
        backbone.save(job.method.backbone, job.dir.encoder, config.backbone)

    job.team.first(save)
    most, n_classes = diagnostics.rank_bound(job.method, dataset), len(job.judged_on.classes)
    return Outcome(
        metrics=metrics,
        collapsed=diagnostics.is_collapsed(measured["effective_rank"], most, metrics.test_knn_top1, n_classes),
        timing=Timing(
            train_seconds=job.seconds,
            eval_seconds=time.perf_counter() - begun,
            images_per_second=job.step * config.train.batch_size / job.seconds if job.step else None,
        ),
    )
