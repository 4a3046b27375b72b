"""How good translated pictures are: their distance from the truth, beside that of doing nothing and of merely changing the colours.

Each flag takes one folder for each direction, in the same order; pictures belong together by name (their suffix aside).
"""

import argparse
import contextlib
import json
import sys

import numpy as np

import cli
import images
import metrics
import storage
from cli import InputError
from storage import AnyPath

Pictures = list[np.ndarray]  # uint8 (H, W, 3)
SHEET_COLUMNS = 8


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    parser.add_argument("--fake", metavar="DIR", type=storage.path, nargs="+", required=True, help="translated pictures")
    parser.add_argument("--truth", metavar="DIR", type=storage.path, nargs="+", required=True, help="what they should be")
    parser.add_argument("--input", metavar="DIR", type=storage.path, nargs="+", required=True, help="what they were translated from")
    parser.add_argument("--sheet", metavar="FILE", type=storage.path, help="write a contact sheet, .png or .jpg")
    parser.add_argument("--json", metavar="FILE", type=storage.path, help="write the results as JSON")
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if not len(args.fake) == len(args.truth) == len(args.input):
        raise InputError(
            f"--fake, --truth and --input name {len(args.fake)}, {len(args.truth)} and {len(args.input)} folders: give as many each"
        )
    if args.sheet and args.sheet.suffix.lower() not in images.FORMATS:
        raise InputError(f"--sheet {args.sheet}: write to one of {' '.join(images.FORMATS)}")
    for flag, output in (("--sheet", args.sheet), ("--json", args.json)):
        if output:
            storage.check_output(flag, output, args.overwrite)
    if args.sheet and args.json:
        storage.check_apart("--json", args.json, "--sheet", args.sheet)

    results, rows = [], []
    for folders in zip(args.input, args.fake, args.truth, strict=True):
        inputs, fakes, truths = load(*folders)
        results.append({"fake": str(folders[1]), "pictures": len(fakes), **errors(inputs, fakes, truths)})
        rows += [("input", inputs[:SHEET_COLUMNS]), ("translated", fakes[:SHEET_COLUMNS]), ("truth", truths[:SHEET_COLUMNS])]
    with contextlib.ExitStack() as stack:  # both outputs or none
        if args.json:
            stack.enter_context(storage.whole(args.json)).write_text(json.dumps(results, indent=2) + "\n")
        if args.sheet:
            images.write(args.sheet, images.contact_sheet(rows))
    print(table(results))
    return cli.DONE


def load(source: AnyPath, fake: AnyPath, truth: AnyPath) -> tuple[Pictures, Pictures, Pictures]:
    """Returns the inputs, the translations and the truths, one of each for every translation, in its size. Raises `InputError`."""
    names = by_name(fake)
    fakes = [images.read(file) for file in names.values()]
    others = []
    for folder in (source, truth):
        found = by_name(folder)
        missing = sorted(set(names) - set(found))
        if missing:
            raise InputError(f"{folder}: has no picture {missing[0]}, which {fake} has ({len(missing)} missing)")
        others.append([images.resize(images.read(found[name]), *f.shape[:2]) for name, f in zip(names, fakes, strict=True)])
    return others[0], fakes, others[1]


def by_name(folder: AnyPath) -> dict[str, AnyPath]:
    """Returns the pictures of a folder by their path in it without the suffix. Raises `InputError` if two share one."""
    names = {}
    for file in images.find(folder):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in names:
            raise InputError(f"{file}: {names[name].name} has the same name; remove one of them")
        names[name] = file
    return names


def errors(inputs: Pictures, fakes: Pictures, truths: Pictures) -> dict[str, float]:
    """Mean L1 distance from the truth of the translations, the inputs, and the inputs after the best linear change of colours."""
    change = metrics.fit_colour_change(inputs, truths)
    recoloured = [metrics.change_colour(picture, change) for picture in inputs]
    candidates = {"translated": fakes, "untranslated": inputs, "colour change": recoloured}
    return {k: sum(map(metrics.l1, pictures, truths)) / len(truths) for k, pictures in candidates.items()}


def table(results: list[dict]) -> str:
    """The results as text, a line each; errors in percent of the range."""
    width = max(len(result["fake"]) for result in results)
    lines = [f"{'L1 to the truth, %':{width}}  pictures  translated  untranslated  best linear colour change"]
    for r in results:
        values = f"{r['pictures']:8}  {100 * r['translated']:10.2f}  {100 * r['untranslated']:12.2f}  {100 * r['colour change']:25.2f}"
        lines.append(f"{r['fake']:{width}}  {values}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.run(main))
