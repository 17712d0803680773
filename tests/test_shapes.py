"""The table of layers: its shapes, receptive fields, parameters and costs against what the networks really do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from command_line import toy
from isthmus.cli import shapes as command
from isthmus.errors import InputError
from isthmus.networks.autoencoder import lab
from isthmus.networks.catalog import NETWORKS, build
from isthmus.networks.classifier import classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.shapes import LayerRow, Reach, layer_table
from isthmus.networks.variational import vae
from isthmus.settings import validate_model
from isthmus.studies.single import train_one

SHAPES = [(1, 16, 16), (1, 60, 52), (3, 33, 64)]


def network(name: str, shape: tuple[int, int, int], **options: object) -> nn.Module:
    return build(validate_model({"name": name, **options}), shape, classes=5)


def leaves(model: nn.Module) -> dict[str, nn.Module]:
    return {name: layer for name, layer in model.named_modules() if not list(layer.children())}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_has_a_row_with_the_shape_it_puts_out(name: str, shape: tuple[int, int, int]) -> None:
    model = network(name, shape)
    met: list[tuple[str, tuple[int, ...]]] = []
    for path, layer in leaves(model).items():
        layer.register_forward_hook(lambda _, __, out, path=path: met.append((path, tuple(out.shape[1:]))))
    model.eval()(torch.rand(2, *shape))
    truth = met.copy()
    rows = layer_table(model, shape)
    assert [(row.name, row.output) for row in rows if row.name] == truth
    assert {path for path, _ in met} == set(leaves(model))
    assert sum(row.parameters for row in rows) == sum(value.numel() for value in model.parameters())


OPTIONS = {
    "lab": {"upsample": "transposed"},
    "strong": {"hidden": [20, 10]},
    "linear": {"latent_dim": 7},
    "vae": {"width": 4},
    "denoiser": {"width": 4},
    "classifier": {"width": 8},
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_multiply_adds_are_half_the_operations_torch_counts(name: str, shape: tuple[int, int, int]) -> None:
    model = network(name, shape, **OPTIONS[name]).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, *shape))
    assert sum(row.multiply_adds for row in layer_table(model, shape)) * 2 == counter.get_total_flops()


def test_an_upsampling_convolution_costs_its_transposed_one() -> None:
    shape = (1, 48, 32)
    counts = []
    for upsample in ("nearest", "transposed"):
        rows = layer_table(lab(shape, upsample=upsample), shape)
        counts.append([row.multiply_adds for row in rows])
    assert counts[0] == counts[1]
    model = lab(shape).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.rand(1, *shape))
    parts = counter.get_flop_counts()["Global"]
    products = sum(count for operation, count in parts.items() if operation in (torch.ops.aten.mm, torch.ops.aten.bmm))
    last = next(count for count in reversed(counts[0]) if count)  # to one channel: a matrix product too
    kernels = products - 2 * last
    assert kernels > 0  # building the 4x4 kernels, once a batch
    assert counter.get_total_flops() - kernels == 2 * sum(counts[0])


def most_seen(function: Callable[[Tensor], Tensor], shape: tuple[int, int, int]) -> tuple[int, int]:
    """The most rows, and the most columns, of the image that any number of what comes out depends on.

    Rows seen depend on the row alone, columns on the column, so that places down a diagonal show them all.
    """
    images = torch.rand(1, *shape, dtype=torch.float64, requires_grad=True)
    output = function(images)
    height, width = output.shape[2:]
    most = [0, 0]
    for i in range(max(height, width)):
        number = output[:, :, min(i, height - 1), min(i, width - 1)].sum()
        (gradient,) = torch.autograd.grad(number, images, retain_graph=True)
        for side, places in enumerate(gradient.abs().sum((0, 1)).nonzero().T):
            most[side] = max(most[side], int(places.max() - places.min()) + 1)
    return most[0], most[1]


def smooth(model: nn.Module) -> nn.Module:
    """Pooling and ReLU pass gradients of some pixels only; means and SiLU those of all that are seen."""
    for name, layer in list(model.named_modules()):
        parent, _, last = name.rpartition(".")
        if isinstance(layer, nn.MaxPool2d):
            setattr(model.get_submodule(parent), last, nn.AvgPool2d(layer.kernel_size))
        elif isinstance(layer, nn.ReLU):
            setattr(model.get_submodule(parent), last, nn.SiLU())
    return model.double().eval()


@pytest.mark.parametrize(
    ("model", "until"),
    [(lab((1, 96, 80)), 13), (classifier((1, 60, 52), classes=3), 12), (vae((1, 96, 72)), 6)],
    ids=["lab", "classifier", "vae"],
)
def test_receptive_fields_are_the_pixels_that_gradients_reach(model: nn.Module, until: int) -> None:
    rows = layer_table(smooth(model), model.image_shape)
    part = model.layers if hasattr(model, "layers") else model.encoder
    for k in range(1, until + 1):
        if isinstance(part[k - 1], nn.Conv2d | nn.AvgPool2d):
            expected = rows[k - 1].receptive_field
            assert most_seen(part[:k], model.image_shape) == expected, rows[k - 1]


def test_every_number_of_a_code_and_of_what_follows_sees_the_whole_image() -> None:
    model = smooth(lab((1, 20, 24)))
    rows = layer_table(model, (1, 20, 24))
    code = next(i for i, row in enumerate(rows) if row.kind.startswith("linear"))
    assert {row.receptive_field for row in rows[code:]} == {"all"}
    assert most_seen(model, (1, 20, 24)) == (20, 24)


@pytest.mark.parametrize("side", [88, 90])
def test_skips_are_followed(side: int) -> None:
    shape = (1, side, side)
    model = smooth(Denoiser(shape, width=2))
    rows = layer_table(model, shape)
    field = rows[-1].receptive_field
    assert most_seen(model, shape) == field
    joins = [row for row in rows if not row.name]
    assert [row.kind for row in joins] == ["join grow.0, down.1", "join grow.1, down.0", "image - crop"]
    assert [row.output[0] for row in joins] == [8, 4, 1]
    assert rows[-1].receptive_field == rows[-2].receptive_field


@pytest.mark.parametrize("seed", range(60))
def test_stacks_of_any_layers_see_what_gradients_reach(seed: int) -> None:
    """Along one side, place by place, holes between taps and edges included."""
    torch.manual_seed(seed)

    def pick(low: int, high: int) -> int:
        return int(torch.randint(low, high, ()))

    layers: list[nn.Module] = []
    reach, size = Reach(), 40
    for _ in range(3):
        kernel, stride, dilation = pick(1, 5), pick(1, 4), pick(1, 3)
        padding = pick(0, kernel)
        kind = nn.Conv2d if pick(0, 2) else nn.ConvTranspose2d
        options = {"stride": (1, stride), "padding": (0, padding), "dilation": (1, dilation), "bias": False}
        layer = kind(1, 1, (1, kernel), **options)
        nn.init.ones_(layer.weight)
        moved = Reach.convolved if kind is nn.Conv2d else Reach.transposed
        try:
            size = layer(torch.zeros(1, 1, 1, size)).shape[-1]
        except RuntimeError:
            continue  # nothing would be left
        layers.append(layer)
        reach = moved(reach, kernel, stride, padding, dilation)
    image = torch.ones(1, 1, 1, 40, requires_grad=True)
    output = nn.Sequential(*layers)(image).flatten()
    for p, value in enumerate(output):
        (gradient,) = torch.autograd.grad(value, image, retain_graph=True)
        met = gradient.flatten().nonzero().flatten().tolist()
        span = reach.at(p)
        if met:
            assert span is not None
            assert span[0] <= met[0]
            assert met[-1] <= span[1]
        if span is not None and span[0] >= 6 and span[1] < 34 and 6 <= p < len(output) - 6:
            assert met, (p, span)
            assert (met[0], met[-1]) == span
    assert reach.size == max((high - low + 1 for low, high in filter(None, reach.spans)), default=0)


def test_plain_convolutions_obey_the_recursion() -> None:
    reach, r, j = Reach(), 1, 1
    for kernel, stride, dilation in ((3, 1, 1), (4, 2, 1), (3, 1, 2), (5, 3, 1), (2, 2, 3)):
        reach = reach.convolved(kernel, stride, 1, dilation)
        r, j = r + (kernel - 1) * dilation * j, j * stride
        assert (reach.size, reach.step / len(reach.spans)) == (r, j)


def test_scales_that_do_not_fit_are_not_joined() -> None:
    with pytest.raises(InputError, match="joins layers at different scales \\(1 and 2 pixels"):
        Reach().joined(Reach().convolved(1, 2, 0, 1))


def test_parameters_without_a_layer_have_a_row() -> None:
    model = vae((1, 16, 16), sigma="learned")
    assert layer_table(model, (1, 16, 16))[-1] == LayerRow("log_sigma", "parameter", (), None, 1, 0)
    assert layer_table(vae((1, 16, 16)), (1, 16, 16))[-1].name.startswith("decoder")


class Own(nn.Module):
    """A network that calls `function` between its layers."""

    def __init__(self, function: Callable[[Tensor], Tensor], *layers: nn.Module):
        super().__init__()
        self.layers, self.function = nn.Sequential(*layers), function

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.function(images))


def test_a_layer_used_twice_counts_its_parameters_once() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    rows = layer_table(Own(torch.relu, layer, layer), (1, 16, 20))
    assert [row.parameters for row in rows] == [9, 0]
    assert [row.multiply_adds for row in rows] == [9 * 16 * 20] * 2
    assert [row.receptive_field for row in rows] == [(3, 3), (5, 5)]


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.Conv2d(2, 4, 3, padding=1), "conv 3x3 p1, 2 -> 4"),
        (nn.Conv2d(2, 4, (1, 5), stride=(1, 2), dilation=2, groups=2), "conv 1x5 s1x2 d2 g2, 2 -> 4"),
        (nn.ConvTranspose2d(2, 4, 4, stride=3, output_padding=1), "transposed 4x4 s3 o1, 2 -> 4"),
        (nn.MaxPool2d(2), "max-pool 2x2"),
        (nn.AvgPool2d(3, stride=1), "mean-pool 3x3 s1"),
        (nn.Dropout(0.5), "dropout 0.5"),
        (nn.BatchNorm2d(2), "batch norm 2"),
    ],
)
def test_a_kind_names_the_settings_that_are_not_usual(layer: nn.Module, kind: str) -> None:
    assert layer_table(nn.Sequential(layer), (2, 16, 16))[0].kind == kind


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(2)),
            r"layer 0 is AdaptiveAvgPool2d\(output_size=2\), .*known here; known are Conv2d",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 1, 3, padding="same")),
            "layer 0 is Conv2d.*padding=same.*with their padding in numbers",
        ),
        (Own(lambda x: F.avg_pool2d(x, 2), nn.ReLU()), "calls avg_pool2d outside of its layers.*Make it a layer"),
        (Own(lambda x: x.flip(2), nn.ReLU()), "calls flip outside of its layers"),
    ],
)
def test_what_is_not_known_is_refused(model: nn.Module, words: str) -> None:
    with pytest.raises(InputError, match=words):
        layer_table(model, (1, 16, 16))


def test_the_network_is_left_as_it_was() -> None:
    model = lab((1, 16, 16)).train()
    model.decoder.eval()
    before = {name: layer.training for name, layer in model.named_modules()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    layer_table(model, (1, 16, 16))
    assert {name: layer.training for name, layer in model.named_modules()} == before
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.modules())
    with pytest.raises(InputError, match=r"takes images \(1, 16, 16\), got \(1, 20, 16\): build it"):
        layer_table(model, (1, 20, 16))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_without_weights_gives_the_same_table(name: str) -> None:
    with torch.device("meta"):
        hollow = network(name, (1, 40, 32))
    assert layer_table(hollow, (1, 40, 32)) == layer_table(network(name, (1, 40, 32)), (1, 40, 32))


# The command


def run(*arguments: object) -> tuple[int, str, BaseException | None]:
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command.shapes)
    answer = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return answer.exit_code, answer.output, answer.exception


def facts(*arguments: object) -> dict[str, object]:
    code, out, error = run(*arguments, "--json")
    assert code == 0, error
    return json.loads(out)


def refused(*arguments: object) -> str:
    code, out, error = run(*arguments)
    assert code != 0
    assert isinstance(error, InputError), (out, error)
    assert error.exit_code == 2
    return str(error)


def test_the_table_ends_with_totals() -> None:
    code, out, _ = run("linear", "--size", "48x64", "--set", "model.latent_dim=10")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "linear, images 1x48x64"
    assert lines[2].split() == ["layer", "kind", "output", "sees", "parameters", "multiply-adds"]
    assert lines[4].split() == ["encoder.1", "linear", "3072", "->", "10", "10", "all", "30,730", "30,720"]
    assert lines[-1].split() == ["total", "64,522", "61,440"]
    assert len({len(line) for line in (lines[2], lines[4], lines[-1])}) == 1  # numbers end below each other


@pytest.mark.parametrize("size", [16, 64, 256])
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_is_cut_off_at_eighty_columns(name: str, size: int) -> None:
    shape = (3, size, size)
    with torch.device("meta"):
        rows = layer_table(network(name, shape), shape)
    narrow, wide = command.draw(rows, width=80), command.draw(rows)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    assert sorted("".join(narrow.split())) == sorted("".join(wide.split()))
    assert len(wide.splitlines()) == len(rows) + 3
    for row in rows:
        assert f"{row.parameters:,}" in narrow
        assert row.kind in wide


def test_a_terminal_too_narrow_for_the_numbers_still_gets_them_all() -> None:
    rows = layer_table(lab((1, 64, 64)), (1, 64, 64))
    assert sorted("".join(command.draw(rows, width=20).split())) == sorted("".join(command.draw(rows).split()))


def test_json_is_the_table() -> None:
    found = facts("classifier", "--size", 32, "--channels", 3, "--classes", 7)
    rows = layer_table(classifier((3, 32, 32), classes=7), (3, 32, 32))
    assert found["network"] == "classifier"
    assert found["image_shape"] == [3, 32, 32]
    assert [layer["name"] for layer in found["layers"]] == [row.name for row in rows]
    assert [tuple(layer["output"]) for layer in found["layers"]] == [row.output for row in rows]
    assert found["parameters"] == sum(row.parameters for row in rows)
    assert found["multiply_adds"] == sum(row.multiply_adds for row in rows)


def test_what_is_not_given_is_64_grey_and_ten_classes() -> None:
    assert facts("classifier") == facts("classifier", "--size", 64, "--channels", 1, "--classes", 10)
    assert facts("lab")["image_shape"] == [1, 64, 64]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("finished")
    data = str(toy(folder / "toy.npz"))
    train_one("classifier", data, folder / "classifier", changes=["training.epochs=1", "model.width=4"])
    train_one("lab", data, folder / "lab run", changes=["training.epochs=1", "model.latent_dim=3"])
    return folder


def test_a_run_has_its_own_images_settings_and_classes(finished) -> None:
    assert facts(finished / "classifier") == {
        **facts("classifier", "--size", 16, "--classes", 3, "--set", "model.width=4"),
    }
    assert facts(finished / "lab run") == facts("lab", "--size", 16, "--set", "model.latent_dim=3")
    assert facts(finished / "lab run", "--size", "16x16", "--channels", 1) == facts(finished / "lab run")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "32"), ("--size 32x32 contradicts the run", "trained with 16x16", "name the network (classifier)")),
        (("--channels", "3"), ("--channels 3 contradicts", "trained with 1;")),
        (("--classes", "10"), ("--classes 10 contradicts", "trained with 3;")),
        (("--set", "model.width=8"), ("--set model.width=8", "is trained and cannot be changed")),
    ],
)
def test_options_against_a_run_are_refused(finished, options, words) -> None:
    message = refused(finished / "classifier", *options)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("labb",), ("no network 'labb'", "did you mean 'lab'?")),
        (("nothing-like-it",), ("no network", "there are: lab, strong, linear, vae, denoiser, classifier")),
        (("lab", "--size", "8"), ("--size 8 is 8 x 8", "from 16 to 256 pixels")),
        (("lab", "--size", "300x64"), ("--size 300x64 is 300 x 64", "from 16 to 256 pixels")),
        (("lab", "--size", "64x"), ("'64x' is not a size", "48x64")),
        (("lab", "--size", "-64"), ("'-64' is not a size",)),
        (("lab", "--classes", "4"), ("--classes 4 belongs to the classifier", "lab has no classes")),
        (("lab", "--set", "model.latent=3"), ("model.latent: no such setting", "did you mean 'latent_dim'?")),
        (("lab", "--set", "model.latent_dim=0"), ("model.latent_dim", "greater than 0")),
        (("lab", "--set", "training.epochs=3"), ("--set training", "only model.* settings")),
        (("lab", "--set", "model=3"), ("--set model=3 is not a setting",)),
        (("lab", "--set", "model.name=vae"), ("contradicts `shapes lab`",)),
    ],
)
def test_bad_input_is_refused_with_a_sentence(arguments, words) -> None:
    message = refused(*arguments)
    for word in words:
        assert word in message


def test_a_folder_that_is_no_run_is_refused(tmp_path) -> None:
    assert "is not a finished run" in refused(tmp_path)
    assert run("lab", "--channels", 0)[0] == 2
    assert run("classifier", "--classes", 1)[0] == 2


def test_the_command_loads_nothing_heavy() -> None:
    code = "import sys, isthmus.cli.shapes; print({'torch', 'numpy', 'rich', 'pydantic'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "set()\n"
