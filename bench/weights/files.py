"""A file of weights -> its tensors by dotted keys, whatever it is wrapped in. No code in it is executed."""

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from bench.errors import UserError, few

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")
TEXTS = {  # how files begin that a download leaves in place of weights
    b"version https://git-lfs": "a pointer of Git LFS: fetch the file itself (git lfs pull)",
    b"<": "a web page or XML: the download gave a page in place of the file",
    b"{": "JSON text",
}


def read(path: Path) -> dict[str, Tensor]:
    """Every tensor of the file, on the CPU (mapped from the file where its format allows), by its dotted key.

    Dictionaries in dictionaries are joined with dots: {"state_dict": {"fc.bias": t}} -> {"state_dict.fc.bias": t}.
    Raises UserError, one line with the path, if it is missing, damaged, no weights, or a pickle with code in it.
    """
    check(path)
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        torch.serialization.add_safe_globals([argparse.Namespace])  # a bag of settings, which DINO's files have
        mapped = zipfile.is_zipfile(path)  # torch cannot map what it wrote before 1.6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of formats of other versions: it can be read, or not
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torn files make torch's readers fail in many ways
        text = " ".join(str(error).split())
        if code := re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", text):
            raise UserError(
                f"{path}: a pickle with code in it ({code[1]}): not executed, not loaded; save the network's "
                "state_dict() alone, or as .safetensors"
            ) from None
        reason = text.rpartition("WeightsUnpickler error: ")[2].partition(" Check the doc")[0]
        reason = reason[:150] or type(error).__name__
        raise UserError(f"{path}: cannot be read as weights: torn, or something else ({reason})") from error
    tensors = dict(_tensors(content, "", set()))
    if not tensors:
        raise UserError(f"{path}: holds no weights: no tensors by names in it")
    return tensors


def metadata(path: Path) -> dict[str, str]:
    """What a .safetensors file says of itself; {} of other files, and of those that cannot be read."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return {}


def check(path: Path) -> None:
    """Raises UserError on what can be told from the name, the kind of file or its first bytes."""
    if path.is_dir():
        inside = sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES)
        raise UserError(f"{path}: a folder; name the file in it" + (f": {few(inside)}" if inside else ""))
    if not path.exists():
        raise UserError(f"{path}: there is no such file")
    if not path.is_file():
        raise UserError(f"{path}: not a regular file")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: weights are in files that end with {', '.join(SUFFIXES)}")
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    if not start:
        raise UserError(f"{path}: is empty")
    for beginning, what in TEXTS.items():
        if start.startswith(beginning):
            raise UserError(f"{path}: no weights but {what}")


def _tensors(content: Any, prefix: str, entered: set[int]) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        if prefix:
            yield prefix.removesuffix("."), content
    elif isinstance(content, Mapping) and id(content) not in entered:  # a pickle may hold itself
        entered.add(id(content))
        for key, value in content.items():
            yield from _tensors(value, f"{prefix}{key}.", entered)
