"""The schema, as numbered migrations. `PRAGMA user_version` says how many have been applied.

A migration that was released is never edited: what comes next is a new entry. Each runs in one transaction together
with its number, so a crash leaves a schema that is whole. Raises StoreUnusable for a file that is newer or not ours.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence

from backend.errors import StoreUnusable
from backend.store import faults

log = logging.getLogger(__name__)

APPLICATION_ID = 0x50524C42  # "PRLB"

_SCHEMA_1 = (
    """CREATE TABLE recipe (
        fingerprint TEXT PRIMARY KEY,
        project TEXT NOT NULL,
        label_config TEXT NOT NULL,
        options TEXT NOT NULL,
        saved_at REAL NOT NULL
    ) STRICT""",
    """CREATE TABLE answer (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        content TEXT NOT NULL,
        saved_at REAL NOT NULL
    ) STRICT""",
    "CREATE INDEX answer_age ON answer (saved_at)",
    # turn: a counter, raised for a project each time bulk work is claimed from it; the lowest is next
    """CREATE TABLE project (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        turn INTEGER NOT NULL DEFAULT 0,
        first_accepted_at REAL NOT NULL,
        last_accepted_at REAL NOT NULL,
        last_finished_at REAL,
        last_delivered_at REAL,
        num_pruned INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    # reply_until: an open request may still return it; open_replies: how many such requests there are
    # told_at: when Label Studio was last told, by a reply or a push; push_until: above 0, a push of unknown end
    """CREATE TABLE work (
        id INTEGER PRIMARY KEY,
        project_id INTEGER NOT NULL REFERENCES project (id),
        task_id INTEGER NOT NULL,
        model_version TEXT NOT NULL,
        recipe TEXT NOT NULL REFERENCES recipe (fingerprint),
        image_url TEXT,
        state TEXT NOT NULL DEFAULT 'queued' CHECK
            (state IN ('queued', 'running', 'done', 'returned', 'delivered', 'failed', 'cancelled')),
        reason TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '',
        attempts INTEGER NOT NULL DEFAULT 0,
        interactive INTEGER NOT NULL,
        answer_id INTEGER REFERENCES answer (id),
        score REAL,
        needs_review INTEGER NOT NULL DEFAULT 0,
        reply_until REAL NOT NULL,
        open_replies INTEGER NOT NULL,
        check_at REAL NOT NULL DEFAULT 0,
        next_try_at REAL NOT NULL DEFAULT 0,
        push_until REAL NOT NULL DEFAULT 0,
        push_attempts INTEGER NOT NULL DEFAULT 0,
        told_at REAL NOT NULL DEFAULT 0,
        due_at REAL NOT NULL GENERATED ALWAYS AS (max(reply_until, check_at, next_try_at, push_until)) VIRTUAL,
        finished_at REAL,
        updated_at REAL NOT NULL,
        UNIQUE (project_id, task_id, model_version),
        CHECK (answer_id IS NOT NULL OR state NOT IN ('done', 'returned', 'delivered'))
    ) STRICT""",
    "CREATE INDEX work_recipe ON work (recipe)",
    "CREATE INDEX work_answer ON work (answer_id) WHERE answer_id IS NOT NULL",
    "CREATE INDEX work_queue ON work (project_id, interactive, attempts, id) WHERE state = 'queued'",
    "CREATE INDEX work_waited_for ON work (id) WHERE state = 'queued' AND interactive = 1 AND attempts = 0",
    "CREATE INDEX work_suspect ON work (id) WHERE state = 'queued' AND attempts > 0",
    "CREATE INDEX work_running ON work (id) WHERE state = 'running'",
    "CREATE INDEX work_due ON work (project_id, due_at, id) WHERE state IN ('done', 'returned')",
    "CREATE INDEX work_failed ON work (project_id, id) WHERE state = 'failed'",
    "CREATE INDEX work_over ON work (updated_at) WHERE state IN ('delivered', 'failed', 'cancelled')",
    "CREATE INDEX work_finished ON work (finished_at) WHERE finished_at IS NOT NULL",
    """CREATE TABLE tally (
        project_id INTEGER NOT NULL REFERENCES project (id),
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        needs_review INTEGER NOT NULL,
        num INTEGER NOT NULL,
        PRIMARY KEY (project_id, state, reason, needs_review)
    ) STRICT, WITHOUT ROWID""",
    # Triggers keep the tally, so that no statement can forget to.
    """CREATE TRIGGER tally_new AFTER INSERT ON work BEGIN
        INSERT INTO tally VALUES (NEW.project_id, NEW.state, NEW.reason, NEW.needs_review, 1)
            ON CONFLICT DO UPDATE SET num = num + 1;
    END""",
    """CREATE TRIGGER tally_change AFTER UPDATE OF state, reason, needs_review ON work
    WHEN OLD.state <> NEW.state OR OLD.reason <> NEW.reason OR OLD.needs_review <> NEW.needs_review BEGIN
        INSERT INTO tally VALUES (NEW.project_id, NEW.state, NEW.reason, NEW.needs_review, 1)
            ON CONFLICT DO UPDATE SET num = num + 1;
        UPDATE tally SET num = num - 1 WHERE project_id = OLD.project_id AND state = OLD.state
            AND reason = OLD.reason AND needs_review = OLD.needs_review;
        DELETE FROM tally WHERE project_id = OLD.project_id AND state = OLD.state
            AND reason = OLD.reason AND needs_review = OLD.needs_review AND num = 0;
        UPDATE project SET last_delivered_at = NEW.updated_at WHERE id = NEW.project_id AND NEW.state = 'delivered';
    END""",
    """CREATE TRIGGER tally_gone AFTER DELETE ON work BEGIN
        UPDATE tally SET num = num - 1 WHERE project_id = OLD.project_id AND state = OLD.state
            AND reason = OLD.reason AND needs_review = OLD.needs_review;
        DELETE FROM tally WHERE project_id = OLD.project_id AND state = OLD.state
            AND reason = OLD.reason AND needs_review = OLD.needs_review AND num = 0;
        UPDATE project SET num_pruned = num_pruned + 1 WHERE id = OLD.project_id AND OLD.state = 'delivered';
    END""",
    """CREATE TRIGGER project_finished AFTER UPDATE OF finished_at ON work WHEN NEW.finished_at IS NOT NULL BEGIN
        UPDATE project SET last_finished_at = NEW.finished_at WHERE id = NEW.project_id;
    END""",
)

