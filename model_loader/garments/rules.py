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


def caption_of(class_index: int, looks: Looks, template: int, language: Language) -> str:
    """The caption in one of two wordings (`template` 0 or 1): 80-120 Chinese characters or 35-60 English words."""
    words = _WORDS[language][class_index]
    shape = words.narrow if looks.narrow else words.wide
    return _TEMPLATES[language][template].format(
        noun=words.noun,
        tone=_TONES[language][looks.tone],
        pattern=_PATTERNS[language][looks.patterned],
        shape=shape,
        detail=words.detail,
        mood=words.mood,
        use=words.use,
        market=words.market,
    )


@dataclass(frozen=True, slots=True)
class _Words:
    noun: str
    narrow: str
    wide: str
    detail: str
    mood: str
    use: str
    market: str


_TONES: dict[Language, tuple[str, ...]] = {"zh": ("浅色", "中间色", "深色"), "en": ("light", "medium", "dark")}
_PATTERNS: dict[Language, tuple[str, ...]] = {"zh": ("纯色", "带图案"), "en": ("plain", "patterned")}

_TEMPLATES: dict[Language, tuple[str, ...]] = {
    "zh": (
        "一{noun}单独展示在纯黑背景上，整体为{tone}调，表面{pattern}，{shape}。{detail}，轮廓完整清晰，"
        "画面没有其他物品，主体十分突出。整体氛围{mood}，适合{use}，可用于{market}。",
        "画面中央摆放着一{noun}，{shape}，呈现{tone}调，面料{pattern}。{detail}，背景为干净的纯黑色，"
        "构图居中，没有模特与杂物。气质{mood}，适合{use}时使用，适用于{market}的商品展示。",
    ),
    "en": (
        "One {tone}, {pattern} {noun} is shown alone on a black background. {shape}, and {detail}. "
        "Nothing else is in the picture. The mood is {mood}; it suits {use} and fits {market}.",
        "The picture shows one {noun} in a {tone} tone with a {pattern} surface. {shape}; {detail}. "
        "The background is clean and black, without a model. It looks {mood}, suits {use} and fits {market}.",
    ),
}

_WORDS: dict[Language, tuple[_Words, ...]] = {
    "zh": (
        _Words("件短袖T恤", "版型修身利落", "版型宽松舒适", "圆领短袖的剪裁简单大方", "轻松自然", "夏季日常出行", "夏季上新推广"),
        _Words("条长裤", "裤型修长笔直", "裤腿宽松有型", "高腰长款的剪裁线条流畅", "干练简约", "四季上班通勤", "基础裤装推广"),
        _Words("件长袖套头衫", "版型合身利落", "版型宽松厚实", "长袖与圆领的设计保暖舒适", "温暖随性", "秋冬日常出行", "秋冬针织推广"),
        _Words("条连衣裙", "裙身修长收腰", "裙摆宽松飘逸", "上下一体的剪裁柔和流畅", "优雅浪漫", "夏季聚会约会", "夏季女装推广"),
        _Words("件长袖外套", "版型修身挺括", "版型宽大有型", "前襟开合与长袖设计层次分明", "沉稳大方", "秋冬上班通勤", "秋冬外套推广"),
        _Words("只凉鞋", "鞋身低平轻巧", "鞋跟较高有型", "镂空绑带的设计透气凉爽", "清爽惬意", "夏季户外旅行", "夏季鞋品推广"),
        _Words("件衬衫", "版型修身利落", "版型宽松舒展", "翻领与门襟的细节规整得体", "干净得体", "春秋上班通勤", "职场服装推广"),
        _Words("只运动鞋", "鞋身低矮流线", "鞋身厚实饱满", "系带鞋面与厚底设计稳定舒适", "活力动感", "四季运动健身", "运动鞋品推广"),
        _Words("只手提包", "包身扁长小巧", "包身方正饱满", "提手与包盖的结构实用耐看", "简洁实用", "四季日常出行", "箱包配饰推广"),
        _Words("只短靴", "靴身低矮利落", "靴筒较高挺立", "包裹脚踝的设计稳固保暖", "硬朗随性", "秋冬户外旅行", "秋冬靴款推广"),
    ),
    "en": (
        _Words("short-sleeved T-shirt", "The cut is slim", "The cut is loose and comfortable",
               "the short sleeves and round neck are simple", "relaxed", "everyday wear in summer", "a summer collection"),
        _Words("pair of trousers", "The legs are slim and straight", "The legs are wide",
               "the long high-waisted cut gives clear lines", "minimal and neat", "work all year round",
               "a page of basic trousers"),
        _Words("long-sleeved pullover", "The cut is close to the body", "The cut is loose and thick",
               "the long sleeves and round neck keep warm", "warm and casual", "everyday wear in autumn and winter",
               "a knitwear collection"),
        _Words("dress", "The body is long with a narrow waist", "The skirt is wide and flowing",
               "the one-piece cut is soft and smooth", "elegant and romantic", "a summer party",
               "a womenswear collection"),
        _Words("long-sleeved coat", "The cut is slim and firm", "The cut is wide",
               "the open front and the long sleeves give it depth", "calm and solid",
               "work in autumn and winter", "a winter coat collection"),
        _Words("sandal", "The shoe is low and flat", "The heel is rather high", "the open straps let air in",
               "fresh and easy", "outdoor trips in summer", "a summer shoe collection"),
        _Words("shirt", "The cut is slim", "The cut is loose", "the collar and the button front are neat",
               "clean and proper", "work in spring and autumn", "an office wear collection"),
        _Words("sneaker", "The shoe is low and streamlined", "The shoe is thick and full",
               "the laced upper and the thick sole are steady", "lively and sporty", "exercise all year round",
               "a sports shoe collection"),
        _Words("handbag", "The body is flat and small", "The body is square and full",
               "the handle and the flap are practical", "simple and useful", "everyday trips all year round",
               "a page of bags"),
        _Words("ankle boot", "The boot is low", "The shaft is rather high", "it wraps the ankle and keeps warm",
               "tough and casual", "outdoor trips in autumn and winter", "a boot collection"),
    ),
}  # fmt: skip
