"""RAFT from predictor h and BYOL' from -h, side by side through a whole training: theorem.csv and theorem.png.

    python results/reference/theorem/trajectories.py

arXiv 2011.10944 proves L_RAFT(h) = L_BYOL'(-h) - 4 beta: the same backbones at every step. Here: the preset
`quick` (digits), seed 0, both predictors that can be negated, every epoch compared bit for bit.
"""

import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from bench.config.schema import RunConfig
from bench.data import datasets
from bench.planning import plan
from bench.report.palette import LOOKS
from bench.runs.claim import Claim
from bench.training import trainer
from bench.training.machine import set_determinism

HERE = Path(__file__).parent
BETA = 1.0


def trajectory(method: str, predictor: str, negate: bool, folder: Path) -> list[dict[str, Any]]:
    """The history of a run on digits, each row with the backbone's weights [P] after its epoch."""
    overrides = {"method.predictor": predictor, "method.beta": str(BETA), "eval.every_epochs": "1"}
    planned = plan.plan([method], [0], "quick", overrides, {}, f"{predictor}-{negate}")
    (run,) = plan.write(planned, folder)
    config = RunConfig(**planned[0]["config"])
    set_determinism(config.train.threads)
    job = trainer.Trainer(config, 0, datasets.load(config.data, folder), torch.device("cpu"), run)
    if negate:
        last = [m for m in job.method.get_submodule("predictor").modules() if isinstance(m, nn.Linear)][-1]
        with torch.no_grad():
            for parameter in last.parameters():
                parameter.neg_()
    rows: list[dict[str, Any]] = []

    def weights() -> Tensor:
        return torch.cat([p.detach().flatten() for p in job.method.backbone.parameters()]).clone()

    claim = Claim.acquire(run.path)
    assert claim is not None
    with claim:
        job.train(claim, lambda: False, lambda row: rows.append({**row, "weights": weights()}))
    return rows


def compare(predictor: str, folder: Path) -> pd.DataFrame:
    """One row an epoch: both losses, both uniformities, and the largest difference of any backbone weight."""
    raft = trajectory("raft", predictor, negate=False, folder=folder)
    prime = trajectory("byol_prime", predictor, negate=True, folder=folder)
    other = trajectory("byol_prime", predictor, negate=False, folder=folder)  # from h itself: another trajectory
    return pd.DataFrame(
        {
            "predictor": predictor,
            "epoch": a["epoch"],
            "raft_loss": a["loss"],
            "byol_prime_loss": b["loss"],
            "difference_plus_4_beta": a["loss"] - b["loss"] + 4 * BETA,
            "largest_weight_difference": (a["weights"] - b["weights"]).abs().max().item(),
            "largest_weight_difference_without_negation": (a["weights"] - c["weights"]).abs().max().item(),
            **{f"raft_{name}": a[name] for name in ("uniformity", "alignment", "val_knn_top1")},
            **{f"byol_prime_{name}": b[name] for name in ("uniformity", "alignment", "val_knn_top1")},
        }
        for a, b, c in zip(raft, prime, other, strict=True)
    )


def draw(table: pd.DataFrame) -> Figure:
    """BYOL' as a wide line, RAFT as dots on it: the loss (RAFT's lifted by 4 beta), uniformity, kNN."""
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    for axes_of_row, (predictor, own) in zip(panels, table.groupby("predictor"), strict=True):
        shown = (
            ("loss", own["byol_prime_loss"], own["raft_loss"] + 4 * BETA),
            ("uniformity", own["byol_prime_uniformity"], own["raft_uniformity"]),
            ("validation kNN (%)", own["byol_prime_val_knn_top1"], own["raft_val_knn_top1"]),
        )
        for axes, (name, prime, raft) in zip(axes_of_row, shown, strict=True):
            axes.plot(own["epoch"], prime, color=LOOKS["byol_prime"].colour, lw=5, alpha=0.6, label="BYOL' from -h")
            label = "RAFT from h, loss + 4 beta" if name == "loss" else "RAFT from h"
            axes.plot(own["epoch"], raft, "o", color=LOOKS["raft"].colour, ms=3, label=label)
            axes.set_title(f"{name}, {predictor} predictor", size=9)
            axes.grid(alpha=0.3)
        axes_of_row[0].legend(fontsize=8)
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    return figure


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        found = pd.concat([compare(name, Path(temporary)) for name in ("mlp", "linear")], ignore_index=True)
    found.to_csv(HERE / "theorem.csv", index=False)
    draw(found).savefig(HERE / "theorem.png", dpi=150)
    columns = ["largest_weight_difference", "largest_weight_difference_without_negation", "difference_plus_4_beta"]
    print(found.set_index("predictor")[columns].abs().groupby(level="predictor").max().T.to_string())
