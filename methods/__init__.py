"""The registry of methods: add a method with one file and one line here."""

from methods.barlow_twins import BarlowTwins
from methods.base import Method, MethodConfig
from methods.baselines import RandomInit, Supervised
from methods.byol import BYOL
from methods.byol_prime import BYOLPrime
from methods.dino import DINO
from methods.moco_v3 import MoCoV3
from methods.raft import RAFT
from methods.simclr import SimCLR
from methods.simsiam import SimSiam
from methods.vicreg import VICReg

METHODS: dict[str, type[Method]] = {
    "raft": RAFT,
    "byol": BYOL,
    "byol_prime": BYOLPrime,
    "simsiam": SimSiam,
    "simclr": SimCLR,
    "moco_v3": MoCoV3,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "dino": DINO,
    "random": RandomInit,
    "supervised": Supervised,
}

__all__ = ["METHODS", "Method", "MethodConfig"]
