"""What is measured of both translations on pictures that training has not seen."""

import collections
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pictures import images
from quality.directions import SHEET_COLUMNS, Translate, check_count, mean, round_trip, to_real
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
        return (images.centre_square(images.read(file), self.size) for file in files)

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

    def _translations(self, source: str, translate: Translate, back: Translate, trips: list, before_each) -> Iterator[np.ndarray]:
        for picture in self._read(self.files[source]):
            before_each()
            translated = translate(picture)
            trips.append(round_trip(picture, translated, back(translated), back(picture)))
            yield translated
