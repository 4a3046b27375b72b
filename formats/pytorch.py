"""State dicts of generators that PyTorch saved: read, recognised by order and shapes, given to ours. Loads without TensorFlow."""

import io
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from system.cli import InputError
from system.storage import AnyPath

Name = tuple[str, ...]  # the parts of a dotted name
Modules = dict[Name, dict[str, np.ndarray]]  # their tensors by PyTorch's names: weight, bias, running_mean, running_var, …

STATISTICS = {"running_mean", "running_var"}
TENSORS = {"weight", "bias", "num_batches_tracked"} | STATISTICS


@dataclass
class Layer:
    """A convolution, and the tensors of the normalisation after it. `kernel`: (out, in, k, k), of a transposed one (in, out, k, k).

    Not all have a normalisation after them; and those that have need not have tensors of it.
    """

    name: str
    kernel: np.ndarray
    bias: np.ndarray | None = None
    norm: dict[str, np.ndarray] = field(default_factory=dict)
    normalized: bool = True


def read(file: AnyPath) -> Modules:
    """Reads all tensors of a file that PyTorch saved, in the order of the network.

    Raises `InputError` if there is no PyTorch, or the file holds no state dict, or one that only code in the file could restore.
    """
    try:
        import torch
    except ImportError:
        raise InputError("PyTorch is missing, which reads such files: bash scripts/setup.sh torch installs it") from None

    def tensors(content: Mapping, above: Name = ()) -> Iterator[tuple[Name, np.ndarray]]:
        for key, value in content.items():
            name = (*above, *str(key).split("."))
            if isinstance(value, Mapping):
                yield from tensors(value, name)
            elif isinstance(value, torch.Tensor) and value.layout == torch.strided and value.is_cpu and not value.is_quantized:
                yield name, (value.float() if value.is_floating_point() else value).detach().numpy()

    data = file.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return in_order(list(tensors(content))) if isinstance(content, Mapping) else {}
    except MemoryError:
        raise
    except Exception as e:  # a damaged file can raise nearly anything
        if "Unsupported global" in str(e) or "TorchScript" in str(e):
            reason = "holds more than tensors, and unpickling that could run any code: save the network's state_dict() alone"
        else:
            reason = "damaged, or no file that PyTorch saved"
        raise InputError(f"--weights {file}: {reason}") from None


def in_order(tensors: list[tuple[Name, np.ndarray]], depth: int = 0) -> Modules:
    """Groups tensors into modules, as they come; by number where they are numbered, as some tools sort 10 before 2."""
    modules: Modules = {}
    children: dict[str, list] = {}
    for name, tensor in tensors:
        if len(name) == depth + 1:
            modules.setdefault(name[:-1], {})[name[-1]] = tensor
        else:
            children.setdefault(name[depth], []).append((name, tensor))
    numbered = all(key.isdecimal() for key in children)
    for key in sorted(children, key=lambda key: (len(key), key)) if numbered else children:
        modules |= in_order(children[key], depth + 1)
    return modules


def find(modules: Modules) -> list[Layer]:
    """The layers of the one generator among all modules of a file. Raises `InputError` if there is none, or if there are several."""
    found = generators(modules)
    if len(found) > 1:
        names = ", ".join(".".join(name) for name in found)
        raise InputError(f"holds {len(found)} generators ({names}); save the state dict of one")
    if found:
        return next(iter(found.values()))
    kernels = [tensors["weight"].shape for tensors in modules.values() if np.ndim(tensors.get("weight")) == 4]
    if not kernels:
        raise InputError("holds no state dict of a network with convolutions")
    if kernels[-1][0] == 1 and {kernel[2:] for kernel in kernels} <= {(4, 4), (1, 1)}:
        raise InputError("a discriminator, which makes no pictures; give the file of a generator, latest_net_G.pth say")
    return network(modules)  # raises what is wrong with it


