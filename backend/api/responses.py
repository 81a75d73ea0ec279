"""Errors -> JSON answers: `{"error": {"code", "message", "request_id"}}`, never a traceback or an address.

Knows the exception tree and HTTP statuses, nothing else. Nothing here raises.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from starlette.responses import Response

from backend import logs
from backend.errors import EngineBusy, PrelabelError, StoreError

STORE_RETRY_S = 30.0
SAFE_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Of every reply: what it says holds for now and for who asked, and it is nothing but what it says it is."""


class StrictJSON(Response):
    """JSON that every parser reads: Label Studio rejects a whole batch for one NaN."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content)


class RawJSON(Response):
    """JSON that is written already."""

    media_type = "application/json"


def to_json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def error_code(error: Exception) -> str:
    """`PayloadTooLarge` -> "payload_too_large"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def error_response(error: PrelabelError) -> StrictJSON:
    headers: dict[str, str] = {}
    if isinstance(error, EngineBusy | StoreError):
        retry_after_s = error.retry_after_s if isinstance(error, EngineBusy) else STORE_RETRY_S
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    if error.http_status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="prelabel", charset="UTF-8"'
    return refusal(error.http_status, error_code(error), str(error), headers)


def refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> StrictJSON:
    content = {"error": {"code": code, "message": message, "request_id": logs.request_id.get()}}
    return StrictJSON(content, status, headers)
