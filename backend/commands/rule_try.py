"""`prelabel quality --project ID --try-rule TEXT`: does a rule make answers better, on tasks it was not made from?

The held-out tasks are answered anew with the rule in the instruction, by the model and options of the project's present
version; nothing of it is stored but how many became right or wrong, which counts the tries. Which tasks changed is not
told: whoever looked at them would make the next rule from them. What ends before all tasks are compared is no try.
`--adopt` (`rule_adopt`) writes a rule that is better. Exit code 0; 1 where `--adopt` was asked for and the rule is not
better. Raises PrelabelError.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from backend.commands.model_settings import model_settings, tell
from backend.commands.quality_project import Read, project_as_read
from backend.commands.rule_adopt import OPTION, adopt_rule
from backend.commands.rule_model import Model, answers_of, trial_model
from backend.commands.rule_proposals import with_rule
from backend.commands.rule_tasks import Halves, halves, pictures_of
from backend.errors import UsageError
from backend.logs import one_line
from backend.predict.options import ProjectOptions
from backend.predict.recipe import Recipe, recipe_of
from backend.predict.trial import Trial, TrialAnswer
from backend.quality.people import Labelled
from backend.quality.project import Asked
from backend.quality.rule_words import (
    BLANK,
    MAX_RULE_CHARS,
    clean_rule,
    earlier,
    interrupted,
    left_out,
    outcome,
    repeated,
    too_few,
    unanswered,
)
from backend.quality.rules import Tried, compared, wrong_needed
from backend.quality.tries import Tries, Try, stands_for
from backend.quality.words import Sentences
from backend.reasons import Reason
from backend.settings import Settings
from label_config.answer import Answer

MAX_FILE_BYTES = 64 * 1024
OF_RULE: tuple[Reason, ...] = ("too_long", "malformed_answer")
"""Why there is no answer where the instruction is to blame; anything else is the picture, the machine or the time."""


def try_rule(settings: Settings, number: int, text: str, asked: Asked, *, adopt: bool, json_output: bool) -> int:
    """`text`: the rule, or `@` and the name of a file that holds it."""
    say = Sentences(settings.language)
    rule = _rule(text)
    with project_as_read(settings, number) as read, Tries(settings.data_dir, read.current.uid) as tries:
        found = halves(read, asked)
        options = _options(found, rule)
        one = _tried(settings, read, found, options, rule, tries, say)
        params = {OPTION: options.extra_instructions}
        is_better = one.tried.outcome == "better"
        if json_output:
            print(json.dumps(_document(number, found, one, params), ensure_ascii=False, allow_nan=False))
        else:
            _show(found, one, params, say)
        if adopt and is_better:
            with model_settings(settings, number) as to:
                adopt_rule(to, found.options, options.extra_instructions)
    if adopt and not is_better:
        tell(say("没有写入：只采用检验中变好的规则。", "Nothing was written: only a rule that is better is adopted."))
        return 1
    return 0


def _rule(text: str) -> str:
    if text.startswith("@"):
        try:
            with Path(text[1:]).open("rb") as file:
                text = file.read(MAX_FILE_BYTES).decode("utf-8-sig")
        except OSError as error:
            raise UsageError(f"--try-rule: {one_line(text[1:])} cannot be read ({error.strerror}).") from None
        except UnicodeDecodeError:
            raise UsageError(f"--try-rule: {one_line(text[1:])} is not UTF-8 text. Save it as UTF-8.") from None
    rule = clean_rule(text)
    if not rule:
        raise UsageError("--try-rule: the rule is empty.")
    if len(rule) > MAX_RULE_CHARS:
        raise UsageError(f"--try-rule: the rule has {len(rule):,} characters; the limit is {MAX_RULE_CHARS}.")
    if BLANK in rule:
        raise UsageError(f"--try-rule: complete the rule first: put words in the place of each {BLANK}.")
    return rule


def _options(found: Halves, rule: str) -> ProjectOptions:
    """The project's own, with the rule."""
    if rule in map(clean_rule, found.options.extra_instructions.splitlines()):
        raise UsageError(f"--try-rule: the project's {OPTION} hold this rule already.")
    instructions = with_rule(found.options.extra_instructions, rule)
    try:
        return ProjectOptions.model_validate({**found.options.model_dump(), OPTION: instructions})
    except ValidationError:
        raise UsageError(
            f"--try-rule: with the rule {OPTION} would have {len(instructions):,} characters, more than they may. "
            "Shorten the rule, or what is there."
        ) from None


