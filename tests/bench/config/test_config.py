"""A config is validated, immutable, and its identity is what decides the result."""

import pytest
from pydantic import ValidationError

from bench.config import presets
from bench.config.schema import RunConfig, keys, parse_overrides, resolve
from bench.errors import UserError
from bench.runs.identity import config_hash
from methods import METHODS


def config(method: str = "raft", preset: str = "quick", **overrides: str) -> RunConfig:
    return resolve(presets.values(preset, method), {k.replace("__", "."): v for k, v in overrides.items()})


def hash_of(config: RunConfig) -> str:
    return config_hash(config.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("preset", "method"),
    [(p, m) for p in presets.PRESETS for m in presets.methods(p)],
)
def test_every_preset_is_valid_for_every_method_that_it_has(preset: str, method: str) -> None:
    assert config(method, preset).method_name == method


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        config().optim.lr = 1.0  # type: ignore[misc]


def test_equal_values_of_another_type_are_one_identity() -> None:
    hashes = {hash_of(config(optim__lr=text)) for text in ("1", "1.0", "1e0", " 1")}
    assert len(hashes) == 1


def test_a_result_deciding_setting_changes_the_identity() -> None:
    changed = [
        config(optim__lr="0.3"),
        config(method__beta="0"),
        config(train__precision="bfloat16"),
        config(augment__view2__blur="0.1"),
        config(data__size="12"),
        config("byol"),
    ]
    assert len({hash_of(c) for c in [config(), *changed]}) == len(changed) + 1


def test_what_changes_no_result_is_not_part_of_the_identity() -> None:
    assert hash_of(config(train__threads="2", train__checkpoint_epochs="7")) == hash_of(config())


def test_a_folder_counts_by_content_not_by_path() -> None:
    def folder(path: str, fingerprint: str) -> str:
        values = config().model_dump()
        return hash_of(RunConfig(**{**values, "data": {**values["data"], "name": path, "fingerprint": fingerprint}}))

    assert folder("folder:/a", "f00") == folder("folder:/b", "f00") != folder("folder:/a", "ba5")


def test_the_identity_survives_a_round_trip_through_json() -> None:
    c = config("simsiam", "cifar10", augment__view2__solarize="0.2")
    assert RunConfig.model_validate_json(c.model_dump_json()) == c
    assert hash_of(RunConfig.model_validate_json(c.model_dump_json())) == hash_of(c)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"optim.lrr": "1"}, "did you mean 'optim.lr'"),
        ({"method.alfa": "1"}, "did you mean 'method.alpha'"),
        ({"optim.lr": "fast"}, "optim.lr='fast'"),
        ({"optim.lr": "nan"}, "optim.lr"),
        ({"optim.lr": "-1"}, "greater than 0"),
        ({"optim.name": "sdg"}, "'sgd', 'lars', 'adam' or 'adamw'"),
        ({"train.epochs": "1.5"}, "train.epochs='1.5'"),
        ({"train.batch_size": "1"}, "greater than or equal to 2"),
        ({"method.predictor": "conv"}, "'mlp', 'mlp_no_bn', 'linear_bn', 'linear' or 'none'"),
        ({"augment.view2.blurr": "1"}, "did you mean 'augment.view2.blur'"),
        ({"augment.view2.blur": "2"}, "augment.view2.blur=2: should be less than or equal to 1"),
        ({"augment.view3.interpolation": "bicubic"}, "unknown key 'augment.view3.interpolation'"),
        ({"augment.view3.size": "1"}, "augment.view3: size=1 is below 4 pixels"),
        ({"augment.view3.copies": "0"}, "augment.view3.copies=0: should be greater than or equal to 1"),
        ({"augment.view4.copies": "1.5"}, "augment.view4.copies=1.5: should be a valid integer"),
        ({"augment.view3.crop_max": "0.1"}, "augment.view3: crop_min=0.2 is above crop_max=0.1"),
        ({"augment.view2.x.blur": "0.5"}, "unknown key 'augment.view2.x.blur'"),
        ({"augment.crop_min": "0.9", "augment.crop_max": "0.5"}, "crop_min=0.9 is above crop_max=0.5"),
        ({"data.fingerprint": "x"}, "unknown key"),
        ({"protocol": "2"}, "unknown key 'protocol': one of augment.blur"),
    ],
)
def test_a_wrong_setting_is_one_line_with_the_remedy(overrides: dict[str, str], expected: str) -> None:
    with pytest.raises(UserError) as error:
        resolve(presets.values("quick", "raft"), overrides)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("setting", ["optim.lr", "=1", "optim.lr=", "  =  "])
def test_a_setting_is_key_equals_value(setting: str) -> None:
    with pytest.raises(UserError, match="KEY=VALUE"):
        parse_overrides([setting])


@pytest.mark.parametrize("method", METHODS)
def test_every_key_has_a_docstring(method: str) -> None:
    assert all(keys(method).values())
