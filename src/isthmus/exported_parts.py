"""A network as the parts that are exported: each a function of one tensor, with names for what goes in and comes out.

    encoder     images (B, C, H, W) -> codes (B, D); of a VAE mean and log_variance, (B, D) each
    decoder     codes (B, D) -> images (B, C, H, W)
    classifier  images (B, C, H, W) -> probabilities (B, K)
    denoiser    images (B, C, H, W) -> restored (B, C, H, W)

A network of rows of numbers has rows (B, D), float64, in the place of images, in their own units: their scaling is a
part of the file. They go in and come out as float64 even where the network computes in float32: see `inner_type`.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isthmus import __version__
from isthmus.data.arrays import CHANNELS
from isthmus.networks.apply import fold
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE, Gaussian

OPSET = 18  # the one torch writes without converting
KEY = "isthmus"  # of the metadata


@dataclass(frozen=True, eq=False)
class Part:
    """One part of a network.

    call: (network, input) -> outputs. input, outputs: their names, of an output also what it is.
    """

    name: str
    call: Callable[[Any, Tensor], tuple[Tensor, ...]]
    input: str
    outputs: Mapping[str, str]


def parts_of(network: nn.Module, *, rows: bool) -> tuple[Part, ...]:
    """The parts of a network, the encoder first. Arguments: rows: whether it takes rows of numbers, not images."""
    parts = PARTS[type(network)]
    return tuple(_of_rows(part) for part in parts) if rows else parts


def folded(network: nn.Module) -> nn.Module:
    """A copy that computes the same with fewer layers: batch norms are folded into the layers before them."""
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    for name, layers in copied.named_children():
        if isinstance(layers, nn.Sequential):
            setattr(copied, name, fold(layers))
    return copied.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]  # as `train`


def inner_type(network: nn.Module) -> torch.dtype:
    """What an exported network of rows computes in: with convolutions float32, since ONNX Runtime has no others."""
    convolutional = any(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in network.modules())
    return torch.float32 if convolutional else torch.float64


def facts_of(part: Part, config: Mapping[str, Any], checked: Mapping[str, Any]) -> dict[str, Any]:
    """What a program needs to use a file, and where it comes from.

    Arguments: config: the model's config.json. checked: how the file is compared with the network.
    """
    channels, height, width = config["image_shape"]
    images = {
        "layout": "NCHW",
        "channels": channels,
        "height": height,
        "width": width,
        "range": [0, 1],
        "colours": "RGB" if channels == 3 else "grey, 0.299 R + 0.587 G + 0.114 B",
        "resizing": "bilinear, antialiased, pixel centres at halves",
    }
    return {
        "isthmus": __version__,
        "part": part.name,
        "input": part.input,
        "outputs": dict(part.outputs),
        "images": images if config["scaling"] is None else None,
        "code_size": config["model"].get("latent_dim"),
        "classes": list(config["classes"]),
        "noise": config["noise"],
        "model": config["model"],
        "data": config["data"],
        "checked": dict(checked),
    }


def to_onnx(part: Part, network: nn.Module, example: Tensor, facts: Mapping[str, Any]) -> bytes:
    """One part of a network as the content of an ONNX file, for batches of any size. Arguments: facts: its metadata."""
    with _silence():
        program = torch.onnx.export(
            Alone(network, part).eval(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=[part.input],
            output_names=list(part.outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
        )
    assert program is not None
    model = program.model_proto
    # Where each operation stands in the source, with the paths of this machine.
    for holder in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del holder.metadata_props[:]
        holder.doc_string = ""
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(dict(facts))
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def in_units(network: nn.Module, name: str, values: NDArray[Any]) -> NDArray[Any]:
    """An output in what its differences are measured in: rows of numbers as shares of the range of their column."""
    if isinstance(network, OfRows) and name in ("rows", "restored"):
        shares: NDArray[Any] = network.scaled(torch.from_numpy(values)).numpy()
        return shares
    return values


@final
class Alone(nn.Module):
    """One part of a network as a module of its own."""

    def __init__(self, network: nn.Module, part: Part):
        super().__init__()
        self.network, self.part = network, part

    def forward(self, values: Tensor) -> tuple[Tensor, ...]:
        return self.part.call(self.network, values)


@final
class OfRows(nn.Module):
    """A network of rows of D numbers, (B, D) float64, in their own units.

    Arguments: config: the model's config.json, whose `scaling` says what becomes 0 and 1, and whose estimator in which
    order the numbers of an image lie in a row. inner: the type that the network, which is changed to it, computes in.
    """

    def __init__(self, network: nn.Module, config: Mapping[str, Any], *, inner: torch.dtype = torch.float64):
        super().__init__()
        self.network, self.shape, self.inner = network.to(inner), tuple(config["image_shape"]), inner
        order = (config["estimator"] or {"parameters": {}})["parameters"].get("image_shape")
        self.channels_last = order is not None and len(order) == 3 and order[0] not in CHANNELS
        minimum, maximum = (
            torch.tensor(config["scaling"][name], dtype=torch.float64) for name in ("minimum", "maximum")
        )
        self.register_buffer("minimum", minimum)
        self.register_buffer("span", maximum - minimum)
        self.register_buffer("divisor", torch.where(maximum > minimum, maximum - minimum, 1.0))
        self.minimum: Tensor
        self.span: Tensor
        self.divisor: Tensor

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Rows between the least and the greatest values that were trained on: (count, D)."""
        return self.minimum + self.span * torch.rand(count, len(self.minimum), generator=generator, dtype=torch.float64)

    def encode(self, rows: Tensor) -> Any:
        """(B, D) -> what the network makes of them."""
        found = self._network.encode(self._images(rows))
        if isinstance(found, Gaussian):
            return Gaussian(found.mean.double(), found.log_variance.double())
        return found.double()

    def decode(self, codes: Tensor) -> Tensor:
        """Codes -> (B, D)."""
        return self._rows(self._network.decode(codes.to(self.inner)))

    def probabilities(self, rows: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        probabilities: Tensor = self._network.probabilities(self._images(rows))
        return probabilities.double()

    def scaled(self, rows: Tensor) -> Tensor:
        """Rows with 0 and 1 for the least and the greatest values that were trained on: (B, D) -> (B, D)."""
        return (rows - self.minimum) / self.divisor

    def forward(self, rows: Tensor) -> Tensor:
        return self._rows(self._network(self._images(rows)))

    @property
    def _network(self) -> Any:
        return self.network

    def _images(self, rows: Tensor) -> Tensor:
        scaled, (channels, height, width) = self.scaled(rows).to(self.inner), self.shape
        if self.channels_last:
            return scaled.reshape(-1, height, width, channels).permute(0, 3, 1, 2)
        return scaled.reshape(-1, *self.shape)

    def _rows(self, images: Tensor) -> Tensor:
        flat = (images.permute(0, 2, 3, 1) if self.channels_last else images).flatten(1).double()
        return flat * self.span + self.minimum


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress and advice off the terminal; what it raises goes up as it is."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)


def _encode(network: Any, images: Tensor) -> tuple[Tensor, ...]:
    found = network.encode(images)
    return (found.mean, found.log_variance) if isinstance(found, Gaussian) else (found,)


def _decode(network: Any, codes: Tensor) -> tuple[Tensor, ...]:
    return (network.decode(codes),)


def _classify(network: Any, images: Tensor) -> tuple[Tensor, ...]:
    return (network.probabilities(images),)


def _restore(network: Any, images: Tensor) -> tuple[Tensor, ...]:
    return (network(images),)


def _of_rows(part: Part) -> Part:
    """A part with rows in the place of images."""
    outputs = {"rows" if name == "images" else name: what for name, what in part.outputs.items()}
    return replace(part, input="rows" if part.input == "images" else part.input, outputs=outputs)


_DECODER = Part("decoder", _decode, "codes", {"images": "drawn from the codes, not clipped"})
_POSTERIOR = {"mean": "of q(z|x), the code", "log_variance": "of q(z|x), one for each number of the code"}
PARTS: dict[type[nn.Module], tuple[Part, ...]] = {
    Autoencoder: (Part("encoder", _encode, "images", {"codes": "one each"}), _DECODER),
    VAE: (Part("encoder", _encode, "images", _POSTERIOR), _DECODER),
    Classifier: (Part("classifier", _classify, "images", {"probabilities": "of the classes, in their order"}),),
    Denoiser: (Part("denoiser", _restore, "images", {"restored": "without their noise, not clipped"}),),
}