def _tried(
    settings: Settings, read: Read, found: Halves, options: ProjectOptions, rule: str, tries: Tries, say: Sentences
) -> Try:
    """What is known of this try, if it is none that is new."""
    before = tries.all()
    of = stands_for(options.extra_instructions, found.version, found.held_out)
    for known in before:
        if known.of == of:
            tell(earlier(known.at, say))
            return known
    number = len(before) + 1
    schema = found.recipe.schema
    _refuse_too_few(found, found.held_out, number, say)
    answers = _answers(settings, read, found, options, say)
    tasks, with_it = _to_compare(found.held_out, answers, recipe_of(schema, options, 0))
    failed = Counter(one.reason for one in answers if not one.content)
    _refuse_too_few(found, tasks, number, say, left_out(failed, say))
    one = Try(of, rule, compared(schema, tasks, with_it, number), dict(failed), time.time())
    tries.add(one)
    return one


def _refuse_too_few(found: Halves, tasks: Sequence[Labelled], number: int, say: Sentences, why: str = "") -> None:
    """Where so few of `tasks` are wrong that no rule could be told from luck at the try of that number."""
    without = compared(found.recipe.schema, tasks, [task.answer for task in tasks], number)
    if without.num_wrong < wrong_needed(number):
        raise UsageError(f"--try-rule: {why}{too_few(without.num, without.num_wrong, wrong_needed(number), say)}")


def _answers(
    settings: Settings, read: Read, found: Halves, options: ProjectOptions, say: Sentences
) -> list[TrialAnswer]:
    """With the rule. Raises UsageError where the answers are not of the project's model alone, or what failed was
    neither a picture nor the rule: then they say nothing of it."""
    tasks = pictures_of(read, found.recipe, [task.name for task in found.held_out])
    with trial_model(settings) as model:
        _refuse_another_model(model, found)
        answers = answers_of(model, found.project, found.label_config, options, tasks)
        _refuse_another_model(model, found)  # a server may have been started anew meanwhile
    failed = Counter(one.reason for one in answers if not (one.content or _is_left_out(one) or one.reason in OF_RULE))
    if failed:
        raise UsageError(f"--try-rule: {interrupted(failed, say)}")
    return answers


def _refuse_another_model(model: Model, found: Halves) -> None:
    now = model(Trial(label_config=found.label_config, options=found.options, project=found.project)).model_version
    if now != found.version:
        raise UsageError(
            f"--try-rule: the project's answers are of {one_line(found.version)}, and the model that runs now would "
            f"answer as {one_line(now)}, so that more than the rule would differ. Choose Retrieve Predictions in Label "
            "Studio, so that the project has answers of this model, then try again."
        )


def _is_left_out(one: TrialAnswer) -> bool:
    """Its picture cannot be had now."""
    return one.reason.startswith("image_")


def _to_compare(
    tasks: Sequence[Labelled], answers: Sequence[TrialAnswer], recipe: Recipe
) -> tuple[list[Labelled], list[Answer | None]]:
    """Without those whose pictures cannot be had now: of these the rule says nothing. What failed OF_RULE is wrong."""
    kept = [pair for pair in zip(tasks, answers, strict=True) if not _is_left_out(pair[1])]
    return [task for task, _ in kept], [one.answer(recipe) if one.content else None for _, one in kept]


def _show(found: Halves, one: Try, params: dict[str, str], say: Sentences) -> None:
    found.show(say)
    print(say(f"规则：{one.rule}", f"Rule: {one.rule}"))
    for reason, num in one.failed.items():
        print(one_line(unanswered(reason, num, say)))
    print(outcome(one.tried, say))
    print(repeated(one.tried.number, say))
    written = one_line(json.dumps(params, ensure_ascii=False))
    if one.tried.outcome == "better":
        print(
            say(
                f"采用它：在模型设置的 extra params 中写入 {written}（其他内容保持不变），或在命令后加上 --adopt。",
                f"To adopt it, write {written} into the extra params of the model settings (all else there stays), or "
                "run this again with --adopt.",
            )
        )


def _document(number: int, found: Halves, one: Try, params: dict[str, str]) -> dict[str, object]:
    tried: Tried = one.tried
    return {
        **found.document(number),
        "rule": one.rule,
        "num_held_out": tried.num,
        "num_wrong": tried.num_wrong,
        "num_better": tried.num_better,
        "num_worse": tried.num_worse,
        "failed": one.failed,
        "tried_at": datetime.fromtimestamp(one.at, UTC).isoformat(timespec="seconds"),
        "outcome": tried.outcome,
        "p": tried.p,
        "p_limit": tried.limit,
        "try": tried.number,
        "num_missing": tried.num_missing,
        "extra_params": params,
    }
