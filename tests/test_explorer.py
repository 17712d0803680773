"""An explorer's folder: what is in it belongs together, computes what the run computes, and says what is missing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from explorer_runs import array_of, cells_of, manifest_of, needs_onnx, pictures, stand_in, trained
from isthmus.data.imageset import ImageSet, hashes_of
from isthmus.errors import DataError, InputError
from isthmus.explorer import layout, page, points
from isthmus.explorer.bundle import Explorer, Source, build
from isthmus.explorer.densities import as_numbers, densities
from isthmus.explorer.layout import PACKAGE, tsne
from isthmus.explorer.parts import find_classifier
from isthmus.explorer.points import encode_points, principal, ranges, read_images
from isthmus.explorer.sprites import Grid, eight_bits, grid_for, sheets
from isthmus.latent.density import DENSITIES, Kernel, fit_density
from isthmus.latent.sampling import density_of
from isthmus.networks.apply import encode
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.variational import VAE
from isthmus.removal import examine, remove
from isthmus.runs import Run
from isthmus.training.evaluation import held_out

pytestmark = [pytest.mark.slow, needs_onnx]
GREY, COLOUR = (1, 16, 16), (3, 20, 33)
FLAT = ("model.architecture=mlp", "model.hidden=[20,10]")


@pytest.fixture(autouse=True)
def _page(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "STATIC", stand_in(tmp_path_factory.mktemp("page") / "static"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of a vae with a code of three numbers and two classifiers on grey images, and an autoencoder."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.toml").write_text("")
    data = pictures(folder / "grey.npz", GREY)
    trained("vae", data, folder / "runs/vae", "model.latent_dim=3", *FLAT)
    trained("lab", data, folder / "runs/lab", "model.latent_dim=5")
    for name in ("poor", "good"):
        run = trained("classifier", data, folder / "runs" / name)
        Run(run).add_figures({"validation_accuracy": 0.5 if name == "poor" else 0.9})
    return folder


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder of colour images, wider than high and without classes, with a code of two numbers."""
    folder = tmp_path_factory.mktemp("colour")
    data = pictures(folder / "colour.npz", COLOUR, labels=False)
    return trained("strong", data, folder / "run", "model.latent_dim=2", "model.hidden=[20,10]")


Made = tuple[Explorer, Path]


