"""What networks return and are made of: other outputs, and what is refused."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from zoo_members import CLASSES, Net, conv, head, kind, plain, unit

outputs, refused = kind("outputs"), kind("unfit")
Made = namedtuple("Made", ["logits", "aux"])


def body() -> nn.Sequential:
    return nn.Sequential(unit(3, 8, 3, 2), unit(8, 12))


def returning(pick, **parts: nn.Module) -> nn.Module:
    """A network that returns something of its maps (B, 12, 8, 8) and its logits."""

    def compute(self, x: Tensor):
        maps = self.body(x)
        return pick(self, maps, self.head(maps))

    return Net(compute, body=body(), head=head(12), **parts)


@outputs()
def tuple_of_two() -> nn.Module:
    return returning(lambda self, maps, logits: (logits, maps))


@outputs()
def features_first() -> nn.Module:
    return returning(lambda self, maps, logits: [maps.mean((2, 3)), logits])


@outputs()
def dictionary() -> nn.Module:
    return returning(lambda self, maps, logits: OrderedDict(out=logits, maps=maps))


@outputs()
def named_tuple() -> nn.Module:
    return returning(lambda self, maps, logits: Made(logits, None))


@outputs(pins="raises 'mat1 and mat2")
def auxiliary_head() -> nn.Module:
    """GoogLeNet: more outputs in training than afterwards."""

    def pick(self, maps: Tensor, logits: Tensor):
        return (logits, self.aux(maps)) if self.training else logits

    return returning(pick, aux=head(12))


@outputs()
def several_exits() -> nn.Module:
    """Early exits, all of them returned, the last one last."""
    return returning(lambda self, maps, logits: (logits, self.early(maps)), early=head(12))


@outputs()
def logits_of_places() -> nn.Module:
    """Maps of the classes, averaged."""

    def compute(self, x: Tensor) -> Tensor:
        return self.classes(self.body(x)).mean(dim=(2, 3))

    return Net(compute, body=body(), classes=conv(12, CLASSES, 1))


@outputs()
def log_probabilities() -> nn.Module:
    return nn.Sequential(body(), head(12), nn.LogSoftmax(dim=1))


@outputs()
def squeezed() -> nn.Module:
    """Code that squeezes whatever is one long."""

    def compute(self, x: Tensor) -> Tensor:
        return self.linear(functional.adaptive_avg_pool2d(self.body(x), 1).squeeze(-1).squeeze(-1))

    return Net(compute, body=body(), linear=nn.Linear(12, CLASSES))


@outputs()
def unused_layers() -> nn.Module:
    """Layers that no image passes through."""
    module = nn.Sequential(body(), head(12))
    module[0].register_module("never", nn.Identity())
    net = Net(lambda self, x: self.inner(x), inner=module, never=conv(8, 8))
    net.register_buffer("count", torch.zeros((), dtype=torch.long))
    return net


@outputs()
def integer_buffers() -> nn.Module:
    """A table of places that is an index."""

    def compute(self, x: Tensor) -> Tensor:
        return self.linear(self.body(x).flatten(2)[:, :, self.places].mean(2))

    net = Net(compute, body=body(), linear=nn.Linear(12, CLASSES))
    net.register_buffer("places", torch.arange(0, 64, 3))
    return net


@outputs()
def branch_on_mode() -> nn.Module:
    """Noise in training only."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(x + 0.1 * torch.randn_like(x) if self.training else x)

    return Net(compute, body=body(), head=head(12))


@outputs()
def double_inside() -> nn.Module:
    """One step is computed in double precision."""

    def compute(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).double().tanh().float())

    return Net(compute, body=body(), head=head(12))


@outputs()
def counted_images() -> nn.Module:
    """The code asks how many images there are, as a plain number."""

    def compute(self, x: Tensor) -> Tensor:
        count = int(x.shape[0])
        return self.linear(self.body(x).mean((2, 3)).reshape(count, 12 if count < 0 else -1))

    return Net(compute, body=body(), linear=nn.Linear(12, CLASSES))


@outputs()
def checkpointed() -> nn.Module:
    """Layers are computed again on the way back, to save memory."""

    def compute(self, x: Tensor) -> Tensor:
        x = self.body[0](x)
        x = torch.utils.checkpoint.checkpoint(self.body[1], x, use_reentrant=False)
        return self.head(x)

    return Net(compute, body=body(), head=head(12))


@refused(refused="10 outputs")
def ten_classes() -> nn.Module:
    return nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 10))


@refused(refused="2 outputs")
def two_classes() -> nn.Module:
    return nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2))


@refused(refused="takes 1 channels")
def grey_images() -> nn.Module:
    return nn.Sequential(unit(1, 8, 3, 2), head(8))


@refused(refused="float64")
def double_precision() -> nn.Module:
    return nn.Sequential(body(), head(12)).double()


@refused(refused="bfloat16")
def half_precision() -> nn.Module:
    return nn.Sequential(body(), head(12)).bfloat16()


@refused(refused="not initialised")
def lazy_layers() -> nn.Module:
    return nn.Sequential(body(), nn.Flatten(), nn.LazyLinear(CLASSES))


@refused(refused="no parameters")
def no_parameters() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), Net(lambda self, x: x[:, :4]))


@refused(refused="frozen")
def all_frozen() -> nn.Module:
    return nn.Sequential(body(), head(12)).requires_grad_(False)


@refused(refused="DataParallel")
def data_parallel() -> nn.Module:
    return nn.DataParallel(nn.Sequential(body(), head(12)))


@refused(refused="TorchScript")
def scripted_part() -> nn.Module:
    return nn.Sequential(torch.jit.script(unit(3, 8, 3, 2)), head(8))


@refused(refused="mapping")
def dictionary_without_logits() -> nn.Module:
    return returning(lambda self, maps, logits: {"boxes": logits})


@refused(refused="shape (3, 4, 8, 8)")
def segmentation() -> nn.Module:
    return nn.Sequential(body(), conv(12, CLASSES, 1))


@refused(refused="depends on the others")
def normalised_over_batch() -> nn.Module:
    def compute(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(x - x.mean(0, keepdim=True))

    return Net(compute, body=body(), head=head(12))


@refused(refused="second time")
def random_in_evaluation() -> nn.Module:
    return nn.Sequential(body(), Net(lambda self, x: functional.dropout(x, 0.5)), head(12))


@refused(refused="finite")
def infinite_logits() -> nn.Module:
    return nn.Sequential(body(), head(12), Net(lambda self, x: x / 0.0))


@refused(refused="fft")
def fourier() -> nn.Module:
    """An operation whose multiply-adds nobody knows."""
    return nn.Sequential(body(), Net(lambda self, x: torch.fft.rfft2(x).abs()), head(12))


@refused(refused="images of 3 x 16 x 16")
def larger_images() -> nn.Module:
    layers = (nn.Flatten(), nn.Linear(12 * 64 * 64, CLASSES))
    return nn.Sequential(plain(lambda n: nn.ReLU())[:-2], *layers)


@refused(refused="is on device meta")
def without_memory() -> nn.Module:
    return nn.Sequential(body(), head(12)).to("meta")
