"""What every layer of a network puts out, sees and costs, measured on one image of zeros.

The network is run once in evaluation mode. Hooks on its layers read off shapes; around them, every function that is
called on a tensor is followed, so that skips are met where they happen.

What a layer sees of the image is followed exactly. Along one side, position p of a layer sees the pixels from low[p]
to high[p], and as strides repeat, low[p + P] = low[p] + step for some period P. Behind ordinary convolutions P is 1,
and the number of pixels seen, the receptive field, obeys the usual recursion (docs/convolution.md)

    r' = r + dilation (kernel - 1) j,   j' = j stride

Pixels beyond the edge are counted, as in the recursion: in an image smaller than the receptive field all are seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from isthmus.errors import InputError
from isthmus.networks.autoencoder import ImageShape
from isthmus.networks.convolution import Crop, Pad, UpsampleConv2d

Span = tuple[int, int]
# Functions that a network may call between its layers: each number they put out comes from numbers at its own place.
POINTWISE = {"cat", "chunk", "split", "add", "sub", "mul", "div", "neg", "clamp", "exp"}
POINTWISE |= {"relu", "silu", "gelu", "sigmoid", "tanh"}
SIGNS = {"add": " + ", "sub": " - ", "mul": " x ", "div": " / "}


@final
@dataclass(frozen=True)
class Reach:
    """The pixels each position sees along one side: (low, high), both included, or None where it sees none.

    spans: of the first P positions; P more positions see `step` pixels further.
    """

    spans: tuple[Span | None, ...] = ((0, 0),)
    step: int = 1

    def at(self, position: int) -> Span | None:
        """The pixels that one position sees; beyond the image they go on as within it."""
        rounds, place = divmod(position, len(self.spans))
        span = self.spans[place]
        return None if span is None else (span[0] + rounds * self.step, span[1] + rounds * self.step)

    @property
    def size(self) -> int:
        """The most pixels any position sees."""
        return max((high - low + 1 for low, high in filter(None, self.spans)), default=0)

    def convolved(self, kernel: int, stride: int, padding: int, dilation: int) -> Reach:
        """Behind a convolution or pooling: position p sees p stride - padding + dilation t, 0 <= t < kernel."""
        period = len(self.spans) // math.gcd(len(self.spans), stride)
        starts = [p * stride - padding for p in range(period)]
        spans = [_hull(self.at(start + dilation * t) for t in range(kernel)) for start in starts]
        return Reach(tuple(spans), self.step * stride * period // len(self.spans))

    def transposed(self, kernel: int, stride: int, padding: int, dilation: int) -> Reach:
        """Behind a transposed convolution: position p sees every i with p = i stride - padding + dilation t."""
        spans = []
        for p in range(len(self.spans) * stride):
            taps = [p + padding - dilation * t for t in range(kernel)]
            spans.append(_hull(self.at(tap // stride) for tap in taps if tap % stride == 0))
        return Reach(tuple(spans), self.step)

    def shifted(self, by: int) -> Reach:
        """Position p sees what position p + by saw."""
        return Reach(tuple(self.at(p + by) for p in range(len(self.spans))), self.step)

    def joined(self, other: Reach) -> Reach:
        """Position p sees what it sees in either. Raises: InputError if the two are at different scales."""
        period = math.lcm(len(self.spans), len(other.spans))
        step, needed = (reach.step * period // len(reach.spans) for reach in (self, other))
        if step != needed:
            raise InputError(
                f"The network joins layers at different scales ({step / period:g} and {needed / period:g} pixels a "
                f"position): what such a layer sees is not defined. Bring them to one scale first."
            )
        return Reach(tuple(_hull((self.at(p), other.at(p))) for p in range(period)), step)


def _hull(spans: Iterable[Span | None]) -> Span | None:
    some = [span for span in spans if span is not None]
    return (min(low for low, _ in some), max(high for _, high in some)) if some else None


Field = tuple[Reach, Reach] | Literal["all"]  # along the height and the width, or the whole image


@final
@dataclass(frozen=True)
class LayerRow:
    """One layer of a network.

    name: dotted path in the network; empty where layers are joined. output: without the batch. receptive_field: pixels
    of the image that one number may depend on, (height, width), or all; None for a parameter that is no layer.
    parameters: that are learnt, counted where they are first used. multiply_adds: for one image; convolutions,
    transposed convolutions and linear layers are counted, everything else, batch norm too, as 0.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    receptive_field: tuple[int, int] | Literal["all"] | None
    parameters: int
    multiply_adds: int


