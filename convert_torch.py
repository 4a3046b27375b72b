"""A generator trained in PyTorch, by the code of the paper's authors say → a frozen SavedModel, as export_graph.py writes it.

Reads the state dict of a ResNet generator or of a U-Net (pytorch-CycleGAN-and-pix2pix: latest_net_G.pth), alone or among others in a
file. Its layers are known by their order and their shapes, whatever their names. How they pad, where a U-Net's ReLUs are and what is added
to variances it cannot tell: reflection in a ResNet and zeros in a U-Net, before each convolution, and 1e-5, as the authors' code has them.

Which normalisation it has follows from the tensors, as in that code: scales with running statistics, and no biases before them, are
batch normalisation; scales without statistics, or biases without scales, instance normalisation. Of anything else --norm must tell.
Batch normalisation is converted as in evaluation, with the running statistics; those of instance normalisation are left out, as there.
The authors' test.py shows pictures of batch normalisation otherwise, unless it is told --eval: see --statistics. (It also goes on dropping
values by chance, which no model does.)
"""

import argparse
import sys

from formats import model_files, pytorch
from pictures import shards
from system import cli, devices, storage
from system.cli import InputError
from training.config import PRECISIONS


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    add("--weights", metavar="FILE", type=storage.path, required=True, help="a state dict that PyTorch saved (.pth)")
    add("--output", metavar="MODEL", type=storage.path, required=True, help="the model to write, pretrained/horse2zebra.pb say")
    add("--image_size", type=cli.Number(int, 8, multiple=4), default=256, help="size that inference.py brings pictures to")
    add("--source", metavar="WORD", help="what the model translates [horse, of an --output horse2zebra.pb]")
    add("--target", metavar="WORD", help="and into what [zebra]")
    add("--norm", choices=("instance", "batch"), help="normalisation that the network was trained with [as the file tells]")
    add(
        "--statistics",
        choices=("averages", "picture"),
        help="what batch normalisation takes: the averages of training, or each picture's own, as the authors' test.py [averages]",
    )
    add("--precision", choices=PRECISIONS, default="float32", help="number type of the arithmetic; auto: the fastest of this device")
    add("--overwrite", action="store_true", help="replace a model that exists, instead of moving it aside")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    storage.check_regular(args.weights)
    if not args.weights.is_file():
        raise InputError(f"--weights {args.weights}: no such file")
    model_files.check_output(args.output)
    storage.check_apart("--output", args.output, "--weights", args.weights)
    name = args.output.stem
    source, target = shards.domains(name) or (f"{name}_A", f"{name}_B")  # the latter as scripts/common.sh has it
    source, target = args.source or source, args.target or target
    modules = pytorch.read(args.weights)
    try:
        layers = pytorch.find(modules)
        norm = words = pytorch.normalization(layers, args.norm)
        if args.statistics and norm == "instance":
            raise InputError(f"--statistics {args.statistics} is for batch normalisation, and this has instance; leave it out")
        if args.statistics == "picture":
            norm, words = "instance", "batch (of each picture by itself)"
        pytorch.check(layers, norm)
    except InputError as e:
        raise InputError(f"--weights {args.weights}: {e}") from None
    kind, ngf, count = pytorch.size(layers)
    if kind == "unet" and (problem := cli.Number(int, 2**count, multiple=2**count).problem(args.image_size)):
        raise InputError(f"--image_size {args.image_size} {problem}")

    devices.quiet_tensorflow()
    from generator import Generator, UNet

    precision = devices.native_precision() if args.precision == "auto" else args.precision
    with devices.number_type(precision):
        generator = (UNet if kind == "unet" else Generator)(ngf, count, norm, "transpose")
    pytorch.assign(generator, layers, norm)
    metadata = {"image_size": args.image_size, "generator": kind, "norm": norm, "ngf": ngf, "precision": precision}
    metadata |= {"converted_from": args.weights.name, "source": source, "target": target}
    ((old, _),) = model_files.write([(generator, metadata, args.output)], overwrite=args.overwrite)
    if old:
        print(f"{args.output}: the model that stood there is now {old}")
    size = f"{ngf} filters, {count} {'levels' if kind == 'unet' else 'residual blocks'}, {words} normalisation"
    print(f"{args.output}: {source} → {target}, from {args.weights} ({size})")
    for name in pytorch.unpadded(layers):
        print(f"{name}: comes first in its sequence; if it pads with zeros, pictures differ at their edges from PyTorch's", file=sys.stderr)
    return cli.DONE


if __name__ == "__main__":
    sys.exit(cli.run(main))
