"""Trains a CycleGAN, or pix2pix, on two TFRecord files (or sets of shards), or continues a run that was stopped (--load_model)."""

import argparse
import contextlib
import itertools
import json
import os
import sys
from collections.abc import Iterator

from pictures.fingerprints import joined
from quality import features, held_out
from system import cli, devices, storage
from system.cli import InputError
from system.storage import AnyPath
from training import run_folder
from training.config import ARCHITECTURE, MODELS, RECIPES, Config, add_arguments, training_length


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--load_model", metavar="RUN", help="continue this run: a name in --checkpoints_dir or a path; its settings hold")
    add("--checkpoints_dir", metavar="DIR", type=storage.path, default="checkpoints", help="where run folders are made")
    add("--run_name", metavar="NAME", help="name of the run folder [the time, YYYYmmdd-HHMM]")
    add("--recipe", choices=RECIPES, help="settings that belong together, which flags beside it override; chapter: the book chapter's own")
    strategy = "train on one device, on all GPUs of this machine, or with the other workers that TF_CONFIG names; auto: what there is"
    add("--strategy", choices=devices.STRATEGIES, default="auto", help=strategy)
    add("--trust_model", action="store_true", help="load --features whatever operations it is made of, those that read and write files too")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    devices.share_threads()  # first: to find a run on remote storage takes TensorFlow
    typed = {k: v for k, v in vars(args).items() if k in Config.__dataclass_fields__}
    settings = RECIPES.get(args.recipe, {}) | typed
    run = None
    model = settings.get("model", Config.model)
    if args.recipe and model != "cyclegan":
        raise InputError(f"--recipe {args.recipe}: is for --model cyclegan; leave it out, or leave --model {model} out")
    if args.load_model is None:
        settings = MODELS[model] | settings
        Config(**settings).check_typed(typed)  # before TensorFlow is loaded, which takes a while
    elif args.run_name is not None:
        raise InputError(f"--run_name {args.run_name}: a run that continues keeps its folder; leave out --run_name or --load_model")
    else:
        run = run_folder.find_run(args.load_model, args.checkpoints_dir)

    devices.quiet_tensorflow(lambda: None)
    from system.workers import connect

    workers = connect(args.strategy)
    if settings.get("precision", None if run else Config.precision) == "auto":
        settings["precision"] = devices.native_precision()  # which the run then keeps, on whatever device it is continued
    if run is not None:
        return resume(workers, run, settings, args.trust_model)
    if "init_from" in settings:
        from training import checkpoints

        with workers.all_or_none():
            source = run_folder.find_weights(settings["init_from"], args.checkpoints_dir)
            settings = with_architecture(settings, checkpoints.find("--init_from", source))
    return start(workers, args.checkpoints_dir, args.run_name, Config(**settings), args.trust_model)


def with_architecture(settings: dict, checkpoint: str) -> dict:
    """Settings of a new run → the same, with that checkpoint's architecture. Raises `InputError` for those that contradict it."""
    theirs = Config.load(storage.path(checkpoint).parent)
    networks = {name: getattr(theirs, name) for name in ARCHITECTURE}
    wrong = [f"--{k} {settings[k]} (it has {v})" for k, v in networks.items() if settings.get(k, v) != v]
    if wrong:
        raise InputError(f"{', '.join(wrong)}: --init_from {settings['init_from']} has networks of another architecture; leave out")
    return settings | networks | {"init_from": checkpoint}


def start(workers, checkpoints_dir: AnyPath, name: str | None, config: Config, trust: bool) -> int:
    """Begins a run. Its folder appears when everything else has been found in order."""
    with contextlib.ExitStack() as until_the_end:
        with workers.all_or_none():
            if workers.is_chief:
                if name is not None:
                    run_folder.check_run_name(name, checkpoints_dir)
                storage.check_place(checkpoints_dir / (name or "RUN"))
            readers = open_data(workers, config)
            tests = open_tests(workers, config, trust)
        model = build_model(workers, config, readers)
        run, data = None, fingerprints(workers, *readers)
        with workers.all_or_none():
            if workers.is_chief:
                run = run_folder.new_run(checkpoints_dir, name, config, data)
                until_the_end.enter_context(run_folder.locked(run))
        return train(workers, model, readers, run, tests)


def resume(workers, run: AnyPath, settings: dict, trust: bool) -> int:
    """Continues a run with some settings changed. Raises `InputError` with all that contradicts it."""
    with contextlib.ExitStack() as until_the_end:
        with workers.all_or_none():
            if workers.is_chief:
                until_the_end.enter_context(run_folder.locked(run))
            before = Config.load(run)
            run_folder.check_checkpoints(run)
            if before.init_from and run_folder.may_mean(settings.get("init_from", ""), before.init_from, run.parent):
                settings = settings | {"init_from": before.init_from}  # the same command twice
            config, wrong = before.changed(settings)
            config.check_typed(settings)
            readers = open_data(workers, config)
            wrong += run_folder.data_contradictions(run, *readers)
            if wrong:
                raise InputError(f"{', '.join(wrong)}: cannot change when a run continues; leave out, or start a new run")
            tests = open_tests(workers, config, trust)
        model = build_model(workers, config, readers, begun=any(run.glob("*.index")))  # is there a checkpoint yet?
        return train(workers, model, readers, run, tests, changed=before.differences(config))


