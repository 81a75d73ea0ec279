"""The Label Studio of the end-to-end tests and what a user does with it besides clicking."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx

from backend.commands.connect import connect
from backend.commands.demo.local_backend import LocalBackend
from backend.commands.demo.local_label_studio import LocalLabelStudio
from backend.label_studio.client import LabelStudioClient, Project, TaskRegions
from backend.predict.label_configs import parse_or_refuse
from label_config.answer import Answer
from label_config.regions import regions_to_answer
from tests.limits import WAIT_S, until


@dataclass(frozen=True)
class Site:
    """`client` uses a legacy token, `personal_token` is of the other kind; `access` is what a backend must know."""

    server: LocalLabelStudio
    client: LabelStudioClient

    @cached_property
    def personal_token(self) -> str:
        return str(self.call("POST", "/api/token/").json()["token"])

    @property
    def access(self) -> dict[str, str]:
        return {"LABEL_STUDIO_URL": self.server.url, "LABEL_STUDIO_API_KEY": self.server.api_key}

    def connected(
        self,
        backend: LocalBackend,
        title: str,
        config: str | Path = "garments.zh",
        password: str = "",
        audit: float | None = None,
    ) -> Project:
        """A new project, joined to the backend with `prelabel connect`."""
        code = connect(
            label_studio=self.server.url,
            api_key=self.personal_token,
            project=None,
            create=title,
            backend_url=backend.url,
            label_config=str(config),
            backend_password=password,
            audit=audit,
        )
        assert code == 0
        [project] = self.client.projects_titled(title)
        return project

    def retrieve(self, project: Project, num_wanted: int) -> dict[int, TaskRegions]:
        """Predictions by task, once `num_wanted` tasks have one: from the click's reply, or delivered after it."""
        found: dict[int, TaskRegions] = {}

        def all_there() -> bool:
            found.update({prediction.task_id: prediction for prediction in self.client.predictions(project.id)})
            return len(found) >= num_wanted

        self.client.retrieve_predictions(project.id)
        until(all_there, f"{num_wanted} predictions")
        return found

    def import_tasks(self, project: Project, *addresses: str) -> None:
        """One task for each address of a picture."""
        tasks = [{"data": {"image": address}} for address in addresses]
        self.call("POST", f"/api/projects/{project.id}/import", json=tasks)

    def call(self, method: str, path: str, **request: Any) -> httpx.Response:
        """What a program of the user's asks Label Studio."""
        headers = {"Authorization": f"Token {self.server.api_key}"}
        with httpx.Client(headers=headers, timeout=WAIT_S, trust_env=False) as http:
            return http.request(method, f"{self.server.url}{path}", **request).raise_for_status()


def told(backend: LocalBackend, project: Project) -> dict[str, Any]:
    """The project on the status page, as JSON."""
    view = httpx.get(f"{backend.url}/status.json", timeout=WAIT_S, trust_env=False).json()
    return next(one for one in view["projects"] if one["project_id"] == str(project.id))


def read_answer(project: Project, regions: TaskRegions) -> Answer:
    return regions_to_answer(parse_or_refuse(project.label_config), regions.regions)


def label(answer: Answer, name: str) -> str:
    """The one label of a field, as a form shows it; a path with all its levels."""
    value = answer.fields[name].value
    assert isinstance(value, tuple)
    [only] = value
    return " / ".join(only) if isinstance(only, tuple) else only
