"""What the everyday commands do with what nobody should give them: a sentence, the right exit code, nothing lost."""

import json
import os
import shutil
import signal
import subprocess

import numpy as np
import pytest
from PIL import Image

from command_line import check_refused, content, start, toy, wait_until
from isthmus.latent import interpolation
from isthmus.report import sheets
from isthmus.studies.single import train_one
from isthmus.training.codes import read_codes
from isthmus.training.redraw import LONGEST, Places

LONG = "x" * 300  # no disk takes such a name


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Small runs in a study's folder: two with a code, one that knows classes, one that takes noise away."""
    folder = tmp_path_factory.mktemp("study")
    data = str(toy(folder / "toy.npz"))
    changes = {
        "vae": ["model.latent_dim=3", "model.units=16"],
        "linear": [],
        "classifier": [],
        "denoiser": ["model.width=4"],
    }
    for name, more in changes.items():
        train_one(name, data, folder / "runs" / name, changes=["training.epochs=1", *more])
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with six photographs in it, codes of them, and an image."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(1)
    for i in range(6):
        path = tmp_path / "photos" / ("a" if i < 3 else "b") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8)).save(path)
    shutil.copy(tmp_path / "photos/a/0.png", tmp_path / "one.png")
    np.save(tmp_path / "codes.npy", generator.normal(size=(6, 3)).astype(np.float32))
    return tmp_path


COMMANDS = {
    "search": ("vae", "one.png", "photos"),
    "outliers": ("vae", "photos"),
    "reconstruct": ("vae", "photos"),
    "decode": ("vae", "codes.npy"),
    "interpolate": ("vae", "one.png", "photos/b/4.png"),
    "generate": ("vae", "-n", 4),
    "classify": ("classifier", "photos"),
    "denoise": ("vae", "photos", "--method", "bottleneck"),
    "encode": ("vae", "photos"),
}
FOLDERS = [name for name in COMMANDS if name != "encode"]  # which writes a file


def call(command, study, **changes):
    """The words of a command, some of them changed by their positions."""
    run, *rest = COMMANDS[command]
    words = [command, study / "runs" / run, *rest]
    for position, word in changes.items():
        words[int(position[1:])] = word
    return words


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_each_writes_a_table_and_pictures_and_only_json_on_stdout(isthmus, study, place, command, options):
    out = "codes.csv" if command == "encode" else "out"
    code, stdout, err = isthmus(*call(command, study), "--out", out, *options)
    assert code == 0, err
    if options:
        json.loads(stdout)
    table = place / out if command == "encode" else place / "out/table.csv"
    header, *rows = table.read_text().splitlines()
    assert len(rows) >= 4
    assert all(row.count(",") == header.count(",") for row in rows)
    if command != "encode":
        assert list((place / "out").rglob("*.png"))


@pytest.mark.parametrize("command", COMMANDS)
def test_names_too_long_for_a_disk_are_a_sentence(isthmus, study, place, command):
    out = f"{LONG}.csv" if command == "encode" else LONG
    check_refused(isthmus(*call(command, study), "--out", out), "File name too long")
    out = "codes.csv" if command == "encode" else "out"
    check_refused(isthmus(*call(command, study, _1=LONG), "--out", out), LONG[:200])
    if command != "generate":
        name = f"{LONG}.npz" if command == "decode" else LONG
        check_refused(isthmus(*call(command, study, _2=name), "--out", out), LONG[:200])
    assert not (place / out).exists()


@pytest.mark.parametrize("command", FOLDERS)
def test_what_is_refused_leaves_the_results_that_were_to_be_overwritten(isthmus, study, place, command):
    assert isthmus(*call(command, study), "--out", "out")[0] == 0
    before = content(place / "out")
    again = (*call(command, study), "--out", "out")
    check_refused(isthmus(*again), "out exists already; add --overwrite")
    check_refused(isthmus(*call(command, study, _1="no run"), "--out", "out", "--overwrite"), "is not a finished run")
    if command != "generate":
        wrong = "none.npy" if command == "decode" else "none"
        refused = isthmus(*call(command, study, _2=wrong), "--out", "out", "--overwrite")
        check_refused(refused, wrong)
    assert content(place / "out") == before
    (place / "out/left.txt").write_text("of the first time")
    assert isthmus(*again, "--overwrite")[0] == 0
    assert not (place / "out/left.txt").exists()
    (place / "mine").mkdir()
    (place / "mine/table.csv").write_text("mine")
    check_refused(isthmus(*again[:-1], "mine", "--overwrite"), "holds other files")
    assert (place / "mine/table.csv").read_text() == "mine"


