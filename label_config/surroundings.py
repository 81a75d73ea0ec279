"""Does a control ask about more than its one picture: other pictures, or a text from the task's data, that the model
does not see. Such a control is left out: an answer from the picture alone would look right and be a guess.

A control is about its own picture alone if no other picture is shown, or if it stands with its picture in a `<View>` of
their own, and every other picture has controls of its own. Two `<Image>` of the same value are one picture.
A `<Header>` from the data is about the controls below it up to the next, a text about those in the innermost tag around
it that has any. One that only names the product (a title, a number) is no question, except of controls that judge it.
Nothing raises.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

_SHOWS = frozenset({"header", "text", "hypertext", "markdown", "paragraphs", "list", "table", "chat", "dialog", "html"})
_OTHER_MEDIA = frozenset({"image", "video", "audio", "audioplus", "timeseries", "pdf", "imageset"})
_FROM_TASK = re.compile(r"\$(\{?[^\s{}$]+)")
_NAMES_THE_PRODUCT = re.compile(
    r"title|name|sku|spu|(?:^|_)id$|number|code|brand|shop|store|seller|price|url|link|file|date|time"
    r"|标题|品名|名称|编号|货号|品牌|店铺|价格|链接"
)
_ASKS = re.compile(r"question|query|prompt|instruct|问|题目")
_JUDGES = re.compile(
    r"^(?:yes|no|true|false|correct|incorrect|right|wrong|match\w*|mismatch\w*|consistent|inconsistent|same|different"
    r"|是|否|对|错|正确|错误|一致|不一致|符合|不符合|不符|匹配|不匹配|相同|不同|合格|不合格)(?:\b|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Text:
    """What a tag shows of the task's data. `place`: that of the tag among all; `asks`: it is a question by its keys."""

    place: int
    said: str
    asks: bool


@dataclass(frozen=True, slots=True)
class _Picture:
    element: Element
    place: int
    value: str
    has_controls: bool


class Surroundings:
    """Of all controls of one label config. `root` is its tree. A control is looked at once for each tag around it and
    each picture, not for each tag of the config."""

    def __init__(self, root: Element) -> None:
        elements = list(root.iter())
        targets = {name for e in elements for name in _attribute(e, "toname").split(",") if name}
        self._above = {child: parent for parent in elements for child in parent}
        self._place = {element: place for place, element in enumerate(elements)}
        self._end = {element: place + 1 for element, place in self._place.items()}
        for element in reversed(elements):
            if (parent := self._above.get(element)) is not None:
                self._end[parent] = max(self._end[parent], self._end[element])
        self._pictures = [
            _Picture(e, place, _attribute(e, "value"), _attribute(e, "name") in targets)
            for place, e in enumerate(elements)
            if e.tag.lower() in _OTHER_MEDIA
        ]
        self._controls = [place for place, e in enumerate(elements) if _attribute(e, "toname")]
        self._headers = [place for place, e in enumerate(elements) if e.tag.lower() == "header"]
        self._header_texts: dict[int, tuple[Element | None, _Text]] = {}
        self._first: dict[tuple[Element, bool], _Text] = {}  # of the texts about what stands in a tag, and of those
        self._shown: dict[str, None] = {}  # that ask, the first
        for place, element in enumerate(elements):
            if said := _data_text(element):
                self._shown[said] = None
                self._add(element, _Text(place, said, _asks(said)))

    def _add(self, element: Element, text: _Text) -> None:
        if element.tag.lower() == "header":
            self._header_texts[text.place] = (self._above.get(element), text)
            return
        around = next((e for e in self._lineage(element) if self._has_control(e)), None)
        if around is not None:
            self._first.setdefault((around, text.asks), text)

    def asks_more(self, control: Element, image: Element, *, describes: bool) -> str:
        """Why the picture alone does not answer `control`; "" if it does. `describes`: a description is asked for by
        name, whatever text is shown with it."""
        other = self._other_picture(control, image)
        if other is not None:
            return (
                f'<{other.tag} name="{_attribute(other, "name")}"> is shown as well, and the model sees '
                f'"{_attribute(image, "name")}" alone; if the question is about that picture alone, put it and the '
                "control into a <View> of their own, and the others into theirs with their controls"
            )
        text = None if describes else self._question(control)
        if text is not None:
            return (
                f'the text "{text.said[:60]}" shown with it comes from the task\'s data, and the model does not see it'
            )
        return ""

    def unseen_texts(self) -> list[str]:
        """The task's texts that people see and the model does not."""
        return list(self._shown)

    def _other_picture(self, control: Element, image: Element) -> Element | None:
        """The first other picture that stands with both, or that no control is about."""
        if len(self._pictures) == 1:
            return None
        value, around = _attribute(image, "value"), set(self._lineage(control))
        common = next((e for e in self._lineage(image) if e in around), None)
        inside = range(self._place[common], self._end[common]) if common is not None else range(len(self._place))
        return next(
            (
                picture.element
                for picture in self._pictures
                if (picture.place in inside or not picture.has_controls)
                and picture.element is not image
                and (not value or picture.value != value)
            ),
            None,
        )

    def _lineage(self, element: Element) -> Iterator[Element]:
        while element in self._above:
            element = self._above[element]
            yield element

    def _has_control(self, element: Element) -> bool:
        found = bisect_left(self._controls, self._place[element])
        return found < len(self._controls) and self._controls[found] < self._end[element]

    def _question(self, control: Element) -> _Text | None:
        """The first of the task's texts around `control` that it asks about."""
        lineage = list(self._lineage(control))
        texts = [text for e in lineage for asks in (True, False) if (text := self._first.get((e, asks)))]
        above = bisect_left(self._headers, self._place[control])
        parent, text = self._header_texts.get(self._headers[above - 1], (None, None)) if above else (None, None)
        if text is not None and parent in lineage:
            texts.append(text)
        if any(not text.asks for text in texts) and not _judges(control):
            texts = [text for text in texts if text.asks]
        return min(texts, key=lambda text: text.place, default=None)


def _data_text(element: Element) -> str:
    """What a tag shows of the task's data ("$question"), "" if nothing."""
    if element.tag.lower() not in _SHOWS:
        return ""
    said = _attribute(element, "value") or (element.text or "").strip()
    return said if _FROM_TASK.search(said) else ""


def _asks(text: str) -> bool:
    """Whether it is a question, by the names of its keys: it does more than name the product."""
    keys = [key.lower() for key in _FROM_TASK.findall(text)]
    return any(_ASKS.search(key) for key in keys) or not all(map(_NAMES_THE_PRODUCT.search, keys))


def _judges(control: Element) -> bool:
    """Whether its labels say that something is right or wrong, which is about any text."""
    labels = (_attribute(e, "value") or _attribute(e, "alias") for e in control.iter() if e.tag.lower() == "choice")
    return any(map(_JUDGES.search, labels))


def _attribute(element: Element, name: str) -> str:
    attributes: Mapping[str, str] = {key.lower(): value for key, value in element.attrib.items()}
    return attributes.get(name, "").strip()
