"""What is labelled: Label Studio label configs, and everything that follows from one.

XML -> LabelSchema -> instruction and grammar for the model -> Answer -> Label Studio regions and review findings.
Imports no torch, opens no connection, reads no environment variable.
"""

from label_config.answer import Answer, FieldAnswer, FieldValue, parse_answer, render_answer
from label_config.controls import SupportedTag, supported_tags
from label_config.errors import MalformedAnswer, UnsupportedConfig
from label_config.grammar import answer_grammar, text_slices
from label_config.parse import parse_label_config
from label_config.prompt import Language, PromptOptions, build_instruction, unlisted_fields
from label_config.ready_made import ready_made, ready_made_names
from label_config.regions import answer_to_regions, prediction, regions_to_answer
from label_config.review import Finding, ReviewOptions, review
from label_config.schema import (
    Choice,
    ChoicesField,
    Field,
    LabelSchema,
    NumberField,
    PathChoicesField,
    RatingField,
    ReviewControls,
    ShortTextField,
    TaxonomyField,
    TaxonomyNode,
    TextField,
)

__all__ = [
    "Answer",
    "Choice",
    "ChoicesField",
    "Field",
    "FieldAnswer",
    "FieldValue",
    "Finding",
    "LabelSchema",
    "Language",
    "MalformedAnswer",
    "NumberField",
    "PathChoicesField",
    "PromptOptions",
    "RatingField",
    "ReviewControls",
    "ReviewOptions",
    "ShortTextField",
    "SupportedTag",
    "TaxonomyField",
    "TaxonomyNode",
    "TextField",
    "UnsupportedConfig",
    "answer_grammar",
    "answer_to_regions",
    "build_instruction",
    "parse_answer",
    "parse_label_config",
    "prediction",
    "ready_made",
    "ready_made_names",
    "regions_to_answer",
    "render_answer",
    "review",
    "supported_tags",
    "text_slices",
    "unlisted_fields",
]
