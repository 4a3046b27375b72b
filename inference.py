"""Translates a picture, a folder of pictures or those that a pattern finds, with a model made by export_graph.py.

"-" as --input is standard input, as --output standard output.
"""

import argparse
import contextlib
import re
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from formats import translator
from pictures import gallery, images, tiling
from system import cli, storage, threads
from system.cli import InputError
from system.progress import Progress
from system.storage import AnyPath

PIPE = PurePath("-")
BATCH_PIXELS = 4 * 256**2  # pictures of equal size share a pass, up to so many pixels
LARGE = 2**24  # pixels from which on a picture is decoded when it is its turn, not ahead of time


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--model", metavar="MODEL", type=storage.path, required=True, help="a model file, pretrained/apple2orange.pb say")
    parser.add_argument("--input", metavar="PATH", required=True, help="a picture, a folder, a pattern in quotes, or -")
    parser.add_argument(
        "--output", metavar="PATH", required=True, help=f"the picture to write ({' '.join(images.FORMATS)}), the folder for several, or -"
    )
    parser.add_argument("--image_size", metavar="N", type=cli.number(int, 8, 10_000), help="translate at N×N [see --keep_size]")
    parser.add_argument(
        "--keep_size", action="store_true", help="translate at the picture's own size [short side to the model's size, aspect kept]"
    )
    parser.add_argument(
        "--tile",
        metavar="N",
        type=cli.number(int, 64, 8192, multiple=tiling.STEP),
        help="go through pictures of more than N×N pixels in overlapping tiles of N×N [as there is memory]",
    )
    parser.add_argument(
        "--max_megapixels",
        metavar="N",
        type=cli.number(int, 1, 10_000),
        default=100,
        help="leave larger pictures out, before or after resizing",
    )
    parser.add_argument(
        "--format", choices=("png", "jpg", "webp", "tif"), default="png", help="format of the pictures in an output folder, and of -"
    )
    parser.add_argument("--cycle", metavar="MODEL", type=storage.path, help="translate back with this model, and write that as well")
    parser.add_argument("--side_by_side", action="store_true", help="write input, output and, with --cycle, the way back in one picture")
    parser.add_argument("--gallery", metavar="FILE", type=storage.path, help="write a page (.html) of all inputs and outputs to look at")
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
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


@dataclass
class Job:
    """A picture to be translated: where it is, what it is called, and the files to write."""

    source: AnyPath | PurePath
    name: str
    output: AnyPath | PurePath
    back: AnyPath | None = None

    @property
    def outputs(self) -> list:
        return [self.output, self.back] if self.back else [self.output]


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    for one, other, why in (
        ("resume", "overwrite", "one keeps the pictures that exist, the other replaces them"),
        ("image_size", "keep_size", "one changes the size, the other does not"),
    ):
        if getattr(args, one) and getattr(args, other):
            raise InputError(f"--{one} --{other}: {why}; leave one out")
    single, jobs = plan(args)
    if args.gallery:
        if args.gallery.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"--gallery {args.gallery}: write to a file that ends in .html")
        storage.check_output("--gallery", args.gallery, args.overwrite or args.resume)
    # A picture gets its name when it is whole: what is there is done.
    left = [job for job in jobs if not (args.resume and job.output is not PIPE and all(map(storage.stands, job.outputs)))]

    there, back = translator.load(args.model), translator.load(args.cycle) if args.cycle else None
    for model in (there, back):
        if model and model.fixed_size and args.image_size not in (None, model.fixed_size):
            raise InputError(f"--image_size {args.image_size}: {model.file} is for {model.fixed_size} only; use that, or leave it out")
    began = time.monotonic()
    translation = Translation(args, there, back)
    translation.run(left)
    left_out, differences = translation.left_out, translation.differences
    if left_out and single:
        raise InputError(left_out[0])
    for line in left_out:
        print(f"left out: {' '.join(line.split())}", file=sys.stderr)
    if args.gallery:
        translation.write_gallery(jobs)
    words = [f"{len(left) - len(left_out)} of {len(jobs)} translated on {there.device} in {time.monotonic() - began:.1f} s"]
    words += [f"{len(jobs) - len(left)} were there"] * args.resume
    words += [f"after the way back they differ by {np.mean(differences):.2%} of the range"] if differences else []
    print(f"{args.output}: {', '.join(words)}", file=sys.stderr if args.output == "-" else sys.stdout)
    return cli.PARTIAL if left_out else cli.DONE