@pytest.mark.parametrize("command", ["search", "outliers", "reconstruct", "decode", "interpolate", "classify"])
def test_folders_made_for_what_is_refused_are_gone_again(isthmus, study, place, command):
    check_refused(isthmus(*call(command, study, _1="no run"), "--out", "a/b/out"), "is not a finished run")
    assert not (place / "a").exists()
    (place / "a").mkdir()
    check_refused(isthmus(*call(command, study, _1="no run"), "--out", "a/b/out"), "is not a finished run")
    assert [path.name for path in (place / "a").rglob("*")] == []


@pytest.mark.parametrize(
    "command", ["search", "outliers", "reconstruct", "decode", "interpolate", "generate", "encode"]
)
def test_a_study_of_which_several_runs_fit_names_them(isthmus, study, place, command):
    out = "codes.csv" if command == "encode" else "out"
    answer = isthmus(*call(command, study, _1=study), "--out", out)
    check_refused(answer, "is a study of which 2 runs fit; name one of them", "runs/linear", "runs/vae")


def test_a_study_stands_for_its_only_run_that_fits(isthmus, study, place):
    assert isthmus("denoise", study, "photos", "--out", "map")[0] == 0
    assert json.loads((place / "map/denoise.json").read_text())["run"] == str(study / "runs/vae")
    refused = isthmus("denoise", study, "photos", "--method", "bottleneck", "--out", "out")
    check_refused(refused, "of which 3 runs fit", "runs/denoiser", "runs/linear", "runs/vae")
    shutil.copytree(study / "runs/vae", place / "small/runs/vae")
    shutil.copytree(study / "runs/classifier", place / "small/runs/classifier")
    code, _, err = isthmus("generate", "small", "-n", 4, "--out", "drawn")
    assert code == 0, err
    assert json.loads((place / "drawn/generate.json").read_text())["run"] == "small/runs/vae"


@pytest.mark.parametrize("command", ["search", "outliers", "reconstruct", "classify", "denoise", "encode"])
@pytest.mark.parametrize("kind", ["folder", "npz", "csv"])
def test_empty_data_is_refused(isthmus, study, place, command, kind):
    (place / "folder").mkdir()
    np.savez(place / "npz.npz", images=np.zeros((0, 16, 16), np.uint8))
    (place / "csv.csv").write_text("label," + ",".join(f"pixel{i}" for i in range(256)) + "\n")
    name = {"folder": "folder", "npz": "npz.npz", "csv": "csv.csv"}[kind]
    out = "codes.csv" if command == "encode" else "out"
    words = {
        "folder": "folder holds no images",
        "npz": " no images; give at least one",
        "csv": "a header and no images",
    }[kind]
    check_refused(isthmus(*call(command, study, **{f"_{3 if command == 'search' else 2}": name}), "--out", out), words)
    assert not (place / out).exists()


@pytest.mark.parametrize("command", ["search", "outliers", "reconstruct", "classify", "denoise", "encode"])
def test_one_bad_file_is_named_the_rest_is_done_and_the_exit_code_is_1(isthmus, study, place, command):
    (place / "photos/a/bad\n.png").write_bytes(b"no image")
    (place / "photos/b/empty.png").write_bytes(b"")
    out = "codes.csv" if command == "encode" else "out"
    code, stdout, err = isthmus(*call(command, study), "--out", out, "--json")
    assert code == 1
    json.loads(stdout)
    assert "left out: a/bad\\n.png is not an image" in err
    assert "left out: b/empty.png is empty (0 bytes)" in err
    table = (place / "codes.csv" if command == "encode" else place / "out/table.csv").read_text()
    assert all(f"{i}.png" in table for i in range(6))


@pytest.mark.parametrize("command", COMMANDS)
def test_spaces_letters_of_all_sorts_and_links_are_fine(isthmus, study, place, command):
    odd = place / "meine Bilder ü 日本 $x$"
    (place / "photos/a/0.png").rename(place / "photos/a/ü $y_1$ #%.png")
    (place / "photos/a/link.png").symlink_to("1.png")
    (place / "photos").rename(odd)
    (place / "photos").symlink_to(odd)
    out = place / "aus gabe ü" / ("codes.csv" if command == "encode" else "out")
    code, _, err = isthmus(*call(command, study), "--out", out)
    assert code == 0, err
    if command not in ("decode", "generate", "interpolate"):
        table = (out if command == "encode" else out / "table.csv").read_text()
        assert "link.png" in table
        assert command == "search" or "ü $y_1$ #%.png" in table


def test_names_that_are_no_text_are_written_escaped(isthmus, study, place):
    name = os.fsdecode(b"photos/a/bad\xff.png")
    try:
        shutil.copy("one.png", name)
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    for command in ("search", "outliers", "reconstruct", "classify"):
        code, _, err = isthmus(*call(command, study), "--out", command)
        assert code == 0, err
        assert "a/bad\\udcff.png" in (place / command / "table.csv").read_text()


