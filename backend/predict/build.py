"""The real engine and the real fetcher, as the settings say. Imports no torch, and nothing that the server alone needs.

`build_images` raises SettingsError for a contradictory policy.
"""

from __future__ import annotations

from typing import Any

from backend.engine.api import Engine
from backend.engine.options import EngineOptions
from backend.images import ImageFetcher, ImagePolicy, Limits
from backend.predict.named_addresses import NamedAddresses
from backend.settings import Settings

CONTEXT_TOKENS = 4096
ORDINARY_IMAGE_TOKENS = 1024
"""Pictures up to this size share the ordinary context with instruction and answer; larger ones come on top."""
PIXELS_PER_TOKEN = 32 * 32


def context_tokens(image_tokens: int) -> int:
    """The longest request, instruction and answer included, where a picture has up to `image_tokens`."""
    return CONTEXT_TOKENS + max(0, image_tokens - ORDINARY_IMAGE_TOKENS)


def engine_options(settings: Settings, *, geometry_only: bool = False, **others: Any) -> EngineOptions:
    """What the real engine is started with. `geometry_only`: random weights of the model's geometry in its place."""
    return EngineOptions(
        model=settings.model,
        revision=settings.model_revision or None,
        device=None if settings.device == "auto" else settings.device,
        vram_gib=settings.vram_gib,
        quantised_dir=settings.quantised_folder,
        max_slots=settings.max_slots,
        image_tokens=settings.image_tokens,
        context_tokens=context_tokens(settings.image_tokens),
        log_level=settings.log_level,
        geometry_only=geometry_only,
        **others,
    )


def build_engine(settings: Settings, *, geometry_only: bool = False, **others: Any) -> Engine:
    """The real engine, not yet started. What it loads is told by the settings; `others` are of `EngineOptions`."""
    from backend.engine.client import EngineClient

    return EngineClient(engine_options(settings, geometry_only=geometry_only, **others))


def build_images(settings: Settings) -> ImageFetcher:
    """The real fetcher, which knows what a server of this data folder was told in /setup.

    Raises SettingsError for a contradictory policy.
    """
    images = ImageFetcher(image_policy(settings))
    NamedAddresses(settings.data_dir, images.label_studio)
    return images


def image_policy(settings: Settings) -> ImagePolicy:
    """Where pictures may come from, with which key. Raises SettingsError for a contradictory policy."""
    seen = settings.image_tokens * PIXELS_PER_TOKEN
    return ImagePolicy(
        label_studio_url=settings.label_studio_url,
        label_studio_public_url=settings.label_studio_public_url,
        api_key=settings.label_studio_api_key.get_secret_value(),
        local_files_root=settings.local_files_root,
        allowed_networks=settings.allowed_networks,
        picture_headers=settings.picture_headers.get_secret_value(),
        proxy_url=settings.proxy.get_secret_value(),
        extra_ca_file=settings.extra_ca_file,
        limits=Limits(picture_max_pixels=max(Limits().picture_max_pixels, seen), seen_pixels=seen),
    )