def plan(args: argparse.Namespace) -> tuple[bool, list[Job]]:
    """Tells whether a single picture is meant, and returns what there is to do: all pictures that are meant, or a share of them.

    Raises `InputError` for what can be known to fail.
    """
    source, output = storage.path(args.input), storage.path(args.output)
    several = None
    if args.input == "-":
        single = PIPE
    elif source.is_dir():
        several, files = source, images.find(source)
        if args.resume or args.shard:
            check_outside(source, output)
    elif source.exists():
        single = source
    else:
        several, files = matches(args.input)

    if several is not None:
        if args.output == "-" or storage.stands(output) and not output.is_dir():
            raise InputError(f"--output {output}: is no folder, but --input means several pictures; name a folder")
        names = [file.relative_to(several).as_posix() for file in files]
        jobs = [Job(file, name, (output / name).with_suffix(f".{args.format}")) for file, name in zip(files, names, strict=True)]
    elif args.shard:
        i, n = args.shard
        raise InputError(f"--shard {i}/{n}: --input {args.input} is a single picture; leave out --shard, or name a folder")
    else:
        if args.output == "-":
            output = PIPE
        elif output.is_dir():
            output = output / f"{'stdin' if single is PIPE else single.stem}.{args.format}"
        if output is not PIPE and output.suffix.lower() not in images.FORMATS:
            raise InputError(f"--output {output}: write to one of {' '.join(images.FORMATS)}")
        jobs = [Job(single, args.input, output)]

    if args.cycle and not args.side_by_side:
        if jobs[0].output is PIPE:
            raise InputError("--cycle --output -: has one picture only; add --side_by_side, or name a file")
        for job in jobs:
            job.back = job.output.with_name(f"{job.output.stem}_back{job.output.suffix}")
    twice = Counter(file for job in jobs for file in job.outputs)
    same = [str(file) for file, n in twice.items() if n > 1]
    if same:
        raise InputError(f"--input {args.input}: several pictures would become {name_first(same)}; rename them")
    if args.shard:
        jobs = jobs[args.shard[0] :: args.shard[1]]
    files = [file for job in jobs for file in job.outputs if file is not PIPE]
    for file in files:
        storage.check_output("--output", file, overwrite=True)
    existing = [str(file) for file in files if storage.stands(file)]
    if existing and not (args.overwrite or args.resume):
        raise InputError(f"--output {name_first(existing)}: exists; --overwrite replaces it, --resume leaves it")
    return several is None, jobs


def matches(pattern: str) -> tuple[AnyPath, list[AnyPath]]:
    """Returns the pictures that a pattern finds, sorted, and the folder that it begins in. Raises `InputError`."""
    if not re.search(r"[*?[]", pattern):
        raise InputError(f"--input {pattern}: no such picture or folder")
    files = sorted(file for file in map(storage.path, storage.glob(pattern)) if file.is_file())
    if not files:
        raise InputError(f"--input {pattern}: no file is called like that")
    base = storage.path(re.split(r"[*?[]", pattern)[0] + "x").parent
    return base, files


def check_outside(source: AnyPath, output: AnyPath) -> None:
    """Raises `InputError` if a folder's translations would be taken for pictures of it by the next process."""
    if storage.real(output).is_relative_to(storage.real(source)):
        raise InputError(f"--output {output}: in --input {source}, where --resume and --shard would find translations; name another folder")


def name_first(files: list[str]) -> str:
    return files[0] + (f" and {len(files) - 1} more" if len(files) > 1 else "")


@dataclass
class Picture:
    """What a model is given, uint8 (H, W, 3), and alpha, (H, W), if there is one."""

    pixels: np.ndarray
    alpha: np.ndarray | None = None


