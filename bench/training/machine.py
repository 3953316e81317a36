"""How a run uses the machine: determinism, memory, precision, torch.compile."""

import ctypes
import logging
import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.config.schema import RunConfig
from bench.data.datasets import Dataset
from bench.data.whole import Images
from bench.team import ALONE, Team
from methods.base import Method

log = logging.getLogger("bench")


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's mallopt(3)


def set_determinism(threads: int) -> None:
    """Equal inputs give equal bits on this machine; `threads` CPU threads, as float sums depend on their number."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)  # a backbone's own operations may have no such form
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    torch.set_num_threads(threads)


def seed_draws(seed: int, device: torch.device) -> None:
    """torch.manual_seed; on a CPU without its look for every other kind of device, 1 % of a small network's step."""
    (torch.default_generator if device.type == "cpu" else torch).manual_seed(seed)


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where glibc manages it: steps on a CPU are up to a tenth faster.

    Otherwise glibc gives large activations back to the kernel, which has to zero new pages for them in every step.
    The price: the process holds its peak until it ends.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_MMAP_MAX, 0)


ONEDNN_BLOCK = 8  # float32 channels that its AVX2 kernels work on at once


def memory_format(backbone: nn.Module, device: torch.device) -> torch.memory_format:
    """How weights and views lie in memory: channels last, the fastest for convolutions, where it is safe.

    On CPUs with AVX2 the backward pass of a 1x1 convolution with a stride and fewer than 8 input channels writes past
    its buffers in that format (oneDNN 3.x), which ends the process or, worse, does not. Contiguous tensors are fine.
    """
    if device.type == "cpu":
        for name, module in backbone.named_modules():
            if isinstance(module, nn.Conv2d) and _writes_past_its_buffers(module):
                log.info("channels_last is left out: %s, %s, is not safe in it on a CPU", name, module)
                return torch.contiguous_format
    return torch.channels_last


def _writes_past_its_buffers(conv: nn.Conv2d) -> bool:
    strided = conv.kernel_size == (1, 1) and conv.stride != (1, 1)
    return strided and conv.groups == 1 and conv.in_channels < ONEDNN_BLOCK


def compile_backbones(
    method: Method, config: RunConfig, device: torch.device, layout: torch.memory_format, team: Team = ALONE
) -> bool:
    """torch.compile how the online backbone and a teacher's train; False, and a warning, where it does not work here.

    One pass of each on a blank batch tells that, and leaves no trace. Evaluation, with its many shapes, stays eager.
    """
    if team.world > 1:  # statistics over all devices interrupt the graph at every normalisation
        log.warning("train.compile: not with several devices, running without it")
        return False
    networks = [module for module in method.modules() if type(module) is type(method.backbone)]
    before = {name: value.clone() for name, value in method.state_dict().items()}
    n = -(-config.train.batch_size // config.train.accumulate)
    images = torch.zeros(n, config.data.channels, config.data.size, config.data.size, device=device)
    try:
        _keep_all_compilations()
        for network in networks:
            network.forward = _compiled(network)
            trained = any(parameter.requires_grad for parameter in network.parameters())
            with torch.set_grad_enabled(trained), autocast(device, config):
                features = network(images.to(memory_format=layout))
            if trained:
                features.sum().backward()
    except Exception as error:
        for network in networks:
            network.__dict__.pop("forward", None)
        log.warning("train.compile: not possible here, running without it (%s)", str(error).strip().split("\n")[0])
        return False
    finally:
        method.load_state_dict(before)
        method.zero_grad(set_to_none=True)
    return True


def _compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network's forward pass, compiled while it trains; hooks and the state dict stay as they are."""
    eager = network.forward
    compiled = torch.compile(eager, dynamic=False)
    return lambda images: compiled(images) if network.training else eager(images)


def _keep_all_compilations() -> None:
    """Let a worker compile for each of its runs: after 8 variants torch would go on uncompiled, without a word."""
    from torch._dynamo import config

    config.recompile_limit = 1000
    config.accumulated_recompile_limit = 1000
    config.fail_on_recompile_limit_hit = True


def autocast(device: torch.device, config: RunConfig) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=config.train.precision == "bfloat16")


def resident(dataset: Dataset, device: torch.device) -> tuple[Images, Tensor]:
    """Images and training labels (validation hidden as -1), on the device if half of its free memory holds them."""
    labels = dataset.labels.clone()
    labels[dataset.validation] = -1
    images = dataset.images
    if device.type == "cuda" and isinstance(images, Tensor) and images.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        images = images.to(device)
    return images, labels.to(device)
