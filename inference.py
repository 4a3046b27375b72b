"""Translates a picture, or a folder of pictures, with a model made by export_graph.py."""

import argparse
import os
import sys
import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import cli
import images
from cli import InputError


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", metavar="MODEL", type=Path, required=True, help="a SavedModel, pretrained/apple2orange.pb say")
    parser.add_argument("--input", metavar="PATH", type=Path, required=True, help="a picture, or a folder of pictures")
    parser.add_argument("--output", metavar="PATH", type=Path, required=True, help="the picture to write (.png or .jpg), or the folder")
    parser.add_argument(
        "--image_size", metavar="N", type=cli.number(int, 8, 10_000), help="translate at N×N [short side to the model's size, aspect kept]"
    )
    parser.add_argument("--format", choices=("png", "jpg"), default="png", help="format of the pictures in an output folder")
    parser.add_argument("--overwrite", action="store_true", help="replace output pictures that exist")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    jobs = plan(args.input, args.output, args.format, args.overwrite)

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
    print(f"{args.output}: {done} of {len(jobs)} translated on {device_name()} in {time.monotonic() - began:.1f} s")
    return cli.PARTIAL if unreadable else cli.DONE


def plan(source: Path, output: Path, format: str, overwrite: bool) -> dict[Path, Path]:
    """Returns {picture: output file}. Raises `InputError` for what can be known to fail."""
    if source.is_dir():
        if output.exists() and not output.is_dir():
            raise InputError(f"--output {output}: is a file, but --input is a folder; name a folder")
        jobs = {file: (output / file.relative_to(source)).with_suffix(f".{format}") for file in images.find(source)}
        twice = [str(file) for file, n in Counter(jobs.values()).items() if n > 1]
        if twice:
            raise InputError(f"--input {source}: several pictures would become {name_first(twice)}; rename them")
    elif not source.exists():
        raise InputError(f"--input {source}: no such picture or folder")
    else:
        if output.is_dir():
            output = output / f"{source.stem}.{format}"
        if output.suffix.lower() not in images.OUTPUT_SUFFIXES:
            raise InputError(f"--output {output}: write to one of {' '.join(images.OUTPUT_SUFFIXES)}")
        jobs = {source: output}
    for file in jobs.values():
        cli.check_output("--output", file, overwrite=True)
    existing = [str(file) for file in jobs.values() if os.path.lexists(file)]
    if existing and not overwrite:
        raise InputError(f"--output {name_first(existing)}: exists; --overwrite replaces it")
    return jobs


def name_first(files: list[str]) -> str:
    return files[0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")


def run(translate, jobs: dict[Path, Path], image_size: int | None) -> list[str]:
    """Translates every picture; reading ahead and writing behind overlap with the model. Returns what could not be read, and why."""
    unreadable, writing = [], deque()
    progress = cli.Progress(len(jobs), "pictures")

    def prepare(file: Path) -> np.ndarray | images.PictureError:
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