class Translation:
    """Pictures on their way through the models. Reading ahead and writing behind overlap with them."""

    def __init__(self, args: argparse.Namespace, there, back=None):
        self.args, self.there, self.back = args, there, back
        self.max_pixels = args.max_megapixels * 10**6
        self.tile = args.tile or min(tiling.fitting(model) for model in (there, back) if model)
        self.left_out: list[str] = []  # which, and why
        self.differences: list[float] = []  # between an input and its way back
        self.shown: dict[str, list[bytes]] = {}  # in the gallery, by name
        self.warned = False

    def run(self, jobs: list[Job]) -> None:
        """Translates all that can be; `left_out` then names the others, and says why."""
        self.progress, self.done, writing = Progress(len(jobs), "pictures"), 0, deque()
        with ThreadPoolExecutor(1) as writer:
            for batch in self.batches(threads.in_order(self.read, jobs)):
                names = [job.name for job, _ in batch]
                pixels = np.stack([picture.pixels for _, picture in batch])
                results = [self.translate(self.there, pixels, names[0])]
                if self.back:
                    results.append(self.translate(self.back, results[0], names[0]))
                for (job, picture), *made in zip(batch, *results, strict=True):
                    writing.append(writer.submit(self.write, job, picture, made))
                while len(writing) > (0 if pixels[0].size > LARGE else 8):
                    writing.popleft().result()
                self.done += len(batch)
                self.progress.update(self.done)
            for written in writing:
                written.result()
        self.progress.close()

    def read(self, job: Job) -> Picture | bytes | images.PictureError:
        """A picture that is ready, or what its file holds if it is a large one, or why it cannot be read."""
        try:
            data = sys.stdin.buffer.read() if job.source is PIPE else job.source.read_bytes()
            width, height = images.size(data, self.max_pixels)
            return self.prepare(data) if width * height < LARGE else data
        except images.PictureError as e:
            return e
        except OSError as e:
            return images.PictureError(e.strerror or str(e))

    def prepare(self, data: bytes) -> Picture:
        """Decodes a file and brings it to the size at which it is translated. Raises `PictureError`."""
        pixels, alpha = images.decode_with_alpha(data, self.max_pixels)
        height, width = size = pixels.shape[:2]
        if self.args.image_size:
            size = (self.args.image_size, self.args.image_size)
        elif not self.args.keep_size:
            size = images.with_short_side(height, width, self.there.image_size)
        if size[0] * size[1] > self.max_pixels:
            raise images.PictureError(f"{width}×{height} would become {size[1]}×{size[0]}, more than --max_megapixels; try --keep_size")
        return Picture(images.resize(pixels, *size), None if alpha is None else images.resize(alpha, *size))

    def batches(self, read: Iterator[tuple[Job, Picture | bytes | images.PictureError]]) -> Iterator[list[tuple[Job, Picture]]]:
        """Puts pictures of one size that follow one another together, as many as go through a model at once."""
        batch: list[tuple[Job, Picture]] = []
        one_size = any(model.fixed_size for model in (self.there, self.back) if model)
        most = 0 if one_size else min(BATCH_PIXELS, self.tile**2)
        for job, picture in read:
            if isinstance(picture, bytes):
                try:
                    picture = self.prepare(picture)
                except images.PictureError as e:
                    picture = e
            if isinstance(picture, images.PictureError):
                self.left_out.append(f"{job.source}: {picture}")
                self.done += 1
                continue
            height, width, _ = shape = picture.pixels.shape
            if batch and (batch[0][1].pixels.shape != shape or (len(batch) + 1) * height * width > most):
                yield batch
                batch = []
            batch.append((job, picture))
        if batch:
            yield batch

    def translate(self, model, pixels: np.ndarray, name: str) -> np.ndarray:
        """uint8 (B, H, W, 3) → uint8 (B, H, W, 3), in tiles if need be; tiles shrink if memory turns out not to be enough."""
        count, height, width, _ = pixels.shape

        def tell(done: int, of: int) -> None:
            self.progress.update(self.done, lambda: f"{name}: tile {done} of {of}")

        while True:
            blended_only = model.sees_whole_pictures and not model.knows_statistics
            if blended_only and tiling.needs_tiles(model, height, width, self.tile) and not self.warned:
                self.progress.say(f"{model.file}: gives no statistics of whole pictures: tiles are blended, but can differ in tone")
                self.warned = True
            try:
                if count > 1:
                    return model(pixels)
                return tiling.translate_in_tiles(model, pixels[0], self.tile, tell)[np.newaxis]
            except MemoryError:
                if self.tile <= tiling.LEAST:
                    raise
                self.tile = max(tiling.LEAST, self.tile // 2 // tiling.STEP * tiling.STEP)
                if count > 1:
                    return np.concatenate([self.translate(model, one[np.newaxis], name) for one in pixels])

    def write(self, job: Job, picture: Picture, made: list[np.ndarray]) -> None:
        """Writes what the models have made of a picture: its translation and, with --cycle, the way back."""
        if self.back:
            self.differences.append(float(np.abs(made[1].astype(np.int16) - picture.pixels).mean() / 255))
        if self.args.gallery:
            self.shown[job.name] = [gallery.thumbnail(pixels) for pixels in (picture.pixels, *made)]
        if self.args.side_by_side:
            pictures = [picture.pixels, *made]
            alpha = None if picture.alpha is None else np.concatenate([picture.alpha] * len(pictures), axis=1)
            made, picture = [np.concatenate(pictures, axis=1)], Picture(picture.pixels, alpha)
        try:
            if job.output is PIPE:
                sys.stdout.buffer.write(images.encode(made[0], f".{self.args.format}", picture.alpha))
                sys.stdout.buffer.flush()
            else:
                for file, pixels in zip(job.outputs, made, strict=True):
                    images.write(file, pixels, picture.alpha)
        except images.PictureError as e:  # too large for its format
            self.left_out.append(f"{job.source}: {e}")

    def write_gallery(self, jobs: list[Job]) -> None:
        """Writes a page of all that is there now, those pictures included that were there before."""
        rows = []
        for job in jobs:
            if job.name not in self.shown:
                with contextlib.suppress(images.PictureError):
                    self.shown[job.name] = [gallery.thumbnail(images.read(file)) for file in (job.source, *job.outputs)]
            if job.name in self.shown:
                rows.append((job.name, self.shown[job.name]))
        source, target = (self.there.metadata.get(end, end) for end in ("source", "target"))
        columns = [source, f"{target} (generated)"] + [f"{source} (back again)"] * bool(self.back)
        note = f"{self.there.file}" + (f", back with {self.back.file}" if self.back else "")
        with storage.whole(self.args.gallery) as file:
            file.write_text(gallery.page(f"{source} → {target}", note, columns, rows))


if __name__ == "__main__":
    sys.exit(cli.run(main))
