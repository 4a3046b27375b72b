"""Two folders of pictures → two TFRecord files, or two sets of shards.

A picture that TensorFlow decodes as it is (an upright 8-bit JPEG or PNG, grey or RGB) is stored untouched. Any other becomes one: a JPEG
of quality 95 with all of its colours (4:4:4) what was compressed with loss before, and a PNG all else.
"""

import argparse
import contextlib
import itertools
import random
import sys
import time

from pictures import cutouts, damage, images, opening, shards
from system import cli, devices, storage, threads
from system.cli import InputError
from system.progress import Costs, Progress
from system.storage import AnyPath

SEED = 180  # of the order in the file, so that equal folders give equal files
SMALLER = 512  # of --max_size, where it is named: twice as large as most networks see pictures
MAX_SHARDS = 512  # all of a domain are open at once, and systems allow a process a thousand files or so


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--X_input_dir", metavar="DIR", type=storage.path, default="data/apple2orange/trainA", help="folder of pictures of domain X")
    add("--Y_input_dir", metavar="DIR", type=storage.path, default="data/apple2orange/trainB", help="folder of pictures of domain Y")
    file = {"metavar": "FILE", "type": storage.file_path}
    add("--X_output_file", **file, default="data/tfrecords/apple.tfrecords", help="TFRecord file to write for X")
    add("--Y_output_file", **file, default="data/tfrecords/orange.tfrecords", help="TFRecord file to write for Y")
    add("--max_size", type=cli.Number(int, 0), default=0, help="shrink pictures whose short side is longer than this, pixels; 0: never")
    num_shards = "files to divide each domain into; 4 makes x-00000-of-00004.tfrecords and so on, which train.py takes as x.tfrecords@4"
    add("--num_shards", type=cli.Number(int, 1, MAX_SHARDS), default=1, help=num_shards)
    add("--strict", action="store_true", help="a picture that is unreadable or damaged is an error, not left out or taken")
    add("--overwrite", action="store_true", help="replace output files that exist")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    folders, outputs = (args.X_input_dir, args.Y_input_dir), (args.X_output_file, args.Y_output_file)
    for flag, output in zip(("--X_output_file", "--Y_output_file"), outputs, strict=True):
        check_output(flag, output, args.num_shards, args.overwrite)
    storage.check_apart("--Y_output_file", args.Y_output_file, "--X_output_file", args.X_output_file)
    unreadable: list[str] = []
    found = [images.find(folder, unreadable=unreadable) for folder in folders]
    if unreadable and args.strict:
        raise InputError(f"{unreadable[0]}; get the right to read it, or leave out --strict")
    for line in unreadable:
        print(f"left out: {cli.on_one_line(line)}", file=sys.stderr)
    for folder, files in zip(folders, found, strict=True):
        check_enough(folder, len(files), args.num_shards)

    devices.quiet_tensorflow()
    with contextlib.ExitStack() as stack:  # all files of both domains are complete before any is renamed
        shard_files = [map(storage.path, shards.names(output, args.num_shards)) for output in outputs]
        temporary = [[stack.enter_context(storage.atomic_write(file)) for file in files] for files in shard_files]
        costs = Costs(dict(zip(outputs, map(len, found), strict=True)), "pictures")
        jobs = zip(found, folders, temporary, outputs, strict=True)
        summaries = [write_records(*job, args.max_size, args.strict, costs) for job in jobs]
    for summary, lines in summaries:
        for line in lines:
            print(cli.on_one_line(line), file=sys.stderr)
        print(summary, flush=True)
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


def check_enough(folder: AnyPath, pictures: int, num_shards: int) -> None:
    """Raises `InputError` if a shard would be empty."""
    if pictures < num_shards:
        raise InputError(f"--num_shards {num_shards}: more than the pictures in {folder}; use at most {pictures}")


