"""Models on a hub: sent to and fetched from a small server of our own that speaks the routes of one."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from isthmus import hub
from isthmus.errors import InputError
from isthmus.model_files import (
    CONFIG,
    DENSITIES,
    FILES,
    TRAINED_ON,
    WEIGHTS,
    read_config,
    read_network,
    read_trained_on,
    write_model,
)
from isthmus.networks.apply import encode
from isthmus.runs import Run

LAB = Path(__file__).parent / "data/version-1/lab"
NAME = "someone/digits-2"


def oid(content: bytes) -> str:
    """What git names a file by."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Server(ThreadingHTTPServer):
    """Repositories of models in memory: (name, branch) -> file name -> content."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[tuple[str, str], dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.cards: list[str] = []
        self.asked: list[str] = []
        self.refuse = 0  # a status that every request gets
        self.reason = ""  # and the code that says why

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def revision(self, name: str, branch: str) -> str:
        content = self.files[name, branch]
        return hashlib.sha1(repr(sorted(content.items())).encode()).hexdigest()

    def find(self, name: str, revision: str) -> dict[str, bytes] | None:
        """The files at a branch or commit."""
        known = [branch for repo, branch in self.files if repo == name]
        return next((self.files[name, b] for b in known if revision in (b, self.revision(name, b))), None)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def answer(self, content: object = None, status: int = 200, **headers: str) -> None:
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)

    def known(self, name: str, revision: str) -> dict[str, bytes] | None:
        """The files asked for; where there are none the request is answered."""
        if not any(repo == name for repo, _ in self.server.files):
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            return None
        found = self.server.find(name, revision)
        if found is None:
            self.answer({"error": "Revision not found"}, 404, X_Error_Code="RevisionNotFound")
        return found

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        self.server.asked.append(f"{self.command} /{'/'.join(parts)}")
        if self.server.refuse:
            return self.answer({"error": "no"}, self.server.refuse, X_Error_Code=self.server.reason)
        if parts[:2] == ["api", "models"]:
            name, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            found = self.known(name, revision)
            if found is not None and parts[4:5] == ["tree"]:
                self.answer([{"type": "file", "path": p, "size": len(c), "oid": oid(c)} for p, c in found.items()])
            elif found is not None:
                branch = next(b for r, b in self.server.files if r == name and self.server.files[r, b] is found)
                siblings = [{"rfilename": file} for file in found]
                facts = {"id": name, "sha": self.server.revision(name, branch), "siblings": siblings}
                self.answer({**facts, "private": name in self.server.private, "tags": [], "downloads": 0, "likes": 0})
            return None
        name, revision, file = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
        found = self.known(name, revision)
        if found is None:
            return None
        if file not in found:
            return self.answer({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
        etag = hashlib.sha256(found[file]).hexdigest()
        return self.answer(found[file], ETag=f'"{etag}"', X_Repo_Commit=revision)

    def do_POST(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        self.server.asked.append(f"POST /{'/'.join(parts)}")
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.refuse:
            return self.answer({"error": "no"}, self.server.refuse, X_Error_Code=self.server.reason)
        if parts[1:] == ["repos", "create"]:
            return self.create(json.loads(raw))
        if parts[1:] == ["validate-yaml"]:
            self.server.cards.append(json.loads(raw)["content"])
            return self.answer({"errors": [], "warnings": []})
        name, verb, branch = "/".join(parts[2:4]), parts[4], parts[5]
        if verb == "branch":
            self.server.files.setdefault((name, branch), {})
            return self.answer({})
        if verb == "preupload":
            paths = [file["path"] for file in json.loads(raw)["files"]]
            return self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})
        for line in map(json.loads, raw.splitlines()):
            if line["key"] == "file":
                value = line["value"]
                self.server.files[name, branch][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del self.server.files[name, branch][line["value"]["path"]]
        commit = self.server.revision(name, branch)
        return self.answer({"commitUrl": f"{self.server.address}/{name}/commit/{commit}", "commitOid": commit})

    def create(self, facts: dict[str, object]) -> None:
        name = f"{facts['organization']}/{facts['name']}"
        url = {"url": f"{self.server.address}/{name}", "id": name}
        if (name, "main") in self.server.files:
            return self.answer({"error": "exists", **url}, 409)
        self.server.files[name, "main"] = {".gitattributes": b""}
        if facts.get("private") or facts.get("visibility") == "private":
            self.server.private.add(name)
        return self.answer(url)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running hub, whose cache is a folder of the test."""
    constants = pytest.importorskip("huggingface_hub.constants", reason="the extra hub is not installed")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in hub.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    running = Server()
    threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.shutdown()
    running.server_close()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder in which something else lies that is nobody's business."""
    folder = Path(shutil.copytree(LAB, tmp_path / "model"))
    (folder / "private notes.txt").write_text("mine")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / WEIGHTS).write_bytes(b"mine")
    return folder


