"""How good translations are: against real pictures (--real), the truth (--truth), and themselves after the way back (--model --back).

Translations are the pictures in --fake, or what --model makes of --input. Each flag takes one folder or model for each direction, in the
same order. Pictures belong together by name, their suffix aside, and an ending of _A, _B, .A or .B where there is none of that name.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from formats import model_files
from pictures import cutouts, images, pairs, tiling
from quality import features
from quality.directions import UNTRANSLATED, Direction, Translate, check_count
from system import cli, devices, storage
from system.cli import InputError
from system.storage import AnyPath


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add, several = parser.add_argument, {"type": storage.path, "nargs": "+"}
    add("--fake", metavar="DIR", **several, help="translated pictures")
    add("--input", metavar="DIR", **several, help="what is, or was, translated")
    add("--model", metavar="MODEL", **several, help="translates --input")
    add("--image_size", type=cli.Number(int, 8, 4096), help="what --model gets has a short side of N pixels [the model's size]")
    add("--back", metavar="MODEL", **several, help="translates back: errors of the round trip, and of --back on --input")
    add("--real", metavar="DIR", **several, help="real pictures of the kind that translations should be: FID, KID")
    add("--truth", metavar="DIR", **several, help="what the translations should be: L1, PSNR, SSIM")
    add("--trust_model", action="store_true", help="load models whatever operations they are made of, those that read and write files too")
    network = "a SavedModel, pictures → vectors, for FID and KID; none: measure neither [Keras' InceptionV3]"
    add("--features", metavar="MODEL", type=storage.path, help=network)
    add("--size", type=cli.Number(int, 8, 4096), help="for FID and KID bring all pictures to N×N first [as they are]")
    add("--sheet", metavar="FILE", type=storage.file_path, help="write a contact sheet, .png or .jpg")
    add("--json", metavar="FILE", type=storage.file_path, help="write the results as JSON")
    add("--overwrite", action="store_true", help="replace output files that exist")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    check(args)
    if args.real and without_features(args):
        print("--features none: neither FID nor KID is measured, and --real not looked at", file=sys.stderr)
        args.real = None
    devices.quiet_tensorflow()
    given = [getattr(args, flag) or [None] * len(args.fake or args.model) for flag in ("fake", "input", "model", "back", "real", "truth")]
    # All of them, before the long work begins.
    damaged: dict[AnyPath, str | None] = {}
    read = functools.partial(cutouts.read, damaged=damaged)
    opened = [open_direction(*paths, args.image_size, args.trust_model, read) for paths in zip(*given, strict=True)]
    network = None
    if args.real:
        network = features.load(args.features, args.trust_model) if args.features else features.inception()
        network = dataclasses.replace(network, first_side=args.size)
    directions = [direction for direction, _ in opened]
    results = [direction.measure(map(read, real) if real else None, network) for direction, real in opened]
    with contextlib.ExitStack() as stack:  # both outputs or none
        if args.json:
            # JSON has no number that is not finite, as the PSNR of equal pictures: null.
            finite = json.loads(json.dumps(results), parse_constant=lambda _: None)
            stack.enter_context(storage.atomic_write(args.json)).write_text(json.dumps(finite, indent=2) + "\n", encoding="utf-8")
        if args.sheet:
            images.write(args.sheet, images.contact_sheet([row for direction in directions for row in direction.rows.items()]))
    for line in sorted(f"{file}: {problem}" for file, problem in damaged.items() if problem):
        print(f"damaged, but measured: {cli.on_one_line(line)}", file=sys.stderr)
    print("\n\n".join(map(describe, results)))
    return cli.DONE


def check(args: argparse.Namespace) -> None:
    """Raises `InputError` for flags that do not go together, and outputs that cannot be written."""
    if (args.fake is None) == (args.model is None):
        raise InputError("give either --fake, pictures that are translated, or --model and --input, which makes them")
    for flag, needs in (("model", "input"), ("back", "model"), ("image_size", "model"), ("features", "real"), ("size", "real")):
        if getattr(args, flag) is not None and getattr(args, needs) is None and (flag, str(args.features)) != ("features", "none"):
            raise InputError(f"--{flag}: is of use with --{needs}; give that, too")
    if not (args.truth or args.back):
        if not args.real:
            raise InputError("nothing to measure by: give --real, --truth or --back")
        if without_features(args):
            raise InputError("--features none: without FID and KID nothing is left to measure; give --truth or --back, or leave it out")
    counts = {flag: len(paths) for flag, paths in vars(args).items() if isinstance(paths, list)}
    if len(set(counts.values())) > 1:
        words = ", ".join(f"--{flag} {count}" for flag, count in counts.items())
        raise InputError(f"each direction needs one of each, and there are {words}: give as many each")
    if args.sheet and args.sheet.suffix.lower() not in images.FORMATS:
        raise InputError(f"--sheet {args.sheet}: write to one of {' '.join(images.FORMATS)}")
    for flag, output in (("--sheet", args.sheet), ("--json", args.json)):
        if output:
            storage.check_output(flag, output, args.overwrite)
            check_sources(args, flag, output)
    if args.sheet and args.json:
        storage.check_apart("--json", args.json, "--sheet", args.sheet)


def without_features(args: argparse.Namespace) -> bool:
    """Tells whether FID and KID are not wanted."""
    return str(args.features) == "none"


def check_sources(args: argparse.Namespace, flag: str, output: AnyPath) -> None:
    """Raises `InputError` if an output would take the place of a model or of a picture, or be the next run's picture."""
    models = [("--features", args.features)] * (args.features is not None and not without_features(args))
    models += [(f"--{name}", model) for name in ("model", "back") for model in getattr(args, name) or []]
    for name, model in models:
        storage.check_apart(flag, output, name, model)
    for folder in (folder for name in ("fake", "input", "real", "truth") for folder in getattr(args, name) or []):
        if output.suffix.lower() in images.SUFFIXES and storage.resolve(folder) in storage.resolve(output).parents:
            raise InputError(f"{flag} {output}: would be one of the pictures in {folder}; name another place")


