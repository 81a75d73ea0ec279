"""`prelabel quality --project ID --propose-rules`: which labels are confused, and a sentence that tells them apart.

The model that answers the project writes it, from the two labels and some of the pictures that were confused, put
together in one. The built-in model cannot write such a sentence, and what another one writes may not tell the two
apart: then it is a form with both labels for a person to complete, and that is said. Nothing is written anywhere.
Exit code 0. Raises PrelabelError.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from PIL import Image, ImageOps

from backend.commands.quality_project import Read, project_as_read
from backend.commands.rule_model import Model, trial_model
from backend.commands.rule_tasks import Halves, halves, pictures_of
from backend.engine.messages import Picture
from backend.errors import ImageError
from backend.images import ImageFetcher
from backend.logs import one_line
from backend.predict.build import build_images
from backend.predict.label_configs import schema_of
from backend.predict.options import ProjectOptions
from backend.predict.recipe import recipe_of
from backend.predict.trial import Trial, TrialTask
from backend.quality.project import Asked
from backend.quality.rule_words import as_argument, counts, question, rule_from, template
from backend.quality.rules import MIN_CONFUSED, Confused, confused
from backend.quality.words import Sentences
from backend.settings import Settings

BUILT_IN = "garments-"
"""How its model versions begin."""
MAX_PROPOSED = 3
MAX_PICTURES = 4
CELL_PX = 384
_CONFIG = """<View><Image name="image" value="$image"/><TextArea name="rule" toName="image"/></View>"""
_LENGTHS = {"zh": (30, 90), "en": (20, 60)}

WrittenBy = Literal["model", "template"]


@dataclass(frozen=True, slots=True)
class Proposal:
    """`instructions`: the project's own, with the rule."""

    pair: Confused
    rule: str
    written_by: WrittenBy
    instructions: str


def propose_rules(settings: Settings, number: int, asked: Asked, *, json_output: bool) -> int:
    say = Sentences(settings.language)
    with project_as_read(settings, number) as read:
        found = halves(read, asked)
        pairs = confused(found.recipe.schema, found.proposing)[:MAX_PROPOSED]
        proposed = _proposals(settings, read, found, pairs)
    if json_output:
        print(json.dumps(_document(number, found, proposed), ensure_ascii=False, allow_nan=False))
        return 0
    found.show(say)
    for one in proposed:
        print("\n" + one_line(counts(one.pair, say)))
        for line in _told(one, number, say):
            print("  " + one_line(line))
    if not proposed:
        print(
            say(
                f"起草用的任务里，没有哪两个标签混淆了 {MIN_CONFUSED} 次或更多（留作检验的任务不看）。",
                f"Among the tasks for proposing rules no two labels are confused {MIN_CONFUSED} times or more; those "
                "held out are not looked at.",
            )
        )
    return 0


def with_rule(instructions: str, rule: str) -> str:
    return f"{instructions.strip()}\n{rule}".strip()


def _told(one: Proposal, number: int, say: Sentences) -> list[str]:
    written = json.dumps({"extra_instructions": one.instructions}, ensure_ascii=False)
    is_template = one.written_by == "template"
    return [
        say(f"规则：{one.rule}", f"Rule: {one.rule}"),
        say(
            "模型没有写出这样一句话（内置的 garments 不会写）：请先把 ____ 补全。",
            "The model wrote no such sentence (the built-in garments cannot): complete the ____ first.",
        )
        if is_template
        else say("由模型起草：请先读一读，改到合适为止。", "Drafted by the model: read it, and change what is wrong."),
        say(
            f"会写入模型设置的 extra params：{written}（其他内容保持不变）",
            f"It goes into the extra params of the model settings: {written} (all else there stays)",
        ),
        say("先检验：", "Try it first: ") + f"prelabel quality --project {number} --try-rule {as_argument(one.rule)}",
    ]


def _document(number: int, found: Halves, proposed: Sequence[Proposal]) -> dict[str, Any]:
    return {
        **found.document(number),
        "num_held_out": len(found.held_out),
        "rules": [
            {
                **asdict(one.pair),
                "num": one.pair.num,
                "rule": one.rule,
                "written_by": one.written_by,
                "extra_params": {"extra_instructions": one.instructions},
            }
            for one in proposed
        ],
    }


def _proposals(settings: Settings, read: Read, found: Halves, pairs: Sequence[Confused]) -> list[Proposal]:
    say = Sentences(found.options.language)  # the language that the model is asked in
    with contextlib.ExitStack() as ending:
        model: Model | None = None
        if pairs and not found.version.startswith(BUILT_IN):
            model = ending.enter_context(trial_model(settings))
        proposed = []
        for pair in pairs:
            written = _written(settings, read, found, pair, model, say) if model else None
            rule = written or template(pair, say)
            by: WrittenBy = "model" if written else "template"
            proposed.append(Proposal(pair, rule, by, with_rule(found.options.extra_instructions, rule)))
        return proposed


def _written(settings: Settings, read: Read, found: Halves, pair: Confused, model: Model, say: Sentences) -> str | None:
    """By the model; None: nothing that tells the two labels apart."""
    tasks = pictures_of(read, found.recipe, pair.examples[:MAX_PICTURES])
    pictures = asyncio.run(_fetched(settings, tasks))
    if not pictures:
        return None
    language = found.options.language
    shortest, longest = _LENGTHS[language]
    options = ProjectOptions(
        language=language,
        caption_min_length=shortest,
        caption_max_length=longest,
        temperature=0,
    )
    task = TrialTask(id=0, image=put_together(pictures))
    trial = Trial(
        label_config=_CONFIG,
        options=options,
        project=found.project,
        instruction=question(pair, say),
        tasks=(task,),
    )
    [answer] = model(trial).answers
    if not answer.content:
        return None
    text = answer.answer(recipe_of(schema_of(_CONFIG), options, 0)).fields["rule"].value
    return rule_from(text, pair, say) if isinstance(text, str) else None


async def _fetched(settings: Settings, tasks: Sequence[TrialTask]) -> list[Picture]:
    """Those that can be had."""
    images: ImageFetcher = build_images(settings)
    found = []
    try:
        for task in tasks:
            with contextlib.suppress(ImageError):
                found.append((await images.fetch(task.image, task_id=task.id)).picture)
    finally:
        await images.aclose()
    return found


def put_together(pictures: Sequence[Picture]) -> str:
    """Up to MAX_PICTURES pictures as one, two in a row, as the address of a task's picture."""
    columns = min(2, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * CELL_PX, rows * CELL_PX), "white")
    for place, picture in enumerate(pictures):
        whole = Image.frombytes("RGB", (picture.width_px, picture.height_px), picture.rgb)
        cell = ImageOps.pad(whole, (CELL_PX, CELL_PX), color="white")
        sheet.paste(cell, (place % columns * CELL_PX, place // columns * CELL_PX))
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
