"""Draws a picture set of two domains, A apples and B oranges, with the true translation of every test picture.

A scene (fruit, light, table, wall) can be drawn in either domain, so pictures of one name in testA and testB are each
other's truth, and with --paired those in trainA and trainB. All that shapes a picture shows in both domains: the truth can be told from
the input alone.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pictures import images
from pictures.fruit import draw
from pictures.scenes import SPLITS, scene
from system import cli, leftovers, storage
from system.progress import Progress

FOLDERS = ("trainA", "trainB", "testA", "testB")


@contextlib.contextmanager
def _placed(output: Path) -> Iterator[Path]:
    """Yields an empty folder. If the block succeeds, the folders in it are moved to `output` and replace those of their names."""
    if not output.exists():
        with storage.atomic_write(output) as new:
            new.mkdir()
            yield new
        return
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix("pictures"), dir=output) as temporary:
        new, old = Path(temporary, "new"), Path(temporary, "old")
        new.mkdir()
        old.mkdir()
        yield new
        for folder in new.iterdir():
            place = output / folder.name
            if os.path.lexists(place):
                os.replace(place, old / folder.name)
            os.replace(folder, place)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--output_dir", metavar="DIR", type=storage.path, default="data/fruit", help=f"folder to hold {', '.join(FOLDERS)}")
    parser.add_argument("--size", type=cli.Number(int, 32, 1024, multiple=4), default=64, help="side of the pictures, pixels")
    parser.add_argument("--n_train", type=cli.Number(int, 1, 100_000), default=200, help="training pictures of each domain")
    parser.add_argument("--n_test", type=cli.Number(int, 1, 100_000), default=24, help="test pairs")
    parser.add_argument("--paired", action="store_true", help="draw the training scenes in both domains, for pix2pix")
    parser.add_argument("--seed", type=cli.Number(int, 0), default=0, help="equal seeds give equal files")
    parser.add_argument("--overwrite", action="store_true", help="replace these folders in a DIR that is not empty")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    output = storage.resolve(args.output_dir)
    if not isinstance(output, Path):
        raise cli.InputError(f"--output_dir {args.output_dir}: is not on this machine; name a folder of this machine")
    if os.path.lexists(output) and not output.is_dir():
        raise cli.InputError(f"--output_dir {args.output_dir}: is a file; name a folder")
    storage.check_place(output / FOLDERS[0])
    leftovers.remove(output)
    if output.exists() and any(output.iterdir()) and not args.overwrite:
        raise cli.InputError(f"--output_dir {args.output_dir}: is not empty; --overwrite replaces {', '.join(FOLDERS)} in it")

    jobs = [(folder, i) for folder in FOLDERS for i in range(args.n_test if folder.startswith("test") else args.n_train)]
    progress = Progress(len(jobs), "pictures")
    with _placed(output) as new:
        for done, (folder, index) in enumerate(jobs, 1):
            split = "test" if folder not in SPLITS else SPLITS[0] if args.paired and folder.startswith("train") else folder
            drawn = scene(args.seed, split, index)
            images.write(new / folder / f"{index:04d}.png", draw(drawn, folder[-1], args.size))
            progress.update(done)
    progress.close()
    training = f"{args.n_train} training pairs" if args.paired else f"{args.n_train} apples, {args.n_train} oranges"
    summary = f"{args.output_dir}: {training}, {args.n_test} test pairs, {args.size}×{args.size}"
    print(cli.on_one_line(summary))


if __name__ == "__main__":
    sys.exit(cli.run(main))
