"""A file's tensors -> the weights of a network: under whatever prefix they stand, complete, or an error that names."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.errors import UserError, few

HEADS = frozenset(  # what stands beside or behind an encoder, by the first part of its keys
    {"fc", "head", "heads", "classifier", "last_linear", "linear", "projector", "projection_head", "projection"}
    | {"predictor", "prediction_head", "prototypes", "mask_token"}  # the last stands in for patches, in training alone
)
COUNTER = "num_batches_tracked"  # of batch normalisation: decides nothing where that has a momentum
NAMED = 4  # keys of a kind that a message names

Naming = Mapping[str, str]
"""A network's keys as a file has them, below a prefix -> as the network has them."""


@dataclass(frozen=True)
class Weights:
    """A network's weights, complete."""

    state: dict[str, Tensor]
    """By the network's own names, in its shapes and types."""
    content_hash: str
    """16 hex of the tensors as stored: one for the same weights, whatever their prefix and file."""
    told: tuple[str, ...]
    """Under which prefix they stand, what was left out, what was converted."""


def fit(tensors: Mapping[str, Tensor], network: nn.Module, what: str, prefix: str | None = None) -> Weights:
    """The weights of `network` among `tensors`, as bench.weights.files.read gives them.

    They may stand under any prefix (module., backbone., state_dict.model.encoder_q., ...), and the network's children
    may be numbered, as nn.Sequential(*network.children()) does. Heads, and what is not under the prefix, are left out.
    prefix: the prefix or its first parts, where several networks are in a file; "": none. what: the source, for
    messages. Raises UserError if none or several fit, and if keys are missing, left over, or of another shape or type.
    """
    places = fitting = _places(tensors, network)
    if prefix is not None:
        fitting = {p: naming for p, naming in places.items() if (p.startswith(f"{prefix}.") if prefix else not p)}
    if not fitting:
        under = "" if prefix is None else f" under {prefix or '.'}"
        found = f"there are some under {_listed(places)}" if places else f"it has {few(list(tensors))}"
        raise UserError(f"{what}: no weights of this backbone ({few(list(network.state_dict()))}){under}; {found}")
    first, *others = sorted(fitting, key=len)
    if not all(_equal(tensors, (first, fitting[first]), (other, fitting[other])) for other in others):
        path, example = what.partition("#")[0], first.removesuffix(".") or "."
        raise UserError(f"{what}: several networks fit, under {_listed(fitting)}; choose one as in {path}#{example}")
    inside = [p for p in places if p != first and p.startswith(first)]
    near = [key for key in tensors if key.startswith(first) and not key.startswith(tuple(inside))]
    named = {key.removeprefix(first): tensors[key] for key in near}
    weights = _complete(named, network, fitting[first], f"{what}" + (f", under {first[:-1]}" if first else ""))
    far = [key for key in tensors if key not in set(near)]
    told = [f"keys under {first[:-1]}"] * bool(first)
    told += [f"the same weights under {_listed(others)}"] * bool(others)
    told += weights.told
    told += [f"left out, not under it: {_grouped(far, places)}"] * bool(far)
    return Weights(weights.state, weights.content_hash, tuple(told))


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """16 hex digits of names, types, shapes and values. Counters of batches do not count: they decide nothing."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        if not name.endswith(COUNTER):
            tensor = tensors[name].detach()
            digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
            digest.update(cast(Any, tensor.contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()[:16]


def _places(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Naming]:
    """Prefixes under which the file has most of the network's keys, each with how the keys are named there."""
    keys = [key for key in network.state_dict() if not key.endswith(COUNTER)]
    found: dict[str, Naming] = {}
    for naming in _namings(network):
        count: Counter[str] = Counter()
        for key in tensors:
            parts = key.split(".")
            for i in range(len(parts)):
                if naming.get(rest := ".".join(parts[i:]), COUNTER).endswith(COUNTER):
                    continue
                count[key.removesuffix(rest)] += 1
        found |= {place: naming for place, n in count.items() if n > len(keys) / 2}
    return found


def _namings(network: nn.Module) -> Iterator[Naming]:
    """The network's own names, and those with numbers for its children, if all it has is in them."""
    keys, children = list(network.state_dict()), [name for name, _ in network.named_children()]
    yield {key: key for key in keys}
    if all(key.partition(".")[0] in children for key in keys):
        yield {f"{children.index(child)}.{rest}": f"{child}.{rest}" for child, _, rest in map(_split, keys)}


