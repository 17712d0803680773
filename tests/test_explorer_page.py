"""The explorer's page in a real browser: it computes what PyTorch computes, asks nobody else, and is never blank."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import browser as chromium
from browser import Tab, browser
from explorer_runs import array_of, cells_of, manifest_of, needs_onnx, pictures, real_page, trained
from isthmus.data.degrade import Mask, add_noise
from isthmus.explorer.bundle import Source, build
from isthmus.explorer.serve import serving
from isthmus.explorer.single import single_file
from isthmus.inverse.map import restore
from isthmus.latent.sampling import density_of
from isthmus.networks.apply import encode
from isthmus.networks.autoencoder import Autoencoder
from isthmus.networks.variational import VAE
from isthmus.runs import Run

pytestmark = [pytest.mark.slow, pytest.mark.browser, needs_onnx]

GREY, COLOUR = (1, 16, 16), (3, 20, 33)
SIGMA = 0.2
# What Chromium says of itself where there is no graphics card.
SOFTWARE = ("fallback to software WebGL", "GL Driver Message")


class Watched:
    """What a page asked for, and what its console said, since the last `clear`."""

    def __init__(self, tab: Tab):
        self.requests: list[str] = []
        self.failed: list[str] = []
        self.said: list[str] = []
        read = tab._next

        def watching() -> dict[str, Any]:
            message = read()
            self._take(message.get("method"), message.get("params", {}))
            return message

        tab._next = watching  # type: ignore[method-assign]
        for domain in ("Network", "Log", "Runtime"):
            tab.call(f"{domain}.enable")

    def clear(self) -> None:
        for each in (self.requests, self.failed, self.said):
            each.clear()

    def _take(self, method: str | None, facts: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(facts["request"]["url"])
        elif method == "Network.loadingFailed":
            self.failed.append(facts["errorText"])
        elif method == "Log.entryAdded" and not any(words in facts["entry"]["text"] for words in SOFTWARE):
            self.said.append(facts["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(facts["exceptionDetails"]))


@pytest.fixture(scope="module", autouse=True)
def _ready() -> None:
    chromium.chromium()
    real_page()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vae of grey images with a classifier beside it, and an autoencoder of colour images without classes."""
    folder = tmp_path_factory.mktemp("study")
    grey = pictures(folder / "grey.npz", GREY, count=300)
    epochs = ("training.epochs=8", "training.batch_size=16")
    trained("vae", grey, folder / "runs/vae", "model.latent_dim=4", "model.width=4", "model.units=16", *epochs)
    trained("classifier", grey, folder / "runs/classifier")
    (folder / "study.toml").write_text("")
    colour = pictures(folder / "colour.npz", COLOUR, labels=False)
    trained("strong", colour, folder / "colour", "model.latent_dim=2", "model.hidden=[20,10]")
    return folder


