"""What a person should hear at /setup about a label config that is honoured, but not as they may expect.

A grammar is tried in milliseconds (some seconds for the largest lists, whose result the next /setup tells), once for
all who ask, and never on the event loop. A label config may be written to be slow: short ones do not wait for long
ones, there is an end to how many wait and for how long, and a check ends by itself. Imports no torch. Nothing raises.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from cachetools import LRUCache

from backend.engine.grammar_check import grammar_problem
from backend.predict.options import BY_FIELD, ProjectOptions
from backend.predict.recipe import Recipe, text_max_chars
from label_config.errors import cut
from label_config.prompt import MAX_LISTED_CHARS, PromptOptions, unlisted_fields
from label_config.schema import LabelSchema, TextField

CHECK_S = 2.0  # Label Studio gives /setup 3 s
SHORT_SHARE = 0.3
"""Of that time, for a short label config."""
SHORT_CHARS = 16 * 1024
MAX_WAITING = 32  # label configs of either length
MAX_KNOWN = 256
_PATIENCE = 3  # a check goes on for so long after /setup was answered, and the next one hears its result

Check = Callable[[LabelSchema, int, float], str]
"""`grammar_problem`: the schema, the characters of a text, the time for it in seconds. Raises TimeoutError."""


def field_option_warnings(schema: LabelSchema, options: ProjectOptions) -> list[str]:
    """Name what the extra params say of fields that are not there, or of labels what only texts have. What is said of
    all names of one extra param is cut."""
    known = {field.name: field for field in schema.fields}
    warnings = []
    for key in BY_FIELD:
        if gone := [repr(name) for name, _ in getattr(options, key) if name not in known]:
            there = ", ".join(known)
            warnings.append(cut(f"{key}: no control named {', '.join(gone)} is filled; those that are: {there}"))
    for name, asked in options.fields:
        if name in known and (asked.kind or asked.max_chars) and not isinstance(known[name], TextField):
            warnings.append(f"fields: {name} holds labels, so only its instruction is used, not kind or max_chars")
    return warnings


class ConfigChecks:
    """Use it from one event loop, and close it. `limit_s`: how long a /setup waits for what a check says."""

    def __init__(self, limit_s: float = CHECK_S, check: Check = grammar_problem) -> None:
        self._check = check
        self._short = _Lane(limit_s * SHORT_SHARE)
        self._long = _Lane(limit_s)
        self._checks: LRUCache[tuple[str, int], Future[str | None]] = LRUCache(MAX_KNOWN)

    async def warnings(self, recipe: Recipe, num_chars: int) -> list[str]:
        """Return warnings about `recipe`'s label config, a text of `num_chars`: labels left out of the prompt, options
        of fields that are not there, a grammar that is refused."""
        warnings = []
        if names := unlisted_fields(recipe.schema, PromptOptions(recipe.options.language)):
            warnings.append(
                f"the labels of {', '.join(names)} are not spelled out in the prompt, which lists "
                f"{MAX_LISTED_CHARS:,} characters of labels; the model is still held to them"
            )
        warnings += field_option_warnings(recipe.schema, recipe.options)
        if about_grammar := await self._about_grammar(recipe, self._short if num_chars <= SHORT_CHARS else self._long):
            warnings.append(about_grammar)
        return warnings

    def close(self) -> None:
        for lane in (self._short, self._long):
            lane.pool.shutdown(wait=False, cancel_futures=True)

    async def _about_grammar(self, recipe: Recipe, lane: _Lane) -> str:
        grammar = recipe.schema.fingerprint, text_max_chars(recipe.options)  # other options change none
        check = self._checks.get(grammar)
        if check is None or (check.done() and (check.exception() is not None or check.result() is None)):
            if len(lane.unfinished) >= MAX_WAITING:
                return (
                    f"the label config was not checked, because {MAX_WAITING} others are being checked; save the model "
                    "settings again to hear the result, or run prelabel doctor --label-config FILE"
                )
            check = self._checks[grammar] = self._begun(recipe, lane)
        problem: str | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(lane.limit_s):
                problem = await asyncio.shield(asyncio.wrap_future(check))
        if problem is None:
            return (
                f"the label config was not checked within {lane.limit_s:g} s, because it is large or others are being "
                "checked; save the model settings again to hear the result, or run prelabel doctor --label-config FILE"
            )
        if problem:
            return f"no task will get a prediction, because the model cannot be held to the label config: {problem}"
        return ""

    def _begun(self, recipe: Recipe, lane: _Lane) -> Future[str | None]:
        limit_s = lane.limit_s * _PATIENCE
        check = lane.pool.submit(self._checked, recipe.schema, text_max_chars(recipe.options), limit_s)
        lane.unfinished.add(check)
        check.add_done_callback(lane.unfinished.discard)
        return check

    def _checked(self, schema: LabelSchema, text_max_chars: int, limit_s: float) -> str | None:
        """None: not known in time. An error would be kept with what its check had made, a grammar of megabytes."""
        try:
            return self._check(schema, text_max_chars, limit_s)
        except TimeoutError:
            return None


class _Lane:
    """One check at a time."""

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="config-check")
        self.unfinished: set[Future[str | None]] = set()
