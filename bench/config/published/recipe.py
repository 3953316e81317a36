"""What a published recipe is, and what several of them share."""

from collections.abc import Mapping
from typing import Any, NamedTuple

Settings = dict[str, Any]

STRONG: Settings = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2}  # SimCLR's colours
SGD: Settings = {"name": "sgd", "decay_bias_norm": True}  # torch's, which decays all parameters


class Published(NamedTuple):
    """A preset that replicates a source."""

    shared: Settings
    by_method: dict[str, Settings]
    source: str
    probe: str
    """How the source measured what it tells, as a reader of tables has to know it."""
    accuracies: Mapping[str, float]
    """In percent, by method; empty if the source tells none."""
    departures: str
