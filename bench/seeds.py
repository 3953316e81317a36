"""Named random streams: one seed, several independent generators.

A stream is a pure function of (seed, name, index), so nothing has to be saved to resume a run, and no draw in
one place (say, a method's dropout) shifts the draws in another (say, the augmentations): runs stay paired.
"""

import hashlib
from enum import IntEnum
from typing import Literal

import torch

Stream = Literal["init", "order", "augment", "probe"]


class Init(IntEnum):
    """What the stream "init" is drawn for: its first index."""

    BACKBONE = 0
    HEADS = 1
    ONLINE_PROBE = 2
    STEP = 3  # dropout and the like: one generator an optimizer step


class Probe(IntEnum):
    """What the stream "probe" is drawn for: its first index."""

    DIAGNOSTICS = 0
    CHOICE = 1  # crops of the linear layers from which validation chooses a rate
    FINAL = 2  # crops of the layer that is tested
    TUNING_CHOICE = 3  # the same of fine-tuned encoders
    TUNING_FINAL = 4


def stream(seed: int, name: Stream, *index: int) -> torch.Generator:
    """A CPU generator for `name` ("init" | "order" | "augment" | "probe"), e.g. one an epoch or one a step."""
    digest = hashlib.sha256(repr((seed, name, *map(int, index))).encode()).digest()
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)  # 63 bits: manual_seed takes an int64
    return generator
