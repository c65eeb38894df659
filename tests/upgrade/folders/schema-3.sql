PRAGMA application_id = 1397640002;
BEGIN TRANSACTION;
CREATE TABLE _accounts(
        num INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, account_code TEXT NOT NULL UNIQUE,
        slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL, is_active INTEGER NOT NULL DEFAULT 1,
        registration TEXT NOT NULL DEFAULT 'closed', created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT;
INSERT INTO "_accounts" VALUES(0,'00000000-0000-0000-0000-000000000000','SY0000','system','System',1,'closed','2026-11-24T00:13:44.030Z','2026-11-24T00:13:44.030Z');
INSERT INTO "_accounts" VALUES(1,'c81a6835-e535-4ed4-9261-aa9ae279fd5f','AA0001','ada','Ada',1,'closed','2026-11-24T00:13:44.276Z','2026-11-24T00:13:44.276Z');
CREATE TABLE _changes(
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        op TEXT NOT NULL, collection_id TEXT NOT NULL, schema_version INTEGER NOT NULL, record_id TEXT NOT NULL,
        data TEXT, prev TEXT, actor TEXT, tx_id TEXT NOT NULL, tx_index INTEGER NOT NULL, tx_size INTEGER NOT NULL,
        UNIQUE(account, seq)) STRICT;
INSERT INTO "_changes" VALUES(1,1,1,1795479224281521,'create','01a20ae6-bfba-75df-9038-2b8c5f8207c1',2,'01a20ae6-bfd9-752f-b54b-85f118d939ae','{"id":"01a20ae6-bfd9-752f-b54b-85f118d939ae","title":"first","likes":1.5,"open":true,"more":{"a":[1,null,"ä"]},"account_id":"c81a6835-e535-4ed4-9261-aa9ae279fd5f","created_at":"2026-11-24T00:13:44.281Z","created_by":"20582702-81bb-4601-bfba-bb8a3e9da0da","updated_at":"2026-11-24T00:13:44.281Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}',NULL,'20582702-81bb-4601-bfba-bb8a3e9da0da','80dd0d621',0,1);
INSERT INTO "_changes" VALUES(2,1,2,1795479224297075,'create','01a20ae6-bfba-75df-9038-2b8c5f8207c1',2,'01a20ae6-bfe8-7c97-bb76-02fb32522de5','{"id":"01a20ae6-bfe8-7c97-bb76-02fb32522de5","title":"second","likes":null,"open":null,"more":null,"account_id":"c81a6835-e535-4ed4-9261-aa9ae279fd5f","created_at":"2026-11-24T00:13:44.297Z","created_by":"20582702-81bb-4601-bfba-bb8a3e9da0da","updated_at":"2026-11-24T00:13:44.297Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}',NULL,'20582702-81bb-4601-bfba-bb8a3e9da0da','80dd0d622',0,1);
INSERT INTO "_changes" VALUES(3,1,3,1795479224299343,'create','01a20ae6-bfba-75df-9038-2b8c5f8207c1',2,'01a20ae6-bfeb-73e3-ad5a-aff2bc088517','{"id":"01a20ae6-bfeb-73e3-ad5a-aff2bc088517","title":"third","likes":-0.25,"open":false,"more":null,"account_id":"c81a6835-e535-4ed4-9261-aa9ae279fd5f","created_at":"2026-11-24T00:13:44.299Z","created_by":"20582702-81bb-4601-bfba-bb8a3e9da0da","updated_at":"2026-11-24T00:13:44.299Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}',NULL,'20582702-81bb-4601-bfba-bb8a3e9da0da','80dd0d623',0,1);
INSERT INTO "_changes" VALUES(4,1,4,1795479224301117,'create','01a20ae6-bfbf-77ba-b86b-37da0519acba',3,'01a20ae6-bfec-7f3b-9cb0-6d2ab4b9ffc5','{"id":"01a20ae6-bfec-7f3b-9cb0-6d2ab4b9ffc5","text":"well","post":"01a20ae6-bfd9-752f-b54b-85f118d939ae","account_id":"c81a6835-e535-4ed4-9261-aa9ae279fd5f","created_at":"2026-11-24T00:13:44.301Z","created_by":"20582702-81bb-4601-bfba-bb8a3e9da0da","updated_at":"2026-11-24T00:13:44.301Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}',NULL,'20582702-81bb-4601-bfba-bb8a3e9da0da','80dd0d624',0,1);
INSERT INTO "_changes" VALUES(5,1,5,1795479224303686,'create','01a20ae6-bfbf-77ba-b86b-37da0519acba',3,'01a20ae6-bfef-73a5-8b93-f98bb67ba3c8','{"id":"01a20ae6-bfef-73a5-8b93-f98bb67ba3c8","text":"well","post":"01a20ae6-bfeb-73e3-ad5a-aff2bc088517","account_id":"c81a6835-e535-4ed4-9261-aa9ae279fd5f","created_at":"2026-11-24T00:13:44.303Z","created_by":"20582702-81bb-4601-bfba-bb8a3e9da0da","updated_at":"2026-11-24T00:13:44.303Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}',NULL,'20582702-81bb-4601-bfba-bb8a3e9da0da','80dd0d625',0,1);
INSERT INTO "_changes" VALUES(6,1,6,1795479224306610,'update','01a20ae6-bfba-75df-9038-2b8c5f8207c1',2,'01a20ae6-bfe8-7c97-bb76-02fb32522de5','{"id":"01a20ae6-bfe8-7c97-bb76-02fb32522de5","title":"second, changed","likes":null,"open":null,"more":null,"account_id":"c81a6835-e535-4ed4-9261-aa9ae279fd5f","created_at":"2026-11-24T00:13:44.297Z","created_by":"20582702-81bb-4601-bfba-bb8a3e9da0da","updated_at":"2026-11-24T00:13:44.306Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}','{"title":"second","updated_at":"2026-11-24T00:13:44.297Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}','20582702-81bb-4601-bfba-bb8a3e9da0da','80dd0d626',0,1);
INSERT INTO "_changes" VALUES(7,1,7,1795479224308184,'delete','01a20ae6-bfba-75df-9038-2b8c5f8207c1',2,'01a20ae6-bfeb-73e3-ad5a-aff2bc088517','{"id":"01a20ae6-bfeb-73e3-ad5a-aff2bc088517","title":"third","likes":-0.25,"open":false,"more":null,"account_id":"c81a6835-e535-4ed4-9261-aa9ae279fd5f","created_at":"2026-11-24T00:13:44.299Z","created_by":"20582702-81bb-4601-bfba-bb8a3e9da0da","updated_at":"2026-11-24T00:13:44.299Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}',NULL,'20582702-81bb-4601-bfba-bb8a3e9da0da','80dd0d627',0,2);
INSERT INTO "_changes" VALUES(8,1,8,1795479224308184,'delete','01a20ae6-bfbf-77ba-b86b-37da0519acba',3,'01a20ae6-bfef-73a5-8b93-f98bb67ba3c8','{"id":"01a20ae6-bfef-73a5-8b93-f98bb67ba3c8","text":"well","post":"01a20ae6-bfeb-73e3-ad5a-aff2bc088517","account_id":"c81a6835-e535-4ed4-9261-aa9ae279fd5f","created_at":"2026-11-24T00:13:44.303Z","created_by":"20582702-81bb-4601-bfba-bb8a3e9da0da","updated_at":"2026-11-24T00:13:44.303Z","updated_by":"20582702-81bb-4601-bfba-bb8a3e9da0da"}',NULL,'20582702-81bb-4601-bfba-bb8a3e9da0da','80dd0d627',1,2);
CREATE TABLE _collections(
        id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL COLLATE NOCASE UNIQUE, table_name TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL, version INTEGER NOT NULL, schema_version INTEGER NOT NULL,
        rules_version INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT;
INSERT INTO "_collections" VALUES('01a20ae6-bfba-75df-9038-2b8c5f8207c1','posts','c_posts','{"id":"01a20ae6-bfba-75df-9038-2b8c5f8207c1","name":"posts","table":"c_posts","fields":[{"name":"title","type":"text","required":true,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"likes","type":"number","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"open","type":"boolean","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"more","type":"json","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null}],"indexes":[],"rules":{"list_rule":"@request.auth.id != ''''","view_rule":"@request.auth.id != \"\"","create_rule":"@request.auth.id != \"\"","update_rule":"created_by = @request.auth.id","delete_rule":"@request.auth.id != \"\""},"list_fields":null,"view_fields":null,"schema_version":2,"rules_version":2,"version":2,"created_at":"2026-11-24T00:13:44.250Z","updated_at":"2026-11-24T00:13:44.250Z"}',2,2,2,'2026-11-24T00:13:44.250Z','2026-11-24T00:13:44.250Z');
INSERT INTO "_collections" VALUES('01a20ae6-bfbf-77ba-b86b-37da0519acba','comments','c_comments','{"id":"01a20ae6-bfbf-77ba-b86b-37da0519acba","name":"comments","table":"c_comments","fields":[{"name":"text","type":"text","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"post","type":"reference","required":false,"default":null,"unique":false,"options":null,"collection":"posts","on_delete":"cascade"}],"indexes":[],"rules":{"list_rule":"@request.auth.id != \"\"","view_rule":"@request.auth.id != \"\"","create_rule":"@request.auth.id != \"\"","update_rule":"@request.auth.id != \"\"","delete_rule":"@request.auth.id != \"\""},"list_fields":null,"view_fields":null,"schema_version":3,"rules_version":3,"version":3,"created_at":"2026-11-24T00:13:44.255Z","updated_at":"2026-11-24T00:13:44.255Z"}',3,3,3,'2026-11-24T00:13:44.255Z','2026-11-24T00:13:44.255Z');
CREATE TABLE _heads(
        account INTEGER PRIMARY KEY, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        floor_seq INTEGER NOT NULL DEFAULT 0, floor_ts_us INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "_heads" VALUES(0,0,0,0,0,0);
INSERT INTO "_heads" VALUES(1,8,1795479224308184,0,0,4432);
CREATE TABLE _idempotency(
        owner TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
        position TEXT NOT NULL, expires_us INTEGER NOT NULL, UNIQUE(owner, key)) STRICT;
CREATE TABLE _logins(
        sid TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL, account_id TEXT NOT NULL, refresh_jti TEXT NOT NULL,
        created_at TEXT NOT NULL, expires_at INTEGER NOT NULL, ended_at TEXT) STRICT;
INSERT INTO "_logins" VALUES('DHA_-wwNlnhXt-L0DrGWZg','9713251d-43f6-4a3f-aaea-fd8209734d61','00000000-0000-0000-0000-000000000000','7lP5BgtkJEG0HkE4JOeM_Q','2026-11-24T00:13:44.245Z',1796084026,NULL);
INSERT INTO "_logins" VALUES('zz6g7nh2GXwbtCUN1wafkg','20582702-81bb-4601-bfba-bb8a3e9da0da','c81a6835-e535-4ed4-9261-aa9ae279fd5f','RqRzPOioPSqRiWeL6uhQUQ','2026-11-24T00:13:44.276Z',1796084026,NULL);
CREATE TABLE _meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
INSERT INTO "_meta" VALUES('version','3');
INSERT INTO "_meta" VALUES('schema_version','3');
INSERT INTO "_meta" VALUES('epoch','den1gl');
CREATE TABLE _roles(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "_roles" VALUES(1,'admin','Manages the account');
INSERT INTO "_roles" VALUES(2,'user','Member of the account');
CREATE TABLE _users(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT NOT NULL,
        role_id INTEGER NOT NULL, groups TEXT NOT NULL DEFAULT '[]', is_active INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_login TEXT, UNIQUE(account_id, email)) STRICT;
INSERT INTO "_users" VALUES('9713251d-43f6-4a3f-aaea-fd8209734d61','00000000-0000-0000-0000-000000000000','root@example.com','$argon2id$v=19$m=19456,t=2,p=1$0KqQs6cv/hbfzcNaBTnWdw$VwQpZ9rWjh2WREwJvF62CDxsrVQrmnqXCjzZdvJbshI',1,'[]',1,'2026-11-24T00:13:44.083Z','2026-11-24T00:13:44.083Z','2026-11-24T00:13:44.245Z');
INSERT INTO "_users" VALUES('20582702-81bb-4601-bfba-bb8a3e9da0da','c81a6835-e535-4ed4-9261-aa9ae279fd5f','ada@example.com','$argon2id$v=19$m=19456,t=2,p=1$MpjhE30j/JIWbRtWfV3lJQ$0gru0b7761advpL28my0a8mKInMPnLwjkUJItA4WfPQ',1,'[]',1,'2026-11-24T00:13:44.276Z','2026-11-24T00:13:44.276Z','2026-11-24T00:13:44.276Z');
CREATE TABLE "c_comments"(id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT, updated_at TEXT NOT NULL, updated_by TEXT, "text" TEXT, "post" TEXT);
INSERT INTO "c_comments" VALUES('01a20ae6-bfec-7f3b-9cb0-6d2ab4b9ffc5','c81a6835-e535-4ed4-9261-aa9ae279fd5f','2026-11-24T00:13:44.301Z','20582702-81bb-4601-bfba-bb8a3e9da0da','2026-11-24T00:13:44.301Z','20582702-81bb-4601-bfba-bb8a3e9da0da','well','01a20ae6-bfd9-752f-b54b-85f118d939ae');
CREATE TABLE "c_posts"(id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT, updated_at TEXT NOT NULL, updated_by TEXT, "title" TEXT, "likes" REAL, "open" INTEGER, "more" TEXT);
INSERT INTO "c_posts" VALUES('01a20ae6-bfd9-752f-b54b-85f118d939ae','c81a6835-e535-4ed4-9261-aa9ae279fd5f','2026-11-24T00:13:44.281Z','20582702-81bb-4601-bfba-bb8a3e9da0da','2026-11-24T00:13:44.281Z','20582702-81bb-4601-bfba-bb8a3e9da0da','first',1.5,1,'{"a":[1,null,"ä"]}');
INSERT INTO "c_posts" VALUES('01a20ae6-bfe8-7c97-bb76-02fb32522de5','c81a6835-e535-4ed4-9261-aa9ae279fd5f','2026-11-24T00:13:44.297Z','20582702-81bb-4601-bfba-bb8a3e9da0da','2026-11-24T00:13:44.306Z','20582702-81bb-4601-bfba-bb8a3e9da0da','second, changed',NULL,NULL,NULL);
CREATE INDEX _logins_user ON _logins(user_id);
CREATE INDEX _logins_expiry ON _logins(expires_at);
CREATE INDEX _changes_control ON _changes(account, record_id, seq) WHERE op = 'control';
CREATE INDEX _idempotency_expiry ON _idempotency(expires_us);
CREATE INDEX "c_posts:index:created_at,id" ON "c_posts"("account_id", "created_at", "id");
CREATE INDEX "c_comments:index:created_at,id" ON "c_comments"("account_id", "created_at", "id");
CREATE INDEX "c_comments:index:post" ON "c_comments"("account_id", "post");
COMMIT;
