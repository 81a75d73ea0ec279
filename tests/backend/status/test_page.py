"""The page shows hostile texts as texts, says everything in both languages, and holds nothing from elsewhere."""

from __future__ import annotations

import re
import string
from dataclasses import fields, is_dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args

import pytest

from backend.api.status_pages import Action
from backend.delivery.loop import DeliveryStatus
from backend.delivery.upkeep import NoteKind
from backend.engine.api import EngineState
from backend.pages.html import TEMPLATES
from backend.pages.words import CHECKS, STAGES, TEXTS, Language, Words
from backend.reasons import Reason
from backend.status.check import Check
from backend.status.make_view import make_view
from backend.status.page import Did, render, render_live, security_headers
from backend.status.view import DeliveryMode, FailedTask, ProjectNote, QualityView, StatusView
from backend.store import Store
from backend.store.types import GONE
from tests.backend.status.rig import HOSTILE, NOW, READY, finished, queued
from tests.backend.status.test_view import settings
from tests.backend.store.given import QUICK

QUOTED = "\" onmouseover='alert(1)' x=\"&lt;</title></script></style>"
_NAMES = (
    "html head meta link title style noscript script body div main header footer section h1 h2 h3 h4 p span small a i "
    "dl dt dd table tbody tr td svg rect form input button details summary"
)
ELEMENTS = set(_NAMES.split())
LANGUAGES = get_args(Language)
HAN = re.compile("[\u4e00-\u9fff]")


def sign(action: str, project: str) -> str:
    return f"signed-{action}"


class Seen(HTMLParser):
    """Element names, attribute names, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.values: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.values += [value or "" for _, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_view(folder: Path, text: str) -> StatusView:
    """`text` wherever something from outside can stand."""
    with Store.open(folder / "prelabel.db", NOW, QUICK) as store:
        works = queued(store, text, [1, 2, 3, 4])
        store.fail(works[0].id, text, text, NOW)
        finished(store, works[1:2])
        summaries = store.summary()
        failures = {text: store.failures(text, 5)}
    assert READY.ready
    engine = replace(READY, state="loading", stage=text, message=text, ready=replace(READY.ready, model_name=text))
    status = DeliveryStatus(False, last_error=text, last_error_at=NOW)
    chosen = settings(label_studio_url="https://labels.example/" + text.replace(" ", ""))
    return make_view(
        engine, summaries, failures, 1.0, status, chosen, NOW, titles={text: text}, set_aside=f"/data/{text}"
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("text", [HOSTILE, QUOTED], ids=["an element", "quotes and closing tags"])
def test_hostile_texts_are_shown_as_they_are(tmp_path: Path, text: str, language: Language) -> None:
    page = render(hostile_view(tmp_path, text), language, nonce="n", sign=sign)
    seen = Seen(page)
    assert not seen.elements & {"img", "iframe", "object"}
    assert not {name for name in seen.attributes if name.startswith("on") or name == "style"}
    assert page.count("<script") == page.count("</script") == 1
    assert seen.text.count(text) >= 5
    assert text in seen.values  # the hidden field that names the project


def with_texts(value: Any, text: str) -> Any:
    """`value` with `text` in place of every text in it."""
    match value:
        case str():
            return text
        case dict():
            return {text if isinstance(key, str) else key: with_texts(held, text) for key, held in value.items()}
        case tuple():
            return tuple(with_texts(held, text) for held in value)
        case _ if is_dataclass(value):
            return replace(
                value, **{field.name: with_texts(getattr(value, field.name), text) for field in fields(value)}
            )
    return value


def test_the_number_to_review_falls_to_nought_and_stays_a_link_to_the_tab(tmp_path: Path) -> None:
    view = hostile_view(tmp_path, "p")
    for left, shown in ((None, 5), (3, 3), (0, 0)):
        url = "http://ls/projects/1/data?tab=7" if left is not None else ""
        project = replace(view.projects[0], num_needs_review=5, num_review_left=left, review_url=url)
        page = render(replace(view, projects=(project,)), "zh", nonce="n", sign=sign)
        fact = page[page.index('data-key="review"') :].partition("</div>")[0]
        assert f"<dd>{shown}</dd>" in fact if left is None else f'<dd><a href="{url}">{shown}</a></dd>' in fact


@pytest.mark.parametrize("mode", get_args(DeliveryMode))
@pytest.mark.parametrize("state", ["loading", QUOTED])
def test_every_text_of_the_view_is_escaped(tmp_path: Path, mode: DeliveryMode, state: str) -> None:
    view = with_texts(hostile_view(tmp_path, "p"), HOSTILE + QUOTED)
    view = replace(view, delivery=replace(view.delivery, mode=mode), model=replace(view.model, state=state))
    page = render(view, "en", nonce=QUOTED, sign=lambda action, project: QUOTED)
    seen = Seen(page)
    assert seen.elements <= ELEMENTS
    assert not {name for name in seen.attributes if name.startswith("on") or name == "style"}
    assert page.count("<script") == page.count("</script") == page.count("<style") == page.count("</style") == 1


ENGLISH = "The picture is larger than the limit of 20 MB"


class Visible(HTMLParser):
    """The text of a page without what it marks as English, and the attributes that people are shown or read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._depth = 0
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if self._depth or values.get("lang") == "en" or tag in ("style", "script"):
            self._depth += tag not in ("meta", "link", "input")
        self.text += "\n".join(f"\n{values.get(name) or ''}" for name in ("title", "aria-label", "placeholder"))

    def handle_endtag(self, tag: str) -> None:
        self._depth -= bool(self._depth)

    def handle_data(self, data: str) -> None:
        self.text += "" if self._depth else data + "\n"


