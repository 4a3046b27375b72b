"""A checkpoint of train.py → two frozen SavedModels, G: X → Y and F: Y → X, that need no training code."""

import argparse
import contextlib
import dataclasses
import itertools
import json
import sys
import time
from pathlib import PurePath
from typing import Any

import cli
import shards
import storage
from cli import InputError
from config import PRECISIONS, Config
from storage import AnyPath

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
        "--image_size", metavar="N", type=cli.number(int, 8, multiple=4), help="size that inference.py brings pictures to [as trained]"
    )
    parser.add_argument("--ema", action="store_true", help="export the moving average of the weights (the run was trained with --ema)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="number type of the models' arithmetic; auto: the fastest that this device has [as trained]"
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
    if not args.checkpoint_dir.is_dir() and not index_of(args.checkpoint_dir).is_file():
        raise InputError(f"--checkpoint_dir {args.checkpoint_dir}: no such run folder or checkpoint")
    run = args.checkpoint_dir if args.checkpoint_dir.is_dir() else args.checkpoint_dir.parent
    config = Config.load(run)
    for flag, typed, trained in (("--ngf", args.ngf, config.ngf), ("--norm", args.norm, config.norm)):
        if typed not in (None, trained):
            raise InputError(f"{flag} {typed}: the run was trained with {trained}; leave the flag out")
    if args.ema and not config.ema:
        raise InputError(f"--ema: {run} keeps no moving average; leave the flag out, or train with --ema 0.999")
    outputs = [args.export_dir / o if PurePath(o).name == o else storage.path(o) for o in (args.XtoY_model, args.YtoX_model)]
    for output in outputs:
        if storage.stands(output) and not (output / "saved_model.pb").is_file():
            raise InputError(f"{output}: exists and is no SavedModel; name another, or move it away")
        storage.check_place(output)
    storage.check_apart("--YtoX_model", outputs[1], "--XtoY_model", outputs[0])

    cli.quiet_tensorflow()
    from utils import native_precision

    precision = native_precision() if args.precision == "auto" else args.precision or config.precision
    config = dataclasses.replace(config, precision=precision)
    checkpoint = find_checkpoint(args.checkpoint_dir)
    generators, step = restore_generators(checkpoint, config, args.ema)
    domains = shards.domain(config.X), shards.domain(config.Y)
    metadata = {
        "image_size": args.image_size or config.image_size,
        "generator": "resnet",
        "norm": config.norm,
        "precision": precision,
        "step": step,
    }
    ways = domains, domains[::-1]
    models = [
        (generator, {**metadata, "source": source, "target": target}, output)
        for generator, (source, target), output in zip(generators, ways, outputs, strict=True)
    ]
    for (source, target), output, kept in zip(ways, outputs, export_all(models, args.overwrite, args.xla), strict=True):
        if kept:
            print(f"{output}: the model that stood there is now {kept}")
        print(f"{output}: {source} → {target}, from step {step}")
    return cli.DONE


def index_of(checkpoint: str | AnyPath) -> AnyPath:
    """A checkpoint, with or without .index → the file that ends in that."""
    return storage.path(f"{str(checkpoint).removesuffix('.index')}.index")


def find_checkpoint(path: AnyPath) -> str:
    """Returns the newest checkpoint of a run folder, or the checkpoint that `path` is. Raises `InputError` if there is none."""
    import tensorflow as tf

    if path.is_dir():
        state = tf.train.get_checkpoint_state(str(path))  # tf.train.latest_checkpoint takes [ and * in the path for a pattern
        if state is None or not index_of(state.model_checkpoint_path).is_file():
            raise InputError(f"--checkpoint_dir {path}: no checkpoint in this run yet")
        return state.model_checkpoint_path
    return str(path).removesuffix(".index")


def restore_generators(checkpoint: str, config: Config, ema: bool) -> tuple[tuple, int]:
    """Builds G and F and restores them, or their moving averages, alone. Raises `InputError` if the checkpoint does not fit."""
    import tensorflow as tf

    from model import build_generator

    G, F = build_generator(config, "G"), build_generator(config, "F")
    model = tf.Module()
    model.step = tf.Variable(0, dtype=tf.int64)
    if ema:
        model.G_ema, model.F_ema = G, F
    else:
        model.G, model.F = G, F
    try:
        status = tf.train.Checkpoint(model=model).read(checkpoint)
        status.assert_existing_objects_matched().expect_partial()  # the rest is the discriminators, optimizers and pools
    except (AssertionError, ValueError, tf.errors.OpError):
        raise InputError(f"{checkpoint}: damaged, or does not fit the settings in config.json beside it") from None
    return (G, F), int(model.step)


def export(generator, metadata: dict, output: AnyPath, overwrite: bool = False) -> AnyPath | None:
    """Writes a generator as a frozen SavedModel, after loading it again and finding that it gives the generator's own pictures.

    `metadata` holds image_size, source and target at least. A model at `output` is replaced, or moved to the path that is returned.
    """
    return export_all([(generator, metadata, output)], overwrite)[0]


def export_all(models: list[tuple[Any, dict, AnyPath]], overwrite: bool = False, xla: bool = False) -> list[AnyPath | None]:
    """`export`s several models: all are finished before one takes its name. `xla`: they compile themselves."""
    import tensorflow as tf

    with contextlib.ExitStack() as stack:
        for generator, metadata, output in models:
            folder = stack.enter_context(storage.whole(output))
            module = tf.Module()
            module.functions = signatures(generator, {"format_version": FORMAT_VERSION, **metadata}, xla)
            tf.saved_model.save(module, str(folder), module.functions)
            check(folder, generator)
        aside = [set_aside(output) if output.exists() else None for *_, output in models]
    if not overwrite:
        return aside
    for old in filter(None, aside):
        storage.remove(old)
    return [None] * len(models)


def signatures(generator, metadata: dict, xla: bool = False) -> dict:
    """What an exported model can be asked: its signatures, by name. The weights are constants, stored once for all of them."""
    import tensorflow as tf

    from utils import convert2float, convert2int

    frozen = freeze(generator)

    @tf.function(jit_compile=xla or None)
    def generate(pictures):
        height, width = tf.shape(pictures)[1], tf.shape(pictures)[2]
        padded = pad(pad(pictures, 1), 2)
        return convert2int(frozen(convert2float(padded)))[:, :height, :width]

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, "input_image")])
    def translate(input_image):
        """uint8 (B, H, W, 3), any height and width → the same, translated."""
        return {"output_image": tf.ensure_shape(generate(input_image), (None, None, None, 3))}

    def translate_one(encoded):
        picture = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.io.encode_png(generate(picture[tf.newaxis])[0])

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, "encoded_image")])
    def translate_encoded(encoded_image):
        """Picture files, JPEG, PNG, BMP or GIF, whose sizes may differ → PNG files."""
        return {"encoded_output": tf.map_fn(translate_one, encoded_image, fn_output_signature=tf.string)}

    @tf.function(input_signature=[])
    def describe():
        """JSON: image_size, source, target, generator, format_version, …"""
        return {"metadata": tf.constant(json.dumps(metadata))}

    return {"serving_default": translate, "translate_encoded": translate_encoded, "metadata": describe}


