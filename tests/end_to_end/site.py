"""The Label Studio of the end-to-end tests and what a user does with it besides clicking."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from backend.commands.connect import connect
from backend.config_source import parse_or_refuse
from backend.label_studio import LabelStudioClient, Project, TaskRegions
from backend.local_backend import LocalBackend
from backend.local_label_studio import LocalLabelStudio
from label_config.answer import Answer
from label_config.regions import regions_to_answer

RETRIEVE_TRIES = 5


@dataclass(frozen=True)
class Site:
    """`client` uses a legacy token, `personal_token` is of the other kind; `access` is what a backend must know."""

    server: LocalLabelStudio
    client: LabelStudioClient
    personal_token: str

    @property
    def access(self) -> dict[str, str]:
        return {"LABEL_STUDIO_URL": self.server.url, "LABEL_STUDIO_API_KEY": self.server.api_key}

    def connected(
        self, backend: LocalBackend, title: str, config: str | Path = "garments.zh", password: str = ""
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
        )
        assert code == 0
        [project] = self.client.projects_titled(title)
        return project

    def retrieve_until(self, project: Project, num_wanted: int) -> dict[int, TaskRegions]:
        """Predictions by task, once `num_wanted` tasks have one. A slow machine may need several rounds."""
        found: dict[int, TaskRegions] = {}
        for _ in range(RETRIEVE_TRIES):
            self.client.retrieve_predictions(project.id)
            found = {prediction.task_id: prediction for prediction in self.client.predictions(project.id)}
            if len(found) >= num_wanted:
                break
        return found

    def annotation_of(self, task_id: int, timeout_s: float = 30) -> TaskRegions:
        """The first annotation of the task, once there is one."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if found := self.client.annotations(task_id):
                return found[0]
            time.sleep(0.3)
        raise AssertionError(f"task {task_id} has no annotation after {timeout_s:.0f} s")


def read_answer(project: Project, regions: TaskRegions) -> Answer:
    return regions_to_answer(parse_or_refuse(project.label_config), regions.regions)


def leaf(answer: Answer, name: str) -> str:
    """The label of a field; the last of its path for a taxonomy."""
    value = answer.fields[name].value
    assert isinstance(value, tuple)
    label = value[0]
    return label[-1] if isinstance(label, tuple) else label
