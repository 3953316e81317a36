"""What is judged: a frozen encoder, and the images that tell how good it is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from bench.config.sections import EvalConfig
from bench.config.views import AugmentConfig
from bench.data.datasets import Dataset
from bench.data.split import Channels
from bench.data.whole import Images
from bench.evaluation.protocol import features
from bench.team import ALONE, Team


@dataclass(frozen=True)
class Test:
    """A test split, with the encoder's features of it."""

    images: Images  # uint8 [M, 3, S, S]
    labels: Tensor  # int64 [M]
    features: Tensor  # float32 [M, D], on the encoder's device


@dataclass(frozen=True)
class Subject:
    """An encoder and a labelled data set. Features are computed when asked for, once for all evaluations."""

    name: str
    """The run's id, or the name of an encoder from elsewhere."""
    backbone: nn.Module
    """Images [N, 3, size, size] -> features [N, num_features]."""
    dataset: Dataset
    dataset_label: str
    """What tables call it."""
    mean: Channels
    """With which the encoder wants its images normalised: it goes with the encoder, not with the images."""
    std: Channels
    size: int
    device: torch.device
    seed: int
    """Of what an evaluation draws; an encoder from elsewhere has 0."""
    eval: EvalConfig
    """The run's, for settings that an evaluation leaves to it."""
    augment: AugmentConfig
    """The run's; where a probe trains on crops and flips, these are those of its first view."""
    should_stop: Callable[[], bool] = lambda: False
    """To be asked now and then by what takes minutes; where it says yes: `raise Interrupted`."""
    team: Team = ALONE
    """Processes that compute the features together, and judge them each for itself."""

    @property
    def n_classes(self) -> int:
        return len(self.dataset.classes)

    @property
    def n_train(self) -> int:
        """How many of the labelled images are for fitting while something is chosen; the others are for validation."""
        return len(self.dataset.train)

    @cached_property
    def index(self) -> Tensor:
        """int64 [n]: the labelled images among the data set's, those of training first, then those of validation."""
        return torch.cat([self.dataset.train, self.dataset.validation])

    @cached_property
    def labels(self) -> Tensor:
        """int64 [n], of those."""
        return self.dataset.labels[self.index]

    @cached_property
    def features(self) -> Tensor:
        """float32 [n, D], of those, on `device`."""
        return features(self.backbone, self.dataset.images, self.index, self.mean, self.std, self.device, self.team)

    @cached_property
    def test(self) -> Test:
        """For `judge` alone, when all is chosen."""
        images, labels = self.dataset.load_test()
        return Test(images, labels, features(self.backbone, images, None, self.mean, self.std, self.device, self.team))
