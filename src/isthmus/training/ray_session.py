"""A connection to Ray: to the cluster that RAY_ADDRESS names, or to one started on this machine and ended again.

To a cluster the package itself is sent along as a working directory, so that it need not be installed there. One that
is started here belongs to this process alone: it is kept by a token of its own, and nothing is written to the home.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from isthmus.errors import InputError, IsthmusError

ADDRESS, MODE, TOKEN, TOKEN_PATH = "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what `ray job submit` gives its program
PATIENCE = 5.0  # seconds for a cluster to take a connection
UNUSED = shutil.ignore_patterns("__pycache__", "static")  # of the package, by a worker


@contextlib.contextmanager
def connected(cpus: int) -> Iterator[Any]:
    """The module ray, connected; what was started here is ended at the end.

    Arguments: cpus: of a cluster that is started here. A program that has called ray.init stays connected as it is.
    Raises: InputError if Ray is not installed, or the cluster does not answer or refuses us; IsthmusError if none can
    be started here.
    """
    ray = _ray()
    if ray.is_initialized():
        yield ray
        return
    address = os.environ.get(ADDRESS, "")
    try:
        with _signals_kept():
            if address:
                _join(ray, address)
            else:
                _start(ray, cpus)
        yield ray
    finally:
        ray.shutdown()


def _ray() -> Any:
    """The module. What is set here it reads when it is imported, and whoever runs this may set it otherwise."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports nothing of its use
    if os.environ.get(ADDRESS):  # a cluster that runs answers at once, or it refuses
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise InputError(
            'The engine ray needs a package that is not installed: `pip install "isthmus[ray]"`, or take the engine '
            "process."
        ) from error


def _start(ray: Any, cpus: int) -> None:
    before = {name: os.environ.get(name) for name in (MODE, TOKEN)}
    if not any(os.environ.get(name) for name in (MODE, TOKEN, TOKEN_PATH)):
        os.environ[TOKEN] = _own_token()  # the mode is left to Ray, which reads it again only where it is not set
    try:
        ray.init("local", num_cpus=cpus, include_dashboard=False, **_quiet())
    except (ConnectionError, RuntimeError, OSError, ray.exceptions.RayError) as error:
        raise IsthmusError(
            f"A Ray cluster could not be started on this machine ({first_line(error)}); its logs are in /tmp/ray. The "
            f"engine process needs none."
        ) from error
    finally:  # its processes have it by now
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


@cache
def _own_token() -> str:
    """The same for every cluster of this process, since Ray reads it once."""
    return secrets.token_hex(32)


def _join(ray: Any, address: str) -> None:
    _check_answers(address)
    exceptions = ray.exceptions
    try:
        with _package() as folder:
            ray.init(address, runtime_env=folder and {"working_dir": folder}, **_quiet())
    except (ConnectionError, RuntimeError, ValueError, ImportError, OSError, exceptions.RayError) as error:
        if "AuthenticationError" in f"{type(error).__name__} {error.__cause__}":  # Ray itself learnt of it late
            raise InputError(
                f"The Ray cluster at {address} asks for a token, and {_token_given()}. Set {MODE}=token, and {TOKEN} "
                f"to the cluster's own token or {TOKEN_PATH} to the file that holds it."
            ) from error
        raise InputError(f"The Ray cluster at {ADDRESS}={address} cannot be used: {first_line(error)}") from error


def _check_answers(address: str) -> None:
    """Raises: InputError if nothing listens there; Ray would try for minutes."""
    place = urllib.parse.urlsplit(address if "//" in address else f"//{address}")
    try:
        port = place.port
    except ValueError:
        port = None
    if place.scheme:
        raise InputError(
            f"{ADDRESS} is {address!r}, a connection from outside of the cluster; run this on a machine of the cluster "
            f"with {ADDRESS}=HOST:PORT, or have it run there by `ray job submit`."
        )
    if address == "auto":  # the one that was started on this machine, which Ray finds
        return
    if place.hostname is None or port is None:
        raise InputError(f"{ADDRESS} is {address!r}; give HOST:PORT, as `ray start --head` prints it, or unset it.")
    try:
        socket.create_connection((place.hostname, port), timeout=PATIENCE).close()
    except OSError as error:
        raise InputError(
            f"No Ray cluster answers at {ADDRESS}={address} ({error.strerror or error}); start it with `ray start "
            f"--head`, or unset {ADDRESS} to use this machine alone."
        ) from error


def _quiet() -> dict[str, Any]:
    """What workers print stays in the logs of Ray."""
    return {"log_to_driver": False, "logging_level": logging.ERROR}


def _token_given() -> str:
    if os.environ.get(MODE, "") != "token":
        return f"{MODE} is {os.environ[MODE]!r}" if MODE in os.environ else f"{MODE} is not set"
    found = next((name for name in (TOKEN, TOKEN_PATH) if os.environ.get(name)), None)
    return f"that in {found} is not its own" if found else f"neither {TOKEN} nor {TOKEN_PATH} is set"


@contextlib.contextmanager
def _package() -> Iterator[str | None]:
    """A folder with this package as if installed; None in a job of Ray that has a working directory already."""
    if "working_dir" in json.loads(os.environ.get(JOB, "{}")).get("runtime_env", {}):
        yield None
        return
    found = metadata.distribution("isthmus")
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(Path(__file__).parent.parent, Path(place) / "isthmus", ignore=UNUSED)
        facts = Path(place) / f"isthmus-{found.version}.dist-info" / "METADATA"
        facts.parent.mkdir()
        facts.write_text(found.read_text("METADATA") or "", encoding="utf-8")  # runs record the version
        yield place


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray answers SIGTERM in its own way, once it is initialised; afterwards it is answered as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def first_line(error: BaseException) -> str:
    """What an error says, without what Ray adds below."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
