"""The 70×70 PatchGAN discriminator (Isola et al. 2017; Zhu et al. 2017, appendix 7.2)."""

import keras

from ops import Ck, patch_logits


class Discriminator(keras.Model):
    """C64-C128-C256-C512, for ndf = 64, then one channel; each output judges a 70×70 patch.

    (B, H, W, 3) in [-1, 1] → logits (B, H/8 - 2, W/8 - 2, 1): 30×30 for 256×256. H and W are at least 32.
    """

    def __init__(self, ndf: int = 64, norm: str = "instance", name: str = "discriminator"):
        x = picture = keras.Input((None, None, 3), name="picture")
        x = Ck(ndf, norm=None)(x)  # (B, H/2, W/2, ndf)
        x = Ck(2 * ndf, norm)(x)  # (B, H/4, W/4, 2·ndf)
        x = Ck(4 * ndf, norm)(x)  # (B, H/8, W/8, 4·ndf)
        x = Ck(8 * ndf, norm, strides=1)(x)  # (B, H/8 - 1, W/8 - 1, 8·ndf): stride 1 here is what makes it 70×70
        x = patch_logits()(x)  # (B, H/8 - 2, W/8 - 2, 1)
        super().__init__(picture, x, name=name)
