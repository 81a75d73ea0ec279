"""`StatusView` -> one HTML page that needs nothing else. Style and script carry a nonce, so that a page with
`security_headers` runs nothing else.

What the page looks like is in `backend/pages/templates`. Knows neither the store nor requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from backend.pages import html
from backend.pages.numbers import number
from backend.pages.words import Language, Words
from backend.status.view import StatusView

Sign = Callable[[str, str], str]
"""The token of a form: (action, project) -> text."""


@dataclass(frozen=True, slots=True)
class Did:
    """What a button has just done: `num` tasks or predictions."""

    action: str
    project: str
    num: int


def render(view: StatusView, language: Language, *, nonce: str, sign: Sign, did: Did | None = None) -> str:
    return html.render("status.html", **_values(view, language, sign), nonce=nonce, did=did)


def render_live(view: StatusView, language: Language, *, sign: Sign) -> str:
    """The part of the page that changes, for its script."""
    return html.render("live.html", **_values(view, language, sign))


def security_headers(nonce: str) -> dict[str, str]:
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        # Not no-referrer: browsers would then send `Origin: null` with our own forms.
        "Referrer-Policy": "same-origin",
    }


def _values(view: StatusView, language: Language, sign: Sign) -> dict[str, object]:
    words = Words(language)
    left = view.speed.num_waiting + view.speed.num_running
    title = f"({number(left)}) prelabel {words('title')}" if left else f"prelabel {words('title')}"
    return {"view": view, "words": words, "title": title, "sign": sign}
