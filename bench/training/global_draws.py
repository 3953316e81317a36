"""Dropout over the parts of a batch that lie in several processes: the draws that one process makes for all of it.

Every process draws for the whole batch, from one stream, and applies its part: what an image loses does not depend on
the number of devices. That takes no message. On CPUs the draws are to the bit those of one process; on GPUs those of
drop path are, while torch's dropout draws in a kernel of its own there, from the same distribution. What is drawn
otherwise (within attention's kernels, by torch.rand), or for slices of a batch (`train.accumulate`), each process draws
for itself.
"""

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from bench.training.distributed import Ranks


class GlobalDraws:
    """The stream of a step, the same in all processes, and what is drawn from it."""

    def __init__(self, ranks: "Ranks", device: torch.device) -> None:
        self.ranks, self.stream = ranks, torch.Generator(device)

    def bernoulli_(self, x: Tensor, p: float) -> Tensor:
        """Fill x [n k, ...], which belongs to this process's n images, with ones of probability p, else zeros.

        What cannot belong to them, by its length or device, is filled from torch's own stream.
        """
        lengths, rank = self.ranks.lengths, self.ranks.rank
        k, rest = divmod(len(x), lengths[rank]) if x.dim() else (0, 1)
        if rest or x.device != self.stream.device:
            return x.bernoulli_(p)
        channels_last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if channels_last else torch.contiguous_format  # the order of draws follows it
        shape = (k * sum(lengths), *x.shape[1:])
        whole = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
        start = k * sum(lengths[:rank])
        return x.copy_(whole.bernoulli_(p, generator=self.stream)[start : start + len(x)])

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """torch.nn.functional.dropout of x [n k, ...], with its arguments."""
        if not training or not 0 < p < 1:
            return F.dropout(x, p, training, inplace)
        kept = self.bernoulli_(torch.empty_like(x, requires_grad=False), 1 - p).div_(1 - p)
        return x.mul_(kept) if inplace else x * kept
