"""Draws a scene of fruit with apples or with oranges, so that the true translation of each picture is known."""

import itertools

import numpy as np

from pictures.scenes import Fruit, Scene

SUPERSAMPLING = 2
LAMP, ROOM = np.float32([1.18, 1.1, 1.0]), np.float32([0.38, 0.42, 0.48])  # a warm light, and the cool one from all around
PENUMBRA = 0.2  # the lamp's radius over its distance: how soft shadows are
CONTRAST = 0.3  # of the patterns: tone in tone, so that the fruit stands out and is what there is to learn
NOISE = np.random.default_rng(7).random((64, 64), dtype=np.float32)  # one for all fruit: none has a secret of its own


def draw(scene: Scene, domain: str, size: int) -> np.ndarray:
    """Returns `scene` with apples ("A") or oranges ("B") as uint8 (size, size, 3)."""
    stage = _Stage(scene, size * SUPERSAMPLING)
    _backdrop(stage, scene)
    for fruit, ball in zip(scene.fruits, stage.balls, strict=True):
        _fruit(stage, fruit, ball, domain)
    light = stage.canvas.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING, 3).mean(axis=(1, 3))
    light /= 1 + 0.18 * light  # highlights saturate gently, as on film
    return np.rint(255 * np.clip(light, 0, 1) ** np.float32(1 / 2.2)).astype(np.uint8)


def _linear(colour: str) -> np.ndarray:
    """Returns "#rrggbb" as linear light, float32 (3,)."""
    return (np.float32([*bytes.fromhex(colour[1:])]) / 255) ** np.float32(2.2)


def _step(low: float, high: float, x: np.ndarray) -> np.ndarray:
    """Rises smoothly from 0 at `low` to 1 at `high`; falls if `high` is below."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Returns colours (N, 3): `a` where t (N,) is 0, `b` where it is 1."""
    return a + (b - a) * t[:, None]


def _unit(v: np.ndarray) -> np.ndarray:
    return np.float32(v / np.linalg.norm(v, axis=-1, keepdims=True))


