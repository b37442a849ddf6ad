-- A ledger as schema 0001 left it: four messages in every state, one of them in flight.
PRAGMA foreign_keys = OFF;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE articles (
	id VARCHAR(64) NOT NULL, 
	title TEXT NOT NULL, 
	date VARCHAR(10), 
	publisher TEXT NOT NULL, 
	tags TEXT NOT NULL, 
	abstained VARCHAR(32), 
	model TEXT NOT NULL, 
	scored_at BIGINT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "articles" VALUES('adab061f64405ea6558579d57533b49159a4949505b01723e7d526d2db242a6d','one',NULL,'','{"sectors": [{"label": "wind", "score": 0.9, "band": "alert"}]}',NULL,'m@1',1767323045678901);
INSERT INTO "articles" VALUES('71942300abe653c8a7c500c899238b0b05181a1b389cb58d87574a1f6099bb07','two',NULL,'','{"sectors": [{"label": "wind", "score": 0.9, "band": "alert"}]}',NULL,'m@1',1767323046678901);
INSERT INTO "articles" VALUES('717c6ffb62fd103733e4608f609addc314f4bbb76bad399b65338039ef4c594f','three',NULL,'','{"sectors": [{"label": "wind", "score": 0.9, "band": "alert"}]}',NULL,'m@1',1767323047678901);
CREATE TABLE attempts (
	id INTEGER NOT NULL, 
	message_id VARCHAR(64) NOT NULL, 
	result VARCHAR(32) NOT NULL, 
	status INTEGER, 
	detail TEXT NOT NULL, 
	tried_at BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(message_id) REFERENCES outbox (id)
);
INSERT INTO "attempts" VALUES(1,'msg_92a32f6d','delivered',204,'HTTP 204',1767323050678901);
INSERT INTO "attempts" VALUES(2,'msg_d563fdc5','refused',500,'HTTP 500',1767323051678901);
INSERT INTO "attempts" VALUES(3,'msg_2a4c3bff','refused',500,'HTTP 500',1767323052678901);
CREATE TABLE files (
	id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	size BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	ctime_ns BIGINT NOT NULL, 
	inode VARCHAR(20) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	reason VARCHAR(32), 
	detail TEXT, 
	article_id VARCHAR(64), 
	recorded_at BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT uq_files_version UNIQUE (path, size, mtime_ns, ctime_ns, inode), 
	FOREIGN KEY(article_id) REFERENCES articles (id)
);
INSERT INTO "files" VALUES(1,'a.txt',1,1,2,'3','scored',NULL,NULL,'adab061f64405ea6558579d57533b49159a4949505b01723e7d526d2db242a6d',1767323045678901);
INSERT INTO "files" VALUES(2,'b.txt',2,1,2,'3','scored',NULL,NULL,'71942300abe653c8a7c500c899238b0b05181a1b389cb58d87574a1f6099bb07',1767323046678901);
INSERT INTO "files" VALUES(3,'c.txt',3,1,2,'3','scored',NULL,NULL,'717c6ffb62fd103733e4608f609addc314f4bbb76bad399b65338039ef4c594f',1767323047678901);
INSERT INTO "files" VALUES(4,'d.txt',1,1,2,'3','rejected','binary','a PNG image',NULL,1767323048678901);
CREATE TABLE matches (
	article_id VARCHAR(64) NOT NULL, 
	rule_id VARCHAR(64) NOT NULL, 
	rule_version VARCHAR(8) NOT NULL, 
	n_messages INTEGER NOT NULL, 
	created_at BIGINT NOT NULL, 
	PRIMARY KEY (article_id, rule_id), 
	FOREIGN KEY(article_id) REFERENCES articles (id)
);
INSERT INTO "matches" VALUES('adab061f64405ea6558579d57533b49159a4949505b01723e7d526d2db242a6d','r','e55b10a5',2,1767323045678901);
INSERT INTO "matches" VALUES('71942300abe653c8a7c500c899238b0b05181a1b389cb58d87574a1f6099bb07','r','e55b10a5',1,1767323046678901);
INSERT INTO "matches" VALUES('717c6ffb62fd103733e4608f609addc314f4bbb76bad399b65338039ef4c594f','r','e55b10a5',1,1767323047678901);
CREATE TABLE outbox (
	id VARCHAR(64) NOT NULL, 
	article_id VARCHAR(64) NOT NULL, 
	rule_id VARCHAR(64) NOT NULL, 
	endpoint_id VARCHAR(64) NOT NULL, 
	body BLOB NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	attempts INTEGER NOT NULL, 
	attempts_before_retry INTEGER NOT NULL, 
	due_at BIGINT, 
	token VARCHAR(32), 
	last_result VARCHAR(32), 
	last_detail TEXT, 
	created_at BIGINT NOT NULL, 
	settled_at BIGINT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(article_id, rule_id) REFERENCES matches (article_id, rule_id)
);
INSERT INTO "outbox" VALUES('msg_d563fdc5','adab061f64405ea6558579d57533b49159a4949505b01723e7d526d2db242a6d','r','desk',X'6F6E65','pending',1,0,1767323345678901,NULL,'refused','HTTP 500',1767323045678901,NULL);
INSERT INTO "outbox" VALUES('msg_92a32f6d','adab061f64405ea6558579d57533b49159a4949505b01723e7d526d2db242a6d','r','wire',X'6F6E65','delivered',1,0,NULL,NULL,'delivered','HTTP 204',1767323045678901,1767323050678901);
INSERT INTO "outbox" VALUES('msg_2a4c3bff','71942300abe653c8a7c500c899238b0b05181a1b389cb58d87574a1f6099bb07','r','desk',X'74776F','dead',1,0,NULL,NULL,'refused','HTTP 500',1767323046678901,1767323052678901);
INSERT INTO "outbox" VALUES('msg_b6c98864','717c6ffb62fd103733e4608f609addc314f4bbb76bad399b65338039ef4c594f','r','desk',X'7468726565','pending',0,0,1767323113678901,'3436c743c348db6a9614abd06580b501',NULL,NULL,1767323047678901,NULL);
CREATE INDEX ix_outbox_due ON outbox (endpoint_id, due_at);
CREATE INDEX ix_attempts_message_id ON attempts (message_id);
COMMIT;
