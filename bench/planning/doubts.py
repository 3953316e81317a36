"""Settings that cannot do what they say: no errors, as the run is what was asked for, but told when it is planned."""

from collections.abc import Collection, Iterator
from pathlib import Path

from bench.config import backbones
from bench.config.schema import RunConfig
from bench.config.sections import OptimConfig, TrainConfig
from bench.config.views import AugmentConfig
from methods import MethodConfig

BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # of /proc/cpuinfo: x86, and ARM
SERIOUS = ("optim.warmup_epochs", "train.batch_size", "train.precision", "augment.crop_min")
"""What is told of a preset's numbers too, where other settings leave them without effect."""


def doubts(
    config: RunConfig, n_images: int, n_labelled: int, cpu: bool = False, chosen: Collection[str] = ()
) -> list[str]:
    """What this config sets without the effect that it says, one line each.

    n_images: for pre-training; n_labelled: those with a label, all of the kNN probe's bank. cpu: whether the run
    will be on a CPU. chosen: dotted keys that the user set; of the others, the preset's, only what is SERIOUS is told.
    """
    lines = _found(config, n_images, n_labelled, cpu)
    return [line for line in lines if line.partition("=")[0] in {*SERIOUS, *chosen}]


def _found(config: RunConfig, n_images: int, n_labelled: int, cpu: bool) -> list[str]:
    data = config.data
    found: list[str] = []
    if config.method_name != "random":  # which trains nothing
        found += _schedule(config.optim, config.train, config.eval.every_epochs)
        found += slow_on_cpu(config.train) if cpu else []
        found += [*_optimizer(config.optim), *_heads(config.method), *_dropped(config.train.batch_size, n_images)]
    found += _views(config.augment)
    if config.eval.knn_k > n_labelled:
        found.append(f"eval.knn_k={config.eval.knn_k}: there are {n_labelled} labelled images; all of them vote")
    if data.skip_bad and not data.fingerprint:
        found.append(f"data.skip_bad=true: no effect on {data.name}, only on image folders and tables")
    if not config.backbone.zero_init and config.backbone.weights:
        found.append("backbone.zero_init=false: no effect with backbone.weights")
    elif not config.backbone.zero_init and "resne" not in config.backbone.name:
        found.append(f"backbone.zero_init=false: no effect on {config.backbone.name}, only on ResNets")
    patch = None if "patch_size" in config.backbone.args else backbones.patch(config.backbone.name, data.size)
    if patch is not None:
        found.append(
            f"backbone.name={config.backbone.name}: fewer than {backbones.FEWEST} x {backbones.FEWEST} patches of "
            f"{data.size} x {data.size} images; with backbone.args.patch_size={patch} they are more"
        )
    return found


def slow_on_cpu(train: TrainConfig) -> list[str]:
    """What makes training several times slower on this machine's processor, one line each.

    By bfloat16 a step of `cifar10-small` took 7.5 times as long as by float32 with AVX2 alone, as oneDNN emulates it.
    """
    if train.precision == "float32" or _has_bfloat16():
        return []
    return [
        f"train.precision={train.precision}: this processor has no instructions for it, and float32 is several times "
        "faster here (--set train.precision=float32)"
    ]


def _schedule(optim: OptimConfig, train: TrainConfig, every: int) -> Iterator[str]:
    epochs = train.epochs
    if epochs and optim.warmup_epochs >= epochs:
        yield (
            f"optim.warmup_epochs={optim.warmup_epochs:g}: the rate rises to the end of training, after {epochs} "
            f"epochs at {epochs / optim.warmup_epochs:.0%}, and never falls; take fewer, or more train.epochs"
        )
    if every > max(epochs, 1):
        yield f"eval.every_epochs={every}: training ends after {epochs} epochs; diagnostics of the last epoch only"
    if train.checkpoint_epochs > max(epochs, 1):
        yield (
            f"train.checkpoint_epochs={train.checkpoint_epochs}: training ends after {epochs} epochs; a run that is "
            "killed starts anew"
        )


