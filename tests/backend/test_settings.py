from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import SettingsError
from backend.logs import redact
from backend.settings import DROPPED, Settings, env_name, load_settings, settings_table


def test_defaults_listen_on_this_machine_only() -> None:
    settings = load_settings({})
    assert (settings.host, settings.port, settings.model, settings.language) == ("127.0.0.1", 9090, "auto", "zh")


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_PORT", "9191")
    assert load_settings({}).port == 9191
    assert load_settings({"port": 9292}).port == 9292
    assert load_settings({"port": None}).port == 9191


def test_label_studios_customary_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://label-studio:8080")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key-of-label-studio")
    settings = load_settings({})
    assert settings.label_studio_url == "http://label-studio:8080"
    assert settings.label_studio_api_key.get_secret_value() == "key-of-label-studio"


def test_an_empty_variable_means_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_VRAM_GIB", "")
    monkeypatch.setenv("BASIC_AUTH_PASS", "")
    settings = load_settings({})
    assert settings.vram_gib is None
    assert not settings.auth_required


def test_networks_are_a_comma_separated_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_ALLOWED_NETWORKS", "10.1.0.0/16, fd00::/8")
    assert [str(network) for network in load_settings({}).allowed_networks] == ["10.1.0.0/16", "fd00::/8"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("PRELABEL_PORT", "x", id="port that is no number"),
        pytest.param("PRELABEL_PORT", "70000", id="port out of range"),
        pytest.param("PRELABEL_VRAM_GIB", "nan", id="memory that is not a number"),
        pytest.param("PRELABEL_VRAM_GIB", "-1", id="negative memory"),
        pytest.param("PRELABEL_DEVICE", "gpu", id="unknown device"),
        pytest.param("PRELABEL_LANGUAGE", "fr", id="unknown language"),
        pytest.param("PRELABEL_REVIEW_THRESHOLD", "60", id="threshold in percent"),
        pytest.param("PRELABEL_PREDICT_DEADLINE_S", "0", id="no time at all"),
        pytest.param("PRELABEL_ALLOWED_NETWORKS", "10.0.0.0/33", id="impossible network"),
        pytest.param("PRELABEL_LOG_LEVEL", "LOUD", id="unknown log level"),
        pytest.param("LABEL_STUDIO_URL", "label-studio:8080", id="address without http"),
        pytest.param("PRELABEL_ALLOW_NO_AUTH", "maybe", id="neither true nor false"),
    ],
)
def test_a_malformed_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=f"^{name}: ") as caught:
        load_settings({})
    assert "pydantic" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("PRELABEL_PROT", "PRELABEL_PORT"), ("PRELABEL_LABEL_STUDIO_URL", "LABEL_STUDIO_URL")],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch, wrong: str, right: str
) -> None:
    monkeypatch.setenv(wrong, "1")
    with pytest.raises(SettingsError, match=rf"^{wrong}: .*Did you mean {right}\?$"):
        load_settings({})


@pytest.mark.parametrize("name", DROPPED)
def test_a_setting_of_an_earlier_version_is_refused_with_what_replaces_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(SettingsError, match=rf"^{name}: this setting is gone\. .+\.$") as caught:
        load_settings({})
    replacements = [setting for setting in Settings.model_fields if env_name(setting) in str(caught.value)]
    assert replacements, "it names a setting that there is"


def test_one_predict_may_hold_a_task_for_each_kib_of_its_body() -> None:
    assert load_settings({}).max_tasks == 131_072
    assert load_settings({"max_body_bytes": 2**30}).max_tasks == 2**20


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"^prot: .*port"):
        load_settings({"prot": 1})


def test_all_problems_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRELABEL_PORT", "x")
    monkeypatch.setenv("PRELABEL_LANGUAGE", "fr")
    with pytest.raises(SettingsError) as caught:
        load_settings({})
    assert len(str(caught.value).splitlines()) == 2


def test_settings_of_a_command_that_does_not_listen_need_no_password() -> None:
    assert load_settings({"host": "0.0.0.0"}).host == "0.0.0.0"


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    settings = load_settings({"basic_auth_pass": "canary-1", "label_studio_api_key": "canary-2"})
    for shown in (repr(settings), str(settings), settings.model_dump_json(), f"{settings.model_dump()}"):
        assert "canary" not in shown


def test_the_log_says_which_secrets_are_set_and_shows_none() -> None:
    shown = redact(repr(load_settings({"basic_auth_pass": "canary-1", "label_studio_api_key": "canary-2"})))
    assert "label_studio_api_key=***, " in shown
    assert "basic_auth_pass=***, " in shown
    assert "SecretStr" not in shown
    assert "proxy" not in shown  # not set


def test_a_malformed_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({"basic_auth_pass": ["canary"]})
    assert "canary" not in str(caught.value)


def test_settings_cannot_be_changed_later() -> None:
    settings = load_settings({})
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_the_quantised_checkpoints_lie_in_the_data_folder_unless_told_otherwise() -> None:
    assert load_settings({"data_dir": "/srv/prelabel"}).quantised_folder == Path("/srv/prelabel/quantised")
    assert load_settings({"quantised_dir": "/models"}).quantised_folder == Path("/models")


def test_the_table_names_every_setting_with_its_meaning() -> None:
    table = settings_table()
    for name, field in Settings.model_fields.items():
        assert f"| `{env_name(name)}` |" in table
        assert field.description
    assert len(table.splitlines()) == len(Settings.model_fields) + 2


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:9191"), ("0.0.0.0", "http://127.0.0.1:9191"), ("::", "http://[::1]:9191"),
        ("::1", "http://[::1]:9191"), ("backend", "http://backend:9191"),
    ],
)  # fmt: skip
def test_a_program_beside_it_finds_the_backend_where_it_listens(host: str, url: str) -> None:
    assert load_settings({"host": host, "port": 9191, "allow_no_auth": True}).own_url == url
