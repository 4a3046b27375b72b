"""Every setting of a run with its default, its check and its meaning, kept in `checkpoints/RUN/config.json`."""

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from system import json_files, storage
from system.cli import BooleanFlag, InputError, Number, Parser, unusable
from system.json_files import shown
from system.storage import AnyPath

FORMAT_VERSION = 1
# The chapter's settings where defaults are others, which were found better (docs/results.md).
RECIPES = {"chapter": {"real_label": 0.9, "lambda_identity": 0.0, "upsample": "transpose", "ema": 0.0}}
# What other models than CycleGAN have as their defaults, which their papers do.
MODELS = {
    "cyclegan": {},
    "pix2pix": {"generator": "unet", "norm": "batch", "dropout": True, "use_lsgan": False, "pool_size": 0, "ema": 0.0},
}
# What the networks' weights depend on.
ARCHITECTURE = (
    "model",
    "generator",
    "norm",
    "affine",
    "upsample",
    "n_res_blocks",
    "unet_levels",
    "ngf",
    "discriminator",
    "n_layers_D",
    "ndf",
)
# Settings that are for one value of another one only.
FOR = {name: ("model", "cyclegan") for name in ("lambda1", "lambda2", "lambda_identity", "X_paired", "Y_paired", "lambda_paired")}
FOR |= {name: ("model", "pix2pix") for name in ("lambda_L1", "lambda_GAN")}
FOR |= {"n_res_blocks": ("generator", "resnet"), "unet_levels": ("generator", "unet")}
UPSAMPLES = ("transpose", "resize")
PRECISIONS = ("float32", "bfloat16", "float16", "auto")


def _free(default: Any, type: Any, help: str, **argument: Any) -> Any:
    """A field of `Config` that knows its flag, and can change when a run continues."""
    return dataclasses.field(default=default, metadata={"type": type, "help": help, "fixed": False, "flag": True, **argument})


def _fixed(default: Any, type: Any, help: str, **argument: Any) -> Any:
    """One that cannot, as it shapes the networks or the data."""
    return _free(default, type, help, fixed=True, **argument)


def _kept(default: str, *choices: str) -> Any:
    """One without a flag, which new runs have as its default, and those that were begun before there was a choice as the last one."""
    return _fixed(default, str, "", choices=choices, flag=False)