Read = Callable[[AnyPath], np.ndarray]


class Folder(collections.UserDict):
    """A folder's pictures, uint8 (H, W, 3), by name, read when asked for.

    If they are `paired` with another folder's, names are paths without suffix. Raises `InputError` if two have one name.
    """

    def __init__(self, folder: AnyPath, read: Read = cutouts.read, paired: bool = True):
        super().__init__(pairs.by_name(folder) if paired else {str(file): file for file in images.find(folder)})
        self.folder, self.read = folder, read
        self.short_side: int | None = None  # to which pictures are resized, in pixels; None: as they are

    def __getitem__(self, name: str) -> np.ndarray:
        picture = self.read(self.data[name])
        try:
            return images.resize_short_side(picture, self.short_side) if self.short_side else picture
        except images.PictureError as e:
            raise images.PictureError(f"{self.data[name]}: {e}") from None


def open_direction(
    fake, input, model, back, real, truth, image_size: int | None, trust: bool, read: Read
) -> tuple[Direction, list[AnyPath] | None]:
    """Returns one way of translating, and the real pictures. Paths may be None. Raises `InputError` for what cannot be measured."""
    folders = fake, input, truth
    fakes, inputs, truths = (Folder(folder, read, paired=sum(map(bool, folders)) > 1) if folder else None for folder in folders)
    names = (fakes or inputs).data
    for found in filter(None, (inputs, truths)):
        found.data |= pairs.partners(names, found.data)
        if missing := sorted(set(names) - set(found)):
            raise InputError(f"{found.folder}: has no picture {missing[0]}, which {fake or input} has ({len(missing)} missing)")
    reals = images.find(real) if real else None
    if real:
        check_count(fake or input, len(names))
        check_count(real, len(reals))
    translators = [model_files.load(file, trust) if file else None for file in (model, back)]
    if model:
        inputs.short_side = image_size or translators[0].image_size
    return Direction(str(fake or model), fakes, inputs, truths, *map(as_function, translators)), reals


def as_function(model) -> Translate | None:
    """A model as a function of one picture, uint8 (H, W, 3), which is translated in tiles if the model has but one size."""
    return model and (lambda picture: tiling.translate_in_tiles(model, picture, tile=images.MAX_PIXELS))


def describe(result: dict[str, Any]) -> str:
    """What was measured, as text."""
    lines = [f"{result['fake']}: {result['pictures']} pictures"]
    if real := result.get("to_real"):
        lines.append(f"  {'to the real pictures':26}{'KID ×1000':>18}{'FID':>10}")
        for name in ("translated", UNTRANSLATED):
            if found := real.get(name):
                kid = f"{1000 * found['kid']:.2f} ± {1000 * found['kid_standard_error']:.2f}"
                lines.append(f"    {name:24}{kid:>18}{found['fid']:10.2f}")
        lines.append(f"    {real['real_pictures']} real pictures; features: {real['features']}")
        if (fewest := min(result["pictures"], real["real_pictures"])) <= real["dimensions"]:
            halves = real["fid_of_real_halves"]
            words = f"; half of the real ones against the other half have {halves:.2f}" if halves is not None else ""
            lines.append(f"    FID says little: {fewest} pictures, {real['dimensions']} features, so it is far too large{words}. Go by KID")
    if truth := result.get("to_truth"):
        lines.append(f"  {'to the truth':26}{'L1 %':>8}{'PSNR dB':>10}{'SSIM':>10}")
        for name, found in truth.items():
            lines.append(f"    {name:24}{100 * found['l1']:8.2f}{found['psnr']:10.2f}{found['ssim']:10.3f}")
    if trip := result.get("round_trip"):
        errors = f"{100 * trip['cycle_error']:.2f} % cycle error, {100 * trip['identity_error']:.2f} % identity error (L1)"
        lines.append(f"  there and back: {errors}; {100 * trip['unchanged']:.1f} % came out as they went in")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(cli.run(main))
