"""The registry of methods: add a method with one file and one line here."""

from methods.base import Method, MethodConfig
from methods.baselines import RandomInit, Supervised
from methods.byol import BYOL
from methods.byol_prime import BYOLPrime
from methods.raft import RAFT
from methods.simclr import SimCLR
from methods.simsiam import SimSiam

METHODS: dict[str, type[Method]] = {
    "raft": RAFT,
    "byol": BYOL,
    "byol_prime": BYOLPrime,
    "simsiam": SimSiam,
    "simclr": SimCLR,
    "random": RandomInit,
    "supervised": Supervised,
}

__all__ = ["METHODS", "Method", "MethodConfig"]
