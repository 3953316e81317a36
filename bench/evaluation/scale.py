"""Features of any scale: cosines and standard deviations in float32 overflow above 1e19 and vanish below 1e-19."""

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST, LARGEST = 1e-6, 1e15  # largest magnitudes that need no scaling: their bits stay as they are


def unit(x: Tensor) -> Tensor:
    """Rows [N, D] of norm 1, whatever their scale; a row of zeros stays."""
    return F.normalize(rescaled(x), dim=1)


def rescaled(x: Tensor) -> Tensor:
    """Rows [N, D], each divided by its largest magnitude where float32 would overflow or it all but vanishes.

    For what is trained on features as they are: other rows keep their bits.
    """
    largest = x.abs().amax(dim=1, keepdim=True)
    odd = ((largest < SMALLEST) | (largest > LARGEST)) & (largest > 0)
    return x / torch.where(odd, largest, 1.0)


def scales(x: Tensor) -> Tensor:
    """What to divide the columns of features [N, D] by, [D]: 1 but where float32 would overflow, or all vanish.

    A huge column is scaled by itself. Tiny ones are scaled together: beside ordinary columns they are constant.
    """
    columns = x.abs().amax(dim=0)
    largest = columns.max()
    common = torch.where((largest < SMALLEST) & (largest > 0), largest, 1.0)
    return torch.where(columns > LARGEST, columns, common)
