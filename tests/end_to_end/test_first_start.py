"""The database that every new Label Studio begins with, after a real one has begun with it."""

from __future__ import annotations

from backend.commands.demo.empty_database import is_empty_database, kept_for
from backend.commands.demo.local_label_studio import find_label_studio
from tests.end_to_end.site import Site


def test_nothing_of_a_label_studio_is_in_what_the_next_one_begins_with(site: Site) -> None:
    kept = kept_for(find_label_studio())
    assert kept is not None
    assert is_empty_database(kept)
    folder = site.server.data_dir / "label-studio"
    assert not is_empty_database(folder / "label_studio.sqlite3")
    [secret_key] = [line for line in (folder / ".env").read_text().splitlines() if line.startswith("SECRET_KEY=")]
    secrets = (site.server.username, site.server.api_key, secret_key.removeprefix("SECRET_KEY="))
    content = kept.read_bytes()
    assert [secret for secret in secrets if secret.encode() in content] == []