def freeze(generator):
    """Returns the generator as a function of float (B, H, W, 3) whose weights are constants and which has no gradients of our own."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    spec = tf.TensorSpec((None, None, None, 3), tf.float32)
    frozen = convert_variables_to_constants_v2(tf.function(lambda x: generator(x, training=False)).get_concrete_function(spec))
    graph = frozen.graph.as_graph_def()
    for node in itertools.chain(graph.node, *(function.node_def for function in graph.library.function)):
        node.attr.pop("_gradient_op_type", None)  # they cannot be saved, and who loads the model would be warned
    (x,), (y,) = frozen.inputs, frozen.outputs
    return tf.compat.v1.wrap_function(lambda picture: tf.graph_util.import_graph_def(graph, {x.name: picture}, [y.name])[0], [spec])


def pad(pictures, axis: int):
    """Pads an axis at its end to a multiple of 4, at least 8: mirrored, or the edge repeated where there is too little to mirror."""
    import tensorflow as tf

    size = tf.shape(pictures)[axis]
    padded = tf.maximum((size + 3) // 4 * 4, 8)
    index = tf.range(padded)
    mirrored = 2 * (size - 1) - index
    beyond = tf.where(padded - size < size, mirrored, size - 1)
    return tf.gather(pictures, tf.where(index < size, index, beyond), axis=axis)


def check(folder: AnyPath, generator) -> None:
    """Raises `RuntimeError` unless the model in `folder` translates a random picture as `generator` does."""
    import numpy as np

    import translator
    from utils import convert2float, convert2int

    picture = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    expected = convert2int(generator(convert2float(picture), training=False)).numpy()
    difference = np.abs(translator.load(folder)(picture).astype(int) - expected.astype(int))
    # Rounding may differ by one level; in 16 bits, layer by layer, it adds up.
    sixteen_bits = "16" in generator.layers[1].compute_dtype
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
