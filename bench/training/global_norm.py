"""Batch norm over the parts of a batch that lie in several processes: with the mean and variance of the whole."""

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from bench.training.distributed import Ranks


IN_CACHE = 2**17  # values that are worked on at a time


class WholeBatch(TorchFunctionMode):
    """Within it, batch norm and dropout in training are those of the whole batch.

    All layers come to it, also those that torch's convert_sync_batchnorm does not know or would change: heads that
    normalise in float32, timm's layers with an activation. State dicts stay as they are.
    """

    def __init__(self, ranks: "Ranks") -> None:
        super().__init__()
        self.ranks = ranks

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.batch_norm:
            function = self._batch_norm
        elif function is F.dropout:
            function = self.ranks.draws.dropout
        elif function == Tensor.bernoulli_ and isinstance(args[-1], float) and not kwargs:  # timm's drop path
            function = self.ranks.draws.bernoulli_
        return function(*args, **(kwargs or {}))

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """torch.nn.functional.batch_norm, with its arguments."""
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        if x.is_cuda:
            group, world = dist.group.WORLD, self.ranks.world
            y: Tensor = SyncBatchNorm.apply(x, weight, bias, running_mean, running_var, eps, momentum, group, world)
            return y
        y, mean, var, count = BatchNorm.apply(x, weight, bias, eps, self.ranks)
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((var * (count / (count - 1))).to(running_var.dtype), momentum)  # unbiased
        normalised: Tensor = y
        return normalised


class BatchNorm(torch.autograd.Function):
    """On the CPU, where torch's SyncBatchNorm refuses: x [n, C, ...] -> y, and mean [C], var [C] (biased), count [1].

    With xhat = (x - mean) / sd, and means over all N values of a channel,

        dx = weight / sd (dy - mean(dy) - xhat mean(dy xhat))

    The sums over this process's own values are torch's kernels'; only what is over all processes is here. Of x in
    bfloat16 all statistics are in float32, as torch's are.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, ranks: "Ranks"
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = torch.promote_types(x.dtype, torch.float32)
        unused = x.new_zeros(2, x.shape[1], dtype=wide)  # running statistics: their precision is that of the result
        own = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)  # mean, var
        every = torch.stack(ranks.all(torch.cat([*own, own[0].new_tensor([x.numel() // x.shape[1]])])))
        means, variances, counts = every.split([x.shape[1], x.shape[1], 1], dim=1)  # [world, C], [world, C], [world, 1]
        count = counts.sum(dim=0)
        share = counts / count
        mean = (share * means).sum(dim=0)
        var = (share * (variances + (means - mean).square())).sum(dim=0)
        y = torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps, ctx.ranks = eps, ranks
        ctx.mark_non_differentiable(mean, var, count)
        return y, mean, var, count

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        inverse = (var + ctx.eps).rsqrt()
        # in evaluation mode: sum(dy xhat), sum(dy)
        _, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, mean, inverse, False, ctx.eps, [False, True, True]
        )
        sums = torch.cat([dbias, dweight])
        ctx.ranks.sum(sums)
        mean_dy, mean_dy_xhat = (sums / count).chunk(2)
        scale = inverse if weight is None else weight * inverse
        slope = -scale * inverse * mean_dy_xhat
        shape = (1, -1, *[1] * (x.dim() - 2))
        shift = -scale * mean_dy - slope * mean
        shift, slope, scale = (each.view(shape) for each in (shift, slope, scale))
        dx = torch.empty_like(x)
        images = max(1, IN_CACHE * len(x) // x.numel())
        for xs, dys, dxs in zip(x.split(images), dy.split(images), dx.split(images), strict=True):
            dxs.copy_(torch.addcmul(shift, xs.to(shift.dtype), slope).addcmul_(dys.to(shift.dtype), scale))
        return dx, dweight if weight is not None else None, dbias if weight is not None else None, None, None
