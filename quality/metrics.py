"""How far pictures, and sets of pictures, are from each other, as functions of arrays."""

import numpy as np

BLOCK = 4096  # rows of a kernel matrix that are computed at once, to save memory


def l1(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of uint8 pictures of equal shape, as a share of the range: 0 (equal) … 1 (black against white)."""
    return float(np.abs(a.astype(np.float64) - b).mean() / 255)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 pictures (H, W, 3), decibels; infinite if they are equal."""
    import tensorflow as tf

    return float(tf.image.psnr(a, b, max_val=255))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004) of uint8 pictures (H, W, 3), at least 11×11: 1 (equal) down to -1; NaN for smaller ones.

    As in the paper: a Gaussian window of 11 pixels and σ 1.5, K1 = 0.01, K2 = 0.03; the mean over the colour channels.
    """
    import tensorflow as tf

    return float(tf.image.ssim(a, b, max_val=255)) if min(a.shape[:2]) >= 11 else float("nan")


def fid(real: np.ndarray, fake: np.ndarray) -> float:
    """Fréchet distance of Gaussians fitted to features, (N, D) and (M, D) with N, M ≥ 2 (Heusel et al. 2017).

    It is biased: the fewer pictures, the larger it is, also for perfect ones.
    """
    (mean_a, a), (mean_b, b) = _gaussian(real), _gaussian(fake)
    # With Σ = AᵀA, the trace of (Σ₁Σ₂)^½ is the sum of the singular values of A₁A₂ᵀ, exactly, also if a covariance has not full rank.
    together = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(0, ((mean_a - mean_b) ** 2).sum() + (a**2).sum() + (b**2).sum() - 2 * together))


def _gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean (D,) of features (N, D), and an A, (min(N, D), D), of which the covariance is AᵀA."""
    features = features.astype(np.float64)
    mean = features.mean(axis=0)
    a = (features - mean) / np.sqrt(len(features) - 1)
    return mean, np.linalg.qr(a, "r") if len(a) > a.shape[1] else a


def kid(real: np.ndarray, fake: np.ndarray) -> tuple[float, float]:
    """Kernel inception distance of features, (N, D) and (M, D) with N, M ≥ 3, and its standard error (Bińkowski et al. 2018).

    The squared maximum mean discrepancy under the kernel (x·y / D + 1)³, estimated without bias from all pairs: about 0, and half of the
    time negative, if both sets are of one distribution. The standard error, over samples from the same distributions, is the jackknife's:
    up to 1.4 times too large if these are alike.
    """
    n, m, d = len(real), len(fake), real.shape[1]

    def kernel(products):
        return (products / d + 1) ** 3

    def row_sums(a, b):  # for each row of a, over all of b
        a, b = a.astype(np.float64), b.astype(np.float64)
        return np.concatenate([kernel(a[i : i + BLOCK] @ b.T).sum(axis=1) for i in range(0, len(a), BLOCK)])

    def distance(n, m, real, fake, across):
        return real / (n * (n - 1)) + fake / (m * (m - 1)) - 2 * across / (n * m)

    # No picture is paired with itself.
    of_real, of_fake = (row_sums(a, a) - kernel((a.astype(np.float64) ** 2).sum(axis=1)) for a in (real, fake))
    across, across_back = row_sums(real, fake), row_sums(fake, real)
    sums = of_real.sum(), of_fake.sum(), across.sum()
    # Leave one picture out: a pair of the same kind counts in both its rows.
    without_real = distance(n - 1, m, sums[0] - 2 * of_real, sums[1], sums[2] - across)
    without_fake = distance(n, m - 1, sums[0], sums[1] - 2 * of_fake, sums[2] - across_back)
    variance = (n - 1) * without_real.var() + (m - 1) * without_fake.var()
    return float(distance(n, m, *sums)), float(np.sqrt(variance))


def fit_colour_change(inputs: list[np.ndarray], targets: list[np.ndarray]) -> np.ndarray:
    """Returns the affine map of RGB, float (4, 3), that brings pixels of `inputs` nearest to `targets` in least squares.

    A translation has to be nearer to `targets` to be more than a tint. Pictures are uint8 (H, W, 3), equal in shape pair by pair.
    """
    gram, moment = np.zeros((4, 4)), np.zeros((4, 3))  # of the normal equations: memory does not grow with the number of pictures
    for picture, target in zip(inputs, targets, strict=True):
        pixels = np.c_[picture.reshape(-1, 3).astype(np.float64), np.ones(picture.size // 3)]
        gram += pixels.T @ pixels
        moment += pixels.T @ target.reshape(-1, 3)
    return np.linalg.lstsq(gram, moment, rcond=1e-12)[0]


def change_colour(picture: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Applies the result of `fit_colour_change` to uint8 (H, W, 3), rounded and clipped."""
    return np.clip(np.rint(picture @ change[:3] + change[3]), 0, 255).astype(np.uint8)
