"""How many operations a pass and a step must do: those of their convolutions, a multiplication and an addition counting as two."""


def generator(size: int, ngf: int, blocks: int) -> list[float]:
    """Operations of each convolution in a forward pass on one picture of size×size pixels."""
    h = size
    down = [h**2 * 49 * 3 * ngf, (h // 2) ** 2 * 9 * ngf * 2 * ngf, (h // 4) ** 2 * 9 * 2 * ngf * 4 * ngf]
    residual = [(h // 4) ** 2 * 9 * (4 * ngf) ** 2] * (2 * blocks)
    up = down[::-1]  # a transposed convolution does what its transpose does; the last has 3 filters as the first has 3 channels
    return [2.0 * n for n in down + residual + up]


def discriminator(size: int, ndf: int) -> list[float]:
    a, b, c, d, e = size // 2, size // 4, size // 8, size // 8 - 1, size // 8 - 2
    layers = [a**2 * 3 * ndf, b**2 * ndf * 2 * ndf, c**2 * 2 * ndf * 4 * ndf, d**2 * 4 * ndf * 8 * ndf, e**2 * 8 * ndf]
    return [2.0 * 16 * n for n in layers]


def step(size: int, ngf: int, blocks: int, ndf: int = 64, batch: int = 1) -> float:
    """Of a training step: 4 generator passes, 2 + 4 discriminator passes, and their backward passes, as far as they are needed."""
    G, D = generator(size, ngf, blocks), discriminator(size, ndf)
    # A backward pass does a forward pass' operations for the gradients of the weights, and again for those of the input; where the input is
    # a picture of the data, or a past one, the first layer needs the former alone.
    translate, back = 3 * sum(G) - G[0], 3 * sum(G)
    pass_for_real, judge = 2 * sum(D), 3 * sum(D) - D[0]  # the generators' loss needs no gradient of D's weights
    return batch * 2 * (translate + back + pass_for_real + 2 * judge)
