"""What readers call methods and data sets; ids stay on the command line and in CSV."""

from bench.data.datasets import DATASETS
from methods import NAMES


def method_name(method: str) -> str:
    """ "byol_prime" -> "BYOL'"; a method that is not listed keeps its id."""
    return NAMES.get(method, method)


def dataset_name(label: str) -> str:
    """ "cifar10" -> "CIFAR-10"; a folder, and a set that is not listed, keep what the tables call them."""
    return DATASETS[label].title if label in DATASETS else label
