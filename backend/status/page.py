"""`StatusView` -> one HTML page that needs nothing else: no build step, no other file, and no script to be read.

Whatever comes from outside (titles, reasons, messages, addresses) is escaped by `markup`; style and script carry a
nonce, so that a page with `security_headers` runs nothing else. Knows neither the store nor requests.
"""

from __future__ import annotations

from collections.abc import Callable

from backend.pages.assets import SCRIPT, STYLE
from backend.pages.markup import Markup, join, tag
from backend.pages.words import Language, Words, number
from backend.status.project import bar, project_card
from backend.status.view import CostView, DeliveryView, ModelView, SpeedView, StatusView

Sign = Callable[[str, str], str]
"""The token of a form: (action, project) -> text."""


def render(view: StatusView, language: Language, *, nonce: str, sign: Sign) -> str:
    """The whole page. Its addresses are relative, so it also works below a path of a proxy."""
    words = Words(language)
    other = "en" if language == "zh" else "zh"
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="data:,"),
        tag("title", _title(view, words)),
        tag("noscript", tag("meta", http_equiv="refresh", content="10")),
        tag("style", STYLE, nonce=nonce),
    )
    body = tag(
        "div",
        tag(
            "header",
            tag("h1", "prelabel"),
            tag("span", words("title")),
            tag("a", words("other_language"), href=f"?lang={other}", lang=other, hreflang=other),
        ),
        tag("p", words("offline"), id="offline", class_="offline", role="status", hidden=True),
        _live(view, words, sign),
        tag("footer", words("footer")),
        class_="wrap",
    )
    shown = join(tag("head", head), tag("body", body, tag("script", SCRIPT, nonce=nonce)))
    return "<!doctype html>" + tag("html", shown, lang="zh-CN" if language == "zh" else "en")


def render_live(view: StatusView, language: Language, *, sign: Sign) -> str:
    """The part of the page that changes, for its script."""
    return _live(view, Words(language), sign)


def security_headers(nonce: str) -> dict[str, str]:
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        # Not no-referrer: browsers would then send `Origin: null` with our own forms.
        "Referrer-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _title(view: StatusView, words: Words) -> str:
    left = view.speed.num_waiting + view.speed.num_running
    return f"({number(left)}) prelabel {words('title')}" if left else f"prelabel {words('title')}"


def _live(view: StatusView, words: Words, sign: Sign) -> Markup:
    url = f"?lang={words.language}&part=live"
    return tag("main", *_parts(view, words, sign), id="live", data_url=url, data_title=_title(view, words))


def _parts(view: StatusView, words: Words, sign: Sign) -> list[Markup]:
    parts = [
        _model(view.model, words),
        tag("dl", *_speed_tiles(view.speed, words), *_cost_tiles(view.cost, words), class_="tiles"),
        tag("h2", words("delivery")),
        _delivery(view.delivery, view.now, words),
    ]
    if view.set_aside:
        parts.append(tag("div", tag("p", words("set_aside", path=view.set_aside), class_="note warn"), class_="card"))
    parts.append(tag("h2", words("projects")))
    if not view.projects:
        empty = (tag("div", words("empty_title"), class_="name"), tag("p", words("empty_text")))
        parts.append(tag("section", *empty, class_="card empty", data_key="empty"))
    parts += [
        project_card(project, view.delivery, view.now, words, sign, index)
        for index, project in enumerate(view.projects)
    ]
    if view.num_more_projects:
        parts.append(tag("p", words("more_projects", num=number(view.num_more_projects)), class_="soft"))
    return parts


def _model(model: ModelView, words: Words) -> Markup:
    name = tag("span", model.name or words("no_model_name"), class_="name")
    kind = [tag("span", model.quantisation.upper(), class_="soft")] if model.quantisation else []
    restarts = (
        [tag("span", words("restarts", num=number(model.num_restarts)), class_="soft")] if model.num_restarts else []
    )
    # The state is one of five words, yet it is a class name only where the style knows it.
    colour = model.state if model.state in ("ready", "loading", "restarting", "stopped") else "bad"
    state = tag("span", words.state(model.state), class_=f"pill {colour}", role="status")
    parts = [tag("div", name, *kind, *restarts, state, class_="row")]
    if model.state in ("loading", "restarting"):
        percent = f"{model.progress:.0%}"
        told = words("loading_note", stage=words.stage(model.stage), percent=percent)
        parts += [bar([("done", model.progress)], percent), tag("p", told, class_="soft")]
    if model.message:
        parts.append(tag("p", model.message, class_="note warn" if model.state == "failed" else "note"))
    return tag("section", *parts, class_="card", aria_label=words("model"))


def _speed_tiles(speed: SpeedView, words: Words) -> list[Markup]:
    left = speed.num_waiting + speed.num_running
    eta = words("eta_unknown") if speed.eta_s is None else words.duration(speed.eta_s)
    return [
        _tile("speed", words("speed"), words.rate(speed.images_per_s), words("last_minute")),
        _tile("eta", words("eta"), eta if left else words("eta_done"), words("at_this_speed") if speed.eta_s else ""),
        _tile(
            "waiting", words("waiting"), number(speed.num_waiting), words("now_running", num=number(speed.num_running))
        ),
    ]


def _cost_tiles(cost: CostView, words: Words) -> list[Markup]:
    tiles = [_tile("busy", words("busy"), words.duration(cost.busy_s), words("since_loaded"))]
    if cost.yuan_per_minute is None or cost.busy_yuan is None:
        return tiles
    price = words("cost_note", price=f"{cost.yuan_per_minute:g}")
    tiles.append(_tile("cost", words("cost"), words.yuan(cost.busy_yuan), price))
    rest = words("eta_unknown") if cost.rest_yuan is None else words.yuan(cost.rest_yuan)
    bulk = words("bulk_cost", yuan=words.yuan(cost.bulk_yuan)) if cost.bulk_yuan is not None else ""
    return [*tiles, _tile("rest", words("rest_cost"), rest, bulk)]


def _tile(key: str, name: str, value: str, note: str = "") -> Markup:
    shown = [tag("dt", name), tag("dd", value, class_="big", id=f"tile-{key}")]
    if note:
        shown.append(tag("dd", note, class_="soft", id=f"note-{key}"))
    return tag("div", *shown, class_="tile", data_key=key)


def _delivery(delivery: DeliveryView, now: float, words: Words) -> Markup:
    said = words("delivery.push", url=delivery.url) if delivery.mode == "push" else words("delivery.reply")
    parts = [tag("div", said)]
    if delivery.paused_until is not None:
        wait = words.duration(max(0.0, delivery.paused_until - now))
        parts.append(tag("p", words("delivery.paused", wait=wait), class_="note warn"))
    if delivery.last_success_at is not None:
        parts.append(tag("p", words("delivery.success", age=words.age(delivery.last_success_at, now)), class_="soft"))
    if delivery.last_error and delivery.last_error_at is not None:
        healed = delivery.last_success_at is not None and delivery.last_success_at > delivery.last_error_at
        age = words.age(delivery.last_error_at, now)
        told = words("delivery.error", age=age, message=delivery.last_error)
        parts.append(tag("p", told, class_="soft" if healed else "note warn"))
    if delivery.num_dropped:
        parts.append(tag("p", words("delivery.dropped", num=number(delivery.num_dropped)), class_="soft"))
    return tag("section", *parts, class_="card", aria_label=words("delivery"))
