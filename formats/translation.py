"""Pictures on their way through a model, and back through another: read, brought to size, translated and written."""

import contextlib
import math
import sys
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np

from formats.translator import Translator
from pictures import cutouts, damage, gallery, images, tiling
from pictures.metadata import Metadata
from system import console, storage, threads
from system.progress import Progress
from system.storage import AnyPath

PIPE = PurePath("-")  # standard input or output in the place of a file
BATCH_PIXELS = 4 * 256**2  # pictures of one size are translated together, up to so many pixels
LARGE = 2**24  # pixels from which on a picture is decoded when it is its turn, not ahead of time

# uint8 (H, W, 3); alpha, uint8 (H, W), if the picture has it; its metadata, if they are asked for; and the bytes of its file
Picture = tuple[np.ndarray, np.ndarray | None, Metadata | None, int]


@dataclass
class Job:
    """A picture to translate: its file or `PIPE`, its name, and where to write the translation and, if that is wanted, the way back."""

    source: AnyPath | PurePath
    name: str
    outputs: list[AnyPath | PurePath]
    anew: str = ""  # why it is translated although it was before


def size_for(model: Translator, height: int, width: int, image_size: int | None = None, keep_size: bool = False) -> tuple[int, int]:
    """The height and width at which a picture is translated: `image_size` squared, its own, or its short side as the model was trained."""
    if image_size:
        return image_size, image_size
    return (height, width) if keep_size else images.with_short_side(height, width, model.image_size)


