"""Two folders of pictures → two TFRecord files, or two sets of shards.

A picture that TensorFlow decodes as it is (an upright 8-bit JPEG or PNG, grey or RGB) is stored untouched. Any other becomes one: a JPEG
of quality 95 with all of its colours (4:4:4) what was compressed with loss before, and a PNG all else.

Pairs, for train.py --model pix2pix, are pictures of one name in both folders (--paired), halves of one picture (--AB_input_dir), or
pictures with what is made of them (--X_from).
"""

import argparse
import contextlib
import itertools
import random
import sys
import time
from dataclasses import dataclass

from pictures import derive, images, pairs, shards, storing
from system import cli, devices, storage, threads
from system.cli import InputError
from system.progress import Costs, Progress
from system.storage import AnyPath

SEED = 180  # of the order in the file, so that equal folders give equal files
SMALLER = 512  # of --max_size, where it is named: twice as large as most networks see pictures
MAX_SHARDS = 512  # all of a domain are open at once, and systems allow a process a thousand files or so
AGAINST = {  # flags, and those that mean nothing beside them
    "AB_input_dir": ("X_input_dir", "Y_input_dir", "X_from"),
    "X_from": ("X_input_dir",),
    "X_output_dir": ("X_output_file", "Y_output_file", "num_shards"),
}


@dataclass
class Work:
    """Pictures that become the records of `outputs`: of one domain, or of both if they are pairs."""

    outputs: tuple[AnyPath, ...]
    folders: tuple[AnyPath, ...]
    items: list[tuple[AnyPath, ...]]  # for each record of each output: a file, or two that are a pair
    store: storing.Store
    digest: bytes = b""  # of pairs

    @property
    def unit(self) -> str:
        return "pairs" if len(self.outputs) > 1 else "pictures"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add, folder, file = parser.add_argument, {"metavar": "DIR", "type": storage.path}, {"metavar": "FILE", "type": storage.file_path}
    add("--X_input_dir", **folder, default="data/apple2orange/trainA", help="folder of pictures of domain X")
    add("--Y_input_dir", **folder, default="data/apple2orange/trainB", help="folder of pictures of domain Y")
    add("--paired", action="store_true", help="pictures of one name are pairs; _A and _B, .A and .B at the end do not count")
    add("--AB_input_dir", **folder, help="folder of pairs, each one picture: its left half is of X, its right half of Y")
    add("--direction", choices=("AtoB", "BtoA"), default="AtoB", help="of --AB_input_dir; BtoA: the right half is of X")
    made = "pairs of Y's pictures and what is made of them as X: grey, to be coloured; drawings of their edges; with a square blanked out"
    add("--X_from", choices=tuple(derive.KINDS), help=made)
    only = "with --X_from: write no records, but the pictures of X, here: of test pictures, for train.py --X_test and inference.py"
    add("--X_output_dir", **folder, help=only)
    add("--X_output_file", **file, default="data/tfrecords/apple.tfrecords", help="TFRecord file to write for X")
    add("--Y_output_file", **file, default="data/tfrecords/orange.tfrecords", help="TFRecord file to write for Y")
    add("--max_size", type=cli.Number(int, 0), default=0, help="shrink pictures whose short side is longer than this, pixels; 0: never")
    num_shards = "files to divide each domain into; 4 makes x-00000-of-00004.tfrecords and so on, which train.py takes as x.tfrecords@4"
    add("--num_shards", type=cli.Number(int, 1, MAX_SHARDS), default=1, help=num_shards)
    add("--strict", action="store_true", help="a picture that is unreadable or damaged is an error, not left out or taken")
    add("--overwrite", action="store_true", help="replace output files that exist")
    return parser.parse_args(argv)


