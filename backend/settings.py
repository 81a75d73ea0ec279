"""All settings of prelabel in one frozen object, built once from the environment and the command line.

Command-line values win over environment variables, which win over the defaults below. An unknown PRELABEL_* name, a
value that cannot be read, a contradiction and a switch of a library that is neither on nor off refuse to start:
`load_settings` raises SettingsError naming the variable.
Secrets are pydantic SecretStr: one that is set shows as *** in repr, str and logs. Nothing here reads the environment
at import.
"""

from __future__ import annotations

import difflib
import ipaddress
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from backend.environment import is_of_libraries, tidy, unusable
from backend.errors import SettingsError
from backend.signatures import HIDDEN
from backend.urls import host_of
from model_loader.places import expanded

log = logging.getLogger(__name__)

PREFIX = "PRELABEL_"
DROPPED = {
    "PRELABEL_MAX_TASKS": "PRELABEL_MAX_BODY_BYTES limits the tasks as well, one for each KiB of it.",
}
"""Settings of earlier versions, with what replaces them."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LOOPBACK = ipaddress.ip_network("127.0.0.1")


def _customary(env_name: str) -> AliasChoices:
    """A setting that Label Studio's own backends read under `env_name`, without our prefix."""
    return AliasChoices(env_name, env_name.lower())


