"""Scenes of fruit on a table: where the fruit lies, the light, the patterns. Each can be drawn with apples or oranges (pictures.fruit)."""

from dataclasses import dataclass

import numpy as np

SPLITS = ("trainA", "trainB", "test")  # both test folders hold the same scenes

FLOORS = ("boards", "boards", "gingham", "gingham", "tiles", "stripes", "plain")
WALLS = ("plain", "tiles", "bokeh", "bokeh", "stripes", "dots", "panels")
REDS = ("#b03b3b", "#92363a", "#c15347", "#ce7154", "#9e4e36", "#cb989d")
ORANGES = ("#ce8544", "#da9847", "#e1ad62", "#b2623b", "#d48961", "#ceab4b", "#8f6544", "#b5875a")
GREENS = ("#859850", "#a7ae5f", "#c2be6e", "#6d8149")
OTHERS = ("#dac6a4", "#e0d6c6", "#c2baae", "#e3c7a6", "#c2a283", "#6f4a37", "#5c5046")
COLOURS = REDS + ORANGES + GREENS + OTHERS  # mostly those of the fruit: a global change of colour cannot translate


@dataclass(frozen=True)
class Fruit:
    """One fruit; the picture spans -1 … 1, x right, y up."""

    x: float
    y: float
    radius: float
    roll: float  # how far its axis leans to the left, in radians
    pitch: float  # … and to the viewer
    leaf: int  # on its left -1, on its right 1, none 0


@dataclass(frozen=True)
class Scene:
    """All that shapes a picture, except its domain and size."""

    fruits: tuple[Fruit, ...]  # the farthest first
    elevation: float  # of the camera over the table, in radians
    horizon: float  # the y at which the table meets the wall
    light: tuple[float, float]  # azimuth (0: behind the viewer, positive: right) and elevation, in radians
    floor: tuple[str, str, str, float]  # pattern, two colours, scale
    wall: tuple[str, str, str, float]
    grain: int  # seed of the patterns' noise


def scene(seed: int, split: str, index: int) -> Scene:
    """Returns scene `index` of one of `SPLITS`; it depends on these three alone."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    elevation = rng.uniform(0.4, 0.6)
    count = int(rng.choice([1, 2, 3], p=[0.3, 0.4, 0.3]))
    low, high = {1: (0.78, 0.92), 2: (0.58, 0.67), 3: (0.46, 0.53)}[count]
    free = np.zeros(1, bool)
    while not free.any():  # many layouts at once, as most are too crowded
        radius = rng.uniform(low, high, (64, count))
        x, y = rng.uniform(radius - 1.05, 1.05 - radius), rng.uniform(radius - 1, 0.84 - radius)
        z = (radius - y * np.cos(elevation)) / np.sin(elevation)  # towards the viewer, of a fruit that lies on the table
        i, j = np.triu_indices(count, 1)
        seen, size = np.hypot(x[:, i] - x[:, j], y[:, i] - y[:, j]), radius[:, i] + radius[:, j]
        free = np.all((seen > 0.78 * size) & (np.hypot(seen, z[:, i] - z[:, j]) > 1.02 * size), axis=1)
    radius, x, y, z = (a[free][0] for a in (radius, x, y, z))
    lean, pitch, leaf = rng.uniform(-0.4, 0.4, count), rng.uniform(0.5, 0.85, count), rng.integers(-1, 2, count)
    columns = (a[np.argsort(z)].tolist() for a in (x, y, radius, lean, pitch, leaf))
    fruits = tuple(Fruit(*values) for values in zip(*columns, strict=True))
    behind = np.max(y - radius * (np.cos(elevation) - np.sin(elevation)))  # no fruit reaches through the wall
    horizon = float(max(rng.uniform(0, 0.6), behind + 0.1))
    light = (float(rng.choice([-1, 1]) * rng.uniform(0.4, 1.3)), rng.uniform(0.7, 1.05))
    colours = rng.choice(COLOURS, 4, replace=False).tolist()
    floor = (str(rng.choice(FLOORS)), *colours[:2], rng.uniform(0.8, 1.25))
    wall = (str(rng.choice(WALLS)), *colours[2:], rng.uniform(0.8, 1.25))
    return Scene(fruits, elevation, horizon, light, floor, wall, int(rng.integers(2**31)))
