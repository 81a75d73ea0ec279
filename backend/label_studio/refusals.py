"""What Label Studio's refusals mean, and what a person can do about each.

Label Studio answers with `{"detail": ..., "validation_errors": {...}}`; some of its texts hide the cause (a backend on
a private address is "reserved network address"). Knows no HTTP client beyond httpx's exception names. Nothing raises.
"""

from __future__ import annotations

import re
from typing import Any

import httpx

from backend.errors import LabelStudioError

_MAX_DETAIL_CHARS = 600
_MAX_LINE_CHARS = 10_000
"""Of one sentence, and _MAX_LINES of them: it may repeat all that a person wrote, megabytes."""
_MAX_LINES = 100
_RETRYABLE_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

PRIVATE_ADDRESS = (
    "Label Studio refuses an ML backend on a private or loopback address. Set both of these in the environment of the "
    "Label Studio server (not of prelabel) and restart it:\n"
    "    USE_DEFAULT_BANNED_SUBNETS=false\n"
    "    ML_BLOCK_LOCAL_IP=false\n"
    "The docker-compose.yml of prelabel has them. Do this only where everyone who can log in is trusted: it lets "
    "Label Studio call any address of your network."
)
_LEGACY_OFF = (
    "Label Studio has legacy tokens switched off for this organization. In Label Studio open Account & Settings > "
    "Personal Access Token, create one and use that; or an administrator turns legacy tokens on under "
    "Organization > API Tokens Settings."
)
_UNKNOWN_KEY = (
    "Label Studio does not accept this access token. Copy a new one from Label Studio: Account & Settings > "
    "Personal Access Token (or Legacy Token), and give it as LABEL_STUDIO_API_KEY or --api-key."
)
_BACKEND_DOWN = (
    "Label Studio cannot reach the backend. Start it with `prelabel serve`, and give with --backend-url the address "
    "that the Label Studio server can open: in containers that is the backend's service name, not localhost."
)
_BACKEND_LOCKED = (
    "Label Studio reached the backend, which refused its user name or password. Give the ones the backend was started "
    "with: BASIC_AUTH_USER and BASIC_AUTH_PASS."
)
_IN_USE = (
    "Label Studio keeps its label config, because people's annotations use what the new one leaves out: {what}. "
    "Nothing was changed. Either keep these in the new label config; or delete those annotations and drafts in Label "
    "Studio's Data Manager (Actions > Delete Annotations; their work is lost); or make a new "
    "project for the new label config."
)
_BACKEND_REFUSED = "Label Studio reached the backend, which refused the project's label config or is no ML backend."


def explain(url: str, status: int | None, body: Any) -> LabelStudioError:
    """The error for a reply that is not a success."""
    said = detail(body)
    text = said.lower()
    retryable = status in _RETRYABLE_STATUS
    if what := _in_use(said):
        return LabelStudioError(_IN_USE.format(what=what))
    if "reserved network address" in text or "ssrf" in text:
        return LabelStudioError(PRIVATE_ADDRESS)
    if "legacy token" in text:
        return LabelStudioError(_LEGACY_OFF)
    if status == 401:
        return LabelStudioError(f"{_UNKNOWN_KEY} (It said: {said})")
    if "authentication parameters were either not provided" in text:
        return LabelStudioError(_BACKEND_LOCKED)
    if "health check failed" in text:
        return LabelStudioError(f"{_BACKEND_DOWN} (It said: {said})", retryable=True)
    if "look like a valid ml backend" in text:
        return LabelStudioError(f"{_BACKEND_REFUSED} (It said: {said})")
    if status == 403:
        return LabelStudioError(f"The user of this token may not do that in Label Studio. (It said: {said})")
    if _is_page(body) and (status is None or status < 500):
        return not_label_studio(url)
    if status == 404:
        return LabelStudioError(f"Label Studio at {url} has no such project or page. (It said: {said})")
    if status is not None and status < 300:
        return not_label_studio(url)
    if status is not None and status < 400:
        return LabelStudioError(f"{url} redirects elsewhere. Use the address that the browser shows in the end.")
    return LabelStudioError(f"Label Studio answered {status}: {said}", retryable=retryable)


