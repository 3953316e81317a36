"""Encoders from elsewhere: what they are given is told by the checkpoint or by the user, never guessed."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from bench import backbone
from bench.config import presets
from bench.config.encoders import EncoderConfig, described
from bench.config.schema import resolve
from bench.config.sections import BackboneConfig
from bench.data import datasets
from bench.errors import UserError
from bench.evaluation import EVALUATIONS
from bench.evaluation.encoders import foreign, load
from bench.evaluation.judge import judge
from bench.evaluation.subject import Subject
from bench.files import dump_json, parse_json
from bench.planning import plan
from bench.runs.encoders import Encoder
from bench.weights import find
from bench.weights.fit import content_hash

SMALL = BackboneConfig(name="resnet10_small")
MEAN, STD = (0.3, 0.4, 0.5), (0.1, 0.2, 0.3)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
Wrapper = Callable[[dict[str, Tensor]], Any]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(5)
    made = backbone.create(SMALL, 8)
    made(torch.randn(64, 3, 8, 8))
    return made.eval()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Encoder]:
    def open_(source: str, experiments: BackboneConfig = SMALL, **given: Any) -> Encoder:
        return foreign("theirs", described("theirs", source, given), experiments, tmp_path / "data")

    return open_


def under(prefix: str) -> Wrapper:
    return lambda state: {prefix + key: value for key, value in state.items()}


def with_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "fc.weight": torch.ones(3, 3)}


SIX: dict[str, Wrapper] = {
    "module.": lambda state: {"model": under("module.")(state)},
    "backbone.": lambda state: {"state_dict": {**under("backbone.")(state), "classifier.weight": torch.ones(2)}},
    "encoder_q.": lambda state: {
        "state_dict": {
            **under("module.encoder_q.")(with_head(state)),
            **under("module.encoder_k.")({"queue": torch.ones(2)}),
        }
    },
    "student.": lambda state: {"student": under("module.backbone.")(state), "epoch": 3},
    "online_encoder.": lambda state: under("online_encoder.")(state),
    "lightning": lambda state: {"state_dict": under("model.encoder.")(state), "hyper_parameters": {"lr": 0.1}},
}


def test_one_encoder_under_six_foreign_prefixes_has_one_accuracy(
    network: nn.Module, opened: Callable[..., Encoder], tmp_path: Path
) -> None:
    config = resolve(presets.values("quick", "byol"), {"data.size": "8"})
    digits = datasets.load(config.data, tmp_path / "data")

    def judged(made: nn.Module) -> tuple[Any, Tensor]:
        subject = Subject(
            *("theirs", made, digits, "digits", MEAN, STD, 8, torch.device("cpu"), 0, config.eval, config.augment)
        )
        found = judge(EVALUATIONS["knn"](), subject)
        return found.scores, subject.features

    scores, features = judged(network)
    hashes = set()
    for name, wrap in SIX.items():
        torch.save(wrap(dict(network.state_dict())), tmp_path / "w.ckpt")
        encoder = opened(f"file:{tmp_path}/w.ckpt", mean=MEAN, std=STD, size=8)
        own_scores, own_features = judged(load(encoder))
        assert torch.equal(own_features, features), name
        assert own_scores == scores, name
        hashes.add(encoder.content_hash)
    assert hashes == {content_hash(network.state_dict())}


def test_what_a_file_does_not_tell_has_to_be_said(
    network: nn.Module, opened: Callable[..., Encoder], tmp_path: Path
) -> None:
    torch.save(network.state_dict(), tmp_path / "w.pth")
    source = f"file:{tmp_path}/w.pth"
    with pytest.raises(UserError) as caught:
        opened(source, mean=MEAN)
    assert str(caught.value) == (
        f"--encoder theirs={source}: the file does not tell its std, size: say --set encoder.theirs.std=... "
        "--set encoder.theirs.size=... (ImageNet's are mean=0.485,0.456,0.406 and std=0.229,0.224,0.225; size: the "
        "side of its images in pixels)"
    )
    found = opened(source, mean="0.3, 0.4,0.5", std="0.1,0.2,0.3", size="8")
    assert (found.mean, found.std, found.size) == (MEAN, STD, 8)
    with pytest.raises(UserError, match="there is no such file"):  # before anything else
        opened(f"{source}x.pth")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": "0.5"}, "encoder.theirs.mean"),
        ({"std": "0.5,0.5,0"}, "encoder.theirs.std=0.5,0.5,0.0: should be greater than 0"),
        ({"size": "2"}, "encoder.theirs.size='2': should be greater than or equal to 4"),
        ({"sise": "8"}, "unknown key 'encoder.theirs.sise': did you mean 'encoder.theirs.size'"),
        ({"stem": "big"}, "encoder.theirs.stem='big': should be '', 'small', 'small_pad2' or 'imagenet'"),
        ({"backbone": "resnet81"}, "unknown backbone 'resnet81'"),
    ],
)
def test_wrong_settings_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        described("theirs", "file:w.pth", given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a=b", "byol"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match="--encoder"):
        described(name, "file:w.pth", {})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run of 8-pixel digits, with its plan and an encoder."""
    where = tmp_path_factory.mktemp("results")
    (planned,) = plan.write(plan.plan(["byol"], [0], "quick", {"data.size": "8"}, {}, "x"), where)
    backbone.save(backbone.create(SMALL, 8), planned.encoder, SMALL)
    return planned.path


