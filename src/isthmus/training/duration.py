"""How long trainings take, compared with each other, before they are begun: so that the longest may come first.

    seconds = updates x (one update, timed)          of each kind of network and training, while there is time
    seconds = multiply-adds x (seconds for one)      of the rest, at the pace of those like them that were timed

Multiply-adds alone mislead: what only reads and writes memory (batch norm, pooling, the optimizer) is most of the work
of a small network, and little of that of a large one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet
from isthmus.errors import IsthmusError
from isthmus.networks.apply import ranges
from isthmus.networks.catalog import Network, build
from isthmus.settings import ModelSettings, RunSettings, TrainingSettings
from isthmus.training.loop import update
from isthmus.training.optimizers import make_optimizer
from isthmus.training.scoring import Corrupt

WARM_UP = 8  # images of an update that is not counted
MOST, ENOUGH = 3, 0.1  # updates of each kind that are timed at most, and seconds after which no other is
BUDGET = 1.0  # seconds for all of them, for which no worker has anything to do yet


def durations(runs: Mapping[str, RunSettings], training: ImageSet, *, threads: int = 1) -> dict[str, float]:
    """Seconds of each training on a CPU by its name, estimated within `BUDGET` seconds.

    Those of a network that cannot be built, which whoever trains it finds out, are 0. Scoring after an epoch is left
    out, since it takes nearly the same share of all.
    """
    costs = {name: cost_or_nothing(settings, training) for name, settings in runs.items()}
    kinds: dict[str, list[str]] = {}
    for name, settings in runs.items():
        if costs[name]:
            kinds.setdefault(kind_of(settings.model, settings.training), []).append(name)
    found, end = dict.fromkeys(runs, 0.0), time.monotonic() + BUDGET
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        # The smallest first: many of them are timed soon, and their pace, which is slow, sends the rest to the front.
        for names in sorted(kinds.values(), key=lambda names: costs[names[0]] / _updates(runs[names[0]], training)):
            if time.monotonic() < end:
                one_update = update_seconds(runs[names[0]], training)
                for name in names:
                    found[name] = one_update * _updates(runs[name], training)
    finally:
        torch.set_num_threads(before)
    pace = {name: found[name] / costs[name] for name in found if found[name]}
    return {name: seconds or costs[name] * _pace_of(name, runs, pace) for name, seconds in found.items()}


def _pace_of(name: str, runs: Mapping[str, RunSettings], pace: Mapping[str, float]) -> float:
    """Seconds for one multiply-add: as of those that were timed of networks of its kind, or else of all."""
    alike = [value for other, value in pace.items() if runs[other].model.name == runs[name].model.name]
    return median(alike or pace.values() or [1.0])


def update_seconds(settings: RunSettings, training: ImageSet) -> float:
    """Seconds of one update on a CPU, of this thread alone: what else the machine is at does not count."""
    network = build(settings.model, training.shape, classes=len(training.classes), seed=settings.seed)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    step = one_update(network, settings.training, training)
    spent: list[float] = []
    with torch.random.fork_rng(devices=[]):
        step(WARM_UP)
        while not spent or (len(spent) < MOST and sum(spent) < ENOUGH):
            started = time.thread_time()
            step(settings.training.batch_size)
            spent.append(time.thread_time() - started)
    return median(spent)


def one_update(
    network: Network, settings: TrainingSettings, training: ImageSet, *, device: str = "cpu"
) -> Callable[[int], Tensor]:
    """An update of the network, which is on that device, to be timed: called with the number of images, the first of
    the set and at most a batch, it gives their loss."""
    images = torch.from_numpy(training.images[: settings.batch_size]).to(device)
    labels = None
    if network.target != "images" and training.labels is not None:
        labels = torch.from_numpy(training.labels[: settings.batch_size]).to(device)
    optimizer, generator = make_optimizer(network, settings), torch.Generator().manual_seed(0)
    noise: Corrupt = lambda clean, g: add_noise(clean, settings.noise, generator=g)  # noqa: E731
    corrupt = noise if settings.noise else None
    network.train()

    def step(count: int) -> Tensor:
        some = None if labels is None else labels[:count]
        return update(network, images[:count], some, optimizer, settings, corrupt=corrupt, generator=generator)

    return step


def cost(settings: RunSettings, training: ImageSet) -> float:
    """Multiply-adds of a whole training: epochs x images x those of one image, forward and backward.

    Counted in a dry run without numbers, over convolutions and matrix products alone.
    Raises: InputError if the network cannot be built for these images.

    >>> from isthmus.settings import DataSettings, LinearSettings
    >>> images = ImageSet.from_arrays(torch.zeros(10, 32, 32))
    >>> settings = RunSettings(data=DataSettings(name="x"), model=LinearSettings(latent_dim=3))
    >>> encoder, decoder = 1024 * 3, 3 * 1024
    >>> cost(settings, images) == settings.training.epochs * 10 * (2 * encoder + 3 * decoder)
    True
    """
    with torch.device("meta"):
        network = build(settings.model, training.shape, classes=len(training.classes))
        images = torch.empty(2, *training.shape)
        targets = images if network.target == "images" else torch.zeros(2, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            network.loss(images, targets).backward()  # type: ignore[no-untyped-call]
    of_one_image: float = counter.get_total_flops() / 2 / len(images)  # a multiplication and an addition are two
    return settings.training.epochs * len(training) * of_one_image


def cost_or_nothing(settings: RunSettings, training: ImageSet) -> float:
    """`cost`; 0 of a network that cannot be built."""
    try:
        return cost(settings, training)
    except IsthmusError:
        return 0.0


def _updates(settings: RunSettings, training: ImageSet) -> int:
    return settings.training.epochs * len(ranges(len(training), settings.training.batch_size))


def kind_of(model: ModelSettings, training: TrainingSettings) -> str:
    """What decides how long one update takes."""
    apart = {"epochs", "learning_rate", "schedule", "warmup", "patience"}
    return model.model_dump_json() + training.model_dump_json(exclude=apart)
