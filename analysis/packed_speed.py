"""How fast and how small networks of bits are, beside ONNX Runtime in float32 and in 8 bits.

OpenVINO computes the network of bits too, its convolutions by ``BinaryConvolution`` where it can.

Networks of the shapes of ResNet-18 (He et al. 2016, table 1) and DeiT-Ti (Touvron et al. 2021) for
images of 224 x 224, and single 3x3 convolutions of the former's stages, with the mean of the map;
the binary networks keep stem, shortcuts, attention and classifier in float32.
Weights are random: speed does not ask for them. Each time is the median of single images, and all
are of one run on one machine.

    python analysis/packed_speed.py > docs/benchmarks/packed.md
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from nasplatform.models.binary import BinaryConv2d, BinaryLinear, put_layers
from nasplatform.models.network import Network
from nasplatform.runtimes.base import Session
from nasplatform.runtimes.choice import noise
from nasplatform.runtimes.comparison import alternatives
from nasplatform.runtimes.openvino_runtime import OpenVino
from nasplatform.runtimes.packed.file import write_program
from nasplatform.runtimes.packed.library import INSTRUCTIONS, instructions
from nasplatform.runtimes.packed.lowering import lowered
from nasplatform.runtimes.packed.session import PackedSession
from nasplatform.runtimes.timing import timed

SHAPE = (3, 224, 224)
WIDTHS = (64, 64, 128, 256, 512)
LAYERS = ((64, 56), (128, 28), (256, 14), (512, 7))
MEAN = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
CALIBRATED = 4


class Block(nn.Module):
    """Two 3x3 convolutions, each with a normalisation, a shortcut around it and a PReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, binary: bool) -> None:
        super().__init__()
        self.first, self.second = (
            conv3x3(inputs, outputs, stride, binary),
            conv3x3(outputs, outputs, 1, binary),
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))
        self.slopes = nn.ModuleList(nn.PReLU(outputs) for _ in range(2))
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride > 1:
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the block."""
        x = self.slopes[0](self.norms[0](self.first(x)) + self.shortcut(x))
        made: Tensor = self.slopes[1](self.norms[1](self.second(x)) + x)
        return made


def conv3x3(inputs: int, outputs: int, stride: int, binary: bool) -> nn.Module:
    """Return a 3x3 convolution that keeps the size but for its stride."""
    if not binary:
        return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    weight, scale = torch.randn(outputs, inputs, 3, 3), torch.rand(outputs)
    return BinaryConv2d.from_signs(weight, scale, stride=(stride, stride), padding=(1, 1))


def resnet18(binary: bool) -> nn.Module:
    """Return a network of the shape of ResNet-18."""
    layers: list[nn.Module] = [
        *(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)),
        nn.MaxPool2d(3, 2, 1),
    ]
    for stage in range(4):
        inputs, outputs = WIDTHS[stage : stage + 2]
        layers.append(Block(inputs, outputs, 2 if stage else 1, binary))
        layers.append(Block(outputs, outputs, 1, binary))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))
    return nn.Sequential(*layers, *head).eval()


def transformer(binary: bool) -> nn.Module:
    """Return DeiT-Ti; of a binary one all linear layers but embedding and classifier are."""
    module = Network.named("vit", 0, architecture="deit-ti").module.eval()
    layers: dict[nn.Module, nn.Module] = {
        layer: BinaryLinear.from_signs(layer.weight, torch.rand(len(layer.weight)))
        for name, layer in module.named_modules()
        if binary and isinstance(layer, nn.Linear) and "blocks" in name
    }
    return put_layers(module, layers)


def times(
    before: nn.Module, after: nn.Module, shape: tuple[int, int, int], threads: int
) -> dict[str, float]:
    """Return milliseconds by runtime."""
    images = noise(shape, CALIBRATED)
    of_bits: list[Session] = [PackedSession(lowered(after, shape), threads)]
    if OpenVino().available() is None:
        of_bits.append(OpenVino().compile(after, shape, threads))
    found = alternatives(before, images, threads)
    for each in of_bits:
        found[each.runtime] = timed(partial(each.run, images[:1])).median_ms
    return found


def row(name: str, threads: int, found: dict[str, float]) -> str:
    """Return a line of the table: times, and how often faster bits are than float32."""
    floats = ("onnxruntime", "onnxruntime-int8-static", "onnxruntime-int8-dynamic")
    columns = (*floats, "openvino", "packed")
    cells = [f"{found[c]:.2f}" if c in found else "-" for c in columns]
    return (
        f"| {name} | {threads} | {' | '.join(cells)} | "
        f"{found['onnxruntime'] / found['packed']:.1f} |"
    )


def file_bytes(program_of: nn.Module) -> int:
    """Return the size of the packed file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.nasbin"
        write_program(lowered(program_of, SHAPE), path)
        return path.stat().st_size


def main() -> None:
    """Print the page."""
    torch.manual_seed(0)
    before, after = resnet18(binary=False), resnet18(binary=True)
    floats = sum(tensor.nbytes for tensor in before.state_dict().values())
    size = file_bytes(after)
    print("# Networks of bits: speed and size\n")
    print(
        "Made by `python analysis/packed_speed.py`: median milliseconds of one image, in one run;"
    )
    print(f"instructions of the packed runtime: {INSTRUCTIONS[instructions()]}.\n")
    names = ("network", "threads", "fp32", "int8 static", "int8 dynamic", "bits by OpenVINO")
    print(f"| {' | '.join(names)} | packed | fp32 / packed |")
    print("|---" * (len(names) + 2) + "|")
    whole = {"ResNet-18 shape": (before, after)}
    whole["DeiT-Ti shape"] = (transformer(binary=False), transformer(binary=True))
    for name, pair in whole.items():
        for threads in (1, 2):
            print(row(f"{name}, 224 x 224", threads, times(*pair, SHAPE, threads)))
    for channels, side in LAYERS:
        layers = [
            nn.Sequential(conv3x3(channels, channels, 1, binary), *MEAN).eval()
            for binary in (False, True)
        ]
        for threads in (1, 2):
            name = f"3x3, {channels} channels, {side} x {side}"
            print(row(name, threads, times(layers[0], layers[1], (channels, side, side), threads)))
    print(f"\nSize of the ResNet-18 shape: {floats:,} bytes of weights in float32,", end=" ")
    print(f"{size:,} bytes as a packed file: {floats / size:.1f} times smaller.")


if __name__ == "__main__":
    main()
