"""The ResNet generator of Johnson et al. as CycleGAN uses it (Zhu et al. 2017, section 4 and appendix 7.2)."""

import keras

from ops import Rk, c7s1_3, c7s1_k, dk, uk
from system.devices import number_type
from training.config import Config


class Generator(keras.Model):
    """c7s1-64, d128, d256, R256 × n, u128, u64, c7s1-3, for ngf = 64.

    (B, H, W, 3) in [-1, 1] → (B, H, W, 3) in [-1, 1]; H and W are multiples of 4, at least 8, and may differ from those in training.
    """

    multiple, smallest = 4, 8  # what divides H and W, and what they are at least

    def __init__(self, ngf: int, n_res_blocks: int, norm: str = Config.norm, upsample: str = Config.upsample, name: str = "generator"):
        x = picture = keras.Input((None, None, 3), name="picture")
        x = c7s1_k(ngf, norm)(x)  # (B, H, W, ngf)
        x = dk(2 * ngf, norm)(x)  # (B, H/2, W/2, 2·ngf)
        x = dk(4 * ngf, norm)(x)  # (B, H/4, W/4, 4·ngf)
        for _ in range(n_res_blocks):
            x = Rk(4 * ngf, norm)(x)  # (B, H/4, W/4, 4·ngf)
        x = uk(2 * ngf, norm, upsample)(x)  # (B, H/2, W/2, 2·ngf)
        x = uk(ngf, norm, upsample)(x)  # (B, H, W, ngf)
        x = c7s1_3()(x)  # (B, H, W, 3)
        super().__init__(picture, x, name=name)


def build_generator(config: Config, name: str) -> Generator:
    """The generator that a run's settings describe, with fresh weights."""
    with number_type(config.precision):
        return Generator(config.ngf, config.n_res_blocks, config.norm, config.upsample, name=name)
