"""A study from its name, or the file that describes it, to a finished folder with its report."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from isthmus.data.catalog import entries
from isthmus.data.imageset import ImageSet
from isthmus.data.split import split
from isthmus.errors import DataError, InputError
from isthmus.networks.catalog import build
from isthmus.networks.convolution import check_size
from isthmus.report.custom import custom_page
from isthmus.report.digits import digits_page, duration
from isthmus.report.page import Page, write_page, write_pictures
from isthmus.report.signs import signs_page
from isthmus.settings import ClassifierSettings, merge, nearest, parse_assignments, validate
from isthmus.studies.built_in import in_file_terms
from isthmus.studies.custom import check_custom, run_custom, trainable
from isthmus.studies.digits import run_digits
from isthmus.studies.estimate import Estimates, estimate
from isthmus.studies.signs import check_images, run_signs
from isthmus.studies.study import DigitsSettings, Reporter, SignsSettings, Silent, Study, StudySettings, open_study
from isthmus.studies.study_file import CustomSettings
from isthmus.studies.study_reading import read_study_file, study_settings
from isthmus.studies.study_text import as_toml, shortened
from isthmus.training.evaluation import chosen_images
from isthmus.writing import read_json

Figures = dict[str, float | None]
Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """What tells one study from another.

    read: settings from what was asked. shape: of data, unless set. data: the set it takes unless told otherwise, None
    if it must be told; instead: the one that stands in where that cannot be had. check: refuses images before a folder
    is made.
    """

    read: Callable[[Tree], StudySettings]
    shape: Tree
    data: str | None
    work: Callable[[Study[Any], ImageSet], tuple[Figures, Page]]
    check: Callable[[Any, ImageSet], None]
    instead: str | None = None


@dataclass(frozen=True)
class Request:
    """A study as it is asked for: by its name or its file, with what the command line changes in it."""

    name: str
    data: str | None = None
    changes: Sequence[str] = ()
    seed: int | None = None
    fast: bool = False
    skip_bad: bool = False


@dataclass(frozen=True)
class Outlook:
    """What a study would train. images: in three parts, in words. notes: what is left out, or stands in."""

    images: str
    estimates: Estimates
    notes: tuple[str, ...]


def _digits(study: Study[DigitsSettings], images: ImageSet) -> tuple[Figures, Page]:
    result = run_digits(study, images)
    study.say("drawing the report")
    return result.figures, digits_page(study, result)


def _signs(study: Study[SignsSettings], images: ImageSet) -> tuple[Figures, Page]:
    result = run_signs(study, images)
    study.say("drawing the report")
    return result.figures, signs_page(study, result)


def _custom(study: Study[CustomSettings], images: ImageSet) -> tuple[Figures, Page]:
    result = run_custom(study, images)
    study.say("drawing the report")
    return result.figures, custom_page(study, result)


def _check_digits(settings: DigitsSettings, images: ImageSet) -> None:
    split(images, seed=settings.seed)  # what cannot be divided or told apart is refused
    if images.labels is not None:
        build(ClassifierSettings(), images.shape, classes=len(images.classes))


def _check_signs(settings: SignsSettings, images: ImageSet) -> None:
    check_images(images)
    split(images, seed=settings.seed)
    build(ClassifierSettings(), images.shape, classes=len(images.classes))


def _square(name: str, side: int, *, grey: bool) -> Tree:
    return {"study": name, "data": {"height": side, "width": side, "grey": grey}}


STUDIES = {
    "digits": Kind(
        partial(validate, DigitsSettings), _square("digits", 32, grey=False), "mnist-5k", _digits, _check_digits
    ),
    "signs": Kind(
        partial(validate, SignsSettings),
        _square("signs", 64, grey=True),
        "sign-digits",
        _signs,
        _check_signs,
        instead="drawn-hands",
    ),
}
CUSTOM = Kind(study_settings, {"data": {}}, None, _custom, check_custom)


def run_study(
    name: str,
    data: str | None,
    folder: Path,
    *,
    changes: Sequence[str] = (),
    seed: int | None = None,
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

    Arguments: name: of a built-in study, or a study file. data: a name or a path; None for the study's own set, or that
    of the file. seed: None for 0, or that of the file. workers, prepare: see `Study`.
    Returns: the report's path and the content of summary.json.
    Raises: InputError for an unknown study, settings or images; RunExistsError; DivergedError; TrainingFailedError;
    StorageError.
    """
    kind, own = _kind(name)
    if data is None and resume and kind.data is not None and _named(own) is None and (folder / "study.toml").exists():
        data = _begun_with(folder / "study.toml")
    settings, images, notes = _read(kind, own, Request(name, data, changes, seed, fast, skip_bad))
    _check(kind, settings, images)
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
        if study.finished and report.exists():  # a sweep of the same file, which has none, is a beginning
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


