"""The one training loop.

All images lie in one uint8 tensor on the device; a batch is taken by index and cast there. Those of a set too large for
memory stay on disk (feed.py). The order of the data and every random draw of epoch e are a function of (seed, e) alone
(draws.py), so that a run can be taken up after any epoch. Losses stay on the device until the epoch ends: no step waits
for a number.

Dropout and the codes of a VAE draw from torch's global random states, which are seeded here and put back afterwards.
Two trainings in threads of one process would disturb each other's draws: give each a process of its own. Several
processes that torchrun started work on one training together (distributed.py): each on a part of every batch.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from isthmus.data.arrays import Pixels
from isthmus.data.augment import augment
from isthmus.data.degrade import add_noise
from isthmus.data.imageset import ImageSet
from isthmus.errors import DivergedError, InputError
from isthmus.networks.apply import BATCH, ranges, to_float
from isthmus.networks.catalog import Network
from isthmus.networks.variational import VAE
from isthmus.runs import Run
from isthmus.settings import TrainingSettings
from isthmus.training.distributed import ProcessLostError, Together, together, told_of_losses
from isthmus.training.draws import epoch_generator, random_state_kept, seed_global
from isthmus.training.feed import batches, every, placed, selected
from isthmus.training.optimizers import freeze, make_optimizer, make_schedule
from isthmus.training.scoring import Corrupt, score, scored_images

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class History:
    """What a training did.

    epochs: one dictionary each, with `epoch`, `loss` (mean over the steps, as trained), `train_loss` and
    `validation_loss` (both scored after the epoch without augmentation, over images), `learning_rate`, `seconds`;
    for a classifier also `train_accuracy` and `validation_accuracy`. best_epoch: whose weights the network has.
    seconds: of training steps, without scoring. stopped_early: whether patience ran out.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    stopped_early: bool = False


def train(
    network: Network,
    training: ImageSet,
    validation: ImageSet,
    settings: TrainingSettings,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    corrupt: Corrupt | None = None,
    run: Run | None = None,
    progress: Progress | None = None,
) -> History:
    """Train `network` in place; it ends with the weights of the epoch best on `validation`: of least
    loss, or for a classifier of highest accuracy.

    Arguments: corrupt: makes the degraded input of a batch (B, C, H, W) with a generator, while the target stays
    clean; by default Gaussian noise of `settings.noise`. run: where epochs are recorded, and the best weights kept
    if the training is cut short by Ctrl-C. progress: called with (steps done, steps in all, a line on the epoch).
    Returns: the History. Raises: DivergedError with the step and the rate if a loss is not finite; InputError if
    the images have no labels and the network learns from labels.

    >>> from isthmus.data.catalog import load
    >>> from isthmus.data.split import split
    >>> from isthmus.networks.autoencoder import linear
    >>> parts = split(load("mnist-5k"))
    >>> history = train(linear(parts.train.shape), parts.train, parts.validation, TrainingSettings(epochs=1))
    >>> history.best_epoch
    1
    """
    if corrupt is None and settings.noise:
        corrupt = _noise(settings.noise)
    network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    _check_likelihood(network, training.images, training.name)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    still = freeze(network, settings)
    frozen = [parameter for parameter in learning if not parameter.requires_grad]
    images, targets = placed(training, network, device)
    sample = every(len(training), scored_images(training, validation))
    scored = {
        "train": (selected(images, sample), None if targets is None else targets[sample]),
        "validation": placed(validation, network, device),
    }
    bounds = ranges(len(images), settings.batch_size)
    steps = settings.epochs * len(bounds)
    place = next(network.parameters()).device
    optimizer = make_optimizer(network, settings)
    schedule = make_schedule(optimizer, settings, steps)

    epochs: list[dict[str, float]] = []
    best, best_epoch = _weights(network), 0
    best_rank: tuple[float, ...] = (float("inf"),)
    seconds = 0.0
    afterwards = contextlib.ExitStack()
    afterwards.enter_context(random_state_kept(place))
    try:
        group = afterwards.enter_context(together(network, settings.batch_size))
        for epoch in range(1, settings.epochs + 1):
            started = time.perf_counter()
            order_generator, noise_generator = epoch_generator(seed, epoch, 0), epoch_generator(seed, epoch, 1)
            seed_global(epoch_generator(seed, epoch, 3).initial_seed(), place)  # dropout draws from it
            order = torch.randperm(len(images), generator=order_generator).to(place)
            losses = torch.zeros(len(bounds), device=device)
            rates = []
            network.train()
            still.eval()
            chosen = [order[begin:end] for begin, end in bounds]
            for step, batch in enumerate(batches(images, chosen, place)):
                labels = None if targets is None else targets[chosen[step]]
                losses[step] = update(
                    network, batch, labels, optimizer, settings, corrupt=corrupt, generator=noise_generator, group=group
                )
                rates.append(optimizer.param_groups[0]["lr"])
                if schedule is not None:
                    schedule.step()
                if progress is not None:
                    progress((epoch - 1) * len(bounds) + step + 1, steps, _line(epoch, settings.epochs, epochs))
            trained = losses.tolist()  # the one moment an epoch waits for the device
            spent = time.perf_counter() - started
            seconds += spent
            _check_finite(trained, rates, first_step=(epoch - 1) * len(bounds) + 1)

            record = {
                "epoch": epoch,
                "loss": float(np.mean(trained)),
                "learning_rate": rates[-1],
                "seconds": spent,
            }
            for part, (part_images, part_targets) in scored.items():
                figures = score(
                    network,
                    part_images,
                    part_targets,
                    corrupt=corrupt,
                    generator=epoch_generator(seed, 0, 2),
                    group=None if group is None else group.group,
                )
                record |= {f"{part}_{name}": value for name, value in figures.items()}
            measured = [record["train_loss"], record["validation_loss"]]
            _check_finite(measured, rates[-1:] * 2, first_step=epoch * len(bounds))
            epochs.append(record)
            if run is not None:
                run.add_epoch(record)
            if _rank(record) < best_rank:
                best, best_epoch, best_rank = _weights(network), epoch, _rank(record)
            if settings.patience is not None and epoch - best_epoch >= settings.patience:
                break
    except (KeyboardInterrupt, ProcessLostError):
        if run is not None and best_epoch:
            run.keep_checkpoint(best)
        raise
    finally:
        afterwards.close()
        for parameter in frozen:
            parameter.requires_grad_(True)
        network.load_state_dict(best)
        network.eval()
    return History(epochs, best_epoch, seconds, stopped_early=len(epochs) < settings.epochs)


