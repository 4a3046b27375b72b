"""A checkpoint of train.py → two frozen models, G: X → Y and F: Y → X, that need no training code: SavedModels, ONNX or TensorFlow Lite."""

import argparse
import contextlib
import dataclasses
import functools
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from formats import model_files
from pictures import shards
from system import cli, devices, storage
from system.cli import InputError
from system.storage import AnyPath
from training import run_folder
from training.config import PRECISIONS, BooleanFlag, Config

FORMAT_VERSION = 1


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--checkpoint_dir", metavar="PATH", type=storage.path, required=True, help="a run folder (newest checkpoint), or a checkpoint"
    )
    parser.add_argument("--XtoY_model", metavar="NAME", default="apple2orange.pb", help="model of G to write: a name or a path")
    parser.add_argument("--YtoX_model", metavar="NAME", default="orange2apple.pb", help="model of F to write: a name or a path")
    parser.add_argument("--export_dir", metavar="DIR", type=storage.path, default="pretrained", help="where a bare name lands")
    parser.add_argument(
        "--format", choices=model_files.SUFFIXES, default="saved_model", help="what to write; a name's suffix becomes the format's own"
    )
    parser.add_argument(
        "--quantize", choices=("float16", "int8"), help="weights of half the size, of saved_model and tflite; of a quarter, of tflite"
    )
    parser.add_argument(
        "--pictures", metavar="DIR", type=storage.path, help="pictures that onnx and tflite models are checked with [the run's records]"
    )
    parser.add_argument(
        "--image_size", metavar="N", type=cli.number(int, 8, multiple=4), help="size that inference.py brings pictures to [as trained]"
    )
    parser.add_argument(
        "--best", action="store_true", help="export the checkpoint that was best on test pictures (the run was trained with --eval_every)"
    )
    parser.add_argument(
        "--ema", action=BooleanFlag, help="export the moving average of the weights [if the run keeps one]; --noema: the weights themselves"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="number type of the models' arithmetic; 16 bits are slow where the processor lacks them; auto: the fastest of this device",
    )
    parser.add_argument(
        "--xla",
        action="store_true",
        help="the models compile themselves with XLA, anew for each size of picture: for GPUs, and many pictures",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace models that exist, instead of moving them aside")
    parser.add_argument("--ngf", type=int, metavar="N", help="not needed; must agree with the run's config.json")
    parser.add_argument("--norm", metavar="NORM", help="not needed; must agree with the run's config.json")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    check_format(args)
    if not args.checkpoint_dir.is_dir() and not run_folder.index_of(args.checkpoint_dir).is_file():
        raise InputError(f"--checkpoint_dir {args.checkpoint_dir}: no such run folder or checkpoint")
    run = args.checkpoint_dir if args.checkpoint_dir.is_dir() else args.checkpoint_dir.parent
    config = Config.load(run)
    for flag, typed, trained in (("--ngf", args.ngf, config.ngf), ("--norm", args.norm, config.norm)):
        if typed not in (None, trained):
            raise InputError(f"{flag} {typed}: the run was trained with {trained}; leave the flag out")
    if args.ema and not config.ema:
        raise InputError(f"--ema: {run} keeps no moving average; leave the flag out, or train with --ema 0.999")
    ema = bool(config.ema) if args.ema is None else args.ema
    names = [named(name, args.format) for name in (args.XtoY_model, args.YtoX_model)]
    outputs = [args.export_dir / o if PurePath(o).name == o else storage.path(o) for o in names]
    for output in outputs:
        check_output(output, args.format)
    storage.check_apart("--YtoX_model", outputs[1], "--XtoY_model", outputs[0])

    devices.quiet_tensorflow()
    from system.devices import native_precision

    precision = native_precision() if args.precision == "auto" else args.precision
    config = dataclasses.replace(config, precision=precision)
    checkpoint = find_best(args.checkpoint_dir) if args.best else run_folder.find_checkpoint("--checkpoint_dir", args.checkpoint_dir)
    generators, step = restore_generators(checkpoint, config, ema)
    domains = shards.domain(config.X), shards.domain(config.Y)
    metadata = {
        "image_size": args.image_size or config.image_size,
        "generator": "resnet",
        "norm": config.norm,
        "ngf": config.ngf,
        "precision": precision,
        "ema": ema,
        **({"quantize": args.quantize} if args.quantize else {}),
        "step": step,
    }
    ways = domains, domains[::-1]
    models = [
        (generator, {**metadata, "source": source, "target": target}, output)
        for generator, (source, target), output in zip(generators, ways, outputs, strict=True)
    ]
    write, found = functools.partial(save_and_check, xla=args.xla), [""] * len(models)
    if args.format != "saved_model":
        from formats import onnx

        pictures, found = onnx.check_pictures(args.pictures, config, metadata["image_size"]), []

        def write(generator, metadata: dict, file: AnyPath) -> None:
            found.append(f"; {onnx.write(generator, metadata, file, args.format, args.quantize, pictures)}")

    for (source, target), output, kept, words in zip(ways, outputs, export_all(models, args.overwrite, write), found, strict=True):
        if kept:
            print(f"{output}: the model that stood there is now {kept}")
        print(f"{output}: {source} → {target}, from step {step}{words}")
    return cli.DONE


def check_output(model: AnyPath, format: str = "saved_model") -> None:
    """Raises `InputError` unless a model can be written there, in the place of another one maybe."""
    if storage.stands(model) and model_files.kind(model) != format:
        raise InputError(f"{model}: exists and is no {model_files.NAMES[format]}; name another, or move it away")
    storage.check_place(model)


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


def named(name: str, format: str) -> str:
    """A model's name as typed → the same with the format's suffix. A SavedModel has the one that was typed."""
    suffix, name = model_files.SUFFIXES[format], name.rstrip("/")
    if format == "saved_model" or name.lower().endswith(suffix):
        return name
    others = [other for other in model_files.SUFFIXES.values() if name.lower().endswith(other)]
    return (name[: -len(others[0])] if others else name) + suffix


def find_best(run: AnyPath) -> str:
    """Returns the checkpoint of a run folder that was the best on test pictures. Raises `InputError` if there is none."""
    if not run.is_dir():
        raise InputError(f"--best --checkpoint_dir {run}: is a checkpoint; name its run folder, or leave out --best")
    best = run_folder.evaluation(run).get("best")
    checkpoint = run / f"model.ckpt-{best['step']}" if best else None
    if checkpoint is None or not run_folder.index_of(checkpoint).is_file():
        raise InputError(f"--best: {run} has not been measured; train it with --eval_every, or leave out --best")
    return str(checkpoint)


def restore_generators(checkpoint: str, config: Config, ema: bool) -> tuple[tuple, int]:
    """Builds G and F and restores them, or their moving averages, alone. Raises `InputError` if the checkpoint does not fit."""
    import tensorflow as tf

    from model import build_generator
    from training.checkpoints import read_parts

    G, F, step = build_generator(config, "G"), build_generator(config, "F"), tf.Variable(0, dtype=tf.int64)
    read_parts(checkpoint, step=step, **({"G_ema": G, "F_ema": F} if ema else {"G": G, "F": F}))
    return (G, F), int(step)


def export(generator, metadata: dict, output: AnyPath, overwrite: bool = False) -> AnyPath | None:
    """Writes a generator as a frozen SavedModel, after loading it again and finding that it gives the generator's own pictures.

    `metadata` holds image_size, source and target at least. A model at `output` is replaced, or moved to the path that is returned.
    """
    return export_all([(generator, metadata, output)], overwrite)[0]


def export_all(
    models: list[tuple[Any, dict, AnyPath]], overwrite: bool = False, write: Callable[[Any, dict, AnyPath], None] | None = None
) -> list[AnyPath | None]:
    """`export`s several models: all are finished before one takes its name. `write` is given a generator, its metadata and a file."""
    with contextlib.ExitStack() as stack:
        for generator, metadata, output in models:
            file = stack.enter_context(storage.whole(output))
            (write or save_and_check)(generator, {"format_version": FORMAT_VERSION, **metadata}, file)
        aside = [set_aside(output) if output.exists() else None for *_, output in models]
    if not overwrite:
        return aside
    for old in filter(None, aside):
        storage.remove(old)
    return [None] * len(models)


def save_and_check(generator, metadata: dict, folder: AnyPath, xla: bool = False) -> None:
    """Writes a SavedModel, and loads it again. `xla`: it compiles itself."""
    import tensorflow as tf

    module = tf.Module()
    module.functions = signatures(generator, metadata, xla)
    tf.saved_model.save(module, str(folder), module.functions)
    check(folder, generator, close="quantize" in metadata)


def signatures(generator, metadata: dict, xla: bool = False) -> dict:
    """What an exported model can be asked: its signatures, by name. The weights are constants, stored once for all of them."""
    import tensorflow as tf

    from ops import InstanceNormalization, exporting
    from utils import convert2float, convert2int

    pictures_of_any_size = tf.TensorSpec((None, None, None, 3), tf.uint8, "input_image")

    kept_as = "float16" if metadata.get("quantize") else "float32"
    values = [[w.numpy().astype(kept_as) for w in some] for some in (generator.trainable_variables, generator.non_trainable_variables)]

    @tf.function(input_signature=[])
    def weights():
        return tf.nest.map_structure(lambda value: tf.cast(tf.constant(value), tf.float32), values)

    def network(pictures, norm=None):
        with exporting(norm):
            return generator.stateless_call(*weights(), convert2float(pictures), training=False)[0]

    @tf.function(jit_compile=xla or None, autograph=False)
    def generate(pictures, norm=None):
        height, width = tf.shape(pictures)[1], tf.shape(pictures)[2]
        return convert2int(network(pad(pad(pictures, 1), 2), norm))[:, :height, :width]

    @tf.function(input_signature=[pictures_of_any_size], autograph=False)
    def translate(input_image):
        """uint8 (B, H, W, 3), any height and width → the same, translated."""
        return {"output_image": tf.ensure_shape(generate(input_image), (None, None, None, 3))}

    def translate_one(encoded):
        picture = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.io.encode_png(generate(picture[tf.newaxis])[0])

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "image_bytes")])
    def translate_encoded(image_bytes):
        """Picture files, JPEG, PNG, BMP or GIF, whose sizes may differ → PNG files."""
        return {"output_bytes": tf.map_fn(translate_one, image_bytes, fn_output_signature=tf.string)}

    @tf.function(input_signature=[pictures_of_any_size], autograph=False)
    def statistics(input_image):
        """Parts of one picture → the means and variances that all of them together give its normalisations, float (2, channels)."""
        taken = []

        def norm(layer, x):
            taken.append(layer.statistics(x, (0, 1, 2)))
            return layer.normalize(x, *taken[-1])

        network(pad(pad(input_image, 1), 2), norm)
        return {"statistics": tf.concat([tf.reshape(tf.stack(both), (2, -1)) for both in taken], axis=1)}

    @tf.function(input_signature=[pictures_of_any_size, tf.TensorSpec((2, None), tf.float32, "statistics")], autograph=False)
    def translate_part(input_image, statistics):
        """A part of a picture whose `statistics` these are → the same part, translated as in the whole."""
        left = statistics

        def norm(layer, x):
            nonlocal left
            mean, variance = tf.unstack(left[:, : x.shape[-1]])
            left = left[:, x.shape[-1] :]
            return layer.normalize(x, mean, variance)

        return {"output_image": tf.ensure_shape(generate(input_image, norm), (None, None, None, 3))}

    @tf.function(input_signature=[])
    def describe():
        """JSON: image_size, source, target, generator, format_version, …"""
        return {"metadata": tf.constant(json.dumps(metadata))}

    own_norm = any(isinstance(layer, InstanceNormalization) for layer in generator.layers)
    parts = {"statistics": statistics, "translate_part": translate_part} if own_norm else {}
    return {"serving_default": translate, "translate_encoded": translate_encoded, "metadata": describe, **parts}


