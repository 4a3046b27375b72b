"""What train.py does beside its steps: waiting for data, logging, pictures, checkpoints; each timed in a run, printed as JSON."""

import contextlib
import json
import statistics
import sys
import time

import subjects  # first: it makes the project importable
import train
from system import devices

BUILDING = 2  # the first calls of each build graphs


def main() -> None:
    args = subjects.parse()
    devices.share_threads()
    devices.quiet_tensorflow()
    import reader
    from training import journal, loop

    spent: dict[str, list[float]] = {name: [] for name in ("step", "wait", "log", "sample", "pictures", "save")}

    def timed(name, function):
        def call(*args, **kwargs):
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[name].append(time.perf_counter() - began)

        return call

    def feed_pairs(*args, feed=reader.feed_pairs):
        pairs = feed(*args)
        while True:
            yield fetch(pairs)

    def build_model(*args, build=train.build_model):
        model = build(*args)
        model.train_step, model.sample = timed("step", model.train_step), timed("sample", model.sample)
        return model

    fetch = timed("wait", next)
    reader.feed_pairs, train.build_model = feed_pairs, build_model
    for name in ("log", "pictures", "save"):
        setattr(journal.Journal, name, timed(name, getattr(journal.Journal, name)))

    with subjects.records(args) as file:
        flags = {"X": file, "Y": file, "image_size": args.size, "ngf": args.ngf, "n_res_blocks": args.blocks, "precision": args.precision}
        often, seldom = max(1, args.steps // 20), max(1, args.steps // 8)
        flags |= {"checkpoints_dir": file.parent, "max_steps": args.steps}
        flags |= {"log_every": often, "image_every": seldom, "save_every": seldom}
        with contextlib.redirect_stdout(sys.stderr):
            train.main([word for name, value in flags.items() for word in (f"--{name}", str(value))])

    once = {name: statistics.median(times[BUILDING:]) for name, times in spent.items()}
    step = once["step"]
    beside = {"log": once["log"] / min(loop.LOG_SECONDS, 100 * step), "save": once["save"] / min(loop.SAVE_SECONDS, 1000 * step)}
    beside["pictures"] = (once["sample"] + once["pictures"]) / min(loop.IMAGE_SECONDS, 500 * step)
    print(json.dumps({"step": step, "wait": statistics.mean(spent["wait"][BUILDING:]) / step, "overhead": sum(beside.values())}))


if __name__ == "__main__":
    main()