def everything(folder: Path, mode: DeliveryMode, state: EngineState) -> StatusView:
    """Every block of the page filled, every reason, check and note; what others say in English."""
    view = hostile_view(folder, "夏装")
    said = {name: name.upper() for name in _blanks()} | dict.fromkeys(("said", "reason"), ENGLISH)
    reasons = {reason: 3 for reason in get_args(Reason)}
    failed = tuple(FailedTask(number, reason, ENGLISH, "http://ls/1") for number, reason in enumerate(reasons))
    one = replace(
        view.projects[0], failures=reasons, failed_tasks=failed, gone=dict.fromkeys(GONE, 2), done_by_people=reasons,
        num_failed=9, num_cancelled=2, num_older=2, num_stale=2, num_done=3, num_review_left=2, last_finished_at=NOW,
        quality=QualityView(
            "m-1", 9, 9, 0.9, 0.8, 0.95, 0.9, 3.0, 0.8, 0.7, ("盲检 9 张",), ("Blind check",), NOW, ENGLISH
        ),
    )  # fmt: skip
    notes = [replace(one, note=ProjectNote(kind, NOW, ENGLISH if kind == "failed" else "m-1", 3)) for kind in NOTES]
    delivery = replace(
        view.delivery, mode=mode, last_error=ENGLISH, last_reason="busy", last_error_at=NOW, num_dropped=4,
        last_success_at=NOW - 60, paused_until=None if mode == "push" else NOW + 60,
    )  # fmt: skip
    cost = replace(view.cost, yuan_per_minute=0.06, busy_yuan=1.0, rest_yuan=1.0, bulk_yuan=2.0)
    model = replace(
        view.model, state=state, stage="load", message=ENGLISH, num_restarts=2, other_cards=(ENGLISH,), ended=ENGLISH
    )  # fmt: skip
    return replace(
        view, model=model, cost=cost,
        delivery=delivery, projects=tuple(notes), num_more_projects=3,
        problems=tuple(Check("card", "bad", code, said) for code in CHECKS),
    )  # fmt: skip


NOTES = get_args(NoteKind)


def _blanks() -> set[str]:
    formatter = string.Formatter()
    return {name for texts in CHECKS.values() for _, name, _, _ in formatter.parse(texts[1]) if name}


@pytest.mark.parametrize("mode", get_args(DeliveryMode))
@pytest.mark.parametrize("state", get_args(EngineState))
def test_the_chinese_page_has_no_english_sentence(tmp_path: Path, mode: DeliveryMode, state: EngineState) -> None:
    """Names, commands and what stands on Label Studio's own buttons are English; three small words in a row are not."""
    view = everything(tmp_path, mode, state)
    page = render(view, "zh", nonce="n", sign=sign, did=Did("retry", "12.1", 5))
    assert re.findall(r"(?:\b[a-z]+\b[ ,]+){2}\b[a-z]+\b", Visible(page).text) == []
    assert Seen(page).text.count(ENGLISH) > len(CHECKS) / 10, "and yet it can be read there"


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_said_of_a_failed_task_can_be_read_without_pointing_at_it(tmp_path: Path, language: Language) -> None:
    view = hostile_view(tmp_path, "p")
    tasks = tuple(FailedTask(number, "p", f"the limit is {number % 2} MB", "") for number in range(9))
    project = replace(view.projects[0], failed_tasks=tasks)
    text = Seen(render(replace(view, projects=(project,)), language, nonce="n", sign=sign)).text
    assert [text.count(f"the limit is {number} MB") for number in (0, 1)] == [1, 1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path, language: Language) -> None:
    page = render(hostile_view(tmp_path, "p"), language, nonce="n", sign=sign)
    assert not re.search(r'(src|srcset|action)="(?!status/)', page)
    assert re.findall(r'<link[^>]*href="([^"]*)"', page) == ["data:,"]
    assert "@import" not in page
    assert "url(" not in page


def test_the_policy_allows_only_our_own_script_and_style() -> None:
    headers = security_headers("abc")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'nonce-abc'" in policy
    assert "unsafe" not in policy
    assert headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("table", [TEXTS, STAGES], ids=["texts", "stages"])