@dataclass(frozen=True, slots=True)
class Credentials:
    """What Label Studio must send to this backend."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(***)"


class _Hidden:
    def __repr__(self) -> str:
        return HIDDEN


class Settings(BaseSettings):
    """See `settings_table` for the names, defaults and meanings in one place."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True, hide_input_in_errors=True,
        populate_by_name=True, protected_namespaces=(), allow_inf_nan=False,
    )  # fmt: skip

    # fmt: off
    model: str = Field("auto", min_length=1, max_length=500, description=(
        "Hub id, `modelscope:` and an id there, folder, `garments` (built in, small) or `auto`: "
        "the best Qwen3-VL that the GPU holds (docs/cards.md), `garments` without a GPU"))
    model_revision: str = Field("", max_length=200, description=(
        "Commit, tag or branch of the model; empty: of those in docs/cards.md the commit they were chosen with, of "
        "others the newest at the first start, and the same from then on"))
    quantised_dir: Path | None = Field(None, description=(
        "Folder for 4-bit checkpoints, so that a second start does not quantise again; default: DATA_DIR/quantised"))
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description=(
        "`auto` (of several cards the one with the most free memory that can be used), `cpu`, `cuda` (the first) or "
        "`cuda:1`, counted as nvidia-smi does unless `CUDA_DEVICE_ORDER` says otherwise"))
    vram_gib: float | None = Field(None, gt=0, le=1024, description=(
        "GPU memory to stay within, in GiB, CUDA's own included; empty: the whole card"))
    max_slots: int = Field(128, ge=1, le=512, description=(
        "Most pictures answered at the same time; memory may allow fewer: `prelabel doctor` says how many"))
    image_tokens: int = Field(256, ge=16, le=4096, description=(
        "Most tokens a picture becomes (one token is 32x32 pixels); fewer is faster, more sees smaller details"))

    data_dir: Path = Field(Path("data"), description=(
        "Folder for the store and the 4-bit model; a relative one is below the current folder"))
    host: str = Field("127.0.0.1", min_length=1, max_length=255, description="Address to listen on")
    port: int = Field(9090, ge=0, le=65535, description="Port to listen on")
    predict_deadline_s: float = Field(45.0, gt=0, le=95, description=(
        "Answer /predict within this time with what is done; Label Studio gives up after 100 s, gateways after 60 s"))
    max_body_bytes: int = Field(128 * 2**20, ge=1024, le=2**30, description=(
        "Largest request body; one /predict may hold a task for each KiB of it"))
    stop_s: float = Field(20.0, ge=2, le=600, description=(
        "End within about this time when told to; what is under way then is taken up at the next start"))
    max_requests: int = Field(64, ge=1, le=10_000, description="Most /predict requests at once; more get 503")

    language: Literal["zh", "en"] = Field("zh", description="Language of captions and prompt, unless a project says")
    review_threshold: float = Field(0.5, ge=0, le=1, description=(
        "A field less certain than this is marked for review, unless a project says otherwise"))

    price_per_minute: float | None = Field(None, ge=0, le=10_000, description=(
        "What a minute of this machine costs, in yuan, for the status page and `annotate`; empty: no costs are shown"))

    label_studio_url: str = Field("", pattern=r"^(https?://[^\s/]+(/.*)?)?$", description=(
        "Address of Label Studio, `https://labels.example`; only pictures from there are fetched with the API key"),
        validation_alias=_customary("LABEL_STUDIO_URL"))
    label_studio_public_url: str = Field("", pattern=r"^(https?://[^\s/]+(/.*)?)?$", description=(
        "Address of Label Studio in people's browsers, for the links of `connect` and the status page; pictures that "
        "tasks have with it are asked for at LABEL_STUDIO_URL; empty: LABEL_STUDIO_URL"),
        validation_alias=_customary("LABEL_STUDIO_PUBLIC_URL"))
    label_studio_api_key: SecretStr = Field(SecretStr(""), description="Label Studio access token, of either kind",
        validation_alias=_customary("LABEL_STUDIO_API_KEY"))
    basic_auth_user: str = Field("prelabel", min_length=1, pattern=r"^[^:]*$", description=(
        "User name that Label Studio must send"), validation_alias=_customary("BASIC_AUTH_USER"))
    basic_auth_pass: SecretStr = Field(SecretStr(""), description="Password that Label Studio must send; empty: none",
        validation_alias=_customary("BASIC_AUTH_PASS"))
    allow_no_auth: bool = Field(False, description=(
        "Listen on a public address without a password (only inside a private container network)"))
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field((), description=(
        "More host names that this backend is asked by, e.g. `prelabel.example.com,host.docker.internal`; without a "
        "password any other is refused, but for `localhost`, `PRELABEL_HOST` and what `PRELABEL_ALLOW_NO_AUTH` adds"))
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode] = Field((LOOPBACK,), description=(
        "Networks of reverse proxies, e.g. `172.18.0.0/16`: whoever asks through one counts under the address that "
        "X-Forwarded-For has from it, when addresses take turns; empty: none"))

    local_files_root: Path | None = Field(None, description="Folder that `/data/local-files/?d=` may read; empty: none")
    allowed_networks: Annotated[tuple[Network, ...], NoDecode] = Field((), description=(
        "Private networks pictures may come from, e.g. `10.1.0.0/16,192.168.7.0/24`; empty: only public addresses"))
    picture_headers: SecretStr = Field(SecretStr(""), description=(
        "Request headers that hosts of pictures want, as JSON, "
        '`{"img.example.com": {"Referer": "https://example.com/"}}`; also `*.example.com`; sent to that host only'))
    proxy: SecretStr = Field(SecretStr(""), description=(
        "HTTP proxy for pictures of the public internet, `http://HOST:PORT`; names are looked up on this machine, and "
        "allowed networks and Label Studio are reached without it; empty: none"))
    extra_ca_file: Path | None = Field(None, description=(
        "PEM file of certificate authorities to trust beside the usual ones, for pictures and Label Studio"))
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much to log")
    # fmt: on

    @field_validator("allowed_networks", "trusted_proxies", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            parts = [part.strip() for part in value.split(",") if part.strip()]
            for part in parts:
                if not host_of(part):
                    raise ValueError(f'"{part}" is no host name; write them as `prelabel.example.com,gpu-box`')
            return tuple(host_of(part) for part in parts)
        return value

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("data_dir", "quantised_dir", "local_files_root", "extra_ca_file", mode="after")
    @classmethod
    def _expand_user(cls, value: Path | None) -> Path | None:
        return expanded(value) if value else value

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """A secret as ***, and none of those that are not set: the log shows which are."""
        for name, value in super().__repr_args__():
            if not isinstance(value, SecretStr):
                yield name, value
            elif value.get_secret_value():
                yield name, _Hidden()

    @property
    def auth_required(self) -> bool:
        return self.credentials is not None

    @property
    def credentials(self) -> Credentials | None:
        """None: nobody needs a password."""
        password = self.basic_auth_pass.get_secret_value()
        return Credentials(self.basic_auth_user, password) if password else None

    @property
    def own_url(self) -> str:
        """Where a program on this machine reaches what listens on `host` and `port`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - every address, ours too
        return (
            f"http://[{host}]:{self.port}" if ":" in host and not host.startswith("[") else f"http://{host}:{self.port}"
        )

    def quieter(self) -> Settings:
        """For a command whose result is what people came for: of the log only what is wrong."""
        return self.model_copy(update={"log_level": "WARNING"}) if self.log_level == "INFO" else self

    @property
    def max_tasks(self) -> int:
        """Most tasks in one /predict. Label Studio's take about a KiB each, so both limits mean the same there."""
        return self.max_body_bytes // 1024

    @property
    def quantised_folder(self) -> Path:
        return self.quantised_dir or self.data_dir / "quantised"


def tidy_environment() -> list[str]:
    """Correct what env files leave around our variables, and those of libraries, in this process's environment, for
    everything that reads them; return what is to be said of it."""
    ours = _env_names()

    def is_read(name: str) -> bool:
        return name.upper().startswith(PREFIX) or name.upper() in ours or is_of_libraries(name)

    return tidy(os.environ, is_read)


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """Build the settings from the environment, which is tidied, and `overrides` (field name -> value; None means "not
    given").

    Raises SettingsError with one line per problem, each naming the variable and what is wrong.
    """
    for said in tidy_environment():
        log.warning("%s", said)
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    problems = [_unknown(name, _env_names()) for name in os.environ if _is_unknown(name)]
    problems += [_unknown(name, list(Settings.model_fields)) for name in given if name not in Settings.model_fields]
    problems += unusable(os.environ)
    if problems:
        raise SettingsError("\n".join(problems))
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(problem) for problem in error.errors())) from None


