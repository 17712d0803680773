"""What image sets, runs and estimators show of themselves in a notebook: one card each.

The card of a run never fails: what cannot be read is said on it. Nothing is shown that takes long to get: a run's own
test images are loaded where they come with Isthmus, and elsewhere its codes are decoded.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import estimator_html_repr  # type: ignore[import-untyped, unused-ignore]

from isthmus.data.catalog import CATALOG
from isthmus.data.files import read_npz
from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError, IsthmusError
from isthmus.networks.apply import decode, to_float
from isthmus.networks.catalog import NETWORKS, Network
from isthmus.networks.classifier import Classifier
from isthmus.networks.denoiser import Denoiser
from isthmus.networks.variational import VAE
from isthmus.report.answers import (
    answers,
    class_counts,
    class_numbers,
    classes_right,
    learning_curves,
    size_text,
    spread,
)
from isthmus.report.card import BUDGET, Card, Gallery, gallery, render
from isthmus.report.page import Table
from isthmus.runs import Run
from isthmus.settings import RunSettings
from isthmus.training.evaluation import parts_of_run

T = TypeVar("T")

SHEET = 24  # images of a set
EXAMPLES = 10  # images of a run or an estimator


def show_images(images: ImageSet) -> str:
    """A set: some of its images, its classes with their counts, and what its reader noted."""
    chosen = images.take(spread(images.labels, len(images), SHEET))
    values = "whole numbers from 0 to 255" if images.images.dtype == np.uint8 else "float32 from 0 to 1"
    facts = {"images": f"{len(images):,} of {size_text(images.shape)}", "pixels": values}
    if images.labels is None:
        facts["classes"] = "none: the images have no labels"
    if images.published_test:
        facts["test set"] = f"the last {images.published_test:,}, as published"
    facts["fingerprint"] = images.fingerprint
    shown = "All images" if len(chosen) == len(images) else f"{len(chosen)} of the images"
    pictures = gallery(shown, {"image": to_float(torch.from_numpy(chosen.images))}, _names(chosen))
    tables = [] if images.labels is None else [class_counts(images.summary()["classes"])]
    return render(Card("Images", images.name, facts, galleries=[pictures], tables=tables, notes=images.notes))


def show_run(run: Run) -> str:
    """A run: its state, what it was trained on, its curves, and what its network makes of some images.

    Of a run that is unfinished or damaged all that can be read, and what cannot be.
    """
    problems: list[str] = []
    whole = _attempt("The run", lambda: render(_run_card(run, problems)), problems)
    return whole or render(Card("Run", run.folder.name, {"folder": str(run.folder)}, problems))


def show_estimator(estimator: Any) -> str:
    """A fitted estimator: its curves, and what it makes of some images it was fitted to; else scikit-learn's diagram.

    Arguments: estimator: one of `isthmus.estimators`.
    """
    if not hasattr(estimator, "network_"):
        return str(estimator_html_repr(estimator))
    network: Network = estimator.network_
    history = estimator.history_
    epochs = [] if history is None else history.epochs
    facts = {"takes": _takes(estimator), **_network_facts(network), "fitted": _fitted(estimator)}
    classes = [str(name) for name in getattr(estimator, "classes_", ())]
    galleries = _estimator_pictures(estimator, network, classes) if _takes_pictures(estimator) else []
    panels = learning_curves(epochs, history.best_epoch if epochs else 0)
    tables = [class_numbers(classes)] if isinstance(network, Classifier) else []
    title = type(estimator).__name__
    return render(Card("Fitted", title, facts, (), galleries, panels, tables, [_parameters(estimator)]))


def _run_card(run: Run, problems: list[str]) -> Card:
    """The card of a run. Arguments: problems: what cannot be read is added to them."""
    begun, saved = (run.folder / "run.json").exists(), (run.model / "config.json").exists()
    status = _attempt("The state", run.status, problems) or {}
    settings = _attempt("The settings", run.settings, problems) if begun else None
    config = _attempt("The model", run.config, problems) if saved else None
    title = run.folder.resolve().name
    if not (begun or saved) and (not status or (run.folder / "runs").is_dir()):  # a study has a state too
        return Card("Run", title, {"folder": str(run.folder)}, [*problems, _no_run(run)])
    epochs = _attempt("The record of epochs", run.history, problems) or []
    panels = _attempt("The curves", lambda: learning_curves(epochs, int(status.get("best_epoch", 0))), problems) or []
    state, warnings = _state(run, status, len(epochs), settings)
    network = _attempt("The network", run.network, problems) if config and _has_weights(run) else None
    galleries: list[Gallery] = []
    tables: list[Table] = []
    if network is not None and config is not None:
        test = _attempt("Test images", lambda: _test_images(run, settings), problems)
        drawn = _attempt("Images", lambda: _run_pictures(run, network, test, config), problems)
        galleries, tables = drawn or ([], [])
    known = _attempt("What is known", lambda: _run_facts(run, status, settings, config), problems) or {}
    facts = {"state": state, **known, **_network_facts(network)}
    folded = [_settings_table(settings)] if settings else []
    return Card("Run", title, facts, [*warnings, *problems], galleries, panels, tables, folded)


def _attempt(what: str, read: Callable[[], T], problems: list[str]) -> T | None:
    """What `read` returns; None where the files of a run do not allow it, with the reason added to the problems.

    Damage can raise anything, and a card that raises hides all the rest of the run.
    """
    try:
        return read()
    except Exception as error:
        reason = str(error) if isinstance(error, IsthmusError) else f"{type(error).__name__}: {error}"
        problems.append(f"{what} cannot be shown. {reason}")
        return None


def _no_run(run: Run) -> str:
    inner = run.folder / "runs"
    if inner.is_dir():
        names = ", ".join(sorted(folder.name for folder in inner.iterdir() if folder.is_dir())) or "none"
        return f"This folder is a study. Open one of its runs, which lie in {inner}: {names}."
    if not run.folder.is_dir():
        return "There is no such folder: nothing has been trained there."
    return "This folder holds no run: it has neither run.json nor a model. `isthmus train` writes one."


def _has_weights(run: Run) -> bool:
    return (run.model / "model.safetensors").exists()


def _state(run: Run, status: Mapping[str, Any], count: int, settings: RunSettings | None) -> tuple[str, list[str]]:
    """The state in words, and what to know before the run is used."""
    state, time = str(status.get("state", "")), str(status.get("time", "at an unknown time")).replace("T", " ")
    done = f"{count} of {settings.training.epochs} epochs" if settings else f"{count} epochs"
    if not status:
        return ("unknown" if settings else "a model without a record of its training"), []
    if state == "finished" and _has_weights(run):
        return f"finished {time}, {done}", []
    warnings = {
        "finished": "The training finished, but the weights are missing: train the run again.",
        "running": f"Running since {time}, or cut off since then: {done} are done, and the weights come at the end.",
        "diverged": f"The loss stopped being finite at step {status.get('step')}, with learning rate "
        f"{status.get('learning_rate')}: there are no weights. Lower training.learning_rate.",
        "interrupted": f"Interrupted {time} after {done}: there are no weights. Train it again with --resume.",
        "failed": f"Failed {time} after {done}: {status.get('error')}",
    }
    return ("damaged" if state == "finished" else state), [warnings.get(state, f"The state {state!r} is unknown.")]


def _run_facts(
    run: Run, status: Mapping[str, Any], settings: RunSettings | None, config: Mapping[str, Any] | None
) -> dict[str, str]:
    facts = {}
    known = config or {"model": {}, "data": {}}
    name = settings.model.name if settings else str(known["model"].get("name", ""))
    if name:
        kind = NETWORKS[name].summary.partition(",")[0] if name in NETWORKS else name
        facts["network"] = name if kind == name else f"{name}: {kind}"
    data = settings.data.name if settings else str(known["data"].get("name", ""))
    if data:
        facts["data"] = data
    if config:
        facts["images"] = size_text(config["image_shape"])
    if "best_epoch" in status:
        facts["kept"] = f"the weights of epoch {status['best_epoch']}"
    if "seconds" in status:
        facts["training"] = f"{status['seconds']:.1f} s"
    return {**facts, "folder": str(run.folder)}


def _network_facts(network: Network | None) -> dict[str, str]:
    if network is None:
        return {}
    weights = f"{sum(p.numel() for p in network.parameters()):,}"
    if isinstance(network, Classifier | Denoiser):
        return {"weights": weights}
    return {"code": f"{network.latent_dim} numbers", "weights": weights}


def _run_pictures(
    run: Run, network: Network, test: ImageSet | None, config: Mapping[str, Any]
) -> tuple[list[Gallery], list[Table]]:
    """What the network makes of test images, or images decoded from codes; of a classifier its classes."""
    classes = tuple(config["classes"])
    pictures: list[Gallery] = []
    if test is not None:
        chosen = test.take(spread(test.labels, len(test), EXAMPLES))
        images, noise = to_float(torch.from_numpy(chosen.images)), float(config.get("noise", 0.0))
        pictures = [answers(network, images, _names(chosen), classes, noise=noise, which="Test images")]
    elif not isinstance(network, Classifier | Denoiser) and (run.folder / "codes.npz").exists():
        codes, labels = _some_codes(run, classes)
        pictures = [gallery("Decoded codes of test images", {"decoded code": decode(network, codes)}, labels)]
    if not isinstance(network, Classifier):
        return pictures, []
    labelled = test is not None and test.labels is not None
    return pictures, [classes_right(network, test) if test is not None and labelled else class_numbers(classes)]


@lru_cache(maxsize=1)
def _test_part(run: Run, fingerprint: str) -> ImageSet:
    """Loaded once while the run is the one it was. Arguments: fingerprint: of the images it was begun with."""
    return parts_of_run(run).test


def _test_images(run: Run, settings: RunSettings | None) -> ImageSet | None:
    """The run's test images, if they come with Isthmus. Raises: InputError if they are not those of then any more."""
    own = [entry.name for entry in CATALOG if entry.published is None and not entry.by_hand]
    if settings is None or settings.data.name not in own:
        return None
    try:
        return _test_part(run, run.fingerprint())
    except InputError as error:
        raise InputError(str(error).replace("as DATA", "as in `isthmus evaluate RUN DATA`")) from error


