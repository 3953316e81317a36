"""How a method looks: the same colour and marker everywhere, told apart by colour-blind readers and in grey print."""

import hashlib

# Okabe & Ito's colours, then Tol's; references in grey and black.
COLOURS = {
    "raft": "#D55E00",
    "byol": "#0072B2",
    "byol_prime": "#56B4E9",
    "simsiam": "#009E73",
    "simclr": "#CC79A7",
    "moco_v3": "#E69F00",
    "barlow_twins": "#332288",
    "vicreg": "#999933",
    "dino": "#882255",
    "random": "#808080",
    "supervised": "#000000",
}
MARKERS = {
    "raft": "o",
    "byol": "s",
    "byol_prime": "D",
    "simsiam": "^",
    "simclr": "v",
    "moco_v3": "<",
    "barlow_twins": ">",
    "vicreg": "p",
    "dino": "h",
    "random": "X",
    "supervised": "P",
}
SPARE_COLOURS = ("#44AA99", "#8C564B", "#AA4499", "#DDCC77", "#6699CC", "#661100")
SPARE_MARKERS = ("8", "d", "*", "H")


def colour(method: str) -> str:
    """Ours by name; another by a hash of its name, so that it does not depend on who else is in the figure."""
    return COLOURS.get(method) or SPARE_COLOURS[_digest(method) % len(SPARE_COLOURS)]


def marker(method: str) -> str:
    return MARKERS.get(method) or SPARE_MARKERS[_digest(method) // len(SPARE_COLOURS) % len(SPARE_MARKERS)]


def in_order(methods: set[str]) -> list[str]:
    """Ours in their own order, then others by name, the references last."""
    ours = [method for method in COLOURS if method not in ("random", "supervised")]
    known = {method: i for i, method in enumerate([*ours, "", "random", "supervised"])}
    return sorted(methods, key=lambda method: (known.get(method, len(ours)), method))


def _digest(method: str) -> int:
    return int.from_bytes(hashlib.sha256(method.encode()).digest()[:4], "big")
