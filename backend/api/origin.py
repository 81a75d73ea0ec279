"""Whose web page a request comes from, as far as the browser tells. Knows no paths and no passwords."""

from __future__ import annotations

from typing import Literal

from starlette.datastructures import Headers

Site = Literal["own", "foreign", "unknown"]

_BY_FETCH_SITE: dict[str, Site] = {"same-origin": "own", "none": "unknown"}


def site_of(headers: Headers) -> Site:
    """`own`: a page of this host; `foreign`: a page of another; `unknown`: no page, or a browser that says nothing.

    Browsers send Sec-Fetch-Site where they trust the connection (https, localhost), and Origin with every POST:
    https://www.w3.org/TR/fetch-metadata/, https://fetch.spec.whatwg.org/#origin-header.
    """
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    if len(sites) > 1 or len(origins) > 1:
        return "foreign"  # no browser repeats them: something on the way did
    if sites:
        return _BY_FETCH_SITE.get(sites[0], "foreign")
    if not origins:
        return "unknown"
    host = headers.get("host", "").lower()
    return "own" if host and origins[0].lower() in (f"http://{host}", f"https://{host}") else "foreign"
