"""Detectors whose true quality is known: what they find follows from a few numbers, from no image.

An object is found if its ease is above 0, and with more ease its place is better and its score
higher. Ease is the detector's skill plus what is easy in an image, in an object (both alike for all
detectors), for a method in an image, and for this very model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from workers.analysis.matches import AREAS, IOUS, Array, Matches

Seed = int | Sequence[int]


@dataclass(frozen=True)
class World:
    """A sample of images, as far as it concerns detectors."""

    images: int
    image_G: Array
    class_G: Array
    size_G: Array
    """Column of `AREAS`; 0: of no size, which spares work."""

    ease_G: Array


@dataclass(frozen=True)
class Model:
    """One trained detector."""

    skill: float
    method_ease: float = 0.0
    """How much its method's ease differs from image to image; alike for all seeds."""

    own_ease: float = 0.5
    """How much its own ease differs from object to object."""

    false_per_image: float = 2.0


def a_world(
    images: int,
    *,
    seed: Seed,
    objects_per_image: float = 2.0,
    classes: int = 2,
    sized: bool = False,
) -> World:
    random = np.random.default_rng(seed)
    count = int(random.poisson(objects_per_image, images).sum())
    image_G = np.sort(random.integers(images, size=count)).astype(np.int32)
    ease_I = random.normal(0, 0.5, images)
    return World(
        images=images,
        image_G=image_G,
        class_G=random.integers(classes, size=count).astype(np.int32),
        size_G=random.integers(1, 4, size=count) if sized else np.zeros(count, dtype=np.int64),
        ease_G=ease_I[image_G] + random.normal(0, 0.7, count),
    )


def seen_by(model: Model, world: World, *, seed: Seed, method_seed: Seed = 0) -> Matches:
    """What a model finds in a world; `seed` is its own, `method_seed` that of all its method."""
    random = np.random.default_rng(seed)
    count, classes = len(world.image_G), int(world.class_G.max()) + 1
    ease_I = np.random.default_rng(method_seed).normal(0, model.method_ease, world.images)
    ease_G = model.skill + world.ease_G + ease_I[world.image_G]
    ease_G = ease_G + random.normal(0, model.own_ease, count)
    found_G = np.flatnonzero(ease_G > 0)
    false = int(random.poisson(model.false_per_image * world.images))
    image_D = np.concatenate([world.image_G[found_G], random.integers(world.images, size=false)])
    class_D = np.concatenate([world.class_G[found_G], random.integers(classes, size=false)])
    size_D = np.concatenate([world.size_G[found_G], random.choice(world.size_G, size=false)])
    iou_G = 0.5 + 0.5 * np.tanh(ease_G[found_G] / 2)
    iou_D = np.concatenate([iou_G, np.zeros(false)])
    score_D = np.concatenate(
        [ease_G[found_G] + random.normal(0, 0.7, len(found_G)), random.normal(0, 0.9, false)]
    )
    in_area_DA = (np.arange(len(AREAS)) == 0) | (np.arange(len(AREAS)) == size_D[:, None])
    right_DAT = (iou_D[:, None] >= np.array(IOUS))[:, None, :] & in_area_DA[:, :, None]
    order_D = np.lexsort((-score_D, class_D))
    return Matches(
        class_names=tuple(f"class {number}" for number in range(classes)),
        files=tuple(f"{number}.png" for number in range(world.images)),
        image_D=image_D[order_D].astype(np.int32),
        class_D=class_D[order_D].astype(np.int32),
        score_D=(1 / (1 + np.exp(-score_D[order_D]))).astype(np.float32),
        box_D4=np.zeros((len(order_D), 4), dtype=np.float32),
        right_DAT=right_DAT[order_D],
        ignored_DAT=np.repeat(~in_area_DA[order_D][:, :, None], len(IOUS), axis=2),
        object_D=np.concatenate([found_G, np.full(false, -1)])[order_D].astype(np.int32),
        image_G=world.image_G,
        class_G=world.class_G,
        box_G4=np.zeros((count, 4), dtype=np.float32),
        area_G=np.ones(count),
        crowd_G=np.zeros(count, dtype=bool),
        objects_ICA=_objects(world, classes),
    )


def shifted(model: Model, by: float) -> Model:
    """The same method with another skill."""
    return replace(model, skill=model.skill + by)


def _objects(world: World, classes: int) -> Array:
    objects_ICA = np.zeros((world.images, classes, len(AREAS)), dtype=np.int32)
    for column in range(len(AREAS)):
        in_area = (world.size_G == column) | (column == 0)
        np.add.at(objects_ICA[:, :, column], (world.image_G[in_area], world.class_G[in_area]), 1)
    return objects_ICA
