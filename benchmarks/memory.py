"""Shows that reading takes no more memory the longer it goes on: feeds a sharded data set as training does, and prints resident sizes.

The records have names of their own; their pictures are drawn, small, and a few hundred in number. All is written to a temporary folder.
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

from run import Table, quiet
from turns import resident_megabytes

DISTINCT, SIDE, CROP, BATCH = 300, 96, 64, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=50_000, help="records of the data set")
    parser.add_argument("--shards", type=int, default=8, help="files that it is divided into")
    parser.add_argument("--epochs", type=float, default=1, help="how often each domain passes all records")
    parser.add_argument("--every", type=int, default=5_000, help="pictures of a domain between two rows of the table")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the data set is written for the time being")
    args = parser.parse_args()
    quiet()
    from pictures import shards

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        data = f"{folder}/x.tfrecords@{args.shards}"
        write(shards.names(f"{folder}/x.tfrecords", args.shards), args.records)
        feed(data, args)


def write(files: list[str], count: int) -> None:
    """Writes records `count`, as evenly as can be, to files."""
    import tensorflow as tf

    from pictures.records import to_record

    pictures = [draw(i) for i in range(DISTINCT)]
    for i, file in enumerate(files):
        with tf.io.TFRecordWriter(file) as writer:
            for number in range(i * count // len(files), (i + 1) * count // len(files)):
                writer.write(to_record(f"{number:08}.jpg", pictures[number % DISTINCT]))


def draw(seed: int) -> bytes:
    """A smooth picture with some grain, as JPEG."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:SIDE, 0:SIDE][..., None] / 16
    phase, way = rng.uniform(0, 6, 3), rng.uniform(0.5, 2, (2, 3))
    picture = 127.5 + 110 * np.sin(x * way[0] + y * way[1] + phase) + rng.normal(0, 5, (SIDE, SIDE, 3))
    file = io.BytesIO()
    Image.fromarray(np.uint8(picture.clip(0, 255))).save(file, "JPEG", quality=90)
    return file.getvalue()


def feed(data: str, args: argparse.Namespace) -> None:
    """Reads the data set as both domains, and prints a row every so often."""
    from reader import Reader, feed_pairs

    began = time.perf_counter()
    empty = resident_megabytes()
    X, Y = (Reader(data, CROP, batch_size=BATCH, name=name) for name in "XY")
    seconds = time.perf_counter() - began
    print(f"{len(X)} records in {len(X.shards)} shards, opened twice in {seconds:.2f} s; {empty:.0f} MB before, ", end="")
    print(f"{resident_megabytes():.0f} MB after")
    table = Table("pictures of each domain", "resident, MB", "pictures a second, both domains")
    total, last = int(args.epochs * args.records), time.perf_counter()
    for step, _ in enumerate(feed_pairs(X, Y), 1):
        done = step * BATCH
        if step == 1 or done % args.every < BATCH or done >= total:
            now = time.perf_counter()
            rate = f"{2 * args.every / (now - last):.0f}" if done >= args.every else ""
            table.row([f"{done:,}", f"{resident_megabytes():.1f}", rate])
            last = now
        if done >= total:
            break


if __name__ == "__main__":
    main()
