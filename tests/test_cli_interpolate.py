"""`isthmus interpolate`: ways between codes against their closed forms, and what bad input gets."""

import json

import numpy as np
import pytest
from PIL import Image

from command_line import check_refused, content, toy
from isthmus.latent.interpolation import interpolate, spherical
from isthmus.latent.manifold import walk
from isthmus.networks.apply import decode, encode
from isthmus.runs import Run
from isthmus.studies.single import train_one
from isthmus.training.codes import check_model, read_codes


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A vae, an autoencoder and a classifier on tiny images of 16 x 16."""
    folder = tmp_path_factory.mktemp("runs")
    data = str(toy(folder / "toy.npz"))
    for name, more in {"vae": ["model.latent_dim=3", "model.units=16"], "linear": [], "classifier": []}.items():
        train_one(name, data, folder / name, changes=["training.epochs=1", *more])
    return folder


@pytest.fixture
def ends(tmp_path):
    """Two grey photographs of 20 x 16."""
    generator = np.random.default_rng(1)
    for name in ("a.png", "b.png"):
        Image.fromarray(generator.integers(0, 256, (16, 20), dtype=np.uint8)).save(tmp_path / name)
    return tmp_path / "a.png", tmp_path / "b.png"


def test_codes_of_one_length_stay_on_their_sphere_at_equal_angles():
    generator = np.random.default_rng(0)
    a, b = (5 * z / np.linalg.norm(z) for z in generator.normal(size=(2, 16)))
    found = spherical(a, b, steps=7).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 5, rtol=1e-6)
    cosines = (found[1:] * found[:-1]).sum(1) / 25
    np.testing.assert_allclose(cosines, np.cos(np.arccos(a @ b / 25) / 6), rtol=1e-6)
    # Shoemake's formula, which holds for equal lengths.
    angle, share = np.arccos(a @ b / 25), np.linspace(0, 1, 7)[:, None]
    expected = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_lengths_change_evenly_and_a_rotation_turns_the_whole_way():
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(2, 4)) * [[1], [7]]
    found = spherical(a, b, steps=5)
    lengths = np.linspace(np.linalg.norm(a), np.linalg.norm(b), 5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), lengths, rtol=1e-6)
    np.testing.assert_allclose(found[[0, -1]], [a, b], rtol=1e-6)
    np.testing.assert_allclose(spherical(b, a, steps=5), found[::-1], rtol=1e-5)
    turn = np.linalg.qr(generator.normal(size=(4, 4)))[0]
    np.testing.assert_allclose(spherical(a @ turn, b @ turn, steps=5), found @ turn, rtol=1e-4, atol=1e-5)


def test_where_there_is_no_circle_or_many_there_is_no_spherical_way():
    a = np.array([3.0, 4.0])
    assert spherical(a, -2 * a, steps=3) is None
    assert spherical(a, np.zeros(2), steps=3) is None
    np.testing.assert_allclose(spherical(a, 3 * a, steps=3), walk(a, 3 * a, steps=3))
    nearly = a + np.array([1e-5, 0])
    np.testing.assert_allclose(spherical(a, nearly, steps=3), walk(a, nearly, steps=3), rtol=1e-6)


@pytest.mark.parametrize("name", ["vae", "linear"])
def test_the_ways_lead_from_code_to_code(isthmus, runs, ends, tmp_path, name):
    out = tmp_path / "out"
    code, stdout, err = isthmus("interpolate", runs / name, *ends, "--steps", 5, "--out", out, "--json")
    assert code == 0, err
    assert "2 images resized to 16 x 16, as in training." in err
    facts = json.loads(stdout)
    assert (facts["steps"], facts["ways"]) == (5, ["straight", "spherical"])
    codes = read_codes(out / "codes.npz")
    check_model(out / "codes.npz", codes, Run(runs / name))
    assert codes.paths == tuple(f"{way}-{t:.3f}" for way in facts["ways"] for t in np.linspace(0, 1, 5))
    crops = np.stack([np.asarray(Image.open(end))[None, :, 2:18] for end in ends])
    expected = encode(Run(runs / name).network(), crops)
    np.testing.assert_allclose(codes.codes[[0, 4]], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(codes.codes[[5, 9]], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(codes.codes[2], codes.codes[[0, 4]].mean(0), rtol=1e-4, atol=1e-5)
    header, *rows = (line.split(",") for line in (out / "table.csv").read_text().splitlines())
    assert header == ["way", "t", *(f"code_{i}" for i in range(codes.codes.shape[1]))]
    assert [f"{row[0]}-{row[1]}" for row in rows] == list(codes.paths)
    assert np.array_equal(np.array([row[2:] for row in rows], np.float32), codes.codes)
    with Image.open(out / "strip.png") as strip:
        assert strip.width > strip.height


def test_pictures_are_decoded_from_the_codes(runs, ends):
    found = interpolate(runs / "vae", *map(str, ends), steps=4)
    assert found.names == ("a.png", "b.png")
    assert found.ends.shape == (2, 1, 16, 16)
    for way, codes in found.codes.items():
        np.testing.assert_allclose(found.pictures[way], decode(Run(runs / "vae").network(), codes), atol=1e-6)
        assert found.pictures[way].shape == (4, 1, 16, 16)


def test_an_image_and_itself_stand_still(runs, ends):
    found = interpolate(runs / "vae", str(ends[0]), str(ends[0]), steps=3)
    for codes in found.codes.values():
        np.testing.assert_allclose(codes, np.repeat(codes[:1], 3, 0), rtol=1e-5)


def test_opposite_codes_have_only_the_straight_way_and_that_is_said(isthmus, runs, ends, tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.latent.interpolation.spherical", lambda *arguments, **options: None)
    code, stdout, err = isthmus("interpolate", runs / "vae", *ends, "--out", tmp_path / "out")
    assert code == 0, err
    assert "no single great circle joins them, and the spherical way is left out" in err
    assert "(straight, 9 steps each)" in stdout
    assert len(read_codes(tmp_path / "out/codes.npz")) == 9


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        ("classifier", (), ("`classifier`, which has no codes", "`isthmus classify`")),
        ("nothing", (), ("is not a finished run",)),
        ("vae", ("--steps", 2), ("--steps is the number of pictures on a way, from 3 to 50; got 2",)),
        ("vae", ("--steps", 51), ("from 3 to 50; got 51",)),
    ],
)
def test_what_cannot_be_done_is_refused_and_leaves_no_folder(isthmus, runs, ends, tmp_path, run, options, words):
    check_refused(isthmus("interpolate", runs / run, *ends, *options, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_ends_that_are_no_single_readable_image_are_refused(isthmus, runs, ends, tmp_path):
    out = ("--out", tmp_path / "out")
    answer = isthmus("interpolate", runs / "vae", ends[0], tmp_path, *out)
    check_refused(answer, "holds 2 images, and one is needed at each end")
    answer = isthmus("interpolate", runs / "vae", ends[0], tmp_path / "c.png", *out)
    check_refused(answer, "c.png does not exist")
    ends[1].write_bytes(b"no image")
    check_refused(isthmus("interpolate", runs / "vae", *ends, *out), "None of the 1 image(s)", "b.png is not an image")
    assert not (tmp_path / "out").exists()


def test_a_taken_folder_is_left_alone_unless_told(isthmus, runs, ends, tmp_path):
    arguments = ("interpolate", runs / "vae", *ends, "--out", tmp_path / "out")
    assert isthmus(*arguments)[0] == 0
    before = content(tmp_path / "out")
    check_refused(isthmus(*arguments), "exists already", "--overwrite")
    assert content(tmp_path / "out") == before
    assert isthmus(*arguments, "--overwrite")[0] == 0
