"""Translates a picture, a folder of pictures or those that a pattern finds, with a model made by export_graph.py.

"-" as --input is standard input, as --output standard output.
"""

import argparse
import re
import sys
import time
from pathlib import PurePath

from formats import model_files, resuming
from formats.translation import PIPE, Job, Translation
from pictures import images
from system import cli, finding, storage
from system.cli import InputError
from system.storage import AnyPath


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add, formats = parser.add_argument, " ".join(images.FORMATS)
    add("--model", metavar="MODEL", type=storage.path, required=True, help="a model file, pretrained/apple2orange.pb say")
    add("--input", metavar="PATH", required=True, help="a picture, a folder, a pattern in quotes, or -")
    add("--output", metavar="PATH", required=True, help=f"the picture to write ({formats}), the folder for several, or -")
    add("--image_size", type=cli.Number(int, 8, 10_000), help="translate at N×N [see --keep_size]")
    add("--keep_size", action="store_true", help="translate at the picture's own size [short side to the model's size, aspect kept]")
    tile = "go through pictures of more than N×N pixels in overlapping tiles of N×N [as there is memory]"
    add("--tile", type=cli.Number(int, 64, 8192, multiple=4), help=tile)
    add("--max_megapixels", type=cli.Number(int, 1, 10_000), default=100, help="leave larger pictures out, before or after resizing")
    add("--format", choices=("png", "jpg", "webp", "tif"), default="png", help="format of the pictures in an output folder, and of -")
    add("--quality", type=cli.Number(int, 1, 100), help="of JPEG and WebP [JPEG: 95; WebP: without loss]")
    add("--keep_metadata", action="store_true", help="write EXIF, XMP and dots per inch of the input into the output [none of it]")
    add("--trust_model", action="store_true", help="load models whatever operations they are made of, those that read and write files too")
    add("--cycle", metavar="MODEL", type=storage.path, help="translate back with this model, and write that as well")
    add("--side_by_side", action="store_true", help="write input, output and, with --cycle, the way back in one picture")
    add("--gallery", metavar="FILE", type=storage.file_path, help="write a page (.html) of all inputs and outputs to look at")
    add("--overwrite", action="store_true", help="replace output files that exist")
    add("--resume", action="store_true", help="make what is missing, or was made of another input, model or flags; leave the rest")
    add("--shard", metavar="I/N", type=share, help="translate every N-th picture of a folder, from the I-th on (counted from 0) [all]")
    return parser.parse_args(argv)


def share(text: str) -> tuple[int, int]:
    """Parses "i/n"."""
    if not (found := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no share: give I/N, 0/4 for the first of four, say")
    i, n = map(int, found.groups())
    if i >= n:
        raise argparse.ArgumentTypeError(f"{text} is out of range: " + (f"use 0/{n} to {n - 1}/{n}" if n else "N is at least 1"))
    return i, n


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.resume and args.overwrite:
        raise InputError("--resume --overwrite: one keeps the pictures that exist, the other replaces them; leave one out")
    if args.image_size and args.keep_size:
        raise InputError("--image_size --keep_size: one changes the size, the other does not; leave one out")
    unreadable: list[str] = []
    several, jobs = plan(args, unreadable)
    check_quality(args, jobs)
    if args.gallery:
        if args.gallery.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"--gallery {args.gallery}: write to a file that ends in .html")
        storage.check_output("--gallery", args.gallery, args.overwrite or args.resume)
        check_sources(args, jobs, "--gallery", [args.gallery])
    model, back = (model_files.load(file, args.trust_model) if file else None for file in (args.model, args.cycle))
    for one in (model, back):
        if one and one.fixed_size and args.image_size not in (None, one.fixed_size):
            raise InputError(f"--image_size {args.image_size}: {one.file} is for {one.fixed_size} only; use that, or leave it out")
    sizes = args.image_size, args.keep_size, args.tile, args.max_megapixels * 10**6
    written = args.side_by_side, f".{args.format}", args.quality, args.keep_metadata
    began, translation = time.monotonic(), Translation(model, back, *sizes, *written, thumbnails=bool(args.gallery))
    remaining, silent = resuming.remaining(jobs, translation.notes) if args.resume else (jobs, [])
    translation.run(remaining)
    left_out = translation.left_out
    if left_out and not several:
        raise InputError(left_out[0])
    unknown = [f"{name_first(silent)}, without a word of what made it; --overwrite makes all anew"] if silent else []
    damaged, left = sorted(translation.damaged), unreadable + left_out
    for words, lines in (("damaged, but translated", damaged), ("left out", left), ("kept", unknown)):
        for line in lines:
            print(f"{words}: {cli.on_one_line(line)}", file=sys.stderr)
    if args.gallery:
        translation.write_gallery(args.gallery, jobs)
    words = [f"{len(remaining) - len(left_out)} of {len(jobs)} translated on {model.device} in {time.monotonic() - began:.1f} s"]
    words += [f"{len(jobs) - len(remaining)} were there"] * args.resume
    print(f"{args.output}: {', '.join(words + particulars(translation))}", file=sys.stderr if args.output == "-" else sys.stdout)
    return cli.PARTIAL if left else cli.DONE