@dataclass(kw_only=True)
class Config:
    """The settings of a run. Defaults are the paper's (section 4 and appendix 7) but for what docs/results.md found better."""

    X: str = _free(
        "data/tfrecords/apple.tfrecords",
        str,
        "TFRecord file of domain X, made by build_data.py; its shards: x.tfrecords@4 for four, or a pattern, 'x-*.tfrecords'",
    )
    Y: str = _free("data/tfrecords/orange.tfrecords", str, "TFRecord file, or shards, of domain Y")
    model: str = _fixed(
        "cyclegan",
        str,
        "cyclegan: of pictures of two kinds; pix2pix: of pairs (build_data.py --paired), with its paper's defaults: "
        f"{' '.join(f'--{k} {v}' if not isinstance(v, bool) else f'--{k}' if v else f'--no{k}' for k, v in MODELS['pix2pix'].items())}",
        choices=tuple(MODELS),
    )
    image_size: int = _fixed(256, Number(int, 32, 4096, multiple=4), "side of the training crops, pixels; a multiple of 4")
    load_size: int | None = _fixed(
        None, Number(int, 32, 8192), "short side that pictures are resized to before the crop [image_size · 286/256]"
    )
    batch_size: int = _fixed(1, Number(int, 1, 4096), "pictures of each domain a step")
    use_lsgan: bool = _fixed(True, bool, "least-squares adversarial loss; --nouse_lsgan: cross entropy")
    real_label: float = _free(1.0, Number(float, 0, 2), "what the discriminators answer for real pictures (the chapter's project: 0.9)")
    generator: str = _fixed("resnet", str, "network that makes pictures", choices=("resnet", "unet"))
    norm: str = _fixed(
        "instance",
        str,
        "normalisation in every block; batch is, of batches of one, that of each picture",
        choices=("instance", "batch", "none"),
    )
    affine: bool = _fixed(True, bool, "normalisations learn a scale and an offset; --noaffine: as the authors' PyTorch code has it")
    dropout: bool = _fixed(False, bool, "drop half of the values in a generator's residual blocks, or innermost steps up, while it trains")
    upsample: str | None = _fixed(
        None,
        str,
        "how the generators grow pictures; resize: nearest ×2 and a convolution, no checkerboards; transpose: as the papers do "
        "[resnet: resize; unet: transpose]",
        choices=UPSAMPLES,
    )
    n_res_blocks: int | None = _fixed(None, Number(int, 0, 100), "residual blocks of a resnet [6 for an image_size up to 128, else 9]")
    unet_levels: int | None = _fixed(
        None, Number(int, 2, 12), "steps down, and up, of a unet, each by half [as often as image_size can be halved, at most 8]"
    )
    ngf: int = _fixed(64, Number(int, 1, 1024), "filters of the generators' first layer")
    discriminator: str = _fixed("patch", str, "what is judged: patches, or each pixel by itself", choices=("patch", "pixel"))
    n_layers_D: int | None = _fixed(
        None,
        Number(int, 1, 5),
        "layers of the discriminator [patch: 3; pixel: 2]; of patches: 16, 34, 70, 142 or 286 pixels a side for 1 to 5",
    )
    ndf: int = _fixed(64, Number(int, 1, 1024), "filters of the discriminators' first layer")
    init_from: str | None = _fixed(
        None,
        str,
        "begin with the weights of another run's networks, on any data, at any size: a run, or one of its checkpoints; "
        "the architecture is that run's",
        metavar="RUN",
    )
    lambda1: float = _free(10.0, Number(float, 0), "weight of the cycle loss X → Y → X")
    lambda2: float = _free(10.0, Number(float, 0), "weight of the cycle loss Y → X → Y")
    lambda_identity: float = _free(
        0.5, Number(float, 0), "weight of the identity loss, as a share of lambda, which holds on to colours; 0: not computed, and faster"
    )
    X_paired: str | None = _free(None, str, "TFRecord file of pictures of X whose partners are in --Y_paired (build_data.py --paired)")
    Y_paired: str | None = _free(None, str, "some pairs beside the pictures of no pairs in --X and --Y")
    lambda_paired: float = _free(10.0, Number(float, 0), "weight of the distance between translations of these pairs and their partners")
    lambda_L1: float = _free(100.0, Number(float, 0), "pix2pix: weight of the distance between translations and what they should be")
    lambda_GAN: float = _free(1.0, Number(float, 0), "pix2pix: weight of the adversarial loss; 0: no discriminator learns")
    learning_rate: float = _free(2e-4, Number(float, 0), "Adam's learning rate before it decays")
    beta1: float = _free(0.5, Number(float, 0, 0.9999), "Adam's first-moment decay")
    pool_size: int = _fixed(50, Number(int, 0, 10_000), "generated pictures of each domain kept for the discriminators; 0: none")
    ema: float = _fixed(
        0.999, Number(float, 0, 0.999999), "decay of a moving average of the generators' weights, which is what is exported; 0: none"
    )
    n_epochs: int = _free(100, Number(int, 0), "epochs at the full learning rate; one epoch passes the larger data set once")
    n_epochs_decay: int = _free(100, Number(int, 0), "epochs after that, in which the learning rate falls linearly to 0")
    max_steps: int | None = _free(None, Number(int, 1), "stop at this step at the latest; the decay then spans the second half")
    precision: str = _fixed(
        "auto",
        str,
        "number type of the networks' arithmetic; auto: bfloat16 where the device has it, else float32. Weights and losses are float32",
        choices=PRECISIONS,
    )
    xla: bool = _free(False, bool, "compile the training step with XLA: longer to start, faster on most GPUs, slower on CPUs")
    seed: int = _fixed(0, Number(int, 0, 2**31 - 1), "seed of initialisation, order, augmentation and pools")
    log_every: int = _free(100, Number(int, 1), "steps between scalars, or 30 s if that is sooner")
    image_every: int = _free(500, Number(int, 1), "steps between pictures and histograms, or 5 min if that is sooner")
    save_every: int = _free(1000, Number(int, 1), "steps between checkpoints, or 5 min if that is sooner; the newest five are kept")
    keep_every: int | None = _free(None, Number(int, 1), "keep the checkpoint of every so many steps for good, beside the newest five")
    eval_every: int | None = _free(None, Number(int, 1), "steps between measurements on test pictures; the best checkpoint is kept")
    X_test: str | None = _free(None, str, "folder of test pictures of X, for --eval_every", metavar="DIR")
    Y_test: str | None = _free(None, str, "folder of test pictures of Y, for --eval_every", metavar="DIR")
    features: str | None = _free(
        None,
        str,
        "what tells how good the pictures are, for --eval_every: a SavedModel as for evaluate.py, or none [Keras' InceptionV3]",
        metavar="MODEL",
    )
    shard_data: bool = _fixed(
        False, bool, "several workers: each reads shards of its own, every n-th of FILE@N; for data that no machine has whole"
    )
    decoder: str = _kept("exact", "exact", "fast")  # of the pictures in records, see `pictures.records.from_record`
    batch_of_one: str = _kept("picture", "picture", "averages")  # what batch norm normalises with then, once trained: see `normalization`
    skip_bad_records: bool = _free(
        False, bool, "go on without records that cannot be read, the next one in place of each; --noskip_bad_records: stop at them"
    )

    def __post_init__(self):
        if self.load_size is None:
            self.load_size = round(self.image_size * 286 / 256)
        if self.upsample is None:
            self.upsample = "resize" if self.generator == "resnet" else "transpose"
        if self.n_res_blocks is None and self.generator == "resnet":
            self.n_res_blocks = 6 if self.image_size <= 128 else 9
        if self.generator == "unet":
            most = (self.image_size & -self.image_size).bit_length() - 1  # the power of 2 in it
            self.unet_levels = self.unet_levels or min(most, 8)
            if self.unet_levels > most:
                problem = f"the sides of its pictures are multiples of {2**self.unet_levels}, and --image_size {self.image_size} is none"
                raise InputError(f"--unet_levels {self.unet_levels}: {problem}; use at most {most}")
        if self.n_layers_D is None:
            self.n_layers_D = 3 if self.discriminator == "patch" else 2
        if self.discriminator == "patch" and self.image_size < 3 * 2**self.n_layers_D:
            problem = f"needs pictures of {3 * 2**self.n_layers_D} pixels at least, and --image_size is {self.image_size}"
            raise InputError(f"--n_layers_D {self.n_layers_D}: {problem}; use fewer")
        if self.load_size < self.image_size:
            raise InputError(f"--load_size {self.load_size}: smaller than --image_size {self.image_size}")
        if (self.X_paired is None) != (self.Y_paired is None):
            given, missing = ("X", "Y") if self.X_paired else ("Y", "X")
            raise InputError(f"--{given}_paired {getattr(self, f'{given}_paired')}: needs its partners; give --{missing}_paired, too")
        if self.n_epochs + self.n_epochs_decay == 0:
            raise InputError("--n_epochs 0 --n_epochs_decay 0: there is nothing to train")
        missing = [flag for flag, value in (("--X_test", self.X_test), ("--Y_test", self.Y_test)) if value is None]
        if self.eval_every is not None and missing:
            raise InputError(f"--eval_every {self.eval_every}: needs test pictures; give {' and '.join(missing)}")

    @property
    def paired(self) -> bool:
        """Tells whether X and Y are pairs, of which one generator learns, G: X → Y."""
        return self.model == "pix2pix"

    @property
    def normalization(self) -> str:
        """Which of `ops.normalization` is meant: batch norm of batches of one is of each picture, and stays so once it is trained."""
        alone = (self.norm, self.batch_size, self.batch_of_one) == ("batch", 1, "picture")
        return "picture" if alone else self.norm

    def check_typed(self, typed: Mapping[str, Any]) -> None:
        """Raises `InputError` if one of these settings, which were typed, means nothing beside the others."""
        if "lambda_paired" in typed and not self.X_paired:
            raise InputError(f"--lambda_paired {self.lambda_paired}: is for pairs; give --X_paired and --Y_paired, or leave it out")
        for name, value in typed.items():
            other, needed = FOR.get(name, (None, None))
            if other and getattr(self, other) != needed:
                raise InputError(f"--{name} {value}: is for --{other} {needed}, and this is {getattr(self, other)}; leave it out")

    def changed(self, settings: dict[str, Any]) -> tuple["Config", list[str]]:
        """Returns the settings of a continued run, and a list of those that contradict the run and were not changed."""
        fixed = [f.name for f in dataclasses.fields(self) if f.metadata["fixed"]]
        fixed += [] if self.X_paired else ["X_paired", "Y_paired"]  # where they lie may change, but not whether there are any
        wrong = [f"--{k} {v} (the run has {getattr(self, k)})" for k, v in settings.items() if k in fixed and v != getattr(self, k)]
        return dataclasses.replace(self, **{k: v for k, v in settings.items() if k not in fixed}), wrong

    def differences(self, other: "Config") -> dict[str, list]:
        """Returns what differs, by name: the value here and the value there."""
        there = dataclasses.asdict(other)
        return {name: [here, there[name]] for name, here in dataclasses.asdict(self).items() if here != there[name]}

    def save(self, run: AnyPath) -> None:
        """Writes `config.json` into the run folder."""
        settings = {"format_version": FORMAT_VERSION, **dataclasses.asdict(self)}
        with storage.atomic_write(run / "config.json") as file:
            file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, run: AnyPath) -> "Config":
        """Reads `config.json` from a run folder. Raises `InputError` if there is none, or it is no such file."""
        file = run / "config.json"
        if not file.exists():
            problem = "no config.json, so this is no run folder of train.py" if run.is_dir() else "no such run folder"
            raise InputError(f"{run}: {problem}")
        settings = json_files.read(file)
        if (version := settings.pop("format_version", None)) != FORMAT_VERSION:
            raise InputError(
                f"{file}: format_version {shown(version)}; this program reads {FORMAT_VERSION}: take the version that wrote it"
            )
        fields = {field.name: field for field in dataclasses.fields(cls)}
        settings = {name: field.metadata["choices"][-1] for name, field in fields.items() if not field.metadata["flag"]} | settings
        problems = {k: _problem(fields[k], v) if k in fields else "is no setting of this version: take it out" for k, v in settings.items()}
        if wrong := [f"{k[:60]} {shown(settings[k])} {problem}" for k, problem in problems.items() if problem]:
            raise InputError(f"{file}: {'; '.join(wrong[:9])}{f'; and {len(wrong) - 9} more' if len(wrong) > 9 else ''}")
        try:
            return cls(**settings)
        except InputError as e:
            raise InputError(f"{file}: {e}; put that right in the file") from None


