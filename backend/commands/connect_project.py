"""One Label Studio project and the backend joined: the ML backend, "Use predictions to prelabel tasks", what *Label All
Tasks* brings first, tabs of the Data Manager, events.

Each step prints one line. Raises ConfigRefused and LabelStudioError; what was done before an error stays, and the next
run goes on from there.
"""

from __future__ import annotations

from rich.console import Console

from backend.commands.join import as_object, join, send_events
from backend.commands.printed import printed
from backend.label_studio.client import LabelStudioClient, Project
from backend.label_studio.tabs import DOUBT_TAB, arrange_tabs, review_title
from backend.predict.label_configs import parse_or_refuse
from backend.settings import Credentials
from backend.store.audit import MAX_SHARE
from label_config.labels_language import labels_language
from label_config.prompt import Language
from label_config.schema import LabelSchema

LOADING = "-loading-"  # stands in a model version for what is not known before the first load
_LANGUAGES: dict[Language | None, str] = {"zh": "Chinese", "en": "English"}


def connect_project(
    client: LabelStudioClient,
    console: Console,
    project: Project,
    backend_url: str,
    credentials: Credentials | None,
    default_language: Language | None = None,
    audit_share: float | None = None,
    *,
    replaced: bool = True,
    shown_url: str = "",
) -> str:
    """Join `project` and the backend, and have its predictions fill the form. Return a note for the user, or "".

    `default_language` is the backend's; `replaced`: the label config is this run's, so the language follows it even
    where another one was typed for an earlier config; `shown_url`: Label Studio's address in links, if it is another.
    `audit_share` (0..0.5) of the tasks are for the blind audit, None: as it is.
    """
    schema = parse_or_refuse(project.label_config)
    in_labels = labels_language(schema)
    backend = join(client, project.id, backend_url, credentials, in_labels, replaced=replaced, audit_share=audit_share)
    done(console, f"ML backend {backend.url}: {backend.model_version}")
    _say_language(console, in_labels, as_object(backend.extra_params).get("language"), default_language)
    client.prelabel_with(project.id, backend.title)
    done(console, "“Use predictions to prelabel tasks” is on")
    _arrange_sampling(client, console, project, _audited(backend.extra_params), audit_share)
    _arrange_tabs(client, console, project, schema, shown_url or client.url)
    note = send_events(client, project.id, backend_url)
    if LOADING in backend.model_version:
        note += (
            "The model is loading for the first time, so its version is not known yet. The Data Manager shows scores "
            "when `prelabel serve` has put it there, which takes LABEL_STUDIO_API_KEY; or run this command again then."
        )
    return note


def _audited(extra_params: object) -> float:
    """The share of the blind audit that a project asks for; 0 for one that prelabel does not take."""
    share = as_object(extra_params).get("audit_share")
    return float(share) if isinstance(share, int | float) and 0 <= share <= MAX_SHARE else 0.0


def _arrange_sampling(
    client: LabelStudioClient, console: Console, project: Project, share: float, asked: float | None
) -> None:
    """What *Label All Tasks* brings first, and what it has to do with the blind audit."""
    if share:
        client.sample_in_order(project.id)
        done(
            console,
            f"Blind audit: {100 * share:g}% of the tasks, chosen by chance, open empty until a person has labelled "
            "them; tasks that Label Studio has had an answer to do not, so import pictures for it. --audit 0 ends it. "
            "“Label All Tasks” brings the tasks in their order, so that these come along",
        )
        return
    if asked is not None:
        done(console, "No blind audit: every task opens with its answer")
    if client.sample_least_certain_first(project.id):
        done(
            console,
            "“Label All Tasks” brings the least certain task first; another task sampling in the settings ends it",
        )
    else:  # the settings of Label Studio's Community edition show sampling by uncertainty, and offer it to nobody
        console.print(
            "  “Label All Tasks” keeps the task sampling that the project was given. For the least certain task first "
            "choose “Sequential sampling” in its settings and run this command again, or use “Label Tasks As "
            f"Displayed” in the tab “{DOUBT_TAB}”.",
            soft_wrap=True,
        )


def _arrange_tabs(
    client: LabelStudioClient, console: Console, project: Project, schema: LabelSchema, shown_url: str
) -> None:
    title = review_title(schema)
    tabs = arrange_tabs(client, project.id, title)
    if tabs.review is not None:
        address = f"{shown_url}/projects/{project.id}/data?tab={tabs.review}"
        done(console, f"Data Manager tab “{title}”, what needs review and is not submitted: {address}")
    if tabs.is_sorted:
        done(console, f"Data Manager tab “{DOUBT_TAB}”, sorted by score")
    else:
        done(
            console,
            f"Data Manager tab “{DOUBT_TAB}”; `prelabel serve` sorts it by score at the first predictions, since Label "
            "Studio cannot sort an empty project (without LABEL_STUDIO_API_KEY there, run this command again then)",
        )


def _say_language(
    console: Console, in_labels: Language | None, typed: object, default_language: Language | None
) -> None:
    language = typed if typed in ("zh", "en") else default_language
    if language is None:
        text = "Captions in the language of the backend, PRELABEL_LANGUAGE"
    elif language == in_labels:
        text = f"Captions in {_LANGUAGES[language]}, as the labels are"
    else:
        why = "says the project" if language == typed else "says the backend's PRELABEL_LANGUAGE"
        labels = f", although the labels are {_LANGUAGES[in_labels]}" if in_labels else ""
        text = f"Captions in {_LANGUAGES[language]}, {why}{labels}"
    done(console, text + '; {"language": "en"} or "zh" in the model settings\' extra params changes it')


def done(console: Console, text: str) -> None:
    """One finished step."""
    console.print(f"[green]✓[/] {printed(text)}", soft_wrap=True)
