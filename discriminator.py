"""The discriminators: the PatchGAN, 70×70 in the papers (Isola et al. 2017; Zhu et al. 2017, appendix 7.2), and one of single pixels."""

import functools

import keras

from ops import C1x1, Ck, normalization, patch_logits, pixel_logits
from system.devices import number_type
from training.config import Config


class Discriminator(keras.Model):
    """C64-C128-C256-C512, for ndf = 64 and 3 layers, then one channel; each output judges a patch of 70×70.

    (B, H, W, channels) in [-1, 1] → logits (B, H/2ⁿ - 2, W/2ⁿ - 2, 1) for n layers: 30×30 for 256×256 and 3. With 1 to 5 layers a patch
    has 16, 34, 70, 142 or 286 pixels a side; H and W are at least 3·2ⁿ.
    """

    def __init__(
        self, ndf: int = 64, norm: str = "instance", n_layers: int = 3, affine: bool = True, channels: int = 3, name: str = "discriminator"
    ):
        norm = functools.partial(normalization, norm, affine)
        x = picture = keras.Input((None, None, channels), name="picture")
        x = Ck(ndf, norm=None)(x)  # (B, H/2, W/2, ndf)
        for n in range(1, n_layers):
            x = Ck(ndf * min(2**n, 8), norm)(x)  # (B, H/2ⁿ⁺¹, W/2ⁿ⁺¹, 2ⁿ·ndf)
        x = Ck(ndf * min(2**n_layers, 8), norm, strides=1)(x)  # (B, H/2ⁿ - 1, W/2ⁿ - 1, ·): stride 1 here is what makes 3 layers 70×70
        x = patch_logits()(x)  # (B, H/2ⁿ - 2, W/2ⁿ - 2, 1)
        super().__init__(picture, x, name=name)


class PixelDiscriminator(keras.Model):
    """Judges each pixel by its colour alone: (B, H, W, channels) in [-1, 1] → logits (B, H, W, 1); with 2 layers the papers' PixelGAN."""

    def __init__(
        self, ndf: int = 64, norm: str = "instance", n_layers: int = 2, affine: bool = True, channels: int = 3, name: str = "discriminator"
    ):
        norm = functools.partial(normalization, norm, affine)
        x = picture = keras.Input((None, None, channels), name="picture")
        for n in range(n_layers):
            x = C1x1(ndf * min(2**n, 8), norm if n else None)(x)  # (B, H, W, 2ⁿ·ndf)
        x = pixel_logits()(x)
        super().__init__(picture, x, name=name)


def build_discriminator(config: Config, name: str, channels: int = 3) -> Discriminator | PixelDiscriminator:
    """The discriminator that a run's settings describe, with fresh weights."""
    kind = PixelDiscriminator if config.discriminator == "pixel" else Discriminator
    with number_type(config.precision):
        return kind(config.ndf, config.normalization, config.n_layers_D, config.affine, channels, name)
