"""What each section of a run's configuration may hold: types, limits, defaults, units."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class Group(BaseModel):
    """A group of settings: immutable, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class DataConfig(Group):
    name: str
    """One of `bench list datasets`, folder:PATH (an image folder with train/ and test/), parquet:PATH (a folder of
    parquet files) or hf:NAME (a data set of the Hugging Face Hub)."""
    size: int = Field(ge=4)
    """Side of the square images, in pixels; other sizes are resized once and cached."""
    channels: int = Field(3, ge=1, le=16)
    """3: red, green, blue; 1: gray, which colours are made; others: bands of .npy and TIFF files in image folders. What
    `augment` does to colours (hue, saturation, gray) has to be off but with 3."""
    store: int = Field(0, ge=0)
    """Folders: keep whole pictures, their shorter side at most so many pixels, so that crops are drawn from all of a
    picture; 0: its centre square, at `size`. By default 0 for sizes up to 64, size * 256 / 224 above."""
    cache: Literal["pixels", "files"] = "pixels"
    """Image folders: pixels, each file is decoded once, for all runs; files: at every use, whole and at its own
    resolution, for pictures that have no room on the disk twice."""
    eval_crop: float = Field(1.0, gt=0, le=1)
    """Evaluation sees the centre square of `size` of pictures whose shorter side is size / eval_crop (only of whole
    pictures: `store`, or cache=files)."""
    normalize: Literal["own", "imagenet"] = "own"
    """By each channel's mean and standard deviation: of all pre-training images, or ImageNet's, as some sources."""
    skip_bad: bool = False
    """Leave out unreadable images of a folder (they are named and counted) instead of stopping."""
    classes: str = ""
    """Of an image folder: imagenet100, or a file with the name of a class a line; others are left out. "": all."""
    fingerprint: str = ""
    """Hash of an image folder's file names and content, or of a table's, filled in by the program: a path is no
    identity."""
    image_column: str = ""
    """parquet: and hf: the column with the bytes of image files; "": found by its type and usual names."""
    label_column: str = ""
    """parquet: and hf: the column with class names, integers or strings; "": found by its type and usual names."""
    train_split: str = ""
    """parquet: and hf: the split to train on; "": train."""
    test_split: str = ""
    """parquet: and hf: the split to test on; "": test, or else validation."""

    @property
    def whole(self) -> bool:
        """Whether crops are drawn from whole pictures, not from squares of `size`."""
        return self.store > 0 or self.cache == "files"

    @model_validator(mode="after")
    def _kept_whole(self) -> "DataConfig":
        if self.store and ":" not in self.name:
            raise ValueError(f"store={self.store}: {self.name} is kept at its own size; folders of pictures take it")
        if self.cache == "files" and not self.name.startswith("folder:"):
            raise ValueError(f"cache=files: {self.name} has no files of pictures, only folder:PATH has")
        if self.store and self.cache == "files":
            raise ValueError(f"store={self.store}: of cached pixels; with cache=files pictures have their own size")
        if self.eval_crop < 1 and not self.whole:
            raise ValueError(f"eval_crop={self.eval_crop}: needs whole pictures: data.store={round(self.size * 8 / 7)}")
        if self.normalize == "imagenet" and self.channels != 3:
            raise ValueError(f"normalize=imagenet: of red, green and blue, and channels={self.channels}")
        if 0 < self.store < self.size:
            raise ValueError(f"store={self.store} is below size={self.size}: pictures would be enlarged")
        return self


def _scalars(given: Any) -> Any:
    """Values as written, e.g. on a command line: "4" and 4.0 are 4, "true" is True. Raises ValueError on NaN."""
    return {key: _scalar(value) for key, value in given.items()} if isinstance(given, Mapping) else given


def _scalar(value: Any) -> Any:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return value
    try:
        number = float(value)
    except ValueError:
        return value  # a word
    if not math.isfinite(number):
        raise ValueError(f"{value} is no finite number")
    return int(number) if number.is_integer() else number


Scalars = Annotated[dict[str, bool | int | float | str], BeforeValidator(_scalars)]
"""Arguments for a function of another library."""


