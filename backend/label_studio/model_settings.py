"""What a project's settings in Label Studio say of its models, and the few changes prelabel makes there by itself.

Label Studio pre-fills the form from a backend when the project's model_version is that backend's *title*, and shows and
sorts by scores whose *model version* is the project's model_version: only where the two are the same does it do both.
Measured on Label Studio 1.23.2. Raises CallFailed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from backend.label_studio.client import kept_auth
from backend.label_studio.predictions import PredictionsClient


@dataclass(frozen=True, slots=True)
class LiveModel:
    """An ML backend of the project. `model_version` is what it last answered to /setup. `auth` must be sent along with
    any change: the password is not told, and one left empty stays."""

    id: int
    url: str
    title: str
    model_version: str
    auth: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """`model_version` names the predictions that fill the form and show scores, "" if nothing is chosen. `stored`: how
    many predictions there are of each model version."""

    model_version: str
    models: tuple[LiveModel, ...]
    stored: Mapping[str, int]


class ModelSettingsClient(PredictionsClient):
    """Safe to use from several threads at once."""

    def model_settings(self, project_id: int) -> ModelSettings:
        """Asks no backend anything, unlike Label Studio's list of ML backends."""
        project = self._ask("GET", f"/api/projects/{project_id}", params={"include": "id,model_version"})
        models = self._ask(
            "GET",
            f"/api/projects/{project_id}/model-versions/",
            params={"extended": "true", "include_live_models": "true"},
        )
        with self._read_as_expected():
            return ModelSettings(
                str(project.get("model_version") or ""),
                tuple(_live_model(one) for one in models["live"] or ()),
                {str(one["model_version"]): int(one["count"]) for one in models["static"]},
            )

    def rename_model(self, project_id: int, model: LiveModel, title: str) -> None:
        """Label Studio asks the backend's /health and /setup before it saves, and the project's model_version follows
        if it was the title before."""
        body = {"project": project_id, "url": model.url, "title": title, **model.auth}
        self._ask("PATCH", f"/api/ml/{model.id}", json=body)

    def choose_model_version(self, project_id: int, model_version: str) -> None:
        """It must be the title of a backend, or that of stored predictions."""
        self._ask("PATCH", f"/api/projects/{project_id}", json={"model_version": model_version})

    def delete_predictions(self, project_id: int, model_version: str) -> int:
        """Delete the predictions of that version; annotations stay. Returns how many. The project's model_version may
        be unset after it. Where a task had several of them Label Studio counts too many of it until `recount`."""
        reply = self._ask(
            "DELETE", f"/api/projects/{project_id}/model-versions/", json={"model_version": model_version}
        )
        deleted = reply.get("deleted_predictions") if isinstance(reply, dict) else None
        if type(deleted) is not int:
            raise self._strange("in_doubt")
        return deleted

    def recount(self, project_id: int) -> None:
        """Have Label Studio count the predictions of every task anew: it does so after an import, also of nothing."""
        self.import_predictions(project_id, [])


def ours(settings: ModelSettings, versions: Collection[str]) -> dict[str, int]:
    """How many predictions there are of each of `versions`."""
    return {version: num for version, num in settings.stored.items() if version in versions and num}


def _live_model(found: dict[str, Any]) -> LiveModel:
    title, version = str(found["title"] or ""), str(found["model_version"] or "")
    return LiveModel(int(found["id"]), str(found["url"]), title, version, kept_auth(found))
