"""Two folders of pictures → two TFRecord files.

A picture that TensorFlow decodes as it is (an upright 8-bit RGB JPEG or PNG) is stored untouched, any other as a PNG of that kind.
"""

import argparse
import contextlib
import os
import random
import sys
import time
from pathlib import Path

import cli
import images
from cli import InputError

JPEG = b"\xff\xd8"  # how such a file begins
SEED = 180  # of the order in the file, so that equal folders give equal files


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--X_input_dir", metavar="DIR", type=Path, default=Path("data/apple2orange/trainA"), help="folder of pictures of domain X"
    )
    parser.add_argument(
        "--Y_input_dir", metavar="DIR", type=Path, default=Path("data/apple2orange/trainB"), help="folder of pictures of domain Y"
    )
    parser.add_argument(
        "--X_output_file", metavar="FILE", type=Path, default=Path("data/tfrecords/apple.tfrecords"), help="TFRecord file to write for X"
    )
    parser.add_argument(
        "--Y_output_file", metavar="FILE", type=Path, default=Path("data/tfrecords/orange.tfrecords"), help="TFRecord file to write for Y"
    )
    parser.add_argument(
        "--max_size",
        metavar="N",
        type=cli.number(int, 0),
        default=0,
        help="shrink pictures whose short side is longer than this, pixels; 0: never",
    )
    parser.add_argument("--strict", action="store_true", help="an unreadable picture is an error, not left out")
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    domains = [("X", args.X_input_dir, args.X_output_file), ("Y", args.Y_input_dir, args.Y_output_file)]
    for domain, _, output in domains:
        cli.check_output(f"--{domain}_output_file", output, args.overwrite)
    cli.check_apart("--Y_output_file", args.Y_output_file, "--X_output_file", args.X_output_file)
    found = [images.find(folder) for _, folder, _ in domains]

    cli.quiet_tensorflow()
    # Both files are finished before either takes its name.
    with cli.whole(args.X_output_file) as X_file, cli.whole(args.Y_output_file) as Y_file:
        summaries = [
            write_records(files, folder, file, output, args.max_size, args.strict)
            for files, (_, folder, output), file in zip(found, domains, (X_file, Y_file), strict=True)
        ]
    for summary, left_out in summaries:
        for line in left_out:
            print(f"left out: {' '.join(line.split())}", file=sys.stderr)
        print(summary, flush=True)
    return cli.DONE


def write_records(files: list[Path], folder: Path, file: Path, output: Path, max_size: int, strict: bool) -> tuple[str, list[str]]:
    """Writes the pictures that can be read to `file`, to be called `output`. Raises `InputError`.

    Returns the summary, and a line for each picture that was left out.
    """
    import tensorflow as tf

    from reader import to_record

    began, left_out = time.monotonic(), []
    files = random.Random(SEED).sample(files, len(files))
    progress = cli.Progress(len(files), "pictures")
    with tf.io.TFRecordWriter(str(file)) as writer:
        for done, (picture, encoded) in enumerate(cli.in_order(lambda f: encode(f, max_size), files), 1):
            if isinstance(encoded, images.PictureError):
                left_out.append(f"{picture}: {encoded}")
                if strict:
                    progress.close()
                    raise InputError(f"{left_out[0]}; remove it, or leave out --strict")
            else:
                name = os.fsencode(picture.relative_to(folder)).decode(errors="replace")  # on a disk it need not be UTF-8
                writer.write(to_record(name, encoded))
            progress.update(done, lambda: str(folder))
    progress.close()
    if len(left_out) == len(files):
        raise InputError(f"{folder}: none of its {len(files)} pictures can be read ({left_out[0]})")
    counts = f"{len(files) - len(left_out)} pictures, {len(left_out)} left out"
    return f"{output}: {counts}, {file.stat().st_size:,} bytes, {time.monotonic() - began:.1f} s", left_out


def encode(file: Path, max_size: int) -> bytes | images.PictureError:
    """Returns what is stored for a picture, or why it cannot be. A picture that is stored as it is is decoded once, to be sure."""
    import tensorflow as tf

    try:
        data = file.read_bytes()
        shrink = max_size and images.short_side(data) > max_size
        if images.is_plain(data) and not shrink:
            with contextlib.suppress(tf.errors.InvalidArgumentError):  # damaged, or of a kind that Pillow alone reads
                if data.startswith(JPEG):  # an eighth of the size reads all of the file, which is what can be damaged, and computes little
                    tf.io.decode_jpeg(data, channels=3, ratio=8)
                else:
                    tf.io.decode_image(data, channels=3, expand_animations=False)
                return data
        picture = images.decode(data)
        return images.encode_png(images.resize_short_side(picture, max_size) if shrink else picture)
    except images.PictureError as e:
        return e
    except OSError as e:
        return images.PictureError(e.strerror)


if __name__ == "__main__":
    sys.exit(cli.run(main))