def test_a_single_image_and_two_that_are_the_same(isthmus, study, place):
    for command in ("search", "outliers", "reconstruct", "classify"):
        words = call(command, study, **{f"_{3 if command == 'search' else 2}": "one.png"})
        assert isthmus(*words, "--out", command)[0] == 0
        assert len((place / command / "table.csv").read_text().splitlines()) == 2
    code, _, err = isthmus("interpolate", study / "runs/vae", "one.png", "photos/a/0.png", "--steps", 3, "--out", "way")
    assert code == 0, err
    codes = read_codes(place / "way/codes.npz").codes
    assert len(codes) == 6
    np.testing.assert_allclose(codes, np.repeat(codes[:1], 6, 0), rtol=1e-4, atol=1e-5)


def test_duplicates_are_all_found_in_the_order_of_their_names(isthmus, study, place):
    for name in ("a/z.png", "b/0.png"):
        shutil.copy("one.png", place / "photos" / name)
    code, out, err = isthmus(*call("search", study), "-n", 999, "--out", "out", "--json")
    assert code == 0, err
    found = json.loads(out)["found"][0]["found"]
    assert len(found) == 8  # no more than there are
    assert sorted(near["path"] for near in found[:3]) == ["a/0.png", "a/z.png", "b/0.png"]
    assert all(near["distance"] < 1e-4 < found[3]["distance"] for near in found[:3])


def test_colour_is_turned_grey_and_grey_repeated_with_a_note(isthmus, study, place):
    train_one("linear", str(toy(place / "colours.npz", channels=3)), place / "colour", changes=["training.epochs=1"])
    with Image.open("one.png") as image:
        image.convert("RGB").save("red.png")
    for run, query, words in ((study / "runs/vae", "red.png", "turned from colour to grey"),
                              (place / "colour", "one.png", "in grey repeated over 3 channels")):  # fmt: skip
        for command, more in (("search", [query]), ("outliers", []), ("reconstruct", []), ("interpolate", [query])):
            code, _, err = isthmus(command, run, query, *more, "--out", f"{command} {query}")
            assert code == 0, err
            assert f"image{'s' if more else ''} {words}" in err


def test_a_code_with_nan_is_no_end_of_a_way(isthmus, study, place, monkeypatch):
    encode = interpolation.encode_images

    def spoilt(*arguments, **options):
        found = encode(*arguments, **options)
        found.codes[:] = np.nan
        return found

    monkeypatch.setattr(interpolation, "encode_images", spoilt)
    check_refused(isthmus(*call("interpolate", study), "--out", "out"), "All 1 codes of one.png hold NaN")
    assert not (place / "out").exists()


def test_distances_too_large_for_float32_are_null_in_json(isthmus, study, place):
    np.save(place / "far.npy", np.full((3, 3), 1e30, np.float32))
    code, out, err = isthmus(*call("search", study, _3="far.npy"), "--out", "out", "--json")
    assert code == 0, err
    assert "Infinity" not in out
    assert [near["distance"] for near in json.loads(out)["found"][0]["found"]] == [None] * 3


# Pictures of odd names


def test_each_picture_has_a_place_of_its_own():
    places = Places()
    names = ["a", "a.png/b.png", "a.jpg", "a.png", "A.PNG", "c/d.png", "c.png", "c", "c/d.png/e.png", "e.v2"]
    found = [places.of(name) for name in names]
    assert found[:4] == ["a.png", "_a.png/b.png", "a.jpg.png", "a.png.png"]
    assert len({name.casefold() for name in found}) == len(names)
    folders = {parent for name in found for parent in _parents(name)}
    assert folders.isdisjoint(name.casefold() for name in found)
    assert found[-1] == "e.v2.png"


def _parents(name):
    parts = name.casefold().split("/")
    return ["/".join(parts[:i]) for i in range(1, len(parts))]


def test_names_that_are_too_long_to_be_written_are_cut_at_their_front():
    places = Places()
    found = [places.of(f"{'ü' * 180}{i}/{'x' * 240}{i}.png") for i in range(3)]
    assert len(set(found)) == 3
    for i, name in enumerate(found):
        assert all(LONGEST - 8 <= len(part.encode()) <= LONGEST + 4 for part in name.split("/"))
        assert name.endswith(f"{i}.png")
    same = [places.of(f"{i}{'x' * 240}.png") for i in range(3)]
    assert len(set(same)) == 3


