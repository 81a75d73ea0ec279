"""A label config is hostile until it is checked: it is refused by name or honoured, at a cost that its length bounds,
and nobody waits for another's. Work is counted, never timed.
"""

from __future__ import annotations

import asyncio
import random
import threading
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.engine.grammar_check import grammar_problem
from backend.predict.config_check import MAX_WAITING, SHORT_CHARS, ConfigChecks
from backend.predict.options import ProjectOptions, read_options
from backend.predict.recipe import Recipe, recipe_of
from label_config.answer import FieldValue
from label_config.conditions import shown_fields
from label_config.control_tag import MAX_TITLE_CHARS
from label_config.errors import MAX_SAID_CHARS, UnsupportedConfig
from label_config.grammar import MAX_GRAMMAR_CHARS, answer_grammar
from label_config.numbers import Numbers
from label_config.parse import MAX_LISTED_NUMBERS, MAX_SAID, MAX_SAID_IN_ALL, parse_label_config
from label_config.prompt import build_instruction
from label_config.schema import LabelSchema, NumberField
from tests.attacks.hostile_configs import KINDS
from tests.backend.serving import CONFIG, Server, predict_body, setup_body, task
from tests.counted import num_calls
from tests.label_config.configs import choices, view
from tests.limits import WAIT_S, eventually, seeds

ODD_NUMBERS = [
    "nan", "inf", "-inf", "1e400", "-1e400", "1e-400", "1e-300", "5e-324", "1.7e308", "-0", "0", "0x10", "１２",
    "1_000", str(10**30), "", " ", "9" * 5_000, "0." + "0" * 400 + "1", ".5", "5.", "+5", "--5", "1e", "0.1", "0.0003",
    "0.00003", "5", "3", "-7.25", "999999999", "999999999.9999", "1000000000", "½", "Ⅳ", "1,5", "true",
]  # fmt: skip
NUMERIC = {
    "Number": ("min", "max", "step"),
    "Rating": ("maxRating",),
    "TextArea": ("maxLength",),
    "Taxonomy": ("maxUsages",),
}
MAX_RANGE_CHARS = 2_500
"""Of the pattern of a number whose digits describe it."""
MAX_NUMBER_CHARS = 20
"""Of one number in a pattern that lists them."""


def _control(name: str, tag: str, values: dict[str, str]) -> str:
    attributes = " ".join(f"{key}={quoteattr(value)}" for key, value in values.items())
    return f'<{tag} name="{name}" toName="image" {attributes}><Choice value="a"/><Choice value="b"/></{tag}>'


@st.composite
def numeric_configs(draw: st.DrawFn) -> str:
    numbers = st.one_of(
        st.sampled_from(ODD_NUMBERS),
        st.floats().map(repr),
        st.integers(-(10**12), 10**12).map(lambda n: str(n / 10**4)),
        st.text(max_size=5).filter(lambda text: text.isprintable()),
    )
    tags = draw(st.lists(st.sampled_from(sorted(NUMERIC)), min_size=1, max_size=4))
    return view(
        *(
            _control(f"c{n}", tag, {key: draw(numbers) for key in NUMERIC[tag] if draw(st.booleans())})
            + (_control(f"d{n}", tag, {"required": "true", NUMERIC[tag][0]: draw(numbers)}))
            for n, tag in enumerate(tags)
        )
    )


def _honoured(xml: str) -> LabelSchema | None:
    """What is made of a label config on the way of /setup; None if it is refused by name."""
    try:
        schema = parse_label_config(xml)
        grammar = answer_grammar(schema, text_max_chars=400)
    except UnsupportedConfig as error:
        if len(str(error)) > MAX_SAID_CHARS + 1:
            raise
        return None
    build_instruction(schema)
    assert len(grammar) <= MAX_GRAMMAR_CHARS
    assert len(schema.warnings) <= MAX_SAID + 1 >= len(schema.traps)
    assert all(len(said) <= MAX_SAID_CHARS + 1 for said in (*schema.warnings, *schema.traps))
    assert all(sum(map(len, said)) <= MAX_SAID_IN_ALL + MAX_SAID_CHARS for said in (schema.warnings, schema.traps))
    assert all(len(field.title) <= MAX_TITLE_CHARS for field in schema.fields), "it stands in each finding"
    numbers = [Numbers.of(f.minimum, f.maximum, f.step) for f in schema.fields if isinstance(f, NumberField)]
    assert sum(each.num_listed for each in numbers) <= MAX_LISTED_NUMBERS
    for each in numbers:
        assert len(each.pattern()) <= (each.num_listed * MAX_NUMBER_CHARS or MAX_RANGE_CHARS)
    return schema


@given(xml=numeric_configs())
def test_any_number_in_a_label_config_is_honoured_or_refused_by_name(xml: str) -> None:
    schema = _honoured(xml)
    if schema is not None and len(answer_grammar(schema, text_max_chars=400)) < 20_000:
        assert grammar_problem(schema, 400) == "", "each form of answer that the check tries is one that is admitted"


