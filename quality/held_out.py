"""What is measured of both translations on pictures that training has not seen."""

import collections
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pictures import cutouts, images, pairs
from quality.directions import SHEET_COLUMNS, Translate, check_count, distances, mean, round_trip, to_real
from quality.features import Features
from system.storage import AnyPath


class TestPictures:
    """Test pictures of X and Y, each a square of `size` pixels from the middle, and what is measured of both translations on them.

    `features` may be None: then neither KID nor FID is measured. Raises `InputError` for folders of too few pictures, or unreadable ones.
    """

    __test__ = False  # pytest shall not take it for tests

    def __init__(self, X: AnyPath, Y: AnyPath, size: int, features: Features | None):
        self.files, self.size, self.features = {"X": images.find(X), "Y": images.find(Y)}, size, features
        for folder, files in ((X, self.files["X"]), (Y, self.files["Y"])) if features else ():
            check_count(folder, len(files))
        self.shown = {name: list(self._read(files[:SHEET_COLUMNS])) for name, files in self.files.items()}
        self.real = {name: features(self._read(files)) for name, files in self.files.items()} if features else {}

    def _read(self, files: Sequence[AnyPath]) -> Iterator[np.ndarray]:
        return (images.centre_square(cutouts.read(file), self.size) for file in files)

    def measure(self, G: Translate, F: Translate, before_each: Callable[[], None] = lambda: None) -> tuple[dict[str, float], np.ndarray]:
        """Numbers named G_kid, F_kid, …, and a contact sheet, uint8 (H, W, 3). `before_each`, called before each picture, may raise."""
        numbers, rows = {}, []
        for name, source, target, translate, back in (("G", "X", "Y", G, F), ("F", "Y", "X", F, G)):
            trips: list[dict[str, float]] = []
            translations = self._translations(source, translate, back, trips, before_each)
            compared = to_real(self.real[target], self.features(translations)) if self.features else {}
            collections.deque(translations, maxlen=0)  # makes those that nothing has asked for
            numbers |= {f"{name}_{key}": value for key, value in (mean(trips) | compared).items()}
            fakes = [translate(picture) for picture in self.shown[source]]
            rows += [(source, self.shown[source]), (f"{name}({source})", fakes), ("and back", [back(fake) for fake in fakes])]
        return numbers, images.contact_sheet(rows)

    def words(self, numbers: dict[str, float]) -> list[str]:
        """The most important of what was measured, for people."""
        kids = ((G, 1000 * numbers[f"{G}_kid"], 1000 * numbers[f"{G}_kid_standard_error"]) for G in "GF" if self.features)
        cycle_error = f"cycle error {100 * numbers['G_cycle_error']:.1f} and {100 * numbers['F_cycle_error']:.1f} %"
        return [*(f"{G} KID×1000 {kid:.1f} ± {error:.1f}" for G, kid, error in kids), cycle_error]

    def score(self, numbers: dict[str, float]) -> float | None:
        """What is smaller where translations are better; None if that was not measured."""
        return numbers["G_kid"] + numbers["F_kid"] if {"G_kid", "F_kid"} <= numbers.keys() else None

    def _translations(self, source: str, translate: Translate, back: Translate, trips: list, before_each) -> Iterator[np.ndarray]:
        for picture in self._read(self.files[source]):
            before_each()
            translated = translate(picture)
            trips.append(round_trip(picture, translated, back(translated), back(picture)))
            yield translated


class TestPairs:
    """Test pictures of X and what their translations should be, squares as `TestPictures` has them, and what is measured on them.

    `features` may be None: then KID and FID are not measured. Raises `InputError` for folders that are of no pairs, or unreadable pictures.
    """

    __test__ = False

    def __init__(self, X: AnyPath, Y: AnyPath, size: int, features: Features | None):
        self.files, self.size, self.features = list(pairs.of_folders(X, Y).values()), size, features
        if features:
            check_count(Y, len(self.files))
        self.shown = [tuple(map(self._read, pair)) for pair in self.files[:SHEET_COLUMNS]]
        self.real = features(self._read(y) for _, y in self.files) if features else None

    def _read(self, file: AnyPath) -> np.ndarray:
        return images.centre_square(cutouts.read(file), self.size)

    def measure(self, G: Translate, before_each: Callable[[], None] = lambda: None) -> tuple[dict[str, float], np.ndarray]:
        """As that of `TestPictures`, of one direction: numbers named G_l1, G_psnr, G_ssim, …"""
        found: list[dict[str, float]] = []
        translations = self._translations(G, found, before_each)
        compared = to_real(self.real, self.features(translations)) if self.features else {}
        collections.deque(translations, maxlen=0)  # makes those that nothing has asked for
        numbers = {f"G_{key}": value for key, value in (mean(found) | compared).items()}
        rows = zip(("X", "G(X)", "Y"), zip(*((x, G(x), y) for x, y in self.shown), strict=True), strict=True)
        return numbers, images.contact_sheet(list(rows))

    def words(self, numbers: dict[str, float]) -> list[str]:
        """The most important of what was measured, for people."""
        return [f"L1 {100 * numbers['G_l1']:.2f} %", f"PSNR {numbers['G_psnr']:.2f} dB", f"SSIM {numbers['G_ssim']:.3f}"]

    def score(self, numbers: dict[str, float]) -> float | None:
        """What is smaller where translations are better; None if that was not measured."""
        return numbers.get("G_l1")

    def _translations(self, G: Translate, found: list, before_each: Callable[[], None]) -> Iterator[np.ndarray]:
        for x, y in (map(self._read, pair) for pair in self.files):
            before_each()
            translated = G(x)
            found.append(distances(translated, y))
            yield translated
