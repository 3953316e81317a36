"""The model card of an exported encoder: what it is, how good, from what, and code that loads it."""

import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.config import backbones
from bench.data.datasets import entry
from bench.export.trained import Trained
from bench.files import printable
from bench.report.columns import number
from bench.report.markup import md_text
from bench.report.names import dataset_name, entry_name
from bench.runs import store
from bench.runs.identity import at_path, data_path
from bench.runs.result import Result
from bench.tables.statistics import summarise, wilson
from methods import METHODS

PROBES = {"test_linear_top1": "linear probe", "test_knn_top1": "kNN"}

FROM_TIMM = """
import timm
import torch
from torchvision import transforms

folder = Path(".")  # where this file lies
model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)  # timm 1.0.16 or newer
"""
SMALL_RESNET = """model = ResNet(BasicBlock, layers=(1, 1, 1, 1), channels=(16, 32, 64, 128), num_classes=0{})
model.bn1 = torch.nn.BatchNorm2d(16)
model.layer1 = torch.nn.Sequential(BasicBlock(16, 16))
"""


def card(run: Trained, result: Result, is_timms: bool) -> str:
    """Markdown with a YAML front matter. is_timms: timm builds this very network from config.json."""
    name = md_text(printable(str(run.record.config.get("entry") or entry_name(result.method))))
    data = md_text(dataset_name(result.dataset))
    tags = [*(["timm"] if is_timms else []), "ssl-bench", "self-supervised-learning"]
    head = " The head that it was trained with is left out." if METHODS[result.method].uses_labels else ""
    parts = [
        "---",
        *(["library_name: timm"] if is_timms else []),
        f"pipeline_tag: image-feature-extraction\ntags: {json.dumps(tags)}\n---\n",
        f"# {name}: {_backbone(run)} on {data}\n",
        f"{md_text(METHODS.summary(result.method))}\n",
        f"A backbone that gives features of images, trained and judged by ssl-bench.{head}\n",
        *(["**This run collapsed**: its features hardly differ between images.\n"] if result.collapsed else []),
        _table(_facts(run, result, data)),
        f"## Accuracy\n\n{_accuracy(run, result)}",
        f"## Use\n\n```python\n{code(run, is_timms)}```\n",
        f"## Provenance\n\n{_table(_provenance(result))}\n{_command(run, result)}",
    ]
    return "\n".join(parts)


def code(run: Trained, is_timms: bool) -> str:
    """Python that loads the folder it is run in, and prepares images as for training."""
    size, mean, std = run.config.data.size, tuple(run.dataset.mean), tuple(run.dataset.std)
    n = run.config.data.channels
    crop = [f"transforms.Resize({size})", f"transforms.CenterCrop({size})"]
    tensor = "transforms.ToTensor()"
    steps = "\n".join(f"        {step}," for step in ([*crop, tensor] if n in (1, 3) else [tensor, *crop]))
    kind = {1: "a gray image of PIL", 3: "an RGB image of PIL"}.get(n, f"an array [H, W, {n}] of uint8")
    return f"""from pathlib import Path
{FROM_TIMM if is_timms else _rebuilt(run)}model.eval()

prepare = transforms.Compose(
    [
{steps}
        transforms.Normalize({mean}, {std}),
    ]
)
with torch.no_grad():
    features = model(torch.zeros(1, {n}, {size}, {size}))  # of {kind}: prepare(image)[None]
"""


def _rebuilt(run: Trained) -> str:
    """The lines that make the network from timm's parts and load its weights."""
    own, encoder = run.config.backbone, run.encoder
    ours = own.name in backbones.OWN
    made_with = "".join(f", {key}={value!r}" for key, value in own.args.items())
    place, pools = getattr(encoder, "small_stem", ("conv1", []))
    first: Any = encoder.get_submodule(place)
    lines = [
        "",
        "import safetensors.torch",
        *(["import torch", "from timm.models.resnet import BasicBlock, ResNet"] if ours else ["import timm"]),
        *([] if ours else ["import torch"]),
        "from torchvision import transforms",
        "",
        'folder = Path(".")  # where this file lies',
        SMALL_RESNET.format(made_with).rstrip()
        if ours
        else f'model = timm.create_model("{own.name}", num_classes=0{made_with})',
        f'first = model.get_submodule("{place}")',
        f"first.weight = torch.nn.Parameter(torch.empty({tuple(first.weight.shape)}))",
        *(f"first.{name} = {getattr(first, name)}" for name in ("kernel_size", "stride", "padding")),
        *(f"model.{pool} = torch.nn.Identity()" for pool in pools),
        'model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))',
        "",
    ]
    return "\n".join(lines)


