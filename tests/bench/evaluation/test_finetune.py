"""Fine-tuning: a copy of the encoder is trained by the recipe, checked by hand where that is short."""

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from judged import dataset, make_backbone, subject
from torch import Tensor, nn

from bench.data.augment import Augmentation
from bench.errors import UserError
from bench.evaluation import finetune
from bench.evaluation.crops import crops_of
from bench.evaluation.finetune import Finetune
from bench.evaluation.judge import judge
from bench.evaluation.tuning import layer_factors, tune
from bench.runs.evaluations import Score
from bench.seeds import Probe, stream

ALL = torch.arange(400)  # the training images


def score(settings: Finetune, **changes: Any) -> Score:
    (found,) = judge(settings, subject(make_backbone(), dataset(), **changes)).scores
    return found


def test_the_first_step_by_hand() -> None:
    """A linear layer of zeros gives p = 1/10 for all classes, and no gradient to the encoder."""
    network, data = make_backbone(), dataset()
    judged = subject(network, data, seed=3)
    tuned = tune(judged, Finetune(epochs=1, batch_size=400), ALL, 0.1, Probe.TUNING_CHOICE)
    order = ALL[torch.randperm(400, generator=stream(3, "probe", 3, 0))]
    view = crops_of(judged).first(data.images[order], stream(3, "probe", 3, 0, 0))
    features = network.train()(view).detach()  # [400, D], by the statistics of this batch
    gradient = (0.1 - torch.eye(10)[data.labels[order]]).T @ features / 400  # [10, D]
    rate = 0.1 * 400 / 256
    expected = -rate * (1 + 0.9) * gradient  # Nesterov's first step
    backbone, head = tuned.get_submodule("0"), tuned.get_submodule("1")
    torch.testing.assert_close(head.get_parameter("weight"), expected, rtol=1e-4, atol=1e-6)
    for name, parameter in backbone.named_parameters():
        assert torch.equal(parameter, network.get_parameter(name))
    assert not torch.equal(backbone.get_buffer("bn1.running_mean"), make_backbone().get_buffer("bn1.running_mean"))


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 1.0), ("adamw", 0.03)])
def test_it_learns(optimizer: str, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(finetune.RATES, optimizer, (rate,))
    found = score(Finetune(optimizer=optimizer, epochs=4, batch_size=32))
    assert found.test_top1 > 50  # chance is 10
    assert found.chosen == {"lr": rate} and found.n_labels == 500


def test_all_of_the_encoder_is_trained() -> None:
    judged = subject(make_backbone().requires_grad_(False), dataset())
    tuned = tune(judged, Finetune(epochs=2, batch_size=100), ALL, 1.0, Probe.TUNING_FINAL).get_submodule("0")
    before = judged.backbone.state_dict()
    assert not [name for name, value in tuned.named_parameters() if torch.equal(value, before[name])]
    assert tuned.training


def test_a_rate_that_diverges_is_left_out_and_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Finetune(epochs=2, batch_size=100)
    monkeypatch.setattr(finetune, "RATES", {"sgd": (0.03, 0.1)})
    sane = score(settings)
    monkeypatch.setattr(finetune, "RATES", {"sgd": (0.03, 1e30, 0.1, 1e38)})
    assert score(settings) == sane
    monkeypatch.setattr(finetune, "RATES", {"sgd": (1e30, 1e38)})
    with pytest.raises(RuntimeError, match="fine-tuning diverges at every learning rate"):
        score(settings)


def test_of_equal_rates_the_slowest_is_chosen() -> None:
    data = dataset()
    blank = replace(data, images=torch.full_like(data.images[:], 128))  # nothing to learn: all rates score the same
    (found,) = judge(Finetune(epochs=1), subject(make_backbone(), blank)).scores
    assert found.chosen["lr"] == min(finetune.RATES["sgd"])


def test_another_seed_draws_other_crops() -> None:
    first, second = (
        tune(subject(make_backbone(), dataset(), seed=seed), Finetune(epochs=1), ALL, 0.1, Probe.TUNING_CHOICE)
        for seed in (0, 1)
    )
    assert not torch.equal(first.get_parameter("1.weight"), second.get_parameter("1.weight"))


@pytest.mark.parametrize(("n", "sizes"), [(400, [100] * 4), (399, [133] * 3), (99, [99]), (5, [5])])
def test_no_image_is_left_out_and_none_alone(n: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch normalisation of one image has no variance."""
    seen: list[int] = []
    first = Augmentation.first

    def watched(self: Augmentation, images: Tensor, generator: torch.Generator) -> Tensor:
        seen.append(len(images))
        return first(self, images, generator)

    monkeypatch.setattr(Augmentation, "first", watched)
    tune(subject(make_backbone(), dataset()), Finetune(epochs=1, batch_size=100), ALL[:n], 0.1, Probe.TUNING_CHOICE)
    assert seen == sizes


def test_hooks_and_compiled_code_of_the_encoder_are_not_taken_along() -> None:
    """A copied object would call them, and they lead back to the encoder, or to what is trained beside it."""
    network, data = make_backbone(), dataset()
    plain = judge(Finetune(epochs=1), subject(make_backbone(), data)).scores
    eager = network.forward

    def compiled(images: Tensor) -> Any:
        assert not network.training and not torch.is_grad_enabled()
        return eager(images)

    def hook(module: nn.Module, *_: object) -> None:
        assert module is network and not module.training

    network.eval().register_forward_hook(hook)
    network.forward = compiled
    assert judge(Finetune(epochs=1), subject(network, data)).scores == plain


def groups_of(settings: Finetune, network: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """Parameter's name -> its peak rate and its weight decay; `head.` before those of the linear layer."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found: dict[str, tuple[float, float]] = {}

    class Noted(Exception):
        pass

    def note(groups: list[dict[str, Any]], **_: object) -> None:
        heads = iter(["head.weight", "head.bias"])
        for group in groups:
            for parameter in group["params"]:
                found[names.get(id(parameter)) or next(heads)] = (group["lr"], group["weight_decay"])
        raise Noted

    monkeypatch.setattr(torch.optim, "AdamW", note)
    network.recreate = lambda: network
    with pytest.raises(Noted):
        tune(subject(network, dataset()), settings, ALL, 1e-3, Probe.TUNING_CHOICE)
    return found


def test_rates_and_decays_of_a_transformer(monkeypatch: pytest.MonkeyPatch) -> None:
    """MAE's: a factor a block (12 blocks and the embedding), no decay on biases, norms and positions."""
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=16, embed_dim=8, num_heads=1)
    settings = Finetune(optimizer="adamw", weight_decay=0.05, layer_decay=0.5, batch_size=128)
    found = groups_of(settings, network, monkeypatch)
    assert found.keys() == {*(name for name, _ in network.named_parameters()), "head.weight", "head.bias"}
    rates = {name: rate / (1e-3 * 128 / 256) for name, (rate, _) in found.items()}
    expected = {"head.weight": 0, "head.bias": 0, "blocks.11.mlp.fc1.weight": 1, "blocks.10.attn.qkv.bias": 2}
    expected |= {"blocks.0.norm1.weight": 12, "patch_embed.proj.weight": 13, "pos_embed": 13, "cls_token": 13}
    assert {name: rates[name] for name in expected} == pytest.approx({name: 0.5**d for name, d in expected.items()})
    undecayed = [name for name, (_, decay) in found.items() if not decay]
    assert {"pos_embed", "cls_token", "blocks.3.norm1.weight", "blocks.3.mlp.fc1.bias", "head.bias"} <= {*undecayed}
    assert {found[name][1] for name in ("blocks.3.mlp.fc1.weight", "head.weight", "patch_embed.proj.weight")} == {0.05}


def test_layers_of_a_resnet_are_its_stages() -> None:
    factors = layer_factors(make_backbone(), 0.5)
    assert {name.split(".")[0]: factor for name, factor in factors.items()} == {
        **{"layer4": 1 / 2, "layer3": 1 / 4, "layer2": 1 / 8, "layer1": 1 / 16, "conv1": 1 / 32, "bn1": 1 / 32}
    }
    assert set(layer_factors(make_backbone(), 1.0).values()) == {1.0}


def test_a_network_that_does_not_say_its_layers_is_refused_by_name() -> None:
    assert layer_factors(nn.Linear(2, 2), 1.0) == {"weight": 1.0, "bias": 1.0}
    with pytest.raises(UserError, match=r"finetune.layer_decay=0.5: Linear does not say which layers it has; use 1"):
        layer_factors(nn.Linear(2, 2), 0.5)


def test_streams_keep_their_numbers() -> None:
    """Else what was computed before could not be computed again."""
    assert {stream.name: stream.value for stream in Probe} == {
        **{"DIAGNOSTICS": 0, "CHOICE": 1, "FINAL": 2, "TUNING_CHOICE": 3, "TUNING_FINAL": 4}
    }


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
def test_finetuning_on_a_gpu_as_on_the_cpu() -> None:
    settings = Finetune(epochs=8, batch_size=32)
    on_cpu = score(settings)
    data, device = dataset(), torch.device("cuda")
    for images in (data.images[:], data.images[:].to(device)):
        judged = subject(make_backbone().to(device), replace(data, images=images), device)
        (on_gpu,) = judge(settings, judged).scores
        assert on_gpu.test_top1 == pytest.approx(on_cpu.test_top1, abs=5)
