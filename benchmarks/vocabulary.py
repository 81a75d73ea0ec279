"""What Qwen3's real vocabulary costs on the host: `python -m benchmarks.vocabulary [--json FILE]`. Needs no model.

answers  of each ready-made label config: the instruction in tokens, and an answer, whose labels and keys the grammar
         forces where there is nothing to choose; every other token is a step of the model
steps    what the engine does of a step without the device: the masks of the next tokens (beside the device's work),
         packing, and taking the tokens with what is forced after them
"""

from __future__ import annotations

import statistics
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from llguidance import LLExecutor
from llguidance.numpy import fill_next_token_bitmask_par

from backend.engine.image_sizes import Grid
from backend.engine.kv_blocks import Instruction, blocks_for
from backend.engine.packing import Row, graph_inputs, pack_answers
from backend.engine.prompts import Prompt
from backend.engine.scheduler import Slot
from benchmarks.qwen_vocabulary import NUM_LOGITS, follow, qwen_grammars, qwen_tokenizer, start
from benchmarks.report import Figure, Measure, Part, measure_parts
from label_config.answer import FieldValue, render_answer
from label_config.parse import parse_label_config
from label_config.prompt import PromptOptions, build_instruction
from label_config.ready_made import ready_made, ready_made_names
from label_config.schema import ChoicesField, LabelSchema, TaxonomyField
from model_loader.chat import encode_prompt

CAPTIONS = {  # as long as is asked for: 80 to 120 characters
    "zh": "一位年轻女性身穿白色长款连衣裙，手持米色折叠遮阳伞，面朝大海站立，腰间系着同色细腰带，裙摆随风轻轻扬起，"
    "整体氛围清新自然，适合夏季女装推广与海边度假主题的商品展示页面使用。",
    "en": "A young woman in a long white dress holds a beige parasol on a quiet beach and looks out at the calm sea.",
}
GRID = Grid(16, 16)
CAPTION = "caption"


def answers(folder: Path, small: bool) -> Part:
    figures: list[Figure] = []
    for name in ready_made_names():
        schema, language = parse_label_config(ready_made(name)), name[-2:]
        instruction = build_instruction(schema, PromptOptions(language="zh" if language == "zh" else "en"))
        followed = follow(schema, answer_to(schema, language))
        in_caption = len(qwen_tokenizer().encode(CAPTIONS[language], add_special_tokens=False))
        labels = len(followed.pieces) - in_caption
        figures += [
            Figure(f"{name}: instruction", len(encode_prompt(qwen_tokenizer(), instruction, 1).prefix_ids), "tokens"),
            Figure(f"{name}: answer", len(followed.pieces), "tokens"),
            Figure(f"{name}: steps", followed.num_steps),
            Figure(f"{name}: forced", followed.num_forced / len(followed.pieces), "share"),
            Figure(f"{name}: forced, without the caption's own tokens", followed.num_forced / labels, "share"),
        ]
    return Part("one answer each, with a caption of 80 to 120 characters", figures)


def answer_to(schema: LabelSchema, language: str) -> str:
    """The last label of each list, and a caption."""
    values: dict[str, FieldValue] = {CAPTION: CAPTIONS[language]}
    for field in schema.fields:
        if isinstance(field, ChoicesField):
            values[field.name] = (field.choices[-1].value,)
        elif isinstance(field, TaxonomyField):
            values[field.name] = (tuple(node.value for node in list(field.paths())[-1]),)
    return render_answer(schema, values)


def steps(folder: Path, small: bool) -> Part:
    figures: list[Figure] = []
    for num_rows in (4,) if small else (32, 64):
        told = _time_steps(num_rows, 20 if small else 300)
        figures += [Figure(f"{num_rows} rows: {name}", seconds, "s") for name, seconds in told.items()]
    return Part("answers to ecommerce.zh at different places, a step of all rows, median", figures)


class _Answering:
    """A row that writes the same answer again and again."""

    def __init__(self, schema: LabelSchema, answer: str, number: int) -> None:
        self._schema, self._answer = schema, answer.encode()
        prompt = Prompt((0,) * 975, (0,) * GRID.num_tokens, GRID)
        blocks = array("i", range(blocks_for(prompt.num_tokens + 200)))
        self.row = Row(start(schema, number), prompt, Slot(number, number, Instruction((), ()), blocks))
        self._begin()

    def _begin(self) -> None:
        self.row.sequence, self.row.num_cached = start(self._schema), self.row.prompt.num_tokens
        self._left = self._answer
        self._skip()

    def _skip(self) -> None:
        self._left = self._left[len(b"".join(map(qwen_grammars().piece, self.row.sequence.pending))) :]

    def next_token(self) -> int:
        return int(qwen_grammars().tokenizer.tokenize_bytes(self._left)[0])

    def went_on(self) -> None:
        """Its sequence has taken the token."""
        if self.row.sequence.finished:
            self._begin()
        else:
            self.row.num_cached += 1
            self._skip()


def _time_steps(num_rows: int, num_steps: int) -> dict[str, float]:
    schema = parse_label_config(ready_made("ecommerce.zh"))
    answering = [_Answering(schema, answer_to(schema, "zh"), number) for number in range(num_rows)]
    for number, one in enumerate(answering):  # as far as where a free slot would have had it begin
        for _ in range(number % 32):
            one.row.sequence.append(one.next_token(), 1.0)
            one.went_on()
    rows = [one.row for one in answering]
    masks = np.zeros((num_rows, -(-NUM_LOGITS // 32)), dtype=np.int32)
    executor = LLExecutor()
    seconds: dict[str, list[float]] = {"masks, beside the device": [], "packing": [], "taking tokens": []}

    def timed(name: str, work: Callable[[], object]) -> None:
        at = time.perf_counter()
        work()
        seconds[name].append(time.perf_counter() - at)

    for _ in range(num_steps):
        matchers = [(row.sequence.matcher, place) for place, row in enumerate(rows)]
        timed("masks, beside the device", partial(fill_next_token_bitmask_par, executor, matchers, masks))
        timed("packing", partial(_pack, rows))
        timed("taking tokens", partial(_take, rows, [one.next_token() for one in answering]))
        for one in answering:
            one.went_on()
    return {name: statistics.median(each) for name, each in seconds.items()}


def _pack(rows: Sequence[Row]) -> None:
    packed = pack_answers(rows)
    graph_inputs(packed)
    packed.token_table()


def _take(rows: Sequence[Row], tokens: Sequence[int]) -> None:
    for row, token in zip(rows, tokens, strict=True):
        row.sequence.append(token, 1.0)


PARTS: dict[str, Measure] = {"answers": answers, "steps": steps}

if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS, None))
