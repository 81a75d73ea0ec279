"""The captions of the garments model: two patterns of sentences, filled with words for the class and its looks.

Part of the rule of ours in rules.py: after the manner of shop captions (subject, appearance, background, mood, use),
80-120 Chinese characters or 35-60 English words. They say nothing that class and pixels do not. Nothing raises.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.rules import Language, Looks


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
        _Words("件短袖T恤", "版型修身利落", "版型宽松舒适",
               "圆领短袖的剪裁简单大方", "轻松自然", "夏季日常出行", "夏季上新推广"),
        _Words("条长裤", "裤型修长笔直", "裤腿宽松有型",
               "高腰长款的剪裁线条流畅", "干练简约", "四季上班通勤", "基础裤装推广"),
        _Words("件长袖套头衫", "版型合身利落", "版型宽松厚实",
               "长袖与圆领的设计保暖舒适", "温暖随性", "秋冬日常出行", "秋冬针织推广"),
        _Words("条连衣裙", "裙身修长收腰", "裙摆宽松飘逸",
               "上下一体的剪裁柔和流畅", "优雅浪漫", "夏季聚会约会", "夏季女装推广"),
        _Words("件长袖外套", "版型修身挺括", "版型宽大有型",
               "前襟开合与长袖设计层次分明", "沉稳大方", "秋冬上班通勤", "秋冬外套推广"),
        _Words("只凉鞋", "鞋身低平轻巧", "鞋跟较高有型",
               "镂空绑带的设计透气凉爽", "清爽惬意", "夏季户外旅行", "夏季鞋品推广"),
        _Words("件衬衫", "版型修身利落", "版型宽松舒展",
               "翻领与门襟的细节规整得体", "干净得体", "春秋上班通勤", "职场服装推广"),
        _Words("只运动鞋", "鞋身低矮流线", "鞋身厚实饱满",
               "系带鞋面与厚底设计稳定舒适", "活力动感", "四季运动健身", "运动鞋品推广"),
        _Words("只手提包", "包身扁长小巧", "包身方正饱满",
               "提手与包盖的结构实用耐看", "简洁实用", "四季日常出行", "箱包配饰推广"),
        _Words("只短靴", "靴身低矮利落", "靴筒较高挺立",
               "包裹脚踝的设计稳固保暖", "硬朗随性", "秋冬户外旅行", "秋冬靴款推广"),
    ),
    "en": (
        _Words("short-sleeved T-shirt", "The cut is slim", "The cut is loose and comfortable",
               "the short sleeves and round neck are simple", "relaxed", "everyday wear in summer",
               "a summer collection"),
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