def layer_table(network: nn.Module, image_shape: ImageShape) -> list[LayerRow]:
    """A row for every layer, in the order in which they run, with rows where skips are joined.

    Parameters that belong to no layer, such as a learned sigma, have rows at the end, so that all rows sum to what the
    network has. The network may be on torch's meta device: no weight is looked at.
    Arguments: image_shape: (C, H, W).
    Raises: InputError for images that do not fit, or a network with a layer or function that is not known here.
    """
    shape: ImageShape = getattr(network, "image_shape", image_shape)
    if shape != image_shape:
        raise InputError(f"This network takes images {shape}, got {image_shape}: build it for the size you want.")
    like = next(network.parameters(), torch.zeros(()))
    tracer = _Tracer()
    with _evaluating(network), tracer.watching(network), torch.no_grad():
        images = torch.zeros(1, *image_shape, device=like.device, dtype=like.dtype)
        tracer.see(images, "image", (Reach(), Reach()))
        with tracer:
            network(images)
    left = [(name, parameter) for name, parameter in network.named_parameters() if id(parameter) not in tracer.counted]
    alone = [LayerRow(name, "parameter", tuple(value.shape), None, value.numel(), 0) for name, value in left]
    return [*tracer.rows, *alone]


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """In evaluation mode for a while; each layer gets back the mode it had."""
    modes = [(layer, layer.training) for layer in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


class _Tracer(TorchFunctionMode):
    """Follows a network while it runs, and writes the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[LayerRow] = []
        self.counted: set[int] = set()
        # Of each tensor so far, by id: itself, so that no other takes its id, the layer it comes from, what it sees.
        self.seen: dict[int, tuple[Tensor, str, Field]] = {}
        self.inside = False

    def see(self, tensor: Tensor, name: str, field: Field) -> None:
        self.seen[id(tensor)] = (tensor, name, field)

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """With hooks on every layer that has no layers in it."""
        hooks = []
        for name, layer in network.named_modules():
            if not list(layer.children()):
                hooks.append(layer.register_forward_pre_hook(self._enter))
                hooks.append(layer.register_forward_hook(self._leave(name)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _enter(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.inside = True

    def _leave(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def leave(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            field = _field(layer, name, inputs[0], self.seen[id(inputs[0])][2])
            self.see(output, name, field)
            fresh = [value for value in layer.parameters() if id(value) not in self.counted]
            self.counted |= {id(value) for value in fresh}
            parameters, cost = sum(value.numel() for value in fresh), _multiply_adds(layer, inputs[0], output)
            self.rows.append(LayerRow(name, _kind(layer), tuple(output.shape[1:]), _size(field), parameters, cost))
            self.inside = False

        return leave

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        outputs = list(_tensors(found))
        if self.inside or not outputs:
            return found
        sources = [self.seen[id(tensor)] for tensor in _tensors(args) if id(tensor) in self.seen]
        called = function.__name__.strip("_")
        if called not in POINTWISE:
            raise InputError(
                f"The network calls {called} outside of its layers, and what its outputs see of the image is not known "
                f"here. Make it a layer, or one of: {', '.join(sorted(POINTWISE))}."
            )
        if sources:
            self._join(called, sources, outputs)
        return found

    def _join(self, called: str, sources: Sequence[tuple[Tensor, str, Field]], outputs: Sequence[Tensor]) -> None:
        """What comes out of a function that is no layer sees what all that went in saw."""
        field = sources[0][2]
        for _, _, other in sources[1:]:
            if isinstance(field, str) or isinstance(other, str):
                field = "all"
            else:
                field = (field[0].joined(other[0]), field[1].joined(other[1]))
        names = [name for _, name, _ in sources]
        if len(sources) > 1:
            kind = SIGNS[called].join(names) if called in SIGNS else f"join {', '.join(names)}"
            self.rows.append(LayerRow("", kind, tuple(outputs[0].shape[1:]), _size(field), 0, 0))
        for output in outputs:
            self.see(output, names[0] if len(sources) == 1 else f"({kind})", field)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)


def _size(field: Field) -> tuple[int, int] | Literal["all"]:
    return "all" if field == "all" else (field[0].size, field[1].size)


ELEMENTWISE = (
    *(nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Softplus, nn.Identity),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Flatten),
)


def _field(layer: nn.Module, name: str, images: Tensor, field: Field) -> Field:
    """What the outputs of a layer see, given what its inputs do."""
    if isinstance(layer, ELEMENTWISE):
        return field
    if isinstance(layer, nn.Linear | nn.Unflatten):  # flattening has lost the places that unflattening makes up anew
        return "all"
    along = _along(layer, images)
    if along is None:
        raise InputError(
            f"The layer {name} is {layer}, and what its outputs see of the image is not known here; known are Conv2d "
            f"and ConvTranspose2d with their padding in numbers, MaxPool2d, AvgPool2d, Linear and what acts number by "
            f"number."
        )
    return "all" if field == "all" else (along(field[0], 0), along(field[1], 1))


def _along(layer: nn.Module, images: Tensor) -> Callable[[Reach, int], Reach] | None:
    """(reach, side) -> reach of a layer that moves or mixes neighbours; None for a layer that is not known."""
    if isinstance(layer, UpsampleConv2d):
        return lambda reach, side: reach.transposed(4, 2, 1, 1)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and not isinstance(layer.padding, str):
        kernel, stride, padding, dilation = layer.kernel_size, layer.stride, layer.padding, layer.dilation
        method = Reach.convolved if isinstance(layer, nn.Conv2d) else Reach.transposed
        return lambda reach, side: method(reach, kernel[side], stride[side], int(padding[side]), dilation[side])
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        window, step, edge = (_both(value) for value in (layer.kernel_size, layer.stride, layer.padding))
        apart = _both(layer.dilation if isinstance(layer, nn.MaxPool2d) else 1)
        return lambda reach, side: reach.convolved(window[side], step[side], edge[side], apart[side])
    if isinstance(layer, Pad | Crop):
        inner, outer = (layer.height, layer.width), images.shape[-2:]
        # Rounded as the layers round: half of what is added, or of what is cut, lies before the image.
        sign = -1 if isinstance(layer, Pad) else 1
        return lambda reach, side: reach.shifted(sign * (abs(outer[side] - inner[side]) // 2))
    return None


def _both(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value


def _multiply_adds(layer: nn.Module, images: Tensor, output: Tensor) -> int:
    """Of one image. A transposed convolution spreads every number it takes, also over what its padding cuts off."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return output.numel() * math.prod(layer.weight.shape[1:])
    if isinstance(layer, nn.ConvTranspose2d):
        return images.numel() * math.prod(layer.weight.shape[1:])
    if isinstance(layer, UpsampleConv2d):
        return images.numel() * layer.weight.shape[0] * 16
    return 0


Usual = dict[str, tuple[Any, Any]]  # letter: (value, usual value)


def _kind(layer: nn.Module) -> str:
    """A layer in a few words: kernel, then s stride, p padding, o output padding, d dilation, g groups."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        word = "conv" if isinstance(layer, nn.Conv2d) else "transposed"
        settings: Usual = {"s": (layer.stride, 1), "p": (layer.padding, 0), "o": (layer.output_padding, 0)}
        settings |= {"d": (layer.dilation, 1), "g": (layer.groups, 1)}
        return f"{word} {_window(layer.kernel_size, settings)}, {layer.in_channels} -> {layer.out_channels}"
    if isinstance(layer, UpsampleConv2d):
        return f"upsample, conv 3x3 p1, {layer.weight.shape[1]} -> {layer.weight.shape[0]}"
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d):
        word = "max-pool" if isinstance(layer, nn.MaxPool2d) else "mean-pool"
        settings = {"s": (layer.stride, layer.kernel_size), "p": (layer.padding, 0)}
        return f"{word} {_window(layer.kernel_size, settings)}"
    if isinstance(layer, nn.Linear):
        return f"linear {layer.in_features} -> {layer.out_features}"
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return f"batch norm {layer.num_features}"
    if isinstance(layer, Pad | Crop):
        return f"{type(layer).__name__.lower()} to {layer.height}x{layer.width}"
    return f"dropout {layer.p:g}" if isinstance(layer, nn.Dropout | nn.Dropout2d) else type(layer).__name__


def _window(kernel: int | tuple[int, ...], settings: Usual) -> str:
    """`3x3 s2 p1`; what is usual is left out, and pairs are written only where their two numbers differ."""
    words = ["x".join(map(str, _both(kernel)))]
    for letter, (value, usual) in settings.items():
        first, second = _both(value)
        if (first, second) != _both(usual):
            words.append(f"{letter}{first}" if first == second else f"{letter}{first}x{second}")
    return " ".join(words)
