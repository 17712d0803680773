"""A study of one's own as a file: what may stand in it, and what it asks to be trained.

Each list below a network's `sweep` holds the values of one setting, and every combination of them is a run:

    networks.conv with model.latent_dim = [2, 4] and seed = [0, 1]  ->  conv-2-0  conv-2-1  conv-4-0  conv-4-1
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, PositiveInt

from isthmus.latent.density import DensityName
from isthmus.settings import (
    ModelSettings,
    Seed,
    Settings,
    TrainingSettings,
    merge,
    validate,
    validate_model,
)
from isthmus.studies.study import Plan, StudySettings, budget

Analysis = Literal["reconstruction", "codes", "neighbours", "accuracy", "restoration", "generation", "code-size"]
ANALYSES: tuple[Analysis, ...] = get_args(Analysis)
CODERS = frozenset({"lab", "strong", "linear", "vae"})  # by model.name, the networks that have a code
# What an analysis needs at least one of among the networks, by model.name, and in words.
NEEDS: dict[Analysis, tuple[frozenset[str], str]] = {
    **dict.fromkeys(ANALYSES, (CODERS, "a network with a code (lab, strong, linear or vae)")),
    "accuracy": (frozenset({"classifier"}), "a classifier"),
    "restoration": (CODERS | {"denoiser"}, "a network that draws images (any but a classifier)"),
}
FEWEST_SIZES = 3  # of a code, to see where its curve bends
FREE = ("model.latent_dim", "seed")  # in what the runs of one curve of sizes may differ
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")  # of a network: part of a folder's name, and of a dotted path
LONGEST = 120  # of a run's name: a file system that encrypts names takes 143 characters
MOST_RUNS = 1000  # of a study: beyond it a sweep is more likely a slip than a wish


class SweepSettings(Settings):
    """Lists of values. Every combination of them is trained, as a run of its own."""

    model: dict[str, list[Any]] | None = Field(
        default=None, description="By a setting of the network, its values: sweep.model.latent_dim = [2, 4, 8]."
    )
    training: dict[str, list[Any]] | None = Field(
        default=None,
        description="By a setting of the training, its values: sweep.training.learning_rate = [1e-3, 1e-2].",
    )
    seed: list[Seed] | None = Field(
        default=None, description="Values of `seed`: two or more show how far runs differ by chance."
    )

    @property
    def lists(self) -> dict[str, list[Any]]:
        """The values by dotted path."""
        found = {f"model.{key}": values for key, values in (self.model or {}).items()}
        found |= {f"training.{key}": values for key, values in (self.training or {}).items()}
        return found if self.seed is None else {**found, "seed": list(self.seed)}


class NetworkSettings(Settings):
    """A network of the study, or as many as its sweep asks for. Its name becomes that of its runs."""

    model: ModelSettings = Field(description="Which network, by model.name, and its options.")
    training: TrainingSettings = Field(
        default=TrainingSettings(), description="How it is trained; what is left out is the network's own default."
    )
    meant_for: PositiveInt | None = Field(
        default=None,
        description="Training images that training.epochs are meant for: with more or fewer images, the number of "
        "updates goes with the number of images to the power 0.7. Without it, epochs are taken as they stand.",
    )
    seed: Seed = Field(default=0, description="Added to the seed of the study.")
    start: str | None = Field(
        default=None, description="Another network of this file, without a sweep, whose weights it begins with."
    )
    sweep: SweepSettings | None = Field(default=None, description="Settings of which several values are tried.")


class CustomSettings(StudySettings):
    """A study of one's own."""

    WORDS: ClassVar[tuple[str, ...]] = ("title",)

    study: Literal["custom"] = Field(default="custom", description="What kind of study this is.")
    title: str | None = Field(default=None, description="The heading of the report.")
    analyses: tuple[Analysis, ...] = Field(
        default=(), description="What is measured, in this order; by default all that the networks allow."
    )
    degradations: tuple[str, ...] = Field(
        default=("noise:0.25",),
        description="What restoration is tried on: noise:0.25 (standard deviation), mask:0.5 (share missing), blur:1.5 "
        "(pixels), lowres:2 (side of a block), or one of these three with noise, as blur:1.5+noise:0.1.",
    )
    densities: tuple[DensityName, ...] = Field(
        default=("normal", "gaussian", "mixture"),
        description="What generation draws codes from; normal, which is not fitted, is for a vae alone.",
    )
    networks: dict[str, NetworkSettings] = Field(
        description="What is trained: a table [networks.NAME] for each network, under a name of your choice."
    )