# image_hash: of the text of the picture's address, which itself is forgotten; '' in rows of schema 1: not known
_SCHEMA_2 = (
    "ALTER TABLE work ADD COLUMN image_hash TEXT NOT NULL DEFAULT ''",
    "DROP INDEX work_suspect",
    "CREATE INDEX work_suspect ON work (interactive DESC, attempts, id) WHERE state = 'queued' AND attempts > 0",
    "DROP INDEX work_over",
    "CREATE INDEX work_over ON work (updated_at) WHERE state IN ('returned', 'delivered', 'failed', 'cancelled')",
)

# The tables stay. Answers are written in another form from here on (`backend.predict.answered`, which reads the earlier
# one too): the number keeps versions that cannot read it away from the file, beside a server as well.
_SCHEMA_3 = ()

# Of a project, `model_version` and `recipe` are the present ones: those last asked for ('': never, or no project was
# named). The tally is kept by version, so that what was answered under another can be left out.
_SCHEMA_4 = (
    "ALTER TABLE project ADD COLUMN model_version TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE project ADD COLUMN recipe TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE project ADD COLUMN present_since REAL NOT NULL DEFAULT 0",
    """UPDATE project SET (model_version, recipe) = (SELECT model_version, recipe FROM work
        WHERE project_id = project.id ORDER BY id DESC LIMIT 1)
        WHERE name <> '' AND EXISTS (SELECT 1 FROM work WHERE project_id = project.id)""",
    # what is to be answered under the present version instead
    """CREATE INDEX work_unsettled ON work (project_id, model_version)
        WHERE state IN ('queued', 'running', 'done', 'failed')""",
    "DROP TRIGGER tally_new",
    "DROP TRIGGER tally_change",
    "DROP TRIGGER tally_gone",
    "DROP TABLE tally",
    """CREATE TABLE tally (
        project_id INTEGER NOT NULL REFERENCES project (id),
        model_version TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        needs_review INTEGER NOT NULL,
        num INTEGER NOT NULL,
        PRIMARY KEY (project_id, model_version, state, reason, needs_review)
    ) STRICT, WITHOUT ROWID""",
    """INSERT INTO tally SELECT project_id, model_version, state, reason, needs_review, count(*) FROM work
        GROUP BY project_id, model_version, state, reason, needs_review""",
    """CREATE TRIGGER tally_new AFTER INSERT ON work BEGIN
        INSERT INTO tally VALUES (NEW.project_id, NEW.model_version, NEW.state, NEW.reason, NEW.needs_review, 1)
            ON CONFLICT DO UPDATE SET num = num + 1;
    END""",
    """CREATE TRIGGER tally_change AFTER UPDATE OF state, reason, needs_review ON work
    WHEN OLD.state <> NEW.state OR OLD.reason <> NEW.reason OR OLD.needs_review <> NEW.needs_review BEGIN
        INSERT INTO tally VALUES (NEW.project_id, NEW.model_version, NEW.state, NEW.reason, NEW.needs_review, 1)
            ON CONFLICT DO UPDATE SET num = num + 1;
        UPDATE tally SET num = num - 1 WHERE project_id = OLD.project_id AND model_version = OLD.model_version
            AND state = OLD.state AND reason = OLD.reason AND needs_review = OLD.needs_review;
        DELETE FROM tally WHERE project_id = OLD.project_id AND model_version = OLD.model_version
            AND state = OLD.state AND reason = OLD.reason AND needs_review = OLD.needs_review AND num = 0;
        UPDATE project SET last_delivered_at = NEW.updated_at WHERE id = NEW.project_id AND NEW.state = 'delivered';
    END""",
    """CREATE TRIGGER tally_gone AFTER DELETE ON work BEGIN
        UPDATE tally SET num = num - 1 WHERE project_id = OLD.project_id AND model_version = OLD.model_version
            AND state = OLD.state AND reason = OLD.reason AND needs_review = OLD.needs_review;
        DELETE FROM tally WHERE project_id = OLD.project_id AND model_version = OLD.model_version
            AND state = OLD.state AND reason = OLD.reason AND needs_review = OLD.needs_review AND num = 0;
        UPDATE project SET num_pruned = num_pruned + 1 WHERE id = OLD.project_id AND OLD.state = 'delivered'
            AND model_version IN ('', OLD.model_version);
    END""",
)