def open_data(workers, config: Config) -> list:
    """Returns the readers of X and Y, and of pairs beside them if there are any, checked.

    They read this worker's rows of each batch; with `shard_data`, this worker's shards.
    """
    from reader import Reader, match

    n = workers.strategy.num_replicas_in_sync
    if n > 1 and (config.xla or config.precision == "float16"):
        flag, remedy = ("--xla", "leave it out") if config.xla else ("--precision float16", "use bfloat16")
        raise InputError(f"{flag}: is for one replica, and here are {n}; {remedy}, or add --strategy one")
    first, count = workers.rows(config.batch_size)
    part = {"share": (workers.index, workers.count)} if config.shard_data else {"rows": (first, count)}
    sizes = config.image_size, config.load_size, count if config.shard_data else config.batch_size
    more = {"seed": config.seed, "skip_bad_records": config.skip_bad_records, "decoder": config.decoder, **part}
    sets = [(("X", "Y"), config.paired)] + [(("X_paired", "Y_paired"), True)] * (config.X_paired is not None)
    readers = [Reader(getattr(config, name), *sizes, name, paired=paired, **more) for names, paired in sets for name in names]
    for X, Y in zip(readers[::2], readers[1::2], strict=True):
        if X.paired:
            match(X, Y)
    return readers


def open_tests(workers, config: Config, trust: bool):
    """Returns the test pictures that the chief measures on, if it is to. Raises `InputError` for what cannot be read."""
    if config.eval_every is None or not workers.is_chief:
        return None
    network = None
    if config.features != "none" and (config.features or not config.paired):
        network = features.load(storage.path(config.features), trust) if config.features else features.inception()
    kind = held_out.TestPairs if config.paired else held_out.TestPictures
    return kind(storage.path(config.X_test), storage.path(config.Y_test), config.image_size, network)


def fingerprints(workers, *readers) -> dict[str, dict]:
    """What the data is known by, for each domain. Of shards that are another worker's, that one's word is taken."""
    if not readers[0].share:
        return {reader.name: reader.fingerprint for reader in readers}
    own = {reader.name: [shard.fingerprint for shard in reader.shards] for reader in readers}
    of_all = [json.loads(text) for text in workers.exchange(json.dumps(own))]
    turns = {name: itertools.zip_longest(*(shares[name] for shares in of_all)) for name in own}
    return {name: joined([part for turn in turns[name] for part in turn if part]) for name in own}


def build_model(workers, config: Config, readers: list, begun: bool = False):
    """Returns a new model, with the weights of `init_from` if there is that, and no checkpoint yet of a run that has `begun`."""
    import keras

    from model import CycleGAN
    from pix2pix import Pix2Pix
    from training.checkpoints import initialise

    workers.check_alike("settings", repr(config))
    if config.shard_data:
        for reader in readers:
            reader.total = workers.add_up(len(reader))
    else:
        workers.check_alike("data", repr([reader.fingerprint for reader in readers]))
    keras.utils.set_random_seed(config.seed)
    with workers.strategy.scope():
        kinds = {"cyclegan": CycleGAN, "pix2pix": Pix2Pix}
        model = kinds[config.model](config, *training_length(config, max(reader.total for reader in readers[:2])))
    if config.init_from and not begun:
        with workers.all_or_none(), workers.strategy.scope():
            initialise(model, config.init_from)
    return model


def train(workers, model, readers: list, run: AnyPath | None, tests=None, changed: dict | None = None) -> int:
    """Hands a run to the loop. Returns the exit status."""
    from reader import feed_pairs
    from training import loop

    def left_out() -> dict[str, str]:
        return {f"{r.name} {record}": f"{r.describe({record: what})}; left out" for r in readers for record, what in r.bad.items()}

    def batches(step: int) -> Iterator[tuple]:
        domains = [feed_pairs(X, Y, step) for X, Y in zip(readers[::2], readers[1::2], strict=True)]
        return (tuple(itertools.chain(*batch)) for batch in zip(*domains, strict=True))

    data = loop.Data(batches, (readers[0].total, readers[1].total), left_out)
    return loop.run(model, data, workers, run, tests, changed)


if __name__ == "__main__":
    status = cli.run(main)
    if "TF_CONFIG" not in os.environ:  # workers say goodbye to one another
        os._exit(status)  # all is written and closed, and TensorFlow would take seconds to take its graphs to pieces
    sys.exit(status)
