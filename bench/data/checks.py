"""What looks wrong in a dataset's images, in sentences: told before anything is trained on them."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from bench.data.split import Split
from bench.errors import UserError, few

MANY = 0.01  # of a split's images
LITTLE_CONTRAST = 0.01  # standard deviation, of pixels in [0, 1]: below, a picture is as good as black
DARK = 64  # of 255: if no pixel of a set is as bright, its values end below what their files could hold
MANY_SHARED = 0.1  # of the test images: beyond, accuracies would be of memory


def of_split(split: Split, part: str) -> list[str]:
    """Remarks on the "training" or "test" split, a line each."""
    n, lines = len(split.images), list(split.remarks)
    if split.skipped:
        reasons = few([f"{name} ({reason})" for name, reason in split.skipped])
        lines.append(f"left out {len(split.skipped)} unreadable {part} images: {reasons}")
    if split.flat and len(split.flat) >= MANY * n:
        lines.append(f"{len(split.flat)} of {n} {part} images are of one colour: {_names(split, split.flat)}")
    elif max(split.std) < LITTLE_CONTRAST:
        lines.append(f"pixels of {part} images hardly differ (standard deviation {max(split.std):.4f}, white is 1)")
    elif split.highest < DARK:
        lines.append(f"no pixel of the {n} {part} images is above {split.highest} of 255: were they saved rescaled?")
    if split.several:
        lines.append(
            f"{len(split.several)} {part} images have several frames or pages, of which the first is taken: "
            f"{_names(split, split.several)}"
        )
    labels: dict[str, set[int]] = defaultdict(set)
    for digest, label in zip(split.digests, split.labels.tolist(), strict=False):
        labels[digest] |= {label} if label >= 0 else set()
    if split.digests and n - len(labels) >= MANY * n:
        lines.append(f"{n - len(labels)} of {n} {part} images are copies (the same bytes) of others")
    if torn := [i for i, digest in enumerate(split.digests) if len(labels[digest]) > 1]:
        lines.append(f"{len(torn)} {part} images have copies (the same bytes) in other classes: {_names(split, torn)}")
    return lines


def of_both(train: Split, test: Split, name: str) -> list[str]:
    """A remark on test images whose bytes are those of a training image; published sets have some, too.

    Raises UserError where more than a tenth of the test images are.
    """
    known = Counter(train.digests)
    shared = [i for i, digest in enumerate(test.digests) if digest in known]
    if not shared:
        return []
    line = f"{len(shared)} of {len(test.digests)} test images are copies (the same bytes) of training images"
    examples = few([f"{test.names[i]} is {train.names[train.digests.index(test.digests[i])]}" for i in shared[:4]])
    if len(shared) > MANY_SHARED * len(test.digests):
        raise UserError(f"{name}: {line}: {examples}: no accuracy would mean anything; keep one of each")
    return [f"{line}: {examples}"]


def _names(split: Split, numbers: Sequence[int]) -> str:
    return few([split.names[i] if split.names else f"number {i}" for i in numbers[:4]])
