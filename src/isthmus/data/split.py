"""Training, validation and test images: a set divided once, by the images and a seed alone.

A file of its own, because scikit-learn takes as long to import as torch, and worker processes divide nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped, unused-ignore]

from isthmus.data.imageset import ImageSet, Split
from isthmus.errors import DataError

FEWEST, FEWEST_PER_CLASS = 10, 3  # images that can be split in three


def split(images: ImageSet, *, seed: int = 0, copy: bool = True) -> Split:
    """Divide a set into training, validation and test images, each shuffled, by (images, seed) alone.

    A published test set stays the test set, and a sixth of the rest is for validation: MNIST gives
    50,000 / 10,000 / 10,000. Otherwise 70 / 15 / 15. A labelled set is stratified: every part has nearly
    the same share of each class, and at least one image of it.

    Arguments: copy: whether each part has an array of its own; if not, they share that of the set (selection.py), which
    halves the memory.
    Raises: DataError for fewer than 10 images, or fewer than 3 of a class, to divide.

    >>> parts = split(ImageSet.from_arrays(np.zeros((20, 8, 8)), [0, 1] * 10))
    >>> len(parts.train), len(parts.validation), len(parts.test)
    (14, 3, 3)
    """
    open_count = len(images) - images.published_test
    rest = np.arange(open_count)
    _check_enough(images, rest)
    if images.published_test:
        test = np.random.default_rng(seed).permutation(np.arange(open_count, len(images)))
        share = 1 / 6
    else:
        share = 0.15
        rest, test = _divide(images, rest, round(share * open_count), seed)
    train, validation = _divide(images, rest, round(share * open_count), seed)
    take = images.take if copy else images.view
    return Split(take(train), take(validation), take(test))


def hold_out(images: ImageSet, share: float, *, seed: int = 0, copy: bool = True) -> tuple[ImageSet, ImageSet]:
    """Training and validation images: of each class `share` of its images is held out, drawn by `seed`.

    Of a class of two or more it is at least one image, and never all. If there are none to spare, or the share is 0,
    both are all of the images. Unlike `split`, it takes sets of any size from 2 on. copy: as there.

    >>> training, validation = hold_out(ImageSet.from_arrays(np.zeros((20, 8, 8)), [0, 1] * 10), 0.1)
    >>> len(training), validation.labels.tolist()
    (18, [0, 1])
    """
    if not share:
        return images, images
    order = np.random.default_rng(seed).permutation(len(images))
    labels = np.zeros(len(images), np.int64) if images.labels is None else images.labels
    each = []
    for label in np.unique(labels):
        members = order[labels[order] == label]
        each.append(members[: min(max(1, round(share * len(members))), len(members) - 1)])
    held = np.concatenate(each)[: len(images) - 2]
    if not len(held):
        return images, images
    take = images.take if copy else images.view
    return take(np.setdiff1d(order, held)), take(held)


def _divide(
    images: ImageSet, indices: NDArray[np.int64], size: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Shuffle `indices` into two; the second has `size` of them, and never fewer than there are classes."""
    labels = None if images.labels is None else images.labels[indices]
    if labels is not None:
        size = max(size, len(np.unique(labels)))
    state = np.random.RandomState(np.random.MT19937(seed))  # unlike a bare number, takes a seed of any size
    first, second = train_test_split(indices, test_size=size, random_state=state, stratify=labels)
    if images.labels is not None:
        # In proportion, 3 images among hundreds round to none: swap one with one of the largest class.
        for label in np.setdiff1d(images.labels[first], images.labels[second]):
            rare = np.argmax(images.labels[first] == label)
            common = np.argmax(images.labels[second] == np.bincount(images.labels[second]).argmax())
            first[rare], second[common] = second[common], first[rare]
    return first, second


def _check_enough(images: ImageSet, indices: NDArray[np.int64]) -> None:
    if len(indices) < FEWEST:
        raise DataError(
            f"{images.name} has {len(indices)} images to divide into training, validation and test; "
            f"at least {FEWEST} are needed: add images"
        )
    if images.labels is None:
        return
    present, counts = np.unique(images.labels[indices], return_counts=True)
    rare = [
        f"{images.classes[label]!r} has {count}"
        for label, count in zip(present, counts, strict=True)
        if count < FEWEST_PER_CLASS
    ]
    if rare:
        raise DataError(
            f"{images.name} has classes too small to divide into training, validation and test: "
            f"{', '.join(rare[:5])}; at least {FEWEST_PER_CLASS} images a class are needed: "
            "add images, or remove the class"
        )
