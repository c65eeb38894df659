PRAGMA application_id = 1397640002;
BEGIN TRANSACTION;
CREATE TABLE _accounts(
        num INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, account_code TEXT NOT NULL UNIQUE,
        slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL, is_active INTEGER NOT NULL DEFAULT 1,
        registration TEXT NOT NULL DEFAULT 'closed', created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT;
INSERT INTO "_accounts" VALUES(0,'00000000-0000-0000-0000-000000000000','SY0000','system','System',1,'closed','2026-11-24T00:13:41.642Z','2026-11-24T00:13:41.642Z');
INSERT INTO "_accounts" VALUES(1,'808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f','AA0001','ada','Ada',1,'closed','2026-11-24T00:13:41.847Z','2026-11-24T00:13:41.847Z');
CREATE TABLE _changes(
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        op TEXT NOT NULL, collection_id TEXT NOT NULL, schema_version INTEGER NOT NULL, record_id TEXT NOT NULL,
        data TEXT, prev TEXT, actor TEXT, tx_id TEXT NOT NULL, tx_index INTEGER NOT NULL, tx_size INTEGER NOT NULL,
        UNIQUE(account, seq)) STRICT;
INSERT INTO "_changes" VALUES(1,1,1,1795479221865079,'create','01a20ae6-b63c-75a1-8ace-ce7fe9ab8380',2,'01a20ae6-b666-71a1-be17-65b85a8a6714','{"id":"01a20ae6-b666-71a1-be17-65b85a8a6714","title":"first","likes":1.5,"open":true,"more":{"a":[1,null,"ä"]},"account_id":"808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f","created_at":"2026-11-24T00:13:41.865Z","created_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f","updated_at":"2026-11-24T00:13:41.865Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}',NULL,'8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','07047c8b1',0,1);
INSERT INTO "_changes" VALUES(2,1,2,1795479221890507,'create','01a20ae6-b63c-75a1-8ace-ce7fe9ab8380',2,'01a20ae6-b682-7560-97a7-ad5a65c14059','{"id":"01a20ae6-b682-7560-97a7-ad5a65c14059","title":"second","likes":null,"open":null,"more":null,"account_id":"808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f","created_at":"2026-11-24T00:13:41.890Z","created_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f","updated_at":"2026-11-24T00:13:41.890Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}',NULL,'8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','07047c8b2',0,1);
INSERT INTO "_changes" VALUES(3,1,3,1795479221897563,'create','01a20ae6-b63c-75a1-8ace-ce7fe9ab8380',2,'01a20ae6-b689-76c4-8abc-068ba562d76f','{"id":"01a20ae6-b689-76c4-8abc-068ba562d76f","title":"third","likes":-0.25,"open":false,"more":null,"account_id":"808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f","created_at":"2026-11-24T00:13:41.897Z","created_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f","updated_at":"2026-11-24T00:13:41.897Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}',NULL,'8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','07047c8b3',0,1);
INSERT INTO "_changes" VALUES(4,1,4,1795479221908115,'create','01a20ae6-b640-79e7-bf2d-4cc37e4a437a',3,'01a20ae6-b693-7e00-8800-df9d0e198dd7','{"id":"01a20ae6-b693-7e00-8800-df9d0e198dd7","text":"well","post":"01a20ae6-b666-71a1-be17-65b85a8a6714","account_id":"808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f","created_at":"2026-11-24T00:13:41.908Z","created_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f","updated_at":"2026-11-24T00:13:41.908Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}',NULL,'8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','07047c8b4',0,1);
INSERT INTO "_changes" VALUES(5,1,5,1795479221912933,'create','01a20ae6-b640-79e7-bf2d-4cc37e4a437a',3,'01a20ae6-b698-79a9-9903-7fac09b99aba','{"id":"01a20ae6-b698-79a9-9903-7fac09b99aba","text":"well","post":"01a20ae6-b689-76c4-8abc-068ba562d76f","account_id":"808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f","created_at":"2026-11-24T00:13:41.912Z","created_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f","updated_at":"2026-11-24T00:13:41.912Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}',NULL,'8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','07047c8b5',0,1);
INSERT INTO "_changes" VALUES(6,1,6,1795479221918740,'update','01a20ae6-b63c-75a1-8ace-ce7fe9ab8380',2,'01a20ae6-b682-7560-97a7-ad5a65c14059','{"id":"01a20ae6-b682-7560-97a7-ad5a65c14059","title":"second, changed","likes":null,"open":null,"more":null,"account_id":"808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f","created_at":"2026-11-24T00:13:41.890Z","created_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f","updated_at":"2026-11-24T00:13:41.918Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}','{"title":"second","updated_at":"2026-11-24T00:13:41.890Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}','8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','07047c8b6',0,1);
INSERT INTO "_changes" VALUES(7,1,7,1795479221923118,'delete','01a20ae6-b63c-75a1-8ace-ce7fe9ab8380',2,'01a20ae6-b689-76c4-8abc-068ba562d76f','{"id":"01a20ae6-b689-76c4-8abc-068ba562d76f","title":"third","likes":-0.25,"open":false,"more":null,"account_id":"808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f","created_at":"2026-11-24T00:13:41.897Z","created_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f","updated_at":"2026-11-24T00:13:41.897Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}',NULL,'8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','07047c8b7',0,2);
INSERT INTO "_changes" VALUES(8,1,8,1795479221923118,'delete','01a20ae6-b640-79e7-bf2d-4cc37e4a437a',3,'01a20ae6-b698-79a9-9903-7fac09b99aba','{"id":"01a20ae6-b698-79a9-9903-7fac09b99aba","text":"well","post":"01a20ae6-b689-76c4-8abc-068ba562d76f","account_id":"808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f","created_at":"2026-11-24T00:13:41.912Z","created_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f","updated_at":"2026-11-24T00:13:41.912Z","updated_by":"8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f"}',NULL,'8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','07047c8b7',1,2);
CREATE TABLE _collections(
        id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL COLLATE NOCASE UNIQUE, table_name TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL, version INTEGER NOT NULL, schema_version INTEGER NOT NULL,
        rules_version INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT;
INSERT INTO "_collections" VALUES('01a20ae6-b63c-75a1-8ace-ce7fe9ab8380','posts','c_posts','{"id":"01a20ae6-b63c-75a1-8ace-ce7fe9ab8380","name":"posts","table":"c_posts","fields":[{"name":"title","type":"text","required":true,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"likes","type":"number","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"open","type":"boolean","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"more","type":"json","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null}],"indexes":[],"rules":{"list_rule":"@request.auth.id != ''''","view_rule":"@request.auth.id != \"\"","create_rule":"@request.auth.id != \"\"","update_rule":"created_by = @request.auth.id","delete_rule":"@request.auth.id != \"\""},"list_fields":null,"view_fields":null,"schema_version":2,"rules_version":2,"version":2,"created_at":"2026-11-24T00:13:41.820Z","updated_at":"2026-11-24T00:13:41.820Z"}',2,2,2,'2026-11-24T00:13:41.820Z','2026-11-24T00:13:41.820Z');
INSERT INTO "_collections" VALUES('01a20ae6-b640-79e7-bf2d-4cc37e4a437a','comments','c_comments','{"id":"01a20ae6-b640-79e7-bf2d-4cc37e4a437a","name":"comments","table":"c_comments","fields":[{"name":"text","type":"text","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"post","type":"reference","required":false,"default":null,"unique":false,"options":null,"collection":"posts","on_delete":"cascade"}],"indexes":[],"rules":{"list_rule":"@request.auth.id != \"\"","view_rule":"@request.auth.id != \"\"","create_rule":"@request.auth.id != \"\"","update_rule":"@request.auth.id != \"\"","delete_rule":"@request.auth.id != \"\""},"list_fields":null,"view_fields":null,"schema_version":3,"rules_version":3,"version":3,"created_at":"2026-11-24T00:13:41.824Z","updated_at":"2026-11-24T00:13:41.824Z"}',3,3,3,'2026-11-24T00:13:41.824Z','2026-11-24T00:13:41.824Z');
CREATE TABLE _heads(
        account INTEGER PRIMARY KEY, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        floor_seq INTEGER NOT NULL DEFAULT 0, floor_ts_us INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "_heads" VALUES(0,0,0,0,0);
INSERT INTO "_heads" VALUES(1,8,1795479221923118,0,0);
CREATE TABLE _logins(
        sid TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL, account_id TEXT NOT NULL, refresh_jti TEXT NOT NULL,
        created_at TEXT NOT NULL, expires_at INTEGER NOT NULL, ended_at TEXT) STRICT;
INSERT INTO "_logins" VALUES('gAHC4vQ-oW6I_cqXu2uvxQ','15470e5e-0dc6-4ac3-8d8a-642b78b6226d','00000000-0000-0000-0000-000000000000','a8i5Qr7DFwQlQ0QfzOgdfQ','2026-11-24T00:13:41.814Z',1796084023,NULL);
INSERT INTO "_logins" VALUES('1TniaPnLWJ91G_9YmULxuA','8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f','U2J3p_HLDAXp01DysHyPuQ','2026-11-24T00:13:41.847Z',1796084023,NULL);
CREATE TABLE _meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
INSERT INTO "_meta" VALUES('version','3');
INSERT INTO "_meta" VALUES('schema_version','1');
INSERT INTO "_meta" VALUES('epoch','nnpcpj');
CREATE TABLE _roles(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "_roles" VALUES(1,'admin','Manages the account');
INSERT INTO "_roles" VALUES(2,'user','Member of the account');
CREATE TABLE _users(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT NOT NULL,
        role_id INTEGER NOT NULL, groups TEXT NOT NULL DEFAULT '[]', is_active INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_login TEXT, UNIQUE(account_id, email)) STRICT;
INSERT INTO "_users" VALUES('15470e5e-0dc6-4ac3-8d8a-642b78b6226d','00000000-0000-0000-0000-000000000000','root@example.com','$argon2id$v=19$m=19456,t=2,p=1$5BAVQiczneyQTl8LQvwo5A$xGc+9p41cN6j6lYM3wwD4ZKmLE8dUHsvQoP/Obkf0lA',1,'[]',1,'2026-11-24T00:13:41.674Z','2026-11-24T00:13:41.674Z','2026-11-24T00:13:41.814Z');
INSERT INTO "_users" VALUES('8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f','ada@example.com','$argon2id$v=19$m=19456,t=2,p=1$L7w1c0vdK3f3pwlYm1krkw$Y6GqTQb12Uz25Lz1LaBt1RUGqIk1LQgqSfZhJC4SGNY',1,'[]',1,'2026-11-24T00:13:41.847Z','2026-11-24T00:13:41.847Z','2026-11-24T00:13:41.847Z');
CREATE TABLE "c_comments"(id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT, updated_at TEXT NOT NULL, updated_by TEXT, "text" TEXT, "post" TEXT);
INSERT INTO "c_comments" VALUES('01a20ae6-b693-7e00-8800-df9d0e198dd7','808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f','2026-11-24T00:13:41.908Z','8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','2026-11-24T00:13:41.908Z','8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','well','01a20ae6-b666-71a1-be17-65b85a8a6714');
CREATE TABLE "c_posts"(id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT, updated_at TEXT NOT NULL, updated_by TEXT, "title" TEXT, "likes" REAL, "open" INTEGER, "more" TEXT);
INSERT INTO "c_posts" VALUES('01a20ae6-b666-71a1-be17-65b85a8a6714','808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f','2026-11-24T00:13:41.865Z','8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','2026-11-24T00:13:41.865Z','8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','first',1.5,1,'{"a":[1,null,"ä"]}');
INSERT INTO "c_posts" VALUES('01a20ae6-b682-7560-97a7-ad5a65c14059','808d6a9f-4c7a-49bd-b4c5-9a8d5396a44f','2026-11-24T00:13:41.890Z','8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','2026-11-24T00:13:41.918Z','8e547ecd-73b3-4cb3-bf1d-0a9c22249b3f','second, changed',NULL,NULL,NULL);
CREATE INDEX _logins_user ON _logins(user_id);
CREATE INDEX _logins_expiry ON _logins(expires_at);
CREATE INDEX _changes_control ON _changes(account, record_id, seq) WHERE op = 'control';
CREATE INDEX "c_posts:index:created_at,id" ON "c_posts"("account_id", "created_at", "id");
CREATE INDEX "c_comments:index:created_at,id" ON "c_comments"("account_id", "created_at", "id");
CREATE INDEX "c_comments:index:post" ON "c_comments"("account_id", "post");
COMMIT;
