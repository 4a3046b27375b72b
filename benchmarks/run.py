"""Measures the project beside its peers, in one run and in turn, and prints a Markdown table.

Needs what `bash scripts/setup.sh bench` installs. The best of a peer's settings counts; a ratio is the median of those of single turns.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import flops
from turns import HERE, measure

SMALL = ["--size", "128", "--ngf", "32", "--blocks", "6"]
LAYOUTS = {"PyTorch": [], "PyTorch channels_last": ["--channels_last"], "PyTorch compiled": ["--compiled"]}
PACKAGES = ("tensorflow", "keras", "torch", "onnxruntime", "pillow", "numpy")


class Table:
    """A Markdown table, each row of which is printed as soon as it is there."""

    def __init__(self, *columns: str):
        self.head = "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns)))

    @staticmethod
    def row(cells: list[str]) -> None:
        print("| " + " | ".join(cells) + " |", flush=True)


class Report:
    """Measures and prints the rows, and then what else was seen."""

    def __init__(self, folder: str, turns: int):
        self.folder, self.turns, self.notes = folder, turns, []
        self.table = Table("what", "ours", "peer", "best setting of the peer", "ratio (least … most)", "target", "MB", "of the floor")
        print(self.table.head, flush=True)

    def compare(
        self, what: str, ours: list[str], peers: dict[str, list[str]], target: float | None, operations: float = 0, scale: float = 1
    ) -> None:
        """A row for the best of `peers`. `operations`: what the work must do at least; `scale`: turns seconds into what is shown."""
        subjects = {"ours": ours, **peers}
        if operations:
            precision = ours[ours.index("--precision") + 1] if "--precision" in ours else "float32"
            subjects["matmul"] = ["matmul", "--precision", precision]
        measured = measure({name: [*arguments, "--folder", self.folder] for name, arguments in subjects.items()}, self.turns)
        mine, product = measured.pop("ours"), measured.pop("matmul", None)
        peer = min(measured, key=lambda name: measured[name].median)
        theirs = measured[peer]
        median, least, most = mine.ratio(theirs)
        cells = [what, f"{mine.median * scale:.3g}", f"{theirs.median * scale:.3g}", peer, f"**{median:.2f}** ({least:.2f} … {most:.2f})"]
        cells += [f"≤ {target:.2f}" if target else "", f"{mine.megabytes:.0f} / {theirs.megabytes:.0f}"]
        rate = 2 * 2048**3 / product.median if product else 0
        self.table.row([*cells, f"{mine.median / (operations / rate):.2f}" if product else ""])
        notes = [f"{name} {m.median * scale:.3g}" for name, m in measured.items() if name != peer]
        notes += [f"matrix product {rate / 1e9:.0f} GFLOP/s"] * bool(product)
        if notes:
            self.notes.append(f"{what}: {', '.join(notes)}")


def machine() -> str:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line.split(": ")[1].split() for line in lines if line.startswith("flags")), [])
    best = next((flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags), "")
    return f"{name}, {os.cpu_count()} cores, {best or platform.machine()}; " + ", ".join(f"{p} {version(p)}" for p in PACKAGES)


def quiet() -> None:
    """Makes the project importable, and TensorFlow silent."""
    sys.path.insert(0, str(HERE.parent))
    import cli

    cli.quiet_tensorflow()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="turns of each comparison")
    parser.add_argument("--bfloat16", action="store_true", help="measure bfloat16 on a device without such arithmetic, too")
    parser.add_argument("--only", nargs="*", default=["step", "forward", "data", "inference", "loop"], help="parts to measure")
    args = parser.parse_args()
    quiet()
    from utils import native_precision

    formats = ["float32"] + ["bfloat16"] * (args.bfloat16 or native_precision() == "bfloat16")
    print(f"{machine()}\n")
    with tempfile.TemporaryDirectory() as folder:
        report = Report(folder, args.turns)
        for part in args.only:
            globals()[part](report, formats)
        print("", *(f"- {note}" for note in report.notes), sep="\n")


def step(report: Report, formats: list[str]) -> None:
    for precision in formats:
        flags = ["--precision", precision]
        peers = {name: ["torch_step", *flags, *setting] for name, setting in LAYOUTS.items()}
        target = {"float32": 0.9, "bfloat16": 0.7}[precision]
        report.compare(f"step, 256×256, ngf 64, {precision}, s", ["our_step", *flags], peers, target, flops.step(256, 64, 9))
        peers = {name: [*arguments, *SMALL] for name, arguments in peers.items()}
        target = {"float32": None, "bfloat16": 0.75}[precision]
        report.compare(f"step, 128×128, ngf 32, {precision}, s", ["our_step", *flags, *SMALL], peers, target, flops.step(128, 32, 6))
    if "bfloat16" in formats:
        peers = {name: ["torch_step", *setting] for name, setting in LAYOUTS.items()}
        report.compare("step, 256×256, ours bfloat16, peer float32, s", ["our_step", "--precision", "bfloat16"], peers, 0.42)


def forward(report: Report, formats: list[str]) -> None:
    once = sum(flops.generator(256, 64, 9))
    for precision in formats:
        flags = ["--precision", precision]
        peers = {name: ["torch_forward", *flags, *setting] for name, setting in LAYOUTS.items() if name != "PyTorch compiled"}
        target = {"float32": 0.95, "bfloat16": 1.0}[precision]
        report.compare(f"exported model, 256×256, {precision}, s", ["our_forward", *flags], peers, target, once)
    report.compare("exported model, 256×256, float32, s", ["our_forward"], {"ONNX Runtime": ["onnx_forward"]}, 1.0, once)


def data(report: Report, formats: list[str]) -> None:
    loaders = {f"DataLoader, {n} workers": ["torch_reader", "--workers", str(n)] for n in (0, 1, 2)}
    report.compare("`Reader`, 256×256 crops of 500×375 JPEG, ms a picture", ["our_reader"], loaders, 1.0, scale=10)
    report.compare("`build_data.py`, 2,000 such pictures, ms a picture", ["our_build"], {"Pillow": ["pillow_build"]}, 1 / 1.6, scale=0.5)


def inference(report: Report, formats: list[str]) -> None:
    for pictures, target in ((200, 1.05), (1, 1.15)):
        flags = [*SMALL, "--pictures", str(pictures)]
        what = f"`inference.py`, {pictures} picture{'s' * (pictures > 1)}, 128×128, ngf 32, s"
        report.compare(what, ["our_inference", *flags], {"start + passes": ["bare_inference", *flags]}, target)


def loop(report: Report, formats: list[str]) -> None:
    command = [sys.executable, str(HERE / "loop.py"), "loop", "--folder", report.folder, *SMALL]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    for what, name, target in (("waiting for data", "wait", 0.01), ("logging, pictures, checkpoints", "overhead", 0.02)):
        report.table.row([f"{what}, 128×128, ngf 32, share of the time", f"{found[name]:.2%}", "", "", "", f"≤ {target:.0%}", "", ""])


if __name__ == "__main__":
    main()
