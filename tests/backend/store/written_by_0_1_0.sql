-- A store as prelabel 0.1.0 wrote it (schema 2): three answers that replies held, one of them doubtful, one that no reply
-- held, a failure, and work that waits. Never edited: its answers and its work must be used by every later version.
PRAGMA application_id = 1347570754;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE answer (
        id INTEGER PRIMARY KEY,
        key TEXT NOT NULL UNIQUE,
        content TEXT NOT NULL,
        saved_at REAL NOT NULL
    ) STRICT;
INSERT INTO "answer" VALUES(1,'d3507d4f46a8f0399008026604a15bf5d5f4c87d4e348ceba19fa2bbfbee4eda:garments-nf4-1ab634735db5','{"model_version": "garments-nf4-1ab634735db5", "score": 0.9694605362958227, "result": [{"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": ["一位年轻女性身穿白色长款连衣裙，手持米色折叠遮阳伞，面朝大海站立，整体氛围清新自然，适合夏季女装推广。"]}}, {"from_name": "category", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [["服饰", "女装", "连衣裙"]]}, "score": 0.9694605362958227}, {"from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": ["winter"]}, "score": 0.9920279440699441}], "needs_review": false}',1.7960169018322894573e+09);
INSERT INTO "answer" VALUES(2,'7d07233a5f1a8aac4e433252ef6cea976072f5175d4bc2bf22ce8f61cc6aa938:garments-nf4-1ab634735db5','{"model_version": "garments-nf4-1ab634735db5", "score": 0.9694605362958227, "result": [{"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": ["一位年轻女性身穿白色长款连衣裙，手持米色折叠遮阳伞，面朝大海站立，整体氛围清新自然，适合夏季女装推广。"]}}, {"from_name": "category", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [["服饰", "女装", "连衣裙"]]}, "score": 0.9694605362958227}, {"from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": ["winter"]}, "score": 0.9920279440699441}], "needs_review": false}',1.79601690183236885074e+09);
INSERT INTO "answer" VALUES(3,'2ae534631cb7a814f5f72d6f1e400f31e71cff268dcc2663bcd0875fbc60ae49:garments-nf4-1ab634735db5','{"model_version": "garments-nf4-1ab634735db5", "score": 0.9694605362958227, "result": [{"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": ["看不清"]}}, {"from_name": "category", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [["服饰", "女装", "连衣裙"]]}, "score": 0.9694605362958227}], "needs_review": true, "findings": [["uncertain_words", "caption", "caption：描述中出现“看不清”", "caption says \"看不清\""], ["too_short", "caption", "caption：描述只有 3 字，少于 30 字", "caption has 3 characters, fewer than 30"]], "no_region": {"season": 0.996005996001}}',1.79601690183349967004e+09);
INSERT INTO "answer" VALUES(4,'2bd4420e4a63f1da5124e2e27ef59dec28a504df10ab3b28ccc45edefc6ca7dd:garments-nf4-1ab634735db5','{"model_version": "garments-nf4-1ab634735db5", "score": 0.9694605362958227, "result": [{"from_name": "caption", "to_name": "image", "type": "textarea", "value": {"text": ["一位年轻女性身穿白色长款连衣裙，手持米色折叠遮阳伞，面朝大海站立，整体氛围清新自然，适合夏季女装推广。"]}}, {"from_name": "category", "to_name": "image", "type": "taxonomy", "value": {"taxonomy": [["服饰", "女装", "连衣裙"]]}, "score": 0.9694605362958227}, {"from_name": "season", "to_name": "image", "type": "choices", "value": {"choices": ["winter"]}, "score": 0.9920279440699441}], "needs_review": false}',1.79601690486252164834e+09);
CREATE TABLE project (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        turn INTEGER NOT NULL DEFAULT 0,
        first_accepted_at REAL NOT NULL,
        last_accepted_at REAL NOT NULL,
        last_finished_at REAL,
        last_delivered_at REAL,
        num_pruned INTEGER NOT NULL DEFAULT 0
    ) STRICT;
