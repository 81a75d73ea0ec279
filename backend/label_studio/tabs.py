"""The tabs that prelabel keeps in a project's Data Manager, beside people's own.

Label Studio (1.23.2) answers 500 for a tab ordered by score while its project has no task at all, since it adds that
column by looking at the first task. So our tab is ordered only while there are tasks, and never comes first: an address
without a tab opens the first. A filter by what stands in predictions works at any time; it looks for ASCII, because
Label Studio's SQLite keeps other letters as escapes, and at a task's predictions of all model versions: a filter by
version beside it is of the task as well. Raises LabelStudioError.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from backend.label_studio.client import LabelStudioClient
from label_config.schema import LabelSchema
from label_config.traps import FLAG_NAME

DOUBT_TAB = "Least certain first"
_DEFAULT_TAB = "Default"  # what Label Studio's page makes where a project has no tab
_COLUMNS = (
    "id", "inner_id", "completed_at", "total_annotations", "cancelled_annotations", "total_predictions", "annotators",
    "annotations_results", "annotations_ids", "predictions_score", "predictions_model_versions", "predictions_results",
    "file_upload", "storage_filename", "created_at", "updated_at", "updated_by", "avg_lead_time", "draft_exists",
)  # fmt: skip
_PLAIN = ("id", "completed_at", "total_annotations", "cancelled_annotations", "total_predictions", "annotators")
_SCORED = ("id", "total_annotations", "predictions_score")
_BY_SCORE = ("tasks:predictions_score",)
_NEEDS_REVIEW = {
    "filter": "filter:tasks:predictions_results",
    "operator": "contains",
    "type": "String",
    "value": FLAG_NAME,
}
_SCORE = "filter:tasks:predictions_score"
_OR_MORE, _LESS = "greater_or_equal", "less"
_NOT_COMPLETED = {"filter": "filter:tasks:completed_at", "operator": "empty", "type": "Datetime", "value": True}
_REVIEW_FILTERS = {"conjunction": "and", "items": [_NEEDS_REVIEW, _NOT_COMPLETED]}
_NO_FILTERS: dict[str, Any] = {"conjunction": "and", "items": []}


@dataclass(frozen=True, slots=True)
class Tabs:
    """Ids of our tabs in one project, None for one that is not there. `is_sorted`: the one of doubtful tasks, now."""

    review: int | None
    doubt: int | None
    is_sorted: bool


def review_title(schema: LabelSchema) -> str:
    """What the tab of tasks that need review is called: as the flag in the form is, "" if there is none."""
    controls = schema.review
    return controls.flag.value if controls is not None and controls.flag is not None else ""


def arrange_tabs(client: LabelStudioClient, project_id: int, title: str) -> Tabs:
    """Make what is missing, each tab once, however often this runs; keep a tab that is not ours in front. Our tab whose
    filters someone has cleared gets them back.

    `title` is for the tab of tasks that need review and are not completed; "": this label config has no flag.
    """
    tabs = _tabs(client, project_id)
    review, doubt = _find(tabs, _is_review), _find(tabs, _is_doubt)
    if review is None and title:
        review = _find(tabs, lambda data: _is_cleared(data, title))
        if review is not None:
            data = {**review["data"], "filters": _REVIEW_FILTERS}
            client.api("PATCH", f"/api/dm/views/{review['id']}/", json={"project": project_id, "data": data})
    others = [tab["id"] for tab in tabs if tab not in (review, doubt)]
    if not others:
        others = [_make(client, project_id, _DEFAULT_TAB, _PLAIN)]
    review_id = review["id"] if review else None
    if review is None and title:
        review_id = _make(client, project_id, title, _SCORED, filters=_REVIEW_FILTERS)
    found = _sorted(client, project_id, review_id, doubt, make=True)
    if tabs and tabs[0] in (review, doubt):
        ours = [tab for tab in (found.review, found.doubt) if tab is not None]
        client.api("POST", "/api/dm/views/order/", json={"project": project_id, "ids": [*others, *ours]})
    return found


def sort_doubt_tab(client: LabelStudioClient, project_id: int) -> Tabs:
    """Order the tab of `arrange_tabs` while the project has tasks, and stop ordering it when it has none."""
    tabs = _tabs(client, project_id)
    review, doubt = _find(tabs, _is_review), _find(tabs, _is_doubt)
    return _sorted(client, project_id, review["id"] if review else None, doubt, make=False)


def _sorted(
    client: LabelStudioClient, project_id: int, review_id: int | None, doubt: dict[str, Any] | None, *, make: bool
) -> Tabs:
    has_tasks = client.num_tasks(project_id) > 0
    ordering = _BY_SCORE if has_tasks else ()
    is_sorted = doubt is not None and bool(doubt["data"].get("ordering"))
    if doubt is None and not make:
        return Tabs(review_id, None, False)
    if doubt is None:
        doubt_id = _make(client, project_id, DOUBT_TAB, _SCORED, ordering=ordering)
    elif has_tasks and not is_sorted:
        doubt_id = doubt["id"]
        data = {**doubt["data"], "ordering": list(_BY_SCORE)}
        client.api("PATCH", f"/api/dm/views/{doubt_id}/", json={"project": project_id, "data": data})
    elif is_sorted and not has_tasks:  # Label Studio's API cannot take an ordering away
        client.api("DELETE", f"/api/dm/views/{doubt['id']}/")
        doubt_id = _make(client, project_id, DOUBT_TAB, _SCORED)
    else:
        doubt_id = doubt["id"]
    return Tabs(review_id, doubt_id, has_tasks)


def is_review_tab(client: LabelStudioClient, tab_id: int) -> bool:
    """Whether it still shows what needs review: people change its filters."""
    found = client.api("GET", f"/api/dm/views/{tab_id}/")
    return _is_review(_object(_object(found).get("data")))


def num_to_review(client: LabelStudioClient, project_id: int) -> int:
    """How many tasks need review and are not completed. `review=true` keeps Label Studio from asking its ML backend for
    predictions."""
    params = {"project": project_id, "page": 1, "page_size": 1, "include": "id", "review": "true"}
    query = json.dumps({"filters": _REVIEW_FILTERS}, separators=(",", ":"))
    return client.whole_number(client.api("GET", "/api/tasks", params={**params, "query": query}), "total")


def arrange_threshold_tabs(
    client: LabelStudioClient, project_id: int, threshold: float, passing: Sequence[str], rest: Sequence[str]
) -> tuple[str, str]:
    """A tab of what scores `threshold` or more and one of what scores less, of what is not completed: each once; where
    they are there already they get this threshold. Return how they are called: by the first of their titles that no
    other tab has, the tab of what needs review by the flag in the form, say."""
    tabs = _tabs(client, project_id)
    taken = [tab["data"].get("title") for tab in tabs]

    def arranged(titles: Sequence[str], operator: str) -> str:
        score = {"filter": _SCORE, "operator": operator, "type": "Number", "value": threshold}
        filters = {"conjunction": "and", "items": [score, _NOT_COMPLETED]}
        known = _find(tabs, lambda data: _is_by_score(data, titles, operator))
        if known is None:
            title = next((title for title in titles if title not in taken), titles[-1])
            _make(client, project_id, title, _SCORED, filters=filters)
            return title
        data = {**known["data"], "filters": filters}
        client.api("PATCH", f"/api/dm/views/{known['id']}/", json={"project": project_id, "data": data})
        return str(data["title"])

    return arranged(passing, _OR_MORE), arranged(rest, _LESS)


def remove_threshold_tabs(
    client: LabelStudioClient, project_id: int, passing: Sequence[str], rest: Sequence[str]
) -> None:
    """Those of `arrange_threshold_tabs`, where they are."""
    for tab in _tabs(client, project_id):
        if _is_by_score(tab["data"], passing, _OR_MORE) or _is_by_score(tab["data"], rest, _LESS):
            client.api("DELETE", f"/api/dm/views/{tab['id']}/")


def _tabs(client: LabelStudioClient, project_id: int) -> list[dict[str, Any]]:
    """In the order the page shows them. People make them, by API too, where their data may be anything."""
    found = client.api("GET", "/api/dm/views", params={"project": project_id})
    tabs = [tab for tab in found if isinstance(tab, dict)] if isinstance(found, list) else []
    return [tab | {"data": _object(tab.get("data"))} for tab in tabs if type(tab.get("id")) is int]


def _find(tabs: list[dict[str, Any]], is_it: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    return next((tab for tab in tabs if is_it(tab["data"])), None)


def _is_doubt(data: dict[str, Any]) -> bool:
    return data.get("title") == DOUBT_TAB


def _is_review(data: dict[str, Any]) -> bool:
    """By its filter: people may give the tab another name."""
    return any({key: item.get(key) for key in _NEEDS_REVIEW} == _NEEDS_REVIEW for item in _filters(data))


def _is_by_score(data: dict[str, Any], titles: Collection[str], operator: str) -> bool:
    """By its name and its filter: other tabs may have either."""
    is_it = [(item.get("filter"), item.get("operator")) == (_SCORE, operator) for item in _filters(data)]
    return data.get("title") in titles and any(is_it)


def _is_cleared(data: dict[str, Any], title: str) -> bool:
    """By its name, where no filter is left that would say more."""
    return data.get("title") == title and not _filters(data)


def _filters(data: dict[str, Any]) -> Sequence[dict[str, Any]]:
    items = _object(data.get("filters")).get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else ()


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _make(
    client: LabelStudioClient,
    project_id: int,
    title: str,
    shown: Collection[str],
    *,
    ordering: Sequence[str] = (),
    filters: dict[str, Any] = _NO_FILTERS,
) -> int:
    """Add a tab with these columns and the tasks' own data; return its id."""
    data = {
        "title": title,
        "type": "list",
        "target": "tasks",
        "ordering": list(ordering),
        "filters": filters,
        "hiddenColumns": {
            "explore": [f"tasks:{name}" for name in _COLUMNS if name not in shown],
            "labeling": [f"tasks:{name}" for name in _COLUMNS],
        },
    }
    body = {"project": project_id, "data": data}
    return client.whole_number(client.api("POST", "/api/dm/views", params={"project": project_id}, json=body), "id")