def _optimizer(optim: OptimConfig) -> Iterator[str]:
    default = {name: field.default for name, field in OptimConfig.model_fields.items()}
    betas, lars = ("beta1", "beta2"), ("lars_eta", "lars_clip")
    without = {"sgd": (*betas, *lars), "lars": betas}.get(optim.name, ("momentum", *lars))
    for name in without:
        if getattr(optim, name) != default[name]:
            yield f"optim.{name}={_shown(getattr(optim, name))}: no effect with optim.name={optim.name}"
    if optim.decay_bias_norm and not optim.weight_decay and optim.name != "lars":
        yield "optim.decay_bias_norm=true: no effect with optim.weight_decay=0"


IDLE = (
    ("teacher_temperature_start", ("temperature_warmup", 0), "temperature_warmup=0"),
    ("queue_from", ("queue", 0), "queue=0"),
    ("tau_end", ("tau_schedule", "constant"), "tau_schedule=constant"),
)
"""Settings of methods, and what leaves them without effect."""


def _heads(method: MethodConfig) -> Iterator[str]:
    default = {name: field.default for name, field in type(method).model_fields.items()}
    given = method.model_dump()
    kind, layers = given.get("predictor", "mlp"), given.get("projector_layers", 2)
    if kind != "mlp" and given["predictor_hidden"] != default["predictor_hidden"]:
        yield f"method.predictor_hidden={given['predictor_hidden']}: no effect with method.predictor={kind}"
    for key, off, shown in IDLE:
        if given.get(key) != default.get(key) and given.get(off[0]) == off[1]:
            yield f"method.{key}={_shown(given[key])}: no effect with method.{shown}"
    if layers == 1 and given["projector_hidden"] != default["projector_hidden"]:
        yield f"method.projector_hidden={given['projector_hidden']}: no effect with method.projector_layers=1"


def _views(augment: AugmentConfig) -> Iterator[str]:
    default = {name: field.default for name, field in AugmentConfig.model_fields.items()}
    parts = {
        "jitter": ("brightness", "contrast", "saturation", "hue"),
        "blur": ("blur_sigma_min", "blur_sigma_max"),
    }
    kinds = augment.kinds()
    first, second = kinds[""], kinds["view2"]
    if first.crop_min == first.crop_max == second.crop_min == second.crop_max != 1:
        yield f"augment.crop_min=augment.crop_max={first.crop_min:g}: every crop has the same area"
    draws = ("flip", "jitter", "gray", "blur", "solarize")
    if first.crop_min == second.crop_min == 1 and not any(getattr(v, name) for v in (first, second) for name in draws):
        yield "augment.crop_min=1: no other augmentation is on, so both views of an image are the same"
    for switch, names in parts.items():
        if any(getattr(view, switch) for view in kinds.values()):
            continue
        for name in names:
            if getattr(first, name) != default[name]:
                yield f"augment.{name}={_shown(getattr(first, name))}: no effect with augment.{switch}=0"
    for which, (kind, view) in zip(("second", "third", "fourth"), [*kinds.items()][1:], strict=False):
        for name, value in getattr(augment, kind).items():
            off = next((switch for switch, names in parts.items() if name in names and not getattr(view, switch)), "")
            if value == getattr(first, name) and kind == "view2":
                yield f"augment.view2.{name}={_shown(value)}: no effect, the first view has the same"
            elif off:
                yield f"augment.{kind}.{name}={_shown(value)}: no effect, {off} of the {which} view is 0"


def _dropped(batch: int, n_images: int) -> Iterator[str]:
    left = n_images % batch
    if batch <= n_images and left > n_images / 4:
        yield (
            f"train.batch_size={batch}: an epoch leaves out {left} of {n_images} images (others in each), as its last "
            "batch would not be full"
        )


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16; where it cannot be asked, it is given the benefit of the doubt."""
    try:
        flags = cpuinfo.read_text().split()
    except OSError:
        return True
    return bool(BFLOAT16_FLAGS.intersection(flags))
