"""A double of label-studio-ml 2.x's base class, which is not on PyPI, written from its documented contract.

Objects belong to one project and are built for each request: `LabelStudioMLBase(project_id, label_config)`, then
`setup()`. `get`/`set` keep texts per project beyond the object. `predict(tasks, context, **kwargs)` returns one item a
task; `fit(event, data, **kwargs)` is called for webhooks. `serve_*` do what its server does with a model class.
"""

from __future__ import annotations

import json
from typing import Any

CACHE: dict[tuple[str, str], Any] = {}


class LabelStudioMLBase:
    INITIAL_MODEL_VERSION = "0.0.1"

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        if label_config is not None:
            self.use_label_config(label_config)
        if not self.get("model_version"):
            self.set("model_version", self.INITIAL_MODEL_VERSION)
        self.setup()

    def setup(self) -> None: ...

    def use_label_config(self, label_config: str) -> None:
        self.set("label_config", label_config)

    def set_extra_params(self, extra_params: Any) -> None:
        self.set("extra_params", extra_params)

    @property
    def label_config(self) -> Any:
        return self.get("label_config")

    @property
    def model_version(self) -> Any:
        return self.get("model_version")

    def get(self, key: str) -> Any:
        return CACHE.get((self.project_id, key))

    def set(self, key: str, value: Any) -> None:
        CACHE[self.project_id, key] = value


def serve_setup(model_class: Any, body: dict[str, Any]) -> dict[str, Any]:
    model = model_class(project_id=body["project"].split(".", 1)[0], label_config=body["schema"])
    if body["extra_params"]:
        model.set_extra_params(body["extra_params"])
    return {"model_version": model.get("model_version")}


def serve_predict(model_class: Any, body: dict[str, Any]) -> dict[str, Any]:
    project_id = str(body["project"]).split(".", 1)[0]
    params = dict(body["params"])
    context = params.pop("context", {})
    model = model_class(project_id=project_id, label_config=body["label_config"])
    results = model.predict(body["tasks"], context=context, **params)
    return {"results": json.loads(json.dumps(results))}


def serve_webhook(model_class: Any, body: dict[str, Any]) -> dict[str, Any]:
    project = body["project"]
    model = model_class(str(project["id"]), label_config=project["label_config"])
    return {"result": model.fit(body["action"], body), "status": "ok"}