def training_length(config: Config, pictures: int) -> tuple[int, int]:
    """Returns the step at which the decay starts and that at which training ends; `pictures`: of the larger domain."""
    steps_per_epoch = math.ceil(pictures / config.batch_size)
    total = steps_per_epoch * (config.n_epochs + config.n_epochs_decay)
    if config.max_steps is not None and config.max_steps < total:
        return config.max_steps // 2, config.max_steps
    return steps_per_epoch * config.n_epochs, total


def _problem(field: dataclasses.Field, value: Any) -> str | None:
    """Says why a setting's flag cannot have given a value of `config.json`; None if it can."""
    kind, choices = field.metadata["type"], field.metadata.get("choices")
    if value is None and field.default is None:
        return None
    if isinstance(kind, Number):
        if type(value) not in (int, kind.kind):
            return f"is no {'whole ' if kind.kind is int else ''}number: put one there"
        return kind.problem(value)
    if kind is bool:
        return None if isinstance(value, bool) else "is neither true nor false: put one there"
    if choices:
        return None if value in choices else f"is unknown: use {' or '.join(map(shown, choices))}"
    return None if isinstance(value, str) and not unusable(value) else "is no name: put one there"


def add_arguments(parser: Parser) -> None:
    """Adds a flag for each setting; one that is not typed stays absent from the parsed arguments."""
    for field in (field for field in dataclasses.fields(Config) if field.metadata["flag"]):
        argument = {k: v for k, v in field.metadata.items() if k not in ("fixed", "flag")}
        if field.default is not None:
            argument["help"] += f" (default: {field.default})"
        if argument["type"] is bool:
            argument = {"action": BooleanFlag, "help": argument["help"]}
        elif argument["type"] is str and "choices" not in argument:
            argument.setdefault("metavar", "FILE")
        parser.add_argument(f"--{field.name}", default=argparse.SUPPRESS, **argument)