@pytest.mark.parametrize("seed", seeds(2, 60))
def test_a_config_of_several_hostile_kinds_is_honoured_or_refused_by_name(seed: int) -> None:
    chance = random.Random(seed)
    kinds = chance.sample(sorted(KINDS), 3)
    inner = [KINDS[kind](chance.choice([200, 2_000, 20_000])) for kind in kinds]
    together = "".join(xml.removeprefix("<View>").removesuffix("</View>").split("/>", 1)[1] for xml in inner)
    _honoured(view(together))


@pytest.mark.parametrize("kind", KINDS)
def test_twice_the_config_is_no_more_than_twice_the_work(kind: str) -> None:
    _honoured(KINDS[kind](200))  # what is made once, at the first call, is not counted
    short, long = KINDS[kind](6_000), KINDS[kind](12_000)
    once, twice = num_calls(lambda: _honoured(short)), num_calls(lambda: _honoured(long))
    assert twice < 2.3 * once + 2_000


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_of_a_config_is_not_many_times_its_length(kind: str) -> None:
    """Nor is the work, whichever limit ends it."""
    _honoured(KINDS[kind](200))
    xml = KINDS[kind](20_000)
    assert num_calls(lambda: _honoured(xml)) < 10 * len(xml) + 40_000
    tracemalloc.start()
    try:
        _honoured(xml)
        assert tracemalloc.get_traced_memory()[1] < 200 * len(xml)
    finally:
        tracemalloc.stop()


def test_conditions_that_all_hang_on_each_other_are_looked_at_a_bounded_number_of_times() -> None:
    when = 'visibleWhen="choice-selected"'
    schema = parse_label_config(view(*(choices("a", "b", name=f"c{n}", attributes=when) for n in range(50))))
    values: dict[str, FieldValue] = {field.name: ("a",) for field in schema.fields}
    found: list[frozenset[str]] = []
    assert num_calls(lambda: found.append(shown_fields(schema, values))) < 50 * 50 * 50
    assert len(found[0]) == 50


class _Compared(str):
    """A label that counts how often it is compared with another."""

    num = 0

    def __eq__(self, other: object) -> bool:
        _Compared.num += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_many_labels_of_many_are_looked_up_and_not_compared_with_each() -> None:
    labels = [str(n) for n in range(2_000)]
    schema = parse_label_config(view(choices(*labels, name="c", attributes='choice="multiple"')))
    shown_fields(schema, {"c": tuple(map(_Compared, labels[1_000:]))})
    assert _Compared.num <= 2 * len(labels)


# -- who waits for whom ------------------------------------------------------------------------------------------------


def _recipe(name: str) -> Recipe:
    return recipe_of(parse_label_config(view(choices("a", "b", name=name))), ProjectOptions(), 256)


