"""Measures the project beside its peers, in one run and in turn, and prints Markdown tables.

Needs what `bash scripts/setup.sh bench` installs. The best of a peer's settings counts; a ratio is the median of those of single turns.
Exit status 1 if anything failed: its row says so, or a note below the table.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import flops
from turns import HERE, Measured, measure, why

LAYOUTS = {"PyTorch": [], "PyTorch channels_last": ["--channels_last"], "PyTorch compiled": ["--compiled"]}
PACKAGES = ("tensorflow", "keras", "torch", "onnxruntime", "openvino", "pillow", "numpy")
IMPORTS = 583  # MB that TensorFlow and Keras take when they are imported


@dataclass(frozen=True)
class Network:
    """A generator, and the side of the pictures that it is given."""

    size: int
    ngf: int
    blocks: int

    @property
    def pixels(self) -> str:
        return f"{self.size}×{self.size}"

    def __str__(self) -> str:
        return f"{self.pixels}, ngf {self.ngf}"

    @property
    def flags(self) -> list[str]:
        return ["--size", str(self.size), "--ngf", str(self.ngf), "--blocks", str(self.blocks)]


@dataclass(frozen=True)
class Work:
    """How much is done a turn."""

    large: Network = Network(256, 64, 9)
    small: Network = Network(128, 32, 6)
    read: int = 250  # files of pictures that are read
    crops: int = 100
    built: int = 2000
    translated: int = 200
    steps: int = 80
    products: tuple[int, ...] = (2048, 4096)
    grid: tuple[tuple[int, ...], ...] = ((128, 192, 256), (32, 48, 64), (6, 9))


TINY = Work(
    Network(32, 4, 1), Network(32, 4, 1), read=4, crops=4, built=4, translated=4, steps=4, products=(64, 128), grid=((32,), (4,), (1,))
)


class Table:
    """A Markdown table, each row of which is printed as soon as it is there."""

    def __init__(self, *columns: str):
        self.columns, self.begun = columns, False

    def row(self, cells: list[str]) -> None:
        """`cells`: from the left; those that are missing are empty."""
        if not self.begun:
            print("", self._line(self.columns), self._line(["---"] * len(self.columns)), sep="\n")
            self.begun = True
        print(self._line([*cells, *[""] * (len(self.columns) - len(cells))]), flush=True)

    @staticmethod
    def _line(cells: list[str]) -> str:
        return f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |"


@dataclass
class Row:
    """What is to be measured for a row. `ours` and each of the `peers`, by its setting: arguments of subjects.py."""

    what: str
    ours: list[str]
    peers: dict[str, list[str]]
    target: str = ""
    operations: float = 0  # that the work must do at least
    floor: float | None = None  # target of the time over that of these operations
    limit: Callable[[float], float] | None = None  # of our megabytes, given the peer's
    scale: float = 1  # turns seconds into what is shown


class Report:
    """Measures and prints the rows, and then what else was seen."""

    def __init__(self, folder: str, turns: int, work: Work):
        self.folder, self.turns, self.work = folder, turns, work
        self.notes, self.failed = [], False
        self.table = Table("what", "ours", "peer", "best setting of the peer", "ratio (least … most)", "target", "MB", "of the floor")

    def measure(self, what: str, subjects: dict[str, list[str]]) -> tuple[dict[str, Measured], dict[str, str]]:
        """As `turns.measure`; of those that failed, but for "ours", a note is kept."""
        measured, failed = measure({name: [*arguments, "--folder", self.folder] for name, arguments in subjects.items()}, self.turns)
        self.failed |= bool(failed)
        self.notes += [f"{what}: {name} failed: {reason}" for name, reason in failed.items() if name != "ours"]
        return measured, failed

    def fail(self, what: str, reason: str) -> None:
        self.failed = True
        self.table.row([what, f"failed: {reason}"])

    def compare(self, row: Row) -> None:
        """Prints a row for the best of the peers, and notes the others."""
        subjects = {"ours": row.ours, **row.peers}
        if row.operations:
            products = ["--products", *map(str, self.work.products)]
            subjects["matrix product"] = ["matmul", "--precision", row.ours[row.ours.index("--precision") + 1], *products]
        measured, failed = self.measure(row.what, subjects)
        mine, product = measured.pop("ours", None), measured.pop("matrix product", None)
        peer = min(measured, key=lambda name: measured[name].median, default=None)
        if mine is None:
            self.fail(row.what, failed["ours"])
        elif peer is None:
            self.table.row([row.what, f"{mine.median * row.scale:.3g}", "failed"])
        else:
            self.table.row(compared(row, mine, peer, measured[peer], product))
        notes = [f"{name} {found.median * row.scale:.3g}" for name, found in measured.items() if name != peer]
        notes += [f"matrix product {1000 / product.median:.0f} GFLOP/s"] if product else []
        if notes:
            self.notes.append(f"{row.what}: {', '.join(notes)}")


def compared(row: Row, mine: Measured, peer: str, theirs: Measured, product: Measured | None) -> list[str]:
    """The cells of a row. `product`: seconds of 10¹² operations of a matrix product."""
    median, least, most = mine.ratio(theirs)
    cells = [row.what, f"{mine.median * row.scale:.3g}", f"{theirs.median * row.scale:.3g}", peer]
    cells += [f"**{median:.2f}** ({least:.2f} … {most:.2f})", row.target, memory(mine, theirs, row.limit)]
    if product:
        floor = row.operations / 1e12 * product.median
        cells.append(f"{mine.median / floor:.2f}" + (f" (target {at_most(row.floor)})" if row.floor else ""))
    return cells


def memory(mine: Measured, theirs: Measured, limit: Callable[[float], float] | None) -> str:
    """The largest size of both processes, MB, in brackets less what their imports take; and what ours may take."""
    without = [f" ({found.megabytes - found.imports:.0f}{{}})" if found.imports else "" for found in (mine, theirs)]
    cell = f"{mine.megabytes:.0f}{without[0].format(' without imports')} / {theirs.megabytes:.0f}{without[1].format('')}"
    return cell + (f"; ≤ {limit(theirs.megabytes):.0f}" if limit else "")


def at_most(ratio: float) -> str:
    return f"≤ {ratio:.2f}"


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
    from system import devices

    devices.quiet_tensorflow()


def step(report: Report, formats: list[str]) -> None:
    large, small = report.work.large, report.work.small
    targets = {"float32": [(large, 0.90, None), (small, 0.83, None)], "bfloat16": [(large, 0.85, 1.05), (small, 0.85, 1.30)]}
    for precision in formats:
        for network, target, floor in targets[precision]:
            ours, peers = subject("our_step", network, precision), pytorch("torch_step", network, precision)
            row = Row(f"step, {network}, {precision}, s", ours, peers)
            row.target, row.limit = at_most(target), lambda theirs: 0.95 * theirs + IMPORTS
            row.operations, row.floor = flops.step(network.size, network.ngf, network.blocks), floor
            report.compare(row)
    if "bfloat16" in formats:
        what = f"step, {large.pixels}, ours bfloat16, peer float32, s"
        report.compare(Row(what, subject("our_step", large, "bfloat16"), pytorch("torch_step", large, "float32"), at_most(0.42)))


def subject(name: str, network: Network, precision: str, *flags: str) -> list[str]:
    return [name, *network.flags, "--precision", precision, *flags]


def pytorch(name: str, network: Network, precision: str) -> dict[str, list[str]]:
    return {setting: subject(name, network, precision, *flags) for setting, flags in LAYOUTS.items()}


def forward(report: Report, formats: list[str]) -> None:
    network = report.work.large
    operations = sum(flops.generator(network.size, network.ngf, network.blocks))
    for precision in formats:
        what, ours = f"exported model, {network.pixels}, {precision}, s", subject("our_forward", network, precision)
        openvino = {"OpenVINO": subject("openvino_forward", network, precision)}
        target = at_most({"float32": 0.80, "bfloat16": 0.85}[precision])
        report.compare(Row(what, ours, pytorch("torch_forward", network, precision), target, operations))
        if precision == "float32":
            report.compare(Row(what, ours, {"ONNX Runtime": subject("onnx_forward", network, precision)}, at_most(0.95)))
            report.compare(Row(what, ours, openvino))
        else:
            report.compare(Row(what, ours, openvino, at_most(1.05)))
            what = f"exported model, {network.pixels}, ours {precision}, peer float32, s"
            report.compare(Row(what, ours, pytorch("torch_forward", network, "float32"), at_most(0.50)))


def data(report: Report, formats: list[str]) -> None:
    work = report.work
    what, flags = "`Reader`, 256×256 crops of 500×375 JPEG, ms a picture", ["--pictures", str(work.read), "--crops", str(work.crops)]
    loaders = {f"DataLoader, {n} workers": ["torch_reader", *flags, "--workers", str(n)] for n in (0, 1, 2)}
    report.compare(Row(what, ["our_reader", *flags], loaders, at_most(0.75), scale=1000 / work.crops))
    what, flags = f"`build_data.py`, {work.built:,} such pictures, ms a picture", ["--pictures", str(work.built)]
    report.compare(Row(what, ["our_build", *flags], {"Pillow": ["pillow_build", *flags]}, at_most(1 / 1.6), scale=1000 / work.built))


def inference(report: Report, formats: list[str]) -> None:
    large, small = report.work.large, report.work.small
    for pictures, target in ((report.work.translated, 1.05), (1, 1.15)):
        flags = ["--pictures", str(pictures)]
        what = f"`inference.py`, {pictures} picture{'s' * (pictures > 1)}, {small}, s"
        bare = {"start + passes": subject("bare_inference", small, "float32", *flags)}
        report.compare(Row(what, subject("our_inference", small, "float32", *flags), bare, at_most(target)))
    one = subject("our_inference", large, "float32", "--pictures", "1")
    row = Row(f"`inference.py`, first picture from the shell, .onnx, {large.pixels}, s", [*one, "--format", "onnx"], {"SavedModel": one})
    row.target, row.limit = "≤ 1.5 s", lambda _: 300
    report.compare(row)


def loop(report: Report, formats: list[str]) -> None:
    work = report.work
    flags = [*work.small.flags, "--precision", "float32", "--pictures", str(work.read), "--steps", str(work.steps)]
    command = [sys.executable, str(HERE / "loop.py"), "loop", "--folder", report.folder, *flags]
    shown = [("waiting for data", "wait", 0.01), ("logging, pictures, checkpoints", "overhead", 0.02)]
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=said, text=True)
        if done.returncode:
            return report.fail(" and ".join(what for what, *_ in shown), why(said, done.returncode))
    found = json.loads(done.stdout.splitlines()[-1])
    for what, name, target in shown:
        report.table.row([f"{what}, {work.small}, share of the time", f"{found[name]:.2%}", "", "", "", f"≤ {target:.0%}"])


def sizes(report: Report, formats: list[str]) -> None:
    """A table of its own: a step with the settings that train.py has by itself, which are not quite the paper's."""
    table = Table("step of train.py, s", *formats)
    for network in itertools.starmap(Network, itertools.product(*report.work.grid)):
        what, cells = f"{network}, {network.blocks} blocks", []
        for precision in formats:
            measured, _ = report.measure(what, {precision: subject("our_step", network, precision, "--defaults")})
            cells.append(f"{measured[precision].median:.3g}" if measured else "failed")
        table.row([what, *cells])


PARTS = {part.__name__: part for part in (step, forward, data, inference, loop, sizes)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="turns of each comparison")
    parser.add_argument("--bfloat16", action="store_true", help="measure bfloat16 on a device without such arithmetic, too")
    usual = [name for name in PARTS if name != "sizes"]
    parser.add_argument("--only", nargs="*", choices=PARTS, default=usual, help=f"parts to measure [{' '.join(usual)}]")
    parser.add_argument("--tiny", action="store_true", help="everything small: shows that all of it works, and nothing else")
    args = parser.parse_args()
    quiet()
    from system.devices import native_precision

    formats = ["float32"] + ["bfloat16"] * (args.bfloat16 or native_precision() == "bfloat16")
    print(machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = Report(folder, args.turns, TINY if args.tiny else Work())
        for name, part in PARTS.items():
            if name in args.only:
                part(report, formats)
    if report.notes:
        print("", *(f"- {note}" for note in report.notes), sep="\n")
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