def _some_codes(run: Run, classes: Sequence[str]) -> tuple[NDArray[np.float32], list[str]]:
    """Codes of test images out of codes.npz (M, D), and the class of each, or ""."""
    arrays = read_npz(run.folder / "codes.npz")
    labels = arrays.get("test_labels")
    chosen = spread(labels, len(arrays["test"]), EXAMPLES)
    return arrays["test"][chosen], [""] * len(chosen) if labels is None else [classes[k] for k in labels[chosen]]


def _estimator_pictures(estimator: Any, network: Network, classes: Sequence[str]) -> list[Gallery]:
    kind = next(network.parameters()).dtype
    examples = torch.as_tensor(np.asarray(estimator.examples_[:EXAMPLES])).to(kind)
    noise = float(getattr(estimator, "_noise", 0.0))
    blank = [""] * len(examples)
    which = "Images of the fit"
    pictures = [answers(network, examples, blank, classes, noise=noise, which=which)] if len(examples) else []
    if isinstance(network, VAE):
        codes = torch.randn(EXAMPLES, network.latent_dim, generator=torch.Generator().manual_seed(0))
        rows = {"drawn image": decode(network, codes.to(kind))}
        pictures.append(gallery("Drawn: codes from N(0, I), decoded", rows, [""] * EXAMPLES, budget=BUDGET // 2))
    return pictures


def _names(images: ImageSet) -> list[str]:
    """The class of each image, or ""."""
    return [""] * len(images) if images.labels is None else [images.classes[k] for k in images.labels]


def _settings_table(settings: RunSettings) -> Table:
    parts = {"model": settings.model, "training": settings.training}
    rows = [[f"{part}.{key}", str(value)] for part, s in parts.items() for key, value in s.model_dump().items()]
    return Table("Settings", ("setting", "value"), [*rows, ["seed", str(settings.seed)]])


def _parameters(estimator: Any) -> Table:
    """What the estimator was made with; what differs from the default is set bold."""
    usual = inspect.signature(type(estimator).__init__).parameters
    values = estimator.get_params(deep=False)
    rows = [[name, reprlib.repr(value)] for name, value in values.items()]
    changed = [r for r, (name, value) in enumerate(values.items()) if repr(value) != repr(usual[name].default)]
    notes = ("Bold: not the default.",) if changed else ()
    return Table("Parameters", ("parameter", "value"), rows, notes, frozenset((r, 1) for r in changed))


def _fitted(estimator: Any) -> str:
    history = estimator.history_
    if history is not None:
        early = ", stopped early" if history.stopped_early else ""
        return f"{len(history.epochs)} epochs{early}; epoch {history.best_epoch} was kept; {history.seconds:.1f} s"
    if getattr(estimator, "solver", "") == "exact":
        return "exactly, without epochs"
    return "with no record of epochs: in parts, or loaded from files"


def _takes(estimator: Any) -> str:
    if _takes_pictures(estimator):
        return f"images of {size_text(estimator.image_shape_)}"
    return f"rows of {estimator.n_features_in_} numbers"


def _takes_pictures(estimator: Any) -> bool:
    """Whether what it was fitted to can be looked at: rows of D numbers have the shape (1, 1, D)."""
    return int(estimator.image_shape_[1]) > 1
