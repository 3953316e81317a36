"""Weights from elsewhere: found under any prefix, complete, or refused by the names of their keys."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from bench import backbone
from bench.config.encoders import parse
from bench.config.sections import BackboneConfig
from bench.errors import UserError
from bench.weights import files
from bench.weights.fit import content_hash, fit

SMALL = BackboneConfig(name="resnet10_small")
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    made = backbone.create(SMALL, 16)
    made(torch.randn(8, 3, 16, 16))  # batch statistics of their own
    return made.eval()


@pytest.fixture(scope="module")
def state(network: nn.Module) -> State:
    return dict(network.state_dict())


def under(prefix: str, state: State) -> State:
    return {prefix + key: value for key, value in state.items()}


def others(state: State) -> State:
    """The same keys with other values, as a momentum encoder has."""
    return {key: value + 1 for key, value in state.items()}


def numbered(state: State) -> State:
    """As in nn.Sequential(*list(resnet.children())[:-1]), the way of lightly's examples."""
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return {f"{places[key.partition('.')[0]]}.{key.partition('.')[2]}": value for key, value in state.items()}


WRAPPERS: dict[str, tuple[Callable[[State], Any], str]] = {
    "a bare state dict": (lambda s: s, ""),
    "DataParallel": (lambda s: {"state_dict": under("module.", s), "epoch": 3}, "state_dict.module."),
    "MoCo": (
        lambda s: {
            "epoch": 800,
            "arch": "resnet",
            "state_dict": {
                **under("module.encoder_q.", {**s, "fc.0.weight": torch.zeros(2, 2), "fc.2.bias": torch.zeros(2)}),
                "module.queue": torch.zeros(128, 4),
            },
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.03}]},
        },
        "state_dict.module.encoder_q.",
    ),
    "Lightning": (
        lambda s: {
            "pytorch-lightning_version": "2.4.0",
            "state_dict": {**under("model.backbone.", s), "model.projector.0.weight": torch.zeros(2, 2)},
            "hyper_parameters": {"lr": 0.1},
        },
        "state_dict.model.backbone.",
    ),
    "DINO's teacher": (
        lambda s: {"teacher": {**under("module.backbone.", s), "module.head.mlp.0.weight": torch.zeros(2, 2)}},
        "teacher.module.backbone.",
    ),
    "online_backbone": (lambda s: OrderedDict(under("online_backbone.", s)), "online_backbone."),
    "SimSiam": (
        lambda s: {"model": under("module.encoder.", {**s, "fc.0.weight": torch.ones(1)})},
        "model.module.encoder.",
    ),
    "compiled": (lambda s: {"student": under("_orig_mod.base_encoder.", s)}, "student._orig_mod.base_encoder."),
    "lightly": (lambda s: {"state_dict": under("backbone.", numbered(s))}, "state_dict.backbone."),
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_any_wrapper_gives_the_same_bits_and_one_identity(
    wrapper: str, network: nn.Module, state: State, tmp_path: Path
) -> None:
    wrap, prefix = WRAPPERS[wrapper]
    torch.save(wrap(state), tmp_path / "w.pth")
    made = backbone.create(BackboneConfig(name=SMALL.name, weights=f"file:{tmp_path}/w.pth"), 16).eval()
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(made(images), network(images))
    assert made.weights_hash == content_hash(state)
    told: Any = made.weights_told
    assert (f"keys under {prefix.removesuffix('.')}" in told) == bool(prefix)


def test_what_is_left_out_is_told(network: nn.Module, state: State) -> None:
    file = {
        **under("module.encoder_q.", {**state, "fc.0.weight": torch.zeros(2, 2), "fc.0.bias": torch.zeros(2)}),
        **under("module.predictor.", {"0.weight": torch.zeros(2, 2)}),
        "module.queue": torch.zeros(2),
    }
    assert fit(file, network, "file:x").told == (
        "keys under module.encoder_q",
        "left out, heads: fc (2 tensors)",
        "left out, not under it: module.predictor.0, module",
    )