def push(folder: Path, server: Server, name: str = NAME, **options: object) -> str:
    return hub.push_to_hub(folder, name, token="hf_test", endpoint=server.address, **options)


def test_a_model_sent_and_fetched_says_the_same(server: Server, model: Path) -> None:
    assert push(model, server) == f"{server.address}/{NAME}"
    assert sorted(server.files[NAME, "main"]) == sorted([".gitattributes", *FILES])
    for name in FILES:
        assert server.files[NAME, "main"][name] == (model / name).read_bytes()
    found = hub.locate(NAME, endpoint=server.address)
    assert sorted(path.name for path in found.iterdir()) == sorted(FILES)
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 16, 16), dtype=np.uint8)
    assert np.array_equal(encode(read_network(found), images), encode(read_network(model), images))
    assert read_config(found) == read_config(model)


def test_the_card_is_shown_to_the_hub(server: Server, model: Path) -> None:
    push(model, server)
    assert server.cards == [(model / "README.md").read_text(encoding="utf-8")]


def test_only_files_of_a_model_are_fetched(server: Server, model: Path) -> None:
    push(model, server)
    server.files[NAME, "main"]["pytorch_model.bin"] = b"a pickle"
    server.files[NAME, "main"]["sub/config.json"] = b"{}"
    found = hub.locate(NAME, endpoint=server.address)
    assert sorted(path.name for path in found.iterdir()) == sorted(FILES)
    assert not [line for line in server.asked if "pytorch_model.bin" in line or "/sub/" in line]


def test_an_altered_model_of_a_hub_is_refused(server: Server, model: Path) -> None:
    push(model, server)
    content = bytearray(server.files[NAME, "main"][WEIGHTS])
    content[-2] ^= 1
    server.files[NAME, "main"][WEIGHTS] = bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors was altered after it was written"):
        read_network(hub.locate(NAME, endpoint=server.address))


@pytest.mark.parametrize("name", [WEIGHTS, TRAINED_ON, DENSITIES])
@pytest.mark.parametrize("damage", ["altered", "missing"])
def test_a_damaged_model_is_not_sent(server: Server, model: Path, name: str, damage: str) -> None:
    whole = bytearray((model / name).read_bytes())
    whole[-2] ^= 1
    (model / name).unlink()
    if damage == "altered":
        (model / name).write_bytes(whole)
    with pytest.raises(InputError, match=f"{name} (was altered|is missing or cannot be read)"):
        push(model, server)
    assert not server.asked


def test_a_branch_is_a_model_of_its_own(server: Server, model: Path) -> None:
    push(model, server)
    other = LAB.parent / "classifier"
    push(other, server, revision="other", message="another")
    for revision, name in (("other", "classifier"), (None, "lab")):
        assert read_config(hub.locate(NAME, revision=revision, endpoint=server.address)).model.name == name
    with pytest.raises(InputError, match="has the model, but no such revision; leave revision out"):
        hub.locate(NAME, revision="never", endpoint=server.address)


