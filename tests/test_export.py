"""Exported networks compute what the trained ones do, for batches of any size, and say what they need."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shutil
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
from isthmus.errors import InputError, StorageError
from isthmus.export import PACKAGES, Exported, ExportError, check, example_images, export_run, write_all
from isthmus.exported_parts import OfRows, Part
from isthmus.model_files import DataFacts, EstimatorFacts, ModelConfig, Scaling, write_model
from isthmus.networks.apply import to_float
from isthmus.networks.catalog import build
from isthmus.networks.variational import Gaussian
from isthmus.runs import Run
from isthmus.settings import DataSettings, RunSettings, TrainingSettings, validate_model

pytestmark = pytest.mark.slow
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

IDENTITY = torch.nn.Identity()
SAME = Part("encoder", lambda network, values: (network(values),), "images", {"codes": "one each"})


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


def by_hand(
    operation: str, *constants: list[float], output: str = "codes", batch: int | str = "batch", kind: type = np.float32
) -> bytes:
    """A file of one operation from "images" (B, 4) to an output (B, 4), as the part SAME has them."""
    from onnx import helper, numpy_helper

    names = [f"constant{i}" for i in range(len(constants))]
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    more = {"to": helper.np_dtype_to_tensor_dtype(np.dtype(np.float64))} if operation == "Cast" else {}
    graph = helper.make_graph(
        [helper.make_node(operation, ["images", *names], [output], **more)],
        "by_hand",
        [helper.make_tensor_value_info("images", number, [batch, 4])],
        [helper.make_tensor_value_info(output, more.get("to", number), [batch, 4])],
        [numpy_helper.from_array(np.array(c, kind), name) for c, name in zip(constants, names, strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


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
@pytest.mark.parametrize("architecture", ["mlp", "convolutional"])
@pytest.mark.parametrize("name", ["vae", "classifier", "denoiser"])
def test_every_network_of_rows_is_exported(tmp_path: Path, name: str, architecture: str) -> None:
    """Those with convolutions, which ONNX Runtime has in float32 alone, take and give float64 as well."""
    model: dict[str, Any] = {"hidden": [6, 5], "width": 4, "architecture": architecture}
    shape = (1, 1, 7) if architecture == "mlp" else (1, 16, 16)
    folder, network, rows = of_rows(tmp_path / "model", name, shape, model=model)
    files = {file.part: file for file in export_run(folder).files}
    assert all(file.error <= 1e-5 for file in files.values())
    (first, *_) = files.values()
    answers = computed(first.path, rows)
    assert {answer.dtype for answer in answers.values()} == {np.dtype(np.float64)}
    if name == "classifier":
        scaled = OfRows(network, Run(folder).config()).scaled(torch.from_numpy(rows))
        with torch.inference_mode():
            expected = network.probabilities(scaled.reshape(-1, *shape)).numpy()
        np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-6)


@needs_onnx
def test_a_file_that_computes_something_else_is_not_written(
    isthmus: Any, classifier: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = export.folded

    def altered(network: Any) -> Any:
        copied = fold(network)
        copied.layers[-1].bias.data[1] += 1e-3
        return copied

    monkeypatch.setattr(export, "folded", altered)
    out = tmp_path / "out"
    code, stdout, err = isthmus("export", classifier.folder, "--onnx", "--out", out)
    assert (code, stdout) == (1, "")
    words = " ".join(err.split())
    assert "The probabilities of the exported classifier differ from the network's by " in words
    assert "relative to their size, and 1e-05 is allowed: nothing was written" in words
    assert not out.exists()


@needs_onnx
def test_a_difference_counts_by_the_size_of_its_own_number() -> None:
    """A large number beside it hides nothing; in itself it may be off by as much more."""
    given = torch.ones(8, 4)
    given[:, 0] = 1e6
    assert check(SAME, IDENTITY, given, by_hand("Identity")) == 0
    assert check(SAME, IDENTITY, given, by_hand("Add", [1.0, 0, 0, 0])) == pytest.approx(1e-6)
    with pytest.raises(ExportError, match=r"codes of the exported encoder differ .* by 1\.0e-03 in a batch of 1"):
        check(SAME, IDENTITY, given, by_hand("Add", [0, 1e-3, 0, 0]))
    with pytest.raises(ExportError, match="by nan in a batch of 1"):
        check(SAME, IDENTITY, given, by_hand("Add", [0, math.nan, 0, 0]))


@needs_onnx
def test_a_difference_in_a_row_counts_by_the_range_of_its_column() -> None:
    scaling = {"minimum": [0.0, 0, 0, 5], "maximum": [1e-3, 1, 1e6, 5]}
    network = OfRows(torch.nn.Identity(), {"image_shape": (1, 1, 4), "estimator": None, "scaling": scaling})
    rows = network.draw(8, torch.Generator().manual_seed(0))

    def file(*error: float) -> bytes:
        return by_hand("Add", list(error), output="rows", kind=np.float64)

    drawn = Part("decoder", SAME.call, "images", {"rows": "of numbers"})
    assert check(drawn, network, rows, file(0, 0, 1.0, 0)) == pytest.approx(1e-6)
    with pytest.raises(ExportError, match=r"rows of the exported decoder differ .* by 1\.0e-04"):
        check(drawn, network, rows, file(1e-7, 0, 0, 0))


@needs_onnx
def test_both_batches_have_to_agree() -> None:
    given = torch.ones(8, 4)
    given[7, 2] = -1.0  # the last of the second batch
    with pytest.raises(ExportError, match=r"codes .* in a batch of 7"):
        check(SAME, IDENTITY, given, by_hand("Relu"))
    with pytest.raises(ExportError, match=r"are float64 \(1, 4\), those of the network float32 \(1, 4\)"):
        check(SAME, IDENTITY, given, by_hand("Cast"))


@needs_onnx
def test_a_file_that_does_not_run_is_not_written() -> None:
    """One for a fixed batch would pass with a batch of one; another has an operation that ONNX Runtime does not."""
    given = torch.ones(8, 4)
    words = "ONNX Runtime cannot compute the exported encoder in batches of 1 and 7"
    with pytest.raises(ExportError, match=rf"{words} .*Got: 7 Expected: 1.*nothing was written"):
        check(SAME, IDENTITY, given, by_hand("Identity", batch=1))
    with pytest.raises(ExportError, match=rf"{words} .*NoSuch"):
        check(SAME, IDENTITY, given, by_hand("NoSuch"))


def test_if_one_file_cannot_be_written_those_before_it_are_deleted(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{name}.onnx" for name in "abc")
    second.mkdir()
    third.write_bytes(b"old")
    with pytest.raises(StorageError, match=r"Could not write .*b\.onnx"):
        write_all({first: b"a", second: b"b", third: b"c"})
    assert sorted(tmp_path.iterdir()) == [second, third]
    assert third.read_bytes() == b"old"


def test_images_from_all_over_a_set_are_chosen(linear: Run, tmp_path: Path) -> None:
    labels = np.repeat(["a", "b", "c", "d"], 10)
    np.savez(tmp_path / "sorted.npz", images=np.zeros((40, 16, 16), np.uint8), labels=labels)
    images, notes = example_images(linear, tmp_path / "sorted.npz")
    assert (len(images), images.name, notes) == (8, "sorted", ())
    assert images.labels is not None
    assert len(np.unique(images.labels)) == 4
    np.savez(tmp_path / "few.npz", images=np.zeros((2, 16, 16), np.uint8))
    assert len(example_images(linear, tmp_path / "few.npz")[0]) == 8


@needs_onnx
def test_files_are_refused_replaced_and_left_alone(isthmus: Any, classifier: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("export", classifier.folder, "--onnx", "--out", out)
    code, stdout, err = isthmus(*arguments, "--json")
    assert (code, err) == (0, "")
    assert json.loads(stdout)["checked_on"] == "classifier"
    (file,) = json.loads(stdout)["files"]
    assert (file["part"], file["input"], file["outputs"]) == ("classifier", "images", ["probabilities"])
    assert file["error"] <= 1e-5
    path = Path(file["path"])
    assert path.stat().st_size == file["bytes"]
    (out / "mine.txt").write_text("mine")
    before = path.read_bytes()
    check_refused(isthmus(*arguments), "classifier.onnx exists already; add --overwrite")
    path.write_bytes(b"old")
    own = toy(tmp_path / "own.npz", count=3, channels=3, size=24)
    code, stdout, err = isthmus(*arguments, "--overwrite", "--data", own)
    assert (code, err) == (0, "")
    assert f"classifier: {path} (images -> probabilities; " in stdout
    assert re.search(r"checked on own: within \S+ of PyTorch, relative to each number's size", stdout)
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
    assert "DATA" not in err
    assert "Name the images to use, with --data." in " ".join(err.split())
    assert "checked on mnist-5k" in stdout
    images, _ = example_images(run, None)
    assert (len(images), images.shape) == (8, (3, 16, 24))
    assert images.labels is not None
    assert len(np.unique(images.labels)) == 8


@needs_onnx
def test_nothing_but_the_answer_is_printed(classifier: Run, tmp_path: Path) -> None:
    """Of a study with one run it names that."""
    shutil.copytree(classifier.folder, tmp_path / "study/runs/one")
    command = [PROGRAM, "export", tmp_path / "study", "--onnx", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    printed = json.loads(answer.stdout)
    assert printed["run"] == str(tmp_path / "study/runs/one")
    assert [file["path"] for file in printed["files"]] == [str(tmp_path / "study/runs/one/onnx/classifier.onnx")]


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


@needs_onnx
def test_an_export_reports_to_nobody(tmp_path: Path) -> None:
    """ONNX Runtime keeps the number of a device, and what it is to send, in the home of whoever lets it."""
    made(tmp_path / "run", "lab")
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    command = [sys.executable, "-m", "isthmus", "export", str(tmp_path / "run"), "--onnx"]
    done = subprocess.run(
        command, env={**environment, "HOME": str(home)}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [path for path in home.rglob("*") if "onnxruntime" in path.name.lower()] == []