def generators(modules: Modules, depth: int = 0) -> dict[Name, list[Layer]]:
    """The generators among the modules, by what their names have in common."""
    try:
        layers = network(modules)
    except InputError:
        children: dict[str, Modules] = {}
        for name, tensors in modules.items():
            if len(name) > depth:
                children.setdefault(name[depth], {})[name] = tensors
        return {name: layers for child in children.values() for name, layers in generators(child, depth + 1).items()}
    return {next(iter(modules))[:depth]: layers}


def network(modules: Modules) -> list[Layer]:
    """All modules as the layers of one generator. Raises `InputError` if they are anything else."""
    layers: list[Layer] = []
    kind = "U-Net" if {np.shape(tensors.get("weight"))[2:] for tensors in modules.values()} <= {(), (4, 4)} else "ResNet"
    for name, tensors in modules.items():
        if strange := next((key for key in tensors if key not in TENSORS), None):
            raise InputError(f"no {kind} generator: has a {'.'.join((*name, strange))}")
        if np.ndim(tensors.get("weight")) == 4:
            layers.append(Layer(".".join(name), tensors["weight"], tensors.get("bias")))
        elif layers and not layers[-1].norm:
            layers[-1].norm = tensors
        else:
            raise InputError(f"no {kind} generator: {'.'.join(name) or 'its weight'} follows no convolution")
    k = max(1, layers[0].kernel.shape[0]) if layers else 1
    shapes, transposed, plain = unet(k, len(layers)) if kind == "U-Net" else resnet(k, len(layers))
    for i, (layer, shape) in enumerate(zip(layers, shapes, strict=True)):
        if layer.kernel.shape != shape or layer.kernel.dtype != np.float32:
            found = f"{'×'.join(map(str, layer.kernel.shape))} {layer.kernel.dtype}"
            raise InputError(f"no {kind} generator for colour pictures: {layer.name} is {found}, not {'×'.join(map(str, shape))} float32")
        channels = shape[i in transposed]
        vectors = [layer.bias, *(tensor for key, tensor in layer.norm.items() if key != "num_batches_tracked")]
        wrong = next((v.shape for v in vectors if v is not None and v.shape != (channels,)), None)
        if wrong is not None:
            raise InputError(f"no {kind} generator: {layer.name} has {channels} filters, but a vector of shape {wrong} belongs to it")
        layer.normalized = i not in plain
        if layer.norm and not layer.normalized:
            which = "last" if i == len(layers) - 1 else "first" if i == 0 else "innermost"
            raise InputError(f"no {kind} generator: its {which} convolution has a normalisation")
    return layers


def resnet(k: int, number: int) -> tuple[list[tuple[int, ...]], Collection[int], Collection[int]]:
    """The shapes of so many kernels, the first of them with k filters; which are transposed, and which have no normalisation after them."""
    blocks, odd = divmod(number - 6, 2)
    if blocks < 0 or odd:
        raise InputError(f"no ResNet generator: that has 6 convolutions and 2 in each residual block, this {number}")
    down, up = [(k, 3, 7, 7), (2 * k, k, 3, 3), (4 * k, 2 * k, 3, 3)], [(4 * k, 2 * k, 3, 3), (2 * k, k, 3, 3), (3, k, 7, 7)]
    return [*down, *[(4 * k, 4 * k, 3, 3)] * 2 * blocks, *up], (number - 3, number - 2), (number - 1,)


def unet(k: int, number: int) -> tuple[list[tuple[int, ...]], Collection[int], Collection[int]]:
    """As `resnet`. Down the levels first, then up again."""
    levels, odd = divmod(number, 2)
    if levels < 2 or odd:
        raise InputError(f"no U-Net generator: that has 2 convolutions in each level, and 2 levels at least, this {number}")
    widths = [k * min(2**level, 8) for level in range(levels)]
    down = [(wide, above, 4, 4) for above, wide in zip([3, *widths], widths, strict=False)]
    # What comes up has the same level's picture from the way down beside it, but innermost.
    up = [(wide if level == levels - 1 else 2 * wide, down[level][1], 4, 4) for level, wide in enumerate(widths)]
    return [*down, *reversed(up)], range(levels, number), (0, levels - 1, number - 1)


