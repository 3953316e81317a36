"""Made-up run directories, as the harness would leave them: test data, no measurement."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.config.sections import BackboneConfig
from bench.runs.encoders import Encoder
from bench.runs.evaluations import Asked, Evaluated, Score
from bench.runs.identity import dataset_label
from bench.runs.result import Metrics, Provenance, Result, Timing

METHODS = ("raft", "byol", "byol_prime", "simsiam", "simclr", "random", "supervised")
LEVELS = {  # made up: (linear, kNN) accuracy in percent
    "raft": (90.3, 74.4),
    "byol": (92.2, 85.6),
    "byol_prime": (91.9, 84.0),
    "simsiam": (94.4, 86.1),
    "simclr": (95.0, 90.9),
    "random": (82.5, 65.3),
    "supervised": (97.9, 96.0),
}


def fake_run(
    experiment: Path,
    method: str,
    seed: int,
    *,
    state: str = "done",
    level: float | None = None,
    noise: float = 0.6,
    dataset: str = "digits",
    preset: str = "quick",
    overrides: Mapping[str, Any] | None = None,
    collapsed: bool = False,
    epochs: int = 30,
    label: str = "",
    about: Sequence[str] = (),
    search_for: Mapping[str, Any] | None = None,
    rates: str = "log:0.01,10",
    error: str = "FloatingPointError: non-finite loss at step 120 (last finite: 0.31)",
    **metrics: float | None,
) -> Path:
    """Write one run directory and return it; state: done, failed, planned, interrupted.

    label, about: of the run's entry, and the keys that it names. search_for: of a run of a search over optim.lr, from
    these rates, the overrides of what is reported if it wins.
    A seed's luck is shared by all methods: differences are paired. `metrics` replace a result's numbers.
    """
    overrides = dict(overrides or {})
    config = _config(method, dataset, overrides)
    digest = _digest(config, preset)
    run_id = f"{method}-{digest}-s{seed}"
    run = experiment / "runs" / run_id
    run.mkdir(parents=True)
    identity: dict[str, Any] = {
        "schema": 1,
        "run_id": run_id,
        "experiment": experiment.name,
        "method": method,
        "preset": preset,
        "seed": seed,
        "config_hash": digest,
        "overrides": {key: str(value) for key, value in overrides.items()},
    }
    named: dict[str, Any] = {"entry": label} if label else {}
    named |= {"entry_keys": list(about)} if about else {}
    if search_for is not None:
        stands = _digest(_config(method, dataset, search_for), preset)
        named["search"] = {"for": stands, "space": {"optim.lr": rates}}
    write_json(run / "config.json", {**identity, **named, "config": config})
    luck = np.random.default_rng(seed).normal(0, noise)
    own = np.random.default_rng([seed, int(digest, 16)])
    linear, knn = LEVELS.get(method, (88.0, 80.0))
    linear, knn = (linear, knn) if level is None else (level, level - 5)
    linear, knn = (10.0, 10.0) if collapsed else (linear + luck, knn + luck)
    numbers: dict[str, Any] = {
        "test_linear_top1": min(100.0, linear + own.normal(0, noise / 2)),
        "val_linear_top1": min(100.0, linear + own.normal(0, noise / 2)),
        "online_linear_top1": linear - 1 + own.normal(0, noise / 2),
        "test_knn_top1": knn + own.normal(0, noise / 2),
        "val_knn_top1": knn + own.normal(0, noise / 2),
        "alignment": 0.2 + 0.05 * own.random(),
        "uniformity": -0.1 if collapsed else -2.5 - own.random(),
        "effective_rank": 1.02 if collapsed else 40 + 5 * own.random(),
        "feature_std": 0.001 if collapsed else 0.08,
        "loss": 0.4 + 0.05 * own.random(),
        **metrics,
    }
    if state in ("done", "failed", "interrupted"):
        shown = epochs if state == "done" else epochs // 3
        rows = [_epoch(epoch, epochs, method, numbers, own) for epoch in range(1, shown + 1)]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if state == "failed":
        (run / "error.txt").write_text(error + "\n")
    if state == "interrupted":
        write_json(run / "claim-1.json", {"released": True})
    if state == "done":
        result = Result(
            **identity,
            dataset=dataset_label(config["data"]),
            backbone=config["backbone"]["name"],
            protocol=1,
            metrics=Metrics(**numbers),
            collapsed=collapsed,
            timing=Timing(
                train_seconds=30 + 5 * own.random(),
                eval_seconds=4.2,
                images_per_second=1500 + 100 * own.random(),
            ),
            provenance=Provenance(
                git_commit="0123456789abcdef0123456789abcdef01234567",
                git_dirty=False,
                versions={"python": "3.11.7", "torch": "2.14.1", "ssl-bench": "0.1.0"},
                device="cpu (made-up processor)",
                host="testbox",
                threads=1,
                compiled=False,
                restarts=0,
                started="2025-01-01T10:00:00+00:00",
                finished="2025-01-01T10:00:40+00:00",
                command="bench run --method raft,byol --seeds 5",
            ),
        )
        write_json(run / "result.json", result.stored())
    return run


def fake_result(run_id: str, /, **changes: Any) -> dict[str, Any]:
    """The least that a result.json has to say."""
    method, config_hash, seed = run_id.rsplit("-", 2)
    identity: dict[str, Any] = {"run_id": run_id, "method": method, "config_hash": config_hash, "seed": int(seed[1:])}
    accuracies = {f"{split}_{probe}_top1": 50.0 for split in ("test", "val") for probe in ("linear", "knn")}
    result = Result(
        schema=1,
        experiment="x",
        preset="quick",
        dataset="digits",
        backbone="resnet10_small",
        **identity,
        protocol=1,
        metrics=Metrics(**accuracies),
        timing=Timing(train_seconds=1.0, eval_seconds=1.0),
    )
    return {**result.stored(), **changes}


def fake_grid(experiment: Path, method: str = "byol", seeds: int = 3) -> None:
    """A sweep of 3 x 3 points; the best is optim.lr=0.3, method.tau=0.99; one point has a failed seed."""
    for lr in (0.1, 0.3, 1.0):
        for tau in (0.9, 0.99, 0.999):
            level = 90 - 4 * abs(math.log10(lr / 0.3)) - 3 * abs(math.log10((1 - tau) / 0.01))
            for seed in range(seeds):
                failed = lr == 1.0 and tau == 0.9 and seed == 1
                state = "failed" if failed else "done"
                overrides = {"optim.lr": lr, "method.tau": tau}
                fake_run(experiment, method, seed, state=state, level=level, overrides=overrides)


def fake_experiment(experiment: Path, seeds: int = 5, **settings: Any) -> None:
    """7 methods; one run of raft failed, one of simsiam collapsed, one of byol is missing."""
    for method in METHODS:
        for seed in range(seeds):
            state = {("raft", 3): "failed", ("byol", 4): "planned"}.get((method, seed), "done")
            fake_run(experiment, method, seed, state=state, collapsed=(method, seed) == ("simsiam", 2), **settings)


def fake_evaluation(
    subject: Path,
    evaluation: str,
    scores: Mapping[str, float | Sequence[float]],
    *,
    dataset: str = "",
    settings: Mapping[str, Any] | None = None,
    n_labels: Mapping[str, int] | None = None,
    n_test: int = 360,
    top5: bool = True,
) -> Path:
    """Write one evaluation of a run's or an encoder's directory and return its file.

    scores: variant -> test accuracy, or one a draw; balanced accuracy, F1 and validation are 1, 2 and 3 below it.
    """
    asked = Asked(evaluation=evaluation, settings=dict(settings or {}), data={"name": dataset} if dataset else {})
    values = {variant: [told] if isinstance(told, (int, float)) else told for variant, told in scores.items()}
    whole = Evaluated(
        schema=1,
        subject=subject.name,
        evaluation=evaluation,
        settings=asked.settings,
        data=asked.data,
        dataset=dataset or "digits",
        scores=[
            Score(
                variant=variant,
                draw=draw,
                n_labels=(n_labels or {}).get(variant, 1437),
                n_test=n_test,
                test_top1=top1,
                test_top5=(100 + top1) / 2 if top5 else None,
                test_balanced=top1 - 1,
                test_f1=top1 - 2,
                val_top1=top1 - 3,
                chosen={"l2": 0.001},
            )
            for variant, draws in values.items()
            for draw, top1 in enumerate(draws)
        ],
        seconds=1.25,
        provenance=Provenance(threads=1, host="testbox"),
    )
    path = subject / "evaluations" / f"{asked.key}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, whole.model_dump(by_alias=True, exclude_unset=True))
    return path


def fake_encoder(experiment: Path, name: str, /, source: str = "timm:resnet50.a1_in1k", **changes: Any) -> Path:
    """Write the directory of an encoder from elsewhere, without evaluations, and return it."""
    folder = experiment / "encoders" / name
    folder.mkdir(parents=True)
    encoder = Encoder(
        schema=1,
        name=name,
        source=source,
        content_hash="3f2a0123456789ab",
        backbone=BackboneConfig(name="resnet10_small", stem="small"),
        size=16,
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    write_json(folder / "encoder.json", encoder.stored() | changes)
    return folder


def write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


FINGERPRINT = "0123456789abcdef"


def _config(method: str, dataset: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {
        "method_name": method,
        "method": {"tau": 0.99, "projector_hidden": 256},
        "data": {"name": dataset, "size": 16, "skip_bad": False, "fingerprint": FINGERPRINT},
        "backbone": {"name": "resnet10_small", "stem": "small"},
        "augment": {"crop_min": 0.2, "flip": 0.0, "view2": {}},
        "optim": {"name": "sgd", "lr": 0.2, "weight_decay": 1e-4},
        "train": {"epochs": 30, "batch_size": 128, "threads": 1},
        "eval": {"probe": "logistic", "knn_k": 0, "every_epochs": 5},
        "protocol": 1,
    }
    for key, value in overrides.items():
        section, name = key.split(".")
        config[section][name] = value
    return config


def _digest(config: Mapping[str, Any], preset: str) -> str:
    return hashlib.sha256(json.dumps([config, preset], sort_keys=True).encode()).hexdigest()[:8]


def _epoch(epoch: int, epochs: int, method: str, final: Mapping[str, Any], own: np.random.Generator) -> dict[str, Any]:
    done = 1 - math.exp(-4 * epoch / epochs)
    row = {
        "epoch": epoch,
        "step": epoch * 9,
        "loss": final["loss"] + 2 * (1 - done) + 0.02 * own.normal(),
        "lr": 0.1 * (1 + math.cos(math.pi * epoch / epochs)),
        "seconds": 1.1 * epoch,
        "images_per_second": 1500.0,
        "online_linear_top1": (final["online_linear_top1"] or 10.0) * (0.5 + 0.5 * done) + own.normal(),
    }
    if method == "raft":
        row.update(align=0.3 * (1 - done), runaway=1.5 * done)
    if epoch % 5 == 0:
        row.update(
            val_knn_top1=(final["val_knn_top1"] or 10.0) * (0.4 + 0.6 * done),
            alignment=final["alignment"] + 0.5 * (1 - done),
            uniformity=final["uniformity"] * done,
            effective_rank=1 + (final["effective_rank"] - 1) * done,
            feature_std=final["feature_std"],
        )
    return row