def test_our_own_encoder_tells_all(run: Path, opened: Callable[..., Encoder], tmp_path: Path) -> None:
    found = opened(f"file:{run}/encoder.safetensors", BackboneConfig(name="resnet50", stem="imagenet"))
    config = resolve(presets.values("quick", "byol"), {"data.size": "8"})
    digits = datasets.load(config.data, tmp_path / "data")
    assert (found.mean, found.std, found.size) == (digits.mean, digits.std, 8)
    assert (found.backbone.name, found.backbone.stem) == ("resnet10_small", "small")
    assert found.told == ("normalised as its data set digits says",)
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(load(found)(images), backbone.load(run / "encoder.safetensors")(images))


def test_away_from_its_run_it_tells_its_network_alone(
    run: Path, opened: Callable[..., Encoder], tmp_path: Path
) -> None:
    (tmp_path / "encoder.safetensors").write_bytes((run / "encoder.safetensors").read_bytes())
    with pytest.raises(UserError, match="does not tell its mean, std: say"):
        opened(f"file:{tmp_path}/encoder.safetensors")
    found = opened(f"file:{tmp_path}/encoder.safetensors", mean=MEAN, std=STD)
    assert (found.backbone.name, found.size) == ("resnet10_small", 8)


def test_a_folder_of_timm_tells_all(opened: Callable[..., Encoder], tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=10)
    timm.models.save_for_hf(model, str(tmp_path), safe_serialization=True)
    found = opened(f"file:{tmp_path}/model.safetensors", BackboneConfig(name="resnet18", stem="imagenet"))
    assert (found.mean, found.std, found.size) == (*IMAGENET.values(), 224)
    assert found.told == ("left out, heads: fc (2 tensors)", f"normalised as {tmp_path}/config.json says")


def test_a_file_that_changed_is_refused(network: nn.Module, opened: Callable[..., Encoder], tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "w.pth")
    encoder = opened(f"file:{tmp_path}/w.pth", mean=MEAN, std=STD, size=8)
    torch.save(backbone.create(SMALL, 8).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"theirs=file:.*w.pth: not the weights that were planned: their hash was"):
        load(encoder)


def test_it_comes_back_from_json(network: nn.Module, opened: Callable[..., Encoder], tmp_path: Path) -> None:
    torch.save({"module": network.state_dict()}, tmp_path / "w.pth")
    encoder = opened(f"file:{tmp_path}/w.pth", mean=MEAN, std=STD, size=8)
    assert Encoder.of(parse_json(dump_json(encoder.stored()))) == encoder
    with pytest.raises(ValueError, match="no content_hash"):
        Encoder.of({key: value for key, value in encoder.stored().items() if key != "content_hash"})
    with pytest.raises(ValueError, match="written by another version"):
        Encoder.of({**encoder.stored(), "schema": 99})


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(find, "_hub_answers", lambda: False)
    return tmp_path / "hub"


def cached(cache: Path, name: str, state: dict[str, Tensor]) -> None:
    """Put weights where the hub's client puts what it fetched."""
    repository = cache / f"models--timm--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abcd")
    (repository / "snapshots" / "0123abcd").mkdir(parents=True)
    safetensors.torch.save_file(state, repository / "snapshots" / "0123abcd" / "model.safetensors")


def test_timms_weights_come_from_its_cache(cache: Path, opened: Callable[..., Encoder]) -> None:
    torch.manual_seed(1)
    model: Any = timm.create_model("resnet18").eval()
    cached(cache, "resnet18.a1_in1k", dict(model.state_dict()))
    found = opened("timm:resnet18.a1_in1k", size=32)
    assert (found.backbone.name, found.backbone.stem, found.size) == ("resnet18", "imagenet", 32)
    assert {"mean": found.mean, "std": found.std} == IMAGENET
    assert found.told == ("left out, heads: fc (2 tensors)", "normalised as timm says")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(load(found)(images), model.forward_head(model.forward_features(images), pre_logits=True))
    assert opened("timm:resnet18.a1_in1k").size == 224  # as it was trained