@pytest.fixture(scope="module")
def made(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Their explorers."""
    folder = tmp_path_factory.mktemp("made")
    sources = {"vae": runs / "runs/vae", "classifier": runs / "runs/classifier", "colour": runs / "colour"}
    for name, run in sources.items():
        build(Source(run), folder / name)
    return {name: folder / name for name in sources}


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        tab.open("about:blank#")
        yield tab


@pytest.fixture(scope="module")
def watched(tab: Tab) -> Watched:
    return Watched(tab)


@contextmanager
def shown(tab: Tab, folder: Path, name: str = "") -> Iterator[str]:
    """The explorer of a folder, served and ready; its address."""
    with serving(folder) as server:
        tab.open(f"{server.address}{name}")
        tab.ask("isthmus.ready")
        yield server.address


def asked(tab: Tab, call: str, *values: Any) -> np.ndarray[Any, Any]:
    """What a function of the page answers, as an array of float32."""
    given = ", ".join(json.dumps(value) for value in values)
    return np.array(tab.ask(f"isthmus.{call}({given}).then(found => Array.from(found))"), np.float32)


def network_of(run: Path) -> VAE | Autoencoder:
    network = Run(run).network()
    assert isinstance(network, VAE | Autoencoder)
    return network


# It computes what PyTorch computes.


@pytest.mark.parametrize(("name", "run"), [("vae", "runs/vae"), ("colour", "colour")])
def test_decoded_pixels_and_codes_are_those_of_torch(
    tab: Tab, made: dict[str, Path], runs: Path, name: str, run: str
) -> None:
    network, folder = network_of(runs / run), made[name]
    codes = np.random.default_rng(0).normal(size=(100, network.latent_dim)).astype(np.float32)
    with torch.inference_mode():
        expected = network.decode(torch.from_numpy(codes)).numpy()
    images = cells_of(folder)[:20].astype(np.float32) / 255
    with shown(tab, folder):
        found = asked(tab, "decode", codes.tolist()).reshape(expected.shape)
        encoded = asked(tab, "encode", images.reshape(len(images), -1).tolist()).reshape(len(images), -1)
    assert np.abs(found - expected).max() <= 1e-4
    np.testing.assert_allclose(encoded, encode(network, images), atol=1e-4)
    np.testing.assert_allclose(encoded, array_of(folder, "codes.bin", "<f4", network.latent_dim)[:20], atol=1e-4)


def test_classes_are_those_of_torch(tab: Tab, made: dict[str, Path], runs: Path) -> None:
    network: Any = Run(runs / "runs/classifier").network()
    images = cells_of(made["vae"])[:20].astype(np.float32) / 255
    with torch.inference_mode():
        expected = network.probabilities(torch.from_numpy(images)).numpy()
    with shown(tab, made["vae"]):
        found = asked(tab, "classify", images.reshape(len(images), -1).tolist())
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-4)


@pytest.mark.parametrize("prior", ["normal", "gaussian", "mixture"])
@pytest.mark.parametrize("hidden", [False, True])
def test_map_in_the_page_is_as_good_as_ours(
    tab: Tab, made: dict[str, Path], runs: Path, prior: str, hidden: bool
) -> None:
    """Within 1 % of the objective of `isthmus.inverse.map`, and the objective is the one ours would compute there."""
    run = Run(runs / "runs/vae")
    network = network_of(run.folder)
    density, _ = density_of(run, network, prior)
    clean = torch.from_numpy(cells_of(made["vae"])[:4].astype(np.float32) / 255)
    measured = add_noise(clean, SIGMA, generator=torch.Generator().manual_seed(0))
    seen = torch.ones(len(clean), 1, 16, 16)
    if hidden:
        seen[:, :, 4:12, 6:14] = 0
    mask = Mask(seen.bool())
    measured = mask.apply(measured)
    ours = restore(network, measured, sigma=SIGMA, degradation=mask, prior=density, solver="lm")
    with shown(tab, made["vae"]):
        for i in range(len(clean)):
            request = {
                "measured": measured[i].flatten().tolist(),
                "seen": seen[i].flatten().tolist(),
                "sigma": SIGMA,
                "prior": prior,
                "start": encode(network, mask.take(slice(i, i + 1)).guess(measured[i : i + 1]))[0].tolist(),
            }
            found = tab.ask(f"isthmus.map({json.dumps(request)})")
            codes = torch.tensor(found["code"])[None]
            with torch.inference_mode():
                apart = (mask.take(slice(i, i + 1)).apply(network.decode(codes)) - measured[i : i + 1]).square().sum()
            value = float(apart / (2 * SIGMA**2) - density.log_prob(codes.double())[0])
            assert found["objective"] == pytest.approx(value, rel=1e-3, abs=1e-2)
            best = float(ours.objective[i])
            assert found["objective"] <= best + 0.01 * abs(best)
            assert found["path"][0] == pytest.approx(float(ours.start[i]), rel=1e-3)
            assert found["path"] == sorted(found["path"], reverse=True)


@pytest.mark.parametrize("prior", ["normal", "gaussian", "mixture"])
def test_densities_are_those_of_the_run(tab: Tab, made: dict[str, Path], runs: Path, prior: str) -> None:
    run = Run(runs / "runs/vae")
    codes = array_of(made["vae"], "codes.bin", "<f4", 4)[:30]
    density, _ = density_of(run, network_of(run.folder), prior)
    with shown(tab, made["vae"]):
        found = tab.ask(f"isthmus.logProb({json.dumps(prior)}, {json.dumps(codes.tolist())})")
    np.testing.assert_allclose(found, density.log_prob(torch.tensor(codes).double()), rtol=1e-6)


# It asks nobody else.


def everything(tab: Tab, codes: list[list[float]]) -> None:
    """Use all that reads or computes."""
    tab.ask("isthmus.ready")
    asked(tab, "decode", codes)
    asked(tab, "classify", np.zeros((1, 256)).tolist())
    assert tab.ask(f"isthmus.map({json.dumps({'measured': [0.5] * 256, 'sigma': 0.2})})")["path"]
    assert tab.ask("isthmus.turn(3)")["framesPerSecond"] > 0
    assert tab.ask("isthmus.png()").startswith("data:image/png;base64,")
    tab.frames()


def test_no_other_host_is_ever_asked_and_nothing_is_refused(tab: Tab, watched: Watched, made: dict[str, Path]) -> None:
    watched.clear()
    with shown(tab, made["vae"]) as address:
        everything(tab, [[0.0] * 4])
        allowed = (address, "data:", "blob:")
        assert [each for each in watched.requests if not each.startswith(allowed)] == []
        asked_for = {each.removeprefix(address) for each in watched.requests}
        names = set(manifest_of(made["vae"])["files"])
        assert asked_for >= names  # everything that was exported is used
    assert (watched.failed, watched.said) == ([], [])


@pytest.fixture
def alone(tab: Tab) -> Iterator[None]:
    """A browser without a network."""
    blocked = ["http://*", "https://*", "ws://*", "wss://*"]
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    tab.call("Network.enable")
    tab.call("Network.setBlockedURLs", urls=blocked)
    tab.call("Network.emulateNetworkConditions", **offline)
    yield
    tab.call("Network.setBlockedURLs", urls=[])
    tab.call(
        "Network.emulateNetworkConditions",
        **(offline | {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1}),
    )


def test_the_single_file_works_from_disk_without_a_network(
    tab: Tab, watched: Watched, made: dict[str, Path], runs: Path, tmp_path: Path, alone: None
) -> None:
    path = tmp_path / "an explorer ü.html"
    path.write_bytes(single_file(made["vae"]))
    watched.clear()
    tab.open(path.as_uri())
    network = network_of(runs / "runs/vae")
    codes = np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32)
    everything(tab, codes.tolist())
    with torch.inference_mode():
        expected = network.decode(torch.from_numpy(codes)).numpy()
    assert np.abs(asked(tab, "decode", codes.tolist()).reshape(expected.shape) - expected).max() <= 1e-4
    assert [each for each in watched.requests if not each.startswith(("data:", "blob:"))] == [path.as_uri()]
    assert (watched.failed, watched.said) == ([], [])


INJECTED = """new Promise(done => {
  const refused = [];
  addEventListener("securitypolicyviolation", event => refused.push(event.effectiveDirective));
  const script = document.createElement("script");
  script.textContent = "window.injected = true";
  document.body.append(script);
  const image = new Image();
  image.src = "http://127.0.0.2:9/a.png";
  const style = document.createElement("style");
  style.textContent = "body { color: red }";
  document.body.append(style);
  fetch("http://127.0.0.2:9/").catch(() => {
    let evaluated = true;
    try { (0, Function)("return 1")(); } catch { evaluated = false; }
    setTimeout(() => done([window.injected ?? null, evaluated, refused.sort()]), 100);
  });
})"""


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_the_policy_is_held_to(tab: Tab, made: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """No script that was put in, no style, no picture and no word from elsewhere, no text run as a program."""
    with shown(tab, made["vae"]) as address:
        if kind == "file":
            (tmp_path / "page.html").write_bytes(single_file(made["vae"]))
            address = (tmp_path / "page.html").as_uri()
            tab.open(address)
            tab.ask("isthmus.ready")
        parameters = {"returnByValue": True, "awaitPromise": True, "allowUnsafeEvalBlockedByCSP": False}
        found = tab.call("Runtime.evaluate", expression=INJECTED, **parameters)
    injected, evaluated, refused = found["result"]["value"]
    assert (injected, evaluated) == (None, False)
    assert set(refused) == {"script-src-elem", "script-src", "style-src-elem", "img-src", "connect-src"}


# It is never blank.


def words(tab: Tab) -> str:
    return str(tab.ask("document.body.innerText"))


def damaged(folder: Path, place: Path, name: str, change: Callable[[bytes], bytes] | None) -> Path:
    """A copy of an explorer with one file changed, or without it."""
    shutil.copytree(folder, place)
    if change is None:
        (place / name).unlink()
    else:
        (place / name).write_bytes(change((place / name).read_bytes()))
    return place


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def altered(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("data/decoder.onnx", half, "data/decoder.onnx has"),
        ("data/decoder.onnx", altered, "data/decoder.onnx is not the file that was exported"),
        ("data/codes.bin", half, "data/codes.bin has"),
        ("data/codes.bin", None, "data/codes.bin is missing"),
        ("data/density.json", altered, "data/density.json is not JSON"),
        ("data/manifest.json", None, "data/manifest.json is missing"),
        ("data/manifest.json", half, "data/manifest.json is not JSON"),
        ("data/sprites-000.png", half, "data/sprites-000.png has"),
        ("assets/ort-wasm-simd-threaded.wasm", None, "ort-wasm-simd-threaded.wasm is missing"),
    ],
)
def test_a_damaged_file_is_said_by_name(
    tab: Tab, made: dict[str, Path], tmp_path: Path, name: str, change: Callable[[bytes], bytes] | None, sentence: str
) -> None:
    folder = damaged(made["vae"], tmp_path / "copy", name, change)
    with serving(folder) as server:
        tab.open(server.address)
        tab.wait(f"document.body.innerText.includes({json.dumps(sentence)})")
        assert "export" in words(tab)


def test_a_model_that_is_cut_short_and_stamped_anew_is_said(tab: Tab, made: dict[str, Path], tmp_path: Path) -> None:
    """Where the stamps agree, ONNX Runtime itself refuses it."""
    folder = damaged(made["vae"], tmp_path / "copy", "data/decoder.onnx", half)
    manifest = manifest_of(folder)
    stamp = {"bytes": (folder / "data/decoder.onnx").stat().st_size, "sha256": ""}
    manifest["files"]["data/decoder.onnx"] |= stamp
    manifest["parts"]["decoder"] |= stamp
    (folder / "data/manifest.json").write_text(json.dumps(manifest))
    with serving(folder) as server:
        tab.open(server.address)
        tab.wait("document.body.innerText.includes('data/decoder.onnx cannot be run')")


def png(path: Path, size: tuple[int, int]) -> bytes:
    """A picture of random pixels, as the bytes of a file."""
    pixels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("letter.png", "letter.png is no picture this page can read"),
        ("huge.png", "huge.png has 10000 × 10000 pixels, 100 megapixels, and at most 64 are read"),
        ("cut.png", "cut.png begins like a PNG file and cannot be decoded: it is damaged"),
        ("good.png", "good.png"),
    ],
)
def test_a_file_that_is_given_is_shown_or_its_fault_is_said(
    tab: Tab, made: dict[str, Path], tmp_path: Path, name: str, sentence: str
) -> None:
    content = png(tmp_path / name, (40, 30))
    header = struct.pack(">II", 10_000, 10_000)
    changed = {"letter.png": b"Dear reader", "huge.png": content[:16] + header + content[24:], "cut.png": content[:200]}
    (tmp_path / name).write_bytes(changed.get(name, content))
    with shown(tab, made["vae"]):
        tab.ask("[...document.querySelectorAll('button')].find(each => each.textContent === 'Yours').click()")
        field = tab.call("Runtime.evaluate", expression="document.querySelector('input[type=file]')")
        tab.call("DOM.setFileInputFiles", files=[str(tmp_path / name)], objectId=field["result"]["objectId"])
        tab.wait(f"document.body.innerText.includes({json.dumps(sentence)})")


def test_a_run_without_codes_shows_what_there_is(tab: Tab, made: dict[str, Path]) -> None:
    with shown(tab, made["classifier"]):
        tab.wait("document.body.innerText.includes('it has no codes')")
        images = cells_of(made["classifier"])[:2].astype(np.float32) / 255
        found = asked(tab, "classify", images.reshape(2, -1).tolist()).reshape(2, 3)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
        assert tab.ask("isthmus.decode([[0]]).then(() => '', error => error.message)") != ""


def test_what_is_missing_is_said(tab: Tab, made: dict[str, Path]) -> None:
    missing = manifest_of(made["colour"])["missing"]
    assert len(missing) >= 2
    with shown(tab, made["colour"]):
        for line in missing:
            assert line in tab.ask("document.body.textContent")


def test_a_browser_without_webassembly_is_told(made: dict[str, Path], tmp_path: Path) -> None:
    with browser(tmp_path / "profile") as tab, serving(made["vae"]) as server:
        tab.open("about:blank#")
        tab.call("Page.enable")
        tab.call("Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.WebAssembly")
        tab.open(server.address)
        tab.wait("document.body.innerText.includes('WebAssembly is switched off')")
        assert tab.ask("isthmus.turn(2)")["framesPerSecond"] > 0  # the map needs none of it


def test_a_browser_without_webgl_is_told_and_draws_all_the_same(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chromium, "FLAGS", [*chromium.FLAGS, "--disable-3d-apis"])
    with browser(tmp_path / "profile") as tab, shown(tab, made["vae"]):
        tab.wait("document.body.innerText.includes('WebGL is switched off')")
        assert tab.ask("isthmus.turn(2)")["framesPerSecond"] > 0


def test_a_page_opened_from_disk_without_a_server_says_so(tab: Tab, made: dict[str, Path]) -> None:
    """Browsers give no file to a page that was itself read from disk."""
    tab.open((made["vae"] / "index.html").as_uri())
    tab.wait("document.body.innerText.includes('--single-file')")
