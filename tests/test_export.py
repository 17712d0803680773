"""Exported networks compute what the trained ones do, for batches of any size, and say what they need."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command_line import PROGRAM, check_refused, toy
from isthmus import __version__, export
from isthmus.data.catalog import load
from isthmus.data.split import split
from isthmus.errors import InputError
from isthmus.export import PACKAGES, Exported, ExportError, example_images, export_run
from isthmus.model_files import DataFacts, EstimatorFacts, ModelConfig, Scaling, write_model
from isthmus.networks.apply import to_float
from isthmus.networks.catalog import build
from isthmus.networks.variational import Gaussian
from isthmus.runs import Run
from isthmus.settings import DataSettings, RunSettings, TrainingSettings, validate_model

MISSING = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"the extra onnx is not installed ({', '.join(MISSING)})")
SMALL: dict[str, Any] = {"latent_dim": 3}
NETWORKS: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "lab": ((3, 20, 33), SMALL),
    "strong": ((1, 16, 16), {**SMALL, "hidden": [20, 10]}),
    "vae": ((3, 20, 33), {**SMALL, "width": 4, "units": 16}),
    "vae-mlp": ((1, 16, 16), {**SMALL, "architecture": "mlp", "hidden": [20, 10], "likelihood": "bernoulli"}),
    "denoiser": ((3, 20, 33), {"width": 4}),
    "classifier": ((1, 20, 33), {"width": 4, "hidden": 8, "standardise": True, "dropout": 0.3}),
}


def made(folder: Path, name: str, shape: tuple[int, int, int] = (1, 16, 16), **options: Any) -> Run:
    """A finished run that was hardly trained: random weights, and batch norms that have seen the images."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (60, *shape), dtype=np.uint8)
    np.savez(folder.parent / f"{folder.name}.npz", images=pixels, labels=np.array(["a", "b", "c"])[np.arange(60) % 3])
    data = str(folder.parent / f"{folder.name}.npz")
    training = split(load(data)).train
    model = validate_model({"name": name, **options})
    noise = TrainingSettings(noise=0.25 if name == "denoiser" else 0.0)
    settings = RunSettings(data=DataSettings(name=data), model=model, training=noise)
    network = build(model, shape, classes=3)
    with torch.no_grad():
        network.train()(to_float(torch.from_numpy(training.images)))
    run = Run(folder)
    run.begin(settings, training)
    run.finish(network, training, settings, best_epoch=1, seconds=0.5)
    return run


def computed(path: Path, values: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What ONNX Runtime makes of a file, by the names of its outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {given.name: values}), strict=True))


def metadata(path: Path) -> dict[str, Any]:
    import onnx

    (entry,) = onnx.load(path).metadata_props
    assert entry.key == "isthmus"
    return dict(json.loads(entry.value))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("made") / "classifier", "classifier", width=4)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made(tmp_path_factory.mktemp("made") / "linear", "linear", latent_dim=3)


@needs_onnx
@pytest.mark.parametrize("name", NETWORKS)
def test_a_file_computes_what_the_network_does_whatever_the_batch(name: str, tmp_path: Path) -> None:
    shape, options = NETWORKS[name]
    run = made(tmp_path / "run", name.removesuffix("-mlp"), shape, **options)
    done = export_run(run)
    assert done.notes == ()
    assert done.checked_on == "run"
    folder = run.folder / "onnx"
    assert {file.path for file in done.files} == set(folder.iterdir())  # weights inside, nothing beside
    network = run.network()
    for count in (1, 2, 7, 20):
        images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(count))
        with torch.inference_mode():
            if (folder / "classifier.onnx").exists():
                expected = {"classifier": {"probabilities": network.probabilities(images)}}
            elif (folder / "denoiser.onnx").exists():
                expected = {"denoiser": {"restored": network(images)}}
            else:
                found = network.encode(images)
                gaussian = isinstance(found, Gaussian)
                codes = found.mean if gaussian else found
                named = {"mean": codes, "log_variance": found.log_variance} if gaussian else {"codes": codes}
                expected = {"encoder": named, "decoder": {"images": network.decode(codes)}}
        for part, outputs in expected.items():
            given = codes if part == "decoder" else images
            answers = computed(folder / f"{part}.onnx", given.numpy())
            assert set(answers) == set(outputs)
            for output, value in outputs.items():
                np.testing.assert_allclose(answers[output], value.numpy(), atol=1e-5, rtol=1e-5)
    check_contents(run, shape, done)