def test_timms_weights_with_a_missing_key_are_refused(cache: Path, opened: Callable[..., Encoder]) -> None:
    """timm itself loads them in silence where the classifier is left out."""
    state = dict(timm.create_model("resnet18").state_dict())
    del state["layer1.0.conv1.weight"]
    cached(cache, "resnet18.a1_in1k", state)
    assert timm.create_model("resnet18.a1_in1k", pretrained=True, num_classes=0)
    with pytest.raises(UserError, match=r"theirs=timm:resnet18.a1_in1k: timm cannot load it .*layer1.0.conv1.weight"):
        opened("timm:resnet18.a1_in1k", size=32)


def test_without_a_network_it_is_said_where_timm_looks(cache: Path, opened: Callable[..., Encoder]) -> None:
    with pytest.raises(UserError) as caught:
        opened("timm:resnet18.a1_in1k")
    assert str(caught.value).startswith(
        f"theirs=timm:resnet18.a1_in1k: timm/resnet18.a1_in1k is not in the cache ({cache}, by HF_HOME), and the hub "
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("timm:resnet18.a9_in1k", "timm has no such weights; of resnet18: a1_in1k, a2_in1k"),
        ("timm:resnet10_small", "timm has no such weights; of resnet10_small: none"),
        ("timm:resnet18.", "timm has no such weights"),
    ],
)
def test_weights_that_timm_does_not_have(source: str, message: str, opened: Callable[..., Encoder]) -> None:
    with pytest.raises(UserError) as caught:
        opened(source)
    assert message in str(caught.value)


def test_a_vision_transformer_takes_the_size_that_is_asked_for(
    opened: Callable[..., Encoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As timm does it, by resampling its position embedding."""
    model = timm.create_model("vit_tiny_patch16_224")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "vit.safetensors")
    overlay = {"file": str(tmp_path / "vit.safetensors"), "hf_hub_id": None}
    monkeypatch.setattr(timm, "create_model", partial(timm.create_model, pretrained_cfg_overlay=overlay))
    monkeypatch.setattr(find, "_hub_answers", lambda: True)
    found = opened("timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k", size=64)
    assert (found.mean, found.size) == ((0.5, 0.5, 0.5), 64)
    assert load(found)(torch.randn(1, 3, 64, 64)).shape == (1, 192)


def test_config_is_documented() -> None:
    assert all(field.description for field in EncoderConfig.model_fields.values())


PATCHED = BackboneConfig(name="test_vit", stem="imagenet", args={"patch_size": 2})
NORMALISED = {"mean": MEAN, "std": STD}


def test_the_arguments_of_its_network_come_with_an_encoder_of_ours(
    opened: Callable[..., Encoder], tmp_path: Path
) -> None:
    made = backbone.create(PATCHED, 8).eval()
    backbone.save(made, tmp_path / "away.safetensors", PATCHED)
    found = opened(f"file:{tmp_path / 'away.safetensors'}", **NORMALISED)
    assert found.backbone.args == {"patch_size": 2}
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(load(found)(images), made(images))


@pytest.mark.parametrize(
    ("experiments", "given"),
    [(PATCHED, {}), (SMALL, {"backbone": "test_vit", "stem": "imagenet", "args": {"patch_size": "2"}})],
)
def test_or_from_the_experiment_or_the_user(
    experiments: BackboneConfig, given: dict[str, Any], opened: Callable[..., Encoder], tmp_path: Path
) -> None:
    made = backbone.create(PATCHED, 8)
    torch.save(made.state_dict(), tmp_path / "theirs.pth")
    found = opened(f"file:{tmp_path / 'theirs.pth'}", experiments, **NORMALISED, size=8, **given)
    assert found.backbone.args == {"patch_size": 2}


def test_arguments_that_its_network_does_not_take_are_refused(opened: Callable[..., Encoder], tmp_path: Path) -> None:
    torch.save(backbone.create(PATCHED, 8).state_dict(), tmp_path / "theirs.pth")
    with pytest.raises(UserError, match=r"unknown argument of test_vit 'encoder.theirs.args.patch': did you mean"):
        opened(f"file:{tmp_path / 'theirs.pth'}", PATCHED, **NORMALISED, size=8, args={"patch": "2"})
