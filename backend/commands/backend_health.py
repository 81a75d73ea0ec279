"""What the backend that a project is to be joined with says at /health, before anything is changed in Label Studio.

`backend_health` returns None where this machine cannot reach it: only Label Studio must. Raises PrelabelError for a
backend that answers and cannot be joined: its model failed, it wants another password, it does not know the name it is
asked by, or it is another program.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from backend.errors import PrelabelError
from backend.label_studio.tls import tls_context
from backend.logs import one_line
from backend.settings import Credentials
from label_config.prompt import Language

TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """`model` is "" while it is not known which one `auto` will load; `language` is what projects get that choose none,
    None if it was not said. `problems` are codes of the checks that found something."""

    model: str
    is_loaded: bool
    language: Language | None
    problems: tuple[str, ...] = ()


def backend_health(
    backend_url: str, credentials: Credentials | None, extra_ca_file: Path | None
) -> BackendHealth | None:
    auth = httpx.BasicAuth(credentials.user, credentials.password) if credentials else None
    try:
        # the environment's proxies are not for the machine next door
        with httpx.Client(auth=auth, timeout=TIMEOUT_S, trust_env=False, verify=tls_context(extra_ca_file)) as client:
            reply = client.get(f"{backend_url}/health")
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    if reply.status_code == 401:
        raise PrelabelError(
            f"The backend at {backend_url} wants another user name or password. Set BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS here to what it was started with."
        )
    body = _object(_json(reply))
    if reply.status_code == 403 and (said := _object(body.get("error")).get("message")):
        raise PrelabelError(f"The backend at {backend_url} refuses: {one_line(str(said))}")
    model = _object(body.get("model"))
    state = model.get("state")
    if state in ("failed", "stopped"):
        raise PrelabelError(
            f"The backend at {backend_url} has no model: {one_line(str(model.get('message') or state))}\n"
            "Nothing was changed in Label Studio. Put that right (`prelabel doctor` checks the model, PRELABEL_MODEL "
            "names it), start `prelabel serve` again, and run this command again."
        )
    if reply.status_code != 200 or not isinstance(state, str):
        raise PrelabelError(
            f"What answers at {backend_url}/health is no prelabel backend (HTTP {reply.status_code}). "
            "--backend-url is the address that `prelabel serve` printed."
        )
    language, problems = body.get("language"), body.get("problems")
    return BackendHealth(
        str(model.get("name") or ""),
        state == "ready",
        language if language in ("zh", "en") else None,
        tuple(map(str, problems)) if isinstance(problems, list) else (),
    )


def _json(reply: httpx.Response) -> Any:
    try:
        return reply.json()
    except (ValueError, RecursionError):
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