def particulars(translation: Translation) -> list[str]:
    """What else is to be said of the pictures at the end."""
    words, differences = [], translation.differences
    if anew := translation.anew:
        words += [f"{anew.total()} made anew ({', '.join(f'{count} {why}' for why, count in sorted(anew.items()))})"]
    if differences:
        words += [f"after the way back they differ by {sum(differences) / len(differences):.2%} of the range"]
    return words


def plan(args: argparse.Namespace, unreadable: list[str]) -> tuple[bool, list[Job]]:
    """Whether --input means several pictures, and the jobs: all, or --shard's share. Raises `InputError` for what is known to fail.

    Folders that cannot be read are added to `unreadable`.
    """
    folder, files = find(args, unreadable)
    output = storage.path(args.output)
    if folder is None:
        if args.shard:
            i, n = args.shard
            raise InputError(f"--shard {i}/{n}: --input {args.input} is a single picture; leave out --shard, or name a folder")
        if args.output == "-":
            if sys.stdout.isatty():
                raise InputError("--output -: is a terminal; name a file, or redirect it")
            output = PIPE
        elif output.is_dir() or args.output.endswith("/"):  # the latter is a new folder
            output /= f"{'stdin' if args.input == '-' else files[0].stem}.{args.format}"
        if output is not PIPE and output.suffix.lower() not in images.FORMATS:
            raise InputError(f"--output {output}: write to one of {' '.join(images.FORMATS)}, or to a folder, {output}/")
        jobs = [Job(files[0], args.input, [output])]
    else:
        if args.output == "-" or storage.lexists(output) and not output.is_dir():
            raise InputError(f"--output {output}: is no folder, but --input means several pictures; name a folder")
        names = [file.relative_to(folder).as_posix() for file in files]
        jobs = [Job(file, name, [(output / name).with_suffix(f".{args.format}")]) for file, name in zip(files, names, strict=True)]
    if args.cycle and not args.side_by_side:
        if jobs[0].outputs[0] is PIPE:
            raise InputError("--cycle --output -: has one picture only; add --side_by_side, or name a file")
        for job in jobs:
            (output,) = job.outputs
            job.outputs.append(output.with_name(f"{output.stem}_back{output.suffix}"))
    check_collisions(args.input, jobs)
    check_sources(args, jobs, "--output", [file for job in jobs for file in job.outputs])
    if args.shard:
        jobs = jobs[args.shard[0] :: args.shard[1]]
    outputs = [file for job in jobs for file in job.outputs if file is not PIPE]
    for file in outputs:
        storage.check_output("--output", file, overwrite=True)
    existing = [str(file) for file in outputs if storage.lexists(file)]
    if existing and not (args.overwrite or args.resume):
        raise InputError(f"--output {name_first(existing)}: exists; --overwrite replaces it, --resume leaves what was made like this")
    return folder is not None, jobs


