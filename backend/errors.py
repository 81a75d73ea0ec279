"""Every error prelabel raises on purpose, and the HTTP status each becomes.

PrelabelError
├── BadRequest            400  the request is malformed; the message names the field
│   ├── PayloadTooLarge   413  body, label config or number of tasks above its limit
│   ├── HeadersTooLarge   431  the head of the request is above its limit
│   ├── UnsupportedBody   415  compressed or non-UTF-8 body
│   └── BodyTimeout       408  the body did not arrive in time
├── Unauthorized          401  missing or wrong credentials
├── Forbidden             403  a page of another site asks, or who asks does so by a name that is not known
├── ConfigRefused         400  the label config cannot be honoured (wraps label_config.UnsupportedConfig)
├── SettingsError              a setting is unknown, malformed or contradictory: refuse to start
├── UsageError                 a command was asked for what cannot be done as it was asked: exit code 2
├── OutputError                an output file cannot be written; what it holds already is whole
├── ImageError                 one task's image: `kind` says why; never fails the tasks beside it
├── EngineBusy            503  the queue is full; carries `retry_after_s`
├── EngineNotReady        503  the model is still loading, or its process is being restarted
├── EngineDead            503  the engine process ended while it worked on this request
├── GenerationFailed           the engine could not answer this one request: `reason` says why
├── Cancelled                  the request was cancelled
├── StoreError            503  the store could not do it, and nothing was changed
│   ├── StoreBusy         503  another program holds the file; the same call may work later
│   ├── StoreFull         503  the disk is full or failing; works again once there is space
│   └── StoreUnusable     503  the file is damaged, newer or not writable: refuse to start
└── LabelStudioError           Label Studio refused or could not be reached; `retryable` says if waiting helps

The text of each is safe to show: it never holds a secret, a memory address or a traceback.
"""

from __future__ import annotations

from typing import Literal, cast

from backend.reasons import Reason

ImageErrorKind = Literal[
    "missing", "blocked", "private_address", "not_found", "forbidden", "unreachable", "timeout", "too_large",
    "not_an_image", "unsupported_format", "corrupt", "too_many_pixels", "bad_shape", "unsupported_source",
    "label_studio_auth", "upload_deleted", "no_storage",
]  # fmt: skip


class PrelabelError(Exception):
    """Base of all; `http_status` is what the HTTP app answers."""

    http_status = 500


class BadRequest(PrelabelError):
    http_status = 400


class PayloadTooLarge(BadRequest):
    http_status = 413


class HeadersTooLarge(BadRequest):
    http_status = 431


class UnsupportedBody(BadRequest):
    http_status = 415


class BodyTimeout(BadRequest):
    http_status = 408


class Unauthorized(PrelabelError):
    http_status = 401


class Forbidden(PrelabelError):
    http_status = 403


class ConfigRefused(PrelabelError):
    http_status = 400


class SettingsError(PrelabelError):
    pass


class UsageError(PrelabelError):
    pass


class OutputError(PrelabelError):
    pass


class ImageError(PrelabelError):
    """One picture could not be fetched or decoded. `retryable`: the same fetch may work later."""

    def __init__(self, kind: ImageErrorKind, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.kind: ImageErrorKind = kind
        self.retryable = retryable

    @property
    def reason(self) -> Reason:
        return cast(Reason, f"image_{self.kind}")


class EngineBusy(PrelabelError):
    http_status = 503

    def __init__(self, message: str, *, retry_after_s: float = 10.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineNotReady(EngineBusy):
    pass


class EngineDead(PrelabelError):
    http_status = 503


class GenerationFailed(PrelabelError):
    def __init__(self, message: str, reason: Reason = "generation_failed") -> None:
        super().__init__(message)
        self.reason: Reason = reason


class Cancelled(PrelabelError):
    pass


class StoreError(PrelabelError):
    http_status = 503


class StoreBusy(StoreError):
    pass


class StoreFull(StoreError):
    pass


class StoreUnusable(StoreError):
    pass


class LabelStudioError(PrelabelError):
    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def one_line(error: BaseException) -> str:
    """Kind and text of an error for a message or a log: one line of at most 500 characters."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]
