"""What is measured, ours and the peers', one subject a process: `python benchmarks/subjects.py NAME [flags]` (see turns.py)."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from system import devices  # noqa: E402
from turns import resident_megabytes, serve, timed, why  # noqa: E402


def our_step(args) -> None:
    """A training step as train.py makes it, on random pictures."""

    devices.share_threads()
    devices.quiet_tensorflow()
    import keras
    import tensorflow as tf

    from model import CycleGAN

    imports = resident_megabytes()
    keras.utils.set_random_seed(0)
    model = CycleGAN(our_config(args))
    x, y = (tf.random.uniform((args.batch, args.size, args.size, 3), -1, 1) for _ in "xy")
    serve(lambda: float(model.train_step(x, y)["loss/G"]), imports)


def our_config(args):
    from training.config import Config

    sizes = {"image_size": args.size, "ngf": args.ngf, "n_res_blocks": args.blocks, "batch_size": args.batch}
    settings = {} if args.defaults else {"upsample": "transpose", "lambda_identity": 0, "ema": 0}
    return Config(**sizes, **settings, precision=args.precision, xla=args.xla)


def torch_step(args) -> None:
    """The peer's step."""
    import torch

    from peer import CycleGAN

    imports = resident_megabytes()
    torch.manual_seed(0)
    model = CycleGAN(args.ngf, 64, args.blocks, args.precision == "bfloat16", args.channels_last, args.compiled)
    x, y = torch.rand(2, args.batch, 3, args.size, args.size) * 2 - 1
    serve(lambda: model.train_step(x, y), imports)


def pictures(n: int, height: int, width: int):
    """Random uint8 pictures (n, height, width, 3) whose JPEG files are about as large as photos': soft blobs and a little noise."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for _ in range(n):
        blobs = Image.fromarray(draw.integers(0, 256, (height // 24, width // 24, 3), np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        yield np.clip(np.asarray(blobs) + draw.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def our_model(args) -> Path:
    """An exported model with fresh weights; made by another process, whose memory is none of this one's."""
    precision = args.precision if args.format == "pb" else "float32"  # other runtimes choose by themselves what they compute in
    output = args.folder / f"{args.size}-{args.ngf}-{args.blocks}-{precision}-{args.quantize}.{args.format}"
    if not output.exists():
        flags = ["--format", args.format, "--precision", precision, "--output", str(output)]
        finish([sys.executable, __file__, "export", *sys.argv[2:], *flags])
    return output


def finish(command: list[str]) -> float:
    """Runs a command to its end, which is that of this process, too, if it fails. Returns its largest resident size, MB."""
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(why(said, process.returncode))
    return usage.ru_maxrss / 1024  # at least that of this process when it began


def export(args) -> None:
    """Writes the model."""
    devices.quiet_tensorflow()
    import keras
    import numpy as np

    from formats import model_files
    from generator import build_generator

    keras.utils.set_random_seed(0)
    metadata = {"image_size": args.size, "source": "X", "target": "Y", **({"quantize": args.quantize} if args.quantize else {})}
    format = "saved_model" if args.format == "pb" else args.format
    models = [(build_generator(our_config(args), "G"), metadata, args.output)]
    ((_, found),) = model_files.write(models, format, pictures=np.stack([*pictures(2, args.size, args.size)]))
    if found:
        args.output.with_name(f"{args.output.name}.txt").write_text(found)


def our_forward(args) -> None:
    """One picture through the exported model, uint8 in and out."""
    if args.format != "onnx":
        devices.quiet_tensorflow()
    from formats import model_files

    imports = resident_megabytes()
    translate = model_files.load(our_model(args))
    (picture,) = pictures(1, args.size, args.size)
    serve(lambda: translate(picture[None]), imports)


