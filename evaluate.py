"""How good translations are: beside real pictures (--real), the truth (--truth), and themselves after the way back (--model --back).

Translations are the pictures in --fake, or what --model makes of --input. Each flag takes one folder or model for each direction, in the
same order. Pictures belong together by name, their suffix aside.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pictures import images
from quality import metrics
from system import cli, devices, storage
from system.cli import InputError
from system.storage import AnyPath

if TYPE_CHECKING:
    from quality.features import Features

SHEET_COLUMNS = 8
UNTRANSLATED, COLOUR_CHANGE = "untranslated", "best linear colour change"


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    several = {"type": storage.path, "nargs": "+"}
    parser.add_argument("--fake", metavar="DIR", **several, help="translated pictures")
    parser.add_argument("--input", metavar="DIR", **several, help="what is, or was, translated")
    parser.add_argument("--model", metavar="MODEL", **several, help="translates --input")
    parser.add_argument(
        "--image_size",
        metavar="N",
        type=cli.number(int, 8, 4096),
        help="what --model gets has a short side of N pixels [the model's size]",
    )
    parser.add_argument("--back", metavar="MODEL", **several, help="translates back: errors of the round trip, and of --back on --input")
    parser.add_argument("--real", metavar="DIR", **several, help="real pictures of the kind that translations should be: FID, KID")
    parser.add_argument("--truth", metavar="DIR", **several, help="what the translations should be: L1, PSNR, SSIM")
    parser.add_argument(
        "--features", metavar="MODEL", type=storage.path, help="a SavedModel, pictures → vectors, for FID and KID [Keras' InceptionV3]"
    )
    parser.add_argument(
        "--size", metavar="N", type=cli.number(int, 8, 4096), help="for FID and KID bring all pictures to N×N first [as they are]"
    )
    parser.add_argument("--sheet", metavar="FILE", type=storage.path, help="write a contact sheet, .png or .jpg")
    parser.add_argument("--json", metavar="FILE", type=storage.path, help="write the results as JSON")
    parser.add_argument("--overwrite", action="store_true", help="replace output files that exist")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    check(args)
    devices.quiet_tensorflow()
    flags = ("fake", "input", "model", "back", "real", "truth")
    given = [{flag: getattr(args, flag)[i] if getattr(args, flag) else None for flag in flags} for i in range(len(args.fake or args.model))]
    directions = [
        Direction(**paths, image_size=args.image_size) for paths in given
    ]  # what is wrong with any of them is told before the work begins
    features = load_features(args.features, args.size) if args.real else None
    results = [direction.measure(features) for direction in directions]
    with contextlib.ExitStack() as stack:  # both outputs or none
        if args.json:
            stack.enter_context(storage.whole(args.json)).write_text(json.dumps(finite(results), indent=2) + "\n")
        if args.sheet:
            images.write(args.sheet, images.contact_sheet([row for direction in directions for row in direction.rows]))
    print("\n\n".join(map(describe, results)))
    return cli.DONE


def check(args: argparse.Namespace) -> None:
    """Raises `InputError` for flags that do not go together, and outputs that cannot be written."""
    if (args.fake is None) == (args.model is None):
        raise InputError("give either --fake, pictures that are translated, or --model and --input, which makes them")
    for flag, needs in (("model", "input"), ("back", "model"), ("image_size", "model"), ("features", "real"), ("size", "real")):
        if getattr(args, flag) is not None and getattr(args, needs) is None:
            raise InputError(f"--{flag}: is of use with --{needs}; give that, too")
    if not (args.real or args.truth or args.back):
        raise InputError("nothing to measure by: give --real, --truth or --back")
    counts = {flag: len(paths) for flag, paths in vars(args).items() if isinstance(paths, list)}
    if len(set(counts.values())) > 1:
        words = ", ".join(f"--{flag} {count}" for flag, count in counts.items())
        raise InputError(f"each direction needs one of each, and there are {words}: give as many each")
    if args.sheet and args.sheet.suffix.lower() not in images.FORMATS:
        raise InputError(f"--sheet {args.sheet}: write to one of {' '.join(images.FORMATS)}")
    for flag, output in (("--sheet", args.sheet), ("--json", args.json)):
        if output:
            storage.check_output(flag, output, args.overwrite)
    if args.sheet and args.json:
        storage.check_apart("--json", args.json, "--sheet", args.sheet)


def load_features(file: AnyPath | None, first_side: int | None) -> "Features":
    from quality import features

    found = features.load(file) if file else features.inception()
    return dataclasses.replace(found, first_side=first_side)


def load_model(file: AnyPath | None) -> Callable[[np.ndarray], np.ndarray] | None:
    """A model as a function of one picture, uint8 (H, W, 3), that knows its `image_size`."""
    if file is None:
        return None
    from formats import translator

    model = translator.load(file)

    def translate(picture: np.ndarray) -> np.ndarray:
        return model(picture[None])[0]

    translate.image_size = model.image_size
    return translate


class Direction:
    """One way of translating: its pictures by name, and what is measured of them. Folders and models are None if not given.

    Raises `InputError`, also while it measures, for pictures that cannot be read.
    """

    def __init__(self, fake, input, model, back, real, truth, image_size: int | None = None):
        self.title, self.real = str(fake or model), real
        self.fakes, self.inputs, self.truths = (by_name(folder) if folder else None for folder in (fake, input, truth))
        self.names = list(self.fakes or self.inputs)
        for folder, found in ((input, self.inputs), (truth, self.truths)):
            missing = sorted(set(self.names) - set(found)) if folder else []
            if missing:
                raise InputError(f"{folder}: has no picture {missing[0]}, which {fake or input} has ({len(missing)} missing)")
        if real:
            from quality.held_out import check_count

            check_count(fake or input, len(self.names))
            check_count(real, len(images.find(real)))
        self.there, self.back = load_model(model), load_model(back)
        self.side = image_size or (self.there and self.there.image_size)
        self.sizes: dict[str, tuple[int, int]] = {}  # of the translations, once they have been looked at
        self.rows: list[tuple[str, list[np.ndarray]]] = []  # of a sheet, likewise

    def measure(self, features: "Features | None") -> dict[str, Any]:
        """Returns all that was asked for, as it goes into the JSON file."""
        from quality.held_out import RoundTrip, to_real

        trip, from_truth = RoundTrip(), []
        translations = self.translations(trip, from_truth)  # which are made one by one, in one of the two ways below
        result = {"fake": self.title, "pictures": len(self.names)}
        if self.real:
            real = features(images.read(file) for file in images.find(self.real))
            found = {"translated": to_real(real, features(translations))}
            if self.inputs:
                found[UNTRANSLATED] = to_real(real, features(self.sized(self.inputs)))
            result["to_real"] = {"real_pictures": len(real), "features": features.name, "dimensions": real.shape[1], **found}
            # What FID is when nothing is wrong but the number of pictures.
            result["to_real"]["fid_of_real_halves"] = metrics.fid(real[::2], real[1::2]) if len(real) > 3 else None
        else:
            collections.deque(translations, maxlen=0)
        if self.truths:
            result["to_truth"] = {"translated": mean(from_truth)}
            if self.inputs:
                change = metrics.fit_colour_change(self.sized(self.inputs), self.sized(self.truths))
                recoloured = (metrics.change_colour(picture, change) for picture in self.sized(self.inputs))
                for name, pictures in ((UNTRANSLATED, self.sized(self.inputs)), (COLOUR_CHANGE, recoloured)):
                    result["to_truth"][name] = mean(map(distances, pictures, self.sized(self.truths)))
        if self.back:
            result["round_trip"] = trip.result()
        return result

    def translations(self, trip, from_truth: list[dict[str, float]]) -> Iterator[np.ndarray]:
        """Yields all translations, and takes in what belongs to them on the way."""
        shown: dict[str, list] = {"input": [], "translated": [], "there and back": [], "truth": []}
        for name in self.names:
            if self.there:
                source = images.resize_short_side(images.read(self.inputs[name]), self.side)
                fake = self.there(source)
            else:
                fake = images.read(self.fakes[name])
            self.sizes[name] = fake.shape[:2]
            made = {"translated": fake}
            if self.inputs:
                made["input"] = source if self.there else next(self.sized(self.inputs, [name]))
            if self.back:
                made["there and back"] = self.back(fake)
                trip.take(source, fake, made["there and back"], self.back(source))
            if self.truths:
                made["truth"] = next(self.sized(self.truths, [name]))
                from_truth.append(distances(fake, made["truth"]))
            for row, picture in made.items():
                if len(shown[row]) < SHEET_COLUMNS:
                    shown[row].append(picture)
            yield fake
        self.rows = [(row, pictures) for row, pictures in shown.items() if pictures]

    def sized(self, files: dict[str, AnyPath], names: list[str] | None = None) -> Iterator[np.ndarray]:
        """Yields pictures in the sizes of their translations."""
        return (images.resize(images.read(files[name]), *self.sizes[name]) for name in names or self.names)


def by_name(folder: AnyPath) -> dict[str, AnyPath]:
    """Returns the pictures of a folder by their path in it without the suffix. Raises `InputError` if two share one."""
    names = {}
    for file in images.find(folder):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in names:
            raise InputError(f"{file}: {names[name].name} has the same name; remove one of them")
        names[name] = file
    return names


def distances(picture: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return {"l1": metrics.l1(picture, truth), "psnr": metrics.psnr(picture, truth), "ssim": metrics.ssim(picture, truth)}


def mean(values: Iterable[dict[str, float]]) -> dict[str, float]:
    values = list(values)
    return {name: float(np.mean([each[name] for each in values])) for name in values[0]}


def finite(results: Any) -> Any:
    """The same with null, which JSON has, for numbers that are not finite: the PSNR of equal pictures, say."""
    if isinstance(results, dict):
        return {name: finite(value) for name, value in results.items()}
    if isinstance(results, list):
        return [finite(value) for value in results]
    return None if isinstance(results, float) and not math.isfinite(results) else results


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
        fewest = min(result["pictures"], real["real_pictures"])
        if fewest <= real["dimensions"]:
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
