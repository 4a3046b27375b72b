"""Runs train.py with generators that do what they should not, so that its early warnings can be seen to come.

    python tests/sabotage.py invert --X data/tfrecords/apple.tfrecords --Y data/tfrecords/orange.tfrecords --image_size 64

The first word is what both generators do, `invert`, `collapse` or `copy`; or what each does: `invert,copy`. The rest are flags of train.py.
"""

import itertools
import sys
from pathlib import Path

KINDS = {"invert": (-1.0, 0.0), "collapse": (0.0, 0.3), "copy": (1.0, 0.0)}  # output = scale · input + offset, and a little that is trained


def builder(kinds: str):
    """Returns what takes the place of `model.build_generator`: generators that keep to their kind however they are trained."""
    import keras

    by_name = dict(zip("GF", itertools.cycle(kinds.split(","))))

    def build_generator(config, name: str) -> keras.Model:
        scale, offset = KINDS[by_name[name[0]]]
        inputs = keras.Input((None, None, 3))
        trained = keras.layers.Conv2D(3, 3, padding="same", activation="tanh")(inputs)
        return keras.Model(inputs, keras.ops.clip(scale * inputs + offset + 0.002 * trained, -1, 1), name=name)

    return build_generator


def main() -> int:
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import train
    from system import cli, devices

    kinds, *argv = sys.argv[1:] or ["--help"]
    if any(kind not in KINDS for kind in kinds.split(",")):
        print(__doc__)
        return cli.WRONG_INPUT
    devices.quiet_tensorflow()
    import model

    model.build_generator = builder(kinds)
    return cli.run(train.main, argv)


if __name__ == "__main__":
    sys.exit(main())
