"""`prelabel connect`: join a Label Studio project and a running backend. Running it twice changes nothing.

Steps: the backend's health, token, project, label config (checked here before Label Studio is asked to change
anything), then those of `connect_project`. Each prints one line. Raises ConfigRefused, SettingsError, LabelStudioError
and PrelabelError, whose texts say what to change; a project that was made for nothing is removed again, what else was
done before an error stays, and the next run goes on from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from backend.commands.backend_health import BackendHealth, backend_health
from backend.commands.check_config import explain_config, unanswerable
from backend.commands.connect_project import connect_project, done
from backend.commands.printed import printed
from backend.errors import ConfigRefused, LabelStudioError, SettingsError, UsageError
from backend.label_studio.address import shown_url, site_of
from backend.label_studio.client import LabelStudioClient, Project
from backend.pages.numbers import number
from backend.pages.words import Words
from backend.predict.label_configs import (
    default_label_config,
    fields_differ,
    parse_or_refuse,
    read_label_config,
    unknown_to_garments,
)  # fmt: skip
from backend.settings import Credentials
from backend.status.label_studio_checks import proxy_checks
from backend.store.audit import MAX_SHARE
from label_config.ready_made import ready_made_names
from label_config.schema import LabelSchema

TITLE_CHARS = range(3, 51)  # Label Studio's own rule for the title of a project
MAX_UNKNOWN = 5


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
    audit: float | None = None,
) -> int:
    """Connect project number `project`, or the one titled `create` (made if there is none). Return the exit code.

    `public_url` is where people's browsers reach Label Studio, if not at `label_studio`. `audit`: per cent of the tasks
    that open empty for the blind audit, None: as it is.
    """
    console = Console(highlight=False)
    if (project is None) == (create is None):
        raise SettingsError("Say which project: --project NUMBER for one that exists, or --create TITLE.")
    if create is not None:
        create = _checked_title(create)
    backend_url = _checked_url(backend_url)
    audit_share = None if audit is None else _checked_share(audit)
    wanted = read_label_config(label_config) if label_config else None
    if wanted is not None:
        _refuse_unanswerable(parse_or_refuse(wanted))
    credentials = Credentials(backend_user, backend_password) if backend_password else None
    health = backend_health(backend_url, credentials, extra_ca_file)
    _say_health(console, backend_url, health)
    address = site_of(label_studio.strip()) if "://" in label_studio else label_studio
    for check in proxy_checks(address):
        console.print(printed(Words("en").check(check.code, check.values)), style="yellow")
    with LabelStudioClient(address, api_key, extra_ca_file=extra_ca_file) as client:
        shown = shown_url(client.url, public_url) or client.url
        reached = f" (from here {client.url})" if shown != client.url else ""
        done(console, f"Label Studio at {shown}{reached}, as {client.user_email()}")
        there = _existing(client, console, project, create, wanted)
        found = there or _create(client, console, create or "", wanted, health)
        replaced = there is None or wanted is not None
        with contextlib.nullcontext() if there else _removed_if_it_fails(client, console, found):
            _connect(client, console, found, shown, backend_url, credentials, health, audit_share, replaced=replaced)
    return 0


def _connect(
    client: LabelStudioClient,
    console: Console,
    project: Project,
    shown_url: str,
    backend_url: str,
    credentials: Credentials | None,
    health: BackendHealth | None,
    audit_share: float | None,
    *,
    replaced: bool,
) -> None:
    schema = parse_or_refuse(project.label_config)
    if health is not None and health.model == "garments" and (unknown := unknown_to_garments(schema)):
        more = f" and {len(unknown) - MAX_UNKNOWN:,} more" if len(unknown) > MAX_UNKNOWN else ""
        console.print(
            "  The built-in model garments knows ten kinds of garment and nothing else. It was not trained on "
            f"{printed(', '.join(unknown[:MAX_UNKNOWN]))}{more}: there its answers are no better than chance. "
            "Another model: PRELABEL_MODEL",
            soft_wrap=True,
        )
    language = health.language if health else None
    note = connect_project(
        client,
        console,
        project,
        backend_url,
        credentials,
        language,
        audit_share,
        replaced=replaced,
        shown_url=shown_url,
    )
    _explain(console, shown_url, project, schema, note)


def _say_health(console: Console, backend_url: str, health: BackendHealth | None) -> None:
    if health is None:
        console.print(
            f"  {printed(backend_url)} cannot be reached from here; Label Studio is asked to reach it. If `prelabel "
            "serve` listens elsewhere, name that address with --backend-url",
            soft_wrap=True,
        )
    else:
        model = health.model or "a model that it is still choosing"
        done(console, f"Backend {backend_url}: {model}{' is loaded' if health.is_loaded else ', still loading'}")
    for code in health.problems if health else ():
        console.print(
            f"[red]✗[/] The backend says that something does not work ({printed(code)}): `prelabel status`, "
            "or its status page, says what to do",
            soft_wrap=True,
        )


def _existing(
    client: LabelStudioClient, console: Console, number: int | None, title: str | None, wanted: str | None
) -> Project | None:
    """The project as it is to be connected, None if it must be made."""
    found = client.project(number) if number is not None else next(iter(client.projects_titled(title or "")), None)
    if found is None:
        return None
    if wanted is not None and wanted.strip() != found.label_config.strip():
        client.set_label_config(found.id, wanted)
        done(console, f"Project {found.id} “{found.title}”: label config replaced")
        _say_outdated(client, console, found, wanted)
        return Project(found.id, found.title, wanted)
    if not found.label_config.strip() or found.label_config.strip() == "<View></View>":
        raise ConfigRefused(
            f"Project {found.id} has no labeling interface yet. Add --label-config "
            f"{' or '.join(name for name in ready_made_names() if name.endswith('.zh'))} (or your file), "
            "or set one up in Label Studio under Settings > Labeling Interface."
        )
    _refuse_unanswerable(parse_or_refuse(found.label_config))
    done(console, f"Project {found.id} “{found.title}”")
    return found


def _say_outdated(client: LabelStudioClient, console: Console, before: Project, wanted: str) -> None:
    """Label Studio keeps predictions whatever the label config; only people's work it looks at."""
    num = client.num_predictions(before.id) if fields_differ(before.label_config, wanted) else 0
    if num:
        console.print(
            f"  [yellow]note:[/]       {number(num):prediction|predictions} in this project are of the label config "
            "before: fields may lack, or labels be gone. Select the tasks in the Data Manager and choose Actions > "
            "Retrieve Predictions again; the status page then offers to delete the earlier ones",
            soft_wrap=True,
        )


