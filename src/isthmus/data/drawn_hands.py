"""Hands drawn from known finger states: ten digit signs that need no photographs, with their true factors.

A hand is a skeleton of 20 tapered capsules: four bones of the palm, three of each finger and of the thumb, the
forearm. It is seen straight on. For a pixel at distance d from a capsule's axis, of radius r and at depth z there,

    outside = d - r                    (signed distance, whose smooth minimum over capsules draws the outline)
    height  = z + sqrt(r^2 - d^2)      (the surface, whose smooth maximum over capsules is lit from one side)

(Quilez, "2D distance functions" and "Smooth minimum"). A finger that is not up bends at its three joints towards the
viewer, so it grows shorter in the picture and ends in front of the palm; the thumb then holds it. The signs are those
of the Sign Language Digits Dataset (Mavi 2020): palm to the viewer, thumb to the right.
Notation: N images of H x W pixels; fingers in the order thumb, index, middle, ring, little. Lengths are in units of the
hand, wrist to tip of the middle finger; x to the right, y up, z to the viewer, the wrist at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isthmus.data.imageset import ImageSet
from isthmus.errors import DataError

Values: TypeAlias = NDArray[np.float64]
Floats: TypeAlias = NDArray[np.float32]

CLASSES = tuple("0123456789")
UP = ("00000", "01000", "01100", "11100", "01111", "11111", "01110", "01101", "01011", "00111")
SIGNS = np.array([[int(finger) for finger in sign] for sign in UP])  # (10, 5), 1 for a finger that is up
NOTE = "drawn-hands are drawings from known finger states, not photographs."
CHUNK_PIXELS = 2**16  # of all images drawn at once: temporary arrays then stay in the processor's cache
SIDES = (16, 256)
FAR = 1e3  # shorter sides; farther than any pixel
MIDDLE = 0.48  # height of the middle of the hand, about which it turns
CLIFF = 6.0  # slope of the surface beyond a capsule's edge

KNUCKLES = np.array([[0.150, 0.495, -0.01], [0.048, 0.525, -0.01], [-0.056, 0.510, -0.01], [-0.148, 0.455, -0.01]])
WRIST = np.array([[0.060, 0.060, -0.04], [0.025, 0.040, -0.04], [-0.025, 0.040, -0.04], [-0.060, 0.060, -0.04]])
FOREARM = np.array([[0.0, 0.02, -0.03], [0.0, -3.0, 0.0]])
LENGTHS = np.array([0.425, 0.470, 0.430, 0.335])[:, None] * np.array([0.44, 0.31, 0.25])  # the three bones
FAN = np.array([1.0, 0.1, -0.8, -1.9])  # of the spread, the share by which a finger leans to the thumb's side
BEND = np.cumsum([80.0, 100.0, 55.0])  # degrees from the palm's plane of the three bones of a finger that is down
THUMB = np.array([[0.080, 0.170, -0.045], [0.225, 0.315, 0.01], [0.340, 0.425, 0.05], [0.420, 0.540, 0.05]])
THUMB_REST = np.array([-0.09, 0.37, 0.12])  # where a bent thumb ends if no finger is down
THUMB_SHARES = np.array([0, 0.42, 0.78, 1])  # its joints on the way there, and how far aside of it
THUMB_BULGE = np.array([[0, 0, 0], [0.100, 0.010, 0.03], [0.055, 0.030, 0.05], [0, 0, 0]])
# The round hand, from the side of the thumb: knuckles and three joints of each finger, and the thumb.
ROUND_KNUCKLES = np.array([[-0.10, 0.50, 0.10], [-0.115, 0.515, 0.04], [-0.13, 0.51, -0.03], [-0.14, 0.48, -0.09]])
ROUND_FINGERS = ROUND_KNUCKLES[:, None] + np.array([[0, 0, 0], [0.02, 0.195, 0], [0.21, 0.225, 0], [0.345, 0.115, 0]])
ROUND_THUMB = np.array([[0.060, 0.150, 0.06], [0.150, 0.300, 0.12], [0.235, 0.420, 0.14], [0.275, 0.560, 0.14]])

PALM_RADII, FOREARM_RADII = np.array([0.088, 0.072]), np.array([0.135, 0.180])
THUMB_RADII = np.array([0.098, 0.066, 0.056, 0.043])
FINGER_RADII = np.array([1.0, 1.02, 0.98, 0.86])[:, None] * np.array([0.054, 0.052, 0.049, 0.039])

RANGES: dict[str, tuple[float, float]] = dict.fromkeys(("up", "round", "brightness", "gradient"), (0, 1))
RANGES |= dict.fromkeys(("shift", "contrast"), (-1, 1)) | dict.fromkeys(("rotation", "direction"), (-180, 180))
RANGES |= {"spread": (0, 25), "scale": (0.1, 1.5), "noise": (0, 0.5), "grain": (0, 2**32 - 1)}
WIDTHS = {"up": 5, "shift": 2}


@dataclass(frozen=True, eq=False)
class Factors:
    """What each of N drawings shows: arrays (N,), but `up` (N, 5) and `shift` (N, 2).

    Arguments:
        up: 0 (bent) to 1 (stretched), for thumb, index, middle, ring and little finger.
        round: 0 to 1; at 1 fingers and thumb close to a ring, seen from the side, and `up` and `spread` show nothing.
        spread: degrees, about, between neighbouring fingers, 0 to 25.
        rotation: degrees, -180 to 180, anticlockwise, about the middle of the hand.
        scale: length of the hand, wrist to tip, as a share of the image's shorter side, 0.1 to 1.5.
        shift: of the middle of the hand from that of the image, (down, right), in shorter sides, -1 to 1.
        direction: where the light comes from, degrees anticlockwise from the right, -180 to 180.
        brightness: grey of the ground, 0 (black) to 1 (white).
        contrast: grey of skin that faces the viewer minus that of the ground, -1 to 1; the sum is clipped to [0, 1].
        gradient: how much darker the ground's far side and corners are than its lit side, in grey, 0 to 1.
        noise: standard deviation of Gaussian noise, 0 to 0.5, before values are clipped to [0, 1].
        grain: whole number below 2**32 that seeds the noise of this image.
    Raises: DataError for an array of another shape or length, or a value outside its range.
    """

    up: Values
    round: Values
    spread: Values
    rotation: Values
    scale: Values
    shift: Values
    direction: Values
    brightness: Values
    contrast: Values
    gradient: Values
    noise: Values
    grain: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(np.atleast_1d(np.asarray(self.up)))
        for field in fields(self):
            value = _checked(field.name, getattr(self, field.name), count)
            object.__setattr__(self, field.name, value)

    def __len__(self) -> int:
        return len(self.up)

    def take(self, indices: ArrayLike | slice) -> Factors:
        """The factors of the images at these positions, in this order."""
        index = indices if isinstance(indices, slice) else np.asarray(indices)
        index = np.empty(0, np.int64) if isinstance(index, np.ndarray) and not index.size else index
        return Factors(**{field.name: getattr(self, field.name)[index] for field in fields(self)})


def _checked(name: str, value: ArrayLike, count: int) -> Values | NDArray[np.int64]:
    array, (low, high) = np.asarray(value), RANGES[name]
    columns, whole = WIDTHS.get(name), name == "grain"
    if array.shape != ((count, columns) if columns else (count,)) or count == 0:
        raise DataError(
            f"{name} has shape {array.shape}; needed is {f'(N, {columns})' if columns else '(N,)'}, with N at least 1 "
            f"and the same for every factor (up has {count}): give one value per image"
        )
    if array.dtype.kind not in ("iu" if whole else "iuf"):
        kind = "whole numbers" if whole else "numbers"
        raise DataError(f"{name} is {array.dtype}; needed are {kind} from {low} to {high}: convert it with astype")
    inside = (array >= low) & (array <= high)  # NaN is not inside
    if not inside.all():
        raise DataError(
            f"{name} holds {array[~inside].flat[0]:g}; needed are values from {low} to {high}: "
            f"{int((~inside).sum())} of {array.size} lie outside"
        )
    return array.astype(np.int64) if whole else array.astype(np.float64)


def random_factors(labels: ArrayLike, *, generator: np.random.Generator) -> Factors:
    """Draw factors for signs as people would hold them up; all but `up` and `round` are independent of the label.

    A finger of the sign is up by 0.85 to 1, another by 0 to 0.12. Arguments: labels: (N,) whole numbers from 0 to 9.
    Returns: N factors; the first ones are the same however many follow. Raises: DataError for other labels.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not np.isin(labels, np.arange(10)).all():
        raise DataError(
            f"labels are {np.unique(labels)[:12].tolist()} in shape {labels.shape}; "
            "needed are whole numbers from 0 to 9 of shape (N,): one sign per image"
        )
    share = generator.random((len(labels), 17))

    def between(column: int, low: float, high: float) -> Values:
        return low + (high - low) * share[:, column]

    raised = SIGNS[labels] == 1
    return Factors(
        up=np.where(raised, 0.85 + 0.15 * share[:, :5], 0.12 * share[:, :5]),
        round=np.where(labels == 0, between(5, 0.88, 1), 0),
        spread=between(6, 4, 14),
        rotation=between(7, -22, 22),
        scale=between(8, 0.64, 0.82),
        shift=np.stack([between(9, -0.06, 0.08), between(10, -0.09, 0.09)], 1),
        direction=between(11, 20, 160),
        brightness=between(12, 0.70, 0.95),
        contrast=between(13, -0.42, -0.18),
        gradient=between(14, 0.05, 0.25),
        noise=between(15, 0.004, 0.02),
        grain=np.floor(2.0**32 * share[:, 16]).astype(np.int64),
    )