def test_long_and_clashing_names_are_decoded_and_reconstructed(isthmus, study, place):
    paths = ["a", "a.png/b", "x" * 250 + ".png", "y" * 500, "c", "d"]
    np.savez(place / "codes.npz", codes=np.load(place / "codes.npy"), paths=np.array(paths))
    code, _, err = isthmus("decode", study / "runs/vae", "codes.npz", "--out", "drawn")
    assert code == 0, err
    assert len([path for path in (place / "drawn/images").rglob("*.png") if path.is_file()]) == 6
    shutil.copy("one.png", place / "photos/a" / ("x" * 250 + ".png"))
    code, _, err = isthmus(*call("reconstruct", study), "--out", "redrawn")
    assert code == 0, err
    assert len(list((place / "redrawn/reconstructed").rglob("*.png"))) == 7


def test_half_characters_in_paths_become_numbers(isthmus, study, place):
    paths = np.array(["\ud800.png", *"bcdef"])
    np.savez(place / "codes.npz", codes=np.load(place / "codes.npy"), paths=paths)
    code, _, err = isthmus("decode", study / "runs/vae", "codes.npz", "--out", "drawn")
    assert code == 0, err
    assert "by number" in err
    assert sorted(path.name for path in (place / "drawn/images").iterdir()) == [f"{i}.png" for i in range(6)]


def test_codes_that_do_not_name_their_model_are_decoded_with_a_note(isthmus, study, place):
    code, _, err = isthmus(*call("decode", study), "--out", "out")
    assert code == 0
    assert "codes.npy does not say which model wrote it: only the size of its codes was checked" in err
    assert isthmus("generate", study / "runs/vae", "-n", 4, "--out", "drawn")[0] == 0
    code, _, err = isthmus("decode", study / "runs/vae", "drawn/codes.npz", "--out", "again")
    assert (code, err) == (0, "")
    train_one("vae", str(study / "toy.npz"), place / "twin", changes=["training.epochs=1", "model.latent_dim=3"])
    refused = isthmus("decode", "twin", "drawn/codes.npz", "--out", "other")
    check_refused(refused, "drawn/codes.npz was written by another model than twin", "Name the run that made them")


# Interruptions, closed pipes, folders that cannot be written


@pytest.mark.parametrize(("command", "name"), [("search", "search"), ("outliers", "find_outliers")])
def test_an_interrupt_before_anything_is_written_leaves_all_as_it_was(
    isthmus, study, place, monkeypatch, command, name
):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    assert isthmus(*call(command, study), "--out", "out")[0] == 0
    before = content(place / "out")
    monkeypatch.setattr(sheets, name, interrupt)
    code, out, err = isthmus(*call(command, study), "--out", "out", "--overwrite")
    assert (code, out, err) == (130, "", "interrupted\n")
    assert content(place / "out") == before
    assert isthmus(*call(command, study), "--out", "new/out")[0] == 130
    assert not (place / "new").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_ctrl_c_while_pictures_are_written_can_be_begun_anew(isthmus, study, place):
    np.save(place / "many.npy", np.zeros((300_000, 3), np.float32))
    process = start("decode", study / "runs/vae", "many.npy", "--out", "out", cwd=place)
    wait_until(lambda: (place / "out/images").is_dir(), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
    check_refused(isthmus(*call("decode", study), "--out", "out"), "add --overwrite")
    assert isthmus(*call("decode", study), "--out", "out", "--overwrite")[0] == 0
    assert len(list((place / "out/images").iterdir())) == 6


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
def test_json_into_a_closed_pipe_is_no_traceback(study, place):
    reading, writing = os.pipe()
    process = start(*call("search", study), "--out", "out", "--json", stdout=writing, cwd=place)
    os.close(reading)
    os.close(writing)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err == ""
    assert (place / "out/table.csv").exists()


def test_a_run_and_a_folder_that_may_not_be_written(isthmus, study, place):
    if not hasattr(os, "geteuid") or os.geteuid() == 0:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", "photos"], capture_output=True)
        if made.returncode:
            pytest.skip("root may write anywhere, and no disk can be mounted")
        shutil.copytree(study / "runs/vae", place / "photos/run")
        subprocess.run(["mount", "-o", "remount,ro", "photos"], check=True)
    else:
        shutil.copytree(study / "runs/vae", place / "photos/run")
        (place / "photos").chmod(0o500)
        (place / "photos/run").chmod(0o500)
    try:
        refused = isthmus("reconstruct", study / "runs/vae", "one.png", "--out", "photos/out")
        check_refused(refused, "Cannot write to photos/out: ", "Choose another --out")
        code, _, err = isthmus("outliers", "photos/run", "one.png", "--by", "density", "--out", "out")
        assert code == 0, err
        assert "the mixture was fitted, and is not kept with the run: Could not write" in err
    finally:
        subprocess.run(["umount", "-l", "photos"], check=False, capture_output=True)
        for path in (place / "photos", place / "photos/run"):
            if path.exists():
                path.chmod(0o700)
