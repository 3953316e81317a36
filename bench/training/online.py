"""A linear layer trained beside the method on its detached features."""

import torch
from torch import Tensor, nn

from bench.evaluation.scale import rescaled
from bench.seeds import Init, stream
from bench.team import ALONE, Team
from methods.base import Method
from methods.losses import cross_entropy

ONLINE_LR = 0.1  # of the online linear layer, SGD with momentum .9, as solo-learn's classifier on CIFAR-10


class OnlineProbe:
    """A linear layer trained beside the method on its detached features. It tells; it chooses nothing."""

    def __init__(self, method: Method, n_classes: int, seed: int, device: torch.device, team: Team = ALONE) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream(seed, "init", Init.ONLINE_PROBE).initial_seed())
            self.layer = nn.Linear(method.feature_dim, n_classes).to(device)
        self.optimizer = torch.optim.SGD(self.layer.parameters(), lr=ONLINE_LR, momentum=0.9)
        self.team = team
        self.seen: list[Tensor] = []  # features [n, D] of this step, one entry a view of the first's size
        self.shape: torch.Size | None = None  # of the images of that size
        method.backbone.register_forward_hook(self._see)

    def _see(self, module: nn.Module, inputs: tuple[Tensor, ...], features: Tensor) -> None:
        if not (module.training and torch.is_grad_enabled()):  # once, where a batch passes twice
            return
        shape = inputs[0].shape[1:]
        self.shape = self.shape or shape
        if shape == self.shape:  # what is judged is no small crop
            self.seen.append(rescaled(features.detach().float()))

    def step(self, labels: Tensor, slices: int = 1) -> None:
        """Learn from the views that the backbone has just seen, of a batch in so many slices one after another.

        labels [n], -1 where unlabelled.
        """
        views = len(self.seen) // slices
        seen = [torch.cat(self.seen[view::views]) if slices > 1 else self.seen[view] for view in range(views)]
        *logits, labels = self.team.gather(*map(self.layer, seen), labels)  # of the whole batch
        loss = torch.stack([cross_entropy(each, labels) for each in logits]).mean()
        self.seen.clear()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.add_up(self.layer.parameters())
        self.optimizer.step()

    @torch.no_grad()
    def top1(self, features: Tensor, labels: Tensor) -> float:
        """Accuracy in percent on features [n, D] with labels [n]."""
        device = self.layer.weight.device
        correct = self.layer(rescaled(features.to(device))).argmax(dim=1) == labels.to(device)
        return float(100 * correct.double().mean())
