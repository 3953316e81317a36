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
        "directpred": "methods.directpred:DirectPred",
        "moco_v2": "methods.moco_v2:MoCoV2",
        "nnclr": "methods.nnclr:NNCLR",
        "swav": "methods.swav:SwAV",
        "lejepa": "methods.lejepa:LeJEPA",
        "wmse": "methods.wmse:WMSE",
        "random": "methods.baselines:RandomInit",
        "supervised": "methods.baselines:Supervised",
    }
)

NAMES = {
    "raft": "RAFT",
    "byol": "BYOL",
    "byol_prime": "BYOL'",
    "simsiam": "SimSiam",
    "simclr": "SimCLR",
    "moco_v3": "MoCo v3",
    "barlow_twins": "Barlow Twins",
    "vicreg": "VICReg",
    "dino": "DINO",
    "directpred": "DirectPred",
    "moco_v2": "MoCo v2",
    "nnclr": "NNCLR",
    "swav": "SwAV",
    "lejepa": "LeJEPA",
    "wmse": "W-MSE",
    "random": "untrained",
}
"""What readers know a method by; one that is not listed is shown by its name in METHODS."""

REFERENCES = ("random", "supervised")
"""What stands beside the methods in every table, but neither wins nor is tested."""

__all__ = ["METHODS", "NAMES", "REFERENCES", "MethodConfig"]
