"""A rule of ours: how each Fashion-MNIST class becomes a category path, a style, a season, a scene and a caption.

Fashion-MNIST says only which of ten kinds of garment a picture shows. Everything else the garments model answers was
set by this file, not by people who looked at the pictures: each class has one style, season and scene, and a
caption is a template filled with the class and three things that can be computed from the pixels (tone, shape,
pattern). So style, season and scene measure that the model follows a rule, not that it knows fashion.
Names match label_config/taxonomies/garments.{zh,en}.xml (a test compares them). Nothing raises.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Language = Literal["zh", "en"]
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of one class in one language; `category` is a path from the root of the tree to a leaf."""

    category: tuple[str, ...]
    style: str
    season: str
    scene: str


@dataclass(frozen=True, slots=True)
class Looks:
    """What the pixels say: `tone` 0 light, 1 medium, 2 dark; `narrow` silhouette; `patterned` or plain."""

    tone: int
    narrow: bool
    patterned: bool


LABELS: dict[Language, tuple[Labels, ...]] = {
    "zh": (
        Labels(("服饰", "上装", "T恤"), "休闲", "夏季", "日常出行"),
        Labels(("服饰", "下装", "长裤"), "简约", "四季", "上班通勤"),
        Labels(("服饰", "上装", "套头衫"), "休闲", "秋冬", "日常出行"),
        Labels(("服饰", "连体装", "连衣裙"), "优雅", "夏季", "聚会约会"),
        Labels(("服饰", "上装", "外套"), "通勤", "秋冬", "上班通勤"),
        Labels(("鞋靴", "凉拖", "凉鞋"), "休闲", "夏季", "户外旅行"),
        Labels(("服饰", "上装", "衬衫"), "通勤", "春秋", "上班通勤"),
        Labels(("鞋靴", "休闲鞋", "运动鞋"), "运动", "四季", "运动健身"),
        Labels(("箱包", "包袋", "手提包"), "简约", "四季", "日常出行"),
        Labels(("鞋靴", "靴子", "短靴"), "休闲", "秋冬", "户外旅行"),
    ),
    "en": (
        Labels(("Clothing", "Tops", "T-shirt"), "Casual", "Summer", "Everyday"),
        Labels(("Clothing", "Bottoms", "Trousers"), "Minimal", "All seasons", "Work"),
        Labels(("Clothing", "Tops", "Pullover"), "Casual", "Autumn and winter", "Everyday"),
        Labels(("Clothing", "One-piece", "Dress"), "Elegant", "Summer", "Party"),
        Labels(("Clothing", "Tops", "Coat"), "Office", "Autumn and winter", "Work"),
        Labels(("Footwear", "Open shoes", "Sandal"), "Casual", "Summer", "Outdoors"),
        Labels(("Clothing", "Tops", "Shirt"), "Office", "Spring and autumn", "Work"),
        Labels(("Footwear", "Casual shoes", "Sneaker"), "Sporty", "All seasons", "Exercise"),
        Labels(("Bags", "Hand-held", "Handbag"), "Minimal", "All seasons", "Everyday"),
        Labels(("Footwear", "Boots", "Ankle boot"), "Casual", "Autumn and winter", "Outdoors"),
    ),
}

_INK = 24  # 0..255: a pixel at least this bright belongs to the garment, the rest is background
_TONE_LIMITS = (165.0, 95.0)  # mean brightness of the garment: light above the first, dark below the second
# Mean step between neighbouring pixels inside the garment: the busiest fifth of each class counts as patterned.
_PATTERN_LIMITS = (27.0, 53.0, 35.0, 45.0, 37.0, 45.0, 36.0, 29.0, 28.0, 28.0)
_NARROW_LIMITS = (0.79, 0.40, 0.75, 0.54, 0.74, 0.54, 0.76, 0.46, 0.75, 0.75)  # median `_narrowness` of each class


def looks_of(picture: NDArray[np.uint8], class_index: int) -> Looks:
    """Measure tone, shape and pattern of one 28x28 picture."""
    ink = picture >= _INK
    if not ink.any():
        return Looks(1, False, False)
    values = picture.astype(np.float32)
    mean = float(values[ink].mean())
    tone = 0 if mean > _TONE_LIMITS[0] else 2 if mean < _TONE_LIMITS[1] else 1
    both = ink[:, 1:] & ink[:, :-1]
    steps = np.abs(np.diff(values, axis=1))[both]
    patterned = bool(len(steps)) and float(steps.mean()) > _PATTERN_LIMITS[class_index]
    return Looks(tone, _narrowness(ink) < _NARROW_LIMITS[class_index], patterned)


def _narrowness(ink: NDArray[np.bool_]) -> float:
    """Width / height of the bounding box, or its inverse for things wider than high (shoes, bags)."""
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    return width / height if width <= height else height / width
