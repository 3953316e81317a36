"""An exported folder gives the features of the run's encoder, bit for bit, by timm or by the code of its card."""

import re
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from export_runs import execute
from PIL import Image

import bench.backbone
from bench.config.encoders import EncoderConfig
from bench.config.sections import BackboneConfig, DataConfig
from bench.data import datasets
from bench.data.augment import normalize
from bench.errors import UserError
from bench.evaluation import encoders
from bench.export import card, find, folder, trained
from bench.planning.entries import Entry
from bench.runs import store
from bench.runs.store import RunDir

NO_LOCAL_DIR = tuple(map(int, version("timm").split(".")[:3])) < (1, 0, 16)
DIGITS = DataConfig(name="digits", size=8)


def run_of(results: Path, experiment: str, method: str, seed: int = 0) -> RunDir:
    (run,) = (results / experiment / "runs").glob(f"{method}-*-s{seed}")
    return RunDir(run)


def exported(run: RunDir, to: Path) -> Path:
    folder.export(store.read_run(run), to, to.parent)
    return to


def features(model: torch.nn.Module) -> torch.Tensor:
    data = datasets.load(DIGITS, Path())
    with torch.no_grad():
        found: torch.Tensor = model.eval()(normalize(data.load_test()[0][:50], data.mean, data.std))
    return found


def executed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that a card's code leaves when it is run in its folder."""
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names


@pytest.mark.skipif(NO_LOCAL_DIR, reason="timm before 1.0.16 reads no folders")
def test_timm_loads_the_folder_of_its_own_architecture_bit_for_bit(timms_own: RunDir, tmp_path: Path) -> None:
    to = exported(timms_own, tmp_path / "out")
    model = timm.create_model(f"local-dir:{to}", pretrained=True, num_classes=0)
    assert torch.equal(features(model), features(bench.backbone.load(timms_own.encoder)))
    told: Any = model.pretrained_cfg
    data = datasets.load(DIGITS, Path())
    assert tuple(told["input_size"]) == (3, 8, 8)
    assert (tuple(told["mean"]), tuple(told["std"])) == (data.mean, data.std)
    with_head = timm.create_model(f"local-dir:{to}", pretrained=True, num_classes=7)
    assert with_head(torch.zeros(2, 3, 8, 8)).shape == (2, 7)


