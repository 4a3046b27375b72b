"""Measures how a training step grows with the batch, the picture and the filters, beside the peer's; prints a table and draws a plot.

Needs what `bash scripts/setup.sh bench` installs. Everything else stays as in a step on one 128×128 picture with ngf 32 and 6 blocks.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import flops
from run import Table, machine, quiet
from turns import HERE, Measured, measure

BASE = {"batch": 1, "size": 128, "ngf": 32}
AXES = {"batch": [1, 2, 4, 8], "size": [64, 128, 192, 256, 384], "ngf": [16, 32, 64]}
TITLES = {"batch": "pictures in a batch", "size": "side of the picture, pixels", "ngf": "filters of the first layer"}
BLOCKS = 6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="turns of each comparison")
    parser.add_argument("--plot", metavar="FILE", type=Path, default=HERE.parent / "docs" / "growth.png", help="PNG file to write")
    parser.add_argument("--tiny", action="store_true", help="one small step: shows that all of it works, and nothing else")
    args = parser.parse_args()
    base, axes = ({"batch": 1, "size": 32, "ngf": 4}, {"batch": [1]}) if args.tiny else (BASE, AXES)
    quiet()
    print(machine(), flush=True)
    table = Table("what", "ours, s", "PyTorch, s", "ratio", "ours, ms a picture", "GFLOP/s, ours", "MB, ours / PyTorch")
    seconds, all_failed = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for axis, value in ((axis, value) for axis, values in axes.items() for value in values):
            sizes = {**base, axis: value}
            flags = [word for name, n in (*sizes.items(), ("blocks", BLOCKS)) for word in (f"--{name}", str(n))]
            flags += ["--precision", "float32", "--folder", folder]
            found, failed = measure({name: [name, *flags] for name in ("our_step", "torch_step")}, args.turns)
            all_failed |= failed
            if failed:
                table.row([f"{axis} {value}", f"failed: {', '.join(failed.values())}"])
            else:
                operations = flops.step(sizes["size"], sizes["ngf"], BLOCKS, batch=sizes["batch"])
                seconds[axis, value] = *(subject.median for subject in found.values()), operations
                table.row([f"{axis} {value}", *cells(*found.values(), operations, sizes["batch"])])
    if not all_failed:
        draw(seconds, base, axes, args.plot)
    return int(bool(all_failed))


def cells(ours: Measured, theirs: Measured, operations: float, batch: int) -> list[str]:
    seconds = [f"{ours.median:.3g}", f"{theirs.median:.3g}", f"{ours.ratio(theirs)[0]:.2f}", f"{1000 * ours.median / batch:.0f}"]
    return [*seconds, f"{operations / ours.median / 1e9:.0f}", f"{ours.megabytes:.0f} / {theirs.megabytes:.0f}"]


def draw(seconds: dict[tuple[str, int], tuple[float, float, float]], base: dict[str, int], axes: dict[str, list[int]], file: Path) -> None:
    """A panel for each axis: seconds of both, and those that our rate at the base would give."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ours, _, operations = seconds["batch", base["batch"]]
    rate = operations / ours
    ticks = [2.0**i for i in range(-4, 6)]
    figure, panels = plt.subplots(1, len(axes), figsize=(11, 3.4), sharey=True, squeeze=False, layout="constrained")
    for panel, (axis, values) in zip(panels[0], axes.items(), strict=True):
        us, them, work = zip(*(seconds[axis, value] for value in values), strict=True)
        panel.loglog(values, us, "o-", label="ours")
        panel.loglog(values, them, "s--", label="PyTorch")
        panel.loglog(values, [n / rate for n in work], ":", color="grey", label="operations at our rate for one 128×128 picture, ngf 32")
        panel.set_xlabel(TITLES[axis])
        panel.set_xticks(values, map(str, values))
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0, 0].set_ylabel("a training step, s")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
