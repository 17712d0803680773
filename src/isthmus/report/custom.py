"""The report of a study of one's own: a section for each analysis it asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from isthmus.figures import curves
from isthmus.figures.labels import short_names
from isthmus.figures.style import Panel
from isthmus.report import custom_sections
from isthmus.report.custom_sections import LONGEST, chosen_of
from isthmus.report.custom_sizes import code_size_section
from isthmus.report.digits import duration
from isthmus.report.page import Page, Section, Table
from isthmus.runs import versions
from isthmus.studies import findings_custom as findings
from isthmus.studies.custom import CustomResult
from isthmus.studies.study import Study
from isthmus.studies.study_file import Analysis, CustomSettings

LEARNT = 12  # networks with learning curves


def custom_page(study: Study[CustomSettings], result: CustomResult) -> Page:
    """Lay out the page."""
    asked = [name for name in study.settings.analyses if getattr(result, name.replace("-", "_")) is not None]
    sections = [_SECTIONS[name](result) for name in asked]
    sections.append(_training(result))
    made = versions()
    return Page(
        title=study.settings.title or f"What was learnt of {result.data.name}",
        lead=_lead(study, result),
        found=findings.summary(result),
        facts=_facts(study, result),
        sections=[replace(section, anchor=str(i)) for i, section in enumerate(sections, 1)],
        tables=[_runs_table(result)],
        footer=[
            f"Made by Isthmus {made['isthmus']} with Python {made['python']}, torch {made['torch']}, numpy "
            f"{made['numpy']}. The settings lie beside this page in study.toml, from which it can be made again."
        ],
    )


def _lead(study: Study[CustomSettings], result: CustomResult) -> list[str]:
    channels, height, width = result.data.shape
    kind = "grey" if channels == 1 else "colour"
    classes = f" in {len(result.data.classes)} classes" if result.data.labels is not None else " without labels"
    trained = f"{len(result.runs)} network{'' if len(result.runs) == 1 else 's'}"
    lead = [
        f"{len(result.data):,} {kind} images of {height} x {width} pixels{classes}, {result.data.name}; {trained} "
        f"trained on {len(result.parts.train):,} of them and measured on {len(result.parts.test):,} others."
    ]
    if study.settings.fast:
        lead.insert(0, "A fast run: every training had about a third of its updates.")
    lead += result.left_out
    if result.duplicates:
        lead.append(
            f"{result.duplicates} of the test images equal a training image pixel by pixel: "
            "the test figures may flatter by as much."
        )
    return lead


def _facts(study: Study[CustomSettings], result: CustomResult) -> dict[str, str]:
    parts = result.parts
    facts = {
        "Images": f"{len(parts.train):,} to train, {len(parts.validation):,} to choose by, {len(parts.test):,} to test",
        "Classes": ", ".join(result.data.classes) or "none",
        "Judge": result.bench.judge_name or "none, since no classifier was trained",
        "Training": (
            f"{duration(sum(run.seconds for run in result.runs.values()))} of steps, all runs added up, on "
            f"{study.device}, seed {study.settings.seed}"
        ),
        "Fingerprint": result.data.fingerprint[:16],
    }
    if result.data.notes:
        facts["Reading"] = " ".join(result.data.notes)
    return facts


def _runs_table(result: CustomResult) -> Table:
    """What was trained, with what differs between runs of one network."""
    swept = list(dict.fromkeys(path for run in result.planned for path in run.swept))
    rows = []
    for run in result.planned:
        trained = result.runs.get(run.name)
        if trained is None:
            word = "diverged" if result.untrained[run.name].startswith("diverged") else "not trained"
            done = ["", f"{run.plan.training.epochs}", word, ""]
        else:
            kept = f"{trained.best_epoch}"
            done = [f"{trained.parameters:,}", f"{len(trained.epochs)}", kept, duration(trained.seconds)]
        values = [_text(run.swept[path]) if path in run.swept else "" for path in swept]
        rows.append([run.name, run.plan.model.name, *values, *done])
    head = ["run", "network", *(path.rpartition(".")[2] for path in swept), "parameters", "epochs", "kept", "training"]
    note = (
        "Kept: the epoch best on the validation images, whose weights are used. Nothing was chosen on the test images."
    )
    return Table("What was trained", head, rows, [note])


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _training(result: CustomResult) -> Section:
    """Learning curves, of some of the runs where there are many."""
    chosen = chosen_of(list(result.runs), LEARNT)
    brief = short_names(chosen, LONGEST)
    panels = [_learning(name, brief[i], result) for i, name in enumerate(chosen)]
    still = [name for name, run in result.runs.items() if run.best_epoch == len(run.epochs)]
    found = [
        f"{len(still)} of {len(result.runs)} runs were best at their last epoch: more epochs may help these."
        if still
        else "Every run was best before its last epoch: more epochs alone would hardly help."
    ]
    if len(chosen) < len(result.runs):
        found.append(f"Shown are {len(chosen)} of the {len(result.runs)} runs; runs/ holds the history of each.")
    return Section("", "Training", "How did the networks learn?", found, panels)


def _learning(name: str, title: str, result: CustomResult) -> Panel:
    run = result.runs[name]
    epochs, best = run.epochs, run.best_epoch
    if "validation_accuracy" in epochs[0]:
        return curves.accuracy_curves(f"training-{name}", title, epochs, best=best)
    if "validation_kl" in epochs[0]:
        return curves.bound_curves(f"training-{name}", title, epochs, best=best)
    size = getattr(run.network, "latent_dim", None)
    optimum = None if size is None else result.bench.optimum(size)
    least = epochs[best - 1]["validation_loss"]
    level = (f"best, {least:.3g}", least) if optimum is None else (f"{result.bench.pca_name} (test)", optimum)
    return curves.loss_curves(f"training-{name}", title, epochs, best=best, level=level)


_SECTIONS: dict[Analysis, Callable[[CustomResult], Section]] = {
    "reconstruction": custom_sections.reconstruction_section,
    "codes": custom_sections.codes_section,
    "neighbours": custom_sections.neighbours_section,
    "accuracy": custom_sections.accuracy_section,
    "restoration": custom_sections.restoration_section,
    "generation": custom_sections.generation_section,
    "code-size": code_size_section,
}