# What people did in Label Studio, by project as Label Studio names it to backends: of its own, because the rows of
# `project` and `work` are forgotten when they are old. See `people`.
_SCHEMA_5 = (
    """CREATE TABLE people (
        id INTEGER PRIMARY KEY,
        project TEXT NOT NULL UNIQUE,
        since REAL NOT NULL DEFAULT 0,
        until REAL NOT NULL DEFAULT 0,
        after_task INTEGER NOT NULL DEFAULT 0,
        num_tasks INTEGER NOT NULL DEFAULT 0,
        ended_at REAL NOT NULL DEFAULT 0
    ) STRICT""",
    """CREATE TABLE labelled (
        people_id INTEGER NOT NULL REFERENCES people (id),
        task_id INTEGER NOT NULL,
        changed_at REAL NOT NULL,
        num_submitted INTEGER NOT NULL,
        num_skipped INTEGER NOT NULL,
        content TEXT NOT NULL,
        UNIQUE (people_id, task_id)
    ) STRICT""",
)

# The blind audit: `audit` is what `backend.store.audit` decided of a task, and 'withheld' is a state. SQLite cannot
# change a CHECK, so the table is made anew, with its indexes and triggers; the tally stays, as its counts do.
_WORK_6 = """id, project_id, task_id, model_version, recipe, image_url, image_hash, state, reason, message, attempts,
    interactive, answer_id, score, needs_review, reply_until, open_replies, check_at, next_try_at, push_until,
    push_attempts, told_at, finished_at, updated_at"""
