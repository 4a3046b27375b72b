"""Measures an exported generator in every format, in turn: size, time, difference from the checkpoint. Prints Markdown tables.

Needs what `bash scripts/setup.sh bench` installs. Weights are fresh ones; what training makes of them hardly changes size and time.
"""

import argparse
import re
import sys
import tempfile
from pathlib import Path

from run import TINY, Table, Work, machine, subject
from turns import Measured, measure

FORMATS = {
    "SavedModel": [],
    "ONNX": ["--format", "onnx"],
    "TensorFlow Lite": ["--format", "tflite"],
    "TensorFlow Lite, float16": ["--format", "tflite", "--quantize", "float16"],
    "TensorFlow Lite, int8": ["--format", "tflite", "--quantize", "int8"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9, help="turns of each comparison")
    parser.add_argument("--tiny", action="store_true", help="one small network: shows that all of it works, and nothing else")
    args = parser.parse_args()
    print(machine(), flush=True)
    all_failed = {}
    for network in [TINY.large] if args.tiny else [Work.large, Work.small]:
        with tempfile.TemporaryDirectory() as folder:
            subjects = {format: subject("our_forward", network, "float32", *more, "--folder", folder) for format, more in FORMATS.items()}
            measured, failed = measure(subjects, args.turns)
            print(f"\n{network}, {network.blocks} blocks:")
            table = Table("format", "MB", "s", "of the SavedModel (least … most)", "largest", "mean", "process, MB")
            for format, more in FORMATS.items():
                if format in failed:
                    table.row([format, f"failed: {failed[format]}"])
                else:
                    quantize, suffix = (more[-1] if "--quantize" in more else None), (more[1] if more else "pb")
                    file = Path(folder, f"{network.size}-{network.ngf}-{network.blocks}-float32-{quantize}.{suffix}")
                    table.row([format, *cells(file, measured[format], measured.get("SavedModel"))])
            all_failed |= failed
    return int(bool(all_failed))


def cells(file: Path, found: Measured, other: Measured | None) -> list[str]:
    """What is said of the model in `file`, beside another one."""
    files = [f for f in file.rglob("*") if f.is_file()] if file.is_dir() else [file]
    size = sum(f.stat().st_size for f in files) / 1e6
    median, least, most = found.ratio(other) if other else [float("nan")] * 3
    said = file.with_name(f"{file.name}.txt")
    differences = re.findall(r"[0-9.e-]+(?= at most| on average)", said.read_text()) if said.is_file() else ["", ""]
    return [f"{size:.1f}", f"{found.median:.3g}", f"**{median:.2f}** ({least:.2f} … {most:.2f})", *differences, f"{found.megabytes:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
