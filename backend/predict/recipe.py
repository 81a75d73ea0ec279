"""How the pictures of one project are answered, and the model version that stands for it.

The version is `<model>-<quantisation>-<digest>`; the digest covers everything an answer depends on: the model's files,
schema, instruction, sampling, review threshold, picture size, and ANSWER_CODE for changes in our own code that alter
answers. So a changed config predicts anew and an unchanged one never does. Calibration and the thresholds of single
fields are part of it, too, but no answer depends on them: what is stored is kept under the *answer version*, without
them, and rated again (`backend.predict.answered`). `read_answer` raises MalformedAnswer.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache

from backend.engine.messages import Finished, GenerateRequest, Picture, Ready, Sampling
from backend.images.decode import FetchedImage
from backend.predict.options import RATING, FieldOptions, ProjectOptions
from label_config.answer import Answer, parse_answer
from label_config.conditions import without_hidden
from label_config.grammar import MAX_TEXT_CHARS
from label_config.prompt import PromptOptions, build_instruction
from label_config.review import Finding, ReviewOptions, Seen, review
from label_config.schema import Field, LabelSchema, ShortTextField, TextField

ANSWER_CODE = 6
"""Raise it with every change of grammar, picture sizes, colours, sampling, answer reading, regions or review rules."""
MAX_RECIPES = 64
_DIGEST_CHARS = 12
DOUBTFUL_CHARS = 30
"""A description shorter than this is marked for review, unless the project asks for shorter ones."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """`fingerprint` is of everything, `answer_fingerprint` of what an answer depends on, `rating` of how the project
    rates its answers, "" if in no way of its own."""

    schema: LabelSchema
    options: ProjectOptions
    instruction: str
    fingerprint: str
    answer_fingerprint: str
    rating: str

    @property
    def review_options(self) -> ReviewOptions:
        """Without the project's rating."""
        options = self.options
        shortest = options.caption_min_length * (1 if options.language == "zh" else 4)  # an English word and a space
        return ReviewOptions(options.language, options.review_threshold, min(DOUBTFUL_CHARS, shortest))

    @property
    def rated_review_options(self) -> ReviewOptions:
        return replace(self.review_options, thresholds=self.options.review_thresholds)

    def version(self, ready: Ready) -> str:
        return self.rated_version(self.answer_version(ready))

    def answer_version(self, ready: Ready) -> str:
        digest = hashlib.sha256(f"{self.answer_fingerprint}:{ready.weights_id}".encode()).hexdigest()
        return f"{_slug(ready.model_name)}-{_slug(ready.quantisation)}-{digest[:_DIGEST_CHARS]}"

    def rated_version(self, answer_version: str) -> str:
        """The model version of what is stored under `answer_version`."""
        if not self.rating:
            return answer_version
        digest = hashlib.sha256(f"{answer_version}:{self.rating}".encode()).hexdigest()
        return answer_version[:-_DIGEST_CHARS] + digest[:_DIGEST_CHARS]

    def request(self, picture: Picture, sha256: str, *, interactive: bool, project: str = "") -> GenerateRequest:
        """The seed follows from the picture's bytes and the recipe: the same input gives the same answer."""
        seed = int.from_bytes(hashlib.sha256(f"{sha256}:{self.answer_fingerprint}".encode()).digest()[:4], "big")
        sampling = Sampling(self.options.temperature, self.options.top_p, self.options.max_new_tokens, seed)
        return GenerateRequest(
            self.schema,
            self.instruction,
            picture,
            sampling,
            text_max_chars(self.options),
            interactive,
            group=project,
        )


@lru_cache(maxsize=MAX_RECIPES)
def recipe_of(schema: LabelSchema, options: ProjectOptions, image_tokens: int) -> Recipe:
    options = options.model_copy(update={"audit_share": 0.0})  # whose answers are shown is not how they are made
    schema = _with_field_options(schema, options)
    words = PromptOptions(
        language=options.language,
        caption_min=options.caption_min_length,
        caption_max=options.caption_max_length,
        extra_instructions=options.extra_instructions,
        field_instructions=tuple((name, asked.instruction) for name, asked in options.fields if asked.instruction),
    )
    instruction = build_instruction(schema, words)
    # options of fields are in the schema and the instruction
    asked = options.model_dump(exclude={"fields", "audit_share", *RATING})
    content = [ANSWER_CODE, schema.fingerprint, instruction, asked, image_tokens]
    rated = {name: value for name, value in options.model_dump(include=set(RATING)).items() if value}
    answer, rating = _digest(content), _digest(rated) if rated else ""
    return Recipe(schema, options, instruction, _digest([answer, rating]) if rating else answer, answer, rating)


def with_instruction(recipe: Recipe, instruction: str) -> Recipe:
    """Another question about the same schema, in words that are not made from it."""
    answer = _digest([recipe.answer_fingerprint, instruction])
    return replace(recipe, instruction=instruction, fingerprint=answer, answer_fingerprint=answer)


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, ensure_ascii=True, sort_keys=True).encode()).hexdigest()[:_DIGEST_CHARS]


def _with_field_options(schema: LabelSchema, options: ProjectOptions) -> LabelSchema:
    """`schema` with the kinds and lengths of text that the project's extra params ask for."""
    asked = dict(options.fields)
    fields = tuple(_changed(field, asked.get(field.name)) for field in schema.fields)
    return schema if fields == schema.fields else replace(schema, fields=fields)  # the same, its fingerprint is known


def _changed(field: Field, asked: FieldOptions | None) -> Field:
    if asked is None or not isinstance(field, TextField):
        return field
    short = isinstance(field, ShortTextField) if asked.kind is None else asked.kind == "short"
    limits = [limit for limit in (asked.max_chars, field.max_chars) if limit]  # the control's own holds as well
    return (ShortTextField if short else TextField)(
        field.name,
        field.to_name,
        min(limits, default=None),
        title=field.title,
        hint=field.hint,
        required=field.required,
    )


def read_answer(recipe: Recipe, finished: Finished, fetched: FetchedImage) -> tuple[Answer, tuple[Finding, ...]]:
    """Return the answer that was generated for a picture and why a person should look at it, before the project's
    rating. Raises MalformedAnswer."""
    truncated = finished.finish_reason == "length"
    answer = parse_answer(recipe.schema, finished.pieces, finished.probabilities, truncated=truncated)
    answer = without_hidden(recipe.schema, answer)
    seen = Seen(fetched.shape, fetched.scale * finished.image_scale)
    return answer, review(recipe.schema, answer, recipe.review_options, seen)


def text_max_chars(options: ProjectOptions) -> int:
    """A hard stop well above what the prompt asks for, where the grammar can go so far; an English word counts as ten
    characters."""
    return min(MAX_TEXT_CHARS, max(400, options.caption_max_length * (3 if options.language == "zh" else 10)))


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-") or "model"