def torch_forward(args) -> None:
    """The same through the peer's generator. Compiled, its weights are constants, brought into the order that the kernels want."""
    import torch

    from peer import generator

    imports = resident_megabytes()
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    net = generator(args.ngf, args.blocks).eval().to(memory_format=layout)
    if args.compiled:
        import torch._inductor.config

        torch._inductor.config.freezing = True  # an option of torch.compile does only half of it
        net = torch.compile(net)
    (picture,) = pictures(1, args.size, args.size)

    @torch.inference_mode()
    def forward():
        x = torch.from_numpy(picture.copy()[None]).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bfloat16"):
            y = net(x.contiguous(memory_format=layout))
        ((y.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    serve(forward, imports)


def onnx_forward(args) -> None:
    """The same weights through ONNX Runtime, in PyTorch's own export."""
    import numpy as np
    import onnxruntime
    import torch

    from peer import generator, take_weights

    devices.quiet_tensorflow()
    from generator import build_generator

    net = take_weights(generator(args.ngf, args.blocks), build_generator(our_config(args), "G")).eval()
    file = args.folder / f"{args.size}-{args.ngf}-{args.blocks}.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, args.size, args.size),), str(file), verbose=False)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (picture,) = pictures(1, args.size, args.size)

    def forward():
        x = np.ascontiguousarray(picture[None].transpose(0, 3, 1, 2), np.float32) / np.float32(127.5) - 1
        (y,) = session.run(None, {session.get_inputs()[0].name: x})
        np.clip(np.round((y + 1) * 127.5), 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)

    serve(forward)


def openvino_forward(args) -> None:
    """Our ONNX file, as it is, through OpenVINO, which computes in bfloat16 by itself if the processor has that."""
    import openvino

    imports, args.format = resident_megabytes(), "onnx"
    hint = {"INFERENCE_PRECISION_HINT": "f32"} if args.precision == "float32" else {}
    translate = openvino.Core().compile_model(str(our_model(args)), "CPU", hint)
    (picture,) = pictures(1, args.size, args.size)
    serve(lambda: translate(picture[None])["output_image"], imports)


def jpegs(args) -> Path:
    """A folder of JPEG files of 500×375 pixels, 250 different ones at most."""
    from PIL import Image

    n, folder = args.pictures, args.folder / f"jpegs-{args.pictures}"
    if not folder.exists():
        folder.mkdir()
        for i, picture in enumerate(pictures(min(n, 250), 375, 500)):
            Image.fromarray(picture).save(folder / f"{i:05}.jpg", quality=90)
        for i in range(250, n):
            shutil.copyfile(folder / f"{i % 250:05}.jpg", folder / f"{i:05}.jpg")
    return folder


@contextlib.contextmanager
def records(args):
    """A TFRecord file of such pictures, in a folder of its own."""
    devices.quiet_tensorflow()
    from build_data import Work, write_records
    from pictures import images, storing
    from system.progress import Costs

    folder = jpegs(args)
    with tempfile.TemporaryDirectory(dir=args.folder) as work:
        file = Path(work, "pictures.tfrecords")
        found = [(picture,) for picture in images.find(folder)]
        costs = Costs({file: len(found)}, "pictures")
        write_records(Work((file,), (folder,), found, storing.whole(0)), {file: [file]}, True, 0, costs)
        yield file


def our_reader(args) -> None:
    """Training crops of 256×256 from JPEG files of 500×375, by `Reader`."""
    with records(args) as file:
        from reader import Reader

        batches = iter(Reader(file, 256, 286).feed())
        serve(lambda: [next(batches) for _ in range(args.crops)])


def torch_reader(args) -> None:
    """The same by a PyTorch DataLoader with Pillow."""
    import numpy as np
    import torch
    from PIL import Image

    files = sorted(jpegs(args).iterdir())

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return 1_000_000

        def __getitem__(self, i):
            picture = Image.open(files[i % len(files)]).convert("RGB")
            scale = 286 / min(picture.size)
            picture = picture.resize([round(s * scale) for s in picture.size], Image.Resampling.BICUBIC)
            left, top = (int(torch.randint(0, s - 256 + 1, ())) for s in picture.size)
            picture = picture.crop((left, top, left + 256, top + 256))
            if torch.rand(()) < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return torch.from_numpy(np.asarray(picture, np.float32).transpose(2, 0, 1) / 127.5 - 1)

    batches = iter(torch.utils.data.DataLoader(Pictures(), num_workers=args.workers))
    serve(lambda: [next(batches) for _ in range(args.crops)])


def our_build(args) -> None:
    """build_data.py's work on one folder of pictures."""

    def build():
        with records(args):
            pass

    serve(build)


def pillow_build(args) -> None:
    """What a plain loop would do: decode each picture to be sure of it, and copy its bytes."""
    import io

    from PIL import Image

    files = sorted(jpegs(args).iterdir())

    def build():
        with tempfile.TemporaryFile(dir=args.folder) as output:
            for file in files:
                data = file.read_bytes()
                Image.open(io.BytesIO(data)).load()
                output.write(data)

    serve(build)


def our_inference(args) -> None:
    """The command inference.py, as a process, on a folder of pictures (or on one)."""
    model, source, output = our_model(args), jpegs(args), args.folder / "translated"
    if args.pictures == 1:
        (source,), output = source.iterdir(), output.with_suffix(".png")
    flags = {"model": model, "input": source, "output": output, "image_size": args.size}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    serve_command([sys.executable, str(ROOT / "inference.py"), *words, "--overwrite"])


def bare_inference(args) -> None:
    """What cannot be done without: TensorFlow's start, the model's loading, and so many passes."""
    lines = [
        "import os; os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'",
        "import tensorflow as tf",
        f"model = tf.saved_model.load({str(our_model(args))!r}).signatures['serving_default']",
        f"x = tf.zeros((1, {args.size}, {args.size}, 3), tf.uint8)",
        f"for _ in range({args.pictures}): model(input_image=x)['output_image'].numpy()",
    ]
    serve_command([sys.executable, "-c", "\n".join(lines)])


def serve_command(command: list[str]) -> None:
    """A command from its start to its end; what counts is its own memory."""
    sizes = []
    serve(lambda: sizes.append(finish(command)), megabytes=lambda: max(sizes))


def matmul(args) -> None:
    """Large matrix products in TensorFlow, of n×n for each n: the seconds of 10¹² operations at the rate of the fastest."""
    devices.quiet_tensorflow()
    import tensorflow as tf

    squares = [tf.cast(tf.random.normal((n, n)), args.precision) for n in args.products]

    def fastest():
        return min(timed(lambda a=a: tf.matmul(a, a).numpy()) / (2 * a.shape[0] ** 3 / 1e12) for a in squares)

    serve(fastest, clock=lambda work: work())


SUBJECTS = {
    f.__name__: f
    for f in (our_step, torch_step, our_forward, torch_forward, onnx_forward, openvino_forward, our_reader, torch_reader, our_build)
    + (pillow_build, our_inference, bare_inference, matmul, export)
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=[*SUBJECTS, "loop"])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="for pictures and models that are made on the way")
    parser.add_argument("--output", type=Path, help="model to write")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--ngf", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--defaults", action="store_true", help="train.py's own settings, not those of the peer, which are the paper's")
    parser.add_argument("--format", default="pb", help="of the exported model, as its suffix")
    parser.add_argument("--quantize")
    parser.add_argument("--xla", action="store_true")
    parser.add_argument("--channels_last", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=250, help="how many files of pictures there are")
    parser.add_argument("--crops", type=int, default=100, help="how many a turn")
    parser.add_argument("--products", type=int, nargs="+", default=[2048, 4096], metavar="N", help="sides of the matrices")
    parser.add_argument("--steps", type=int, default=80, help="of a run, in loop.py")
    return parser.parse_args()


if __name__ == "__main__":
    args = parse()
    SUBJECTS[args.subject](args)