class BackboneConfig(Group):
    name: str
    """Any timm model name, or resnet10_small (one block a stage, 16 to 128 channels)."""
    stem: Literal["small", "small_pad2", "imagenet"] = "small"
    """small, for images up to about 64 pixels: first convolution 3x3 with stride 1 and no max-pool; vision
    transformers: patches of an eighth of the image. A preset's is left out for networks that have no such stem.
    small_pad2: the same with a padding of 2 instead of 1, as solo-learn's CIFAR ResNets."""
    zero_init: bool = True
    """ResNets: every residual branch starts at zero, as timm's do; false: as torchvision's. Others: no effect."""
    weights: str = ""
    """Train on from these, the same for every seed: timm:NAME.TAG or file:PATH (in the data's normalisation)."""
    weights_hash: str = ""
    """Hash of these weights, filled in by the program: a path is no identity."""
    args: Scalars = Field(default_factory=dict)
    """Arguments for timm's model, by name: backbone.args.patch_size=4, backbone.args.drop_path_rate=0.1, ..."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())


class OptimConfig(Group):
    name: Literal["sgd", "lars", "adam", "adamw"] = "sgd"
    """Optimizer; sgd and lars use `momentum`."""
    lr: float = Field(gt=0)
    """Peak learning rate per 256 images of a batch: the rate used is lr * train.batch_size / 256."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd and lars."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """adam and adamw: decay of the mean gradient, a step."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """adam and adamw: decay of the mean squared gradient, a step."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 term added to the gradient (adamw: decoupled)."""
    decay_bias_norm: bool = False
    """Apply weight decay (and LARS's adaptation) to biases and normalisation parameters too."""
    decay_embeddings: bool = True
    """And to a network's embeddings that timm exempts (of positions, of the class). Vision transformers: false, if it
    is not set and there is decay."""
    warmup_epochs: float = Field(0.0, ge=0)
    """Epochs of linear warm-up, by step; `schedule` follows."""
    warmup_peak: Literal["after", "last"] = "after"
    """after: the first step after the warm-up has the peak rate; last: its last step has it too, as solo-learn's."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: the rate falls to 0, by step; constant: as RAFT's authors."""
    clip_norm: float = Field(0.0, ge=0)
    """Largest norm of a step's gradient, of all parameters as one vector; a longer one is scaled to it. 0: any."""
    loss_scale: float = Field(1.0, gt=0)
    """Factor of the loss that is differentiated: 2 where a source adds up the directions that are averaged here, which
    LARS with `lars_clip` and SGD tell apart. What is logged is the loss itself."""
    lars_eta: float = Field(0.02, gt=0)
    """LARS trust coefficient."""
    lars_clip: bool = True
    """LARS: never raise the learning rate above the schedule's (as solo-learn's clip_lr)."""


class TrainConfig(Group):
    epochs: int = Field(ge=0)
    """Passes over the pre-training images."""
    batch_size: int = Field(ge=2)
    """Images a step (each gives two views); the last incomplete batch of an epoch is dropped."""
    accumulate: int = Field(1, ge=1)
    """Slices of a batch that a device works off one after another, with the loss of the whole batch, where its memory
    is small; each image passes twice. Not for networks with batch norm."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: autocast; losses and normalisation stay in float32."""
    compile: bool = False
    """torch.compile the backbones; where that is not possible the log says so, and the result: `compiled`."""
    threads: int = Field(1, ge=1, le=1024)
    """CPU threads of one run (of each of its processes); by default, on this machine's CPU, cores / runs at a time,
    where steps are large enough. Recorded, not hashed: results are bit-equal for equal threads."""
    checkpoint_epochs: int = Field(1, ge=1)
    """Epochs between checkpoints. Not hashed: it changes no result."""


class EvalConfig(Group):
    at_end: str = "linear,knn"
    """Evaluations at the end of training, of `bench list evaluations`; others can be made afterwards. Not hashed."""
    probe: Literal["logistic", "augmented"] = "logistic"
    """logistic: L2 logistic regression on frozen features; augmented: 100 epochs of SGD on crops and flips."""
    knn_k: int = Field(0, ge=0)
    """Neighbours of the kNN probe; 0: 200, or 20 on training sets of less than 10,000 images."""
    every_epochs: int = Field(1, ge=1)
    """Epochs between diagnostics on the validation split."""
    data: str = ""
    """Judge on this labelled data set (of `bench list datasets`, or folder:PATH), not on the one that is trained on,
    e.g. where that has no labels. Its images are normalised as those of training."""
    data_fingerprint: str = ""
    """Hash of that folder's content, filled in by the program."""


def judged_on(data: DataConfig, evaluation: EvalConfig) -> DataConfig:
    """On what encoders are judged that are trained on `data`: the same, unless eval.data names another data set."""
    if not evaluation.data:
        return data
    files = data.cache == "files" and evaluation.data.startswith("folder:")
    store = round(data.size / data.eval_crop) if data.cache == "files" and not files else data.store
    return DataConfig(
        name=evaluation.data,
        size=data.size,
        channels=data.channels,
        store=store if ":" in evaluation.data else 0,
        cache="files" if files else "pixels",
        eval_crop=data.eval_crop if ":" in evaluation.data else 1.0,
        skip_bad=data.skip_bad,
        fingerprint=evaluation.data_fingerprint,
    )
