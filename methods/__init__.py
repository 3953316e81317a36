"""The registry of methods: add a method with one file and one line here."""

from methods.config import MethodConfig
from methods.registry import Registry

METHODS = Registry(
    {
        "raft": "methods.raft:RAFT",
        "byol": "methods.byol:BYOL",
        "byol_prime": "methods.byol_prime:BYOLPrime",
        "simsiam": "methods.simsiam:SimSiam",
        "simclr": "methods.simclr:SimCLR",
        "moco_v3": "methods.moco_v3:MoCoV3",
        "barlow_twins": "methods.barlow_twins:BarlowTwins",
        "vicreg": "methods.vicreg:VICReg",
        "dino": "methods.dino:DINO",
        "random": "methods.baselines:RandomInit",
        "supervised": "methods.baselines:Supervised",
    }
)

__all__ = ["METHODS", "MethodConfig"]