@dataclass(frozen=True)
class Planned:
    """A run to come: its name, that of its network in the file, what it is to be, the network whose weights it begins
    with, and what was swept, by dotted path."""

    name: str
    network: str
    plan: Plan
    start: str | None = None
    swept: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int | None:
        """Numbers in its code; None of a network without one."""
        size: int | None = getattr(self.plan.model, "latent_dim", None)
        return size


def planned(settings: CustomSettings, *, images: int) -> list[Planned]:
    """Every run of a study with so many training images, each after the one it begins with."""
    waiting = {name: list(_runs(name, settings, images)) for name in settings.networks}
    placed: dict[str, list[Planned]] = {}
    while waiting:
        ready = [name for name in waiting if settings.networks[name].start in (None, *placed)]
        assert ready, "networks that start from each other are refused before"
        placed |= {name: waiting.pop(name) for name in ready}
    return [run for runs in placed.values() for run in runs]


def count_of(sweep: Mapping[str, Sequence[Any]]) -> int:
    """How many runs these lists make.

    >>> count_of({"model.latent_dim": [2, 4, 8], "seed": [0, 1]}), count_of({})
    (6, 1)
    """
    return math.prod(map(len, sweep.values()))


def families(runs: Sequence[Planned]) -> dict[str, list[Planned]]:
    """Runs with a code that are alike but for its size and the seed, by name; only those of enough sizes."""
    groups: dict[str, list[Planned]] = {}
    for run in runs:
        if run.size is not None:
            model = run.plan.model.model_dump_json(exclude={"latent_dim"})
            groups.setdefault(f"{model} {run.plan.training.model_dump_json()} {run.start}", []).append(run)
    found: dict[str, list[Planned]] = {}
    for group in groups.values():
        if len({run.size for run in group}) >= FEWEST_SIZES:
            found[_name_of(group, found)] = group
    return found


def _name_of(group: Sequence[Planned], taken: Mapping[str, object]) -> str:
    """The network that most of the runs belong to, with what else was swept where that leaves it open."""
    networks = [run.network for run in group]
    name = max(dict.fromkeys(networks), key=networks.count)
    first = next(run for run in group if run.network == name)
    other = [f"{path.rpartition('.')[2]} {value}" for path, value in first.swept.items() if path not in FREE]
    full = ", ".join([name, *other])
    return full if full not in taken else f"{full} ({len(taken) + 1})"


def _runs(name: str, settings: CustomSettings, images: int) -> Iterator[Planned]:
    network = settings.networks[name]
    lists = {} if network.sweep is None else network.sweep.lists
    for values in itertools.product(*lists.values()):
        swept = dict(zip(lists, values, strict=True))
        tree: dict[str, Any] = network.model_dump(include={"model", "training", "seed"})
        for path, value in swept.items():
            tree = merge(tree, _nested(path, value))
        training = _fitted(validate(TrainingSettings, tree["training"]), network.meant_for, images, settings.fast)
        plan = Plan(validate_model(tree["model"]), training, (settings.seed + tree["seed"]) % 2**63)
        yield Planned("-".join([name, *map(in_a_name, values)]), name, plan, network.start, swept)


def _fitted(training: TrainingSettings, meant_for: int | None, images: int, fast: bool) -> TrainingSettings:
    """With the epochs that suit so many images; `fast` is a third of the updates."""
    if meant_for is not None:
        return budget(training, images=images, fast=fast, meant_for=meant_for)
    return training.model_copy(update={"epochs": max(1, round(training.epochs / 3))}) if fast else training


def _nested(path: str, value: Any) -> dict[str, Any]:
    key, dot, rest = path.partition(".")
    return {key: _nested(rest, value) if dot else value}


def in_a_name(value: Any) -> str:
    """How a swept value stands in the name of its run; different numbers have different names.

    >>> [in_a_name(value) for value in (8, 0.001, 10.0, True, "nearest", [64, 32])]
    ['8', '0.001', '10', 'true', 'nearest', '64x32']
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "x".join(map(in_a_name, value))
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return str(value)
