"""A fixed draw of a share of each class."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bench.errors import UserError


def stratified(
    labels: npt.NDArray[np.int64], share: float, classes: tuple[str, ...], name: str
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """A fixed split of the labelled images into rest and chosen: two sorted arrays of indices.

    Of each class `share`, rounded, is chosen, but at least one image, and one is left. The draw is made from the raw
    bits of PCG64, which numpy keeps the same in all versions. Raises UserError on a class of less than 2 images.
    """
    keys = np.random.PCG64(0).random_raw(len(labels))
    rest, chosen = [], []
    for label, class_name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise UserError(
                f"{name}: class {class_name!r} has {len(members)} readable training images; at least 2 are needed, "
                "one of them for validation"
            )
        members = members[np.argsort(keys[members], kind="stable")]
        n = min(max(1, round(share * len(members))), len(members) - 1)
        chosen.append(members[:n])
        rest.append(members[n:])
    return np.sort(np.concatenate(rest)), np.sort(np.concatenate(chosen))


def first_of_each(
    labels: npt.NDArray[np.int64], keys: npt.NDArray[np.uint64], count: Callable[[int], int]
) -> npt.NDArray[np.int64]:
    """Of each class in `labels` [n] the `count(members)` images with the lowest `keys` [n]: a sorted array of indices.

    With the same keys, more images of a class contain fewer.
    """
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(keys[members], kind="stable")][: count(len(members))])
    return np.sort(np.concatenate(chosen))
