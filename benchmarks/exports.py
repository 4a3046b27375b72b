"""Measures an exported generator in every format, in turn: size, time, difference from the checkpoint. Prints Markdown tables.

Needs what `bash scripts/setup.sh bench` installs. Weights are fresh ones; what training makes of them hardly changes size and time.
"""

import argparse
import re
import tempfile
from pathlib import Path

from run import Table, machine
from turns import measure

FORMATS = {
    "SavedModel": [],
    "ONNX": ["--format", "onnx"],
    "TensorFlow Lite": ["--format", "tflite"],
    "TensorFlow Lite, float16": ["--format", "tflite", "--quantize", "float16"],
    "TensorFlow Lite, int8": ["--format", "tflite", "--quantize", "int8"],
}
NETWORKS = {"256×256, ngf 64, 9 blocks": (256, 64, 9), "128×128, ngf 32, 6 blocks": (128, 32, 6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="turns of each comparison")
    args = parser.parse_args()
    print(machine())
    for name, (size, ngf, blocks) in NETWORKS.items():
        flags = ["--size", str(size), "--ngf", str(ngf), "--blocks", str(blocks)]
        with tempfile.TemporaryDirectory() as folder:
            subjects = {format: ["our_forward", *flags, *more, "--folder", folder] for format, more in FORMATS.items()}
            measured = measure(subjects, args.turns)
            print(f"\n{name}:\n\n{Table('format', 'MB', 's', 'of the SavedModel (least … most)', 'largest', 'mean', 'process, MB').head}")
            for format, found in measured.items():
                quantize = FORMATS[format][-1] if "--quantize" in FORMATS[format] else None
                suffix = FORMATS[format][1] if FORMATS[format] else "pb"
                file = Path(folder, f"{size}-{ngf}-{blocks}-float32-{quantize}.{suffix}")
                files = [f for f in file.rglob("*") if f.is_file()] if file.is_dir() else [file]
                megabytes = sum(f.stat().st_size for f in files) / 1e6
                median, least, most = found.ratio(measured["SavedModel"])
                said = file.with_name(f"{file.name}.txt")
                differences = re.findall(r"[0-9.e-]+(?= at most| on average)", said.read_text()) if said.is_file() else ["", ""]
                cells = [format, f"{megabytes:.1f}", f"{found.median:.3g}", f"**{median:.2f}** ({least:.2f} … {most:.2f})"]
                Table.row([*cells, *differences, f"{found.megabytes:.0f}"])


if __name__ == "__main__":
    main()
