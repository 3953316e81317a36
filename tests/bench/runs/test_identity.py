"""A run's name outlives new versions of the program: settings that are added do not change it."""

from copy import deepcopy
from typing import Any

import pytest

from bench.config import presets
from bench.config.schema import resolve
from bench.runs import identity
from methods import METHODS

VERSION_0_1 = (
    *("raft", "byol", "byol_prime", "simsiam", "simclr"),
    *("moco_v3", "barlow_twins", "vicreg", "dino", "random", "supervised"),
)
HASHES = {  # of every preset and method, as version 0.1.0 gave them: never to be changed
    "quick": "0f9fe3ec 2ee88889 15e41bb6 ef73c5f1 f23c4c22 f8874c1c e70a18ac 8ed8989f 47810d71 205c7114 e018ddef",
    "cifar10-mini": "e3056584 ddd97233 61ec2933 12aed92d e49ff797 9196f73f"
    " a36537f2 f29cce3e 5f4bc949 28c0eda2 c69e4764",
    "cifar10": "0a3cbc80 3cdae93b 30964f8d b462c5a9 43d61923 7d06adc1 37fd2424 49c12dd4 c1178070 c6626317 eddc9db3",
    "raft-paper": "bf90d71b 47f20929 4ee9e158 9bd35454 37ea8295 b0b26eaa 3631ad87 b2605862 b20c378c 55ecf055 f8d77495",
}


@pytest.fixture
def config() -> dict[str, Any]:
    return resolve(presets.values("quick", "raft"), {}).model_dump(mode="json")


@pytest.mark.parametrize("preset", HASHES)
def test_presets_keep_the_hashes_that_they_were_released_with(preset: str) -> None:
    found = [
        identity.config_hash(resolve(presets.values(preset, method), {}).model_dump(mode="json"))
        for method in VERSION_0_1
    ]
    assert found == HASHES[preset].split()


def test_every_preset_and_method_of_that_version_is_pinned() -> None:
    assert HASHES.keys() <= presets.PRESETS.keys()
    assert set(VERSION_0_1) <= set(METHODS)


def test_a_setting_that_is_added_changes_no_hash_at_the_value_that_means_as_before(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity.config_hash(config)
    monkeypatch.setattr(identity, "ADDED", {**identity.ADDED, "optim.betas": [0.9, 0.999], "method.views": 2})
    assert identity.config_hash(config) == before  # written before the setting existed
    at_default, otherwise = deepcopy(config), deepcopy(config)
    at_default["optim"]["betas"] = [0.9, 0.999]
    at_default["method"]["views"] = 2
    otherwise["optim"]["betas"] = [0.9, 0.95]
    assert identity.config_hash(at_default) == before
    assert identity.config_hash(otherwise) != before


def test_a_setting_that_a_method_had_before_others_stays_in_its_hash() -> None:
    values = resolve(presets.values("quick", "simsiam"), {}).model_dump(mode="json")
    without = deepcopy(values)
    del without["method"]["projector_layers"]
    assert identity.config_hash(values) != identity.config_hash(without)


def test_an_older_config_is_completed_by_what_its_settings_meant_then(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        identity, "ADDED", {**identity.ADDED, "optim.betas": [0.9, 0.999], "eval.bank": ["linear", "knn"]}
    )
    whole = identity.completed(config)
    assert whole["optim"] == {**config["optim"], "betas": [0.9, 0.999]}
    assert whole["eval"] == {**config["eval"], "bank": ["linear", "knn"]}
    assert "betas" not in config["optim"]  # a copy
    assert identity.config_hash(whole) == identity.config_hash(config)


def test_seed_lists() -> None:
    assert identity.seed_list([5, 0, 1, 2]) == "0-2,5"
    assert identity.seed_list([]) == ""


def test_of_weights_the_content_counts_and_not_the_place(config: dict[str, Any]) -> None:
    def hash_of(weights: str, content: str) -> str:
        backbone = {**config["backbone"], "weights": weights, "weights_hash": content}
        return identity.config_hash({**config, "backbone": backbone})

    new = identity.config_hash(config)
    assert hash_of("file:/here/moco.pth", "a1") == hash_of("file:/there/w.safetensors#teacher", "a1")
    assert len({new, hash_of("file:/here/moco.pth", "a1"), hash_of("file:/here/moco.pth", "b2")}) == 3


@pytest.mark.parametrize(
    ("source", "label"),
    [
        ("", ""),
        ("timm:resnet18.a1_in1k", "timm:resnet18.a1_in1k@0123abcd"),
        ("file:/home/me/moco.pth#teacher", "file:moco.pth#teacher@0123abcd"),
    ],
)
def test_weights_are_called_by_what_they_are(source: str, label: str) -> None:
    assert identity.weights_label(source, "0123abcd4567ef89") == label


def test_the_data_to_judge_on_is_part_of_a_run_by_its_content(config: dict[str, Any]) -> None:
    def hashed(**evaluation: str) -> str:
        return identity.config_hash({**config, "eval": {**config["eval"], **evaluation}})

    assert len({hashed(), hashed(data="cifar10"), hashed(data="cifar100")}) == 3
    here, moved = (hashed(data=f"folder:/{place}/x", data_fingerprint="0123") for place in "ab")
    assert here == moved != hashed(data="folder:/a/x", data_fingerprint="4567")