# Label Studio's own sentences for a label config that annotations stand against (projects/models.py, validate_config).
_REMOVED_LABELS = re.compile(
    r"These labels still exist in annotations or drafts: ?(?P<labels>.*) ?"
    r"Please add labels to tag with name=\"(?P<tag>[^\"]*)\""
)
_REMOVED_TAG = re.compile(r"There are (?P<num>\d+) annotation\(s\) created with tag \"(?P<tag>[^\"]*)\"")
_CHANGED_TAGS = re.compile(
    r"Created annotations are incompatible with provided labeling schema, we found: ?(?P<tags>.*)"
)
_ONE_TAG = re.compile(r"(?P<num>\d+) with from_name=(?P<tag>\S+), to_name=(?P<to>\S+), type=(?P<kind>\w+)")


def _in_use(said: str) -> str:
    """What of a label config annotations use, and how many; "" if Label Studio said something else."""
    if found := _REMOVED_LABELS.search(said):
        return f"the field {found['tag']} has the labels {found['labels'].strip()}"
    if found := _REMOVED_TAG.search(said):
        return f"{_annotations(found['num'])} the field {found['tag']}"
    if found := _CHANGED_TAGS.search(said):
        tags = [
            f"{_annotations(one['num'])} the field {one['tag']} (<{one['kind']}> of {one['to']})"
            for one in _ONE_TAG.finditer(found["tags"])
        ]
        return "; ".join(tags) or found["tags"].strip()
    return ""


def _annotations(num: str) -> str:
    return "1 annotation uses" if num == "1" else f"{num} annotations use"


def not_label_studio(url: str) -> LabelStudioError:
    """The error for a good reply that is not Label Studio's: a web page, or another program's JSON."""
    return LabelStudioError(
        f"{url} does not answer like Label Studio's API. Its address is what the browser shows before /projects or "
        "/user, such as http://192.168.1.20:8080 or https://labels.example."
    )


def unreachable(url: str, error: httpx.HTTPError) -> LabelStudioError:
    """The error for a request that got no reply."""
    if isinstance(error, httpx.TimeoutException):
        return LabelStudioError(f"Label Studio at {url} did not answer in time.", retryable=True)
    if isinstance(error, httpx.UnsupportedProtocol):
        return LabelStudioError(f"{url!r} is no address of Label Studio; it starts with http:// or https://.")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return LabelStudioError(
            f"The certificate of {url} is not trusted. If an authority of your own signed it, name that authority's "
            "PEM file in PRELABEL_EXTRA_CA_FILE.",
            retryable=True,
        )
    return LabelStudioError(
        f"Label Studio cannot be reached at {url}. Is it running, and is that the address the browser shows? "
        f"({type(error).__name__})",
        retryable=True,
    )


def _is_page(body: Any) -> bool:
    """A web page: Label Studio's API answers JSON, also where it refuses."""
    return (
        isinstance(body, str) and re.match(r"\s*<(?:!doctype|html|head|body|script)\b", body, re.IGNORECASE) is not None
    )


def detail(body: Any) -> str:
    """Label Studio's own words on one line: its detail and validation errors, without tags and tracebacks."""
    parts: list[str] = []
    if _is_page(body):
        parts = ["a web page"]
    elif isinstance(body, dict):
        errors = body.get("validation_errors")
        if isinstance(errors, dict):
            parts += [
                _line(item) for value in errors.values() for item in (value if isinstance(value, list) else [value])
            ]
        if not parts:
            parts = [_line(body[key]) for key in ("detail", "message", "error") if body.get(key)]
        if not parts:
            parts = [
                f"{key}: {_line(value)}" for key, value in body.items() if key not in ("exc_info", "version", "id")
            ]
    else:
        parts = [_line(body)]
    return " ".join(parts)[:_MAX_DETAIL_CHARS] or "nothing"


def _line(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_line(str(item)) for item in value[:_MAX_LINES])
    return " ".join(re.sub(r"<[^<>]*>", "", str(value)[:_MAX_LINE_CHARS]).split())
