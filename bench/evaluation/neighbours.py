"""k nearest neighbours on frozen features."""

import torch
from torch import Tensor

from bench.evaluation.scale import unit
from bench.evaluation.scores import ranked, top1

KNN_TEMPERATURE = 0.1  # a neighbour at cosine s votes with exp(s / 0.1), as in lightly
SIMILARITIES = 2**24  # cosines in memory at once: 64 MB


@torch.no_grad()
def vote(bank: Tensor, bank_labels: Tensor, queries: Tensor, k: int, n_classes: int) -> Tensor:
    """Weighted kNN: bank [m, D] with labels [m], queries [n, D] -> classes [n, min(5, C)], most votes first.

    A class has the sum of exp(cosine / 0.1) over those of a query's k nearest neighbours (k is cut to m) that are of
    it. Queries are taken in slices, so that the n x m cosines are never in memory.
    """
    bank, queries = unit(bank), unit(queries)
    bank_labels = bank_labels.to(bank.device)
    k = min(k, len(bank))
    slice_size = max(1, min(256, SIMILARITIES // len(bank)))
    cosines = bank.new_empty(slice_size, len(bank))  # one buffer: fresh memory for each slice costs more than topk
    told = []
    for part in torch.split(queries, slice_size):
        cos = torch.mm(part, bank.T, out=cosines[: len(part)])  # [b, m]
        nearest, index = cos.topk(k, dim=1)  # [b, k]
        votes = torch.zeros(len(part), n_classes, dtype=torch.float64, device=bank.device)
        votes.scatter_add_(1, bank_labels[index], (nearest.double() / KNN_TEMPERATURE).exp())
        told.append(ranked(votes))
    return torch.cat(told)


def knn_top1(bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, k: int, n_classes: int) -> float:
    """Accuracy in percent of `vote`; query_labels [n]."""
    return top1(vote(bank, bank_labels, queries, k, n_classes)[:, 0], query_labels)