def test_both_languages_have_every_text_with_the_same_blanks(table: dict[str, tuple[str, str]]) -> None:
    for key, (chinese, english) in table.items():
        blanks = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (chinese, english)]
        assert blanks[0] == blanks[1], key
        assert chinese.strip(), key
        assert english.strip(), key
        if key not in ("other_language", "yuan", "full_stop", "stage_told"):
            assert HAN.search(chinese), key
            assert not HAN.search(english), key


def test_every_state_has_words() -> None:
    assert {f"state.{state}" for state in get_args(EngineState)} <= set(TEXTS)
    for prefix, kinds in {"note": get_args(NoteKind), "did": get_args(Action)}.items():
        assert {f"{prefix}.{kind}" for kind in kinds} == {key for key in TEXTS if key.startswith(f"{prefix}.")}


def test_every_text_is_used() -> None:
    backend = Path(__file__).parents[3] / "backend"
    rooms = ("pages", "status", "api", "commands")
    paths = [*TEMPLATES.glob("*.html"), *(path for room in rooms for path in (backend / room).glob("*.py"))]
    code = "".join(path.read_text("utf-8") for path in paths).replace("'", '"')
    unused = {key for key in TEXTS if code.count(f'"{key}"') < 2 and not key.startswith(("state.", "note.", "did."))}
    assert not unused


@pytest.mark.parametrize(
    ("language", "step"),
    [("zh", "点击 Actions > Retrieve Predictions"), ("en", "choose Actions > Retrieve Predictions")],
)
def test_an_empty_page_says_the_next_step(language: Language, step: str) -> None:
    view = make_view(READY, [], {}, 0.0, DeliveryStatus(False), settings(), NOW)
    assert step in Seen(render(view, language, nonce="n", sign=sign)).text


def test_without_an_api_key_what_waits_is_said_with_the_next_step(tmp_path: Path) -> None:
    text = Seen(render_live(hostile_view(tmp_path, "12.1"), "en", sign=sign)).text
    assert "No API key: the rest waits for the next Retrieve Predictions" in text
    assert "1 result is waiting" in text


def test_a_refused_api_key_is_said_with_the_next_try() -> None:
    status = DeliveryStatus(True, paused_until=NOW + 90)
    view = make_view(READY, [], {}, 0.0, status, settings(label_studio_url="http://ls"), NOW)
    text = Seen(render_live(view, "en", sign=sign)).text
    assert "Pushed to Label Studio at http://ls" in text
    assert "next try in 1 min 30 s" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_reason_is_said_with_what_to_do_about_it(tmp_path: Path, language: Language) -> None:
    with Store.open(tmp_path / "prelabel.db", NOW - 1000, QUICK) as store:
        work = queued(store, "12.1", [1])[0]
        store.fail(work.id, "image_private_address", "10.0.0.9 is refused", NOW)
        view = make_view(
            READY,
            store.summary(),
            {},
            0.0,
            DeliveryStatus(True, last_error="refused", last_error_at=NOW, last_reason="not_found"),
            settings(label_studio_url="http://ls"),
            NOW,
        )
    text = Seen(render_live(view, language, sign=sign)).text
    for reason in ("image_private_address", "not_found"):
        assert Words(language).reason(reason) in text
        assert Words(language).remedy(reason) in text


@pytest.mark.parametrize(
    ("device", "chinese", "english"),
    [
        ("cuda:0", "GPU 计算时间", "GPU busy time"),
        ("cpu", "CPU 计算时间", "CPU busy time"),
        ("", "计算时间", "Computing time"),
    ],
)
def test_the_busy_time_is_named_after_the_device(device: str, chinese: str, english: str) -> None:
    assert (Words("zh").busy(device), Words("en").busy(device)) == (chinese, english)
    assert READY.ready is not None
    engine = replace(READY, ready=replace(READY.ready, device=device))
    view = make_view(engine, [], {}, 0.0, DeliveryStatus(False), settings(), NOW)
    assert f">{english}<" in render_live(view, "en", sign=sign)


@pytest.mark.parametrize(
    ("seconds", "chinese", "english"),
    [
        (0, "0 秒", "0 s"), (59.9, "59 秒", "59 s"), (60, "1 分钟", "1 min"), (182, "3 分钟 2 秒", "3 min 2 s"),
        (7_199, "1 小时 59 分钟", "1 h 59 min"), (86_400, "1 天", "1 d"), (-5, "0 秒", "0 s"),
        (90_061, "1 天 1 小时", "1 d 1 h"),
    ],
)  # fmt: skip
def test_durations_are_said_in_their_two_largest_units(seconds: float, chinese: str, english: str) -> None:
    assert (Words("zh").duration(seconds), Words("en").duration(seconds)) == (chinese, english)


@pytest.mark.parametrize(("rate", "said"), [(0.0, "0.0 张/秒"), (5.04, "5.0 张/秒"), (0.05, "3.0 张/分钟")])
def test_a_slow_speed_is_said_by_the_minute(rate: float, said: str) -> None:
    assert Words("zh").rate(rate) == said