def pad(pictures, axis: int):
    """Pads an axis at its end to a multiple of 4, at least 8: mirrored, or the edge repeated where there is too little to mirror."""
    import tensorflow as tf

    size = tf.shape(pictures)[axis]
    padded = tf.maximum((size + 3) // 4 * 4, 8)
    index = tf.range(padded)
    mirrored = 2 * (size - 1) - index
    beyond = tf.where(padded - size < size, mirrored, size - 1)
    return tf.gather(pictures, tf.where(index < size, index, beyond), axis=axis)


def check(folder: AnyPath, generator, close: bool = False) -> None:
    """Raises `RuntimeError` unless the model in `folder` translates a random picture as `generator` does, or nearly so."""
    import numpy as np

    from formats import translator
    from utils import convert2float, convert2int

    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    expected = convert2int(generator(convert2float(picture), training=False)).numpy()
    difference = np.abs(translator.load(folder)(picture).astype(int) - expected.astype(int))
    # Rounding may differ by one level; in 16 bits, layer by layer, it adds up.
    sixteen_bits = close or "16" in generator.layers[1].compute_dtype
    if difference.max() > 1 and not (sixteen_bits and difference.mean() < 2.5):
        raise RuntimeError(f"the exported model differs from the checkpoint by up to {difference.max()} of 255")


def set_aside(model: AnyPath) -> AnyPath:
    """Renames a model to one with the time in its name, and returns that."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (model.with_name(f"{model.stem}-{stamp}{suffix}{model.suffix}") for suffix in ("", *(f"-{n}" for n in range(2, 100))))
    aside = next(name for name in names if not name.exists())
    storage.replace(model, aside)
    return aside


if __name__ == "__main__":
    sys.exit(cli.run(main))