def check_flags(args: argparse.Namespace, typed: set[str]) -> None:
    """Raises `InputError` if flags mean nothing beside others. `typed`: those that have not just their default."""
    for flag, others in AGAINST.items():
        if getattr(args, flag) and (wrong := next((name for name in others if f"--{name}" in typed), None)):
            raise InputError(f"--{wrong} {getattr(args, wrong)}: means nothing beside --{flag} {getattr(args, flag)}; leave one out")
    if args.direction == "BtoA" and not args.AB_input_dir:
        raise InputError("--direction BtoA: is for --AB_input_dir; of two folders, type each in the other's place")
    if args.X_output_dir and not args.X_from:
        raise InputError(f"--X_output_dir {args.X_output_dir}: is for what --X_from makes; add that, or leave it out")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    check_flags(args, {word.partition("=")[0] for word in (sys.argv[1:] if argv is None else argv)})
    if args.X_output_dir:
        return write_pictures(args)
    outputs = args.X_output_file, args.Y_output_file
    for flag, output in zip(("--X_output_file", "--Y_output_file"), outputs, strict=True):
        check_output(flag, output, args.num_shards, args.overwrite)
    storage.check_apart("--Y_output_file", args.Y_output_file, "--X_output_file", args.X_output_file)
    unreadable: list[str] | None = [] if args.strict else None
    works = find(args, outputs, unreadable)
    if unreadable:
        raise InputError(f"{unreadable[0]}; get the right to read it, or leave out --strict")
    for work in works:
        check_enough(work, len(work.items), args.num_shards)
        if work.unit == "pairs":
            settings = repr((args.direction, args.X_from, args.max_size, args.num_shards))  # these decide about the order, too
            work.digest = pairs.check(work.items, work.folders, settings, halves=bool(args.AB_input_dir))

    devices.quiet_tensorflow()
    with contextlib.ExitStack() as stack:  # all files of both domains are complete before any is renamed
        files = {output: list(map(storage.path, shards.names(output, args.num_shards))) for output in outputs}
        temporary = {output: [stack.enter_context(storage.atomic_write(file)) for file in files[output]] for output in outputs}
        costs = Costs({output: len(work.items) for work in works for output in work.outputs}, "pictures")
        summaries = [write_records(work, temporary, args.strict, args.max_size, costs) for work in works]
    for summary, lines in summaries:
        for line in lines:
            print(cli.on_one_line(line), file=sys.stderr)
        print(summary, flush=True)
    return cli.DONE


def find(args: argparse.Namespace, outputs: tuple[AnyPath, AnyPath], unreadable: list[str] | None) -> list[Work]:
    """What there is to do: the pictures of each domain, or the pairs. Raises `InputError`. `unreadable`: see `images.find`."""

    def files_in(folder: AnyPath) -> list[tuple[AnyPath, ...]]:
        return [(file,) for file in images.find(folder, unreadable=unreadable)]

    if args.AB_input_dir:
        return [Work(outputs, (args.AB_input_dir,), files_in(args.AB_input_dir), storing.halves(args.max_size, args.direction == "BtoA"))]
    if args.X_from:
        return [Work(outputs, (args.Y_input_dir,), files_in(args.Y_input_dir), storing.with_derived(args.X_from, args.max_size))]
    folders = args.X_input_dir, args.Y_input_dir
    if args.paired:
        storage.check_apart("--Y_input_dir", args.Y_input_dir, "--X_input_dir", args.X_input_dir)
        return [Work(outputs, folders, list(pairs.of_folders(*folders, unreadable).values()), storing.whole(args.max_size))]
    domains = zip(outputs, folders, strict=True)
    return [Work((output,), (folder,), files_in(folder), storing.whole(args.max_size)) for output, folder in domains]


def write_pictures(args: argparse.Namespace) -> int:
    """Writes what --X_from makes of the pictures of Y as PNGs of their names. Raises `InputError`."""
    folder, output = args.Y_input_dir, args.X_output_dir
    storage.check_apart("--X_output_dir", output, "--Y_input_dir", folder)
    if output.exists() and not output.is_dir():
        raise InputError(f"--X_output_dir {output}: is a file; name a folder")
    if output.exists() and any(output.iterdir()) and not args.overwrite:
        raise InputError(f"--X_output_dir {output}: is not empty; --overwrite replaces pictures of the same names in it")
    storage.check_place(output / "x.png")
    unreadable: list[str] | None = [] if args.strict else None
    files = pairs.by_name(folder, unreadable)
    if unreadable:
        raise InputError(f"{unreadable[0]}; get the right to read it, or leave out --strict")
    devices.quiet_tensorflow()
    written, wrong, store = 0, [], storing.with_derived(args.X_from, args.max_size)
    with contextlib.ExitStack() as stack:  # all are complete before any is renamed
        progress = stack.enter_context(contextlib.closing(Progress(len(files), "pictures")))
        work = threads.in_order(lambda item: encode((item[1],), (folder,), store), files.items())
        for done, ((name, _), found) in enumerate(work, 1):
            wrong += problems(found, args.strict)
            if made := found[0][2]:
                stack.enter_context(storage.atomic_write(output / f"{name}.png")).write_bytes(made[0])
                written += 1
            progress.update(done)
        if not written:
            raise InputError(none_left(folder, len(files), "pictures", wrong))
    for line in wrong:
        print(cli.on_one_line(line), file=sys.stderr)
    print(cli.on_one_line(f"{output}: {written} pictures, {len(files) - written} left out"))
    return cli.DONE


def check_output(flag: str, output: AnyPath, num_shards: int, overwrite: bool) -> None:
    """Raises `InputError` unless the shards of `output` can be written, with no others of the same data set beside them."""
    if output.suffix.lower() in images.SUFFIXES:  # it may be one of those that are to be read
        raise InputError(f"{flag} {output}: has the suffix of a picture; write to a .tfrecords file")
    storage.check_output(flag, output, overwrite or num_shards > 1)
    for name in shards.names(output, num_shards):
        storage.check_output(flag, storage.path(name), overwrite)
    if old := shards.leftovers(output, num_shards):
        more = f" and {len(old) - 1} more" if len(old) > 1 else ""
        raise InputError(f"{flag} {output}: beside it is {old[0]}{more}, which a pattern would find too; remove that, or name another file")


