"""`prelabel connect`: join a Label Studio project and a running backend. Running it twice changes nothing.

Steps: token, project, label config (checked here before Label Studio is asked to change anything), ML backend,
"Use predictions to prelabel tasks". Each prints one line. Raises ConfigRefused, SettingsError and LabelStudioError,
whose texts say what to change; what was done before an error stays, and the next run goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape

from backend.errors import ConfigRefused, LabelStudioError, SettingsError
from backend.label_studio.client import DOUBT_TAB, Backend, LabelStudioClient, Project
from backend.predict.label_configs import parse_or_refuse, read_label_config
from backend.settings import Credentials
from backend.status.view import label_studio_address
from label_config.ready_made import ready_made_names
from label_config.schema import LabelSchema

OURS = "prelabel"  # the description by which we know our own backends
LOADING = "-loading-"  # stands in a model version for what is not known before the first load
DEFAULT_CONFIG = "ecommerce.zh"
TITLE_CHARS = range(3, 51)  # Label Studio's own rule for the title of a project
ENGLISH_CONFIGS = frozenset(name for name in ready_made_names() if name.endswith(".en"))
log = logging.getLogger(__name__)


def connect(
    *,
    label_studio: str,
    api_key: str,
    project: int | None,
    create: str | None,
    backend_url: str,
    label_config: str | None = None,
    backend_user: str = "prelabel",
    backend_password: str = "",
    extra_ca_file: Path | None = None,
    public_url: str = "",
) -> int:
    """Connect project number `project`, or the one titled `create` (made if there is none). Return the exit code.

    `public_url` is where people's browsers reach Label Studio, if not at `label_studio`.
    """
    console = Console(highlight=False)
    if (project is None) == (create is None):
        raise SettingsError("Say which project: --project NUMBER for one that exists, or --create TITLE.")
    if create is not None:
        create = _checked_title(create)
    backend_url = _checked_url(backend_url)
    wanted = read_label_config(label_config) if label_config else None
    if wanted is not None:
        parse_or_refuse(wanted)
    credentials = Credentials(backend_user, backend_password) if backend_password else None
    with LabelStudioClient(label_studio, api_key, extra_ca_file=extra_ca_file) as client:
        shown_url = label_studio_address(public_url) or client.url
        reached = f" (from here {client.url})" if shown_url != client.url else ""
        done(console, f"Label Studio at {shown_url}{reached}, as {client.user_email()}")
        found = _project(client, console, project, create, wanted)
        schema = parse_or_refuse(found.label_config)
        extra_params = {"language": "en"} if label_config in ENGLISH_CONFIGS else None
        note = connect_project(client, console, found, backend_url, credentials, extra_params)
        _explain(console, shown_url, found, schema, note)
    return 0


def connect_project(
    client: LabelStudioClient,
    console: Console,
    project: Project,
    backend_url: str,
    credentials: Credentials | None,
    extra_params: dict[str, Any] | None = None,
) -> str:
    """Join `project` and the backend, and have its predictions fill the form. Return a note for the user, or ""."""
    backend = join(client, project.id, backend_url, credentials, extra_params)
    done(console, f"ML backend {backend.url}: {backend.model_version}")
    client.prelabel_with(project.id, backend.title)
    done(console, "“Use predictions to prelabel tasks” is on")
    client.add_doubt_tab(project.id)
    done(console, f"Data Manager tab “{DOUBT_TAB}”, sorted by score")
    note = _events(client, project.id, backend_url)
    if LOADING in backend.model_version:
        note += (
            "The model is loading for the first time, so its version is not known yet. Run this command again when it "
            "is loaded: only then does the Data Manager show scores."
        )
    return note


def join(
    client: LabelStudioClient,
    project_id: int,
    backend_url: str,
    credentials: Credentials | None,
    extra_params: dict[str, Any] | None = None,
) -> Backend:
    """Make the backend at `backend_url` the project's prelabel backend: one, however often this runs.

    The same address is the same backend, and keeps the extra params that people typed, but for those given here. One of
    ours at another address has moved; it is removed and added anew, since Label Studio would leave its webhook at the
    old address.

    The backend's title is its model version. Label Studio pre-fills the form from a backend when the project's
    model_version is that backend's *title*, and shows and sorts by scores whose *model version* is the project's
    model_version (data_manager.managers.annotate_predictions_score): only where the two are the same does it do both.
    """
    existing = client.backends(project_id)
    same = next((b for b in existing if b.url.rstrip("/") == backend_url), None)
    title = (same.model_version if same else "") or OURS
    number = same.id if same else None
    if extra_params and same:
        extra_params = {**_as_object(same.extra_params), **extra_params}
    saved = client.save_backend(project_id, backend_url, title, OURS, credentials, number, extra_params)
    if saved.model_version not in ("", saved.title):
        saved = client.save_backend(project_id, backend_url, saved.model_version, OURS, credentials, saved.id)
    for backend in existing:
        if backend.description == OURS and backend.id != saved.id:
            client.remove_backend(backend.id)
            log.warning(
                "the prelabel backend at %s was removed from project %d: it moved here", backend.url, project_id
            )
    return saved


def _as_object(extra_params: object) -> dict[str, Any]:
    """What a person typed; nothing if it is no object (prelabel has warned of it then)."""
    if isinstance(extra_params, str):
        with contextlib.suppress(ValueError):
            extra_params = json.loads(extra_params)
    return dict(extra_params) if isinstance(extra_params, Mapping) else {}


def _events(client: LabelStudioClient, project_id: int, backend_url: str) -> str:
    """Have the project's events sent to the backend; return a note if Label Studio refuses (predictions still work)."""
    try:
        client.send_events_to(project_id, f"{backend_url}/webhook")
    except LabelStudioError as error:
        return (
            "Label Studio sends no events to this address; predictions work without them. "
            f"A host name needs a dot in it, for example prelabel.internal. ({error}) "
        )
    return ""


