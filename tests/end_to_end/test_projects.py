"""Label Studio's own requests to a real backend, without a browser: several projects, bad pictures, a slow model."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from backend.commands.demo.local_backend import LocalBackend, model_state, running_backend
from backend.errors import PrelabelError
from label_config.parse import parse_label_config
from tests.end_to_end.site import Site, read_answer, told
from tests.limits import WAIT_S, until

MATERIALS = """
<View>
  <Image name="photo" value="$image"/>
  <Choices name="material" toName="photo" choice="multiple">
    <Choice value="棉" alias="cotton"/><Choice value="皮" alias="leather"/>
  </Choices>
  <Rating name="quality" toName="photo" maxRating="4"/>
</View>
"""


def test_every_field_of_every_uploaded_picture_is_filled_with_legal_labels(
    site: Site, backend: LocalBackend, pictures: list[Path]
) -> None:
    project = site.connected(backend, "All pictures")
    site.client.upload_files(project.id, pictures[::4])
    found = site.retrieve(project, len(pictures[::4]))
    assert set(found) == set(site.client.tasks(project.id))
    schema = parse_label_config(project.label_config)
    paths = {tuple(node.value for node in path) for path in schema.field("category").paths()}  # type: ignore[union-attr]
    for prediction in found.values():
        fields = read_answer(project, prediction).fields
        assert set(fields) == {"caption", "category", "style", "season", "scene"}
        assert set(fields["category"].value) <= paths  # type: ignore[arg-type]
        assert prediction.score is not None
        assert 0 <= prediction.score <= 1


def test_a_second_retrieval_predicts_nothing_anew(site: Site, backend: LocalBackend, pictures: list[Path]) -> None:
    project = site.connected(backend, "Twice")
    site.client.upload_files(project.id, pictures[:2])
    site.retrieve(project, 2)
    site.client.retrieve_predictions(project.id)
    assert len(site.client.predictions(project.id)) == 2


def test_two_projects_with_different_configs_are_not_mixed(
    site: Site, backend: LocalBackend, pictures: list[Path], tmp_path: Path
) -> None:
    file = tmp_path / "materials.xml"
    file.write_text(MATERIALS, "utf-8")
    garments = site.connected(backend, "Garments", "garments.en")
    materials = site.connected(backend, "Materials", file)
    for project in (garments, materials):
        site.client.upload_files(project.id, pictures[:2])
    # Materials first, and Garments again after it: the backend must not stay with the config it saw last.
    by_material = site.retrieve(materials, 2)
    by_garment = site.retrieve(garments, 2)
    for prediction in by_material.values():
        assert {region["from_name"] for region in prediction.regions} <= {"material", "quality"}
        chosen = [label for region in prediction.regions for label in region["value"].get("choices", [])]
        assert set(chosen) <= {"cotton", "leather"}  # stored by alias
    for prediction in by_garment.values():
        assert {"caption", "category"} <= {region["from_name"] for region in prediction.regions}
    versions = {p.model_version for p in (*by_material.values(), *by_garment.values())}
    assert len(versions) == 2


def test_a_missing_picture_costs_only_its_own_task(site: Site, backend: LocalBackend, pictures: list[Path]) -> None:
    project = site.connected(backend, "One missing")
    site.import_tasks(project, "/data/upload/1/00000000-gone.png")
    site.client.upload_files(project.id, pictures[:3])
    found = site.retrieve(project, 3)
    tasks = site.client.tasks(project.id)
    [missing] = [task_id for task_id, data in tasks.items() if "gone" in data["image"]]
    assert set(found) == set(tasks) - {missing}

    until(lambda: told(backend, project)["failures"] == {"image_upload_deleted": 1}, "a failure with its own name")
    caption = {"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": ["人工"]}}
    site.call("POST", f"/api/tasks/{missing}/annotations", json={"result": [caption]})
    until(lambda: told(backend, project)["done_by_people"] == {"image_upload_deleted": 1}, "what a person has done")
    assert told(backend, project)["num_failed"] == 0
    chosen = {"selectedItems": {"all": False, "included": [next(iter(found))]}}
    site.call("POST", f"/api/dm/actions?id=delete_tasks&project={project.id}", json=chosen)
    until(lambda: told(backend, project)["gone"] == {"task_deleted": 1}, "the task that was deleted")
    assert told(backend, project)["num_answered"] == 2
    site.client.remove_project(project.id)
    until(lambda: told(backend, project)["gone"].get("project_deleted") == 2, "the project that was deleted")
    assert (told(backend, project)["num_answered"], told(backend, project)["num_delivered"]) == (0, 0)


def test_opening_a_task_fills_it_without_batch_predictions(
    site: Site, backend: LocalBackend, pictures: list[Path]
) -> None:
    project = site.connected(backend, "Opened")
    site.client.upload_files(project.id, pictures[:1])
    [task_id] = site.client.tasks(project.id)
    opened = site.call("GET", f"/api/tasks/{task_id}")
    assert len(opened.json()["predictions"]) == 1


def test_a_backend_is_connected_with_its_password_while_its_model_still_loads(
    site: Site, pictures: list[Path], tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    settings = site.access | {"BASIC_AUTH_PASS": "geheim-123"} | gate.settings
    with running_backend(tmp_path, settings) as locked:
        locked.wait_until_answers()
        with pytest.raises(PrelabelError, match="BASIC_AUTH_PASS"):
            site.connected(locked, "No password")
        assert site.client.projects_titled("No password") == []
        project = site.connected(locked, "Password", password="geheim-123")
        [known] = site.client.backends(project.id)
        assert known.state == "CO"
        health = httpx.get(f"{locked.url}/health", auth=locked.auth, timeout=WAIT_S, trust_env=False)
        assert model_state(health)[0] == "loading"
        gate.open()
        locked.wait_until_ready()
        site.client.upload_files(project.id, pictures[:2])
        assert len(site.retrieve(project, 2)) == 2
    assert "geheim-123" not in locked.process.log_path.read_text("utf-8")


class Gate:
    """Holds up the process of a backend's engine, the one that imports torch, before it can do anything until it is
    opened."""

    def __init__(self, folder: Path) -> None:
        self._opened = folder / "opened"
        self._module = folder / "gate" / "sitecustomize.py"
        self._module.parent.mkdir()
        self._module.write_text(
            "import os, sys, time\n"
            "class Gate:\n"
            "    def find_spec(name, path=None, target=None):\n"
            "        while name == 'torch' and not os.path.exists(os.environ['GATE']):\n"
            "            time.sleep(0.01)\n"
            "sys.meta_path.insert(0, Gate)\n"
        )

    @property
    def settings(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self._module.parent), "GATE": str(self._opened)}

    def open(self) -> None:
        self._opened.touch()
