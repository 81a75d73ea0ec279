"""What a person should hear at /setup about a label config that is honoured, but not as they may expect.

Uses llguidance without a tokenizer, in milliseconds (0.4 s for the largest grammars). Imports no torch. Nothing raises.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache

from llguidance import LLMatcher

from backend.predict.recipe import MAX_RECIPES, Recipe, text_max_chars
from label_config.errors import UnsupportedConfig
from label_config.grammar import answer_grammar
from label_config.prompt import MAX_LISTED_CHARS, PromptOptions, unlisted_fields
from label_config.schema import LabelSchema

CHECK_S = 1.0  # Label Studio gives /setup 3 s
MAX_MESSAGE_CHARS = 300


async def config_warnings(recipe: Recipe, limit_s: float = CHECK_S) -> list[str]:
    """Return warnings about `recipe`'s label config: labels left out of the prompt, a grammar that is refused."""
    warnings = []
    if names := unlisted_fields(recipe.schema, PromptOptions(recipe.options.language)):
        warnings.append(
            f"the labels of {', '.join(names)} are not spelled out in the prompt, which lists {MAX_LISTED_CHARS:,} "
            "characters of labels; the model is still held to them"
        )
    try:
        async with asyncio.timeout(limit_s):
            problem = await asyncio.to_thread(_grammar_problem, recipe.schema, text_max_chars(recipe.options))
    except TimeoutError:
        return [*warnings, f"the label config is so large that it was not checked within {limit_s:g} s"]
    if problem:
        warnings.append(f"no task will get a prediction, because the label config cannot be made a grammar: {problem}")
    return warnings


@lru_cache(maxsize=MAX_RECIPES)
def _grammar_problem(schema: LabelSchema, max_chars: int) -> str:
    try:
        refused: str = LLMatcher.validate_grammar(answer_grammar(schema, text_max_chars=max_chars))
    except UnsupportedConfig as error:
        return str(error)
    return " ".join(refused.split())[:MAX_MESSAGE_CHARS]
