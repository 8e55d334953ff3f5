"""Functions of single elements, padding, pooling and resizing."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_members import Net, conv, head, kind, plain, unit

functions, resized = kind("element-wise functions"), kind("padding and resizing")


@functions()
def prelus() -> nn.Module:
    return plain(lambda n: nn.PReLU(), nn.PReLU)


@functions()
def shared_prelu() -> nn.Module:
    """One activation with weights, used everywhere."""
    act = nn.PReLU(10)
    first = (conv(3, 10, 3, 2), act, conv(10, 10), act)
    return nn.Sequential(*first, conv(10, 8), nn.ReLU(), head(8))


@functions()
def smooth_functions() -> nn.Module:
    return plain(lambda n: nn.Mish(), lambda n: nn.GELU(approximate="tanh"), lambda n: nn.ELU())


@functions()
def bounded_functions() -> nn.Module:
    return plain(lambda n: nn.Hardtanh(), lambda n: nn.Softsign(), lambda n: nn.Tanhshrink())


@functions()
def random_slopes() -> nn.Module:
    return plain(lambda n: nn.RReLU(), lambda n: nn.Dropout2d(), lambda n: nn.FeatureAlphaDropout())


@functions()
def rare_functions() -> nn.Module:
    """What only torch's functions have."""

    def compute(self, x: Tensor) -> Tensor:
        x = torch.atan(self.a(x)) + torch.erf(self.b(x))
        x = torch.addcmul(x, x, x.sigmoid(), value=0.5)
        return self.head(torch.lerp(x, x.abs().sqrt(), 0.3))

    return Net(compute, a=conv(3, 10, 3, 2), b=conv(3, 10, 3, 2), head=head(10))


@functions()
def clamps() -> nn.Module:
    """Cut off by clamp, minimum, and a bound that is learned (PACT)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.a(x).clamp(-2, 2)
        x = self.b(torch.clamp(x, min=0.0))
        return self.head(torch.minimum(functional.relu(x), self.bound))

    bound = nn.Parameter(torch.tensor(3.0))
    return Net(compute, a=conv(3, 10, 3, 2), b=conv(10, 12), bound=bound, head=head(12))


@functions()
def masks_and_where() -> nn.Module:
    def compute(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.b(torch.where(x > 0, x, 0.1 * x))
        x = self.c(x * (x > 0.1).float())
        return self.head(x.masked_fill(x < -1, 0.0))

    return Net(compute, a=conv(3, 10, 3, 2), b=conv(10, 12), c=conv(12, 8), head=head(8))


@functions()
def learned_swish() -> nn.Module:
    """A slope for each channel inside a function (Swish, ACON)."""

    class Swish(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(self.beta * x)

    return plain(Swish, Swish)


@functions()
def in_place() -> nn.Module:
    def compute(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x.mul_(0.5).add_(0.1).clamp_(min=-1)
        x = self.b(functional.leaky_relu_(x, 0.1))
        x += 0.1
        return self.head(x.relu_())

    return Net(compute, a=conv(3, 10, 3, 2), b=conv(10, 12), head=head(12))


@functions()
def ternary_arithmetic() -> nn.Module:
    """Numbers of numpy and whole tensors of no axis."""

    def compute(self, x: Tensor) -> Tensor:
        x = (self.a(x) - torch.tensor(0.5)) / 2.0**0.5
        return self.head(self.b(functional.relu(x)) ** 2)

    return Net(compute, a=conv(3, 10, 3, 2), b=conv(10, 12), head=head(12))


def padded(make: type[nn.Module]) -> nn.Module:
    layer = nn.Sequential(make(1), nn.Conv2d(10, 10, 3), nn.ReLU())
    return nn.Sequential(conv(3, 10, 3, 2), nn.ReLU(), layer, head(10))


@resized()
def reflection() -> nn.Module:
    return padded(nn.ReflectionPad2d)


@resized()
def replication() -> nn.Module:
    return padded(nn.ReplicationPad2d)


@resized()
def zeros_around() -> nn.Module:
    return padded(nn.ZeroPad2d)


@resized()
def circular() -> nn.Module:
    return padded(nn.CircularPad2d)


@resized()
def padding_modes() -> nn.Module:
    layers = (conv(10, 10, padding_mode="circular"), nn.ReLU(), conv(10, 8, padding_mode="reflect"))
    return nn.Sequential(conv(3, 10, 3, 2), nn.ReLU(), *layers, nn.ReLU(), head(8))


@resized()
def same_padding() -> nn.Module:
    """Padding worked out from the size in the pass (TensorFlow's)."""

    def compute(self, x: Tensor) -> Tensor:
        x = functional.relu(self.a(x))
        short = (-x.shape[-1]) % 2 + 1
        return self.head(self.b(functional.pad(x, [short // 2, short - short // 2, 0, 1])))

    return Net(compute, a=conv(3, 10), b=nn.Conv2d(10, 8, 3, 2), head=head(8))


@resized()
def poolings() -> nn.Module:
    """Maximum, mean, power mean, and fractions."""
    layers = [unit(3, 10), nn.MaxPool2d(2, ceil_mode=True), unit(10, 10), nn.LPPool2d(2, 2)]
    return nn.Sequential(
        *layers, unit(10, 8), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(32, 4)
    )


@resized()
def generalised_mean() -> nn.Module:
    """GeM pooling with a power that is learned."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x).clamp(min=1e-3).pow(self.p)
        return self.linear(functional.avg_pool2d(x, x.shape[-2:]).pow(1 / self.p).flatten(1))

    p = nn.Parameter(torch.ones(1) * 2)
    return Net(
        compute, body=nn.Sequential(unit(3, 8, 3, 2), unit(8, 10)), p=p, linear=nn.Linear(10, 4)
    )


@resized()
def nearest_and_bicubic() -> nn.Module:
    layers = [unit(3, 8, 3, 2), nn.UpsamplingNearest2d(scale_factor=2), unit(8, 10)]
    return nn.Sequential(*layers, nn.Upsample(size=(8, 8), mode="bicubic"), unit(10, 8), head(8))


@resized(pins=None)
def sampled_on_grid() -> nn.Module:
    """A map is turned by a grid that is worked out from it (spatial transformer)."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        turn = self.turn(x.mean((2, 3))).view(-1, 2, 3)
        grid = functional.affine_grid(turn, list(x.shape), align_corners=False)
        return self.head(self.last(functional.grid_sample(x, grid, align_corners=False)))

    parts = {"turn": nn.Linear(8, 6), "last": unit(8, 10), "head": head(10)}
    return Net(compute, stem=nn.Sequential(unit(3, 10, 3, 2), unit(10, 8)), **parts)


@resized(pins="max_unpool2d")
def unpooled() -> nn.Module:
    """Pooled with the places of the maxima, and spread again (SegNet)."""

    def compute(self, x: Tensor) -> Tensor:
        x, places = functional.max_pool2d(self.stem(x), 2, return_indices=True)
        return self.head(self.last(functional.max_unpool2d(self.body(x), places, 2)))

    parts = {"body": unit(8, 8), "last": unit(8, 10), "head": head(10)}
    return Net(compute, stem=unit(3, 8), **parts)
