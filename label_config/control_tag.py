"""A control tag as it is written, and what it inherits from the tags around it. Knows no field and no schema's labels.

Raises UnsupportedConfig for an attribute that contradicts itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from label_config.errors import UnsupportedConfig
from label_config.schema import Condition

# What JavaScript reads as the number that Python reads, too; "１２" and "1_000" are numbers for Python alone.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.][0-9]*)?|[.][0-9]+)(?:[eE][+-]?[0-9]+)?")


MAX_TITLE_CHARS = 200
"""It stands in each finding about each answer, and the heading of a section is the title of each control in it."""


class LeftOut(Exception):
    """This control cannot be filled; the text says why. Never leaves `label_config`."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a control inherits from the tags around it."""

    conditions: tuple[Condition, ...] = ()
    region_only: bool = False
    repeated: bool = False

    @property
    def conditional(self) -> bool:
        return bool(self.conditions)

    def inside(self, element: Element) -> Place:
        """The place of what stands in `element` (and of `element` itself)."""
        attributes = lowered(element)
        visible_when = attributes.get("visiblewhen", "").lower()
        conditions = self.conditions
        if visible_when.startswith("choice-") or (not visible_when and attributes.get("whenchoicevalue")):
            values = attributes.get("whenchoicevalue", "")
            condition = Condition(
                attributes.get("whentagname", "") if visible_when else "",
                tuple(values.split(",")) if values else (),
                unselected=visible_when == "choice-unselected",
                on_control="toname" in attributes,
            )
            conditions = (*conditions, condition)
        return Place(
            conditions=conditions,
            region_only=self.region_only or visible_when == "region-selected",
            repeated=self.repeated or element.tag.lower() == "repeater",
        )


@dataclass(frozen=True, slots=True)
class Control:
    """A control tag as written; `attributes` have lower-case names."""

    element: Element
    attributes: Mapping[str, str]
    title: str
    place: Place
    own_title: str = ""
    """`title`, unless it is that of a section: the heading of a control before this one."""

    @classmethod
    def of(cls, element: Element, heading: str, place: Place, lead: str = "") -> Control:
        """`heading` is the last one in the tag around it, `lead` what stands between it and the control before it."""
        attributes = lowered(element)
        title = attributes.get("title", "").strip()
        shown, own = ((title or said)[:MAX_TITLE_CHARS].strip() for said in (heading, lead))
        return cls(element, attributes, shown, place, own)

    @property
    def name(self) -> str:
        return self.attributes.get("name", "")

    @property
    def to_names(self) -> list[str]:
        to_name = self.attributes.get("toname", "")
        return to_name.split(",") if to_name else []

    def flag(self, name: str) -> bool:
        return self.attributes.get(name, "").strip().lower() == "true"

    def number(self, name: str) -> float | None:
        """The attribute `name` as a finite number. Raises UnsupportedConfig if it is something else."""
        text = self.attributes.get(name, "").strip()
        if not text:
            return None
        value = float(text) if _NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            raise UnsupportedConfig(f'{self}: {name}="{text[:80]}" is not a number.')
        return value

    def count(self, name: str, limit: int) -> int | None:
        value = self.number(name)
        if value is None:
            return None
        if value != int(value) or not 1 <= value <= limit:
            raise UnsupportedConfig(f"{self}: {name} must be a whole number from 1 to {limit:,}.")
        return int(value)

    def __str__(self) -> str:
        return f'<{self.element.tag} name="{self.name}">'


def lowered(element: Element) -> dict[str, str]:
    """The attributes of a tag, whose names Label Studio reads in any spelling, by their names in lower case."""
    return {key.lower(): value for key, value in element.attrib.items()}
