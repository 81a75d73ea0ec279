"""What a project may change of how it is answered: its extra params.

An unknown key or a bad value is a warning, never an error, because a person typed it into a form that shows no errors.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator, model_validator

from backend.logs import one_line
from backend.settings import Settings
from backend.store.audit import MAX_SHARE
from label_config.parse import MAX_NAME_CHARS
from label_config.rating import MAX_TEMPERATURE, MIN_TEMPERATURE

MAX_NAMED_FIELDS = 50
MAX_VALUES = 500
"""Of one extra param: all that may be said of MAX_NAMED_FIELDS fields are 200. Each wrong one takes pydantic 3 µs."""
MAX_UNKNOWN = 20
"""Keys that are named because they are none of ours; each costs a comparison with all of ours, and a line of log."""

RATING = ("review_thresholds", "calibration")
"""Options that no answer depends on, only how sure it sounds and whether a person should look."""
BY_FIELD = ("fields", *RATING)
FieldName = Annotated[str, Field(max_length=MAX_NAME_CHARS)]
"""Of a control. JSON can hold half a surrogate pair, which is no text: pydantic sees that where there is a limit."""
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=MIN_TEMPERATURE, le=MAX_TEMPERATURE)]


class FieldOptions(BaseModel):
    """What a project changes of one field: an instruction of its own; of a text, its kind and its longest length."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    instruction: str = Field(default="", max_length=500)
    max_chars: int | None = Field(default=None, ge=1, le=8_000)
    kind: Literal["short", "description"] | None = None


class ProjectOptions(BaseModel):
    """Extra params of a project. Caption lengths are characters in Chinese, words in English. `audit_share`: of the
    tasks, those of the blind audit; how a picture is answered does not depend on it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    language: Literal["zh", "en"] = "zh"
    extra_instructions: str = Field(default="", max_length=2_000)
    caption_min_length: int = Field(default=80, ge=1, le=1_000)
    caption_max_length: int = Field(default=120, ge=1, le=1_000)
    temperature: float = Field(default=0.4, ge=0, le=2)
    top_p: float = Field(default=0.9, gt=0, le=1)
    max_new_tokens: int = Field(default=512, ge=16, le=2_048)
    review_threshold: float = Field(default=0.5, ge=0, le=1)
    audit_share: float = Field(default=0.0, ge=0, le=MAX_SHARE)
    fields: tuple[tuple[FieldName, FieldOptions], ...] = Field(default=(), max_length=MAX_NAMED_FIELDS)
    review_thresholds: tuple[tuple[FieldName, Share], ...] = Field(default=(), max_length=MAX_NAMED_FIELDS)
    """Of single fields, in the place of `review_threshold`."""
    calibration: tuple[tuple[FieldName, Temperature], ...] = Field(default=(), max_length=MAX_NAMED_FIELDS)
    """Temperatures of fields' confidences: see `label_config.rating`."""

    @field_validator(*BY_FIELD, mode="before")
    @classmethod
    def _by_name(cls, fields: object) -> object:
        """Typed and kept as an object, `{"brand": {"instruction": "..."}}`."""
        return tuple(sorted(fields.items())) if isinstance(fields, Mapping) else fields

    @field_serializer("fields")
    def _as_object(self, fields: tuple[tuple[str, FieldOptions], ...]) -> dict[str, Any]:
        return {name: asked.model_dump(exclude_defaults=True) for name, asked in fields}

    @field_serializer(*RATING)
    def _numbers_as_object(self, fields: tuple[tuple[str, float], ...]) -> dict[str, float]:
        return dict(fields)

    @model_validator(mode="after")
    def _lengths_in_order(self) -> ProjectOptions:
        if self.caption_min_length > self.caption_max_length:
            raise ValueError("caption_min_length is larger than caption_max_length")
        return self


CAPTION_LENGTHS = {"zh": (80, 120), "en": (30, 60)}
"""What a caption is asked for where nobody says: characters in Chinese, words in English."""


def default_options(settings: Settings) -> ProjectOptions:
    options = ProjectOptions(review_threshold=settings.review_threshold)
    return _in_language(options, settings.language)


def _in_language(options: ProjectOptions, language: object) -> ProjectOptions:
    """`options` with the language and its usual caption lengths; unchanged if it is theirs, or none we know."""
    if language == options.language or not isinstance(language, str) or language not in CAPTION_LENGTHS:
        return options
    low, high = CAPTION_LENGTHS[language]
    changes = {"language": language, "caption_min_length": low, "caption_max_length": high}
    return options.model_copy(update=changes)