def update(
    network: Network,
    images: Tensor,
    labels: Tensor | None,
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
    *,
    corrupt: Corrupt | None,
    generator: torch.Generator,
    group: Together | None = None,
) -> Tensor:
    """One step of the optimizer on a batch (B, C, H, W): its loss before the step, a scalar that stays on the device.

    Arguments: labels: (B,), or None where the clean images are the target. group: who works on it, too; of a batch that
    is shared each process varies and corrupts the whole, as the draws are made for it. The others are those of `train`.
    """
    clean = augment(to_float(images), settings, generator=generator)
    given = clean if corrupt is None else corrupt(clean, generator)
    given = given.contiguous(memory_format=torch.channels_last)
    loss = (network if group is None else group).loss(given, clean if labels is None else labels)
    optimizer.zero_grad()
    with told_of_losses():
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach()


def one_pass(
    network: Network,
    images: Tensor,
    labels: Tensor | None,
    optimizer: torch.optim.Optimizer,
    settings: TrainingSettings,
    *,
    seed: int,
    number: int,
) -> float:
    """Go over images once, with an optimizer that is kept from pass to pass. The mean loss of its steps.

    Arguments: images: (N, C, H, W), at least 2. labels: (N,), or None where the images are the target. seed, number:
    of the pass, decide the order and what is drawn.
    Raises: DivergedError as `train`, counting the steps of this pass; the network is of no use then. InputError if the
    likelihood does not fit.
    """
    _check_likelihood(network, images.numpy(), "X")
    place = next(network.parameters()).device
    images, labels = images.to(place), None if labels is None else labels.to(place)
    corrupt = _noise(settings.noise) if settings.noise else None
    generator = epoch_generator(seed, number, 1)
    order = torch.randperm(len(images), generator=epoch_generator(seed, number, 0)).to(place)
    bounds = ranges(len(images), settings.batch_size)
    network.train()
    with random_state_kept(place):
        seed_global(epoch_generator(seed, number, 3).initial_seed(), place)  # dropout draws from it
        losses = [
            update(
                network,
                images[order[begin:end]],
                None if labels is None else labels[order[begin:end]],
                optimizer,
                settings,
                corrupt=corrupt,
                generator=generator,
            )
            for begin, end in bounds
        ]
    found, last = torch.stack(losses).tolist(), order[bounds[-1][0] :]
    _check_finite(found, [settings.learning_rate] * len(found), first_step=1)
    left = _loss_left(network, images[last], None if labels is None else labels[last], corrupt, generator)
    _check_finite([left], [settings.learning_rate], first_step=len(found))
    return float(np.mean(found))


def _noise(sigma: float) -> Corrupt:
    return lambda images, generator: add_noise(images, sigma, generator=generator)


def _check_likelihood(network: Network, images: Pixels, name: str) -> None:
    """Raises: InputError if images are not binary and the network takes them for draws of a Bernoulli."""
    if not isinstance(network, VAE) or network.likelihood != "bernoulli":
        return
    top = 255 if images.dtype == np.uint8 else 1
    parts = (images[begin : begin + BATCH] for begin in range(0, len(images), BATCH))
    if not all(bool(((part == 0) | (part == top)).all()) for part in parts):
        raise InputError(
            f"{name} has grey values, which no Bernoulli likelihood draws; threshold the "
            "images, or use model.likelihood=gaussian."
        )


def _weights(network: Network) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _loss_left(
    network: Network, images: Tensor, labels: Tensor | None, corrupt: Corrupt | None, generator: torch.Generator
) -> float:
    """The loss of a batch once all steps are done, NaN if a weight is not finite: a loss from before the last step says
    nothing of what that step did."""
    if not all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values()):
        return math.nan
    return score(network, images, labels, corrupt=corrupt, generator=generator)["loss"]


def _rank(record: dict[str, float]) -> tuple[float, ...]:
    """Less is better: the validation loss; for a classifier the accuracy first, which label smoothing does not bend."""
    loss = record["validation_loss"]
    return (-record["validation_accuracy"], loss) if "validation_accuracy" in record else (loss,)


def _check_finite(losses: list[float], rates: list[float], *, first_step: int) -> None:
    for i, (loss, rate) in enumerate(zip(losses, rates, strict=True)):
        if not np.isfinite(loss):
            step = first_step + i
            raise DivergedError(
                f"The loss became {loss} at step {step} with learning rate {rate:.3g}. "
                f"Lower training.learning_rate, for example to {rate / 10:.1g}, and start anew with --overwrite.",
                step=step,
                learning_rate=rate,
            )


def _line(epoch: int, epochs: int, records: list[dict[str, float]]) -> str:
    text = f"epoch {epoch}/{epochs}"
    return f"{text}, validation loss {records[-1]['validation_loss']:.4f}" if records else text
