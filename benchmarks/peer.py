"""The peer: the CycleGAN step of the paper's authors in PyTorch, written as a good user of PyTorch would.

The same networks, losses, pools and Adam as ours (no identity loss): `tests/test_benchmarks.py` holds both to the same numbers.
"""

import itertools
import random

import torch
from torch import nn


def _norm_relu(k: int, activation: nn.Module) -> list[nn.Module]:
    return [nn.InstanceNorm2d(k, affine=True), activation]


class Residual(nn.Module):
    def __init__(self, k: int):
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(k, k, 3, padding=1, padding_mode="reflect", bias=False),
            *_norm_relu(k, nn.ReLU(True)),
            nn.Conv2d(k, k, 3, padding=1, padding_mode="reflect", bias=False),
            nn.InstanceNorm2d(k, affine=True),
        )

    def forward(self, x):
        return x + self.branch(x)


def generator(ngf: int = 64, n_res_blocks: int = 9) -> nn.Sequential:
    """(B, 3, H, W) in [-1, 1] → the same."""
    return nn.Sequential(
        nn.ReflectionPad2d(3),
        nn.Conv2d(3, ngf, 7, bias=False),
        *_norm_relu(ngf, nn.ReLU(True)),
        nn.Conv2d(ngf, 2 * ngf, 3, 2, 1, bias=False),
        *_norm_relu(2 * ngf, nn.ReLU(True)),
        nn.Conv2d(2 * ngf, 4 * ngf, 3, 2, 1, bias=False),
        *_norm_relu(4 * ngf, nn.ReLU(True)),
        *(Residual(4 * ngf) for _ in range(n_res_blocks)),
        nn.ConvTranspose2d(4 * ngf, 2 * ngf, 3, 2, 1, 1, bias=False),
        *_norm_relu(2 * ngf, nn.ReLU(True)),
        nn.ConvTranspose2d(2 * ngf, ngf, 3, 2, 1, 1, bias=False),
        *_norm_relu(ngf, nn.ReLU(True)),
        nn.ReflectionPad2d(3),
        nn.Conv2d(ngf, 3, 7),
        nn.Tanh(),
    )


def discriminator(ndf: int = 64) -> nn.Sequential:
    """(B, 3, H, W) in [-1, 1] → logits (B, 1, H/8 - 2, W/8 - 2)."""
    leaky = lambda: nn.LeakyReLU(0.2, True)  # noqa: E731
    return nn.Sequential(
        nn.Conv2d(3, ndf, 4, 2, 1),
        leaky(),
        nn.Conv2d(ndf, 2 * ndf, 4, 2, 1, bias=False),
        *_norm_relu(2 * ndf, leaky()),
        nn.Conv2d(2 * ndf, 4 * ndf, 4, 2, 1, bias=False),
        *_norm_relu(4 * ndf, leaky()),
        nn.Conv2d(4 * ndf, 8 * ndf, 4, 1, 1, bias=False),
        *_norm_relu(8 * ndf, leaky()),
        nn.Conv2d(8 * ndf, 1, 4, 1, 1),
    )


class ImagePool:
    """Fifty past pictures; half the time one of them comes back instead of the new one."""

    def __init__(self, size: int = 50):
        self.size, self.pictures = size, []

    def query(self, pictures: torch.Tensor) -> torch.Tensor:
        answer = []
        for picture in pictures.detach():
            if len(self.pictures) < self.size:
                self.pictures.append(picture.clone())
            elif random.random() < 0.5:
                slot = random.randrange(self.size)
                picture, self.pictures[slot] = self.pictures[slot], picture.clone()
            answer.append(picture)
        return torch.stack(answer)


class CycleGAN:
    """One model and its training step. `amp`: bfloat16 autocast. `channels_last`: the memory layout of pictures and weights."""

    def __init__(self, ngf=64, ndf=64, n_res_blocks=9, amp=False, channels_last=False, compiled=False, pool_size=50):
        self.G, self.F = generator(ngf, n_res_blocks), generator(ngf, n_res_blocks)
        self.D_X, self.D_Y = discriminator(ndf), discriminator(ndf)
        self.networks = nn.ModuleList([self.G, self.F, self.D_X, self.D_Y])
        for parameter in self.networks.parameters():
            if parameter.ndim == 4:
                nn.init.normal_(parameter, std=0.02)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.networks.to(memory_format=self.layout)
        self.amp = amp
        # The optimizer of the authors' code, and PyTorch's own fused kernel for it.
        adam = dict(lr=2e-4, betas=(0.5, 0.999), fused=True)
        self.generator_optimizer = torch.optim.Adam(itertools.chain(self.G.parameters(), self.F.parameters()), **adam)
        self.discriminator_optimizer = torch.optim.Adam(itertools.chain(self.D_X.parameters(), self.D_Y.parameters()), **adam)
        self.pool_X, self.pool_Y = ImagePool(pool_size), ImagePool(pool_size)
        self.g = {name: torch.compile(net) if compiled else net for name, net in zip(["G", "F", "D_X", "D_Y"], self.networks, strict=True)}

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.amp)

    def gradients_of_generators(self, x, y):
        """Leaves the gradients in the parameters; returns the losses and both translations."""
        G, F, D_X, D_Y = self.g.values()
        for discriminator in (self.D_X, self.D_Y):
            discriminator.requires_grad_(False)
        self.generator_optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            fake_y, fake_x = G(x), F(y)
            cycled_x, cycled_y = F(fake_y), G(fake_x)
            G_loss, F_loss = (D_Y(fake_y).float() - 1).square().mean(), (D_X(fake_x).float() - 1).square().mean()
            cycle = 10 * ((cycled_x.float() - x).abs().mean() + (cycled_y.float() - y).abs().mean())
        (G_loss + F_loss + cycle).backward()
        return (G_loss, F_loss, cycle), fake_x, fake_y

    def gradients_of_discriminators(self, x, y, past_x, past_y):
        _, _, D_X, D_Y = self.g.values()
        for discriminator in (self.D_X, self.D_Y):
            discriminator.requires_grad_(True)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        losses = []
        for D, real, fake in ((D_X, x, past_x), (D_Y, y, past_y)):
            with self.autocast():
                loss = ((D(real).float() - 1).square().mean() + D(fake).float().square().mean()) / 2
            loss.backward()
            losses.append(loss)
        return losses

    def train_step(self, x: torch.Tensor, y: torch.Tensor) -> list[float]:
        """x, y: float32 (B, 3, H, W) in [-1, 1]. Returns the losses of G, F, the cycles, D_X and D_Y."""
        x, y = x.contiguous(memory_format=self.layout), y.contiguous(memory_format=self.layout)
        losses, fake_x, fake_y = self.gradients_of_generators(x, y)
        self.generator_optimizer.step()
        past_x, past_y = self.pool_X.query(fake_x.float()), self.pool_Y.query(fake_y.float())
        losses = [*losses, *self.gradients_of_discriminators(x, y, past_x, past_y)]
        self.discriminator_optimizer.step()
        return [float(loss.detach()) for loss in losses]


def take_weights(network: nn.Module, ours) -> nn.Module:
    """Copies the weights of our network of the same shape (TensorFlow's layout of kernels is the reverse of PyTorch's)."""
    with torch.no_grad():
        for parameter, weight in zip(network.parameters(), ours.trainable_variables, strict=True):
            value = torch.from_numpy(weight.numpy())
            parameter.copy_(value.permute(3, 2, 0, 1) if value.ndim == 4 else value)
    return network
