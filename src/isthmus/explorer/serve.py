"""A server for one folder, for the person at this machine alone.

It binds 127.0.0.1, answers GET and HEAD, and only requests that name it as their host: a page of elsewhere whose name
was made to lead here (DNS rebinding) does not. Nothing outside of the folder is given, not by dots and not by links;
folders are not listed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any, BinaryIO
from urllib.parse import unquote

from isthmus.errors import InputError
from isthmus.explorer.page import INDEX
from isthmus.explorer.policy import folder_policy

ADDRESS = "127.0.0.1"
IDLE = 60.0  # seconds after which a connection that asks nothing is closed
OTHER = "application/octet-stream"
TYPES = {  # a table of our own: that of the system may know no wasm, or call scripts text/plain
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": f"{folder_policy()}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",  # the next explorer may have the same address
}


class Server(ThreadingHTTPServer):
    """Serves a folder on 127.0.0.1. Arguments: port: 0 for a free one.

    Raises: InputError if the port is taken or cannot be had.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would let two servers share a port

    def __init__(self, folder: Path, port: int = 0):
        if not 0 <= port < 2**16:
            raise InputError(f"--port is a number from 0, for any free one, to {2**16 - 1}; got {port}.")
        self.folder = os.path.realpath(folder)
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            raise InputError(
                f"Port {port} of {ADDRESS} cannot be had ({error.strerror or error}); choose another --port, or leave "
                f"it out for a free one."
            ) from error

    @property
    def port(self) -> int:
        """The port it listens at."""
        return int(self.server_address[1])

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{ADDRESS}:{self.port}/"

    def hosts(self) -> set[str]:
        """What a browser that was told our address calls us."""
        names = (ADDRESS, "localhost")
        return {f"{name}:{self.port}" for name in names} | ({*names} if self.port == 80 else set())

    def server_bind(self) -> None:
        """Bind without asking a name server what we are called, as the standard library's would."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = ADDRESS, self.port

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """A browser that goes away in the middle of an answer is no failure; anything else is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE

    def do_GET(self) -> None:
        """A file, or a sentence on why there is none."""
        self._answer()

    def do_HEAD(self) -> None:
        """What GET would say of a file, without it."""
        self._answer()

    def parse_request(self) -> bool:
        """Read the request; one for another host, or to do anything but read, is refused here."""
        if not super().parse_request():
            return False
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts():
            self._refuse(HTTPStatus.FORBIDDEN, f"This server answers to {self.server.address} only.")
            return False
        if self.command not in ("GET", "HEAD"):
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "This server is for reading: GET and HEAD.", Allow="GET, HEAD")
            return False
        return True

    def end_headers(self) -> None:
        """With every answer, what the page may do."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def version_string(self) -> str:
        """What answers, without the version of anything."""
        return "isthmus"

    def log_message(self, format: str, *args: Any) -> None:
        """Not a word: the terminal is for the person."""

    def _answer(self) -> None:
        found = find_file(self.server.folder, self.path)
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND, "There is no such file here.")
            return
        with found as file:
            self._head(HTTPStatus.OK, TYPES.get(Path(file.name).suffix.lower(), OTHER), os.fstat(file.fileno()).st_size)
            if self.command == "GET":
                self.connection.sendfile(file)

    def _refuse(self, status: HTTPStatus, sentence: str, **headers: str) -> None:
        content = f"{sentence}\n".encode()
        self.close_connection = True  # what else was sent with the request is not read as another
        self._head(status, TYPES[".txt"], len(content), **headers, Connection="close")
        if self.command != "HEAD":
            self.wfile.write(content)

    def _head(self, status: HTTPStatus, kind: str, size: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(size), **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def find_file(folder: str, target: str) -> BinaryIO | None:
    """Open the file of a folder that a request names, None if there is none or it lies elsewhere.

    Arguments: folder: its real path. target: of the request, such as "/assets/explorer.js?1".
    """
    name = unquote(target.partition("?")[0].partition("#")[0])
    parts = [INDEX] if name == "/" else name.removeprefix("/").split("/")
    if not name.startswith("/") or any(part in ("", ".", "..") or set(part) & set("\\:\0") for part in parts):
        return None
    path = os.path.realpath(os.path.join(folder, *parts))
    if not path.startswith(folder.rstrip(os.sep) + os.sep) or not os.path.isfile(path):
        return None
    try:
        return open(path, "rb")
    except OSError:  # it has gone, or may not be read
        return None


@contextlib.contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[Server]:
    """A server that answers in a thread of its own until the block ends. Raises: what `Server` raises."""
    with Server(folder, port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
