"""Models on a hub: found there by OWNER/NAME, kept in its cache, and sent there. Needs the extra `hub`.

Only the files of a model (model_files.py) are ever fetched or sent, so that nothing else of a repository or a run
comes along. Without a connection, or with ISTHMUS_OFFLINE or HF_HUB_OFFLINE set, a model is taken from the cache.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any

from isthmus.errors import InputError, StorageError
from isthmus.model_files import CONFIG, DENSITIES, FILES, read_config, read_network, read_trained_on, verify

PART = r"[A-Za-z0-9]([\w.-]{0,94}\w)?"
HUB_ID = re.compile(rf"(?!.*(--|\.\.|\.git$)){PART}/{PART}", re.ASCII)
OFFLINE = ("ISTHMUS_OFFLINE", "HF_HUB_OFFLINE")
NO = ("", "0", "false", "no", "off")


def locate(source: str | Path, *, revision: str | None = None, endpoint: str | None = None) -> Path:
    """The model folder that `source` names: a model folder itself, a run, or OWNER/NAME on a hub.

    Arguments: revision: branch, tag or commit of a hub's model. endpoint: the hub's address; by default HF_ENDPOINT,
    else the public one. A private model needs the token that `hf auth login` keeps.
    Raises: InputError if there is no such model, or it cannot be fetched; StorageError if it cannot be kept.
    """
    folder = Path(os.path.expanduser(source))
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"revision={revision!r} belongs to a model on a hub; {folder} is a folder: leave it out.")
        return _model_in(folder)
    if isinstance(source, Path) or not HUB_ID.fullmatch(source):
        raise InputError(
            f"{str(source)!r} is neither a folder of this machine nor OWNER/NAME on a hub; name the folder of a model."
        )
    found = _fetch(source, revision, endpoint)
    if not (found / CONFIG).exists():
        raise InputError(f"{source} holds no model of Isthmus (there is no {CONFIG} in it); name another.")
    return found


def push_to_hub(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    endpoint: str | None = None,
    revision: str | None = None,
    message: str = "Add a model of Isthmus",
) -> str:
    """Send the model in `folder` to a hub, into a repository that is made if there is none; returns its address.

    Arguments: private: only you see it. token: by default the one that `hf auth login` keeps. revision: a branch,
    made if there is none. message: of the commit.
    Raises: InputError if the model is damaged, the hub refuses it or cannot be reached, or it would be seen by all
    though it is to be private.
    """
    if not HUB_ID.fullmatch(repo_id):
        raise InputError(
            f"{repo_id!r} is no id of a hub; write OWNER/NAME, for example your-name/digits: each at most 96 letters, "
            f"digits, _, single - and single . between them, and no .git at the end."
        )
    folder = _model_in(folder)
    read_network(folder, read_config(folder))  # what is damaged is not passed on
    read_trained_on(folder)
    verify(folder / DENSITIES)
    offline = _offline()
    if offline:
        raise InputError(f"{offline} is set, so nothing is sent to {repo_id}: unset it.")
    hub, errors = _package("huggingface_hub"), _package("huggingface_hub.errors")
    api = hub.HfApi(endpoint=endpoint, token=token, library_name="isthmus")
    try:
        address = str(api.create_repo(repo_id, private=private or None, exist_ok=True))
        if private and not api.repo_info(repo_id).private:
            raise InputError(
                f"{repo_id} exists already and is public, so the model would be too; make it private there, or choose "
                f"another name."
            )
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        what: dict[str, Any] = {"repo_id": repo_id, "folder_path": folder, "revision": revision}
        # Files of an earlier model that this one has none of, as densities, would be taken for its own: they go.
        api.upload_folder(**what, commit_message=message, allow_patterns=list(FILES), delete_patterns=list(FILES))
    except (errors.HTTPError, OSError, RuntimeError) as error:  # the last two: of the hub's store for large files
        raise InputError(_refused(error, api.endpoint, f"{folder} could not be sent to {repo_id}")) from error
    return address


def _model_in(folder: Path) -> Path:
    """The model folder that `folder` is or holds."""
    for place in (folder / "model", folder):
        if (place / CONFIG).exists():
            return place
    raise InputError(f"{folder} holds no model (there is no {CONFIG} in it); name the folder of one, or of a run.")


def _fetch(name: str, revision: str | None, endpoint: str | None) -> Path:
    """The folder in the hub's cache."""
    offline = _offline()
    if offline and importlib.util.find_spec("huggingface_hub") is None:
        what = f"{name!r} is no folder of this machine, and the package huggingface_hub, which has a cache, is missing."
        raise InputError(f"{what} {_way(offline, None, endpoint)}")
    hub, errors = _package("huggingface_hub"), _package("huggingface_hub.errors")
    address = endpoint or _package("huggingface_hub.constants").ENDPOINT
    try:
        found = hub.snapshot_download(
            name,
            revision=revision,
            endpoint=endpoint,
            allow_patterns=list(FILES),
            local_files_only=offline is not None,
            library_name="isthmus",
        )
    except errors.LocalEntryNotFoundError as error:  # or the hub failed in a way it may recover from
        cause = error.__cause__ if isinstance(error.__cause__, errors.HfHubHTTPError) else error
        what = f"{name!r} is no folder of this machine, and {f'revision {revision} is ' if revision else ''}not in"
        raise InputError(f"{what} the hub's cache. {_way(offline, cause, address)}") from error
    except errors.HTTPError as error:
        raise InputError(
            _refused(error, address, f"{name!r} is no folder of this machine, nor can it be fetched")
        ) from error
    except OSError as error:
        raise StorageError(
            f"Could not keep {name} in the hub's cache: {error}. Free some space, or set HF_HOME."
        ) from error
    return Path(found)


def _way(offline: str | None, error: BaseException | None, address: str | None) -> str:
    """What to do about a model that is not in the cache and was not fetched."""
    if offline:
        return f"{offline} forbids to fetch it: unset it, or copy the model's folder to this machine."
    status = _status(error)
    reason = "There is no connection to it" if status is None else f"It answered with status {status}"
    return f"The hub is {address}. {reason}: try again later, or copy the model's folder to this machine."


def _status(error: BaseException | None) -> int | None:
    """What a hub answered with, None if it did not answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _refused(error: BaseException, address: str, what: str) -> str:
    """A sentence on what a hub answered, or that it did not."""
    status, kind = _status(error), type(error).__name__
    if status is None:
        return f"{what}: there is no connection to {address} ({error}). Try again with one."
    if kind == "RevisionNotFoundError":
        return f"{what}: {address} has the model, but no such revision; leave revision out for the newest."
    if kind == "GatedRepoError":
        return f"{what}: its owner gives it only to those who ask; ask for it at {address}."
    if kind == "RepositoryNotFoundError" or status in (401, 403):
        return (
            f"{what}: {address} knows no such model, or keeps it from you (status {status}). Check the name; for a "
            f"private one, or to send one, log in with `hf auth login`."
        )
    return f"{what}: {address} answered with status {status}. Try again later."


def _offline() -> str | None:
    """Which variable of the environment forbids to use the network."""
    return next((name for name in OFFLINE if os.environ.get(name, "").strip().lower() not in NO), None)


def _package(name: str) -> Any:
    try:
        module: ModuleType = importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            "A model on a hub needs the package huggingface_hub: `pip install 'isthmus[hub]'`, or copy the model's "
            "folder to this machine and name that."
        ) from error
    return module
