"""A study of one's own: its networks trained, and what it asks measured, by the same means as the built-in studies.

What begins with random weights is one sweep; what begins with those of another network follows it. A run that diverges
is a result. Without labels, what needs them is left out, which is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from isthmus.data.degrade import parse_recipe
from isthmus.data.imageset import ImageSet, Split
from isthmus.data.split import split
from isthmus.errors import DivergedError, InputError
from isthmus.networks.apply import BATCH, ranges
from isthmus.networks.catalog import build
from isthmus.runs import Run
from isthmus.settings import VAESettings
from isthmus.studies import analyses, code_size, redrawn
from isthmus.studies.analyses import Accuracy, Bench, Code, Neighbours, Reconstructions, best_classifier
from isthmus.studies.code_size import CodeSizes
from isthmus.studies.redrawn import Generation, Restored
from isthmus.studies.study import Study
from isthmus.studies.study_file import NEEDS, Analysis, CustomSettings, Planned, planned
from isthmus.training.job import Trained

NEED_LABELS = ("neighbours", "accuracy")


@dataclass(frozen=True)
class CustomResult:
    """All of the study: what the report shows and `figures` names. An analysis that was not done is None.

    planned: every run that was to be trained. runs: those that were, by name. untrained: of the others why, by name.
    left_out: what was not done, and why, a sentence each.
    """

    data: ImageSet
    parts: Split
    duplicates: int
    planned: list[Planned]
    runs: dict[str, Trained]
    untrained: dict[str, str]
    left_out: tuple[str, ...]
    bench: Bench
    reconstruction: Reconstructions | None = None
    codes: dict[str, Code] | None = None
    neighbours: Neighbours | None = None
    accuracy: Accuracy | None = None
    restoration: dict[str, dict[str, Restored]] | None = None
    generation: Generation | None = None
    code_size: CodeSizes | None = None
    figures: dict[str, float | None] = field(default_factory=dict)


def check_custom(settings: CustomSettings, images: ImageSet) -> None:
    """Refuse, before a folder is made, what these images cannot be used for. Raises: InputError."""
    runs, _ = trainable(settings, images, training_images=len(split(images, seed=settings.seed).train))
    built = {}
    binary: bool | None = None
    for run in runs:
        try:
            with torch.device("meta"):  # shapes without weights: takes no time and no memory
                built[run.network] = build(run.plan.model, images.shape, classes=len(images.classes))
        except InputError as error:
            raise InputError(f"networks.{run.network}: {error}") from error
        if run.start is not None:
            _check_alike(run.network, run.start, built)
        if isinstance(run.plan.model, VAESettings) and run.plan.model.likelihood == "bernoulli":
            binary = _is_binary(images) if binary is None else binary
            _check_binary(run.network, images.name, binary)
    for i, text in enumerate(settings.degradations if "restoration" in settings.analyses else ()):
        try:
            parse_recipe(text).build(images.shape, count=1, generator=torch.Generator().manual_seed(0))
        except InputError as error:
            raise InputError(f"degradations.{i}: {error}") from error


def trainable(
    settings: CustomSettings, images: ImageSet, *, training_images: int
) -> tuple[list[Planned], tuple[str, ...]]:
    """The runs that these images allow, and a sentence on what is left out.

    Raises: InputError if nothing is left: the images have no labels, and every network is a classifier.
    """
    runs = planned(settings, images=training_images)
    if images.labels is not None and len(np.unique(images.labels)) > 1:
        return runs, ()
    why = "the images have no labels" if images.labels is None else "the images are all of one class"
    left = [run for run in runs if run.plan.model.name != "classifier"]
    if not left:
        raise InputError(
            f"{images.name}: {why}, and the study has classifiers alone. Put the images of each class into a folder "
            f"of its own, or add a network that needs none, as lab or vae."
        )
    gone = list(dict.fromkeys(run.network for run in runs if run not in left))
    without = [name for name in settings.analyses if name in NEED_LABELS]
    listed = [*(f"the classifier {name}" for name in gone), *without]
    return left, (f"Left out, since {why}: {', '.join(listed)}.",) if listed else ()


def run_custom(study: Study[CustomSettings], images: ImageSet) -> CustomResult:
    """Train what the study asks for, then do its analyses; trainings that are finished are not done again.

    Raises: TrainingFailedError if a run fails; DivergedError if every run diverges.
    """
    parts = split(images, seed=study.settings.seed)
    duplicates = parts.test.count_shared(np.sort(parts.train.image_hashes()))
    count = f"{len(parts.train):,} / {len(parts.validation):,} / {len(parts.test):,}"
    study.say(f"{images.name}: {count} images to train, validate, test")
    plans, left_out = trainable(study.settings, images, training_images=len(parts.train))
    for sentence in left_out:
        study.say(sentence)
    runs, untrained = _train(study, plans, parts)
    gone = tuple(f"{name} is left out: it {why}." for name, why in untrained.items())
    folders = {name: Run(study.folder / "runs" / name) for name in runs}
    bench = Bench(parts, runs, folders, best_classifier(runs), study.settings.seed)
    found: dict[str, Any] = {}
    for name in study.settings.analyses:
        if name in NEED_LABELS and left_out:
            continue  # which `left_out` says
        why = _unfit(name, plans, runs)
        if why:
            gone += (f"{name} is left out: {why}.",)
        else:
            study.say(f"measuring: {name}")
            found[name.replace("-", "_")] = _WORK[name](bench, study.settings, plans)
    result = CustomResult(images, parts, duplicates, plans, runs, untrained, left_out + gone, bench, **found)
    result.figures.update(figures(result))
    return result


def figures(result: CustomResult) -> dict[str, float | None]:
    """Every number of the study by its dotted name; docs/study-file.md lists them."""
    named: dict[str, float | None] = {}
    for name, run in result.runs.items():
        named[f"runs.{name}.train_seconds"] = run.seconds
    if result.reconstruction is not None:
        for name, each in result.reconstruction.rebuilt.items():
            named |= {f"reconstruction.{name}.train_mse": each.train, f"reconstruction.{name}.test_mse": each.test}
            named |= {f"reconstruction.{name}.psnr": each.psnr, f"reconstruction.{name}.pca_mse": each.pca}
            if each.kept is not None:
                named[f"reconstruction.{name}.class_kept"] = each.kept.value
    for name, code in (result.codes or {}).items():
        named[f"codes.{name}.dead"] = float(code.clipping.dead.sum())
        named |= {f"codes.{name}.active_units": code.active} if code.active is not None else {}
        named |= {f"codes.{name}.silhouette": code.silhouette} if code.silhouette is not None else {}
    if result.neighbours is not None:
        named["neighbours.pixels.1nn_mean"] = result.neighbours.pixels
        named |= {f"neighbours.{name}.1nn_mean": each.mean for name, each in result.neighbours.by_run.items()}
    return named | _more_figures(result)


def _more_figures(result: CustomResult) -> dict[str, float | None]:
    named: dict[str, float | None] = {}
    if result.accuracy is not None:
        named |= {f"accuracy.{name}.validation": each.value for name, each in result.accuracy.validation.items()}
        share = result.accuracy.test
        named |= {"accuracy.test": share.value, "accuracy.test.low": share.low, "accuracy.test.high": share.high}
    for text, methods in (result.restoration or {}).items():
        for name, restored in methods.items():
            prefix = f"restoration.{text}.{name.replace(', ', '.').replace(' ', '-')}"
            named |= {f"{prefix}.psnr": restored.quality.psnr, f"{prefix}.ssim": restored.quality.ssim}
            named |= {f"{prefix}.seconds": restored.seconds} if restored.seconds is not None else {}
            if restored.kept is not None:
                named[f"{prefix}.class_kept"] = restored.kept.value
    if result.generation is not None:
        named |= {"generation.real_floor": result.generation.floor} if result.generation.floor is not None else {}
        for name, by_density in result.generation.drawn.items():
            for kind, drawn in by_density.items():
                prefix = f"generation.{name}.{kind}"
                named |= {f"{prefix}.heldout_nats": drawn.heldout_nats, f"{prefix}.copied": drawn.copied}
                named |= {f"{prefix}.frechet": drawn.frechet} if drawn.frechet is not None else {}
    return named | (code_size.figures(result.code_size) if result.code_size is not None else {})


_WORK: dict[Analysis, Callable[[Bench, CustomSettings, list[Planned]], object]] = {
    "reconstruction": lambda bench, settings, plans: analyses.reconstructions(bench),
    "codes": lambda bench, settings, plans: analyses.codes(bench),
    "neighbours": lambda bench, settings, plans: analyses.neighbours(bench),
    "accuracy": lambda bench, settings, plans: analyses.accuracy(bench),
    "restoration": lambda bench, settings, plans: redrawn.restorations(bench, settings.degradations),
    "generation": lambda bench, settings, plans: redrawn.generation(bench, settings.densities, _once(bench, plans)),
    "code-size": lambda bench, settings, plans: code_size.code_sizes(bench, plans),
}


def _once(bench: Bench, plans: list[Planned]) -> list[str]:
    """Runs with a code; of those that differ in the seed alone the first."""
    alike: dict[str, str] = {}
    for run in plans:
        if run.name in bench.coders:
            settings = f"{run.plan.model.model_dump_json()} {run.plan.training.model_dump_json()} {run.start}"
            alike.setdefault(settings, run.name)
    return list(alike.values())


def _unfit(name: Analysis, plans: list[Planned], runs: dict[str, Trained]) -> str:
    """Why an analysis cannot be done with the networks that were trained; empty if it can."""
    wanted, words = NEEDS[name]
    kinds = {run.plan.model.name for run in plans if run.name in runs}
    return "" if kinds & wanted else f"it needs {words}, and none was trained"


def _train(
    study: Study[CustomSettings], plans: list[Planned], parts: Split
) -> tuple[dict[str, Trained], dict[str, str]]:
    """Every run by name, and why the others were not trained to their end."""
    first = {run.name: run.plan for run in plans if run.start is None}
    runs: dict[str, Trained] = {}
    diverged: dict[str, int] = {}
    untrained: dict[str, str] = {}
    for name, swept in study.sweep(first, parts).items():
        if swept.trained is None:
            diverged[name] = int(swept.run.status()["step"])
        else:
            runs[name] = swept.trained
    for run in plans:
        if run.start is None:
            continue
        if run.start not in runs:
            untrained[run.name] = f"begins with the weights of {run.start}, and there are none"
            study.say(f"{run.name}: not trained, since it {untrained[run.name]}")
            continue
        try:
            start = (run.start, runs[run.start].network)
            runs[run.name] = study.train(
                run.name, run.plan.model, run.plan.training, parts, start=start, seed=run.plan.seed
            )
        except DivergedError as error:
            study.say(f"{run.name}: {error}")
            diverged[run.name] = error.step
    if not runs:
        listed = ", ".join(f"{name} at step {step}" for name, step in diverged.items())
        raise DivergedError(
            f"Every training diverged ({listed}); give a smaller training.learning_rate.",
            step=min(diverged.values()),
            learning_rate=plans[0].plan.training.learning_rate,
        )
    why = {name: f"diverged at step {step}" for name, step in diverged.items()} | untrained
    return {run.name: runs[run.name] for run in plans if run.name in runs}, why


def _is_binary(images: ImageSet) -> bool:
    """Whether every pixel is black or white."""
    top = 255 if images.images.dtype == np.uint8 else 1
    parts = (images.images[begin:end] for begin, end in ranges(len(images), BATCH))
    return all(bool(((part == 0) | (part == top)).all()) for part in parts)


def _check_binary(name: str, images: str, binary: bool) -> None:
    """Raises: InputError of a network that takes pixels for draws of a Bernoulli, unless they can be such."""
    if not binary:
        raise InputError(
            f"networks.{name}.model.likelihood: bernoulli is for black and white alone, and {images} has grey values; "
            f"take gaussian, or threshold the images."
        )


def _check_alike(name: str, start: str, built: Mapping[str, torch.nn.Module]) -> None:
    """Raises: InputError unless both networks have the same weights to fill."""
    shapes = [{key: value.shape for key, value in built[each].state_dict().items()} for each in (name, start)]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"networks.{name}.start: {start} has other layers than {name}, so its weights do not fit; give both the "
            f"same model settings."
        )
