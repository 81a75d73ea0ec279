"""deploy/ray-serve.yaml against the settings it must agree with."""

from __future__ import annotations

from pathlib import Path

import yaml

from backend.settings import load_settings

FILE = Path(__file__).resolve().parents[2] / "deploy" / "ray-serve.yaml"


def test_the_file_says_what_the_application_expects() -> None:
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    assert document["http_options"]["host"] == "127.0.0.1"
    assert document["http_options"]["port"] == load_settings().port
    assert document["http_options"]["request_timeout_s"] > load_settings().predict_deadline_s
    assert document["proxy_location"] == "HeadOnly"
    [application] = document["applications"]
    assert (application["route_prefix"], application["import_path"]) == ("/", "backend.ray.app:build")
