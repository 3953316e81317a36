"""Numbers of a channel, as tensors that stay on the device."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache
def constant(channels: tuple[float, ...], device: torch.device) -> Tensor:
    """[C, 1, 1]; kept on the device, because a transfer at each use would wait for it."""
    return torch.tensor(channels, device=device)[:, None, None]
