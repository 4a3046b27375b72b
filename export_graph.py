"""A checkpoint of train.py → frozen models, G: X → Y and F: Y → X, that need no training code: SavedModels, ONNX or TensorFlow Lite.

A run of pix2pix has G only.
"""

import argparse
import dataclasses
import importlib.util
import sys
from pathlib import PurePath

import numpy as np

from formats import model_files, network
from pictures import images, shards
from system import cli, devices, storage
from system.cli import InputError
from system.storage import AnyPath
from training import run_folder
from training.config import PRECISIONS, Config

COUNT, SIDE = 4, 256  # pictures that a model is checked with, and their side at most


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--checkpoint_dir", metavar="PATH", type=storage.path, required=True, help="a run folder (newest checkpoint), or a checkpoint")
    add("--XtoY_model", metavar="NAME", help="model of G to write: a name or a path [X2Y.pb, with the names of the run's data]")
    add("--YtoX_model", metavar="NAME", help="model of F to write: a name or a path [Y2X.pb]")
    add("--export_dir", metavar="DIR", type=storage.path, default=run_folder.EXPORTS, help="where a bare name lands")
    add("--format", choices=model_files.KINDS, default="saved_model", help="what to write; a name's suffix becomes the format's own")
    add("--quantize", choices=("float16", "int8"), help="weights of half the size, of saved_model and tflite; of a quarter, of tflite")
    add("--pictures", metavar="DIR", type=storage.path, help="pictures that onnx and tflite models are checked with [the run's records]")
    add("--image_size", type=cli.Number(int, 8, multiple=4), help="size that inference.py brings pictures to [as trained]")
    add("--best", action="store_true", help="export the checkpoint that was best on test pictures (of a run with --eval_every)")
    add("--ema", action=cli.BooleanFlag, help="export the weights' moving average [if the run keeps one]; --noema: the weights themselves")
    precision = "number type of the arithmetic; 16 bits are slow where the processor lacks them; auto: the fastest of this device"
    add("--precision", choices=PRECISIONS, default="float32", help=precision)
    add("--xla", action="store_true", help="models compile themselves with XLA, anew for each size of picture: for GPUs, and many pictures")
    add("--overwrite", action="store_true", help="replace models that exist, instead of moving them aside")
    add("--ngf", type=int, metavar="N", help="not needed; must agree with the run's config.json")
    add("--norm", metavar="NORM", help="not needed; must agree with the run's config.json")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    check_format(args)
    config, ema = settings(args)
    files = outputs(args, config)
    if len(files) > 1:
        storage.check_apart("--YtoX_model", files[1], "--XtoY_model", files[0])

    devices.quiet_tensorflow()
    import tensorflow as tf

    from generator import build_generator
    from training import checkpoints

    precision = devices.native_precision() if args.precision == "auto" else args.precision
    config = dataclasses.replace(config, precision=precision)
    if args.best:
        checkpoint = checkpoints.find("--best", find_best(args.checkpoint_dir))
    else:
        checkpoint = checkpoints.find("--checkpoint_dir", args.checkpoint_dir)
    generators, step = {name: build_generator(config, name) for name in "GF"[: len(files)]}, tf.Variable(0, dtype=tf.int64)
    checkpoints.read_parts(checkpoint, step=step, **{f"{name}_ema" if ema else name: network for name, network in generators.items()})
    side = args.image_size or config.image_size
    norm = config.normalization.replace("picture", "instance")  # which it is, once it is trained
    metadata = {"image_size": side, "generator": config.generator, "norm": norm, "ngf": config.ngf, "precision": precision, "ema": ema}
    metadata |= ({"quantize": args.quantize} if args.quantize else {}) | {"step": int(step)}
    x, y = shards.domain(config.X), shards.domain(config.Y)
    ways = ({"source": x, "target": y}, {"source": y, "target": x})
    models = [(network, metadata | way, file) for network, way, file in zip(generators.values(), ways, files, strict=False)]
    pictures = None if args.format == "saved_model" else check_pictures(args.pictures, config, side)
    written = model_files.write(models, args.format, args.overwrite, pictures, args.xla)
    for (_, about, file), (old, found) in zip(models, written, strict=True):
        if old:
            print(f"{file}: the model that stood there is now {old}")
        print(f"{file}: {about['source']} → {about['target']}, from step {about['step']}{found and '; '}{found}")
    return cli.DONE


def settings(args: argparse.Namespace) -> tuple[Config, bool]:
    """The run's settings, and whether its moving average is meant. Raises `InputError` for flags that contradict the run."""
    if not args.checkpoint_dir.is_dir() and not run_folder.index_of(args.checkpoint_dir).is_file():
        raise InputError(f"--checkpoint_dir {args.checkpoint_dir}: no such run folder or checkpoint")
    run = args.checkpoint_dir if args.checkpoint_dir.is_dir() else args.checkpoint_dir.parent
    config = Config.load(run)
    for flag, typed, trained in (("--ngf", args.ngf, config.ngf), ("--norm", args.norm, config.norm)):
        if typed not in (None, trained):
            raise InputError(f"{flag} {typed}: the run was trained with {trained}; leave the flag out")
    if args.ema and not config.ema:
        raise InputError(f"--ema: {run} keeps no moving average; leave the flag out, or train with --ema 0.999")
    return config, bool(config.ema) if args.ema is None else args.ema


