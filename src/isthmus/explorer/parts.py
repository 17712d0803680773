"""The networks of an explorer: those of the run itself, and a classifier to ask about images.

Each is an ONNX file in the page's folder, compared with PyTorch on the images of the map before it is kept.
"""

from __future__ import annotations

from pathlib import Path

from isthmus.data.imageset import ImageSet
from isthmus.errors import InputError
from isthmus.export import ExportedFile, export_run
from isthmus.networks.catalog import Network
from isthmus.networks.classifier import Classifier
from isthmus.run_table import study_of
from isthmus.runs import Run

PARTS = ("encoder", "decoder", "classifier", "denoiser")
SCORE = "validation_accuracy"


def export_parts(run: Run, classifier: Run | None, images: ImageSet, folder: Path) -> list[ExportedFile]:
    """Write the networks of a run, and a classifier if there is one, as ONNX.

    Arguments: images: to check them with. Raises: what `export_run` raises.
    """
    runs = [run] if classifier is None else [run, classifier]
    return [file for one in runs for file in export_run(one, folder, data=images).files]


def find_classifier(run: Run, network: Network, given: Path | None) -> Run | None:
    """The classifier to go with a run: the one that is given, else that of its study with the best validation accuracy.

    None if there is none, or the run is a classifier itself.
    Raises: InputError if the one given is no classifier, or one of images of another shape.
    """
    shape = run.image_shape()
    if isinstance(network, Classifier):
        if given is not None:
            raise InputError(f"{run.folder} is a classifier itself: leave out --classifier.")
        return None
    if given is not None:
        return _checked(Run(given), shape)
    study = study_of(run.folder.resolve())
    if study is None:
        return None
    beside = [one for one in map(Run, sorted((study / "runs").iterdir())) if one.finished and _fits(one, shape)]
    return max(beside, key=lambda one: one.config()["figures"].get(SCORE, 0.0), default=None)


def _checked(run: Run, shape: tuple[int, int, int]) -> Run:
    name, found = run.config()["model"]["name"], run.image_shape()
    if name != "classifier":
        raise InputError(f"--classifier {run.folder} is a run of `{name}`; give one of `isthmus train classifier`.")
    if found != shape:
        raise InputError(
            f"--classifier {run.folder} takes images {found}, those of the run are {shape}; give one of the same shape."
        )
    return run


def _fits(run: Run, shape: tuple[int, int, int]) -> bool:
    config = run.config()
    is_classifier = config["model"]["name"] == "classifier" and config["scaling"] is None
    return is_classifier and tuple(config["image_shape"]) == shape
