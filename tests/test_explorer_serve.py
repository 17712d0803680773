"""The server: one folder, to this machine alone, and nothing beside it."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer_runs import stand_in
from isthmus.errors import InputError
from isthmus.explorer.policy import folder_policy
from isthmus.explorer.serve import Server, find_file, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page, links from it to within and without, and a secret beside it."""
    folder = stand_in(tmp_path_factory.mktemp("place") / "page")
    (folder.parent / "secret.txt").write_text("secret")
    (folder.parent / "page-2").mkdir()
    (folder.parent / "page-2/secret.txt").write_text("secret")
    (folder / "inner.js").symlink_to("assets/explorer.js")
    (folder / "outer.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "up").symlink_to(folder.parent, target_is_directory=True)
    (folder / "ring").symlink_to("ring")
    (folder / "a name ü.JSON").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with serving(folder) as server:
        yield server


Answer = tuple[int, dict[str, str], bytes]


def ask(server: Server, path: str, *, method: str = "GET", host: str | None = None, body: bytes = b"") -> Answer:
    """Status, headers and content; the path is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", f"127.0.0.1:{server.port}" if host is None else host)
    if body:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    found = (answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    connection.close()
    return found


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/", "index.html", "text/html; charset=utf-8"),
        ("/index.html?view=3#x", "index.html", "text/html; charset=utf-8"),
        ("/assets/explorer.js", "assets/explorer.js", "text/javascript; charset=utf-8"),
        ("/assets/run.wasm", "assets/run.wasm", "application/wasm"),
        ("/assets/explorer.css", "assets/explorer.css", "text/css; charset=utf-8"),
        ("/inner.js", "assets/explorer.js", "text/javascript; charset=utf-8"),
        ("/a%20name%20%C3%BC.JSON", "a name ü.JSON", "application/json"),
    ],
)
def test_files_are_given_with_their_type_and_the_policy(
    server: Server, folder: Path, path: str, name: str, kind: str
) -> None:
    status, headers, content = ask(server, path)
    assert (status, content) == (200, (folder / name).read_bytes())
    assert headers["content-type"] == kind
    assert headers["content-length"] == str(len(content))
    assert headers["content-security-policy"] == f"{folder_policy()}; frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["server"] == "isthmus"
    head = ask(server, path, method="HEAD")
    assert (head[0], head[2]) == (200, b"")
    assert head[1]["content-length"] == str(len(content))


@pytest.mark.parametrize(
    "path",
    [
        "/none.js",
        "/assets",
        "/assets/",
        "/data/",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/assets/..%2f../secret.txt",
        "/..%5csecret.txt",
        "/./index.html",
        "//index.html/..",
        "/outer.txt",
        "/up/secret.txt",
        "/ring",
        "/%00",
        "/index.html%00.js",
        "/c:/index.html",
        "/index.html/x",
        "http://127.0.0.1/index.html",
        "*",
    ],
)
def test_nothing_else_is_given_and_folders_are_not_listed(server: Server, path: str) -> None:
    status, headers, content = ask(server, path)
    assert (status, content) == (404, b"There is no such file here.\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert "content-security-policy" in headers


def test_a_folder_beside_it_of_a_longer_name_is_not_given(folder: Path) -> None:
    (folder / "beside").symlink_to(folder.parent / "page-2", target_is_directory=True)
    assert find_file(str(folder), "/beside/secret.txt") is None


@pytest.mark.skipif(os.name == "nt" or not os.getuid(), reason="root reads every file")
def test_a_file_that_may_not_be_read_is_not_there(server: Server, folder: Path) -> None:
    (folder / "closed.txt").write_text("")
    (folder / "closed.txt").chmod(0)
    assert ask(server, "/closed.txt")[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{port}", ""])
def test_another_host_is_refused(server: Server, host: str) -> None:
    status, _, content = ask(server, "/", host=host.format(port=server.port))
    assert (status, content) == (403, f"This server answers to {server.address} only.\n".encode())


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}"])
def test_the_names_of_this_machine_are_answered(server: Server, host: str) -> None:
    assert ask(server, "/", host=host.format(port=server.port))[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "PATCH"])
def test_it_is_for_reading_only(server: Server, method: str) -> None:
    status, headers, content = ask(server, "/", method=method, body=b"GET / HTTP/1.1\r\n\r\n")
    assert (status, headers["allow"]) == (405, "GET, HEAD")
    assert content == b"This server is for reading: GET and HEAD.\n"
    assert headers["connection"] == "close"


@pytest.mark.parametrize(
    "request_", [b"GET / HTTP/1.1\r\n\r\n", b"GET /\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"]
)
def test_a_request_that_names_no_host_or_two_is_refused(server: Server, request_: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request_)
        answer = connection.makefile("rb").read()
    assert b"This server answers to" in answer
    assert b"<main>" not in answer


def test_a_reader_that_goes_away_is_no_failure(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
    assert ask(server, "/")[0] == 200
    assert capfd.readouterr().err == ""


def test_it_listens_on_loopback_alone(server: Server) -> None:
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert server.address == f"http://127.0.0.1:{server.port}/"


def test_a_port_that_cannot_be_had_is_said(server: Server, folder: Path) -> None:
    with pytest.raises(
        InputError, match=rf"Port {server.port} of 127\.0\.0\.1 cannot be had .*another --port, or leave"
    ):
        Server(folder, server.port)
    for port in (-1, 2**16):
        with pytest.raises(InputError, match=rf"--port is a number from 0, for any free one, to 65535; got {port}"):
            Server(folder, port)
