"""A built-in study from a name to a finished folder with its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.data.imageset import split
from isthmus.errors import InputError
from isthmus.networks.catalog import build
from isthmus.networks.convolution import check_size
from isthmus.report.digits import digits_page, duration
from isthmus.report.page import write_page, write_pictures
from isthmus.runs import read_json
from isthmus.settings import ClassifierSettings, merge, nearest, parse_assignments, validate
from isthmus.studies.digits import run_digits
from isthmus.studies.single import load_images
from isthmus.studies.study import Reporter, StudySettings, open_study

STUDIES = ("digits",)
SIZE = 32


def run_study(
    name: str,
    data: str,
    folder: Path,
    *,
    changes: Sequence[str] = (),
    seed: int = 0,
    fast: bool = False,
    device: str = "cpu",
    skip_bad: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Do a study and write its report. Returns: the report's path and the content of summary.json.

    Raises: InputError for an unknown study, settings or images; RunExistsError; DivergedError; StorageError.
    """
    if name not in STUDIES:
        raise InputError(f"There is no study {name!r}; {nearest(name, STUDIES)}")
    data_settings = {"name": data, "height": SIZE, "width": SIZE, "skip_bad": skip_bad}
    tree: dict[str, Any] = {"study": name, "data": data_settings, "seed": seed, "fast": fast}
    settings = validate(StudySettings, merge(tree, parse_assignments(changes)))
    images = load_images(settings.data)
    check_size(*images.shape[1:])
    split(images, seed=settings.seed)  # what cannot be divided or told apart is refused before a folder is made
    if images.labels is not None:
        build(ClassifierSettings(), images.shape, classes=len(images.classes))
    report = folder / "report.html"
    opened = open_study(
        folder, settings, images.fingerprint, device=device, reporter=reporter, resume=resume, overwrite=overwrite
    )
    with opened as study:
        if study.finished:
            study.reporter.say(f"{folder}: finished before, nothing to do")
            return report, read_json(folder / "summary.json")
        if settings.fast:
            study.say("a fast run: every training has a third of its updates")
        for note in images.notes:
            study.say(note)
        result = run_digits(study, images)
        study.say("drawing the report")
        page = digits_page(study, result)
        write_pictures(page, folder)
        study.write_figures({**result.figures, "study.seconds": study.seconds})
        figures = read_json(folder / "summary.json")["figures"]
        facts = {**page.facts, "Whole study": duration(figures["study.seconds"])}
        write_page(replace(page, figures=figures, facts=facts), folder)
        study.finish()
        study.say(f"done in {duration(study.seconds)}")
    return report, read_json(folder / "summary.json")
