"""What a person should hear at /setup about a label config that is honoured, but not as they may expect.

A grammar is tried in milliseconds (some seconds for the largest lists, whose result the next /setup tells). Imports no
torch. Nothing raises.
"""

from __future__ import annotations

import asyncio

from backend.engine.grammar_check import grammar_problem
from backend.predict.options import ProjectOptions
from backend.predict.recipe import Recipe, text_max_chars
from label_config.prompt import MAX_LISTED_CHARS, PromptOptions, unlisted_fields
from label_config.schema import LabelSchema, TextField

CHECK_S = 2.0  # Label Studio gives /setup 3 s


def field_option_warnings(schema: LabelSchema, options: ProjectOptions) -> list[str]:
    """Name what the extra params say of fields that are not there, or of labels what only texts have."""
    known = {field.name: field for field in schema.fields}
    warnings = []
    for name, asked in options.fields:
        if name not in known:
            warnings.append(f"fields: no control named {name!r} is filled; those that are: {', '.join(known)}")
        elif (asked.kind or asked.max_chars) and not isinstance(known[name], TextField):
            warnings.append(f"fields: {name} holds labels, so only its instruction is used, not kind or max_chars")
    return warnings


async def config_warnings(recipe: Recipe, limit_s: float = CHECK_S) -> list[str]:
    """Return warnings about `recipe`'s label config: labels left out of the prompt, a grammar that is refused."""
    warnings = []
    if names := unlisted_fields(recipe.schema, PromptOptions(recipe.options.language)):
        warnings.append(
            f"the labels of {', '.join(names)} are not spelled out in the prompt, which lists {MAX_LISTED_CHARS:,} "
            "characters of labels; the model is still held to them"
        )
    warnings += field_option_warnings(recipe.schema, recipe.options)
    try:
        async with asyncio.timeout(limit_s):
            problem = await asyncio.to_thread(grammar_problem, recipe.schema, text_max_chars(recipe.options))
    except TimeoutError:
        return [
            *warnings,
            f"the label config is so large that it was not checked within {limit_s:g} s; save the model settings again "
            "to hear the result, or run prelabel doctor --label-config FILE",
        ]
    if problem:
        warnings.append(
            f"no task will get a prediction, because the model cannot be held to the label config: {problem}"
        )
    return warnings