def _project(
    client: LabelStudioClient, console: Console, number: int | None, title: str | None, wanted: str | None
) -> Project:
    found = client.project(number) if number is not None else next(iter(client.projects_titled(title or "")), None)
    if found is None:
        project = client.create_project(title or "", wanted or read_label_config(DEFAULT_CONFIG))
        done(console, f"Project {project.id} “{project.title}” created")
        return project
    if wanted is not None and wanted.strip() != found.label_config.strip():
        client.set_label_config(found.id, wanted)
        done(console, f"Project {found.id} “{found.title}”: label config replaced")
        return Project(found.id, found.title, wanted)
    if not found.label_config.strip() or found.label_config.strip() == "<View></View>":
        raise ConfigRefused(
            f"Project {found.id} has no labeling interface yet. Add --label-config {DEFAULT_CONFIG} (or your file), "
            "or set one up in Label Studio under Settings > Labeling Interface."
        )
    done(console, f"Project {found.id} “{found.title}”")
    return found


def _checked_title(title: str) -> str:
    """The title as Label Studio keeps it. Its own refusal would come late, and not say which title it means."""
    kept = title.strip()
    if len(kept) not in TITLE_CHARS:
        raise SettingsError(
            f"--create: Label Studio wants {TITLE_CHARS.start} to {TITLE_CHARS.stop - 1} characters in the title of a "
            f"project, and “{kept}” has {len(kept)}."
        )
    return kept


def _checked_url(backend_url: str) -> str:
    """The address without its last slash. Refuses what Label Studio would take and then never reach."""
    parts = urlsplit(backend_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"--backend-url: {backend_url!r} is no address; it looks like http://192.168.1.20:9090.")
    if parts.username or parts.password:
        raise SettingsError("--backend-url: leave the password out of it; it is read from BASIC_AUTH_PASS.")
    return backend_url.rstrip("/")


def _explain(console: Console, url: str, project: Project, schema: LabelSchema, note: str) -> None:
    names = ", ".join(field.name for field in schema.fields)
    console.print(f"  pre-filled: {escape(names)}", soft_wrap=True)
    for warning in schema.warnings:
        console.print(f"  left out:   {escape(warning)}", soft_wrap=True)
    for trap in schema.traps:
        console.print(f"  [yellow]form:[/]       {escape(trap)}", soft_wrap=True)
    if note:
        console.print(f"  [yellow]note:[/]       {escape(note)}", soft_wrap=True)
    console.print(
        f"\nNext: open {url}/projects/{project.id}/data and import pictures, select them, and choose "
        "Actions > Retrieve Predictions.\nThen open a task: the form is filled.",
        soft_wrap=True,
    )


def done(console: Console, text: str) -> None:
    """One finished step."""
    console.print(f"[green]✓[/] {escape(text)}", soft_wrap=True)