INSERT INTO "project" VALUES(1,'12.1700000000',6,1.79601690181520056723e+09,1.79601690185722017291e+09,1.79601690486252164834e+09,NULL,0);
CREATE TABLE recipe (
        fingerprint TEXT PRIMARY KEY,
        project TEXT NOT NULL,
        label_config TEXT NOT NULL,
        options TEXT NOT NULL,
        saved_at REAL NOT NULL
    ) STRICT;
INSERT INTO "recipe" VALUES('0c6870edad0e','12.1700000000','<View>
  <Image name="image" value="$image"/>
  <TextArea name="caption" toName="image"/>
  <Taxonomy name="category" toName="image">
    <Choice value="服饰"><Choice value="女装"><Choice value="连衣裙"/></Choice></Choice>
  </Taxonomy>
  <Choices name="season" toName="image"><Choice value="夏季"/><Choice value="冬季" alias="winter"/></Choices>
</View>','{"language":"zh","extra_instructions":"","caption_min_length":80,"caption_max_length":120,"temperature":0.4,"top_p":0.9,"max_new_tokens":512,"review_threshold":0.5}',1.79601690185722017291e+09);
CREATE TABLE tally (
        project_id INTEGER NOT NULL REFERENCES project (id),
        state TEXT NOT NULL,
        reason TEXT NOT NULL,
        needs_review INTEGER NOT NULL,
        num INTEGER NOT NULL,
        PRIMARY KEY (project_id, state, reason, needs_review)
    ) STRICT, WITHOUT ROWID;
INSERT INTO "tally" VALUES(1,'done','',0,1);
INSERT INTO "tally" VALUES(1,'failed','image_not_found',0,1);
INSERT INTO "tally" VALUES(1,'queued','',0,1);
INSERT INTO "tally" VALUES(1,'returned','',0,2);
INSERT INTO "tally" VALUES(1,'returned','',1,1);
CREATE TABLE work (
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
        updated_at REAL NOT NULL, image_hash TEXT NOT NULL DEFAULT '',
        UNIQUE (project_id, task_id, model_version),
        CHECK (answer_id IS NOT NULL OR state NOT IN ('done', 'returned', 'delivered'))
    ) STRICT;
INSERT INTO "work" VALUES(1,1,1,'garments-nf4-1ab634735db5','0c6870edad0e','https://shop.example/1.jpg','returned','','',1,0,1,9.69460536295822739027e-01,0,1.79601690185369014737e+09,0,1.79601702275003647802e+09,0.0,0.0,0,1.79601690245003628738e+09,1.7960169018322894573e+09,1.79601690185003638267e+09,'d3507d4f46a8f039');
INSERT INTO "work" VALUES(2,1,2,'garments-nf4-1ab634735db5','0c6870edad0e','https://shop.example/2.jpg','returned','','',1,0,2,9.69460536295822739027e-01,0,1.79601690185369014737e+09,0,1.79601702275003647802e+09,0.0,0.0,0,1.79601690245003628738e+09,1.79601690183236885074e+09,1.79601690185003638267e+09,'7d07233a5f1a8aac');
INSERT INTO "work" VALUES(3,1,3,'garments-nf4-1ab634735db5','0c6870edad0e','https://shop.example/missing.jpg','failed','image_not_found','The picture is not there (HTTP 404).',1,0,NULL,NULL,0,1.79601690185369014737e+09,0,0.0,0.0,0.0,0,0.0,1.79601690183007669447e+09,1.79601690183007669447e+09,'b3722a002ab5f6d1');
INSERT INTO "work" VALUES(4,1,4,'garments-nf4-1ab634735db5','0c6870edad0e','https://shop.example/4.jpg','returned','','',1,0,3,9.69460536295822739027e-01,1,1.79601690185369014737e+09,0,1.79601702275003647802e+09,0.0,0.0,0,1.79601690245003628738e+09,1.79601690183349967004e+09,1.79601690185003638267e+09,'2ae534631cb7a814');
INSERT INTO "work" VALUES(5,1,5,'garments-nf4-1ab634735db5','0c6870edad0e','https://shop.example/5.jpg','done','','',1,0,4,9.69460536295822739027e-01,0,1.79601690485629177096e+09,0,0.0,0.0,0.0,0,0.0,1.79601690486252164834e+09,1.79601690486252164834e+09,'2bd4420e4a63f1da');
INSERT INTO "work" VALUES(6,1,6,'garments-nf4-1ab634735db5','0c6870edad0e','https://shop.example/6.jpg','queued','','',0,0,NULL,NULL,0,1.79601690485629177096e+09,0,0.0,0.0,0.0,0,0.0,NULL,1.79601690782182502742e+09,'8579787e402c6fa5');
CREATE INDEX answer_age ON answer (saved_at);
CREATE INDEX work_recipe ON work (recipe);
CREATE INDEX work_answer ON work (answer_id) WHERE answer_id IS NOT NULL;
CREATE INDEX work_queue ON work (project_id, interactive, attempts, id) WHERE state = 'queued';
CREATE INDEX work_waited_for ON work (id) WHERE state = 'queued' AND interactive = 1 AND attempts = 0;
CREATE INDEX work_running ON work (id) WHERE state = 'running';
CREATE INDEX work_due ON work (project_id, due_at, id) WHERE state IN ('done', 'returned');
CREATE INDEX work_failed ON work (project_id, id) WHERE state = 'failed';
CREATE INDEX work_finished ON work (finished_at) WHERE finished_at IS NOT NULL;
CREATE TRIGGER tally_new AFTER INSERT ON work BEGIN
        INSERT INTO tally VALUES (NEW.project_id, NEW.state, NEW.reason, NEW.needs_review, 1)
            ON CONFLICT DO UPDATE SET num = num + 1;
    END;
CREATE TRIGGER tally_change AFTER UPDATE OF state, reason, needs_review ON work
    WHEN OLD.state <> NEW.state OR OLD.reason <> NEW.reason OR OLD.needs_review <> NEW.needs_review BEGIN
        INSERT INTO tally VALUES (NEW.project_id, NEW.state, NEW.reason, NEW.needs_review, 1)
            ON CONFLICT DO UPDATE SET num = num + 1;
        UPDATE tally SET num = num - 1 WHERE project_id = OLD.project_id AND state = OLD.state
            AND reason = OLD.reason AND needs_review = OLD.needs_review;
        DELETE FROM tally WHERE project_id = OLD.project_id AND state = OLD.state
            AND reason = OLD.reason AND needs_review = OLD.needs_review AND num = 0;
        UPDATE project SET last_delivered_at = NEW.updated_at WHERE id = NEW.project_id AND NEW.state = 'delivered';
    END;
CREATE TRIGGER tally_gone AFTER DELETE ON work BEGIN
        UPDATE tally SET num = num - 1 WHERE project_id = OLD.project_id AND state = OLD.state
            AND reason = OLD.reason AND needs_review = OLD.needs_review;
        DELETE FROM tally WHERE project_id = OLD.project_id AND state = OLD.state
            AND reason = OLD.reason AND needs_review = OLD.needs_review AND num = 0;
        UPDATE project SET num_pruned = num_pruned + 1 WHERE id = OLD.project_id AND OLD.state = 'delivered';
    END;
CREATE TRIGGER project_finished AFTER UPDATE OF finished_at ON work WHEN NEW.finished_at IS NOT NULL BEGIN
        UPDATE project SET last_finished_at = NEW.finished_at WHERE id = NEW.project_id;
    END;
CREATE INDEX work_suspect ON work (interactive DESC, attempts, id) WHERE state = 'queued' AND attempts > 0;
CREATE INDEX work_over ON work (updated_at) WHERE state IN ('returned', 'delivered', 'failed', 'cancelled');
COMMIT;