def find(args: argparse.Namespace, unreadable: list[str]) -> tuple[AnyPath | None, list[AnyPath | PurePath]]:
    """Returns the folder in which --input means several pictures, None for a single one, and the pictures. Raises `InputError`.

    Those in a folder --output within that folder are left out: they are what an earlier run has made.
    """
    source, output = storage.path(args.input), storage.path(args.output)
    if args.input == "-":
        return None, [PIPE]
    if source.is_dir():
        if storage.resolve(output) == storage.resolve(source):
            raise InputError(f"--output {output}: is the folder of --input, where translations and pictures would get mixed; name another")
        return source, images.find(source, output, unreadable)
    if storage.is_special(source):
        raise InputError(f"--input {args.input}: is a pipe or a device; a picture from a pipe is read with --input -")
    if source.exists():
        return None, [source]
    if not finding.is_pattern(args.input):
        raise InputError(f"--input {args.input}: no such picture or folder")
    return find_by_pattern(args.input, output, unreadable)


def find_by_pattern(text: str, output: AnyPath, unreadable: list[str]) -> tuple[AnyPath, list[AnyPath]]:
    """As `find`."""
    (folder, pattern), errors, kept = finding.pattern_parts(text), [], []
    if ".." in pattern.split("/"):
        raise InputError(f"--input {text}: goes up (..) behind a wildcard; name the folder that it leads to")
    found = sorted(map(storage.path, finding.glob(text, errors.append, kept.append)))
    made, within = storage.resolve(output), storage.resolve(folder)
    if made != within and made not in within.parents:
        found = [file for file in found if made not in storage.resolve(file).parents]
    files = [file for file in found if not file.is_dir()]
    problems, machines = list(map(finding.told_unreadable, errors)), [images.told_machines(kept)] if kept else []
    if not files:
        words = "only folders are called like that; add /*.jpg, say" if found else "no file is called like that"
        raise InputError("; ".join([f"--input {text}: {words}", *(problems + machines)[:1]]))
    for line in machines:
        print(f"left out: {cli.on_one_line(line)}", file=sys.stderr)
    unreadable += problems
    return folder, files


def check_collisions(source: str, jobs: list[Job]) -> None:
    """Raises `InputError`, which names both, if two pictures would become one file."""
    by_output: dict[AnyPath | PurePath, list[tuple[str, AnyPath | PurePath]]] = {}
    for job in jobs:
        for file in job.outputs:
            by_output.setdefault(storage.resolve(file), []).append((job.name, file))
    if same := [outputs for outputs in by_output.values() if len(outputs) > 1]:
        names, files = zip(*same[0], strict=True)
        more = f" (and {len(same) - 1} more like it)" if len(same) > 1 else ""
        file = storage.behind(files[0])
        raise InputError(f"--input {source}: {' and '.join(names)} would become the same file, {file}{more}; rename one")


def check_sources(args: argparse.Namespace, jobs: list[Job], flag: str, outputs: list[AnyPath | PurePath]) -> None:
    """Raises `InputError` if one of the pictures to translate would be replaced, or a model, or an output be put into a model."""
    outputs = [file for file in outputs if file is not PIPE]
    models = [(name, model) for name, model in (("--model", args.model), ("--cycle", args.cycle)) if model]
    for name, model in models:
        for folder, file in {storage.behind(file).parent: file for file in outputs}.items():  # one of each folder
            if storage.resolve(model) in (folder := storage.resolve(folder), *folder.parents):
                raise InputError(f"{flag} {file}: is inside {name} {model}; name another place")
    taken = {storage.identity(job.source): f"{job.source}, which is to be translated" for job in jobs if job.source is not PIPE}
    taken |= {storage.identity(model): f"{name} {model}" for name, model in models}
    for file in outputs:
        if what := taken.get(storage.identity(file)):
            raise InputError(f"{flag} {file}: would replace {what}; name another place")


def check_quality(args: argparse.Namespace, jobs: list[Job]) -> None:
    """Raises `InputError` if --quality is given for pictures of a format that has none."""
    suffix = next((file.suffix for job in jobs for file in job.outputs if file is not PIPE), f".{args.format}")
    if args.quality and images.FORMATS[suffix.lower()] not in ("JPEG", "WEBP"):
        raise InputError(f"--quality {args.quality}: {suffix} has none, it loses nothing; leave it out, or write .jpg or .webp")


def name_first(files: list[AnyPath | str]) -> str:
    return str(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")


if __name__ == "__main__":
    sys.exit(cli.run(main))
