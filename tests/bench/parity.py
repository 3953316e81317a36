"""Steps of every method in one process or several, and what became of weights and gradients: for test_distributed.py.

python parity.py FOLDER DEVICE    as one of the ranks that torch's variables name
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from bench import backbone
from bench.config.schema import RunConfig
from bench.data import datasets
from bench.planning import plan
from bench.runs.store import RunDir
from bench.team import Team
from bench.training import conformance
from bench.training.machine import set_determinism
from bench.training.trainer import Trainer
from methods import METHODS

BATCH = 32  # 3 ranks: 11, 11 and 10
LARS = ("byol", "vicreg")  # trained with it, as its norms are of whole parameters; the others with SGD
TINY = {
    "data.size": "8",
    "train.batch_size": str(BATCH),
    "optim.lr": "0.2",
    "method.projector_hidden": "32",
    "method.projector_out": "16",
    "method.prototypes": "24",
    "method.whitening_size": "24",
}


def job(method: str, team: Team, device: str = "cpu", **overrides: str) -> Trainer:
    """A run on 320 images of noise: nothing has to be read."""
    known = METHODS[method].Config.model_fields
    chosen = {**TINY, "optim.name": "lars" if method in LARS else "sgd", **overrides}
    if METHODS[method].Config.most_views is None:
        chosen |= {"augment.view3.size": "4", "augment.view3.copies": "2"}
    chosen = {k: v for k, v in chosen.items() if not k.startswith("method.") or k.split(".")[1] in known}
    (planned,) = plan.plan([method], [0], "quick", chosen, {}, "x")
    images = torch.randint(0, 256, (320, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels, everything = torch.arange(320) % 10, torch.arange(320)
    half = (0.5, 0.5, 0.5)
    validation = everything % 7 == 0
    noise = datasets.Dataset(
        "noise",
        tuple("0123456789"),
        images,
        labels,
        everything[~validation],
        everything[validation],
        half,
        half,
        lambda: (images, labels),
    )
    return Trainer(RunConfig(**planned["config"]), 0, noise, torch.device(device), RunDir(Path("x")), team=team)


def after(steps: int, run: Trainer) -> dict[str, Tensor]:
    """All state of a run after so many steps, and the gradients and losses of the last."""
    logged: dict[str, Tensor] = {}
    for step in range(steps if run.optimizer else 0):
        index = torch.arange(step * BATCH, (step + 1) * BATCH) % 320
        logged = run._train_step(index, 0, step)
    found = {f"method.{name}": value for name, value in run.method.state_dict().items()}
    if run.online:
        found |= {f"online.{name}": value for name, value in run.online.layer.state_dict().items()}
    found |= {f"grad.{name}": p.grad for name, p in run.method.named_parameters() if p.grad is not None}
    found |= {f"loss.{name}": value for name, value in logged.items()}
    return {name: value.detach().cpu().clone() for name, value in found.items()}


def without_batch_norm(run: Trainer) -> Trainer:
    conformance.without_batch_norm(run.method)
    return run


def all_methods(team: Team, device: str = "cpu") -> dict[str, dict[str, dict[str, Tensor]]]:
    """{method: {"float64": after a step, "float32": after 20; "whole", "slices": after 2, without batch norm}}."""
    found = {}
    for method in METHODS:
        with conformance.in_float64():
            exact = after(1, job(method, team, device))
            whole = after(2, without_batch_norm(job(method, team, device)))
            slices = after(2, without_batch_norm(job(method, team, device, **{"train.accumulate": "3"})))
        found[method] = {"float64": exact, "float32": after(20, job(method, team, device))}
        found[method] |= {"whole": whole, "slices": slices}
    return found


def mirrored(team: Team, device: str) -> list[dict[str, Tensor]]:
    """Backbones of RAFT from h and of BYOL' from -h, after 5 steps each."""
    backbones = []
    for method, sign in (("raft", 1), ("byol_prime", -1)):
        run = job(method, team, device, **{"optim.name": "sgd", "method.predictor": "mlp"})
        last: Any = list(run.method.predictor)[-1]  # type: ignore[arg-type]
        for parameter in last.parameters():
            parameter.data.mul_(sign)
        after(5, run)
        backbones.append({name: value.cpu() for name, value in run.method.backbone.state_dict().items()})
    return backbones


