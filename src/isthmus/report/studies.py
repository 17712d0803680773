"""A built-in study from a name to a finished folder with its report."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from isthmus.data.catalog import entries
from isthmus.data.imageset import ImageSet
from isthmus.data.split import split
from isthmus.errors import DataError, InputError
from isthmus.networks.catalog import build
from isthmus.networks.convolution import check_size
from isthmus.report.digits import digits_page, duration
from isthmus.report.page import Page, write_page, write_pictures
from isthmus.report.signs import signs_page
from isthmus.settings import ClassifierSettings, merge, nearest, parse_assignments, validate
from isthmus.studies.digits import run_digits
from isthmus.studies.signs import check_images, run_signs
from isthmus.studies.study import DigitsSettings, Reporter, SignsSettings, Study, StudySettings, open_study
from isthmus.training.evaluation import chosen_images
from isthmus.writing import read_json

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Kind:
    """What tells one study from another.

    data: the set it takes unless told otherwise; instead: the one that stands in where that cannot be had. side: height
    and width of the images unless set. check: refuses images before a folder is made.
    """

    settings: type[StudySettings]
    data: str
    side: int
    grey: bool
    work: Callable[[Study[Any], ImageSet], tuple[Figures, Page]]
    check: Callable[[ImageSet], None]
    instead: str | None = None


def _digits(study: Study[DigitsSettings], images: ImageSet) -> tuple[Figures, Page]:
    result = run_digits(study, images)
    study.say("drawing the report")
    return result.figures, digits_page(study, result)


def _signs(study: Study[SignsSettings], images: ImageSet) -> tuple[Figures, Page]:
    result = run_signs(study, images)
    study.say("drawing the report")
    return result.figures, signs_page(study, result)


STUDIES = {
    "digits": Kind(DigitsSettings, "mnist-5k", 32, False, _digits, lambda images: None),
    "signs": Kind(SignsSettings, "sign-digits", 64, True, _signs, check_images, instead="drawn-hands"),
}


def run_study(
    name: str,
    data: str | None,
    folder: Path,
    *,
    changes: Sequence[str] = (),
    seed: int = 0,
    fast: bool = False,
    device: str = "cpu",
    workers: int | None = None,
    prepare: Callable[[], None] | None = None,
    skip_bad: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Do a study and write its report.

    Arguments: data: a name or a path; None for the study's own set. workers, prepare: see `Study`.
    Returns: the report's path and the content of summary.json.
    Raises: InputError for an unknown study, settings or images; RunExistsError; DivergedError; TrainingFailedError;
    StorageError.
    """
    if name not in STUDIES:
        raise InputError(f"There is no study {name!r}; {nearest(name, STUDIES)}")
    kind = STUDIES[name]

    def read(given: str) -> tuple[StudySettings, ImageSet]:
        shape = {"height": kind.side, "width": kind.side, "grey": kind.grey}
        tree = {"study": name, "data": {"name": given, "skip_bad": skip_bad, **shape}, "seed": seed, "fast": fast}
        settings = validate(kind.settings, merge(tree, parse_assignments(changes)))
        return settings, chosen_images(settings.data)

    if data is None and resume and (folder / "study.toml").exists():
        data = _begun_with(folder / "study.toml")
    settings, images, notes = _own_images(kind, read) if data is None else (*read(data), ())
    check_size(*images.shape[1:])
    kind.check(images)
    split(images, seed=settings.seed)  # what cannot be divided or told apart is refused before a folder is made
    if images.labels is not None:
        build(ClassifierSettings(), images.shape, classes=len(images.classes))
    report = folder / "report.html"
    opened = open_study(
        folder,
        settings,
        images.fingerprint,
        device=device,
        reporter=reporter,
        workers=workers,
        prepare=prepare,
        resume=resume,
        overwrite=overwrite,
    )
    with opened as study:
        if study.finished:
            study.reporter.say(f"{folder}: finished before, nothing to do")
            return report, read_json(folder / "summary.json")
        for note in notes:
            study.say(note)
        if settings.fast:
            study.say("a fast run: every training has a third of its updates")
        for note in images.notes:
            study.say(note)
        figures, page = kind.work(study, images)
        write_pictures(page, folder)
        study.write_figures({**figures, "study.seconds": study.seconds})
        figures = read_json(folder / "summary.json")["figures"]
        facts = {**page.facts, "Whole study": duration(figures["study.seconds"] or 0)}
        write_page(replace(page, figures=figures, facts=facts), folder)
        study.finish()
        study.say(f"done in {duration(study.seconds)}")
    return report, read_json(folder / "summary.json")


def _begun_with(path: Path) -> str | None:
    """The data of a study that was begun; None if its settings do not say, which is found later."""
    try:
        name = tomllib.loads(path.read_text(encoding="utf-8")).get("data", {}).get("name")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); start anew with --overwrite.") from error
    return None if name is None else str(name)


def _own_images(
    kind: Kind, read: Callable[[str], tuple[StudySettings, ImageSet]]
) -> tuple[StudySettings, ImageSet, tuple[str, ...]]:
    """The study's own set; where it would have to be fetched and cannot be, the one that stands in, which is said."""
    origin = next(row.origin for row in entries() if row.name == kind.data)
    if kind.instead is None or origin != "download":
        return (*read(kind.data), ())
    try:
        return (*read(kind.data), ())
    except DataError as error:
        settings, images = read(kind.instead)
        return settings, images, (f"{kind.instead} stand in for {kind.data}, which cannot be had here: {error}",)