def read_options(extra_params: object, defaults: ProjectOptions) -> tuple[ProjectOptions, list[str]]:
    """Return `defaults` changed by `extra_params` (an object, its JSON text, or nothing) and what was left out.

    Only an object says that there is no `audit_share`: Label Studio leaves the extra params out of some calls, and an
    answer that a slip of the pen lets out can never be withheld again.
    """
    if isinstance(extra_params, str) and extra_params.strip():
        try:
            extra_params = json.loads(extra_params)
        except (ValueError, RecursionError):
            return defaults, ['extra params are not JSON; write an object such as {"language": "en"}']
    if extra_params is None or extra_params == "":
        return defaults, []
    if not isinstance(extra_params, Mapping):
        return defaults, ['extra params must be an object such as {"language": "en"}']
    if "audit_share" not in extra_params:
        defaults = defaults.model_copy(update={"audit_share": 0.0})
    defaults = _in_language(defaults, extra_params.get("language"))
    unknown = [str(key) for key in extra_params if key not in ProjectOptions.model_fields]
    warnings = [_unknown(key) for key in unknown[:MAX_UNKNOWN]]
    if len(unknown) > MAX_UNKNOWN:
        warnings.append(f"and {len(unknown) - MAX_UNKNOWN:,} more extra params that there are not")
    known = {key: value for key, value in extra_params.items() if key in ProjectOptions.model_fields}
    for key in list(known):
        problem = _too_many(known[key]) or _problem(defaults, {key: known[key]}, alone=True)
        if problem:
            del known[key]
            warnings.append(f"{key}: {problem}; {defaults.model_dump()[key]!r} is used instead")
    problem = _problem(defaults, known, alone=False)
    if problem:
        warnings.append(f"{problem}; the default lengths are used instead")
        known = {key: value for key, value in known.items() if not key.startswith("caption_")}
    return _merge(defaults, known), warnings


def has_more_values(value: object, limit: int) -> bool:
    """Whether there are more than `limit` values in a JSON value; looks at no more of them."""
    num, inside = 0, [value]
    while inside and num <= limit:
        one = inside.pop()
        if isinstance(one, Mapping | list):
            num += len(one)
            if num <= limit:
                inside += one.values() if isinstance(one, Mapping) else one
    return num > limit


def _too_many(value: object) -> str:
    return f"it holds more than {MAX_VALUES} values" if has_more_values(value, MAX_VALUES) else ""


def still_asks_for(extra_params: object, options: ProjectOptions) -> bool:
    """Whether a project that was asked by `options` is so yet, now that its extra params are these. For who does not
    know the server's own settings: what these decide is taken from `options`."""
    usual = _in_language(ProjectOptions(review_threshold=options.review_threshold), options.language)
    now, _ = read_options(extra_params, usual)
    return now.model_copy(update={"audit_share": 0.0}) == options.model_copy(update={"audit_share": 0.0})


def _merge(defaults: ProjectOptions, changes: Mapping[str, Any]) -> ProjectOptions:
    return ProjectOptions.model_validate({**defaults.model_dump(), **changes})


def _problem(defaults: ProjectOptions, changes: Mapping[str, Any], *, alone: bool) -> str:
    """Say what is wrong with `changes`; `alone`: only with single values, not with how they go together."""
    try:
        _merge(defaults, changes)
    except ValidationError as error:
        problems = [p for p in error.errors() if p["loc"] or not alone]
        return _said(changes, problems[0]["loc"], str(problems[0]["msg"])) if problems else ""
    return ""


def _said(changes: Mapping[str, Any], place: tuple[int | str, ...], message: str) -> str:
    """What pydantic says of a value; inside what is typed by field, of which field and key."""
    inside = ""
    typed = changes.get(str(place[0])) if place else None
    if len(place) > 1 and isinstance(place[1], int) and isinstance(typed, Mapping):
        name = sorted(typed)[place[1]]
        inside = ".".join(one_line(str(part)[:64]) for part in (name, *place[3:]))
    elif place and place[0] in BY_FIELD and not isinstance(typed, Mapping):
        return 'write an object with the names of fields, such as {"category": ...}'
    if message.startswith("Extra inputs"):
        message = f"there is no such key; known are {', '.join(FieldOptions.model_fields)}"
    return (f"{inside}: " if inside else "") + message.removeprefix("Value error, ")


def _unknown(key: str) -> str:
    close = difflib.get_close_matches(key[:64], ProjectOptions.model_fields, n=1)
    hint = f"did you mean {close[0]}?" if close else "known are " + ", ".join(ProjectOptions.model_fields)
    return f"{one_line(key[:64])}: there is no such extra param; {hint}"
