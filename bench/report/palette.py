"""How a method looks: the same colour and marker everywhere, told apart by colour-blind readers and in grey print."""

import colorsys
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from methods import REFERENCES


@dataclass(frozen=True)
class Look:
    """A method's colour (hex) and marker (matplotlib's)."""

    colour: str
    marker: str


LOOKS = {  # Okabe & Ito's colours, then Tol's; references in grey and black
    "raft": Look("#D55E00", "o"),
    "byol": Look("#0072B2", "s"),
    "byol_prime": Look("#56B4E9", "D"),
    "simsiam": Look("#009E73", "^"),
    "simclr": Look("#CC79A7", "v"),
    "moco_v3": Look("#E69F00", "<"),
    "barlow_twins": Look("#332288", ">"),
    "vicreg": Look("#999933", "p"),
    "dino": Look("#882255", "h"),
    "random": Look("#808080", "X"),
    "supervised": Look("#000000", "P"),
}
SPARE_COLOURS = ("#44AA99", "#8C564B", "#AA4499", "#DDCC77", "#6699CC", "#661100")
SPARE_MARKERS = ("8", "d", "*", "H")


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """The looks of a report's methods: no two share a colour, and the same methods always look the same.

    A method that is not in LOOKS has the spare colour that a hash of its name gives, or the next that is free.
    """
    methods = set(methods)
    found = {method: LOOKS[method] for method in methods if method in LOOKS}
    free = list(SPARE_COLOURS)
    for i, method in enumerate(sorted(methods - set(LOOKS))):
        shade = SPARE_COLOURS[_digest(method) % len(SPARE_COLOURS)]
        if shade in free:
            free.remove(shade)
        else:
            shade = free.pop(0) if free else _further(i)
        found[method] = Look(shade, SPARE_MARKERS[i % len(SPARE_MARKERS)])
    return found


def in_order(methods: Iterable[str]) -> list[str]:
    """Ours in their own order, then others by name, the references last."""
    ours = {method: i for i, method in enumerate(LOOKS)}
    return sorted(methods, key=lambda method: (method in REFERENCES, ours.get(method, len(ours)), method))


def _digest(method: str) -> int:
    return int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")


def _further(i: int) -> str:
    """The i-th of colours without end: hues a golden section of the circle apart, never the same twice."""
    rgb = colorsys.hls_to_rgb(i * 0.618034 % 1, 0.3 + 0.06 * (i % 7), 0.65)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)