def _noise(table: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns smooth noise, 0 … 1, with bumps of size 1: `table` (64, 64), interpolated and repeated."""
    i, j = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    s, t = _step(0, 1, u - i), _step(0, 1, v - j)
    i0, i1, j0, j1 = i & 63, (i + 1) & 63, j & 63, (j + 1) & 63
    return (table[i0, j0] * (1 - s) + table[i1, j0] * s) * (1 - t) + (table[i0, j1] * (1 - s) + table[i1, j1] * s) * t


def _nearest(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the way from (u, v) to the nearest of points that are scattered one a unit square."""
    i, j = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    du = dv = np.float32(3)  # farther than any
    for di, dj in itertools.product((-1, 0, 1), repeat=2):
        p, q = i + di, j + dj
        x = p - u + (0.15 + 0.7 * NOISE[p & 63, q & 63])
        y = q - v + (0.15 + 0.7 * NOISE[q & 63, (p & 63) - 7])
        closer = x * x + y * y < du * du + dv * dv
        du, dv = np.where(closer, x, du), np.where(closer, y, dv)
    return du, dv


class _Stage:
    """A scene laid out for drawing, one entry for each of the picture's side² points.

    Vectors are in the camera's coordinates: x right, y up, z to the viewer, from the point of the table in the picture's middle.
    """

    def __init__(self, scene: Scene, side: int):
        line = (np.arange(side, dtype=np.float32) + 0.5) / side * 2 - 1
        self.x, self.y = (a.ravel() for a in np.meshgrid(line, -line))
        self.canvas = np.empty((side * side, 3), np.float32)  # linear light
        self.depth = np.full(side * side, -np.inf, np.float32)  # the z of the fruit there
        self.cos, self.sin = np.float32([np.cos(scene.elevation), np.sin(scene.elevation)])
        self.up, self.out = np.float32([0, self.cos, self.sin]), np.float32([0, -self.sin, self.cos])  # off the table, off the wall
        (azimuth, height), right = scene.light, np.float32([1, 0, 0])
        self.light = _unit(np.tan(height) * self.up + np.cos(azimuth) * self.out + np.sin(azimuth) * right)
        self.balls = [(np.float32([f.x, f.y, (f.radius - f.y * self.cos) / self.sin]), np.float32(f.radius)) for f in scene.fruits]

    def near(self, ball, at: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns which points are near the place `at` on a ball, and their (x, y) from there, in radii."""
        centre, radius = ball
        x, y = (self.x - centre[0]) / radius - at[0], (self.y - centre[1]) / radius - at[1]
        where = np.flatnonzero(x * x + y * y < distance**2)
        return where, x[where], y[where]

    def reach(self, points: np.ndarray, normals: np.ndarray, balls: list) -> tuple[np.ndarray, np.ndarray]:
        """Returns how much of the lamp and of the room, 0 … 1, the balls let through to a surface (N, 3)."""
        lamp, room = np.ones(len(points), np.float32), np.ones(len(points), np.float32)
        for centre, radius in balls:
            to = centre - points
            square, ahead = np.einsum("nk,nk->n", to, to), to @ self.light
            miss = np.sqrt(np.maximum(square - ahead * ahead, 0)) - radius  # how far off the ball the ray to the lamp passes
            lamp *= np.where(ahead > 0, _step(-1, 1, miss / (PENUMBRA * np.maximum(ahead, 1e-3))), 1)
            facing = np.einsum("nk,nk->n", to, normals) / np.sqrt(square)
            room *= 1 - np.clip(facing, 0, 1) * np.minimum(radius**2 / square, 1)
        return lamp, room

    def paint(self, where, colour: np.ndarray, normals: np.ndarray, lamp, room: np.ndarray, gloss: np.ndarray | float = 0) -> None:
        """Lights a matt surface, with `gloss` of the lamp's light on top."""
        lamp = lamp * np.maximum(normals @ self.light, 0)
        self.canvas[where] = colour * (np.outer(lamp, LAMP) + np.outer(room, ROOM))
        self.canvas[where] += np.outer(gloss, LAMP)

    def sheen(self, normals: np.ndarray, sharpness: float) -> np.ndarray:
        """Returns the lamp's highlight, 0 … 1."""
        return np.maximum(normals @ _unit(self.light + np.float32([0, 0, 1])), 0) ** sharpness


def _pattern(kind: str, first: str, second: str, u: np.ndarray, v: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Returns a surface's colour, linear light (N, 3), at (u, v)."""
    a, b, white = _linear(first), _linear(second), _linear("#f4efe4")
    if kind in ("boards", "panels"):
        u, v = (v, u) if kind == "panels" else (u, v)
        row = np.floor(2.2 * v)
        tone, start = table[row.astype(np.int32) & 63, :2].T
        u = u + 40 * start
        rings = _noise(table, 0.9 * u, 9 * v + 3 * _noise(table, 0.7 * u, 1.5 * v))
        shade = 0.62 + 0.3 * tone + 0.3 * rings + 0.18 * _noise(table, 3 * u, 60 * v)
        return a * (shade * (1 - 0.7 * _step(0.47, 0.495, np.abs(2.2 * v - row - 0.5))))[:, None]
    if kind == "gingham":
        weave = 0.92 + 0.12 * _noise(table, 40 * u, 12 * v) * _noise(table, 12 * u, 40 * v)
        warp, weft = (_step(0.47, 0.53, np.abs(1.8 * w % 1 * 2 - 1)) for w in (u, v))
        return _mix(white, a, 0.5 * (warp + weft)) * weave[:, None]
    if kind == "tiles":
        i, j = np.floor(2 * u).astype(np.int32), np.floor(2 * v).astype(np.int32)
        glaze = 0.75 + 0.35 * table[i & 63, j & 63] + 0.15 * _noise(table, 3 * u, 3 * v)
        edge = np.maximum(np.abs(2 * u - i - 0.5), np.abs(2 * v - j - 0.5))
        return _mix(a * glaze[:, None], _linear("#d9d2c5"), _step(0.455, 0.475, edge))
    if kind == "stripes":
        return _mix(a, b, _step(0.42, 0.58, np.abs(1.6 * u % 1 * 2 - 1))) * (0.9 + 0.2 * _noise(table, 30 * u, 30 * v))[:, None]
    if kind == "dots":
        row = np.floor(3 * v)
        return _mix(a, white, _step(0.25, 0.21, np.hypot((3 * u + 0.5 * (row % 2)) % 1 - 0.5, 3 * v - row - 0.5)))
    if kind == "bokeh":
        colour = 0.6 * _mix(a, b, _step(-1, 1, v + _noise(table, 1.1 * u, 1.1 * v) - 0.5))
        for x, y, size, tint, strength in table[:14, :5]:
            distance = np.hypot(u - 2.6 * x + 1.3, v - 2.6 * y + 1) / (0.1 + 0.2 * size)
            disc = _step(1, 0.88, distance) * (0.55 + 0.45 * distance) * (0.25 + 0.5 * strength)
            colour = _mix(colour, a + (b - a) * tint + np.float32([0.30, 0.24, 0.14]), disc)
        return colour
    return a * (0.85 + 0.2 * _noise(table, 2.5 * u, 2.5 * v) + 0.08 * _noise(table, 25 * u, 25 * v))[:, None]


def _backdrop(stage: _Stage, scene: Scene) -> None:
    """Draws the table and the wall, and the fruit's shadows on them."""
    table = np.random.default_rng(scene.grain).random((64, 64), dtype=np.float32)
    x, y, floor = stage.x, stage.y, stage.y < scene.horizon
    far = np.minimum(y, scene.horizon) / stage.sin  # along the table, from the picture's middle to the wall
    high = np.maximum(y - scene.horizon, 0) / stage.cos
    shrink = 1 + 0.16 * far  # a touch of perspective
    colour = np.empty_like(stage.canvas)
    for part, (*look, scale), u, v in (floor, scene.floor, x * shrink + 0.3, far * shrink + 0.1), (~floor, scene.wall, x, high):
        surface = _pattern(*look, u[part] * scale, v[part] * scale, table)
        colour[part] = surface.mean(axis=0) * (1 - CONTRAST) + surface * CONTRAST
    points = np.stack([x, y, high * stage.sin - far * stage.cos], axis=-1)
    normals = np.where(floor[:, None], stage.up, stage.out)
    lamp, room = stage.reach(points, normals, stage.balls)
    lamp *= 1 - 0.16 * ((x - 0.8 * scene.light[0]) ** 2 + (y - 0.2) ** 2)  # brightest below the lamp
    room *= 1 - 0.45 * np.exp(-9 * np.abs(y - scene.horizon))  # dark where the table meets the wall
    stage.paint(..., colour, normals, lamp, room)


def _apple_shape(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Returns the skin's distance from the centre in direction (x, y, z), y along the axis: wide shoulders, narrow base, a dimple."""
    dimple = np.exp(-((x / 0.27) ** 2) - (z / 0.42) ** 2) * _step(0, 0.5, y)  # longer to the viewer, so that the outline shows it
    return 0.985 + 0.2 * y * (1 - y * y) - 0.36 * dimple


def _orange_shape(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Returns the peel's distance from the centre in direction (x, y, z), y along the axis: nearly a ball."""
    return 1 - 0.03 * y * y


def _apple_skin(stage: _Stage, q: np.ndarray, normals: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns colour, normals and gloss in directions `q` (N, 3): streaks from stem to base, paler off the sun, a mirrored window."""
    x, y, z = q.T
    around = np.arctan2(x, z)
    streak = 0.5 * _noise(NOISE, 4.5 * around + 31, 1.2 * y) + 0.5 * _noise(NOISE, 12 * around + 17, 1.5 * y + 9)
    pale = 0.75 * _step(0.55, 0.98, y) + 0.5 * _step(-0.2, -0.95, y) + 0.4 * _step(0.2, -0.5, normals @ stage.light)
    red = _mix(_linear("#c2202a"), _linear("#960e1f"), _step(0.25, 0.8, _noise(NOISE, 9 * around + 5, 1.1 * y)))
    colour = _mix(red, _linear("#dfc955"), _step(0.3, 1.05, pale + 1.2 * streak - 0.54))
    colour = _mix(colour, _linear("#f0dca4"), 0.22 * _step(0.09, 0.04, np.hypot(*_nearest(7 * x + 20, 7 * y + 20))))
    hollow = _step(0.8, 0.99, y)
    colour = _mix(colour, _linear("#7f8a35"), 0.85 * hollow) * (1 - 0.5 * hollow)[:, None]
    mirror = 2 * normals[:, 2:] * normals - np.float32([0, 0, 1])
    facing, across = mirror @ stage.light, _unit(np.cross(stage.up, stage.light))
    a, b = np.abs(mirror @ across), np.abs(mirror @ np.cross(stage.light, across))
    panes = _step(0.27, 0.2, a) * _step(0.36, 0.29, b) * _step(0.015, 0.035, np.minimum(a, b)) * (facing > 0)
    return colour, normals, (0.76 * panes + 0.14 * np.maximum(facing, 0) ** 8) * (1 - hollow)


def _orange_skin(stage: _Stage, q: np.ndarray, normals: np.ndarray, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns colour, normals and gloss in directions `q` (N, 3): pores, a calyx at the top, a broad soft highlight."""
    x, y, z = q.T
    seen, level = q @ frame, np.float32([-frame[0, 1], frame[0, 0], 0])
    spread = np.sqrt(0.55 + 0.5 * seen[:, 2]) / 8.5  # a map of the half that is seen on which all pores have one size
    du, dv = _nearest(x / spread + 20, seen @ level / spread + 20)
    pit = np.exp(-7 * (du * du + dv * dv))
    normals = _unit(normals + 1.2 * pit[:, None] * (du[:, None] * frame[0] + dv[:, None] * level))
    colour = _mix(_linear("#f98d0e"), _linear("#fda41e"), _noise(NOISE, 2.5 * x + 9, 2.5 * y + 9)) * (1 - 0.25 * pit)[:, None]
    around, away = np.arctan2(x, z), np.where(y > 0, np.hypot(x, z), 1)
    colour = _mix(colour, _linear("#b8a02a"), 0.6 * _step(0.32, 0.12, away))
    colour = _mix(colour, _linear("#4f7a2c"), _step(0.02, -0.02, away - 0.15 - 0.06 * np.cos(5 * around)))
    return _mix(colour, _linear("#c9b26a"), _step(0.06, 0.04, away)), normals, 0.2 * stage.sheen(normals, 14)


KINDS = {"A": (_apple_shape, _apple_skin), "B": (_orange_shape, _orange_skin)}


def _fruit(stage: _Stage, fruit: Fruit, ball: tuple, domain: str) -> None:
    """Draws a fruit, its stem and its leaf over what is there."""
    (centre, radius), (shape, skin) = ball, KINDS[domain]
    (s0, s1), (c0, c1) = np.sin([fruit.roll, fruit.pitch]), np.cos([fruit.roll, fruit.pitch])
    frame = np.float32([[c0, s0, 0], [-s0 * c1, c0 * c1, s1], [s0 * s1, -c0 * s1, c1]])  # the fruit's coordinates from the camera's

    def outside(q):  # about how far points (3, N) are outside the skin
        r = np.sqrt((q * q).sum(axis=0)) + np.float32(1e-6)
        return r - shape(*(q / r))

    where, x, y = stage.near(ball, (0, 0), 1.1)
    base, z = frame[:, :2] @ np.stack([x, y]), np.sqrt(1.1**2 - x * x - y * y)
    for _ in range(16):  # march from a ball around the fruit to the skin
        gap = outside(base + frame[:, 2:] * z)
        z -= np.float32(0.65) * gap
    where, q = where[gap < 0.02], (base + frame[:, 2:] * z)[:, gap < 0.02]
    slope = np.stack([outside(q + dq[:, None]) for dq in np.eye(3, dtype=np.float32) / 100]) - outside(q)
    smooth = _unit(slope.T @ frame)
    points = centre + radius * q.T @ frame
    stage.depth[where] = points[:, 2]
    colour, normals, gloss = skin(stage, _unit(q.T), smooth, frame)
    lamp, room = stage.reach(points, smooth, [other for other in stage.balls if other is not ball])
    room *= (0.55 + 0.45 * normals @ stage.up) * (0.3 + 0.7 * _step(-0.2, 1, points @ stage.up / radius))  # dark near the table
    edge = 0.1 * (1 - np.clip(smooth[:, 2], 0, 1)) ** 4
    stage.paint(where, colour, normals, lamp, room, gloss * lamp + edge * room)
    if domain == "A":
        _stem(stage, ball, frame[1])
    if fruit.leaf:
        _leaf(stage, ball, frame[1], fruit.leaf)


def _stem(stage: _Stage, ball: tuple, axis: np.ndarray) -> None:
    """Draws a tapered, bent cylinder that stands in the dimple."""
    length, lean = np.hypot(*axis[:2]), _unit(axis[:2])
    where, x, y = stage.near(ball, 0.95 * axis[:2], 0.55)
    t = ((x * lean[0] + y * lean[1]) / length + 0.4) / 0.75  # from its foot to its end
    s = (x * lean[1] - y * lean[0] - 0.16 * t * t) / (0.035 + 0.035 * t * t)  # from side to side
    in_front = ball[0][2] + ball[1] * (axis[2] * (0.55 + 0.75 * t) + 0.05) > stage.depth[where]
    on = (t > 0) & (t < 1) & (np.abs(s) < 1) & in_front
    s, t = s[on], t[on]
    normals = np.stack([s * lean[1], -s * lean[0], np.sqrt(1 - s * s)], axis=-1)
    stage.paint(where[on], _mix(_linear("#5b3a1e"), _linear("#8a6a3a"), t), normals, 1, 0.6 + 0.2 * t)


def _leaf(stage: _Stage, ball: tuple, axis: np.ndarray, side: int) -> None:
    """Draws a leaf from the axis to one side, first its shadow on the fruit."""
    lean, turn = _unit(axis[:2]), np.float32([[np.cos(1.15), np.sin(1.15) * side], [-np.sin(1.15) * side, np.cos(1.15)]])
    along = turn @ lean
    beside = np.float32([-along[1], along[0]]) * side
    for shift in (-0.09 * stage.light[:2], np.zeros(2, np.float32)):
        where, x, y = stage.near(ball, 0.98 * axis[:2] + 0.42 * along + shift, 0.5)
        t = np.clip((x * along[0] + y * along[1] + 0.42) / 0.85, 0, 1)  # from foot to tip
        s = x * beside[0] + y * beside[1] + 0.25 * t * t - 0.1 * t  # from the midrib, which is bent
        width = 0.27 * np.maximum(np.sin(np.pi * t**0.8), 0) ** 0.9
        if shift.any():
            shadow = _step(-0.02, 0.1, width - np.abs(s)) * (width > 0) * (stage.depth[where] > -np.inf)
            stage.canvas[where] *= 1 - 0.5 * shadow[:, None]
    on = np.abs(s) < width
    s, t = s[on, None], t[on]
    normals = _unit(np.hstack([0.5 * np.sign(s) * beside + (t[:, None] - 0.4) * along, np.full_like(s, 0.9)]))
    s = np.abs(s[:, 0])
    veins = _step(0.3, 0, np.abs((7 * t - 8 * s) % 1 - 0.5) * 2)
    colour = _mix(_linear("#3f7a2a"), _linear("#5d9a38"), t) * (1 - 0.22 * veins)[:, None]
    colour = _mix(colour, _linear("#b4cc78"), 0.8 * _step(0.022, 0.008, s))
    stage.paint(where[on], colour, normals, 1, np.full_like(t, 0.8), 0.28 * stage.sheen(normals, 20))
