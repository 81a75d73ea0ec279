"""Label Studio's address as people write it: that of a page in it, too. Resolves nothing, and nothing is raised."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

# Pages and calls of Label Studio. One word alone (/projects) may be where somebody has put Label Studio itself.
_PAGE = re.compile(
    r"(.*?)/(?:projects/\d.*|projects/|user/(?:login|signup|account|user-account)\b.*|organization/.*|api/.*|"
    r"data/upload/.*|people/.*)",
    re.DOTALL,
)


def site_of(url: str) -> str:
    """The address of the Label Studio that `url` belongs to: without the page in it, query, fragment and last slash."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    page = _PAGE.fullmatch(parts.path)
    path = page[1] if page else parts.path
    return f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"


def is_on_this_machine(url: str) -> bool:
    """Whether the host is a name or number of this machine itself; False where it is no address at all."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