def check_enough(work: Work, count: int, num_shards: int) -> None:
    """Raises `InputError` if a shard would be empty."""
    if count < num_shards:
        raise InputError(f"--num_shards {num_shards}: more than the {work.unit} in {work.folders[0]}; use at most {count}")


def write_records(
    work: Work, shard_files: dict[AnyPath, list[AnyPath]], strict: bool, max_size: int, costs: Costs
) -> tuple[str, list[str]]:
    """Writes pictures to the `shard_files` of each output, by which it is then called; returns a summary, and what was wrong.

    Raises `InputError`.
    """
    import tensorflow as tf

    from pictures.records import to_record

    began, wrong, written, seen, large = time.monotonic(), [], 0, 0, 0
    remedy = "" if max_size else f"--max_size {SMALLER} makes it smaller and faster"
    count, folder = len(shard_files[work.outputs[0]]), work.folders[0]
    items = deal(random.Random(SEED).sample(work.items, len(work.items)), count)
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(contextlib.closing(Progress(len(items), work.unit)))
        writers = [[stack.enter_context(tf.io.TFRecordWriter(str(file))) for file in shard_files[output]] for output in work.outputs]
        costs.begin(work.outputs[0])
        for done, (_, found) in enumerate(threads.in_order(lambda item: encode(item, work.folders, work.store), items), 1):
            wrong += problems(found, strict)
            kept = [(name, data) for _, name, made, _ in found for data in made] if all(made for _, _, made, _ in found) else []
            for own, (name, data) in zip(writers, kept, strict=False):
                own[written % count].write(to_record(name, data, work.digest))
                large += seen < Costs.FIRST and min(images.size(data)) > SMALLER
            written += bool(kept)
            for data in (data for _, data in kept) if kept else [b""] * len(writers):
                seen += 1
                if line := costs.after(len(data), remedy if 2 * large > Costs.FIRST else ""):
                    progress.say(cli.on_one_line(line))
            progress.update(done, lambda: str(folder))
    if not written:
        raise InputError(none_left(folder, len(items), work.unit, wrong))
    check_enough(work, written, count)
    names = " and ".join(f"{output}@{count}" if count > 1 else str(output) for output in work.outputs)
    counts = f"{written} {work.unit}, {len(items) - written} left out" + (f", {count} shards" if count > 1 else "")
    size = sum(storage.size(file) for output in work.outputs for file in shard_files[output])
    return f"{names}: {counts}, {size:,} bytes, {time.monotonic() - began:.1f} s", wrong


def deal(files: list, count: int) -> list:
    """The order in which files are dealt to the shards in turn, so that the shards one after another hold them in their order.

    A file that cannot be read gets no turn: the shards' sizes differ by one at most.
    """
    size, larger = divmod(len(files), count)
    parts = [files[i * size + min(i, larger) : (i + 1) * size + min(i + 1, larger)] for i in range(count)]
    return [file for turn in itertools.zip_longest(*parts) for file in turn if file is not None]


Found = list[tuple[AnyPath, str, tuple[bytes, ...], str | None]]  # file, name, files to store, what is wrong


def encode(files: tuple[AnyPath, ...], folders: tuple[AnyPath, ...], store: storing.Store) -> Found:
    """Returns what to store for a picture, or for two that are a pair: of each nothing if it cannot be read."""
    found: Found = []
    for file, folder in zip(files, folders, strict=True):
        name = storage.as_text(file.relative_to(folder))
        try:
            found.append((file, name, *store(images.content(file), name)))
        except (images.PictureError, OSError) as e:
            found.append((file, name, (), str(getattr(e, "strerror", e))))
    return found


def none_left(folder: AnyPath, count: int, unit: str, wrong: list[str]) -> str:
    return f"{folder}: none of its {count} {unit} can be read ({wrong[0].partition(': ')[2]})"


def problems(found: Found, strict: bool) -> list[str]:
    """Says what is wrong with pictures. Raises `InputError` if nothing may be."""
    wrong = [(file, problem) for file, _, _, problem in found if problem]
    if wrong and strict:
        raise InputError("{}: {}; remove it, or leave out --strict".format(*wrong[0]))
    out = "left out" if len(found) == 1 else "left out with its partner"
    taken = all(made for _, _, made, _ in found)
    return [f"{'damaged, but taken' if taken else out}: {file}: {problem}" for file, problem in wrong]


if __name__ == "__main__":
    sys.exit(cli.run(main))