_SCHEMA_6 = (
    "CREATE TABLE audit_key (key BLOB NOT NULL) STRICT",
    "INSERT INTO audit_key VALUES (randomblob(32))",
    """CREATE TABLE audited (
        project TEXT NOT NULL,
        task_id INTEGER NOT NULL,
        PRIMARY KEY (project, task_id)
    ) STRICT, WITHOUT ROWID""",
    "ALTER TABLE project ADD COLUMN audit_share REAL NOT NULL DEFAULT 0",
    """CREATE TABLE work_6 (
        id INTEGER PRIMARY KEY,
        project_id INTEGER NOT NULL REFERENCES project (id),
        task_id INTEGER NOT NULL,
        model_version TEXT NOT NULL,
        recipe TEXT NOT NULL REFERENCES recipe (fingerprint),
        image_url TEXT,
        image_hash TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'queued' CHECK
            (state IN ('queued', 'running', 'done', 'withheld', 'returned', 'delivered', 'failed', 'cancelled')),
        reason TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '',
        attempts INTEGER NOT NULL DEFAULT 0,
        interactive INTEGER NOT NULL,
        answer_id INTEGER REFERENCES answer (id),
        score REAL,
        needs_review INTEGER NOT NULL DEFAULT 0,
        reply_until REAL NOT NULL,
        open_replies INTEGER NOT NULL,
        check_at REAL NOT NULL DEFAULT 0,
        next_try_at REAL NOT NULL DEFAULT 0,
        push_until REAL NOT NULL DEFAULT 0,
        push_attempts INTEGER NOT NULL DEFAULT 0,
        told_at REAL NOT NULL DEFAULT 0,
        audit INTEGER NOT NULL DEFAULT 0,
        due_at REAL NOT NULL GENERATED ALWAYS AS (max(reply_until, check_at, next_try_at, push_until)) VIRTUAL,
        finished_at REAL,
        updated_at REAL NOT NULL,
        UNIQUE (project_id, task_id, model_version),
        CHECK (answer_id IS NOT NULL OR state NOT IN ('done', 'withheld', 'returned', 'delivered'))
    ) STRICT""",
    f"INSERT INTO work_6 ({_WORK_6}) SELECT {_WORK_6} FROM work",  # noqa: S608 - constants
    "DROP TABLE work",
    "ALTER TABLE work_6 RENAME TO work",
    "CREATE INDEX work_recipe ON work (recipe)",
    "CREATE INDEX work_answer ON work (answer_id) WHERE answer_id IS NOT NULL",
    "CREATE INDEX work_queue ON work (project_id, interactive, attempts, id) WHERE state = 'queued'",
    "CREATE INDEX work_waited_for ON work (id) WHERE state = 'queued' AND interactive = 1 AND attempts = 0",
    "CREATE INDEX work_suspect ON work (interactive DESC, attempts, id) WHERE state = 'queued' AND attempts > 0",
    "CREATE INDEX work_running ON work (id) WHERE state = 'running'",
    "CREATE INDEX work_due ON work (project_id, due_at, id) WHERE state IN ('done', 'returned')",
    "CREATE INDEX work_audited ON work (project_id, task_id) WHERE audit = 1",
    "CREATE INDEX work_failed ON work (project_id, id) WHERE state = 'failed'",
    "CREATE INDEX work_over ON work (updated_at) WHERE state IN ('returned', 'delivered', 'failed', 'cancelled')",
    "CREATE INDEX work_finished ON work (finished_at) WHERE finished_at IS NOT NULL",
    """CREATE INDEX work_unsettled ON work (project_id, model_version)
        WHERE state IN ('queued', 'running', 'done', 'withheld', 'failed')""",
    *(statement for statement in _SCHEMA_4 if statement.startswith("CREATE TRIGGER")),
    next(statement for statement in _SCHEMA_1 if statement.startswith("CREATE TRIGGER project_finished")),
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _SCHEMA_1, _SCHEMA_2, _SCHEMA_3, _SCHEMA_4, _SCHEMA_5, _SCHEMA_6,
)  # fmt: skip


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the schema up to date, each step in its own transaction. Raises StoreUnusable and sqlite3.Error."""
    while True:
        connection.execute("BEGIN IMMEDIATE")  # two processes may start at once: the number is read under the lock
        try:
            version = _version(connection, len(migrations))
            if 0 < version < len(migrations):
                log.info("the store is brought to schema %d, which takes its time with many tasks", version + 1)
            for statement in migrations[version] if version < len(migrations) else ():
                connection.execute(statement)
            if version < len(migrations):
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
            faults.hit("before_migrated")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        faults.hit("after_migrated")
        if version >= len(migrations):
            return


def is_current(connection: sqlite3.Connection) -> bool:
    """Whether the schema is that of this version, with nothing to do. Raises sqlite3.Error and StoreUnusable."""
    return _version(connection, len(MIGRATIONS)) == len(MIGRATIONS)


def _version(connection: sqlite3.Connection, num_known: int) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    num_tables = int(connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0])
    if owner != APPLICATION_ID and (version or owner or num_tables):
        raise StoreUnusable("it is another program's database. Choose another PRELABEL_DATA_DIR, or move it away")
    if version > num_known:
        raise StoreUnusable(
            f"it was written by a newer prelabel (schema {version}; this one knows {num_known}). "
            "Install that version again, or choose another PRELABEL_DATA_DIR"
        )
    return version
