"""In which language the labels of a label config are, as far as captions care: Chinese or English.

Knows only the text that annotators read in it. Nothing raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from label_config.prompt import Language
from label_config.review import has_chinese
from label_config.schema import ChoicesField, LabelSchema, TaxonomyField, TaxonomyNode


def labels_language(schema: LabelSchema) -> Language | None:
    """Chinese if any title, hint or label has a Chinese character, English if there are letters and none is.

    None where the config has nothing to read but names, which are ASCII in Chinese configs, too.
    """
    texts = list(_texts(schema))
    if any(has_chinese(text) for text in texts):
        return "zh"
    return "en" if any(char.isalpha() for text in texts for char in text) else None


def _texts(schema: LabelSchema) -> Iterator[str]:
    for field in schema.fields:
        yield from (field.title, field.hint)
        match field:
            case ChoicesField():
                yield from (text for choice in field.choices for text in (choice.value, choice.hint))
            case TaxonomyField():
                yield from _node_texts(field.roots)
    if schema.review is not None and schema.review.flag is not None:
        yield schema.review.flag.value


def _node_texts(nodes: Iterable[TaxonomyNode]) -> Iterator[str]:
    for node in nodes:
        yield from (node.value, node.hint)
        yield from _node_texts(node.children)