def changed(state: State, **changes: Tensor | None) -> State:
    merged: dict[str, Tensor | None] = {**state, **{key.replace("__", "."): value for key, value in changes.items()}}
    return {key: value for key, value in merged.items() if value is not None}


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.model.encoder_q."])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer1__0__bn1__weight": None}, "missing (1): layer1.0.bn1.weight"),
        ({"layer1__0__bn3__weight": torch.ones(4)}, "left over (1): layer1.0.bn3.weight"),
        ({"bn1__bias": torch.ones(8)}, "of another shape (1): bn1.bias 8, here 16"),
        ({"bn1__bias": torch.ones(16).to(torch.int8)}, "not floating point (1): bn1.bias (int8)"),
        (
            {"bn1__bias": None, "bn1__weight": None, "stray": torch.ones(1), "conv1__weight": torch.ones(16, 3, 7, 7)},
            "missing (2): bn1.weight, bn1.bias; left over (1): stray; of another shape (1): conv1.weight 16x3x7x7, "
            "here 16x3x3x3; a first convolution of 7 x 7 is backbone.stem=imagenet's",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    prefix: str, changes: dict[str, Tensor | None], message: str, network: nn.Module, state: State
) -> None:
    with pytest.raises(UserError) as caught:
        fit(under(prefix, changed(state, **changes)), network, "file:w.pth")
    under_it = f", under {prefix[:-1]}" if prefix else ""
    assert str(caught.value) == f"file:w.pth{under_it}: not the weights of this backbone: {message}"


def test_many_keys_are_counted(network: nn.Module, state: State) -> None:
    gone = [key for key in state if "num_batches" not in key][:7]
    with pytest.raises(
        UserError, match=r"missing \(7\): conv1.weight, bn1.weight, bn1.bias, bn1.running_mean, \.\.\.$"
    ):
        fit({key: value for key, value in state.items() if key not in gone}, network, "w")


def test_another_architecture_is_refused(state: State) -> None:
    other = backbone.create(BackboneConfig(name="vit_tiny_patch16_224", stem="imagenet"), 32)
    with pytest.raises(UserError, match=r"file:w: no weights of this backbone \(cls_token, .*it has conv1"):
        fit(state, other, "file:w")


def test_of_several_networks_one_is_to_be_chosen(network: nn.Module, state: State) -> None:
    file = {**under("student.backbone.", others(state)), **under("teacher.module.backbone.", state)}
    with pytest.raises(UserError) as caught:
        fit(file, network, "file:w.pth")
    assert str(caught.value) == (
        "file:w.pth: several networks fit, under student.backbone, teacher.module.backbone; "
        "choose one as in file:w.pth#student.backbone"
    )
    for chosen in ("teacher", "teacher.module", "teacher.module.backbone"):
        assert fit(file, network, "file:w.pth", chosen).content_hash == content_hash(state)
    with pytest.raises(UserError, match=r"under teach; there are some under student.backbone, teacher.module.backbone"):
        fit(file, network, "file:w.pth", "teach")


def test_another_network_of_the_file_is_told_as_one(network: nn.Module, state: State) -> None:
    file = {**under("model.backbone.", state), **under("model.backbone_momentum.", others(state))}
    n = len(state)
    told = ("keys under model.backbone", f"left out, not under it: model.backbone_momentum ({n} tensors)")
    assert fit(file, network, "w", "model.backbone").told == told


def test_a_network_beside_its_momentum_copy(network: nn.Module, state: State) -> None:
    file = {**state, **under("momentum.", others(state))}
    with pytest.raises(UserError, match=r"several networks fit, under \., momentum; choose one as in w#\."):
        fit(file, network, "w")
    assert fit(file, network, "w", "").content_hash == content_hash(state)


def test_equal_networks_under_several_prefixes_are_one(network: nn.Module, state: State) -> None:
    found = fit({**under("model.backbone.", state), **under("backbone.", state)}, network, "w")
    assert found.told[:2] == ("keys under backbone", "the same weights under model.backbone")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_told(dtype: torch.dtype, network: nn.Module, state: State) -> None:
    stored = {key: value.to(dtype) if value.is_floating_point() else value for key, value in state.items()}
    found = fit(stored, network, "w")
    assert found.told == (f"{str(dtype)[6:]} in the file, computed with in float32",)
    assert all(torch.equal(found.state[key], stored[key].to(state[key].dtype)) for key in state)
    assert found.content_hash != content_hash(state)


def test_old_files_count_no_batches(network: nn.Module, state: State) -> None:
    old = {key: value for key, value in state.items() if "num_batches" not in key}
    found = fit(old, network, "w")
    assert found.told == ("without num_batches_tracked, which decides nothing here: 0",)
    assert found.content_hash == content_hash(state)
    cumulative = backbone.create(SMALL, 16)
    cumulative.get_submodule("bn1").momentum = None  # type: ignore[assignment]
    with pytest.raises(UserError, match=r"missing \(1\): bn1.num_batches_tracked"):
        fit(old, cumulative, "w")