def _facts(run: Trained, result: Result, data: str) -> Iterable[tuple[str, str]]:
    config = run.config
    changed = "".join(f", {key}={value}" for key, value in _overrides(result))
    yield "method", f"{md_text(entry_name(result.method))} (`{result.method}`)"
    yield "preset", md_text(result.preset + changed)
    yield "data", f"{data}, {config.data.size} x {config.data.size} pixels"
    yield "licence of the data", md_text(entry(config.data.name).licence or "not known")
    yield "backbone", f"{_backbone(run)}, stem {config.backbone.stem}"
    if config.backbone.weights:
        yield "trained on from", f"weights of hash {config.backbone.weights_hash}"
    yield "features", str(run.encoder.num_features)
    epochs = f"{config.train.epochs}, of {len(run.dataset.images):,} images in batches of {config.train.batch_size}"
    yield "epochs", epochs if result.timing.images_per_second else "none: not trained"
    yield "seed", str(run.seed)


def _backbone(run: Trained) -> str:
    return md_text(backbones.label(run.config.backbone.name, run.config.backbone.args))


def _accuracy(run: Trained, result: Result) -> str:
    """This encoder's accuracies with intervals over test images; of several seeds, the mean over them."""
    n_test = len(run.judged_on.load_test()[1])
    seeds = [found.metrics for found in _same_configuration(run)]
    lines = ["| | this encoder |" + " mean over seeds |" * (len(seeds) > 1)]
    lines.append("|---|---:|" + "---:|" * (len(seeds) > 1))
    for key, probe in PROBES.items():
        own = getattr(result.metrics, key)
        if own is None:
            continue
        low, high = wilson(own, n_test)
        line = f"| {probe} | {own:.2f} [{low:.2f}, {high:.2f}] |"
        if len(seeds) > 1:
            over = summarise([value for each in seeds if (value := getattr(each, key)) is not None])
            line += f" {over.mean:.2f} [{number(over.low)}, {number(over.high)}], n = {over.n} |"
        lines.append(line)
    told = f"Percent of the {n_test:,} test images, from frozen features (protocol {result.protocol}); brackets: 95 %, "
    told += "of this encoder by Wilson over test images" + ", of the mean by t over seeds" * (len(seeds) > 1)
    return "\n".join([*lines, "", f"{told}.\n"])


def _same_configuration(run: Trained) -> list[Result]:
    """Results of the finished runs beside this one that differ from it in nothing but the seed; its own too."""
    own = run.record.dir.path
    beside = own.parent.glob(f"{own.name.rpartition('-s')[0]}-s*")
    records = (store.read_run(store.RunDir(path)) for path in sorted(beside))
    return [record.result for record in records if record.result is not None]


def _provenance(result: Result) -> Iterable[tuple[str, str]]:
    made = result.provenance
    yield "run", result.run_id
    yield "experiment", md_text(result.experiment)
    yield "commit", (made.git_commit or "unknown") + " with uncommitted changes" * bool(made.git_dirty)
    yield "versions", md_text(printable(", ".join(f"{name} {version}" for name, version in made.versions.items())))
    yield "device", md_text(printable(made.device))
    yield "threads", str(made.threads or "unknown")
    yield "finished", md_text(printable(made.finished))


def _command(run: Trained, result: Result) -> str:
    words = ["bench", "run", "--method", result.method, "--preset", result.preset, "--seeds", f"{run.seed},"]
    words += [part for key, value in _overrides(result) for part in ("--set", f"{key}={value}")]
    return f"The same training again:\n\n    {printable(shlex.join(words))}\n"


def _overrides(result: Result) -> Iterable[tuple[str, str]]:
    """What was changed of the preset; a folder of images without its place on this machine."""
    for key, value in result.overrides.items():
        path = data_path(value) if key in ("data.name", "eval.data") else None
        value = Path(value).name if key == "data.classes" else value
        yield printable(key), at_path(value, path.name) if path else printable(value)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""])
