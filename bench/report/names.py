"""What readers call entries and data sets; ids stay on the command line and in CSV."""

import re

from bench.data.datasets import DATASETS
from bench.runs.identity import PROBED_ON
from bench.tables.evaluated import Measure
from methods import NAMES

CLASSIFIERS = {"knn": "kNN"}
SCORES = {"top1": "", "top5": " top-5", "balanced": " balanced", "f1": " F1"}


def entry_name(entry: str) -> str:
    """ "byol_prime" -> "BYOL'"; a label, and a method that is not listed, are shown as they are."""
    return NAMES.get(entry, entry)


def dataset_name(label: str) -> str:
    """ "cifar10" -> "CIFAR-10"; a folder, and a set that is not listed, keep what the tables call them."""
    names = label.split(PROBED_ON)
    return PROBED_ON.join(DATASETS[name].title if name in DATASETS else name for name in names)


def measure_name(measure: Measure) -> str:
    """ "test_few_1pct_top1" -> "few 1%", "val_knn_f1@cifar100" -> "val. kNN F1 on CIFAR-100"."""
    split = "val. " if measure.split == "val" else ""
    on = f" on {dataset_name(measure.dataset)}" if measure.dataset else ""
    settings = f" #{measure.key}" if measure.key else ""
    return split + classifier_name(measure.variant) + SCORES[measure.score] + on + settings


def classifier_name(variant: str) -> str:
    """ "few_1pct" -> "few 1%", "few_5shot" -> "few 5/class"."""
    name = re.sub(r"_([\d.]+)pct$", r" \1%", re.sub(r"_(\d+)shot$", r" \1/class", variant))
    return CLASSIFIERS.get(name, name.replace("_", " "))
