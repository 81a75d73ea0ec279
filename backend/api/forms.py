"""The buttons of the status page: only a person on our own page can press them.

A browser sends the Basic password it remembers with any page's form, so a password protects nothing here. Covered:
forms of other sites (origin), forms made elsewhere (a token of this process, for one action and project), other kinds
of body. A site that makes its own name resolve to this address comes no further than `access`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import parse_qs

from starlette.datastructures import Headers

from backend.api.origin import site_of
from backend.errors import BadRequest, Forbidden, UnsupportedBody

MAX_FORM_BYTES = 4096
_FIELDS = ("project", "token", "lang")
_AGAIN = "Open the status page again and press the button there."


class FormGuard:
    """Signs the forms of one process and checks what comes back."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, action: str, project: str) -> str:
        text = f"{action}\n{project}".encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()

    def is_signed(self, action: str, project: str, token: str) -> bool:
        """Whether `token` was made here, since the start, for this button. Any text may be given as one."""
        return hmac.compare_digest(self.sign(action, project).encode(), token.encode("utf-8", "replace"))

    def check(self, action: str, project: str, token: str) -> None:
        """Raise Forbidden unless it `is_signed`."""
        if not self.is_signed(action, project, token):
            raise Forbidden(f"This button was shown before prelabel was restarted. {_AGAIN}")


def check_origin(headers: Headers) -> None:
    """Raise Forbidden unless the browser says that the form stood on a page of this host."""
    if site_of(headers) != "own":
        raise Forbidden(f"This request does not come from the status page. {_AGAIN}")


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a form, each given at most once; those left out are "". Raises UnsupportedBody, BadRequest."""
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise UnsupportedBody("A form must be sent as application/x-www-form-urlencoded.")
    try:
        given = parse_qs(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=8
        )
    except ValueError:  # UnicodeDecodeError is one
        raise BadRequest("The form cannot be read.") from None
    if any(len(values) > 1 for values in given.values()):
        raise BadRequest("The form has a field twice.")
    if "project" not in given:
        raise BadRequest('The form needs the field "project".')
    return {name: given.get(name, [""])[0] for name in _FIELDS}
