"""Output sizes and zero insertion against PyTorch, over thousands of settings with their errors; the page on them."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.figures.convolution import zero_insertion
from isthmus.figures.style import ORANGE, PURPLE, files
from isthmus.networks.convolution import insertion, output_size, transposed_by_insertion, transposed_output_size

PAGE = Path(__file__).parent.parent / "docs/convolution.md"
OURS = {"conv": output_size, "transposed": transposed_output_size}
pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
THEIRS = {"conv": nn.Conv2d, "transposed": nn.ConvTranspose2d}
Setting = int | tuple[int, int]


def draw(generator: np.random.Generator, low: int, high: int, *, usual: int) -> Setting:
    """A number or a pair; the usual one in half of the draws, so that not every setting is an error."""
    numbers = [usual if generator.random() < 0.5 else int(generator.integers(low, high)) for _ in range(2)]
    return numbers[0] if generator.random() < 0.4 else (numbers[0], numbers[1])


def settings(generator: np.random.Generator, kind: str) -> dict[str, Setting]:
    chosen = {
        "kernel": draw(generator, 0, 7, usual=3),
        "stride": draw(generator, -1, 4, usual=2),
        "padding": draw(generator, -1, 5, usual=1),
        "dilation": draw(generator, -1, 4, usual=1),
    }
    return chosen | ({"output_padding": draw(generator, -1, 4, usual=0)} if kind == "transposed" else {})


def theirs(kind: str, size: Setting, kernel: Setting, **chosen: Setting) -> tuple[int, ...] | str:
    """The size PyTorch gives, or its error."""
    sides = size if isinstance(size, tuple) else (size, size)
    try:
        layer = THEIRS[kind](1, 1, kernel, bias=False, dtype=torch.float64, **chosen)
        return tuple(layer(torch.zeros(1, 1, *sides, dtype=torch.float64)).shape[2:])
    except (RuntimeError, ValueError) as error:
        return str(error)


@pytest.mark.parametrize("kind", ["conv", "transposed"])
def test_sizes_and_errors_are_those_of_pytorch(kind: str) -> None:
    generator = np.random.default_rng(0)
    sizes = errors = 0
    for _ in range(4000):
        size, chosen = draw(generator, 0, 12, usual=5), settings(generator, kind)
        expected = theirs(kind, size, **chosen)
        if isinstance(expected, str):
            errors += 1
            with pytest.raises(InputError):
                OURS[kind](size, **chosen)
            continue
        sizes += 1
        found = OURS[kind](size, **chosen)
        pairs = any(isinstance(value, tuple) for value in (size, *chosen.values()))
        assert isinstance(found, tuple) == pairs, (size, chosen)
        assert (found if isinstance(found, tuple) else (found, found)) == expected, (size, chosen)
    assert min(sizes, errors) > 700


@pytest.mark.parametrize("seed", range(200))
def test_a_transposed_convolution_undoes_the_size_of_a_convolution(seed: int) -> None:
    generator = np.random.default_rng(seed)
    kernel, stride, dilation = (int(generator.integers(1, 5)) for _ in range(3))
    padding = int(generator.integers(0, 3))
    least = max(1, dilation * (kernel - 1) + 1 - 2 * padding)
    size = least + int(generator.integers(0, 20))
    small = output_size(size, kernel, stride=stride, padding=padding, dilation=dilation)
    lost = (size + 2 * padding - dilation * (kernel - 1) - 1) % stride
    back = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": lost}
    assert transposed_output_size(small, kernel, **back) == size


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("conv", {"stride": 0}, ("stride is 0", "at least 1")),
        ("conv", {"stride": (1, -2)}, ("stride is (1, -2)", "height and width")),
        ("conv", {"padding": -1}, ("padding is -1", "at least 0")),
        ("conv", {"dilation": 0}, ("dilation is 0", "at least 1")),
        ("conv", {"kernel": 0}, ("kernel is 0", "at least 1")),
        ("conv", {"size": 0}, ("size is 0", "at least 1")),
        ("conv", {"size": 7.0}, ("size is 7.0", "a whole number")),
        ("conv", {"stride": True}, ("stride is True", "a whole number")),
        ("conv", {"padding": "same"}, ("padding is 'same'", "a whole number")),
        ("conv", {"kernel": (3, 3, 3)}, ("kernel is (3, 3, 3)", "two of them")),
        ("conv", {"kernel": ()}, ("kernel is ()", "two of them")),
        ("conv", {"kernel": 5, "dilation": 2}, ("kernel 5 with dilation 2 covers 9 pixels", "has only 7", "enlarge")),
        ("transposed", {"output_padding": -1}, ("output_padding is -1", "at least 0")),
        ("transposed", {"output_padding": 1}, ("output_padding is 1", "smaller than stride 1 or than dilation 1")),
        ("transposed", {"stride": 2, "output_padding": 2}, ("take at most 1",)),
        ("transposed", {"size": 2, "kernel": 1, "padding": 1}, ("padding 1 leaves 0 pixels", "smaller padding")),
    ],
)
def test_errors_name_the_setting_its_value_and_what_is_needed(kind, given, words) -> None:
    with pytest.raises(InputError) as caught:
        OURS[kind](**{"size": 7, "kernel": 3, **given})
    for word in words:
        assert word in str(caught.value)


def test_whole_numbers_of_numpy_and_sizes_of_torch_are_taken() -> None:
    assert output_size(np.int64(8), 3) == 6
    assert output_size(torch.zeros(8, 9).shape, [3, 3]) == (6, 7)


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor | None, dict[str, Setting]]:
    """Images, weight, bias and settings that PyTorch takes."""
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    while True:
        size = tuple(int(n) for n in generator.integers(1, 7, 2))
        chosen = settings(generator, "transposed")
        if not isinstance(theirs("transposed", size, **chosen), str):
            break
    kernel = chosen.pop("kernel")
    sides = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    channels = [int(n) for n in generator.integers(1, 4, 2)]
    images = torch.randn(2, channels[0], *size, dtype=torch.float64)
    weight = torch.randn(*channels, *sides, dtype=torch.float64)
    bias = torch.randn(channels[1], dtype=torch.float64) if seed % 2 else None
    return images, weight, bias, chosen


@pytest.mark.parametrize("block", range(5))
def test_inserting_zeros_gives_the_transposed_convolution(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        images, weight, bias, chosen = random_case(seed)
        expected = F.conv_transpose2d(images, weight, bias, **chosen)
        assert torch.allclose(transposed_by_insertion(images, weight, bias, **chosen), expected, atol=1e-12), chosen
        low = [None if tensor is None else tensor.float() for tensor in (images, weight, bias)]
        assert torch.allclose(transposed_by_insertion(*low, **chosen).double(), expected, atol=1e-5), chosen


def test_inserting_zeros_has_the_same_gradients() -> None:
    images, weight, bias, chosen = random_case(1)
    inputs = [tensor.requires_grad_() for tensor in (images, weight, bias)]
    both = (transposed_by_insertion(*inputs, **chosen), F.conv_transpose2d(*inputs, **chosen))
    ours, plain = (torch.autograd.grad((out**3).sum(), inputs) for out in both)
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, rtol=1e-9)


def test_images_and_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"images are \(1, 2, 3, 3\) and weight is \(1, 2, 3, 3\).*the same C"):
        insertion(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3))
    with pytest.raises(InputError, match="stride is 0"):
        transposed_by_insertion(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3), stride=0)


def shown(panel) -> list[str]:
    return [text.get_text() for text in panel.figure.axes[0].texts]


def test_the_picture_holds_the_numbers_of_every_step() -> None:
    image = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    weight = torch.tensor([[[[1.0, 2, 0], [0, 3, -1], [2, 0, 1]]]])
    found = insertion(image, weight, stride=2, padding=1)
    panel = zero_insertion("insertion", "Stride 2", found)
    texts = shown(panel)
    for step in (found.images, found.inserted, found.kernel, found.padded, found.output):
        for value in step.flatten().tolist():
            texts.remove(f"{value:.3g}")  # as often as it occurs
    titles = ["input, 3 x 3", "zeros inserted, 5 x 5", "kernel, turned", "padded, 7 x 7", "output, 5 x 5"]
    assert texts == [*titles, "1 x 3 = 3", "5 x 1 + 6 x 2 + 8 x 0 + 9 x 1 = 26"]
    coloured = [patch for patch in panel.figure.axes[0].patches if patch.get_facecolor()[3] > 0]
    assert len(coloured) == 3 * 9  # the nine pixels of the input, in three grids
    assert set(files(panel)) == {"insertion.png", "insertion.svg"}


@pytest.mark.parametrize(
    ("bias", "chosen"),
    [
        (None, {}),
        (2.0, {"stride": (1, 2), "padding": 1, "output_padding": (0, 1)}),
        (None, {"stride": 2, "dilation": (2, 1)}),
        (-1.0, {"stride": 3, "padding": 2}),
    ],
)
def test_the_sums_below_the_picture_are_right(bias: float | None, chosen: dict[str, Setting]) -> None:
    image, weight = (torch.randint(-4, 5, (1, 1, *sides)).float() for sides in ((2, 3), (3, 2)))
    found = insertion(image, weight, None if bias is None else torch.tensor([bias]), **chosen)
    output = found.output[0, 0]
    places = {ORANGE: (0, 0), PURPLE: (max(output.shape[0] - 2, 0), max(output.shape[1] - 2, 0))}
    drawn = zero_insertion("a", "A", found).figure.axes[0].texts
    for ink, place in places.items():
        line = " ".join(text.get_text() for text in drawn if text.get_color() == ink)
        products, _, total = line.partition(" = ")
        assert eval(products.replace("x", "*")) == float(total) == output[place]


def test_the_picture_of_more_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one image of one channel; got images \(1, 2, 3, 3\)"):
        zero_insertion("a", "A", insertion(torch.zeros(1, 2, 3, 3), torch.zeros(2, 1, 3, 3)))


def test_the_examples_of_the_page_run() -> None:
    found = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert found.attempted > 10
    assert found.failed == 0
