"""What the tests share: a quiet TensorFlow, drawn pictures, and commands run in this process."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import cli

cli.quiet_tensorflow()


@dataclass
class Outcome:
    """What a command left behind for its user."""

    status: int
    out: str
    err: str

    def assert_refused(self, *words: str) -> None:
        """Wrong input: exit status 2, and one line on stderr that holds `words`."""
        assert self.status == cli.WRONG_INPUT, self.err
        assert self.err.count("\n") == 1, self.err
        for word in words:
            assert word in self.err


@pytest.fixture
def call(capfd):
    """`call(module.main, flag, value, …)` runs a command as a shell would and returns its `Outcome`."""

    def call(main, *argv: object) -> Outcome:
        capfd.readouterr()
        status = cli.run(main, [str(a) for a in argv])
        return Outcome(status, *capfd.readouterr())

    return call


def draw(seed: int, height: int = 48, width: int = 48) -> np.ndarray:
    """A smooth random picture, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width, None][:2] / 16
    phase, way = rng.uniform(0, 6, 3), rng.uniform(0.5, 2, (2, 3))
    return np.uint8(127.5 + 127 * np.sin(x * way[0] + y * way[1] + phase))


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}
