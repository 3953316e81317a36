"""Evaluation of a frozen backbone: features, then the kNN and linear probes of the protocol."""

from functools import partial

import torch
from torch import Tensor, nn

from bench.backbone import frozen
from bench.config.schema import AugmentConfig, EvalConfig
from bench.data.augment import Augmentation, normalize
from bench.data.datasets import Dataset
from bench.evaluation.crops import LR_GRID, crop_heads
from bench.evaluation.knn import knn_top1
from bench.evaluation.logistic import L2_GRID, fit_logistic, top1
from bench.evaluation.scale import rescaled
from bench.seeds import Probe

__all__ = ["default_k", "evaluate", "features", "knn_top1"]

FORWARD_BATCH = 256  # images of a forward pass


def features(
    backbone: nn.Module,
    images: Tensor,
    index: Tensor | None,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device,
) -> Tensor:
    """Frozen features of the centre view: uint8 images [N, 3, S, S] (those at `index` [n]) -> float32 [n, D].

    On `device`, where the probes use them. In eval mode, without gradient or autocast: no parameter, buffer
    or training flag is changed. Raises RuntimeError on features that are not finite.
    """
    index = torch.arange(len(images)) if index is None else index.cpu()
    parts = []
    with frozen(backbone), torch.autocast(device.type, enabled=False):
        for part in torch.split(index, FORWARD_BATCH):
            batch = images[part.to(images.device)].to(device, non_blocking=True)
            parts.append(backbone(normalize(batch, mean, std)).float())
    found = torch.cat(parts)
    bad = len(found) - int(found.isfinite().all(dim=1).sum())
    if bad:
        raise RuntimeError(f"non-finite features: the backbone gives NaN or infinity for {bad} of {len(found)} images")
    return found


def default_k(config: EvalConfig, n_labelled: int) -> int:
    """Neighbours of the kNN probe; `n_labelled` training images have labels, validation included."""
    return config.knn_k or (20 if n_labelled < 10_000 else 200)


def evaluate(
    backbone: nn.Module,
    dataset: Dataset,
    config: EvalConfig,
    augment: AugmentConfig,
    size: int,
    seed: int,
    device: torch.device,
) -> tuple[dict[str, float], Tensor, Tensor]:
    """The probes' accuracies in percent; and the test images' features [M, D] and labels [M].

    val_*: fitted on `train`, scored on `validation`. test_*: fitted on both, with the L2 strength chosen on
    validation (of equal ones the strongest), also given as linear_l2. Where config.probe is "augmented", it is a
    learning rate (of equal ones the lowest), linear_lr; that probe sees the crops and flips of the pre-training's
    first view, and nothing else of its augmentation. The test split is loaded once, when all is chosen.
    """
    mean, std, n_classes = dataset.mean, dataset.std, len(dataset.classes)
    labelled = torch.cat([dataset.train, dataset.validation])
    n_train = len(dataset.train)
    all_features, all_labels = (
        features(backbone, dataset.images, labelled, mean, std, device),
        dataset.labels[labelled],
    )
    train, validation = all_features[:n_train], all_features[n_train:]
    train_labels, validation_labels = all_labels[:n_train], all_labels[n_train:]

    if config.probe == "logistic":
        fits = fit_logistic(train, train_labels, n_classes, L2_GRID)
        scores = [top1(fit.predict(validation), validation_labels) for fit in fits]
        chosen = scores.index(max(scores))  # the first, so the strongest, of equal ones
        fit = fit_logistic(all_features, all_labels, n_classes, [L2_GRID[chosen]], start=fits[chosen])[0]
        predict, choice = fit.predict, {"linear_l2": L2_GRID[chosen]}
    else:
        only_crops = {"jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0, "view2": {}}
        crops = Augmentation(augment.model_copy(update=only_crops), size, mean, std)
        heads = crop_heads(backbone, dataset, dataset.train, LR_GRID, crops, (seed, Probe.CHOICE), device)
        scores = [top1(_classes(head, validation), validation_labels) for head in heads]
        chosen = scores.index(max(scores))
        head = crop_heads(backbone, dataset, labelled, [LR_GRID[chosen]], crops, (seed, Probe.FINAL), device)[0]
        predict, choice = partial(_classes, head), {"linear_lr": LR_GRID[chosen]}

    k = default_k(config, len(labelled))
    val_knn = knn_top1(train, train_labels, validation, validation_labels, k, n_classes)
    images, test_labels = dataset.load_test()
    test = features(backbone, images, None, mean, std, device)
    metrics = {
        "test_linear_top1": top1(predict(test), test_labels),
        "val_linear_top1": scores[chosen],
        "test_knn_top1": knn_top1(all_features, all_labels, test, test_labels, k, n_classes),
        "val_knn_top1": val_knn,
        **choice,
    }
    return metrics, test, test_labels


@torch.no_grad()
def _classes(head: nn.Linear, features: Tensor) -> Tensor:
    return torch.as_tensor(head(rescaled(features)).argmax(dim=1))
