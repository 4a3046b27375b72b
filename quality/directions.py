"""What is measured of one way of translating: against real pictures, against the truth, and after the way back."""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pictures import images
from quality import metrics
from quality.features import Features
from system.cli import InputError
from system.storage import AnyPath

SHEET_COLUMNS = 8  # pictures in a row of a contact sheet
UNCHANGED = 0.01  # a picture is unchanged if it differs from its translation by less than this share of the range
UNTRANSLATED, COLOUR_CHANGE = "untranslated", "best linear colour change"  # what translations are compared with

Translate = Callable[[np.ndarray], np.ndarray]  # uint8 (H, W, 3) → uint8 (H, W, 3)
Pictures = Mapping[str, np.ndarray]  # uint8 (H, W, 3) by name, which may be read from a file when asked for


def round_trip(picture: np.ndarray, translated: np.ndarray, cycled: np.ndarray, same: np.ndarray) -> dict[str, float]:
    """What comes back of a picture x: of uint8 (H, W, 3) x, G(x), F(G(x)), and F(x), which should be x, as F translates to the domain of x.

    cycle_error and identity_error are L1 distances as shares of the range; unchanged is 1 for a picture that G leaves as it is, else 0.
    """
    unchanged = float(metrics.l1(picture, translated) < UNCHANGED)
    return {"cycle_error": metrics.l1(picture, cycled), "identity_error": metrics.l1(picture, same), "unchanged": unchanged}


def to_real(real: np.ndarray, fake: np.ndarray) -> dict[str, float]:
    """KID with its standard error, and FID, of features (N, D) and (M, D)."""
    kid, error = metrics.kid(real, fake)
    return {"kid": kid, "kid_standard_error": error, "fid": metrics.fid(real, fake)}


def check_count(folder: AnyPath, count: int) -> None:
    """Raises `InputError` for a folder of too few pictures for KID and its standard error."""
    if count < 3:
        raise InputError(f"{folder}: {count} pictures; KID and FID need 3 at least, and hundreds to say much")


def distances(picture: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """L1, PSNR and SSIM of two pictures, uint8 (H, W, 3)."""
    return {"l1": metrics.l1(picture, truth), "psnr": metrics.psnr(picture, truth), "ssim": metrics.ssim(picture, truth)}


def mean(values: Iterable[dict[str, float]]) -> dict[str, float]:
    """The mean of each value, by its name."""
    values = list(values)
    return {name: float(np.mean([each[name] for each in values])) for name in values[0]}


@dataclass
class Direction:
    """One way of translating. The translations are `fakes`, or what `translate` makes of `inputs`; pictures belong together by name."""

    title: str
    fakes: Pictures | None = None
    inputs: Pictures | None = None
    truths: Pictures | None = None  # what the translations should be
    translate: Translate | None = None
    back: Translate | None = None  # translates back; needs `translate`
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)  # of a contact sheet, by label, once it is measured
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)  # height and width of each translation, likewise

    def measure(self, real: Iterable[np.ndarray] | None = None, features: Features | None = None) -> dict[str, Any]:
        """All that can be measured, ready for JSON; `real` pictures are compared by `features`. Raises `InputError` for unreadable ones."""
        trips, from_truth = [], []
        translations = self.translations(trips, from_truth)  # not made yet: one by one, as the next lines ask for them
        result: dict[str, Any] = {"fake": self.title, "pictures": len(self.fakes or self.inputs)}
        if real is not None:
            result["to_real"] = self.to_real(features, real, translations)
        collections.deque(translations, maxlen=0)  # makes those that nothing has asked for
        if self.truths:
            result["to_truth"] = {"translated": mean(from_truth)} | (self.inputs_to_truths() if self.inputs else {})
        if self.back:
            result["round_trip"] = mean(trips)
        return result

    def translations(self, trips: list[dict[str, float]], from_truth: list[dict[str, float]]) -> Iterator[np.ndarray]:
        """Yields all translations, and measures each of them on the way."""
        for name in self.fakes or self.inputs:
            source = self.inputs[name] if self.inputs else None
            fake = self.translate(source) if self.translate else self.fakes[name]
            size = self.sizes[name] = fake.shape[:2]
            shown = ({"input": images.resize(source, *size)} if self.inputs else {}) | {"translated": fake}
            if self.back:
                shown["there and back"] = cycled = self.back(fake)
                trips.append(round_trip(source, fake, cycled, self.back(source)))
            if self.truths:
                shown["truth"] = truth = images.resize(self.truths[name], *size)
                from_truth.append(distances(fake, truth))
            for label, picture in shown.items():
                self.rows[label] = [*self.rows.get(label, []), picture][:SHEET_COLUMNS]
            yield fake

    def to_real(self, features: Features, real: Iterable[np.ndarray], translations: Iterable[np.ndarray]) -> dict[str, Any]:
        """KID and FID of the translations and, if there are inputs, of these: a translation should be nearer to the real pictures."""
        vectors = features(real)
        result = {"real_pictures": len(vectors), "features": features.name, "dimensions": vectors.shape[1]}
        result["translated"] = to_real(vectors, features(translations))
        if self.inputs:
            result[UNTRANSLATED] = to_real(vectors, features(self.sized(self.inputs)))
        # FID of few pictures is not 0 even if these are perfect: this is how far from 0 it then is.
        result["fid_of_real_halves"] = metrics.fid(vectors[::2], vectors[1::2]) if len(vectors) > 3 else None
        return result

    def inputs_to_truths(self) -> dict[str, dict[str, float]]:
        """How far the inputs are from the truth, as they are and recoloured: a translation should be nearer."""
        change = metrics.fit_colour_change(self.sized(self.inputs), self.sized(self.truths))
        recoloured = (metrics.change_colour(picture, change) for picture in self.sized(self.inputs))
        compared = ((UNTRANSLATED, self.sized(self.inputs)), (COLOUR_CHANGE, recoloured))
        return {name: mean(map(distances, pictures, self.sized(self.truths))) for name, pictures in compared}

    def sized(self, pictures: Pictures) -> Iterator[np.ndarray]:
        """Yields pictures in the sizes of their translations."""
        return (images.resize(pictures[name], *size) for name, size in self.sizes.items())