def normalised(team: Team, device: str) -> dict[str, Tensor]:
    """Batch norm of 7 images in float64 with its gradients and running statistics, in training."""
    draws = torch.Generator().manual_seed(1)
    x, dy = (torch.randn(7, 5, 3, 3, dtype=torch.float64, generator=draws).to(device) + 3 for _ in range(2))
    part = team.part(7)
    x = x[part].requires_grad_()
    layer = nn.BatchNorm2d(5, dtype=torch.float64, device=device)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(5, dtype=torch.float64, generator=draws))
    with team.whole_batch():
        y = layer(x)
    y.backward(dy[part])
    assert x.grad is not None
    team.add_up(layer.parameters())
    whole_y, whole_dx = team.gather(y.detach(), x.grad)
    found = {"y": whole_y, "dx": whole_dx, "dweight": layer.weight.grad, "dbias": layer.bias.grad}
    return {name: value.cpu() for name, value in {**found, **layer.state_dict()}.items() if value is not None}


def dropped(team: Team, device: str) -> dict[str, Tensor]:
    """What dropout and drop path leave of 7 images' features, in both layouts, and of their gradient."""
    torch.manual_seed(team.seed(5))
    part = team.part(7)
    layers = nn.Sequential(nn.Dropout(0.3), DropPath(0.5), nn.Dropout(0.1, inplace=True))
    found = {}
    for name, layout in (("rows", torch.contiguous_format), ("channels last", torch.channels_last)):
        x = torch.ones(7, 5, 3, 3, device=device).to(memory_format=layout)[part].requires_grad_()
        with team.whole_batch():
            y = layers(x)
        y.sum().backward()
        assert x.grad is not None
        found[f"{name}.y"], found[f"{name}.dx"] = (each.cpu() for each in team.gather(y.detach(), x.grad))
    with team.whole_batch():
        windows = layers(torch.ones(7 * 4, 5, device=device)[4 * part.start : 4 * part.stop])  # 4 windows an image
    team.part(7 * 4, unit=4)
    found["windows.y"] = team.gather(windows)[0].cpu()
    return found


def with_dropout(team: Team, device: str) -> dict[str, Tensor]:
    """A step in float64 of a run whose backbone has both."""
    layers = (nn.Dropout(0.2), DropPath(0.3))
    with conformance.in_float64(), patch.object(backbone, "create", lambda *_, **__: conformance.Network(*layers)):
        return after(1, job("simsiam", team, device))


def everything(team: Team, device: str = "cpu") -> dict[str, Any]:
    """All that the tests ask of a process."""
    set_determinism(1)
    with patch.object(backbone, "create", lambda *_, **__: conformance.Network()):
        return {
            "methods": all_methods(team, device),
            "mirrored": mirrored(team, device),
            "normalised": normalised(team, device),
            "dropped": dropped(team, device),
            "with dropout": with_dropout(team, device),
        }


def raised(call: Callable[[], object]) -> str:
    """The class of what a call raises."""
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return ""


def main() -> None:
    """Leave what became of it in the folder; in the end, the last rank dies and the others are to notice."""
    from bench.training.distributed import Ranks

    folder, device = Path(sys.argv[1]), sys.argv[2]
    if device == "cuda":
        device = f"cuda:{os.environ['RANK']}"
    team = Ranks(torch.device(device))
    last = team.world - 1
    found = everything(team, device)
    found |= {
        "device": torch.device(device).type,
        "own": torch.rand(3, generator=torch.Generator().manual_seed(team.seed(0))),
        "any": (team.any(team.rank == last), team.any(False)),
        "told": team.first(lambda: f"from {team.rank}"),
        "raised": raised(lambda: team.first(lambda: 1 // 0)),
        "settled": raised(lambda: team.settle(None)),
    }
    torch.save(found, folder / f"rank{team.rank}.pt")
    if team.rank < last:
        (folder / f"lost{team.rank}").write_text(raised(lambda: team.any(False)))
    os._exit(0)


if __name__ == "__main__":
    main()