@dataclass
class Translation:
    """Translates pictures with `model` and, if there is one, back with `back`. Reading ahead and writing behind overlap with it."""

    model: Translator
    back: Translator | None = None
    image_size: int | None = None  # see `size_for`
    keep_size: bool = False
    tile: int | None = None  # pictures of more than its square, in pixels, are translated in overlapping tiles [what memory allows]
    max_pixels: int = images.MAX_PIXELS  # larger pictures are left out
    side_by_side: bool = False  # all that belongs to a picture is written as one
    pipe_format: str = ".png"  # of what is written to `PIPE`
    quality: int | None = None  # of JPEG and WebP, see `images.encode`
    keep_metadata: bool = False  # EXIF, XMP and dots per inch are written, too
    thumbnails: bool = False  # are kept for `write_gallery`
    left_out: list[str] = field(default_factory=list)  # the pictures that could not be translated or written, and why
    damaged: list[str] = field(default_factory=list)  # the pictures that were translated although they are not whole, and what is wrong
    differences: list[float] = field(default_factory=list)  # between each input and its way back, as shares of the range
    anew: Counter[str] = field(default_factory=Counter)  # how many were translated although they were before, by `Job.anew`

    def __post_init__(self):
        self.models = [model for model in (self.model, self.back) if model]
        names = ("image_size", "keep_size", "tile", "side_by_side", "quality", "keep_metadata")
        asked = [name if value is True else f"{name}={value}" for name in names if (value := getattr(self, name))]
        alone = " ".join(["cyclegan", f"model={self.model.checksum}", *asked])
        both = f"{alone} back={self.back.checksum}" if self.back else alone
        # What each output of a job is to say of what made it; the length of the input follows.
        self.notes = [both] if self.side_by_side or not self.back else [alone, both]
        self.tile = self.tile or min(map(tiling.largest_tile, self.models))
        self.shown: dict[str, list[bytes]] = {}  # thumbnails by name
        self.progress, self.done, self.warned = Progress(0, "pictures"), 0, False

    def run(self, jobs: list[Job]) -> None:
        """Translates and writes all pictures that can be; `left_out` then names the others."""
        self.progress, self.done, writing = Progress(len(jobs), "pictures"), 0, deque()
        with ThreadPoolExecutor(1) as writer:
            for batch in self.batches(self.read_all(jobs)):
                passed = [np.stack([pixels for _, (pixels, *_) in batch])]  # the pictures, their translations, the way back
                for model in self.models:
                    passed.append(self.translate(model, passed[-1], batch[0][0].name))
                for (job, (_, *rest)), *pictures in zip(batch, *passed, strict=True):
                    writing.append(writer.submit(self.write, job, pictures, *rest))
                while len(writing) > (0 if passed[0][0].size > LARGE else 8):
                    writing.popleft().result()
                self.done += len(batch)
                self.progress.update(self.done)
            for written in writing:
                written.result()
        self.progress.close()

    def read_all(self, jobs: list[Job]) -> Iterator[tuple[Job, Picture]]:
        """Yields the pictures that can be read, in order."""
        for job, read in threads.in_order(self.read, jobs):
            if isinstance(read, bytes):
                read = self.read(job, read)
            if isinstance(read, images.PictureError):
                self.left_out.append(f"{job.source}: {read}")
                self.done += 1
            else:
                yield job, read

    def read(self, job: Job, data: bytes | None = None) -> Picture | bytes | images.PictureError:
        """Returns a picture in the size to translate, or why there is none; of a large one its file, to be handed in again as `data`."""
        try:
            if data is None:
                data = sys.stdin.buffer.read() if job.source is PIPE else images.content(job.source, self.max_pixels)
                if job.source is PIPE and not data:
                    raise images.PictureError("standard input is empty; send a picture there, or name a file")
                width, height = images.size(data, self.max_pixels)
                if width * height >= LARGE:
                    return data
            pixels, alpha = images.decode_with_alpha(data, self.max_pixels)
            height, width = pixels.shape[:2]
            size = size_for(self.model, height, width, self.image_size, self.keep_size)
            high, wide = max((tiling.padded(model, *size) for model in self.models), key=math.prod)
            if high * wide > self.max_pixels:
                remedy = "" if self.keep_size else "; try --keep_size"
                raise images.PictureError(f"{width}×{height} would be computed as {wide}×{high}, more than --max_megapixels{remedy}")
            for output in job.outputs:
                suffix = self.pipe_format if output is PIPE else output.suffix
                images.check_fits(suffix, size[0], size[1] * (1 + len(self.models) if self.side_by_side else 1))
            if problem := damage.of_jpeg(data):
                self.damaged.append(f"{job.source}: {problem}")
            pixels, alpha = cutouts.resize(pixels, alpha, *size)
            return pixels, alpha, images.metadata_of(data, self.max_pixels) if self.keep_metadata else None, len(data)
        except images.PictureError as e:
            return e
        except OSError as e:
            return images.PictureError(e.strerror or str(e))

    def batches(self, pictures: Iterator[tuple[Job, Picture]]) -> Iterator[list[tuple[Job, Picture]]]:
        """Joins pictures of one size that follow one another, as many as are translated together."""
        batch: list[tuple[Job, Picture]] = []
        most = 0 if any(model.fixed_size for model in self.models) else min(BATCH_PIXELS, self.tile**2)
        for job, picture in pictures:
            shape = picture[0].shape
            pixels = max(math.prod(tiling.padded(model, *shape[:2])) for model in self.models)
            if batch and (batch[0][1][0].shape != shape or (len(batch) + 1) * pixels > most):
                yield batch
                batch = []
            batch.append((job, picture))
        if batch:
            yield batch

    def translate(self, model: Translator, pixels: np.ndarray, name: str = "") -> np.ndarray:
        """uint8 (B, H, W, 3) → uint8 (B, H, W, 3), in tiles if need be, which shrink where memory is not enough. `name` is for messages."""

        def after_tile(done: int, count: int) -> None:
            is_unet = model.metadata.get("generator") == "unet"
            if not self.warned and (is_unet or model.sees_whole_pictures and not model.knows_statistics):
                why = "is a U-Net: tiles do not see the whole picture, and can differ"
                blended = "gives no statistics of whole pictures: tiles are blended, but can differ in tone"
                self.progress.say(f"{model.file}: {why if is_unet else blended}")
                self.warned = True
            self.progress.update(self.done, lambda: f"{name}: tile {done} of {count}")

        try:
            if len(pixels) > 1:
                return model(pixels)
            return tiling.translate_in_tiles(model, pixels[0], self.tile, after_tile)[np.newaxis]
        except MemoryError:
            if self.tile <= tiling.LEAST:
                raise
            self.tile = max(tiling.LEAST, self.tile // 2)
        return np.concatenate([self.translate(model, one[np.newaxis], name) for one in pixels])

    def write(self, job: Job, pictures: list[np.ndarray], alpha: np.ndarray | None, kept: Metadata | None, length: int) -> None:
        """Writes what the models have made of a picture. `pictures`: this, its translation and, if there is one, the way back.

        `length`: of its file.
        """
        if self.back:
            self.differences.append(float(np.abs(pictures[2].astype(np.int16) - pictures[0]).mean() / 255))
        if self.thumbnails:
            self.shown[job.name] = [gallery.thumbnail(picture, alpha) for picture in pictures]
        translated = pictures[1:]
        if self.side_by_side:
            translated = [np.concatenate(pictures, axis=1)]
            alpha = None if alpha is None else np.concatenate([alpha] * len(pictures), axis=1)
        try:
            for output, pixels, note in zip(job.outputs, translated, self.notes, strict=True):
                if output is PIPE:
                    console.write_bytes(images.encode(pixels, self.pipe_format, alpha, self.quality, kept))
                else:
                    images.write(output, pixels, alpha, self.quality, kept, f"{note} source={length}")
            self.anew.update([job.anew] if job.anew else [])
        except images.PictureError as e:  # too large for its format
            self.left_out.append(f"{job.source}: {e}")

    def write_gallery(self, file: AnyPath, jobs: list[Job]) -> None:
        """Writes a page of all inputs and outputs that exist now, those included that existed before."""
        for job in jobs:
            if job.name not in self.shown:
                with contextlib.suppress(images.PictureError):
                    self.shown[job.name] = [gallery.thumbnail(images.read(file)) for file in (job.source, *job.outputs)]
        rows = [(storage.as_text(job.name), self.shown[job.name]) for job in jobs if job.name in self.shown]
        source, target = (self.model.metadata.get(domain, domain) for domain in ("source", "target"))
        columns = [source, f"{target} (generated)"] + [f"{source} (back again)"] * bool(self.back)
        note = ", back with ".join(str(model.file) for model in self.models)
        with storage.atomic_write(file) as temporary:
            temporary.write_bytes(gallery.page(f"{source} → {target}", note, columns, rows).encode(errors="replace"))
