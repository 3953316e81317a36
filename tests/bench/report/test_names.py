"""Names that readers know: of what is listed its own, of anything else the id."""

import pytest

from bench.data.datasets import DATASETS
from bench.report.names import dataset_name, entry_name
from methods import METHODS, NAMES, REFERENCES


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("raft", "RAFT"),
        ("byol_prime", "BYOL'"),
        ("moco_v3", "MoCo v3"),
        ("random", "untrained"),
        ("pkg:Net", "pkg:Net"),
    ],
)
def test_a_method_is_called_what_its_paper_calls_it(method: str, name: str) -> None:
    assert entry_name(method) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cifar10", "CIFAR-10"),
        ("fashion_mnist", "Fashion-MNIST"),
        ("folder:cats@01234567", "folder:cats@01234567"),
        ("stl10, probed on cifar10", "STL-10, probed on CIFAR-10"),
    ],
)
def test_a_dataset_is_called_what_readers_call_it(label: str, name: str) -> None:
    assert dataset_name(label) == name


def test_no_two_are_called_the_same() -> None:
    assert {*NAMES, *REFERENCES} <= set(METHODS)
    for ids, name in ((METHODS, entry_name), (DATASETS, dataset_name)):
        assert len(set(map(name, ids))) == len(ids)
