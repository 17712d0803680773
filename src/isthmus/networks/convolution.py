"""The arithmetic of convolutions, the layers that the convolutional networks share, and the halving of image sizes.

Output sizes, and the transposed convolution written as an ordinary one, are derived in docs/convolution.md.
Two of the layers are rewritten without changing what they compute:

1. Nearest upsampling by 2 followed by a 3x3 convolution is one 4x4 transposed convolution of stride 2. An output
   pixel p sees x[i] through every tap k with 2i + a = p + k - 1, a in {0, 1}; collected by q = p - 2i + 1 this
   is K[q] = w[2 - q] + w[3 - q]: the reversed 3x3 kernel convolved with 2x2 ones. The four times larger image
   in between is never made.
2. Max-pooling commutes with ReLU, which is monotone: pooling first leaves a quarter of the work to ReLU.

and one operator has a second way on the CPU, `doubled`, where PyTorch's is slow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import InputError

SMALLEST, LARGEST = 16, 256
# K = S w S': row q of S picks w[2 - q] and w[3 - q].
SPREAD = [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


Sides = int | tuple[int, int]  # one number for both sides of an image, or (height, width)
LEAST = {"size": 1, "kernel": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}


@overload
def output_size(size: int, kernel: int, *, stride: int = ..., padding: int = ..., dilation: int = ...) -> int: ...
@overload
def output_size(
    size: tuple[int, int], kernel: Sides, *, stride: Sides = ..., padding: Sides = ..., dilation: Sides = ...
) -> tuple[int, int]: ...
@overload
def output_size(
    size: Sides, kernel: Sides, *, stride: Sides = ..., padding: Sides = ..., dilation: Sides = ...
) -> Sides: ...
def output_size(size: Sides, kernel: Sides, *, stride: Sides = 1, padding: Sides = 0, dilation: Sides = 1) -> Sides:
    """The size of what a convolution puts out.   floor((size + 2 padding - dilation (kernel - 1) - 1) / stride) + 1

    Arguments: each a number for both sides, or a pair (height, width). Returns: a number if all of them are numbers,
    else a pair. Raises: InputError for whatever torch.nn.Conv2d refuses.

    >>> output_size(64, 3, stride=2, padding=1)
    32
    >>> output_size((48, 64), (3, 5), dilation=2)
    (44, 56)
    """
    sides = _by_side(size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    found = [_output_size(**side) for side in sides]
    return found[0] if len(found) == 1 else (found[0], found[1])


@overload
def transposed_output_size(
    size: int, kernel: int, *, stride: int = ..., padding: int = ..., output_padding: int = ..., dilation: int = ...
) -> int: ...
@overload
def transposed_output_size(
    size: tuple[int, int],
    kernel: Sides,
    *,
    stride: Sides = ...,
    padding: Sides = ...,
    output_padding: Sides = ...,
    dilation: Sides = ...,
) -> tuple[int, int]: ...
@overload
def transposed_output_size(
    size: Sides,
    kernel: Sides,
    *,
    stride: Sides = ...,
    padding: Sides = ...,
    output_padding: Sides = ...,
    dilation: Sides = ...,
) -> Sides: ...
def transposed_output_size(
    size: Sides,
    kernel: Sides,
    *,
    stride: Sides = 1,
    padding: Sides = 0,
    output_padding: Sides = 0,
    dilation: Sides = 1,
) -> Sides:
    """The size of what a transposed convolution puts out.

        (size - 1) stride - 2 padding + dilation (kernel - 1) + output_padding + 1

    Arguments and result are those of `output_size`. Raises: InputError for whatever torch.nn.ConvTranspose2d refuses.

    >>> transposed_output_size(32, 3, stride=2, padding=1, output_padding=1)
    64
    """
    settings = {"size": size, "kernel": kernel, "stride": stride, "padding": padding}
    sides = _by_side(**settings, output_padding=output_padding, dilation=dilation)
    found = [_transposed_output_size(**side) for side in sides]
    return found[0] if len(found) == 1 else (found[0], found[1])


def _output_size(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    covered, padded = dilation * (kernel - 1) + 1, size + 2 * padding
    if covered > padded:
        raise InputError(
            f"kernel {kernel} with dilation {dilation} covers {covered} pixels, but size {size} with padding {padding} "
            f"has only {padded}: enlarge the images or the padding, or take a smaller kernel or dilation."
        )
    return (padded - covered) // stride + 1


def _transposed_output_size(
    size: int, kernel: int, stride: int, padding: int, output_padding: int, dilation: int
) -> int:
    if output_padding >= max(stride, dilation):
        raise InputError(
            f"output_padding is {output_padding}; it must be smaller than stride {stride} or than dilation {dilation}, "
            f"as it chooses among the sizes that a convolution maps to one: take at most {max(stride, dilation) - 1}."
        )
    found = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1
    if found < 1:
        raise InputError(
            f"padding {padding} leaves {found} pixels of size {size} under kernel {kernel}, stride {stride} and "
            f"dilation {dilation}; at least 1 is needed: take a smaller padding."
        )
    return found


def _by_side(**settings: Sides) -> list[dict[str, int]]:
    """Settings of the height and of the width; of one side only where both are given by the same numbers."""
    pairs = {name: _pair(name, value) for name, value in settings.items()}
    alone = not any(isinstance(value, tuple | list) for value in settings.values())
    return [{name: pair[i] for name, pair in pairs.items()} for i in range(1 if alone else 2)]


def _pair(name: str, value: Sides) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, tuple | list) else (value, value)
    whole = all(isinstance(v, Integral) and not isinstance(v, bool) for v in values)
    if len(values) != 2 or not whole or min(values) < LEAST[name]:
        raise InputError(
            f"{name} is {value!r}; it must be a whole number of at least {LEAST[name]}, or two of them for height and "
            f"width."
        )
    return int(values[0]), int(values[1])


@dataclass(frozen=True)
class Insertion:
    """A transposed convolution step by step.

    images: (B, C, H, W). inserted: with stride - 1 zeros between neighbours. padded: and a border around.
    kernel, bias: (C', C, h, w) and (C',) of the ordinary convolution of stride 1 that follows. output: (B, C', H', W').
    border: rows above and columns to the left of the first pixel in `padded`, negative where they are cut off.
    """

    images: Tensor
    inserted: Tensor
    padded: Tensor
    kernel: Tensor
    bias: Tensor | None
    output: Tensor
    stride: tuple[int, int]
    dilation: tuple[int, int]
    border: tuple[int, int]


def insertion(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sides = 1,
    padding: Sides = 0,
    output_padding: Sides = 0,
    dilation: Sides = 1,
) -> Insertion:
    """A transposed convolution as zero insertion and an ordinary convolution, with every step kept.

    1. Insert stride - 1 zeros between neighbouring pixels.
    2. Pad by dilation (kernel - 1) - padding on each side, and by output_padding more below and on the right;
       where that is negative, cut.
    3. Convolve with the kernel turned by 180 degrees, its channels in and out exchanged.

    Arguments: images: (B, C, H, W). weight: (C, C', h, w), as torch.nn.ConvTranspose2d has it. bias: (C',).
    Raises: InputError if images and weight do not fit, or for settings that `transposed_output_size` refuses.
    """
    if images.ndim != 4 or weight.ndim != 4 or images.shape[1] != weight.shape[0]:
        raise InputError(
            f"images are {tuple(images.shape)} and weight is {tuple(weight.shape)}; needed are (B, C, H, W) and "
            f"(C, C', h, w) with the same C."
        )
    size, kernel = (cast(tuple[int, int], tuple(tensor.shape[2:])) for tensor in (images, weight))
    settings = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
    transposed_output_size(size, kernel, **settings)  # refuses what cannot be done
    rows, columns = _by_side(size=size, kernel=kernel, **settings)
    steps, apart = (rows["stride"], columns["stride"]), (rows["dilation"], columns["dilation"])
    inserted = images.new_zeros(*images.shape[:2], *((n - 1) * step + 1 for n, step in zip(size, steps, strict=True)))
    inserted[..., :: steps[0], :: steps[1]] = images
    (top, bottom), (left, right) = _border(**rows), _border(**columns)
    edges = (left, right, top, bottom)
    padded = F.pad(F.pad(inserted, [max(edge, 0) for edge in edges]), [min(edge, 0) for edge in edges])
    turned = weight.flip(2, 3).transpose(0, 1)
    output = F.conv2d(padded, turned, bias, dilation=apart)
    return Insertion(images, inserted, padded, turned, bias, output, steps, apart, (top, left))


def _border(kernel: int, padding: int, output_padding: int, dilation: int, **rest: int) -> tuple[int, int]:
    before = dilation * (kernel - 1) - padding
    return before, before + output_padding


def transposed_by_insertion(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: Sides = 1,
    padding: Sides = 0,
    output_padding: Sides = 0,
    dilation: Sides = 1,
) -> Tensor:
    """What torch.nn.functional.conv_transpose2d computes, by `insertion`: (B, C, H, W) -> (B, C', H', W')."""
    settings = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
    return insertion(images, weight, bias, **settings).output


class UpsampleConv2d(nn.Module):
    """Nearest upsampling by 2, then a 3x3 convolution of padding 1, as one transposed convolution.

    The parameters are those of `nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)`, initialised alike.
    Arguments of forward: (B, in_channels, H, W). Returns: (B, out_channels, 2 H, 2 W).
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool = True):
        super().__init__()
        plain = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=bias)
        self.weight, self.bias = plain.weight, plain.bias
        spread = torch.tensor(SPREAD)
        self.register_buffer("spread", torch.kron(spread, spread).T.contiguous(), persistent=False)
        self.spread: Tensor  # (9, 16): S w S' is linear in w, one matrix product for all kernels

    def kernel(self) -> Tensor:
        """Of the transposed convolution: (in_channels, out_channels, 4, 4)."""
        spread = self.weight.reshape(-1, 9) @ self.spread  # of three axes it would be a product for each channel
        return spread.view(*self.weight.shape[:2], 4, 4).transpose(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        return doubled(images, self.kernel(), self.bias)


def doubled(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The transposed convolution 4x4 of stride 2 and padding 1: (B, C, H, W) -> (B, C', 2 H, 2 W).

    On a CPU PyTorch's operator is 1.1 to 1.8 times as fast with the channels last in memory, and for a single channel
    C' takes six times as long as it needs. There one matrix product gives the 16 numbers that each pixel adds to its
    surroundings, and tap k = 2 K + r of row i goes to row 2 (i + K) + r of an image with one more pixel on each side;
    columns alike.
    Arguments: weight: (C, C', 4, 4). bias: (C',).
    """
    on_cpu = images.device.type == "cpu"
    if weight.shape[1] != 1 or not on_cpu:
        given = images.contiguous(memory_format=torch.channels_last) if on_cpu else images
        return F.conv_transpose2d(given, weight, bias, stride=2, padding=1)
    count, channels, height, width = images.shape
    by_half = weight.reshape(channels, 2, 2, 2, 2).permute(1, 3, 2, 4, 0).reshape(16, channels)  # (K, L, r, s)
    taps = by_half @ images.permute(0, 2, 3, 1).reshape(-1, channels).T
    upper, lower = taps.view(2, 8, count, height, width).unbind(0)
    rows = F.pad(upper, (0, 0, 0, 1)) + F.pad(lower, (0, 0, 1, 0))
    left, right = rows.view(2, 2, 2, count, height + 1, width).unbind(0)
    both = F.pad(left, (0, 1)) + F.pad(right, (1, 0))  # (r, s, B, H + 1, W + 1)
    drawn = both.permute(2, 3, 0, 4, 1).reshape(count, 1, 2 * height + 2, 2 * width + 2)
    cut = F.pad(drawn, (-1, -1, -1, -1))
    return cut if bias is None else cut + bias


class Pad(nn.Module):
    """Grow images to (height, width) by repeating their edges, evenly on both sides."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = self.height - images.shape[-2], self.width - images.shape[-1]
        edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        return F.pad(images, edges, mode="replicate")


class Crop(nn.Module):
    """Cut the middle (height, width) out of images: undoes `Pad`."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, images: Tensor) -> Tensor:
        top, left = (images.shape[-2] - self.height) // 2, (images.shape[-1] - self.width) // 2
        return images[..., top : top + self.height, left : left + self.width]


def down_block(in_channels: int, out_channels: int) -> list[nn.Module]:
    """[conv 3x3, batch norm, ReLU, max-pool 2], with the last two exchanged: (B, C, H, W) -> (B, C', H/2, W/2).

    The convolution has no bias: batch norm would subtract it again.
    """
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.MaxPool2d(2), nn.ReLU()]


def up_block(in_channels: int, out_channels: int, *, upsample: str, last: bool) -> list[nn.Module]:
    """Double the size, then batch norm and ReLU unless it is the `last` block.

    `upsample` is "nearest" (upsampling and convolution) or "transposed" (4x4 transposed convolution, stride 2).
    """
    if upsample == "nearest":
        grow: nn.Module = UpsampleConv2d(in_channels, out_channels, bias=last)
    else:
        grow = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=last)
    return [grow] if last else [grow, nn.BatchNorm2d(out_channels), nn.ReLU()]


def check_size(height: int, width: int) -> None:
    """Raises: InputError unless both sides are from 16 to 256 pixels."""
    if min(height, width) < SMALLEST:
        raise InputError(
            f"Images of {height} x {width} cannot be halved enough: both sides must be at least {SMALLEST} pixels. "
            f"Enlarge them, for example with --set data.height=32 --set data.width=32."
        )
    if max(height, width) > LARGEST:
        raise InputError(
            f"Images of {height} x {width} are too large: both sides may have at most {LARGEST} pixels. "
            f"Shrink them, for example with --set data.height=128 --set data.width=128."
        )


def most_halvings(height: int, width: int) -> int:
    """How often an image is halved until its shorter side is 2 or 3 pixels.

    >>> [most_halvings(n, n) for n in (16, 28, 32, 48, 256)]
    [3, 4, 4, 4, 7]
    """
    check_size(height, width)
    count = 0
    while math.ceil(min(height, width) / 2**count) > 3:
        count += 1
    return count
