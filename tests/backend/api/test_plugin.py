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
from backend.api.plugin_runtime import Runtime, Shared
from backend.errors import BadRequest, ConfigRefused, PrelabelError
from backend.settings import load_settings
from tests.backend import label_studio_ml_2x
from tests.backend.serving import ANSWER, CONFIG, predict_body, setup_body, task
from tests.fakes import FakeEngine, FakeImages

MISSING = "https://shop.example/missing.jpg"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    made = Runtime(load_settings({"data_dir": tmp_path, "predict_deadline_s": 95}), FakeEngine(ANSWER), FakeImages())
    yield made
    made.close()


def over(model_class: Any, runtime: Runtime) -> Any:
    """`PrelabelModel` as it is in a process that has this runtime."""
    return type("PrelabelModel", (model_class,), {"runtime": staticmethod(lambda: runtime)})


@pytest.fixture
def first_generation(runtime: Runtime) -> Any:
    return over(backend.api.plugin.PrelabelModel, runtime)


@pytest.fixture
def second_generation(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`PrelabelModel` as it is where label-studio-ml 2.x is installed."""
    package, module = ModuleType("label_studio_ml"), ModuleType("label_studio_ml.model")
    module.LabelStudioMLBase = label_studio_ml_2x.LabelStudioMLBase  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml", package)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", module)
    label_studio_ml_2x.CACHE.clear()
    yield over(importlib.reload(backend.api.plugin).PrelabelModel, runtime)
    monkeypatch.undo()
    importlib.reload(backend.api.plugin)


@pytest.fixture
def first_generation_server(first_generation: Any, tmp_path: Path) -> Any:
    """label-studio-ml 1.0.9's own Flask server around our class."""
    from label_studio_ml.api import init_app

    model_dir = tmp_path / "models"
    return init_app(model_class=first_generation, model_dir=str(model_dir)).test_client()


def test_the_first_generations_server_serves_the_plug_in(first_generation_server: Any) -> None:
    client = first_generation_server
    assert client.get("/health").json["status"] == "UP"
    assert client.post("/setup", json=setup_body()).status_code == 200
    reply = client.post("/predict", json=predict_body(task(1), task(2, MISSING)))
    first, second = reply.json["results"]
    assert first["model_version"].startswith("garments-nf4-")
    assert first["result"]
    assert second == []


def test_the_first_generations_constructor_is_honoured(first_generation: Any) -> None:
    model = first_generation(label_config=CONFIG, train_output={"a": 1}, hostname="http://h", access_token="t")
    assert model.hostname == "http://h"
    assert model.train_output == {"a": 1}
    assert model.predict([task()], login=None, password=None, context=None)[0]["result"]


def test_a_first_generation_webhook_trains_nothing(first_generation: Any) -> None:
    model = first_generation(label_config=CONFIG)
    assert model.process_event("ANNOTATION_CREATED", {"project": {}}, "7", {"workdir": None}) == {}


def test_the_second_generation_answers_setup_with_the_version_of_its_predictions(second_generation: Any) -> None:
    version = label_studio_ml_2x.serve_setup(second_generation, setup_body())["model_version"]
    reply = label_studio_ml_2x.serve_predict(second_generation, predict_body(task(1), task(2, MISSING)))
    first, second = reply["results"]
    assert first["model_version"] == version != label_studio_ml_2x.LabelStudioMLBase.INITIAL_MODEL_VERSION
    assert second == []


@pytest.mark.parametrize("extra", [{"language": "en"}, '{"language": "en"}'], ids=["object", "text"])
def test_the_second_generations_extra_params_change_the_version(second_generation: Any, extra: Any) -> None:
    before = label_studio_ml_2x.serve_setup(second_generation, setup_body())["model_version"]
    after = label_studio_ml_2x.serve_setup(second_generation, setup_body(extra_params=extra))["model_version"]
    reply = label_studio_ml_2x.serve_predict(second_generation, predict_body(task()))
    assert before != after == reply["results"][0]["model_version"]


def test_a_second_generation_webhook_trains_nothing(second_generation: Any) -> None:
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 12, "label_config": CONFIG}}
    assert label_studio_ml_2x.serve_webhook(second_generation, body) == {"result": {}, "status": "ok"}


def test_an_interactive_request_gets_an_object_even_without_a_prediction(second_generation: Any) -> None:
    reply = label_studio_ml_2x.serve_predict(second_generation, predict_body(task(1, MISSING), context={"result": []}))
    assert reply["results"] == [{"result": []}]


def test_while_the_model_loads_no_task_gets_an_empty_prediction(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path, "predict_deadline_s": 0.1})
    loading = Runtime(settings, FakeEngine(ANSWER, ready=False), FakeImages())
    model_class = over(backend.api.plugin.PrelabelModel, loading)
    try:
        assert model_class(label_config=CONFIG).predict([task(1), task(2)]) == [[], []]
    finally:
        loading.close()


def test_malformed_input_is_refused(first_generation: Any) -> None:
    with pytest.raises(ConfigRefused):
        first_generation().predict([task()])
    with pytest.raises(BadRequest, match="id"):
        first_generation(label_config=CONFIG).predict([{"data": {}}])


def test_the_shared_runtime_is_built_once(tmp_path: Path) -> None:
    settings = load_settings({"data_dir": tmp_path})
    shared = Shared(lambda: Runtime(settings, FakeEngine(ANSWER), FakeImages()))
    try:
        assert shared() is shared()
    finally:
        shared().close()
        shared().close()


def test_a_runtime_that_could_not_be_built_is_tried_again(tmp_path: Path) -> None:
    folders = iter(["", str(tmp_path)])  # as an environment that is mended

    def make() -> Runtime:
        settings = load_settings({"data_dir": next(folders) or tmp_path / "a-file" / "below", "predict_deadline_s": 95})
        return Runtime(settings, FakeEngine(ANSWER), FakeImages())

    (tmp_path / "a-file").write_text("")
    shared = Shared(make)
    with pytest.raises(PrelabelError):
        shared()
    shared().close()
