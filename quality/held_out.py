"""What is measured of a translation G, with F as the way back, on pictures that training has not seen."""

import collections
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pictures import images
from quality import metrics
from quality.features import Features
from system.cli import InputError
from system.storage import AnyPath

UNCHANGED = 0.01  # a picture that differs from its translation by less, as a share of the range, came out as it went in
SHEET_COLUMNS = 8

Translate = Callable[[np.ndarray], np.ndarray]  # uint8 (H, W, 3) → uint8 (H, W, 3)


class RoundTrip:
    """How far pictures are from themselves, there and back, as means over those that were taken in."""

    def __init__(self):
        self.sums, self.count = np.zeros(3), 0

    def take(self, picture: np.ndarray, translated: np.ndarray, cycled: np.ndarray, same: np.ndarray) -> None:
        """uint8 (H, W, 3): a picture x, G(x), F(G(x)), and F(x), which should be x, as F's pictures are of the kind of x."""
        unchanged = metrics.l1(picture, translated) < UNCHANGED
        self.sums += metrics.l1(picture, cycled), metrics.l1(picture, same), unchanged
        self.count += 1

    def result(self) -> dict[str, float]:
        """cycle_error and identity_error are L1 distances, as shares of the range; unchanged is the share that came out as it went in."""
        return dict(zip(("cycle_error", "identity_error", "unchanged"), (self.sums / self.count).tolist(), strict=True))


def to_real(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """KID with its standard error, and FID, of features (N, D) and (M, D)."""
    kid, error = metrics.kid(real, fake)
    return {"kid": kid, "kid_standard_error": error, "fid": metrics.fid(real, fake)}


def check_count(folder: AnyPath, count: int) -> None:
    """Raises `InputError` for a folder of too few pictures for KID and its standard error."""
    if count < 3:
        raise InputError(f"{folder}: {count} pictures; KID and FID need 3 at least, and hundreds to say much")


class TestPictures:
    """Test pictures of X and Y, each as a centre square of `size` pixels; what is measured of both ways, and a sheet to look at.

    `features` may be None: then there is neither KID nor FID, and no telling which of two models is better.
    """

    __test__ = False  # of pytest's

    def __init__(self, X: AnyPath, Y: AnyPath, size: int, features: Features | None):
        self.files, self.size, self.features = {"X": images.find(X), "Y": images.find(Y)}, size, features
        for folder, files in ((X, self.files["X"]), (Y, self.files["Y"])) if features else ():
            check_count(folder, len(files))
        self.shown = {name: list(self._read(files[:SHEET_COLUMNS])) for name, files in self.files.items()}
        self.real = {name: features(self._read(files)) for name, files in self.files.items()} if features else {}

    def _read(self, files: Sequence[AnyPath]) -> Iterator[np.ndarray]:
        return (images.centre_square(images.read(file), self.size) for file in files)

    def measure(self, G: Translate, F: Translate, before_each: Callable[[], None] = lambda: None) -> tuple[dict[str, float], np.ndarray]:
        """Returns what is measured, as G_kid, F_kid, …, and the sheet, uint8 (H, W, 3). `before_each` picture is called, and may raise."""
        numbers, rows = {}, []
        for name, source, target, there, back in (("G", "X", "Y", G, F), ("F", "Y", "X", F, G)):
            trip = RoundTrip()
            translations = self._translated(source, there, back, trip, before_each)
            if self.features:
                compared = to_real(self.real[target], self.features(translations))
            else:
                compared = {}
                collections.deque(translations, maxlen=0)
            numbers |= {f"{name}_{k}": v for k, v in (trip.result() | compared).items()}
            fakes = [there(picture) for picture in self.shown[source]]
            rows += [(source, self.shown[source]), (f"{name}({source})", fakes), ("and back", [back(fake) for fake in fakes])]
        return numbers, images.contact_sheet(rows)

    def _translated(self, source: str, there: Translate, back: Translate, trip: RoundTrip, before_each) -> Iterator[np.ndarray]:
        for picture in self._read(self.files[source]):
            before_each()
            translated = there(picture)
            trip.take(picture, translated, back(translated), back(picture))
            yield translated
