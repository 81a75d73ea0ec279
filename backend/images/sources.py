"""What a task's image field points to: a web address, a file of Label Studio, a local file, or the bytes themselves.

Only classifies; opens nothing. The rules follow label_studio_sdk's `get_local_path`, without its guesses about the
disk. Raises ImageError (missing, blocked, unsupported_source, too_large).
"""

from __future__ import annotations

import base64
import posixpath
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from backend.errors import ImageError
from backend.images.policy import ImagePolicy
from backend.urls import Target, as_browsers_read, parse_http_url

_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_CLOUD_SCHEMES = frozenset({"s3", "gs", "azure-blob"})
_INLINE = re.compile(r"\s*data:", re.IGNORECASE)
_LOCAL_FILES = re.compile(r"/data/local-files/?\?")
_SERVED_BY_LABEL_STUDIO = re.compile(r"/(?:data/upload/|data/local-files|storage-data/uploaded|data/avatars/)")
# Where Label Studio serves pictures. The token goes nowhere else, so no task can make us call its API.
_MEDIA_PATH = re.compile(r"/(?:data/|storage-data/|(?:tasks|projects)/\d+/(?:presign|resolve)/)")
_SUPPORTED = "http(s)://, data:, s3://, gs://, azure-blob://, /data/upload/ and /data/local-files/"


@dataclass(frozen=True, slots=True)
class WebSource:
    target: Target


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A file below the policy's `local_files_root`: the first of `relative_paths` that is there."""

    relative_paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class InlineSource:
    """A whole `data:` URI."""

    uri: str = field(repr=False)


Source = WebSource | LocalSource | InlineSource


def classify(value: object, policy: ImagePolicy, task_id: int | None) -> Source:
    """Say where the bytes of an image field are. `task_id` is needed for cloud storage, which Label Studio signs."""
    if not isinstance(value, str) or not value.strip():
        raise ImageError("missing", "The task has no picture: its image field is empty or not a text.")
    if len(value) > policy.limits.max_url_chars and not _INLINE.match(value):
        raise ImageError("unsupported_source", f"The picture's address has {len(value)} characters, too many.")
    text = as_browsers_read(value)
    if text[:5].lower() == "data:":
        return InlineSource(text)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return _by_path(text, policy)
    name = scheme[1].lower()
    if name in ("http", "https"):
        return _local_or_web(parse_http_url(text), policy)
    if name in _CLOUD_SCHEMES:
        return WebSource(_presign_target(text, policy, task_id))
    if len(name) == 1 or name == "file":
        raise _unsupported("it names a file on a person's own disk, which the server does not read")
    raise _unsupported(f"{name}: addresses cannot be read")


def may_send_token(target: Target, policy: ImagePolicy) -> bool:
    """Say whether `target` is on Label Studio's exact origin and on a path where it serves pictures."""
    site = policy.label_studio.site
    if site is None or target.origin != site.origin:
        return False
    path = target.decoded_path
    return path.startswith(site.base + "/") and _is_media(path.removeprefix(site.base))


def _by_path(text: str, policy: ImagePolicy) -> Source:
    if text.startswith("\\\\") or "\x00" in text:
        raise ImageError("blocked", "The picture's path is refused: it is one of a Windows network, or holds a NUL.")
    path = text if text.startswith("/") else f"/{text}"
    if path.startswith("/upload/"):
        path = f"/data{path}"
    path = policy.label_studio.without_base(path)
    if not _SERVED_BY_LABEL_STUDIO.match(path):
        raise _unsupported("a plain path is not read by the server")
    if ".." in path.partition("?")[0].split("/"):
        raise ImageError("blocked", "The picture's path is refused: it holds '..'.")
    if policy.local_files_root is not None and _LOCAL_FILES.match(path):
        return _local(path.partition("?")[2])
    return WebSource(_on_label_studio(path, policy))


def _local_or_web(target: Target, policy: ImagePolicy) -> Source:
    """Label Studio writes its own address in front of local files and uploads, and people that of their browser."""
    path = policy.label_studio.within(target)
    if path is None or not _is_media(unquote(path.partition("?")[0])):
        return WebSource(target)
    if policy.local_files_root is not None and _LOCAL_FILES.match(path):
        return _local(path.partition("?")[2])
    return WebSource(target) if policy.label_studio.site is None else WebSource(_on_label_studio(path, policy))


def _is_media(path: str) -> bool:
    """`path` is decoded and without Label Studio's base."""
    return _MEDIA_PATH.match(path) is not None and ".." not in path.split("/") and "\\" not in path


def _local(query: str) -> LocalSource:
    # Read as Label Studio's view does: decoded once, the last value wins, always below the root. One on Windows writes
    # its own separator, which is a letter of a name everywhere else.
    values = parse_qs(query.partition("#")[0], keep_blank_values=True).get("d")
    written = values[-1] if values else ""
    return LocalSource(tuple(dict.fromkeys(_below_root(path) for path in (written, written.replace("\\", "/")))))


def _below_root(path: str) -> str:
    relative = posixpath.normpath(path).lstrip("/") if path else ""
    if not relative or relative == "." or "\x00" in relative or relative.split("/")[0] == "..":
        raise ImageError("blocked", "The local file is refused: its path is empty or leaves PRELABEL_LOCAL_FILES_ROOT.")
    return relative


def _presign_target(uri: str, policy: ImagePolicy, task_id: int | None) -> Target:
    if task_id is None:
        raise _unsupported("cloud storage needs a task of Label Studio, which signs the address")
    encoded = base64.urlsafe_b64encode(uri.encode("utf-8", "replace")).decode("ascii")
    return _on_label_studio(f"/tasks/{int(task_id)}/presign/?fileuri={encoded}", policy)


def _on_label_studio(path: str, policy: ImagePolicy) -> Target:
    if policy.label_studio.site is None:
        raise ImageError(
            "unsupported_source",
            "The picture is stored in Label Studio, but its address is not set: set LABEL_STUDIO_URL "
            "and LABEL_STUDIO_API_KEY.",
        )
    return policy.label_studio.site.target(path)


def _unsupported(reason: str) -> ImageError:
    return ImageError("unsupported_source", f"The picture cannot be fetched: {reason}. Supported: {_SUPPORTED}.")