def test_a_run_is_sent_with_its_densities(server: Server, tmp_path: Path) -> None:
    shutil.copytree(LAB, tmp_path / "run/model", ignore=shutil.ignore_patterns(DENSITIES))
    shutil.copy(LAB / DENSITIES, tmp_path / "run")
    Run(tmp_path / "run").push_to_hub(NAME, token="hf_test", endpoint=server.address)
    assert server.files[NAME, "main"][DENSITIES] == (LAB / DENSITIES).read_bytes()


def test_what_is_to_be_private_is_never_shown_to_all(server: Server, model: Path) -> None:
    push(model, server, name="someone/secret", private=True)
    assert "someone/secret" in server.private
    push(model, server)
    before = dict(server.files[NAME, "main"])
    (model / "README.md").write_text("changed")
    with pytest.raises(InputError, match="exists already and is public, so the model would be too; make it private"):
        push(model, server, private=True)
    assert server.files[NAME, "main"] == before


def test_an_id_that_does_not_exist_is_named(server: Server) -> None:
    with pytest.raises(
        InputError, match=r"'no/such' is no folder of this machine, nor can it be fetched: http://"
    ) as e:
        hub.locate("no/such", endpoint=server.address)
    assert "knows no such model, or keeps it from you" in str(e.value)
    assert "Check the name" in str(e.value)
    assert "`hf auth login`" in str(e.value)


@pytest.mark.parametrize(("status", "words"), [(401, "log in with `hf auth login`"), (403, "keeps it from you")])
def test_who_may_not_send_is_told_how_to_log_in(server: Server, model: Path, status: int, words: str) -> None:
    server.refuse = status
    with pytest.raises(InputError, match=f"could not be sent to {NAME}: .*{words}"):
        push(model, server)


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (403, "GatedRepo", "its owner gives it only to those who ask; ask for it at http://"),
        (401, "", "knows no such model, or keeps it from you"),
        (500, "", "not in the hub's cache. The hub is http://.* It answered with status 500: try again later"),
    ],
)
def test_a_hub_that_refuses_is_quoted(server: Server, status: int, reason: str, words: str) -> None:
    server.refuse, server.reason = status, reason
    with pytest.raises(InputError, match=words):
        hub.locate(NAME, endpoint=server.address)


def test_densities_of_an_earlier_model_do_not_stay(server: Server, model: Path, tmp_path: Path) -> None:
    push(model, server)
    config = read_config(model)
    write_model(tmp_path / "plain", read_network(model), config, trained_on=read_trained_on(model))
    push(tmp_path / "plain", server)
    assert sorted(server.files[NAME, "main"]) == sorted({".gitattributes", *FILES} - {DENSITIES})


def test_a_hub_without_the_model_of_isthmus_is_named(server: Server) -> None:
    server.files[NAME, "main"] = {"pytorch_model.bin": b"a pickle"}
    with pytest.raises(
        InputError, match=r"someone/digits-2 holds no model of Isthmus \(there is no config.json in it\)"
    ):
        hub.locate(NAME, endpoint=server.address)


@pytest.mark.parametrize("variable", hub.OFFLINE)
def test_offline_takes_the_cache_and_never_asks(server: Server, model: Path, monkeypatch, variable: str) -> None:
    push(model, server)
    online = hub.locate(NAME, endpoint=server.address)
    asked = list(server.asked)
    monkeypatch.setenv(variable, "1")
    assert hub.locate(NAME, endpoint=server.address) == online
    with pytest.raises(InputError, match=f"'no/such' .* not in the hub's cache. {variable} forbids to fetch it: unset"):
        hub.locate("no/such", endpoint=server.address)
    with pytest.raises(InputError, match=f"{variable} is set, so nothing is sent to someone/digits-2: unset it"):
        push(model, server)
    assert server.asked == asked


