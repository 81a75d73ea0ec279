"""What each way an HTTP exchange can fail means for the picture, in words a person can act on.

Messages name the host, never the path or query (presigned addresses are secrets) and never an exception's own text.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass

import httpcore

from backend.errors import ImageError
from backend.images.addresses import NameNotFound
from backend.images.proxy import ProxyFailed

SUCCESS = frozenset({200, 203, 206})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

# A status does not say which it is.
_FORBIDDEN = {
    401: "it asks for a login, or a signed address has expired",
    403: "it may allow its pictures on its own pages only (hot-link protection; PRELABEL_PICTURE_HEADERS can send the "
    "Referer it wants), or a signed address has expired",
}

_PRESIGN = re.compile(r"/tasks/\d+/(?:presign|resolve)/")

# OpenSSL's X509_V_ERR_* codes.
_CERTIFICATE_WORDS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed",
    19: "is signed by an authority that is not trusted",
    20: "is signed by an authority that is not trusted",
    62: "belongs to another host",
    64: "belongs to another address",
}


@dataclass
class Retry(Exception):
    """Try again at most `times` times, after `wait_s` at least; then raise `error`."""

    error: ImageError
    times: int
    wait_s: float = 0.0


def status_failure(host: str, status: int, times: int, retry_after: str = "") -> Exception:
    """Return what to raise for a status that is neither success nor redirect."""
    if status in (404, 410):
        return ImageError("not_found", f"{host} does not have the picture (HTTP {status}).")
    if status in (401, 403):
        return ImageError("forbidden", f"{host} does not give the picture out (HTTP {status}): {_FORBIDDEN[status]}.")
    if status in _TRANSIENT:
        error = ImageError("unreachable", f"{host} failed (HTTP {status}); try again later.", retryable=True)
        wait_s = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
        return Retry(error, times, wait_s)
    return ImageError("unreachable", f"{host} gave no picture but HTTP {status}.")


def label_studio_refusal(status: int) -> ImageError:
    if status == 403:
        return ImageError(
            "label_studio_auth",
            "Label Studio does not let this API key read the picture (HTTP 403): check that the user of "
            "LABEL_STUDIO_API_KEY is a member of the project, and for local files that Label Studio runs with "
            "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true.",
        )
    return ImageError(
        "label_studio_auth",
        f"Label Studio refused the API key (HTTP {status}): check LABEL_STUDIO_API_KEY. A legacy token works only "
        "where legacy tokens are turned on; a personal access token may have expired.",
    )


def label_studio_lacks(path: str, status: int, said: bytes) -> ImageError | None:
    """What it means that Label Studio, which answers at `path` (decoded, below its base), said `said` there; None if
    nothing of its own. Measured on Label Studio 1.23.2: for an upload that is deleted it fails over its missing row
    (500), for cloud storage that the project has not it answers 404 without a word."""
    if path.startswith("/data/upload/") and (status in (404, 410) or b"has_permission" in said):
        return ImageError(
            "upload_deleted",
            f"Label Studio does not have the uploaded file any more (HTTP {status}): it was deleted there.",
        )
    if _PRESIGN.fullmatch(path) and status == 404:
        return ImageError(
            "no_storage",
            "Label Studio finds no cloud storage in the task's project for this address (HTTP 404).",
        )
    return None


def label_studio_key_missing() -> ImageError:
    return ImageError(
        "label_studio_auth",
        "Label Studio asks for a login to give the picture out: set LABEL_STUDIO_API_KEY, and check that "
        "LABEL_STUDIO_URL is the address (http or https) Label Studio itself uses.",
    )


def exchange_failure(host: str, error: BaseException, times: int, *, with_proxy: bool) -> Exception:
    """Return what to raise for an exception of httpcore. `with_proxy`: the internet lies behind PRELABEL_PROXY."""
    if isinstance(error, ProxyFailed):
        failure = ImageError("unreachable", error.sentence, retryable=error.again)
        return Retry(failure, times) if error.again else failure
    certificate = _certificate_error(error)
    if certificate is not None:
        words = _CERTIFICATE_WORDS.get(certificate.verify_code, "cannot be verified")
        return ImageError("unreachable", f"The TLS certificate of {host} {words}.")
    if isinstance(error, httpcore.ConnectTimeout | httpcore.PoolTimeout):
        return Retry(ImageError("timeout", f"{host} could not be reached in time.", retryable=True), times)
    if isinstance(error, httpcore.TimeoutException):
        return Retry(ImageError("timeout", f"{host} stayed silent too long.", retryable=True), min(times, 1))
    if isinstance(error, NameNotFound):
        hint = (
            " PRELABEL_PROXY is not asked for names, because prelabel could not tell private addresses from others "
            "then: let this machine's DNS know the internet's."
        )
        found = f"The host name {host} cannot be found.{hint if with_proxy else ''}"
        return Retry(ImageError("unreachable", found, retryable=True), times)
    if isinstance(error, httpcore.ConnectError):
        return Retry(ImageError("unreachable", f"{host} could not be reached.", retryable=True), times)
    if isinstance(error, httpcore.ProtocolError):  # a body of the wrong length is one of these
        return Retry(
            ImageError("unreachable", f"{host} sent a broken or cut off reply.", retryable=True), min(times, 1)
        )
    return Retry(ImageError("unreachable", f"{host} broke the connection off.", retryable=True), times)


def _certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return error
        error = error.__cause__ or error.__context__
    return None