def size(layers: list[Layer]) -> tuple[str, int, int]:
    """Which generator it is, "resnet" or "unet", the number of filters of its first layer, and of its residual blocks or levels."""
    if is_unet(layers):
        return "unet", layers[0].kernel.shape[0], len(layers) // 2
    return "resnet", layers[0].kernel.shape[0], (len(layers) - 6) // 2


def is_unet(layers: list[Layer]) -> bool:
    return layers[0].kernel.shape[-1] == 4


def normalization(layers: list[Layer], asked: str | None) -> str:
    """The normalisation of a generator: `asked`, or what its tensors tell, "instance" or "batch". Raises `InputError` if they do not."""
    normalized = [layer for layer in layers if layer.normalized]
    tracked = all(layer.norm.keys() >= STATISTICS for layer in normalized)
    biased = any(layer.bias is not None for layer in normalized)
    scaled = any("weight" in layer.norm for layer in normalized)
    if asked == "batch" and not tracked:
        raise InputError("--norm batch needs running statistics, which the file does not hold; leave --norm out")
    if asked:
        return asked
    if tracked and scaled and not biased:
        return "batch"
    if scaled != biased or scaled and not tracked:
        return "instance"
    # Without scales, biases and statistics, the authors' code makes networks without normalisation.
    raise InputError("does not tell which normalisation the network was trained with; give --norm instance, or --norm batch")


def check(layers: list[Layer], norm: str) -> None:
    """Raises `InputError` if there are infinities and such in what is used of a generator's tensors, or something that ours lacks."""
    for layer in layers:
        if norm == "batch" and layer.bias is not None and not layer.normalized and layer is not layers[-1]:
            raise InputError(
                f"{layer.name} has a bias, as U-Nets with batch normalisation do not have there; --statistics picture takes it"
            )
        used = [layer.kernel, layer.bias, *(layer.norm.get(key) for key in ("weight", "bias", *(STATISTICS if norm == "batch" else ())))]
        if not all(np.isfinite(tensor).all() for tensor in used if tensor is not None):
            raise InputError(f"{layer.name} has weights that are not finite numbers; damaged, or the training diverged")


def unpadded(layers: list[Layer]) -> list[str]:
    """Names of convolutions that should be padded by reflection, but are the first of a sequence: no layer before them does that."""
    reflecting = [] if is_unet(layers) else [layers[0], *layers[3:-3], layers[-1]]
    return [layer.name for layer in reflecting if layer.name.split(".")[-1] == "0"]


def assign(generator, layers: list[Layer], norm: str) -> None:
    """Gives our generator of the same size and normalisation these weights."""
    convolutions = [layer for layer in generator.layers if hasattr(layer, "kernel")]
    norms = iter([layer for layer in generator.layers if hasattr(layer, "gamma")])
    for ours, theirs in zip(convolutions, layers, strict=True):
        ours.kernel.assign(theirs.kernel.transpose(2, 3, 1, 0))
        if not theirs.normalized:
            if theirs.bias is not None:
                ours.bias.assign(theirs.bias)
            continue
        ours = next(norms)
        ours.gamma.assign(theirs.norm.get("weight", ours.gamma))
        ours.beta.assign(theirs.norm.get("bias", ours.beta))
        # A bias before a normalisation only moves the mean, which instance normalisation takes away again: it is dropped. (The padding
        # comes before the convolution, so that the bias is the same in all pixels.) Batch normalisation takes the running mean away.
        if norm == "batch":
            ours.moving_mean.assign(theirs.norm["running_mean"] - (0 if theirs.bias is None else theirs.bias))
            ours.moving_variance.assign(theirs.norm["running_var"])
