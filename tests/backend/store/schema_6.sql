-- Schema 6 as it was released, with a few rows. Never edited: later versions must be able to open it.
PRAGMA application_id = 1347570754;
PRAGMA user_version = 6;
BEGIN;
CREATE TABLE recipe (
        fingerprint TEXT PRIMARY KEY,
        project TEXT NOT NULL,
        label_config TEXT NOT NULL,
        options TEXT NOT NULL,
        saved_at REAL NOT NULL
    ) STRICT;
CREATE TABLE answer (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        content TEXT NOT NULL,
        saved_at REAL NOT NULL
    ) STRICT;
CREATE TABLE project (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        turn INTEGER NOT NULL DEFAULT 0,
        first_accepted_at REAL NOT NULL,
        last_accepted_at REAL NOT NULL,
        last_finished_at REAL,
        last_delivered_at REAL,
        num_pruned INTEGER NOT NULL DEFAULT 0
    , model_version TEXT NOT NULL DEFAULT '', recipe TEXT NOT NULL DEFAULT '', present_since REAL NOT NULL DEFAULT 0, audit_share REAL NOT NULL DEFAULT 0) STRICT;
CREATE TABLE tally (
        project_id INTEGER NOT NULL REFERENCES project (id),
        model_version TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        needs_review INTEGER NOT NULL,
        num INTEGER NOT NULL,
        PRIMARY KEY (project_id, model_version, state, reason, needs_review)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE people (
        id INTEGER PRIMARY KEY,
        project TEXT NOT NULL UNIQUE,
        since REAL NOT NULL DEFAULT 0,
        until REAL NOT NULL DEFAULT 0,
        after_task INTEGER NOT NULL DEFAULT 0,
        num_tasks INTEGER NOT NULL DEFAULT 0,
        ended_at REAL NOT NULL DEFAULT 0
    ) STRICT;
CREATE TABLE labelled (
        people_id INTEGER NOT NULL REFERENCES people (id),
        task_id INTEGER NOT NULL,
        changed_at REAL NOT NULL,
        num_submitted INTEGER NOT NULL,
        num_skipped INTEGER NOT NULL,
        content TEXT NOT NULL,
        UNIQUE (people_id, task_id)
    ) STRICT;
CREATE TABLE audit_key (key BLOB NOT NULL) STRICT;
CREATE TABLE audited (
        project TEXT NOT NULL,
        task_id INTEGER NOT NULL,
        PRIMARY KEY (project, task_id)
    ) STRICT, WITHOUT ROWID;
CREATE TABLE work (
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
    ) STRICT;
INSERT INTO recipe (fingerprint, project, label_config, options, saved_at) VALUES ('r1', '12.17', '<View/>', '{}', 1.0);
INSERT INTO answer (id, key, content, saved_at) VALUES (1, 'k1', '{"result": []}', 3.0);
INSERT INTO project (id, name, turn, first_accepted_at, last_accepted_at, last_finished_at, last_delivered_at, num_pruned, model_version, recipe, present_since, audit_share) VALUES (1, '12.17', 2, 1.0, 1.0, 3.0, NULL, 0, 'v1', 'r1', 0.0, 0.0);
INSERT INTO tally (project_id, model_version, state, reason, needs_review, num) VALUES (1, 'v1', 'done', '', 1, 1);
INSERT INTO tally (project_id, model_version, state, reason, needs_review, num) VALUES (1, 'v1', 'failed', 'image_timeout', 0, 1);
INSERT INTO tally (project_id, model_version, state, reason, needs_review, num) VALUES (1, 'v1', 'queued', '', 0, 1);
INSERT INTO audit_key (key) VALUES (X'000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F');
INSERT INTO work (id, project_id, task_id, model_version, recipe, image_url, image_hash, state, reason, message, attempts, interactive, answer_id, score, needs_review, reply_until, open_replies, check_at, next_try_at, push_until, push_attempts, told_at, audit, finished_at, updated_at) VALUES (1, 1, 1, 'v1', 'r1', 'https://pictures/1', '02ba0a068b52706b', 'done', '', '', 1, 0, 1, 0.5, 1, 45.0, 1, 0.0, 0.0, 0.0, 0, 0.0, 0, 3.0, 3.0);
INSERT INTO work (id, project_id, task_id, model_version, recipe, image_url, image_hash, state, reason, message, attempts, interactive, answer_id, score, needs_review, reply_until, open_replies, check_at, next_try_at, push_until, push_attempts, told_at, audit, finished_at, updated_at) VALUES (2, 1, 2, 'v1', 'r1', 'https://pictures/2', '205dfd956fa7b1ea', 'failed', 'image_timeout', 'slow', 1, 0, NULL, NULL, 0, 45.0, 1, 0.0, 0.0, 0.0, 0, 0.0, 0, 3.0, 3.0);
INSERT INTO work (id, project_id, task_id, model_version, recipe, image_url, image_hash, state, reason, message, attempts, interactive, answer_id, score, needs_review, reply_until, open_replies, check_at, next_try_at, push_until, push_attempts, told_at, audit, finished_at, updated_at) VALUES (3, 1, 3, 'v1', 'r1', 'https://pictures/3', 'b1b3fbc688563120', 'queued', '', '', 0, 0, NULL, NULL, 0, 45.0, 1, 0.0, 0.0, 0.0, 0, 0.0, 0, NULL, 1.0);
CREATE INDEX answer_age ON answer (saved_at);
CREATE INDEX work_recipe ON work (recipe);
CREATE INDEX work_answer ON work (answer_id) WHERE answer_id IS NOT NULL;
CREATE INDEX work_queue ON work (project_id, interactive, attempts, id) WHERE state = 'queued';
CREATE INDEX work_waited_for ON work (id) WHERE state = 'queued' AND interactive = 1 AND attempts = 0;
CREATE INDEX work_suspect ON work (interactive DESC, attempts, id) WHERE state = 'queued' AND attempts > 0;
CREATE INDEX work_running ON work (id) WHERE state = 'running';
CREATE INDEX work_due ON work (project_id, due_at, id) WHERE state IN ('done', 'returned');
CREATE INDEX work_audited ON work (project_id, task_id) WHERE audit = 1;
CREATE INDEX work_failed ON work (project_id, id) WHERE state = 'failed';
CREATE INDEX work_over ON work (updated_at) WHERE state IN ('returned', 'delivered', 'failed', 'cancelled');
CREATE INDEX work_finished ON work (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX work_unsettled ON work (project_id, model_version)
        WHERE state IN ('queued', 'running', 'done', 'withheld', 'failed');
CREATE TRIGGER tally_new AFTER INSERT ON work BEGIN
        INSERT INTO tally VALUES (NEW.project_id, NEW.model_version, NEW.state, NEW.reason, NEW.needs_review, 1)
            ON CONFLICT DO UPDATE SET num = num + 1;
    END;
CREATE TRIGGER tally_change AFTER UPDATE OF state, reason, needs_review ON work
    WHEN OLD.state <> NEW.state OR OLD.reason <> NEW.reason OR OLD.needs_review <> NEW.needs_review BEGIN
        INSERT INTO tally VALUES (NEW.project_id, NEW.model_version, NEW.state, NEW.reason, NEW.needs_review, 1)
            ON CONFLICT DO UPDATE SET num = num + 1;
        UPDATE tally SET num = num - 1 WHERE project_id = OLD.project_id AND model_version = OLD.model_version
            AND state = OLD.state AND reason = OLD.reason AND needs_review = OLD.needs_review;
        DELETE FROM tally WHERE project_id = OLD.project_id AND model_version = OLD.model_version
            AND state = OLD.state AND reason = OLD.reason AND needs_review = OLD.needs_review AND num = 0;
        UPDATE project SET last_delivered_at = NEW.updated_at WHERE id = NEW.project_id AND NEW.state = 'delivered';
    END;
CREATE TRIGGER tally_gone AFTER DELETE ON work BEGIN
        UPDATE tally SET num = num - 1 WHERE project_id = OLD.project_id AND model_version = OLD.model_version
            AND state = OLD.state AND reason = OLD.reason AND needs_review = OLD.needs_review;
        DELETE FROM tally WHERE project_id = OLD.project_id AND model_version = OLD.model_version
            AND state = OLD.state AND reason = OLD.reason AND needs_review = OLD.needs_review AND num = 0;
        UPDATE project SET num_pruned = num_pruned + 1 WHERE id = OLD.project_id AND OLD.state = 'delivered'
            AND model_version IN ('', OLD.model_version);
    END;
CREATE TRIGGER project_finished AFTER UPDATE OF finished_at ON work WHEN NEW.finished_at IS NOT NULL BEGIN
        UPDATE project SET last_finished_at = NEW.finished_at WHERE id = NEW.project_id;
    END;
COMMIT;