def write_records(
    files: list[AnyPath], folder: AnyPath, shard_files: list[AnyPath], output: AnyPath, max_size: int, strict: bool, costs: Costs
) -> tuple[str, list[str]]:
    """Writes pictures to `shard_files`, later the shards of `output`; returns a summary, and what was wrong. Raises `InputError`."""
    import tensorflow as tf

    from pictures.records import to_record

    began, wrong, written, large = time.monotonic(), [], 0, 0
    remedy = "" if max_size else f"--max_size {SMALLER} makes it smaller and faster"
    files = deal(random.Random(SEED).sample(files, len(files)), len(shard_files))
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(contextlib.closing(Progress(len(files), "pictures")))
        writers = [stack.enter_context(tf.io.TFRecordWriter(str(file))) for file in shard_files]
        costs.begin(output)
        for done, (picture, encoded) in enumerate(threads.in_order(lambda f: encode(f, max_size), files), 1):
            stored, problem = encoded
            if problem and strict:
                raise InputError(f"{picture}: {problem}; remove it, or leave out --strict")
            if problem:
                wrong.append(f"{'damaged, but taken' if stored else 'left out'}: {picture}: {problem}")
            if stored:
                name = storage.as_text(picture.relative_to(folder))
                writers[written % len(writers)].write(to_record(name, stored))
                written += 1
                large += done <= Costs.FIRST and min(images.size(stored)) > SMALLER
            if line := costs.after(len(stored or b""), remedy if 2 * large > Costs.FIRST else ""):
                progress.say(cli.on_one_line(line))
            progress.update(done, lambda: str(folder))
    if not written:
        raise InputError(f"{folder}: none of its {len(files)} pictures can be read ({wrong[0].removeprefix('left out: ')})")
    check_enough(folder, written, len(writers))
    counts = f"{written} pictures, {len(files) - written} left out"
    called = f"{output}@{len(writers)}: {counts}, {len(writers)} shards" if len(writers) > 1 else f"{output}: {counts}"
    return f"{called}, {sum(map(storage.size, shard_files)):,} bytes, {time.monotonic() - began:.1f} s", wrong


def deal(files: list[AnyPath], count: int) -> list[AnyPath]:
    """The order in which files are dealt to the shards in turn, so that the shards one after another hold them in their order.

    A file that cannot be read gets no turn: the shards' sizes differ by one at most.
    """
    size, larger = divmod(len(files), count)
    parts = [files[i * size + min(i, larger) : (i + 1) * size + min(i + 1, larger)] for i in range(count)]
    return [file for turn in itertools.zip_longest(*parts) for file in turn if file is not None]


def encode(file: AnyPath, max_size: int) -> tuple[bytes | None, str | None]:
    """Returns the file to store for a picture, None if it cannot be read, and what is wrong with it, if anything is.

    What is stored untouched is decoded once as a check.
    """
    try:
        data = images.content(file)
        shrink = max_size and min(images.size(data)) > max_size
        plain, jpeg = images.is_plain(data) and not shrink, data.startswith(opening.JPEG)
        decodes, problem = check(data) if plain or jpeg else (False, None)
        if plain and jpeg and not (decodes or problem) and (ended := opening.with_end(data)):
            data = ended
            decodes, problem = check(data)
        if plain and decodes:
            return data, problem
        colours, alpha = images.decode_with_alpha(data)
        height, width = colours.shape[:2]
        size = images.with_short_side(height, width, max_size) if shrink else (height, width)
        picture, _ = cutouts.resize(colours, alpha, *size)  # as networks see it in use
        return images.encode(picture, ".jpg" if opening.is_lossy(data) else ".png"), problem
    except (images.PictureError, OSError) as e:
        return None, str(getattr(e, "strerror", e))


def check(data: bytes) -> tuple[bool, str | None]:
    """Tells whether TensorFlow decodes a JPEG or PNG without a word, and what is wrong with it, if that is known."""
    import tensorflow as tf

    try:
        if data.startswith(opening.JPEG):
            said = damage.said(data)  # which it would print each time that training reads the picture
            return not said, said or damage.jump(data)
        tf.io.decode_image(data, channels=3, expand_animations=False)
        return True, None
    except tf.errors.InvalidArgumentError:  # damaged, or a kind that only Pillow reads
        return False, None


if __name__ == "__main__":
    sys.exit(cli.run(main))