def settings_table() -> str:
    """Return the settings as a Markdown table, for docs/settings.md."""
    rows = ["| Environment variable | Default | Meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr) or default in (None, "", (), PydanticUndefined):
            shown = ""
        else:
            listed = ",".join(map(str, default)) if isinstance(default, tuple) else default
            shown = f"`{str(default).lower() if isinstance(default, bool) else listed}`"
        rows.append(f"| `{env_name(name)}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def env_name(field_name: str) -> str:
    """The environment variable of a field."""
    alias = Settings.model_fields[field_name].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return PREFIX + field_name.upper()


def _env_names() -> list[str]:
    return [env_name(name) for name in Settings.model_fields]


def _is_unknown(name: str) -> bool:
    return name.upper().startswith(PREFIX) and name.upper() not in _env_names()


def _unknown(name: str, known: list[str]) -> str:
    if told := DROPPED.get(name.upper()):
        return f"{name}: this setting is gone. {told}"
    close = difflib.get_close_matches(name.upper() if name.isupper() else name, known, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]}?" if close else " The settings are listed in docs/settings.md."
    return f"{name}: there is no such setting.{hint}"


def _explain(problem: Any) -> str:
    reason = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return reason
    name = str(problem["loc"][0]).lower()
    if name not in Settings.model_fields:
        return f"{name}: {reason}."
    if problem["type"] == "string_pattern_mismatch":  # a regular expression helps nobody
        reason = f"this is not a valid value. Meaning: {Settings.model_fields[name].description}"
    return f"{env_name(name)}: {reason}."
