"""Translates a picture, or a folder of pictures, with a model made by export_graph.py."""

import argparse
import itertools
import re
import sys
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import cli
import images
import storage
from cli import InputError
from storage import AnyPath


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", metavar="MODEL", type=storage.path, required=True, help="a SavedModel, pretrained/apple2orange.pb say")
    parser.add_argument("--input", metavar="PATH", type=storage.path, required=True, help="a picture, or a folder of pictures")
    parser.add_argument(
        "--output", metavar="PATH", type=storage.path, required=True, help="the picture to write (.png or .jpg), or the folder"
    )
    parser.add_argument(
        "--image_size", metavar="N", type=cli.number(int, 8, 10_000), help="translate at N×N [short side to the model's size, aspect kept]"
    )
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="format of the pictures in an output folder")
    parser.add_argument("--overwrite", action="store_true", help="replace output pictures that exist")
    parser.add_argument("--resume", action="store_true", help="leave output pictures that exist as they are, and make the others")
    parser.add_argument(
        "--shard", metavar="I/N", type=share, help="translate every N-th picture of a folder, from the I-th on (counted from 0) [all]"
    )
    return parser.parse_args(argv)


def share(text: str) -> tuple[int, int]:
    """Parses "i/n"."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no share: give I/N, 0/4 for the first of four, say")
    i, n = int(found[1]), int(found[2])
    if i >= n:
        raise argparse.ArgumentTypeError(f"{text} is out of range: " + (f"use 0/{n} to {n - 1}/{n}" if n else "N is at least 1"))
    return i, n


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.resume and args.overwrite:
        raise InputError("--resume --overwrite: one keeps the pictures that exist, the other replaces them; leave one out")
    if args.resume or args.shard:
        check_outside(args.input, args.output)
    jobs = plan(args.input, args.output, args.format, args.overwrite or args.resume, args.shard)
    count = len(jobs)
    if args.resume:  # a picture gets its name when it is whole: what is there is done
        jobs = {source: output for source, output in jobs.items() if not storage.stands(output)}

    cli.quiet_tensorflow()
    import translator
    from utils import device_name

    translate = translator.load(args.model)
    began = time.monotonic()
    unreadable = run(translate, jobs, args.image_size)
    if unreadable and not args.input.is_dir():
        raise InputError(unreadable[0])
    for line in unreadable:
        print(f"left out: {' '.join(line.split())}", file=sys.stderr)
    done = len(jobs) - len(unreadable)
    there = f", {count - len(jobs)} were there" if args.resume else ""
    print(f"{args.output}: {done} of {count} translated on {device_name()} in {time.monotonic() - began:.1f} s{there}")
    return cli.PARTIAL if unreadable else cli.DONE


def check_outside(source: AnyPath, output: AnyPath) -> None:
    """Raises `InputError` if a folder's translations would be taken for pictures of it by the next process."""
    if source.is_dir() and storage.real(output).is_relative_to(storage.real(source)):
        raise InputError(f"--output {output}: in --input {source}, where --resume and --shard would find translations; name another folder")


def plan(source: AnyPath, output: AnyPath, format: str, may_exist: bool, share: tuple[int, int] | None = None) -> dict[AnyPath, AnyPath]:
    """Returns {picture: output file} of a share of the pictures, or of all. Raises `InputError` for what can be known to fail."""
    if source.is_dir():
        if output.exists() and not output.is_dir():
            raise InputError(f"--output {output}: is a file, but --input is a folder; name a folder")
        jobs = {file: (output / file.relative_to(source).as_posix()).with_suffix(f".{format}") for file in images.find(source)}
        twice = [str(file) for file, n in Counter(jobs.values()).items() if n > 1]
        if twice:
            raise InputError(f"--input {source}: several pictures would become {name_first(twice)}; rename them")
        if share:
            jobs = dict(itertools.islice(jobs.items(), share[0], None, share[1]))
    elif not source.exists():
        raise InputError(f"--input {source}: no such picture or folder")
    elif share:
        raise InputError(f"--shard {share[0]}/{share[1]}: --input {source} is a single picture; leave out --shard, or name a folder")
    else:
        if output.is_dir():
            output = output / f"{source.stem}.{format}"
        if output.suffix.lower() not in images.OUTPUT_SUFFIXES:
            raise InputError(f"--output {output}: write to one of {' '.join(images.OUTPUT_SUFFIXES)}")
        jobs = {source: output}
    for file in jobs.values():
        storage.check_output("--output", file, overwrite=True)
    existing = [str(file) for file in jobs.values() if storage.stands(file)]
    if existing and not may_exist:
        raise InputError(f"--output {name_first(existing)}: exists; --overwrite replaces it, --resume leaves it")
    return jobs


def name_first(files: list[str]) -> str:
    return files[0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def run(translate, jobs: dict[AnyPath, AnyPath], image_size: int | None) -> list[str]:
    """Translates every picture; reading ahead and writing behind overlap with the model. Returns what could not be read, and why."""
    unreadable, writing = [], deque()
    progress = cli.Progress(len(jobs), "pictures")

    def prepare(file: AnyPath) -> np.ndarray | images.PictureError:
        try:
            picture = images.read(file)
        except images.PictureError as e:
            return e
        if image_size:
            return images.resize(picture, image_size, image_size)
        return images.resize_short_side(picture, translate.image_size)

    with ThreadPoolExecutor(1) as writer:
        for done, (file, picture) in enumerate(cli.in_order(prepare, jobs), 1):
            if isinstance(picture, images.PictureError):
                unreadable.append(str(picture))
            else:
                writing.append(writer.submit(images.write, jobs[file], translate(picture[np.newaxis])[0]))
            if len(writing) > 8:
                writing.popleft().result()
            progress.update(done)
        for written in writing:
            written.result()
    progress.close()
    return unreadable


if __name__ == "__main__":
    sys.exit(cli.run(main))