def foresee(
    request: Request, *, device: str = "cpu", workers: int | None = None, reporter: Reporter | None = None
) -> Outlook:
    """What a study would train, and about how long that takes here; nothing is written.

    Raises: InputError for what `run_study` would refuse.
    """
    kind, own = _kind(request.name)
    settings, images, notes = _read(kind, own, request)
    _check(kind, settings, images)
    parts = split(images, seed=settings.seed)
    runs, left_out = trainable(in_file_terms(settings, images.shape), images, training_images=len(parts.train))
    count = f"{len(parts.train):,} / {len(parts.validation):,} / {len(parts.test):,}"
    line = f"{images.name}: {count} images to train, validate, test"
    with (reporter or Silent()).progress("timing") as progress:
        found = estimate(runs, parts, device=device, workers=workers, progress=progress)
    return Outlook(line, found, notes + left_out)


def study_toml(request: Request) -> str:
    """A study in the terms of a study file, as TOML, without what is as it would be anyway.

    A built-in study is of grey images unless it is given others. Raises: InputError.
    """
    kind, own = _kind(request.name)
    settings = _settings(kind, own, request, request.data or _named(own) or kind.data)
    if kind is CUSTOM:
        assert isinstance(settings, CustomSettings)
        return as_toml(shortened(settings)) + "\n"
    height, width = settings.data.height, settings.data.width
    own_set = settings.data.name == kind.data and height is not None and width is not None
    shape = (1, height or 0, width or 0) if own_set else chosen_images(settings.data).shape
    head = (
        f"# The study of {settings.study} in the terms of a study file: the same networks, trained in the same way, to "
    )
    head += f"start\n# from. The exercises of its course are done by `isthmus study {settings.study}` alone.\n\n"
    return head + as_toml(shortened(in_file_terms(settings, shape))) + "\n"


def _kind(name: str) -> tuple[Kind, Tree]:
    """The kind of study, and what its file says; nothing for a built-in one."""
    if name in STUDIES:
        return STUDIES[name], {}
    path = Path(name)
    if path.suffix != ".toml" and not path.is_file():
        raise InputError(
            f"There is no study {name!r}; {nearest(name, STUDIES)} A study of your own is a file, NAME.toml: "
            f"`isthmus study --init` writes one."
        )
    tree = read_study_file(path)
    return STUDIES.get(str(tree.get("study")), CUSTOM), tree


def _settings(kind: Kind, own: Tree, request: Request, data: str | None) -> StudySettings:
    """What the file says over the study's own defaults, the flags over both, and --set over all."""
    images = {"name": data, "skip_bad": request.skip_bad or None}
    flags: dict[str, Any] = {"data": {key: value for key, value in images.items() if value is not None}}
    if request.seed is not None:
        flags["seed"] = request.seed
    if request.fast:
        flags["fast"] = True
    tree = merge(merge(kind.shape, own), flags)
    return kind.read(merge(tree, parse_assignments(request.changes)))


def _read(kind: Kind, own: Tree, request: Request) -> tuple[StudySettings, ImageSet, tuple[str, ...]]:
    """The settings, their images, and what is to be said of these."""

    def read(data: str | None) -> tuple[StudySettings, ImageSet]:
        settings = _settings(kind, own, request, data)
        return settings, chosen_images(settings.data)

    named = request.data if request.data is not None else _named(own)
    if named is None and kind.data is not None:
        return _own_images(kind.data, kind.instead, read)
    return (*read(named), ())


def _check(kind: Kind, settings: StudySettings, images: ImageSet) -> None:
    """Raises: InputError for images that the study cannot be done on."""
    check_size(*images.shape[1:])
    kind.check(settings, images)


def _named(tree: Tree) -> str | None:
    """data.name of what may be no settings; None if it has none that is text."""
    data = tree.get("data")
    name = data.get("name") if isinstance(data, Mapping) else None
    return name if isinstance(name, str) else None


def _begun_with(path: Path) -> str | None:
    """The data of a study that was begun; None if its settings do not say, which is found later."""
    try:
        name = tomllib.loads(path.read_text(encoding="utf-8")).get("data", {}).get("name")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); start anew with --overwrite.") from error
    return None if name is None else str(name)


def _own_images(
    own: str, instead: str | None, read: Callable[[str | None], tuple[StudySettings, ImageSet]]
) -> tuple[StudySettings, ImageSet, tuple[str, ...]]:
    """The study's own set; where it would have to be fetched and cannot be, the one that stands in, which is said."""
    origin = next(row.origin for row in entries() if row.name == own)
    if instead is None or origin != "download":
        return (*read(own), ())
    try:
        return (*read(own), ())
    except DataError as error:
        settings, images = read(instead)
        return settings, images, (f"{instead} stand in for {own}, which cannot be had here: {error}",)