def _refuse_unanswerable(schema: LabelSchema) -> None:
    if problem := unanswerable(schema):
        raise ConfigRefused(f"No task of this label config can be answered: {problem}.")


def _checked_title(title: str) -> str:
    """The title as Label Studio keeps it. Its own refusal would come late, and not say which title it means."""
    kept = title.strip()
    if len(kept) not in TITLE_CHARS:
        raise SettingsError(
            f"--create: Label Studio wants {TITLE_CHARS.start} to {TITLE_CHARS.stop - 1} characters in the title of a "
            f"project, and “{kept}” has {len(kept)}."
        )
    return kept


def _create(
    client: LabelStudioClient, console: Console, title: str, wanted: str | None, health: BackendHealth | None
) -> Project:
    if wanted is not None:
        project = client.create_project(title, wanted)
        done(console, f"Project {project.id} “{project.title}” created")
        return project
    if health is None or not health.model:
        raise UsageError(
            "Which label config a new project gets goes by the backend's model, and that cannot be told yet: "
            + ("the backend cannot be reached from here" if health is None else "it is still loading")
            + ". Run this again once `prelabel serve` answers and has chosen its model, up to a minute after its "
            f"start; or name one with --label-config: {', '.join(ready_made_names())}, or a file of yours."
        )
    name = default_label_config(health.model, "zh")
    project = client.create_project(title, read_label_config(name))
    done(
        console,
        f"Project {project.id} “{project.title}” created, with the label config {name} that goes with {health.model}; "
        "--label-config names another",
    )
    return project


@contextlib.contextmanager
def _removed_if_it_fails(client: LabelStudioClient, console: Console, project: Project) -> Iterator[None]:
    """Nobody wants a project that is joined with nothing, and the next run makes it again."""
    try:
        yield
    except LabelStudioError:
        with contextlib.suppress(LabelStudioError):
            client.remove_project(project.id)
            console.print(f"  Project {project.id} was removed again, since it could not be connected", soft_wrap=True)
        raise


def _checked_share(audit: float) -> float:
    """Per cent to a share."""
    if not 0 <= audit <= 100 * MAX_SHARE:
        raise SettingsError(
            f"--audit: {audit:g} per cent of the tasks cannot be withheld; give 0 to {100 * MAX_SHARE:g}, such as 5."
        )
    return audit / 100


def _checked_url(backend_url: str) -> str:
    """The address without its last slash. Refuses what Label Studio would take and then never reach."""
    parts = urlsplit(backend_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"--backend-url: {backend_url!r} is no address; it looks like http://192.168.1.20:9090.")
    if parts.username or parts.password:
        raise SettingsError("--backend-url: leave the password out of it; it is read from BASIC_AUTH_PASS.")
    return backend_url.rstrip("/")


def _explain(console: Console, url: str, project: Project, schema: LabelSchema, note: str) -> None:
    explain_config(console, schema)
    if note:
        lines = "\n".join(map(printed, note.splitlines()))
        console.print(f"  [yellow]note:[/]       {lines}", soft_wrap=True)
    console.print(
        f"\nNext: open {printed(url)}/projects/{project.id}/data and import pictures, select them, and choose "
        "Actions > Retrieve Predictions.\nThen open a task: the form is filled.",
        soft_wrap=True,
    )