def test_identity_is_of_names_types_shapes_and_values(state: State) -> None:
    conv, bias = state["conv1.weight"], state["bn1.bias"]
    same = dict(reversed(state.items()))
    variants: list[State] = [
        {**state, "conv1.weight": conv + 1e-7},
        {**state, "conv1.weight": conv.half()},
        {**state, "conv1.weight": conv.reshape(3, 16, 3, 3)},
        {**{key: value for key, value in state.items() if key != "bn1.bias"}, "bn1.beta": bias},
    ]
    assert content_hash(same) == content_hash(state)
    assert content_hash({**state, "conv1.weight": conv.to(memory_format=torch.channels_last)}) == content_hash(state)
    assert len({content_hash(state), *map(content_hash, variants)}) == 5


class Code:
    """A pickle that runs a command when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_is_refused_and_not_executed(zipped: bool, state: State, tmp_path: Path) -> None:
    path, mark = tmp_path / "w.pth", tmp_path / "executed"
    torch.save({"state_dict": state, "extra": Code(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        UserError, match=r"w.pth: a pickle with code in it \((posix|nt).system\): not executed, not loaded"
    ):
        files.read(path)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the file does what it says
    assert mark.exists()


def test_a_whole_module_is_code(network: nn.Module, tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"code in it \(torch.nn.modules.container.Sequential\).*state_dict\(\) alone"):
        files.read(tmp_path / "w.pt")


def test_settings_in_a_namespace_are_no_code(state: State, tmp_path: Path) -> None:
    from argparse import Namespace

    torch.save({"args": Namespace(arch="vit"), "model": state}, tmp_path / "w.pth")
    assert files.read(tmp_path / "w.pth").keys() == under("model.", state).keys()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_torn_files_are_refused(suffix: str, share: float, state: State, tmp_path: Path) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        safetensors.torch.save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(UserError, match="cannot be read as weights: torn, or something else") as caught:
        files.read(path)
    assert "\n" not in str(caught.value)


def test_torn_files_of_the_old_format_are_refused(state: State, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)
    assert files.read(path).keys() == state.keys()
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match="cannot be read as weights"):
        files.read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", "w.pth: is empty"),
        ("w.ckpt", b"<!DOCTYPE html><html>404</html>", "w.ckpt: no weights but a web page"),
        (
            "w.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid",
            "w.safetensors: no weights but a pointer",
        ),
        ("w.bin", b'{"error": "not found"}', "w.bin: no weights but JSON text"),
        ("w.npz", b"PK", "w.npz: weights are in files that end with .safetensors, .pth, .pt, .ckpt, .bin"),
        ("w.pt", pickle.dumps({"epoch": 3}), "w.pt: cannot be read as weights"),
        ("w.pt", os.urandom(100_000), "w.pt: cannot be read as weights"),
        ("missing/w.pt", None, "w.pt: there is no such file"),
    ],
)
def test_what_is_no_file_of_weights_is_said(name: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        files.read(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_without_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds no weights"):
        files.read(tmp_path / "w.pth")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"a folder; name the file in it: model.safetensors"):
        files.read(tmp_path)


def test_a_file_that_holds_itself(state: State, tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": state}
    content["self"] = content
    torch.save(content, tmp_path / "w.pth")
    assert files.read(tmp_path / "w.pth").keys() == under("model.", state).keys()


def test_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert str(parse("timm:resnet50.a1_in1k", "x")) == "timm:resnet50.a1_in1k"
    assert str(parse("file:w.pth", "x")) == f"file:{tmp_path}/w.pth"
    assert str(parse("file:~/w.pth", "x")) == "file:/home/me/w.pth"
    assert parse("file:w.pth#teacher.", "x") == ("file:", f"{tmp_path}/w.pth", "teacher")
    assert str(parse("file:w.pth#.", "x")) == f"file:{tmp_path}/w.pth#."
    (tmp_path / "w#1.pth").touch()
    assert parse("file:w#1.pth", "x") == ("file:", f"{tmp_path}/w#1.pth", None)


@pytest.mark.parametrize("text", ["w.pth", "hub:resnet50", "timm:", "file:", "", "file:a\nb.pth"])
def test_other_sources_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"^backbone.weights=.*: give timm:NAME.TAG .* or file:PATH") as caught:
        parse(text, "backbone.weights")
    assert "\n" not in str(caught.value)


def test_a_model_that_timm_does_not_have() -> None:
    with pytest.raises(UserError, match="unknown backbone 'resnet81': did you mean 'resnet18'"):
        parse("timm:resnet81.a1_in1k", "x")