class Gate:
    """A check that counts, and that ends when it is told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.open = threading.Event()

    def __call__(self, schema: LabelSchema, text_max_chars: int, limit_s: float) -> str:
        self.begun.append(schema.fields[0].name)
        if schema.fields[0].name.startswith("slow"):
            assert self.open.wait(WAIT_S)
        return ""


def test_one_config_is_checked_once_for_all_who_ask_and_a_short_one_does_not_wait_for_a_long_one() -> None:
    async def ask() -> None:
        gate = Gate()
        checks = ConfigChecks(WAIT_S, gate)
        try:
            slow = [asyncio.create_task(checks.warnings(_recipe("slow"), SHORT_CHARS + 1)) for _ in range(8)]
            assert await checks.warnings(_recipe("innocent"), SHORT_CHARS) == []
            assert not any(asking.done() for asking in slow)
            gate.open.set()
            assert await asyncio.gather(*slow) == [[]] * 8
            assert await checks.warnings(_recipe("slow"), SHORT_CHARS + 1) == []
            assert sorted(gate.begun) == ["innocent", "slow"]
        finally:
            gate.open.set()
            checks.close()

    asyncio.run(ask())


def test_extra_params_that_change_no_grammar_have_none_checked_again() -> None:
    schema = parse_label_config(view(choices("a", "b", name="c")))
    changes: list[dict[str, Any]] = [
        {}, {"top_p": 0.5}, {"extra_instructions": "x"}, {"fields": {"c": {"instruction": "y"}}},
        {"fields": {"gone": {"kind": "short", "max_chars": 7}}}, {"review_thresholds": {"c": 0.3}},
    ]  # fmt: skip

    async def ask() -> None:
        gate = Gate()
        checks = ConfigChecks(WAIT_S, gate)
        try:
            for extra_params in changes:
                await checks.warnings(recipe_of(schema, read_options(extra_params, ProjectOptions())[0], 256), 10)
            assert gate.begun == ["c"]
        finally:
            checks.close()

    asyncio.run(ask())


def test_more_configs_than_may_wait_are_answered_at_once_and_told_why() -> None:
    async def ask() -> None:
        gate = Gate()
        checks = ConfigChecks(WAIT_S, gate)
        try:
            waiting = [asyncio.create_task(checks.warnings(_recipe(f"slow{n}"), 10)) for n in range(MAX_WAITING)]
            await asyncio.sleep(0)
            (said,) = await checks.warnings(_recipe("innocent"), 10)
            assert said.startswith(
                f"the label config was not checked, because {MAX_WAITING} others are being checked; "
            )
            gate.open.set()
            assert await asyncio.gather(*waiting) == [[]] * MAX_WAITING
            assert await checks.warnings(_recipe("innocent"), 10) == []
        finally:
            gate.open.set()
            checks.close()

    asyncio.run(ask())


def test_who_gives_up_waiting_hears_the_result_the_next_time_and_the_check_ran_once() -> None:
    async def ask() -> None:
        gate = Gate()
        checks = ConfigChecks(WAIT_S, gate)
        try:
            leaving = asyncio.create_task(checks.warnings(_recipe("slow"), 10))
            await asyncio.sleep(0)
            leaving.cancel()
            again = asyncio.create_task(checks.warnings(_recipe("slow"), 10))
            await asyncio.gather(leaving, return_exceptions=True)
            gate.open.set()
            assert await again == []
            assert gate.begun == ["slow"]
        finally:
            gate.open.set()
            checks.close()

    asyncio.run(ask())


def test_of_a_check_that_took_too_long_nothing_is_kept_but_that_it_did() -> None:
    class Made:
        """Grammar, vocabulary, matcher: megabytes."""

    held: list[weakref.ref[Made]] = []

    def too_long(schema: LabelSchema, text_max_chars: int, limit_s: float) -> str:
        made = Made()
        held.append(weakref.ref(made))
        raise TimeoutError

    async def ask() -> None:
        checks = ConfigChecks(WAIT_S, too_long)
        try:
            for num in (1, 2):
                (said,) = await checks.warnings(_recipe("slow"), 10)
                assert said.startswith("the label config was not checked within")
                await eventually(lambda: all(made() is None for made in held))
                assert len(held) == num, "it is checked again"
        finally:
            checks.close()

    asyncio.run(ask())


def test_a_check_ends_by_itself() -> None:
    with pytest.raises(TimeoutError):
        grammar_problem(parse_label_config(KINDS["a deep tree"](2_000)), 400, 0)


# -- through HTTP ------------------------------------------------------------------------------------------------------

STALLS = view(*(f'<Number name="n{n}" toName="image" step="0.0001"/>' for n in range(50)))


def test_a_config_that_stalled_all_projects_is_answered_beside_an_innocent_one(shared_server: Server) -> None:
    client = shared_server.client
    with ThreadPoolExecutor(9) as beside:
        hostile = [beside.submit(client.post, "/setup", json=setup_body(STALLS, project="9.1")) for _ in range(8)]
        innocent = beside.submit(client.post, "/setup", json=setup_body())
        assert [asking.result().json()["warnings"] for asking in hostile] == [[]] * 8
        assert innocent.result().status_code == 200
    assert parse_label_config(CONFIG).warnings == ()


@pytest.mark.parametrize("number", ODD_NUMBERS)
def test_no_number_of_a_label_config_is_an_error_of_the_server(number: str, shared_server: Server) -> None:
    xml = view(f"<Number name='n' toName='image' min='5' step={quoteattr(number)}/>")
    setup = shared_server.client.post("/setup", json=setup_body(xml, project="8.1"))
    predict = shared_server.client.post("/predict", json=predict_body(task(), config=xml, context={"result": []}))
    assert {setup.status_code, predict.status_code} <= {200, 400}


@pytest.mark.parametrize("unit", ["x", "'s3://", "a.b-", "token=", "@b_"])
def test_what_is_said_of_a_short_config_is_short_and_the_log_has_a_part_of_it(
    unit: str, shared_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Fifty controls under the same conditions: each quotes them, at each /setup, and the loop writes the log."""
    labels = (unit * 950)[:950]
    around = f'<View visibleWhen="choice-selected" whenTagName="c" whenChoiceValue={quoteattr(labels)}>'
    ratings = "".join(f'<Rating name="r{n}" toName="image"/>' for n in range(49))
    xml = view(choices("a", "b", name="c"), around * 2, ratings, "</View>" * 2)
    for _ in range(2):
        caplog.clear()
        reply = shared_server.client.post("/setup", json=setup_body(xml, project="7.1")).json()
        assert 10_000 < sum(map(len, reply["warnings"])) < 2 * MAX_SAID_IN_ALL
        assert reply["warnings"][-1].endswith("more of this kind")
        assert 0 < sum(map(len, caplog.messages)) < 5_000