def check_contents(run: Run, shape: tuple[int, int, int], done: Exported) -> None:
    """A file is whole, holds its own part only, says what it takes, and tells nothing of this machine."""
    import onnx

    weights = (run.folder / "model/model.safetensors").stat().st_size
    assert sum(file.bytes for file in done.files) < weights + 25_000
    for file in done.files:
        model = onnx.load(file.path)
        onnx.checker.check_model(model, full_check=True)
        if file.part in ("encoder", "decoder"):
            assert "BatchNormalization" not in {node.op_type for node in model.graph.node}  # folded
        content = file.path.read_bytes()
        for word in (b"site-packages", str(Path(export.__file__).parent).encode(), str(run.folder.parent).encode()):
            assert word not in content
        facts = metadata(file.path)
        images = facts["images"]
        assert (images["channels"], images["height"], images["width"], images["range"]) == (*shape, [0, 1])
        assert ("0.299 R + 0.587 G + 0.114 B" in images["colours"]) == (shape[0] == 1)
        assert (facts["isthmus"], facts["part"], facts["classes"]) == (__version__, file.part, ["a", "b", "c"])
        assert facts["data"]["fingerprint"] == run.fingerprint()
        assert (facts["input"], tuple(facts["outputs"])) == (file.input, file.outputs)


def of_rows(folder: Path, name: str, image_shape: tuple[int, int, int], **more: Any) -> tuple[Path, Any, np.ndarray]:
    """A model of rows of numbers as an estimator writes it, its network, and rows to try it on."""
    size = int(np.prod(image_shape))
    generator = np.random.default_rng(0)
    minimum, maximum = generator.normal(size=size) * 100, generator.normal(size=size) * 100
    minimum, maximum = np.minimum(minimum, maximum), np.maximum(minimum, maximum)
    maximum[0] = minimum[0]  # a column of one value only
    config = ModelConfig(
        model=validate_model({"name": name, **more.pop("model", {})}),
        image_shape=image_shape,
        classes=("a", "b", "c"),
        data=DataFacts(name="rows", fingerprint="0" * 64),
        scaling=Scaling(minimum=tuple(minimum), maximum=tuple(maximum)),
        **more,
    )
    network = build(config.model, image_shape, classes=3).double().eval()
    write_model(folder, network, config, trained_on=np.zeros(1, np.uint64))
    span = np.where(maximum > minimum, maximum - minimum, 1.0)
    rows = minimum + generator.random((5, size)) * span
    return folder, network, rows


@needs_onnx
def test_rows_of_numbers_go_in_and_come_out_in_their_own_units(tmp_path: Path) -> None:
    """Scaled by hand: u = (x - minimum) / (maximum - minimum), which the network takes as an image."""
    facts = EstimatorFacts(name="LinearAutoencoder", parameters={"image_shape": (4, 2, 3)}, layout="ND")
    folder, network, rows = of_rows(tmp_path / "model", "linear", (3, 4, 2), model=SMALL, estimator=facts)
    done = export_run(folder)
    assert done.checked_on == "rows drawn from the range of the training"
    config = Run(folder).config()
    minimum, maximum = (np.array(config["scaling"][name]) for name in ("minimum", "maximum"))
    span = maximum - minimum
    scaled = (rows - minimum) / np.where(span > 0, span, 1.0)
    images = scaled.reshape(5, 4, 2, 3).transpose(0, 3, 1, 2)
    with torch.inference_mode():
        codes = network.encode(torch.from_numpy(images))
        drawn = network.decode(codes).numpy()
    found = computed(folder / "onnx/encoder.onnx", rows)["codes"]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, codes.numpy(), atol=1e-10)
    flat = drawn.transpose(0, 2, 3, 1).reshape(5, -1)
    again = computed(folder / "onnx/decoder.onnx", codes.numpy())["rows"]
    np.testing.assert_allclose(again, flat * span + minimum, atol=1e-10)
    assert metadata(folder / "onnx/encoder.onnx")["images"] is None
    with pytest.raises(InputError, match="takes rows of 24 numbers, not images: leave out --data"):
        export_run(folder, data="mnist-5k", overwrite=True)


@needs_onnx
@pytest.mark.parametrize("name", ["vae", "classifier", "denoiser"])
def test_every_network_of_rows_is_exported(tmp_path: Path, name: str) -> None:
    model = {"hidden": [6, 5], "architecture": "mlp"}
    folder, _, rows = of_rows(tmp_path / "model", name, (1, 1, 7), model=model)
    files = {file.part: file for file in export_run(folder).files}
    assert all(file.error <= 1e-5 for file in files.values())
    if name == "classifier":
        probabilities = computed(files["classifier"].path, rows)["probabilities"]
        np.testing.assert_allclose(probabilities.sum(1), 1.0)


