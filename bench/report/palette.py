"""How entries look: the same colour and marker everywhere, told apart by colour-blind readers and in grey print."""

import colorsys
import hashlib
from dataclasses import dataclass
from typing import Any

import pandas as pd

from methods import REFERENCES


@dataclass(frozen=True)
class Look:
    """How an entry is drawn: colour (hex), and matplotlib's marker, its filling, and line style."""

    colour: str
    marker: str
    fill: str = "full"
    line: str = "-"

    def marked(self, edge: str = "w") -> dict[str, Any]:
        """matplotlib's arguments for markers; edge: colour around those that are filled."""
        shown: dict[str, Any] = {"color": self.colour, "marker": self.marker, "fillstyle": self.fill}
        full = self.fill == "full"
        return shown | ({"mec": edge} if full else {"mec": self.colour, "markerfacecoloralt": "w"})


FILLS = ("full", "none", "left", "bottom")
LINES = ("-", "--", ":", "-.")

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
    "directpred": Look("#F0E442", "8"),
    "moco_v2": Look("#44AA99", "d"),
    "nnclr": Look("#AA4499", "*"),
    "swav": Look("#6A3D9A", "s", "none"),
    "wmse": Look("#B15928", "^", "none"),
    "lejepa": Look("#661100", "H"),
    "random": Look("#808080", "X"),
    "supervised": Look("#000000", "P"),
}
SPARE_COLOURS = ("#8C564B", "#DDCC77", "#6699CC", "#117733", "#4477AA", "#BB5566")
SPARE_MARKERS = ("8", "d", "*", "H")


def looks(board: pd.DataFrame) -> dict[str, Look]:
    """The looks of a report's entries, in the order in which figures show them: no two share a colour.

    board: with entry and method. Our methods come in their own order, then others by name, the references last. The
    first entry of a method looks as the method does, and the method's own name is first; further ones have its marker
    and its hue, otherwise filled, otherwise dashed, darker or lighter.
    """
    known = board[["entry", "method"]].drop_duplicates()
    of_methods = _looks_of_methods(set(known["method"]))
    ours = {method: i for i, method in enumerate(LOOKS)}
    order = sorted(of_methods, key=lambda method: (method in REFERENCES, ours.get(method, len(ours)), method))
    found: dict[str, Look] = {}
    for method in order:
        own = sorted(known.loc[known["method"] == method, "entry"], key=lambda entry: (entry != method, entry))
        for i, entry in enumerate(own):
            found[entry] = _varied(of_methods[method], i, len(own))
    return found


def _looks_of_methods(methods: set[str]) -> dict[str, Look]:
    """A method that is not in LOOKS has the spare colour that a hash of its name gives, or the next that is free."""
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


def _varied(look: Look, i: int, n: int) -> Look:
    """The look of the i-th of a method's n entries: darker and lighter in turn; if it is nearly black, lighter."""
    if i == 0:
        return look
    rgb = [int(look.colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    target, step, steps = (0.0 if i % 2 else 1.0, (i + 1) // 2, n // 2) if sum(rgb) > 0.6 else (1.0, i, n)
    share = 0.75 * step / (steps + 1)
    shade = "#" + "".join(f"{round(255 * (part + share * (target - part))):02X}" for part in rgb)
    return Look(shade, look.marker, FILLS[i % len(FILLS)], LINES[(i + i // len(FILLS)) % len(LINES)])


def _digest(method: str) -> int:
    return int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")


def _further(i: int) -> str:
    """The i-th of colours without end: hues a golden section of the circle apart, never the same twice."""
    rgb = colorsys.hls_to_rgb(i * 0.618034 % 1, 0.3 + 0.06 * (i % 7), 0.65)
    return "#" + "".join(f"{round(255 * part):02X}" for part in rgb)
