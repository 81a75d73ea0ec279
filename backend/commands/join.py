"""The one backend of ours that a Label Studio project has, with the language of its captions, and its webhook.

Raises LabelStudioError, and UsageError where it says so.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from backend.errors import LabelStudioError, UsageError
from backend.label_studio.client import Backend, LabelStudioClient
from backend.logs import one_line
from backend.predict.options import ProjectOptions, still_asks_for
from backend.settings import Credentials
from label_config.prompt import Language

OURS = "prelabel"  # the description by which we know our own backends
log = logging.getLogger(__name__)


def join(
    client: LabelStudioClient,
    project_id: int,
    backend_url: str,
    credentials: Credentials | None,
    in_labels: Language | None = None,
    *,
    replaced: bool = True,
    audit_share: float | None = None,
) -> Backend:
    """Make the backend at `backend_url` the project's prelabel backend: one, however often this runs.

    The same address is the same backend. The extra params that people typed are kept, at another address too. Where
    the labels are English (`in_labels`) so are the captions, unless the project says otherwise and its label config
    was not `replaced`. One of ours at another address has moved; it is removed and added anew, since Label Studio
    would leave its webhook at the old address. `audit_share` is set where it is not None.

    The backend's title is its model version. Label Studio pre-fills the form from a backend when the project's
    model_version is that backend's *title*, and shows and sorts by scores whose *model version* is the project's
    model_version (data_manager.managers.annotate_predictions_score): only where the two are the same does it do both.
    """
    existing = client.backends(project_id)
    same = next((b for b in existing if b.url.rstrip("/") == backend_url), None)
    title = (same.model_version if same else "") or OURS
    number = same.id if same else None
    known = same or next((b for b in existing if b.description == OURS), None)
    typed = as_object(known.extra_params) if known else {}
    extra_params = _with_language(typed, in_labels, replaced=replaced)
    if same is None and typed:
        extra_params = extra_params or typed
    if audit_share is not None and audit_share != typed.get("audit_share", 0):
        extra_params = {**(extra_params or typed), "audit_share": audit_share}
    saved = client.save_backend(project_id, backend_url, title, OURS, credentials, number, extra_params)
    if saved.model_version not in ("", saved.title):
        saved = client.save_backend(project_id, backend_url, saved.model_version, OURS, credentials, saved.id)
    for backend in existing:
        if backend.description == OURS and backend.id != saved.id:
            client.remove_backend(backend.id)
            log.warning(
                "the prelabel backend at %s was removed from project %d: it moved here",
                one_line(backend.url),
                project_id,
            )
    return saved


def backend_as_measured(
    client: LabelStudioClient, project_id: int, options: ProjectOptions, option: str
) -> tuple[Backend, dict[str, Any]]:
    """The project's backend that is prelabel's, and what a person typed into its extra params.

    It is known by the description that `join` gives it; without one, where it is the only backend. Raises UsageError
    where none is, or where what is typed does not ask for `options` any more, under which the answers were made that
    people judged: what was found holds for no others. `option`: of the command that asks.
    """
    backends = client.backends(project_id)
    ours = [one for one in backends if one.description == OURS] or backends
    if len(ours) != 1:
        listed = ", ".join(one.url for one in ours) or "none"
        raise UsageError(
            f"{option}: which backend of project {project_id} is prelabel's is not clear ({listed}). Run "
            f"`prelabel connect --project {project_id}` first."
        )
    [backend] = ours
    if not still_asks_for(backend.extra_params, options):
        raise UsageError(
            f"{option}: the extra params in the model settings ({backend.url}) were changed since the answers were made"
            " that this was found on, so it does not hold for what is typed there now. Nothing was written. Choose "
            "Retrieve Predictions in Label Studio, then run this again."
        )
    return backend, as_object(backend.extra_params)


def _with_language(typed: dict[str, Any], in_labels: Language | None, *, replaced: bool) -> dict[str, Any] | None:
    """The extra params to set, None to leave them as they are. Without a word the backend's language holds."""
    if "language" in typed:
        changes = replaced and in_labels is not None and typed["language"] != in_labels
    else:
        changes = in_labels == "en"
    return {**typed, "language": in_labels} if changes else None


def as_object(extra_params: object) -> dict[str, Any]:
    """What a person typed; nothing if it is no object (prelabel has warned of it then)."""
    if isinstance(extra_params, str):
        with contextlib.suppress(ValueError, RecursionError):
            extra_params = json.loads(extra_params)
    return dict(extra_params) if isinstance(extra_params, Mapping) else {}


def send_events(client: LabelStudioClient, project_id: int, backend_url: str) -> str:
    """Have the project's events sent to the backend; return a note if Label Studio refuses (predictions still work)."""
    try:
        client.send_events_to(project_id, f"{backend_url}/webhook")
    except LabelStudioError as error:
        return (
            "Label Studio sends no events to this address; predictions work without them. "
            f"A host name needs a dot in it, for example prelabel.internal. ({error}) "
        )
    return ""