def _split(key: str) -> tuple[str, str, str]:
    return key.partition(".")


def _equal(tensors: Mapping[str, Tensor], first: tuple[str, Naming], other: tuple[str, Naming]) -> bool:
    """Whether the file has the same network at both places."""
    a, b = (
        {own: tensors[p + key] for key, own in naming.items() if p + key in tensors} for p, naming in (first, other)
    )
    return a.keys() == b.keys() and all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a)


def _complete(named: Mapping[str, Tensor], network: nn.Module, naming: Naming, what: str) -> Weights:
    """The network's weights from tensors by their keys below the prefix, each used or a head's. Raises UserError."""
    own, children = network.state_dict(), [name for name, _ in network.named_children()]
    stored = {naming[key]: tensor for key, tensor in named.items() if key in naming}
    counters = [key for key in own if key not in stored and _decides_nothing(key, network)]
    heads: Counter[str] = Counter()
    left = []
    for key in named.keys() - naming.keys():
        top = key.partition(".")[0]
        if key not in naming.values() and top.isdigit() and int(top) < len(children):
            top = children[int(top)]
        if top in HEADS | _classifiers(network):
            heads[key.partition(".")[0]] += 1
        else:
            left.append(key)
    shapes = [key for key in stored if stored[key].shape != own[key].shape]
    kinds = [key for key in stored if own[key].is_floating_point() and not stored[key].is_floating_point()]
    problems = {
        "missing": [key for key in own if key not in stored and key not in counters],
        "left over": sorted(left),
        "of another shape": [f"{key} {_shape(stored[key])}, here {_shape(own[key])}" for key in shapes],
        "not floating point": [f"{key} ({_type(stored[key])})" for key in kinds],
    }
    if any(problems.values()):
        text = "; ".join(f"{kind} ({len(keys)}): {few(keys, NAMED)}" for kind, keys in problems.items() if keys)
        raise UserError(f"{what}: not the weights of this backbone: {text}{_hint(shapes, stored, network)}")
    told = [f"left out, heads: {_counts(heads)}"] * bool(heads)
    types = sorted({_type(stored[key]) for key in stored if stored[key].dtype != own[key].dtype})
    told += [f"{', '.join(types)} in the file, computed with in float32"] * bool(types)
    told += [f"without {COUNTER}, which decides nothing here: 0"] * bool(counters)
    state = {key: stored[key].detach().to(own[key].dtype) if key in stored else own[key] for key in own}
    return Weights(state, content_hash(stored), tuple(told))


def _decides_nothing(key: str, network: nn.Module) -> bool:
    """Whether `key` is a counter of batches which nothing reads; older files do not have it."""
    module, _, name = key.rpartition(".")
    return name == COUNTER and getattr(network.get_submodule(module), "momentum", None) is not None


def _classifiers(network: Any) -> set[str]:
    """First parts of the keys of the timm model's own classifier, which this network does not have."""
    names = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or ()
    return {name.partition(".")[0] for name in ((names,) if isinstance(names, str) else names)}


def _hint(shapes: Sequence[str], stored: Mapping[str, Tensor], network: nn.Module) -> str:
    if "conv1.weight" in shapes and (wide := stored["conv1.weight"].shape[-1]) in (3, 7):
        return f"; a first convolution of {wide} x {wide} is backbone.stem={'imagenet' if wide == 7 else 'small'}'s"
    if any("pos_embed" in key for key in shapes):
        return "; a position embedding of other sizes is one of another image size"
    return ""


def _listed(places: Mapping[str, Any] | Sequence[str]) -> str:
    return few([place.removesuffix(".") or "." for place in sorted(places)], 6)


def _grouped(keys: Sequence[str], places: Mapping[str, Any]) -> str:
    """Keys of another network of the file are told by its prefix, others by their parents' first three names."""
    groups: Counter[str] = Counter()
    for key in keys:
        place = next((place for place in places if place and key.startswith(place)), "")
        groups[place.removesuffix(".") or ".".join(key.split(".")[:-1][:3]) or key] += 1
    return _counts(groups)


def _counts(groups: Counter[str]) -> str:
    return few([f"{name} ({n} tensors)" if n > 1 else name for name, n in groups.items()], NAMED)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