def outputs(args: argparse.Namespace, config: Config) -> list[AnyPath]:
    """Where the models of G and, if there is one, of F are written.

    Raises `InputError` if one cannot be, or came with the project and nobody typed its name.
    """
    if config.paired and args.YtoX_model is not None:
        raise InputError(f"--YtoX_model {args.YtoX_model}: pix2pix translates from X to Y only; leave it out")
    typed = [args.XtoY_model] if config.paired else [args.XtoY_model, args.YtoX_model]
    names = shards.model_names(config.X, config.Y)
    files = [output(args, f"{name}.pb" if own is None else own) for own, name in zip(typed, names, strict=False)]
    if came := [i for i, file in enumerate(files) if typed[i] is None and run_folder.ships(file)]:
        flags = [run_folder.MODEL_FLAGS[i] for i in came]
        remedy = " ".join(f"{flag} my_{names[i]}.pb" for flag, i in zip(flags, came, strict=True))
        raise InputError(f"{', '.join(flags)}: {' and '.join(str(files[i]) for i in came)} came with the project; name others: {remedy}")
    return files


def output(args: argparse.Namespace, name: str) -> AnyPath:
    """Where a model of this name is written. Raises `InputError` if it cannot be."""
    name = with_suffix(name, args.format)
    file = args.export_dir / name if PurePath(name).name == name else storage.path(name)
    model_files.check_output(file, args.format)
    return file


def check_format(args: argparse.Namespace) -> None:
    """Raises `InputError` if flags contradict the format, or what it needs is not installed."""
    if args.quantize and args.format not in (("saved_model", "tflite") if args.quantize == "float16" else ("tflite",)):
        raise InputError(f"--quantize {args.quantize}: not for --format {args.format}; leave it out, or use --format tflite")
    if args.format == "saved_model":
        if args.pictures:
            raise InputError(f"--pictures {args.pictures}: for --format onnx and tflite only; leave it out")
        return
    if args.precision != "float32":
        remedy = "use --quantize float16" if args.format == "tflite" else "leave it out"
        raise InputError(f"--precision {args.precision}: --format {args.format} computes in float32; {remedy}")
    if args.xla:
        raise InputError(f"--xla: for --format saved_model only; leave it out, or leave out --format {args.format}")
    missing = [name for name in ("onnx", "onnxruntime") if args.format == "onnx" and not importlib.util.find_spec(name)]
    if missing:
        raise InputError(f"--format onnx: {' and '.join(missing)} not installed: bash scripts/setup.sh onnx")


def with_suffix(name: str, format: str) -> str:
    """A model's name as typed → the same with the format's suffix. A SavedModel has the one that was typed."""
    suffix, name = model_files.KINDS[format].suffix, name.rstrip("/")
    if format == "saved_model" or name.lower().endswith(suffix):
        return name
    others = [kind.suffix for kind in model_files.KINDS.values() if name.lower().endswith(kind.suffix)]
    return (name[: -len(others[0])] if others else name) + suffix


def find_best(run: AnyPath) -> AnyPath:
    """Returns the checkpoint of a run folder that was the best on test pictures. Raises `InputError` if there is none."""
    if not run.is_dir():
        raise InputError(f"--best --checkpoint_dir {run}: is a checkpoint; name its run folder, or leave out --best")
    best = run_folder.evaluation(run).get("best")
    if best is None:
        file = run / run_folder.EVALUATION
        problem = f"{file} names no best checkpoint" if file.exists() else f"{run} has not been measured"
        raise InputError(f"--best: {problem}; train it with --eval_every, or leave out --best")
    return run / f"model.ckpt-{best['step']}"


def check_pictures(folder: AnyPath | None, config: Config, side: int) -> np.ndarray:
    """Pictures to check models with, uint8 (N, side, side, 3): the first of a folder, or of the run's records. Raises `InputError`."""
    from tensorflow.errors import OpError

    from pictures.records import BadRecord
    from reader import Reader, feed_pairs

    side = min(side, SIDE)
    if folder is not None:
        try:
            return np.stack([images.centre_square(images.read(file), side) for file in images.find(folder)[:COUNT]])
        except InputError as e:
            raise InputError(f"--pictures {e}") from None
    try:
        readers = [Reader(data, side, batch_size=COUNT // 2, training=False, skip_bad_records=True) for data in (config.X, config.Y)]
        batches = next(feed_pairs(*readers))
    except (InputError, BadRecord, OpError) as e:
        why = f"{shards.describe(config.X)}, {shards.describe(config.Y)}: cannot be read" if isinstance(e, OpError) else str(e)
        raise InputError(f"{why}. The models are checked with pictures: name a folder of some with --pictures") from None
    return network.to_int(np.concatenate(batches))


if __name__ == "__main__":
    sys.exit(cli.run(main))
