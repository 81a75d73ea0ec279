"""The plug-in under both generations of label-studio-ml: the installed 1.0.9 itself, and a double of 2.x."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import backend.api.plugin
import backend.api.plugin_runtime
from backend.api.plugin_runtime import Runtime, share_runtime
from backend.errors import BadRequest, ConfigRefused
from backend.settings import load_settings
from tests.backend import label_studio_ml_2x
from tests.backend.serving import ANSWER, CONFIG, predict_body, setup_body, task
from tests.fakes import FakeEngine, FakeImages

MISSING = "https://shop.example/missing.jpg"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(load_settings({"data_dir": tmp_path, "predict_deadline_s": 95}), FakeEngine(ANSWER), FakeImages())
    share_runtime(made)
    yield made
    share_runtime(None)
    made.close()


@pytest.fixture
def second_generation(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`PrelabelModel` as it is where label-studio-ml 2.x is installed."""
    package, module = ModuleType("label_studio_ml"), ModuleType("label_studio_ml.model")
    module.LabelStudioMLBase = label_studio_ml_2x.LabelStudioMLBase  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml", package)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", module)
    label_studio_ml_2x.CACHE.clear()
    yield importlib.reload(backend.api.plugin).PrelabelModel
    monkeypatch.undo()
    importlib.reload(backend.api.plugin)


@pytest.fixture
def first_generation_server(runtime: Runtime, tmp_path: Path) -> Any:
    """label-studio-ml 1.0.9's own Flask server around our class."""
    from label_studio_ml.api import init_app

    model_dir = tmp_path / "models"
    return init_app(model_class=backend.api.plugin.PrelabelModel, model_dir=str(model_dir)).test_client()


def test_the_first_generations_server_serves_the_plug_in(first_generation_server: Any) -> None:
    client = first_generation_server
    assert client.get("/health").json["status"] == "UP"
    assert client.post("/setup", json=setup_body()).status_code == 200
    reply = client.post("/predict", json=predict_body(task(1), task(2, MISSING)))
    first, second = reply.json["results"]
    assert first["model_version"].startswith("garments-nf4-")
    assert first["result"]
    assert second == []


def test_the_first_generations_constructor_is_honoured(runtime: Runtime) -> None:
    model = backend.api.plugin.PrelabelModel(
        label_config=CONFIG, train_output={"a": 1}, hostname="http://h", access_token="t"
    )
    assert model.hostname == "http://h"
    assert model.train_output == {"a": 1}
    assert model.predict([task()], login=None, password=None, context=None)[0]["result"]


def test_a_first_generation_webhook_trains_nothing(runtime: Runtime) -> None:
    model = backend.api.plugin.PrelabelModel(label_config=CONFIG)
    assert model.process_event("ANNOTATION_CREATED", {"project": {}}, "7", {"workdir": None}) == {}


def test_the_second_generation_answers_setup_with_the_version_of_its_predictions(
    runtime: Runtime, second_generation: Any
) -> None:
    version = label_studio_ml_2x.serve_setup(second_generation, setup_body())["model_version"]
    reply = label_studio_ml_2x.serve_predict(second_generation, predict_body(task(1), task(2, MISSING)))
    first, second = reply["results"]
    assert first["model_version"] == version != label_studio_ml_2x.LabelStudioMLBase.INITIAL_MODEL_VERSION
    assert second == []


@pytest.mark.parametrize("extra", [{"language": "en"}, '{"language": "en"}'], ids=["object", "text"])
def test_the_second_generations_extra_params_change_the_version(
    runtime: Runtime, second_generation: Any, extra: Any
) -> None:
    before = label_studio_ml_2x.serve_setup(second_generation, setup_body())["model_version"]
    after = label_studio_ml_2x.serve_setup(second_generation, setup_body(extra_params=extra))["model_version"]
    reply = label_studio_ml_2x.serve_predict(second_generation, predict_body(task()))
    assert before != after == reply["results"][0]["model_version"]


def test_a_second_generation_webhook_trains_nothing(runtime: Runtime, second_generation: Any) -> None:
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 12, "label_config": CONFIG}}
    assert label_studio_ml_2x.serve_webhook(second_generation, body) == {"result": {}, "status": "ok"}


def test_an_interactive_request_gets_an_object_even_without_a_prediction(
    runtime: Runtime, second_generation: Any
) -> None:
    reply = label_studio_ml_2x.serve_predict(second_generation, predict_body(task(1, MISSING), context={"result": []}))
    assert reply["results"] == [{"result": []}]


def test_while_the_model_loads_no_task_gets_an_empty_prediction(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path, "predict_deadline_s": 0.1})
    loading = Runtime(settings, FakeEngine(ANSWER, ready=False), FakeImages())
    share_runtime(loading)
    try:
        assert backend.api.plugin.PrelabelModel(label_config=CONFIG).predict([task(1), task(2)]) == [[], []]
    finally:
        share_runtime(None)
        loading.close()


def test_malformed_input_is_refused(runtime: Runtime) -> None:
    with pytest.raises(ConfigRefused):
        backend.api.plugin.PrelabelModel().predict([task()])
    with pytest.raises(BadRequest, match="id"):
        backend.api.plugin.PrelabelModel(label_config=CONFIG).predict([{"data": {}}])


def test_the_shared_runtime_is_built_once_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(backend.api.plugin_runtime, "build_engine", lambda settings: FakeEngine(ANSWER))
    share_runtime(None)
    shared = backend.api.plugin_runtime.shared_runtime()
    try:
        assert backend.api.plugin_runtime.shared_runtime() is shared
    finally:
        share_runtime(None)
        shared.close()
        shared.close()
