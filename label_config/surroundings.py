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
from collections.abc import Iterator, Mapping
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


class Surroundings:
    """Of all controls of one label config. `root` is its tree."""

    def __init__(self, root: Element) -> None:
        self._above = {child: parent for parent in root.iter() for child in parent}
        self._all = list(root.iter())
        self._pictures = [e for e in self._all if e.tag.lower() in _OTHER_MEDIA]
        self._shown = [(place, e, text) for place, e in enumerate(self._all) if (text := _data_text(e))]
        self._targets = {name for e in self._all for name in _attribute(e, "toname").split(",") if name}

    def asks_more(self, control: Element, image: Element, *, describes: bool) -> str:
        """Why the picture alone does not answer `control`; "" if it does. `describes`: a description is asked for by
        name, whatever text is shown with it."""
        others = [picture for picture in self._pictures if not _same(picture, image)]
        if others:
            group = self._group(control, image)
            others = [picture for picture in others if picture in group or not self._has_controls(picture)]
        other = next(iter(others), None)
        if other is not None:
            return (
                f'<{other.tag} name="{_attribute(other, "name")}"> is shown as well, and the model sees '
                f'"{_attribute(image, "name")}" alone; if the question is about that picture alone, put it and the '
                "control into a <View> of their own, and the others into theirs with their controls"
            )
        if describes:
            return ""
        text = next((text for text in self._texts(control) if _is_asked_about(text, control)), None)
        if text is not None:
            return f'the text "{text[:60]}" shown with it comes from the task\'s data, and the model does not see it'
        return ""

    def unseen_texts(self) -> list[str]:
        """The task's texts that people see and the model does not."""
        return list(dict.fromkeys(text for _, _, text in self._shown))

    def _group(self, control: Element, image: Element) -> set[Element]:
        """What the innermost tag around both holds."""
        around = set(self._lineage(control))
        common = next((e for e in self._lineage(image) if e in around), None)
        return set(common.iter()) if common is not None else set(self._all)

    def _lineage(self, element: Element) -> Iterator[Element]:
        while element in self._above:
            element = self._above[element]
            yield element

    def _has_controls(self, image: Element) -> bool:
        return _attribute(image, "name") in self._targets

    def _texts(self, control: Element) -> Iterator[str]:
        """The task's texts that may be what `control` asks about."""
        lineage = list(self._lineage(control))
        for place, element, text in self._shown:
            below = self._all[place + 1 :]
            if element.tag.lower() == "header":
                after = next((n for n, e in enumerate(below) if e.tag.lower() == "header"), len(below))
                below = below[:after]
                if control in below and self._above.get(element) in lineage:
                    yield text
                continue
            around = next((e for e in self._lineage(element) if any(map(_is_control, e.iter()))), None)
            if around in lineage:
                yield text


def _is_control(element: Element) -> bool:
    return bool(_attribute(element, "toname"))


def _same(one: Element, other: Element) -> bool:
    if one is other:
        return True
    return bool(value := _attribute(one, "value")) and value == _attribute(other, "value")


def _data_text(element: Element) -> str:
    """What a tag shows of the task's data ("$question"), "" if nothing."""
    if element.tag.lower() not in _SHOWS:
        return ""
    said = _attribute(element, "value") or (element.text or "").strip()
    return said if _FROM_TASK.search(said) else ""


def _is_asked_about(text: str, control: Element) -> bool:
    keys = [key.lower() for key in _FROM_TASK.findall(text)]
    if any(_ASKS.search(key) for key in keys) or not all(map(_NAMES_THE_PRODUCT.search, keys)):
        return True
    labels = [_attribute(e, "value") or _attribute(e, "alias") for e in control.iter() if e.tag.lower() == "choice"]
    return bool(labels) and any(map(_JUDGES.search, labels))


def _attribute(element: Element, name: str) -> str:
    attributes: Mapping[str, str] = {key.lower(): value for key, value in element.attrib.items()}
    return attributes.get(name, "").strip()
