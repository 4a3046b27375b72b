"""Measures how a training step grows with the batch, the picture and the filters, beside the peer's; prints a table and draws a plot.

Needs what `bash scripts/setup.sh bench` installs. Everything else stays as in a step on one 128×128 picture with ngf 32 and 6 blocks.
"""

import argparse
import tempfile
from pathlib import Path

import flops
from run import Table, machine, quiet
from turns import HERE, measure

BASE = {"batch": 1, "size": 128, "ngf": 32}
AXES = {"batch": [1, 2, 4, 8], "size": [64, 128, 192, 256, 384], "ngf": [16, 32, 64]}
TITLES = {"batch": "pictures in a batch", "size": "side of the picture, pixels", "ngf": "filters of the first layer"}
BLOCKS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="turns of each comparison")
    parser.add_argument("--plot", metavar="FILE", type=Path, default=HERE.parent / "docs" / "growth.png", help="PNG file to write")
    args = parser.parse_args()
    quiet()
    table = Table("what", "ours, s", "PyTorch, s", "ratio", "ours, ms a picture", "GFLOP/s, ours", "MB, ours / PyTorch")
    print(f"{machine()}\n\n{table.head}", flush=True)
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        for axis, values in AXES.items():
            for value in values:
                sizes = {**BASE, axis: value}
                flags = [word for name, n in (*sizes.items(), ("blocks", BLOCKS)) for word in (f"--{name}", str(n))]
                found = measure({name: [name, *flags, "--folder", folder] for name in ("our_step", "torch_step")}, args.turns)
                ours, theirs = found["our_step"], found["torch_step"]
                operations = flops.step(sizes["size"], sizes["ngf"], BLOCKS, batch=sizes["batch"])
                cells = [f"{axis} {value}", f"{ours.median:.3g}", f"{theirs.median:.3g}", f"{ours.ratio(theirs)[0]:.2f}"]
                cells += [f"{1000 * ours.median / sizes['batch']:.0f}", f"{operations / ours.median / 1e9:.0f}"]
                table.row([*cells, f"{ours.megabytes:.0f} / {theirs.megabytes:.0f}"])
                seconds[axis, value] = ours.median, theirs.median, operations
    draw(seconds, args.plot)


def draw(seconds: dict[tuple[str, int], tuple[float, float, float]], file: Path) -> None:
    """A panel for each axis: seconds of both, and those that our rate at the base would give."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    ours, _, operations = seconds["batch", BASE["batch"]]
    rate = operations / ours
    ticks = [2.0**i for i in range(-4, 6)]
    figure, panels = plt.subplots(1, len(AXES), figsize=(11, 3.4), sharey=True, layout="constrained")
    for panel, (axis, values) in zip(panels, AXES.items(), strict=True):
        us, them, work = zip(*(seconds[axis, value] for value in values), strict=True)
        panel.loglog(values, us, "o-", label="ours")
        panel.loglog(values, them, "s--", label="PyTorch")
        panel.loglog(values, [n / rate for n in work], ":", color="grey", label="operations at our rate for one 128×128 picture, ngf 32")
        panel.set_xlabel(TITLES[axis])
        panel.set_xticks(values, map(str, values))
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("a training step, s")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
