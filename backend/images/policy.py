"""What the image fetcher may do: where it may go, with which credentials, and every limit in one place.

Knows nothing of HTTP libraries or Pillow. A contradictory policy raises SettingsError when it is built, so the process
refuses to start instead of failing picture by picture.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from backend.errors import ImageError, SettingsError
from backend.images.host_headers import HostHeaders, read_host_headers
from backend.images.proxy import Proxy, read_proxy
from backend.label_studio.address import LabelStudioAddresses

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Limits:
    """Every limit of the fetcher. Sizes are of the source unless the name says `picture`."""

    max_bytes: int = 25 * 2**20
    max_pixels: int = 50_000_000
    max_decode_bytes: int = 300_000_000
    """Memory one picture may need while it is decoded; for WebP and AVIF this is stricter than `max_pixels`."""
    decode_s: float = 1.0
    """CPU for a picture however small, and `decode_s_per_megapixel` beside: five times what the slowest need."""
    decode_s_per_megapixel: float = 0.15
    max_aspect_ratio: int = 200
    picture_max_pixels: int = 1_500_000
    """The picture handed to the model is made no larger than this."""
    seen_pixels: int = 256 * 32 * 32
    """What the model sees of a picture at most. Until twice as long and wide a picture is shrunk by averaging alone."""

    connect_s: float = 3.0
    first_byte_s: float = 5.0
    """Longest silence of the source, before the first byte and between two."""
    total_s: float = 20.0
    """One picture with its redirects and retries, counted from its first turn."""
    min_bytes_per_s: int = 10_000
    """A transfer slower than this after `first_byte_s` is given up."""
    queue_s: float = 60.0
    """Longest wait for a turn, or for a thread to decode."""

    num_retries: int = 2
    retry_wait_s: float = 0.25
    max_redirects: int = 3
    max_per_host: int = 4
    """Of one project; another has a turn beside them."""
    max_total: int = 32
    max_unproven: int = 24
    """Of `max_total`, how many may be hosts that never answered: dead hosts cannot take every turn."""
    max_interactive: int = 8
    """Turns beside `max_total` for what a person waits for; bulk fetches never hold them."""
    left_to_others: float = 0.25
    """Of `max_total`, `max_unproven` and `max_interactive`: what one project never holds."""
    max_url_chars: int = 8_192
    decode_threads: int = 2
    large_picture_pixels: int = 16_000_000
    """Pictures above this are decoded one at a time, which bounds the memory."""

    def most_of_one_project(self, num_turns: int) -> int:
        return num_turns - int(num_turns * self.left_to_others)


@dataclass(frozen=True, slots=True)
class ImagePolicy:
    """`label_studio_url` is the only place the API key goes to; empty: no Label Studio sources. What stands under
    `label_studio_public_url`, or under what `label_studio` is told later, is fetched from there, too.

    `allowed_networks`: networks beside the public internet that pictures may come from, on any port.
    `local_files_root`: the folder `/data/local-files/?d=` reads; None: through Label Studio.
    `picture_headers`: the JSON of PRELABEL_PICTURE_HEADERS.
    `proxy_url`: the way to the public internet; empty: straight.
    `extra_ca_file`: a PEM file of certificate authorities to trust beside the usual ones.
    """

    label_studio_url: str = ""
    label_studio_public_url: str = ""
    api_key: str = field(default="", repr=False)
    local_files_root: Path | None = None
    allowed_networks: tuple[Network, ...] = ()
    picture_headers: str = field(default="", repr=False)
    proxy_url: str = field(default="", repr=False)
    extra_ca_file: Path | None = None
    limits: Limits = Limits()
    label_studio: LabelStudioAddresses = field(init=False, compare=False)
    host_headers: HostHeaders = field(init=False, compare=False, repr=False)
    proxy: Proxy | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        try:
            addresses = LabelStudioAddresses(self.label_studio_url, self.label_studio_public_url)
        except ImageError as error:
            raise SettingsError(f"LABEL_STUDIO_URL cannot be used: {error}") from None
        object.__setattr__(self, "label_studio", addresses)
        object.__setattr__(self, "host_headers", read_host_headers(self.picture_headers, addresses.origins))
        object.__setattr__(self, "proxy", read_proxy(self.proxy_url))
        if any(c.isspace() or not c.isprintable() or not c.isascii() for c in self.api_key):
            raise SettingsError("LABEL_STUDIO_API_KEY holds a space, line break or non-ASCII character: paste it again")
        root = self.local_files_root
        if root is None:
            return
        if not root.is_dir():
            raise SettingsError(f"PRELABEL_LOCAL_FILES_ROOT={root} is not a folder")
        if root.resolve() == Path("/"):
            raise SettingsError("PRELABEL_LOCAL_FILES_ROOT=/ would make every file readable; name the pictures' folder")