@pytest.mark.skipif(NO_LOCAL_DIR, reason="timm before 1.0.16 reads no folders")
@pytest.mark.parametrize("chosen", [{"backbone__stem": "imagenet"}, {"backbone__args__class_token": "false"}])
def test_a_transformer_keeps_its_size_and_arguments(tmp_path: Path, chosen: dict[str, Any]) -> None:
    if "backbone__stem" not in chosen:
        chosen["backbone__args__global_pool"] = "avg"
    (run,) = execute(tmp_path / "results/vit", ["random"], backbone__name="test_vit", data__size=16, **chosen)
    to = exported(run, tmp_path / "out")
    model = timm.create_model(f"local-dir:{to}", pretrained=True, num_classes=0).eval()
    images = torch.randn(3, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(model(images), bench.backbone.load(run.encoder)(images))


def test_the_code_of_the_card_runs_as_it_stands(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(results, "small", "byol")
    names = executed(exported(run, tmp_path / "out"), monkeypatch)
    assert torch.equal(features(names["model"]), features(bench.backbone.load(run.encoder)))
    data = datasets.load(DIGITS, Path())
    pixels = data.load_test()[0][:1]
    prepared = names["prepare"](Image.fromarray(pixels[0].permute(1, 2, 0).numpy()))
    torch.testing.assert_close(prepared[None], normalize(pixels, data.mean, data.std))


@pytest.mark.skipif(NO_LOCAL_DIR, reason="timm before 1.0.16 reads no folders")
def test_so_does_that_of_a_network_of_timms_own(
    timms_own: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = executed(exported(timms_own, tmp_path / "out"), monkeypatch)
    assert torch.equal(features(names["model"]), features(bench.backbone.load(timms_own.encoder)))


@pytest.mark.parametrize(
    ("name", "stem", "args"),
    [
        ("resnet10_small", "small", {}),
        ("resnet10_small", "imagenet", {"act_layer": "silu"}),
        ("resnet18", "small", {"output_stride": 16}),
        ("resnet18", "imagenet", {}),
        ("resnet18d", "small", {}),
        ("resnetv2_18", "small", {}),
        ("tf_efficientnet_b0", "small", {}),
    ],
)
def test_other_networks_are_rebuilt_by_the_code_of_their_cards(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, stem: str, args: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = trained.load(store.read_run(run_of(results, "small", "byol")), tmp_path)
    settings = BackboneConfig.model_validate({"name": name, "stem": stem, "args": args})
    network = bench.backbone.create(settings, 8)
    other = replace(run, config=run.config.model_copy(update={"backbone": settings}), encoder=network)
    bench.backbone.save(network, Path("model.safetensors"), settings)
    assert folder.is_timms(other) == (stem == "imagenet" and name != "resnet10_small")
    names: dict[str, Any] = {}
    exec(card.code(other, is_timms=False), names)
    assert torch.equal(features(names["model"]), features(network))


def test_what_is_exported_is_known_when_it_comes_back(results: Path, tmp_path: Path) -> None:
    run = run_of(results, "small", "byol")
    to = exported(run, tmp_path / "out")
    given = EncoderConfig(source=f"file:{to / 'model.safetensors'}")
    back = encoders.foreign("mine", given, BackboneConfig(name="resnet18"), tmp_path)
    data = datasets.load(DIGITS, Path())
    assert (back.size, back.mean, back.std) == (8, data.mean, data.std)
    assert torch.equal(features(encoders.load(back)), features(bench.backbone.load(run.encoder)))


def test_the_card_says_what_it_is_and_how_good(results: Path, tmp_path: Path) -> None:
    run = run_of(results, "small", "byol")
    text = (exported(run, tmp_path / "out") / "README.md").read_text()
    own = [store.read_run(run_of(results, "small", "byol", seed)).result for seed in (0, 1)]
    first, second = (result.metrics.test_linear_top1 for result in own if result)
    assert first is not None and second is not None
    n, z, t = 359, 1.959964, 12.706205  # test images; quantiles of the normal and of Student's t with 1 degree
    p, grown = first / 100, 1 + z * z / n
    centre, half = (p + z * z / 2 / n) / grown, z * (p * (1 - p) / n + (z / 2 / n) ** 2) ** 0.5 / grown
    mean, over = (first + second) / 2, t * abs(first - second) / 2
    line = f"| linear probe | {first:.2f} [{100 * (centre - half):.2f}, {100 * (centre + half):.2f}] | "
    line += f"{mean:.2f} [{mean - over:.2f}, {mean + over:.2f}], n = 2 |"
    assert line in text
    said = ["method | BYOL (`byol`) |", "seed | 0 |", "licence of the data | CC BY 4.0", f"run | {run.run_id} |"]
    said += ["epochs | 1, of 1,438 images", "preset | quick, data.size=8"]
    assert [part for part in said if f"| {part}" not in text] == []


def test_one_seed_has_no_mean_over_seeds_and_nothing_was_trained(results: Path, tmp_path: Path) -> None:
    text = (exported(run_of(results, "small", "random"), tmp_path / "out") / "README.md").read_text()
    assert "mean over seeds" not in text and "| epochs | none: not trained |" in text


def test_odd_names_stay_text(tmp_path: Path) -> None:
    label = 'a|b <i>*x*</i> `c` : # é中 --- "q"'
    (run,) = execute(tmp_path / "results/odd", [Entry("random", label)])
    text = (exported(run, tmp_path / "out") / "README.md").read_text()
    front, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert pytest.importorskip("yaml").safe_load(front) == {
        "pipeline_tag": "image-feature-extraction",
        "tags": ["ssl-bench", "self-supervised-learning"],
    }
    assert r"# a\|b &lt;i&gt;\*x\*&lt;/i&gt; \`c\` : \# é中" in body


def message(named: str, results: Path) -> str:
    with pytest.raises(UserError) as raised:
        find.done_run(named, results)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_run_is_named_by_its_folder_its_experiment_or_its_id(results: Path) -> None:
    run = run_of(results, "small", "byol")
    for named in (str(run.path), f"small/{run.run_id}", run.run_id):
        assert find.done_run(named, results).dir.run_id == run.run_id


def test_runs_that_cannot_be_exported_are_told_in_a_line(results: Path, tmp_path: Path) -> None:
    shutil.copytree(results, tmp_path / "results")
    own = run_of(tmp_path / "results", "small", "byol")
    shutil.copytree(tmp_path / "results/small", tmp_path / "results/twin")
    here = tmp_path / "results"
    both = f"small/{own.run_id} or twin/{own.run_id}"
    assert message(own.run_id, here) == f"run '{own.run_id}' is in several experiments: name {both}"
    assert f"among the 6 in {here}: did you mean 'small/{own.run_id}'?" in message(f"smal/{own.run_id}", here)
    own.result.unlink()
    assert message(f"small/{own.run_id}", here) == f"{own.run_id} is interrupted: name a run that is done"
    own.error.write_text("non-finite loss\n")
    assert message(f"small/{own.run_id}", here) == f"{own.run_id} is failed (non-finite loss): name a run that is done"


def test_a_folder_appears_whole_or_not_at_all(results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = store.read_run(run_of(results, "small", "byol"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(UserError, match="full holds other files: name a new or an empty folder"):
        folder.export(record, tmp_path / "full", tmp_path)
    with pytest.raises(UserError, match="is a file: name a new"):
        folder.export(record, tmp_path / "full/mine.txt", tmp_path)
    (tmp_path / "empty").mkdir()
    written = folder.export(record, tmp_path / "empty", tmp_path)
    assert sorted(written) == sorted((tmp_path / "empty").iterdir())

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder, "write_atomic", no_room)
    with pytest.raises(UserError, match="No space left on device"):
        folder.export(record, tmp_path / "later", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