@pytest.fixture(scope="module")
def made(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The explorer of the vae."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "STATIC", stand_in(tmp_path_factory.mktemp("page") / "static"))
        folder = tmp_path_factory.mktemp("made")
        return build(Source(study / "runs/vae"), folder), folder


@pytest.fixture(scope="module")
def made_colour(colour: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "STATIC", stand_in(tmp_path_factory.mktemp("page") / "static"))
        folder = tmp_path_factory.mktemp("made")
        return build(Source(colour), folder), folder


def computed(folder: Path, part: str, values: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """What a network of the folder makes of values, by the names of its outputs."""
    import onnxruntime

    facts = manifest_of(folder)["parts"][part]
    session = onnxruntime.InferenceSession(folder / facts["file"], providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return dict(zip(facts["outputs"], session.run(facts["outputs"], {given.name: values}), strict=True))


# What is in the folder.


def test_the_manifest_stamps_every_file_and_the_page_is_whole(made: Made) -> None:
    explorer, folder = made
    manifest = manifest_of(folder)
    there = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert set(manifest["files"]) | {"data/manifest.json"} == {name for name in there if name.startswith("data/")}
    for name, stamp in manifest["files"].items():
        assert stamp == {"bytes": len(there[name]), "sha256": hashlib.sha256(there[name]).hexdigest()}
    for part in manifest["parts"].values():
        assert part is None or manifest["files"][part["file"]] == {key: part[key] for key in ("bytes", "sha256")}
    assert {name for name in there if not name.startswith("data/")} == set(page.page_files())
    assert explorer.bytes == sum(map(len, there.values()))


def test_a_vae_is_described(made: Made, study: Path) -> None:
    explorer, folder = made
    manifest = manifest_of(folder)
    network = Run(study / "runs/vae").network()
    assert isinstance(network, VAE)
    expected = {
        "format": 1,
        "title": "vae",
        "network": "vae, a code of 3 numbers",
        "kind": "vae",
        "image_shape": [1, 16, 16],
        "latent_dim": 3,
        "sigma": network.sigma,
        "classes": ["<b>", "rose", "ü"],
        "labelled": True,
        "layout": None,
        "data": "grey (test part)",
        "missing": [],
    }
    assert {name: manifest[name] for name in expected} == expected
    assert manifest["count"] == explorer.count == len(held_out(Run(study / "runs/vae")))
    assert manifest["figures"]["validation_loss"] == Run(study / "runs/vae").config()["figures"]["validation_loss"]
    assert explorer.error <= 1e-5


@pytest.mark.parametrize("which", ["made", "made_colour"])
def test_images_codes_and_labels_of_a_point_belong_together(which: str, request: pytest.FixtureRequest) -> None:
    explorer, folder = request.getfixturevalue(which)
    run = Run(explorer.run)
    network, images, cells = run.network(), held_out(run), cells_of(folder)
    assert isinstance(network, Autoencoder | VAE)
    labels = array_of(folder, "labels.bin", "<i2")
    # All images of the test part, each once, and no other.
    assert sorted(hashes_of(cells)) == sorted(images.image_hashes())
    if images.labels is None:
        assert set(labels) == {-1}
    else:
        known = dict(zip(images.image_hashes(), images.labels, strict=True))
        assert labels.tolist() == [known[each] for each in hashes_of(cells)]
        assert labels.tolist() != images.labels.tolist()  # in an order of their own
    codes = array_of(folder, "codes.bin", "<f4", network.latent_dim)
    np.testing.assert_allclose(codes, encode(network, cells), atol=1e-5)
    answers = computed(folder, "encoder", cells.astype(np.float32) / 255)
    np.testing.assert_allclose(answers.get("mean", answers.get("codes")), codes, atol=1e-4)
    decoded = computed(folder, "decoder", codes)["images"]
    assert decoded.shape == cells.shape


def test_the_best_classifier_of_the_study_comes_along(made: Made, study: Path) -> None:
    _, folder = made
    manifest = manifest_of(folder)
    assert manifest["parts"]["classifier"]["classes"] == ["<b>", "rose", "ü"]
    assert manifest["parts"]["denoiser"] is None
    run = Run(study / "runs/vae")
    found = find_classifier(run, run.network(), None)
    assert found == Run(study.resolve() / "runs/good")
    probabilities = computed(folder, "classifier", cells_of(folder).astype(np.float32) / 255)["probabilities"]
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)


def test_ranges_hold_almost_all_codes_and_axes_are_those_of_pca(made: Made) -> None:
    _, folder = made
    codes = array_of(folder, "codes.bin", "<f4", 3).astype(np.float64)
    low, high = np.array(manifest_of(folder)["ranges"]).T
    np.testing.assert_allclose([low, high], np.quantile(codes, [0.01, 0.99], axis=0), rtol=1e-6)
    found = json.loads((folder / "data/principal.json").read_text())
    axes = np.array(found["axes"])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(found["variances"], codes.var(0), rtol=1e-6)
    along = ((codes - found["mean"]) @ axes.T).var(0)
    np.testing.assert_allclose(along / codes.var(0).sum(), found["explained"], rtol=1e-6)
    assert sum(found["explained"]) == pytest.approx(1)


def test_densities_are_those_of_the_run(made: Made, study: Path) -> None:
    _, folder = made
    run = Run(study / "runs/vae")
    network = run.network()
    assert isinstance(network, VAE)
    content = json.loads((folder / "data/density.json").read_text())
    assert content["default"] == "mixture"
    assert content["kinds"]["normal"] == {"latent_dim": 3}
    codes = array_of(folder, "codes.bin", "<f4", 3)[:5].astype(np.float64)
    for name in ("gaussian", "mixture"):
        found = content["kinds"][name]
        if name == "gaussian":
            found = {"weights": [1.0], "means": [found["mean"]], "choleskys": [found["cholesky"]]}
        roots = np.array(found["choleskys"])
        assert np.array_equal(roots, np.tril(roots))
        each = zip(found["weights"], found["means"], roots, strict=True)
        parts = [np.log(w) + stats.multivariate_normal(mean, root @ root.T).logpdf(codes) for w, mean, root in each]
        density, fitted = density_of(run, network, name)
        assert not fitted  # it was kept with the run
        np.testing.assert_allclose(logsumexp(parts, axis=0), density.log_prob(torch.from_numpy(codes)), rtol=1e-8)


def test_a_run_that_was_explored_can_be_removed(made: Made, study: Path, tmp_path: Path) -> None:
    assert "densities.safetensors" in examine(study / "runs/vae").files
    again = trained("linear", str(study / "grey.npz"), tmp_path / "run", "model.latent_dim=2")
    build(Source(again), tmp_path / "out")
    remove(again)
    assert not again.exists()


def test_the_same_run_gives_the_same_folder(made: Made, study: Path, tmp_path: Path) -> None:
    _, folder = made
    lines: list[str] = []
    build(Source(Run(study / "runs/vae")), tmp_path, say=lines.append)
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / path.relative_to(folder)).read_bytes(), path
    assert lines == ["reading the images", "describing them", "exporting the networks"]


# What is missing.


def test_colour_images_without_classes_say_what_is_missing(made_colour: Made) -> None:
    explorer, folder = made_colour
    manifest = manifest_of(folder)
    assert manifest["image_shape"] == [3, 20, 33]
    assert (manifest["labelled"], manifest["classes"], manifest["sigma"]) == (False, [], None)
    assert manifest["missing"] == list(explorer.missing)
    assert any("no classes" in line for line in explorer.missing)
    assert any("No classifier belongs to this run" in line for line in explorer.missing)
    assert len(json.loads((folder / "data/principal.json").read_text())["axes"]) == 2
    assert "normal" not in json.loads((folder / "data/density.json").read_text())["kinds"]


@pytest.mark.parametrize(("name", "part"), [("good", "classifier"), ("denoiser", "denoiser")])
def test_a_run_without_codes_is_exported_with_what_there_is(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: str
) -> None:
    run = study / "runs" / name
    if name == "denoiser":
        run = trained("denoiser", str(study / "grey.npz"), tmp_path / "denoiser", *FLAT)
    explorer = build(Source(run), tmp_path / "out")
    manifest = manifest_of(tmp_path / "out")
    assert (manifest["kind"], manifest["latent_dim"], manifest["ranges"]) == (part, None, [])
    assert [each for each, facts in manifest["parts"].items() if facts is not None] == [part]
    assert "data/codes.bin" not in manifest["files"]
    assert f"This run is a {part}: it has no codes" in explorer.missing[0]
    assert len(cells_of(tmp_path / "out")) == manifest["count"]
    monkeypatch.setattr(layout, "PACKAGE", "numpy")  # as if it were installed
    with pytest.raises(InputError, match="has no codes to lay out: leave out --layout"):
        build(Source(run, layout="tsne"), tmp_path / "other")


def test_flat_codes_have_no_gaussian_and_that_is_said(study: Path) -> None:
    run = Run(study / "runs/lab")
    network = run.network()
    assert isinstance(network, Autoencoder)
    with np.load(run.folder / "codes.npz") as archive:
        codes = {name: archive[name] for name in archive.files}
    codes["train"][:, 0] = 0
    np.savez(run.folder / "codes.npz", **codes)
    found = densities(run, network)
    assert found.content is not None
    assert list(found.content["kinds"]) == ["mixture"]
    assert any("There is no gaussian density of the codes" in line and "dead axis" in line for line in found.missing)
    assert found.notes == ()


def test_a_model_alone_keeps_what_density_it_has(study: Path, tmp_path: Path) -> None:
    run = Run(study / "runs/lab")
    alone = Run(tmp_path / "model")
    run.save_pretrained(alone.folder)
    (alone.folder / "densities.safetensors").unlink(missing_ok=True)
    network = run.network()
    assert isinstance(network, Autoencoder)
    with pytest.raises(InputError, match=r"no run\.json.*name the images to use, as DATA"):
        build(Source(alone), tmp_path / "out")
    found = densities(alone, network)
    assert found.content is None
    assert len(found.missing) == 2
    assert found.missing[0].startswith("There is no gaussian density of the codes.")


# What is refused.


def test_rows_of_numbers_are_refused(tmp_path: Path) -> None:
    rows = Path(__file__).parent / "data/version-1/rows"
    with pytest.raises(InputError, match=r"takes rows of \d+ numbers, not images"):
        build(Source(rows), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_study_names_its_runs(study: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 runs fit; name one of them: .*runs/lab, .*runs/vae"):
        build(Source(study), tmp_path)


def test_a_classifier_that_does_not_fit_is_refused(study: Path, colour: Path) -> None:
    vae, good = (Run(study / "runs" / name) for name in ("vae", "good"))
    assert find_classifier(vae, vae.network(), study / "runs/poor") == Run(study / "runs/poor")
    with pytest.raises(
        InputError, match=r"--classifier .*lab is a run of `lab`; give one of `isthmus train classifier"
    ):
        find_classifier(vae, vae.network(), study / "runs/lab")
    with pytest.raises(InputError, match="is a classifier itself: leave out --classifier"):
        find_classifier(good, good.network(), study / "runs/poor")
    other = Run(colour)
    with pytest.raises(InputError, match=r"takes images \(1, 16, 16\), those of the run are \(3, 20, 33\)"):
        find_classifier(other, other.network(), study / "runs/poor")
    assert find_classifier(other, other.network(), None) is None


@pytest.mark.parametrize("there", [True, False])
def test_a_page_that_is_not_built_is_said(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(page, "STATIC", tmp_path / "src/isthmus/explorer/static")
    if there:
        (tmp_path / "explorer").mkdir()
        (tmp_path / "explorer/package.json").write_text("{}")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(InputError, match=r"install|Install") as caught:
        build(Source(study / "runs/vae"), tmp_path / "out")
    assert "Node.js 20.19 or later (nodejs.org)" in str(caught.value)
    assert ("run `make explorer` in" in str(caught.value)) == there
    assert ("not in this installation" in str(caught.value)) != there
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    if there:
        with pytest.raises(InputError, match=r"is not built yet: run `make explorer` in "):
            build(Source(study / "runs/vae"), tmp_path / "out")


def test_files_of_the_page_leave_out_what_is_hidden_or_of_a_run() -> None:
    assert list(page.page_files()) == ["assets/explorer.css", "assets/explorer.js", "assets/run.wasm", "index.html"]


# Its parts.


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 7, 5), (1, 100, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_sheets_hold_every_image_to_the_last_bit(shape: tuple[int, int, int], dtype: type, tmp_path: Path) -> None:
    count = grid_for(*shape[1:]).per_sheet + 3
    images = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    given = ImageSet(images if dtype == np.uint8 else (images / np.float32(255)).astype(np.float32), None)
    (tmp_path / "data").mkdir()
    grid = grid_for(*shape[1:])
    facts = {"columns": grid.columns, "per_sheet": grid.per_sheet, "sheets": grid.sheets(count)}
    for number, sheet in enumerate(sheets(given)):
        (tmp_path / f"data/sprites-{number:03d}.png").write_bytes(sheet)
    content = {"image_shape": shape, "sprites": facts, "count": count}
    (tmp_path / "data/manifest.json").write_text(json.dumps(content))
    assert np.array_equal(cells_of(tmp_path), images)
    assert facts["sheets"] == 2


def test_no_sheet_is_larger_than_a_texture() -> None:
    assert grid_for(256, 256) == Grid(16, 256)
    assert grid_for(5000, 1) == Grid(64, 64)
    assert grid_for(32, 32).sheets(10_000) == 3
    assert eight_bits(np.array([[[[-0.1, 0.5, 1.1]]]])).tolist() == [[[[0, 128, 255]]]]


def test_too_many_images_are_drawn_from_all(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(study / "runs/vae")
    everything, name, notes = read_images(run, str(study / "grey.npz"))
    assert (len(everything), name, notes) == (90, "grey", ())
    monkeypatch.setattr(points, "MOST", 30)
    some, _, notes = read_images(run, str(study / "grey.npz"))
    assert len(some) == 30
    assert np.array_equal(some.images, everything.images[:30])
    assert notes == ("of 90 images 30 are shown, drawn at random",)
    assert len(set(some.labels if some.labels is not None else ())) == 3


def test_codes_that_are_not_finite_are_left_out(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(study / "runs/vae")
    network = run.network()
    assert isinstance(network, VAE)
    images = held_out(run)
    codes = encode(network, images.images)
    codes[2, 1] = np.nan
    monkeypatch.setattr(points, "encode", lambda network, images: codes)
    seen: list[tuple[int, int, str]] = []
    left, found, notes = encode_points(network, images, lambda *line: seen.append(line))
    assert np.array_equal(found, np.delete(codes, 2, 0))
    assert np.array_equal(left.images, np.delete(images.images, 2, 0))
    assert notes == ("1 images are left out: their codes hold NaN or infinite numbers",)
    assert seen == [(len(images), len(images), f"{len(images)} of {len(images)} images")]
    codes[:] = np.inf
    with pytest.raises(DataError, match=r"All \d+ codes of grey hold NaN .* lower learning rate"):
        encode_points(network, images)


def test_codes_without_spread_have_axes_that_explain_nothing() -> None:
    found = principal(np.full((4, 2), 3, np.float32))
    assert found.explained.tolist() == [0, 0]
    assert found.mean.tolist() == [3, 3]
    assert ranges(np.full((4, 1), 3, np.float32)) == [[3, 3]]
    np.testing.assert_allclose(found.axes @ found.axes.T, np.eye(2))


def test_a_density_the_page_does_not_know_is_refused() -> None:
    codes = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 2)))
    assert set(DENSITIES) == {"normal", "gaussian", "mixture", "kernel", "histogram"}
    with pytest.raises(TypeError, match="knows no kernel density"):
        as_numbers(fit_density(Kernel.name, codes))


# The layout.


def test_a_layout_without_its_package_is_refused(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "PACKAGE", "no_such_package")
    with pytest.raises(InputError, match=r'needs no_such_package: `pip install "isthmus\[tsne\]"`'):
        build(Source(study / "runs/vae", layout="tsne"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_neighbours_stay_neighbours_in_the_layout(study: Path, tmp_path: Path) -> None:
    pytest.importorskip(PACKAGE, reason="the extra tsne is not installed")
    generator = np.random.default_rng(0)
    kinds = np.arange(300) % 3
    codes = (generator.normal(size=(300, 8)) + 20 * np.eye(8)[kinds]).astype(np.float32)
    places = tsne(codes)
    assert np.array_equal(places, tsne(codes))
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) + np.diag(np.full(300, np.inf))
    assert (kinds[apart.argmin(1)] == kinds).all()
    with pytest.raises(InputError, match="needs at least 8 images, got 5"):
        tsne(codes[:5])
    build(Source(study / "runs/vae", layout="tsne"), tmp_path)
    facts = manifest_of(tmp_path)
    assert facts["layout"] == {"name": "t-SNE", "count": facts["count"]}
    assert array_of(tmp_path, "layout.bin", "<f4", 2).shape == (facts["count"], 2)
