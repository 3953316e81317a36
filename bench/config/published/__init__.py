"""Published recipes: each number as its source has it, method by method, and the accuracy that it reached there.

They replicate; for comparing methods there are the paired presets (`bench.config.presets`), one augmentation and budget
for all. What our pipeline does otherwise than a source is listed in its `departures`.
"""

from bench.config.published import lightly, papers, solo_learn
from bench.config.published.recipe import Published

__all__ = ["DESCRIPTIONS", "PUBLISHED", "Published"]

PUBLISHED: dict[str, Published] = {**solo_learn.PUBLISHED, **lightly.PUBLISHED, **papers.PUBLISHED}

DESCRIPTIONS = {
    "solo-learn/cifar10": "CIFAR-10, ResNet-18, 1000 epochs: published, each method as solo-learn has it; one GPU",
    "lightly/cifar10": "CIFAR-10, ResNet-18, 200 epochs: published, each method as lightly's benchmark has it; one GPU",
    "simsiam/cifar10": "CIFAR-10, ResNet-18, 800 epochs: published, SimSiam as its paper has it; one GPU",
    "raft-paper/2020-11": "CIFAR-10, ResNet-18, 300 epochs: published, RAFT, BYOL and BYOL' as RAFT's authors had them",
    "solo-learn/cifar100": "CIFAR-100, ResNet-18, 1000 epochs: published, each method as solo-learn has it; one GPU",
}