@needs_onnx
@pytest.mark.parametrize("wrong", [1e-3, math.nan])
def test_a_file_that_computes_something_else_is_not_written(
    isthmus: Any, classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    fold = export.folded

    def altered(network: Any) -> Any:
        copied = fold(network)
        copied.layers[-1].bias.data[1] += wrong
        return copied

    monkeypatch.setattr(export, "folded", altered)
    out = tmp_path / "out"
    code, stdout, err = isthmus("export", classifier.folder, "--onnx", "--out", out)
    assert (code, stdout) == (1, "")
    assert "The probabilities of the exported classifier differ from the network's by " in err
    assert "1e-05 is allowed: nothing was written" in err
    assert not out.exists()


@needs_onnx
def test_a_difference_of_a_whole_batch_counts_too(linear: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file for a fixed batch would pass with a batch of one."""
    part = export.parts_of(linear.network(), rows=False)[0]
    given = torch.rand(8, 1, 16, 16)
    content = export.to_onnx(part, export.folded(linear.network()), given, linear.config())
    assert export.check(part, linear.network(), given, content) <= 1e-5
    other = given.clone()
    network = linear.network()
    with torch.no_grad():
        network.encoder[1].weight[0, 0] += 1.0
    other[:, 0, 0, 0] = 0.0
    other[7, 0, 0, 0] = 1.0  # seen in the last image of the second batch alone
    with pytest.raises(ExportError, match=r"codes .* in a batch of 7"):
        export.check(part, network, other, content)


@needs_onnx
def test_files_are_refused_replaced_and_left_alone(isthmus: Any, classifier: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("export", classifier.folder, "--onnx", "--out", out)
    code, stdout, err = isthmus(*arguments, "--json")
    assert (code, err) == (0, "")
    (file,) = json.loads(stdout)["files"]
    assert (file["part"], file["input"], file["outputs"]) == ("classifier", "images", ["probabilities"])
    assert file["error"] <= 1e-5
    path = Path(file["path"])
    assert path.stat().st_size == file["bytes"]
    (out / "mine.txt").write_text("mine")
    before = path.read_bytes()
    check_refused(isthmus(*arguments), "classifier.onnx exists already; add --overwrite")
    path.write_bytes(b"old")
    code, stdout, err = isthmus(*arguments, "--overwrite")
    assert code == 0, err
    assert f"classifier: {path} (images -> probabilities; " in stdout
    assert "checked on classifier: within" in stdout
    assert path.read_bytes() == before  # the same network gives the same bytes
    assert (out / "mine.txt").read_text() == "mine"
    check_refused(isthmus(*arguments[:-1], out / "mine.txt"), "mine.txt is a file")
    (tmp_path / "other/classifier.onnx").mkdir(parents=True)
    check_refused(isthmus(*arguments[:-1], tmp_path / "other", "--overwrite"), "classifier.onnx is a folder")


@needs_onnx
def test_where_the_data_are_gone_the_digits_check(isthmus: Any, tmp_path: Path) -> None:
    run = made(tmp_path / "run", "classifier", (3, 16, 24), width=4)
    (tmp_path / "run.npz").unlink()
    code, stdout, err = isthmus("export", run.folder, "--onnx")
    assert code == 0, err
    assert "checked on the embedded digits: " in err
    assert "cannot be loaded again" in err
    assert "checked on mnist-5k" in stdout
    images, _ = example_images(run, None)
    assert (len(images), images.shape) == (8, (3, 16, 24))
    assert images.labels is not None
    assert len(np.unique(images.labels)) == 8
    colour = toy(tmp_path / "own.npz", count=3, channels=3, size=24)
    code, stdout, err = isthmus("export", run.folder, "--onnx", "--data", colour, "--overwrite")
    assert (code, err) == (0, "")
    assert "checked on own" in stdout


@needs_onnx
def test_nothing_but_the_answer_is_printed(classifier: Run, tmp_path: Path) -> None:
    command = [PROGRAM, "export", classifier.folder, "--onnx", "--out", tmp_path / "out", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    assert len(json.loads(answer.stdout)["files"]) == 1


@needs_onnx
def test_a_study_is_asked_for_one_of_its_runs(isthmus: Any, linear: Run, tmp_path: Path) -> None:
    study = tmp_path / "study"
    for name in ("a", "b"):
        made(study / "runs" / name, "linear", latent_dim=2)
    check_refused(isthmus("export", study, "--onnx"), "2 runs fit", f"{study / 'runs/a'}, {study / 'runs/b'}")


@pytest.mark.parametrize("missing", PACKAGES)
def test_without_the_extra_it_says_what_to_install(
    isthmus: Any, linear: Run, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # type: ignore[arg-type]  # as if it were not installed
    check_refused(isthmus("export", linear.folder, "--onnx"), f"{missing}", 'pip install "isthmus[onnx]"')


def test_the_format_has_to_be_named(isthmus: Any, linear: Run) -> None:
    check_refused(isthmus("export", linear.folder), "which format to write; there is one: --onnx")


@needs_onnx
def test_weights_beyond_a_single_file_are_refused(linear: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(InputError, match="GiB of weights, and a single ONNX file holds 2 GiB"):
        export_run(linear)
