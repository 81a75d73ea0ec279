"""Label configs for the tests: by hand, and at random through Hypothesis."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from hypothesis import strategies as st

IMAGE = '<Image name="image" value="$image"/>'


def view(*controls: str) -> str:
    return f"<View>{IMAGE}{''.join(controls)}</View>"


def choice(value: str, alias: str = "", inner: str = "") -> str:
    alias_text = f" alias={quoteattr(alias)}" if alias else ""
    return f"<Choice value={quoteattr(value)}{alias_text}>{inner}</Choice>"


def choices(*labels: str, name: str = "style", attributes: str = "") -> str:
    inner = "".join(map(choice, labels))
    return f'<Choices name="{name}" toName="image" {attributes}>{inner}</Choices>'


CAPTION = '<TextArea name="caption" toName="image"/>'
EVERYTHING = view(
    '<Header value="描述"/>',
    CAPTION,
    '<Taxonomy name="category" toName="image" leafsOnly="true" required="true">',
    choice("服饰", inner=choice("女装", inner=choice("连衣裙") + choice("半身裙")) + choice("男装")),
    choice("家居", alias="home", inner=choice("沙发", alias="sofa")),
    "</Taxonomy>",
    choices("简约", "复古", "甜美", name="style", attributes='choice="multiple" required="true"'),
    '<Choices name="season" toName="image">',
    choice("夏季", alias="summer"),
    choice("冬季"),
    "</Choices>",
    '<Rating name="quality" toName="image" maxRating="5"/>',
    '<Number name="price" toName="image" min="0" max="99.5" step="0.5"/>',
    '<Choices name="needs_review" toName="image"><Choice value="需人工复核" alias="review"/></Choices>',
    '<TextArea name="review_reason" toName="image"/>',
)

# Every character that XML can carry in an attribute, except "$", which takes task data when a word follows.
_LABEL_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="$\ufffe\uffff").filter(
        lambda c: c >= " " or c in "\t\n\r"
    ),
    min_size=1,
    max_size=12,
).filter(lambda text: bool(text.strip()) and not ("<|" in text and "|>" in text))
_AWKWARD = st.sampled_from(
    [
        '"',
        "\\",
        "/",
        "<b>",
        "&amp;",
        "null",
        "]",
        '","',
        "a\nb",
        "😀",
        "שלום",
        "\u202eabc",
        "\x7f",
        "<|im_end>",
        "{{x}}",
    ]
)
labels = st.one_of(_LABEL_TEXT, _AWKWARD)


def _label_lists(min_size: int, max_size: int) -> st.SearchStrategy[list[str]]:
    return st.lists(labels, min_size=min_size, max_size=max_size, unique_by=str.strip)


@st.composite
def _choices_tags(draw: st.DrawFn, name: str) -> str:
    values = draw(_label_lists(1, 8))
    aliased = draw(st.booleans())
    inner = "".join(choice(value, alias=f"alias {i}" if aliased and i % 2 else "") for i, value in enumerate(values))
    return (
        f'<Choices name="{name}" toName="image" choice="{draw(st.sampled_from(["single", "multiple"]))}" '
        f'required="{draw(st.sampled_from(["true", "false"]))}">{inner}</Choices>'
    )


@st.composite
def _trees(draw: st.DrawFn, depth: int) -> str:
    parts = []
    for index, value in enumerate(draw(_label_lists(1, 4))):
        inner = draw(_trees(depth - 1)) if depth > 1 and draw(st.booleans()) else ""
        parts.append(choice(value, alias=f"alias {index}" if draw(st.booleans()) else "", inner=inner))
    return "".join(parts)


@st.composite
def _taxonomy_tags(draw: st.DrawFn, name: str) -> str:
    leafs = draw(st.sampled_from(["true", "false"]))
    usages = draw(st.sampled_from(["", 'maxUsages="1"', 'maxUsages="3"']))
    return f'<Taxonomy name="{name}" toName="image" leafsOnly="{leafs}" {usages}>{draw(_trees(3))}</Taxonomy>'


@st.composite
def _number_tags(draw: st.DrawFn, name: str) -> str:
    low = draw(st.integers(-200, 200))
    high = low + draw(st.integers(0, 300))
    step = draw(st.sampled_from(["", 'step="1"', 'step="0.1"', 'step="0.25"']))
    return f'<Number name="{name}" toName="image" min="{low}" max="{high}" {step}/>'


@st.composite
def label_configs(draw: st.DrawFn) -> str:
    kinds = {
        "choices": _choices_tags,
        "taxonomy": _taxonomy_tags,
        "number": _number_tags,
        "rating": lambda name: st.just(f'<Rating name="{name}" toName="image" maxRating="7"/>'),
        "textarea": lambda name: st.just(f'<TextArea name="{name}" toName="image" required="true"/>'),
    }
    picked = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=5))
    return view(*(draw(kinds[kind](f"field {number}")) for number, kind in enumerate(picked)))