def hands_and_factors(
    count: int = 1000, *, size: tuple[int, int] = (64, 64), seed: int = 0
) -> tuple[ImageSet, Factors]:
    """The set of `drawn_hands`, and the factors that each of its images was drawn from."""
    if count < 1:
        raise DataError(f"count is {count}; needed is at least 1 image to draw")
    if seed < 0:
        raise DataError(f"seed is {seed}; needed is a whole number from 0")
    _check_sides(size)
    order, rest = np.random.SeedSequence(seed).spawn(2)
    # Every ten images hold each sign once, in an order of their own.
    labels = np.random.default_rng(order).random((-(-count // 10), 10)).argsort(1).ravel()[:count]
    factors = random_factors(labels, generator=np.random.default_rng(rest))
    images = ImageSet(draw(factors, size=size), labels.astype(np.int64), CLASSES, "drawn-hands", notes=(NOTE,))
    return images, factors


def drawn_hands(count: int = 1000, *, size: tuple[int, int] = (64, 64), seed: int = 0) -> ImageSet:
    """Drawings of ten digit signs, as many of each sign as of any other within one.

    Image i depends on (size, seed) alone, so that a larger set begins with the images of a smaller one.
    Arguments: size: (height, width), each from 16 to 256. Raises: DataError for a count or size out of range.

    >>> drawn_hands(20).shape
    (1, 64, 64)
    """
    return hands_and_factors(count, size=size, seed=seed)[0]


def draw(factors: Factors, *, size: tuple[int, int] = (64, 64)) -> NDArray[np.uint8]:
    """Draw the hands of N factors: (N, 1, H, W) grey uint8, each image by its own factors alone.

    Arguments: size: (height, width), each from 16 to 256. Raises: DataError for another size.
    """
    height, width = _check_sides(size)
    images = np.empty((len(factors), 1, height, width), np.uint8)
    step = max(1, CHUNK_PIXELS // (height * width))
    for start in range(0, len(factors), step):
        part = slice(start, start + step)
        images[part, 0] = _draw_chunk(factors.take(part), height, width)
    return images


def _check_sides(size: tuple[int, int]) -> tuple[int, int]:
    low, high = SIDES
    if not all(low <= side <= high for side in size):
        raise DataError(
            f"size is {size[0]} x {size[1]}; drawn hands need a height and width from {low} to {high} pixels: "
            "draw at the nearest size and use ImageSet.resize"
        )
    return size


def _draw_chunk(factors: Factors, height: int, width: int) -> NDArray[np.uint8]:
    y, x = _grid(height, width)
    outside, surface = _surface(factors, y, x)
    pixel = np.float32(1 / min(height, width))
    cover = np.clip(0.5 - outside / pixel, 0, 1)
    ground = _ground(factors, y, x) * (1 - 0.15 * np.exp(-np.maximum(outside, 0) / _each(0.04 * factors.scale)))
    skin = np.clip(factors.brightness + factors.contrast, 0, 1)
    lit = _each(skin) * _shade(factors, surface, pixel)
    grey = ground + cover * (lit - ground)
    grey += _each(factors.noise) * _noise(factors.grain, height, width)
    whole: NDArray[np.uint8] = np.clip(np.rint(255 * grey), 0, 255).astype(np.uint8)
    return whole


def _grid(height: int, width: int) -> tuple[Floats, Floats]:
    """Pixel centres up (1, H, 1) and to the right (1, 1, W) of the image's middle, in shorter sides."""
    side = min(height, width)
    y = ((height - 1) / 2 - np.arange(height)) / side
    x = (np.arange(width) - (width - 1) / 2) / side
    return y.astype(np.float32)[None, :, None], x.astype(np.float32)[None, None]


def _each(values: Values) -> Floats:
    """(N,) -> (N, 1, 1)."""
    return values.astype(np.float32)[:, None, None]


def _finger_joints(factors: Factors) -> Values:
    """Knuckle, two joints and tip of the four fingers, bent or stretched: (N, 4, 4, 3)."""
    lean = np.radians(FAN * factors.spread[:, None])[:, :, None]
    bend = np.radians(BEND * (1 - factors.up[:, 1:, None]))
    along, towards = LENGTHS * np.cos(bend), LENGTHS * np.sin(bend)
    bones = np.stack([along * np.sin(lean), along * np.cos(lean), towards], 3)
    start = np.broadcast_to(KNUCKLES[:, None], (len(factors), 4, 1, 3))
    joints: Values = np.concatenate([start, KNUCKLES[:, None] + np.cumsum(bones, 2)], 2)
    return joints


def _thumb_joints(factors: Factors, fingers: Values) -> Values:
    """The thumb (N, 4, 3): stretched to the side, or laid over the middle bones of the fingers that are down."""
    down = (1 - factors.up[:, 1:, None]) ** 2
    held = 0.45 * fingers[:, :, 1] + 0.55 * fingers[:, :, 2] + [0.01, -0.02, 0.09]
    target = ((down * held).sum(1) + 0.05 * THUMB_REST) / (down.sum(1) + 0.05)
    bent = THUMB[0] + THUMB_SHARES[:, None] * (target[:, None] - THUMB[0]) + THUMB_BULGE
    thumb: Values = bent + factors.up[:, :1, None] * (THUMB - bent)
    return thumb


def _bones(factors: Factors) -> tuple[Values, Values]:
    """Both ends of the 20 capsules: x, y, z and radius in the image's frame, (N, 20, 4), in shorter sides."""
    fingers = _finger_joints(factors)
    thumb = _thumb_joints(factors, fingers)
    amount = factors.round[:, None, None]
    fingers = fingers + amount[..., None] * (ROUND_FINGERS - fingers)
    thumb = thumb + amount * (ROUND_THUMB - thumb)
    wrist = WRIST * (1 - amount * [0.5, 0, 0])
    forearm = np.broadcast_to(FOREARM, (len(factors), 2, 3))
    chains = [np.stack([wrist[:, k], fingers[:, k, 0]], 1) for k in range(4)]
    chains += [forearm, thumb, *(fingers[:, k] for k in range(4))]
    radii = [*[PALM_RADII] * 4, FOREARM_RADII, THUMB_RADII, *FINGER_RADII]
    start = _place(np.concatenate([c[:, :-1] for c in chains], 1), np.concatenate([r[:-1] for r in radii]), factors)
    return start, _place(np.concatenate([c[:, 1:] for c in chains], 1), np.concatenate([r[1:] for r in radii]), factors)


def _place(points: Values, radii: Values, factors: Factors) -> Values:
    """From the hand's frame to the image's: turned and scaled about the middle of the hand, then shifted."""
    x, y, z = np.moveaxis(points - [0.0, MIDDLE, 0.0], 2, 0)
    angle, scale = np.radians(factors.rotation)[:, None], factors.scale[:, None]
    right = scale * (np.cos(angle) * x - np.sin(angle) * y) + factors.shift[:, 1:]
    up = scale * (np.sin(angle) * x + np.cos(angle) * y) - factors.shift[:, :1]
    placed: Values = np.stack([right, up, scale * z, scale * radii], 2)
    return placed


# Parts are united smoothly; the bones within a part simply. Each: its bones, and how far it is domed.
PARTS = (
    *((range(k, k + 1), 0.6) for k in range(5)),  # palm and forearm
    (range(5, 8), 0.9),  # thumb
    *((range(k, k + 3), 1.0) for k in (8, 11, 14, 17)),  # fingers
)


def _surface(factors: Factors, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Signed distance to the hand's outline and height of its surface, (N, H, W) each, in shorter sides."""
    start, end = _bones(factors)
    shape = (len(factors), y.shape[1], x.shape[2])
    outside, depth = np.full(shape, FAR, np.float32), np.full(shape, FAR, np.float32)
    for members, dome in PARTS:
        distance, height = _capsule(start[:, members[0]], end[:, members[0]], dome, y, x)
        for k in members[1:]:
            d, z = _capsule(start[:, k], end[:, k], dome, y, x)
            np.minimum(distance, d, out=distance)
            np.maximum(height, z, out=height)
        outside = _smooth_minimum(outside, distance, _each(0.035 * factors.scale))
        depth = _smooth_minimum(depth, -height, _each(0.05 * factors.scale))
    return outside, -depth


def _capsule(start: Values, end: Values, dome: float, y: Floats, x: Floats) -> tuple[Floats, Floats]:
    """Signed distance and height, (N, H, W) each, of one capsule per image, given by its ends (N, 4)."""
    (ax, ay, az, ra), (bx, by, bz, rb) = start.T, end.T
    length, angle = np.hypot(bx - ax, by - ay), np.arctan2(by - ay, bx - ax)
    cos, sin, reach = np.cos(angle), np.sin(angle), _each(length)
    slope = 1 / np.maximum(length, 1e-6)
    px, py = x - _each(ax), y - _each(ay)
    square = py * _each(cos) - px * _each(sin)  # across the axis, then the square of the distance to it
    rest = py * _each(sin) + px * _each(cos)  # along the axis, then what lies before or beyond its ends
    along = np.clip(rest, 0, reach)
    rest -= along
    rest *= rest
    square *= square
    square += rest
    radius = along * _each((rb - ra) * slope)
    radius += _each(ra)
    distance = np.sqrt(square)
    distance -= radius
    height = np.multiply(along, _each((bz - az) * slope), out=along)
    height += _each(az)
    # Beyond the edge the surface falls steeply, so that a finger stands out from the palm below it.
    height -= np.float32(CLIFF) * np.maximum(distance, 0, out=rest)
    radius *= radius
    radius -= square
    np.maximum(radius, 0, out=radius)
    np.sqrt(radius, out=radius)
    radius *= np.float32(dome)
    height += radius
    return distance, height


def _smooth_minimum(a: Floats, b: Floats, width: Floats) -> Floats:
    """min(a, b) - h^2 / (4 width), h = max(width - |a - b|, 0)."""
    h = a - b
    np.abs(h, out=h)
    np.subtract(width, h, out=h)
    np.maximum(h, 0, out=h)
    h *= h
    h *= 1 / (4 * width)
    np.subtract(np.minimum(a, b), h, out=h)
    return h


def _shade(factors: Factors, surface: Floats, pixel: np.float32) -> Floats:
    """Brightness of the surface relative to one that faces the viewer: Lambert's law, and light from all around."""
    padded = np.pad(surface, ((0, 0), (1, 1), (1, 1)), mode="edge")
    right = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / (2 * pixel)
    up = (padded[:, :-2, 1:-1] - padded[:, 2:, 1:-1]) / (2 * pixel)
    angle = np.radians(factors.direction)
    facing = 1 / np.sqrt(1 + right * right + up * up)
    lambert = (1 - 0.75 * (right * _each(np.cos(angle)) + up * _each(np.sin(angle)))) * facing
    shade: Floats = 0.35 + 0.65 * np.maximum(lambert, 0)
    return shade


def _ground(factors: Factors, y: Floats, x: Floats) -> Floats:
    """Grey of the ground: it falls off away from the light and to the corners."""
    angle = np.radians(factors.direction)
    away = (1 - x * _each(2 * np.cos(angle)) - y * _each(2 * np.sin(angle))) / 4
    corner = (x * x + y * y) * np.float32(0.8)
    ground: Floats = np.subtract(_each(factors.brightness), _each(factors.gradient) * (away + corner))
    return ground


def _noise(grain: NDArray[np.int64], height: int, width: int) -> Floats:
    """Standard normal numbers (N, H, W) that depend on (grain, pixel) alone: a hash, then Box and Muller 1958."""
    half = (height * width + 1) // 2
    counter = np.arange(2 * half, dtype=np.uint32)[None] * np.uint32(0x9E3779B9)
    bits = _mix(_mix(grain.astype(np.uint32)[:, None] + np.uint32(0x7F4A7C15)) ^ counter)
    uniform = ((bits >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2**-24)
    radius = np.sqrt(-2 * np.log(uniform[:, :half]))
    angle = np.float32(2 * np.pi) * uniform[:, half:]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return normal[:, : height * width].reshape(len(grain), height, width)


def _mix(bits: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """A hash of 32 bits in which each depends on all (Wellons 2018, "lowbias32")."""
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x846CA68B)
    return bits ^ (bits >> np.uint32(16))