def test_no_connection_takes_the_cache_or_says_so(server: Server, model: Path) -> None:
    push(model, server)
    online = hub.locate(NAME, endpoint=server.address)
    server.shutdown()
    server.server_close()
    assert hub.locate(NAME, endpoint=server.address) == online
    with pytest.raises(
        InputError, match=r"not in the hub's cache. The hub is http://127.* There is no connection to it: try again"
    ):
        hub.locate("no/such", endpoint=server.address)
    with pytest.raises(InputError, match=r"could not be sent to .*: there is no connection to http://127"):
        push(model, server)


@pytest.mark.parametrize("variable", hub.OFFLINE)
def test_offline_without_the_package_says_what_forbids_it(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv(variable, "1")
    with pytest.raises(
        InputError, match=f"huggingface_hub, which has a cache, is missing. {variable} forbids to fetch it"
    ):
        hub.locate(NAME)


def test_a_local_folder_needs_no_hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    shutil.copytree(LAB, tmp_path / "run/model")
    assert hub.locate(model) == hub.locate(str(model)) == model
    assert hub.locate(tmp_path / "run") == tmp_path / "run/model"
    with pytest.raises(InputError, match=r"revision='v2' belongs to a model on a hub; .* is a folder: leave it out"):
        hub.locate(model, revision="v2")
    with pytest.raises(InputError, match=r"holds no model \(there is no config.json in it\); name the folder of one"):
        hub.locate(model / "checkpoints")


def test_a_missing_package_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in hub.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (lambda: hub.locate(NAME), lambda: hub.push_to_hub(model, NAME)):
        with pytest.raises(InputError, match=r"needs the package huggingface_hub: `pip install 'isthmus\[hub\]'`"):
            call()


LONG = "x" * 96
FORBIDDEN = [
    "a/b--c",
    "a--b/c",
    "a/b..c",
    "a/b.git",
    "a/b.",
    "a/b-",
    "a./b",
    "a-/b",
    f"a/{LONG}x",
    f"{LONG}x/a",
    "a/b\n",
]


@pytest.mark.parametrize(
    "source", [Path("no/such"), "nothing", "./no/such", "a/b/c", "C:\\models\\x", "", "../x/y", "-a/b", *FORBIDDEN]
)
def test_what_is_neither_a_folder_nor_an_id_is_refused(source: str | Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    if source == "":  # the folder one stands in, as pathlib has it
        with pytest.raises(InputError, match="holds no model"):
            hub.locate(source)
        return
    with pytest.raises(InputError, match=r"is neither a folder of this machine nor OWNER/NAME on a hub; name the"):
        hub.locate(source)


@pytest.mark.parametrize("name", ["a/b", "a/b_", "A.b-c_d/1.2-3_4", f"{LONG}/{LONG}", "a/b.gitx", "a/git", "a/b-_c"])
def test_what_the_hub_takes_as_an_id_is_one(name: str) -> None:
    validators = pytest.importorskip("huggingface_hub.utils", reason="the extra hub is not installed")
    validators.validate_repo_id(name)
    assert hub.HUB_ID.fullmatch(name)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_the_hub_forbids_as_an_id_is_none(name: str) -> None:
    validators = pytest.importorskip("huggingface_hub.utils", reason="the extra hub is not installed")
    with pytest.raises(ValueError, match="id"):
        validators.validate_repo_id(name)
    assert not hub.HUB_ID.fullmatch(name)


@pytest.mark.parametrize("name", ["digits", "a/b/c", "a b/c", "", "someone/", *FORBIDDEN])
def test_an_id_that_is_none_is_refused(name: str, model: Path) -> None:
    with pytest.raises(InputError, match="is no id of a hub; write OWNER/NAME, for example your-name/digits: each at"):
        hub.push_to_hub(model, name)
    assert read_config(model).format_version == 1
    assert (model / CONFIG).exists()
