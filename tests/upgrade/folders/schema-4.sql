PRAGMA application_id = 1397640002;
BEGIN TRANSACTION;
CREATE TABLE _accounts(
        num INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, account_code TEXT NOT NULL UNIQUE,
        slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL, is_active INTEGER NOT NULL DEFAULT 1,
        registration TEXT NOT NULL DEFAULT 'closed', created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT;
INSERT INTO "_accounts" VALUES(0,'00000000-0000-0000-0000-000000000000','SY0000','system','System',1,'closed','2026-11-24T00:13:45.339Z','2026-11-24T00:13:45.339Z');
INSERT INTO "_accounts" VALUES(1,'41693e09-748b-4db9-ac9c-59139f29e116','AA0001','ada','Ada',1,'invite','2026-11-24T00:13:45.660Z','2026-11-24T00:13:45.660Z');
CREATE TABLE _api_keys(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, name TEXT NOT NULL, role_id INTEGER NOT NULL,
        secret_hash TEXT NOT NULL, hint TEXT NOT NULL, created_by TEXT, created_at TEXT NOT NULL,
        expires_at INTEGER, last_used_at TEXT, revoked_at TEXT) STRICT;
CREATE TABLE _changes(
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        op TEXT NOT NULL, collection_id TEXT NOT NULL, schema_version INTEGER NOT NULL, record_id TEXT NOT NULL,
        data TEXT, prev TEXT, actor TEXT, tx_id TEXT NOT NULL, tx_index INTEGER NOT NULL, tx_size INTEGER NOT NULL,
        UNIQUE(account, seq)) STRICT;
INSERT INTO "_changes" VALUES(1,1,1,1795479225665424,'create','01a20ae6-c515-778d-bc7e-c29da650cc3e',2,'01a20ae6-c541-7370-8df8-5b76330363bb','{"id":"01a20ae6-c541-7370-8df8-5b76330363bb","title":"first","likes":1.5,"open":true,"more":{"a":[1,null,"ä"]},"account_id":"41693e09-748b-4db9-ac9c-59139f29e116","created_at":"2026-11-24T00:13:45.665Z","created_by":"afbec277-0f59-44b4-8054-744b63b6be59","updated_at":"2026-11-24T00:13:45.665Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}',NULL,'afbec277-0f59-44b4-8054-744b63b6be59','f3b3e3871',0,1);
INSERT INTO "_changes" VALUES(2,1,2,1795479225698427,'create','01a20ae6-c515-778d-bc7e-c29da650cc3e',2,'01a20ae6-c562-7428-98ff-040d64e08a3e','{"id":"01a20ae6-c562-7428-98ff-040d64e08a3e","title":"second","likes":null,"open":null,"more":null,"account_id":"41693e09-748b-4db9-ac9c-59139f29e116","created_at":"2026-11-24T00:13:45.698Z","created_by":"afbec277-0f59-44b4-8054-744b63b6be59","updated_at":"2026-11-24T00:13:45.698Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}',NULL,'afbec277-0f59-44b4-8054-744b63b6be59','f3b3e3872',0,1);
INSERT INTO "_changes" VALUES(3,1,3,1795479225701309,'create','01a20ae6-c515-778d-bc7e-c29da650cc3e',2,'01a20ae6-c565-7312-8377-ba6852b7dbf5','{"id":"01a20ae6-c565-7312-8377-ba6852b7dbf5","title":"third","likes":-0.25,"open":false,"more":null,"account_id":"41693e09-748b-4db9-ac9c-59139f29e116","created_at":"2026-11-24T00:13:45.701Z","created_by":"afbec277-0f59-44b4-8054-744b63b6be59","updated_at":"2026-11-24T00:13:45.701Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}',NULL,'afbec277-0f59-44b4-8054-744b63b6be59','f3b3e3873',0,1);
INSERT INTO "_changes" VALUES(4,1,4,1795479225703549,'create','01a20ae6-c51d-7af1-9bb4-6dbae30f62f1',3,'01a20ae6-c567-762d-b55b-0221a5c91a75','{"id":"01a20ae6-c567-762d-b55b-0221a5c91a75","text":"well","post":"01a20ae6-c541-7370-8df8-5b76330363bb","account_id":"41693e09-748b-4db9-ac9c-59139f29e116","created_at":"2026-11-24T00:13:45.703Z","created_by":"afbec277-0f59-44b4-8054-744b63b6be59","updated_at":"2026-11-24T00:13:45.703Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}',NULL,'afbec277-0f59-44b4-8054-744b63b6be59','f3b3e3874',0,1);
INSERT INTO "_changes" VALUES(5,1,5,1795479225708137,'create','01a20ae6-c51d-7af1-9bb4-6dbae30f62f1',3,'01a20ae6-c56c-7056-9b67-96a573964a2e','{"id":"01a20ae6-c56c-7056-9b67-96a573964a2e","text":"well","post":"01a20ae6-c565-7312-8377-ba6852b7dbf5","account_id":"41693e09-748b-4db9-ac9c-59139f29e116","created_at":"2026-11-24T00:13:45.708Z","created_by":"afbec277-0f59-44b4-8054-744b63b6be59","updated_at":"2026-11-24T00:13:45.708Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}',NULL,'afbec277-0f59-44b4-8054-744b63b6be59','f3b3e3875',0,1);
INSERT INTO "_changes" VALUES(6,1,6,1795479225710334,'update','01a20ae6-c515-778d-bc7e-c29da650cc3e',2,'01a20ae6-c562-7428-98ff-040d64e08a3e','{"id":"01a20ae6-c562-7428-98ff-040d64e08a3e","title":"second, changed","likes":null,"open":null,"more":null,"account_id":"41693e09-748b-4db9-ac9c-59139f29e116","created_at":"2026-11-24T00:13:45.698Z","created_by":"afbec277-0f59-44b4-8054-744b63b6be59","updated_at":"2026-11-24T00:13:45.710Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}','{"title":"second","updated_at":"2026-11-24T00:13:45.698Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}','afbec277-0f59-44b4-8054-744b63b6be59','f3b3e3876',0,1);
INSERT INTO "_changes" VALUES(7,1,7,1795479225712422,'delete','01a20ae6-c515-778d-bc7e-c29da650cc3e',2,'01a20ae6-c565-7312-8377-ba6852b7dbf5','{"id":"01a20ae6-c565-7312-8377-ba6852b7dbf5","title":"third","likes":-0.25,"open":false,"more":null,"account_id":"41693e09-748b-4db9-ac9c-59139f29e116","created_at":"2026-11-24T00:13:45.701Z","created_by":"afbec277-0f59-44b4-8054-744b63b6be59","updated_at":"2026-11-24T00:13:45.701Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}',NULL,'afbec277-0f59-44b4-8054-744b63b6be59','f3b3e3877',0,2);
INSERT INTO "_changes" VALUES(8,1,8,1795479225712422,'delete','01a20ae6-c51d-7af1-9bb4-6dbae30f62f1',3,'01a20ae6-c56c-7056-9b67-96a573964a2e','{"id":"01a20ae6-c56c-7056-9b67-96a573964a2e","text":"well","post":"01a20ae6-c565-7312-8377-ba6852b7dbf5","account_id":"41693e09-748b-4db9-ac9c-59139f29e116","created_at":"2026-11-24T00:13:45.708Z","created_by":"afbec277-0f59-44b4-8054-744b63b6be59","updated_at":"2026-11-24T00:13:45.708Z","updated_by":"afbec277-0f59-44b4-8054-744b63b6be59"}',NULL,'afbec277-0f59-44b4-8054-744b63b6be59','f3b3e3877',1,2);
CREATE TABLE _collections(
        id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL COLLATE NOCASE UNIQUE, table_name TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL, version INTEGER NOT NULL, schema_version INTEGER NOT NULL,
        rules_version INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT;
INSERT INTO "_collections" VALUES('01a20ae6-c515-778d-bc7e-c29da650cc3e','posts','c_posts','{"id":"01a20ae6-c515-778d-bc7e-c29da650cc3e","name":"posts","table":"c_posts","fields":[{"name":"title","type":"text","required":true,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"likes","type":"number","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"open","type":"boolean","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"more","type":"json","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null}],"indexes":[],"rules":{"list_rule":"@request.auth.id != ''''","view_rule":"@request.auth.id != \"\"","create_rule":"@request.auth.id != \"\"","update_rule":"created_by = @request.auth.id","delete_rule":"@request.auth.id != \"\""},"list_fields":null,"view_fields":null,"schema_version":2,"rules_version":2,"version":2,"created_at":"2026-11-24T00:13:45.622Z","updated_at":"2026-11-24T00:13:45.622Z"}',2,2,2,'2026-11-24T00:13:45.622Z','2026-11-24T00:13:45.622Z');
INSERT INTO "_collections" VALUES('01a20ae6-c51d-7af1-9bb4-6dbae30f62f1','comments','c_comments','{"id":"01a20ae6-c51d-7af1-9bb4-6dbae30f62f1","name":"comments","table":"c_comments","fields":[{"name":"text","type":"text","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"post","type":"reference","required":false,"default":null,"unique":false,"options":null,"collection":"posts","on_delete":"cascade"}],"indexes":[],"rules":{"list_rule":"@request.auth.id != \"\"","view_rule":"@request.auth.id != \"\"","create_rule":"@request.auth.id != \"\"","update_rule":"@request.auth.id != \"\"","delete_rule":"@request.auth.id != \"\""},"list_fields":null,"view_fields":null,"schema_version":3,"rules_version":3,"version":3,"created_at":"2026-11-24T00:13:45.631Z","updated_at":"2026-11-24T00:13:45.631Z"}',3,3,3,'2026-11-24T00:13:45.631Z','2026-11-24T00:13:45.631Z');
CREATE TABLE _groups(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, name TEXT NOT NULL,
        description TEXT NOT NULL DEFAULT '', created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
        UNIQUE(account_id, name)) STRICT;
CREATE TABLE _heads(
        account INTEGER PRIMARY KEY, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        floor_seq INTEGER NOT NULL DEFAULT 0, floor_ts_us INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "_heads" VALUES(0,0,0,0,0,0);
INSERT INTO "_heads" VALUES(1,8,1795479225712422,0,0,4432);
CREATE TABLE _idempotency(
        owner TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, status INTEGER NOT NULL, body BLOB NOT NULL,
        position TEXT NOT NULL, expires_us INTEGER NOT NULL, UNIQUE(owner, key)) STRICT;
CREATE TABLE _invitations(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, email TEXT NOT NULL, role_id INTEGER NOT NULL,
        groups TEXT NOT NULL DEFAULT '[]', token_hash TEXT NOT NULL UNIQUE, invited_by TEXT NOT NULL,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, expires_at INTEGER NOT NULL,
        accepted_at TEXT, cancelled_at TEXT) STRICT;
CREATE TABLE _logins(
        sid TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL, account_id TEXT NOT NULL, refresh_jti TEXT NOT NULL,
        created_at TEXT NOT NULL, expires_at INTEGER NOT NULL, ended_at TEXT) STRICT;
INSERT INTO "_logins" VALUES('w3Mk_hMilDnkprYGIy5aMw','a69f2bf7-98f1-4437-ba23-02e932055875','00000000-0000-0000-0000-000000000000','BW8oUrCqpCQ4p0lFQeajCQ','2026-11-24T00:13:45.612Z',1796084027,NULL);
INSERT INTO "_logins" VALUES('FonXWe42v3wtlv1Daue_tA','afbec277-0f59-44b4-8054-744b63b6be59','41693e09-748b-4db9-ac9c-59139f29e116','k8dqixUX5hRYwNNYVvFPRQ','2026-11-24T00:13:45.660Z',1796084027,NULL);
CREATE TABLE _meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
INSERT INTO "_meta" VALUES('version','3');
INSERT INTO "_meta" VALUES('schema_version','4');
INSERT INTO "_meta" VALUES('epoch','hzvvdl');
CREATE TABLE _roles(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL DEFAULT '', created_at TEXT NOT NULL DEFAULT '', updated_at TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "_roles" VALUES(1,'admin','Manages the account','2026-11-24T00:13:45.339Z','2026-11-24T00:13:45.339Z');
INSERT INTO "_roles" VALUES(2,'user','Member of the account','2026-11-24T00:13:45.339Z','2026-11-24T00:13:45.339Z');
CREATE TABLE _users(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT NOT NULL,
        role_id INTEGER NOT NULL, groups TEXT NOT NULL DEFAULT '[]', is_active INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_login TEXT, UNIQUE(account_id, email)) STRICT;
INSERT INTO "_users" VALUES('a69f2bf7-98f1-4437-ba23-02e932055875','00000000-0000-0000-0000-000000000000','root@example.com','$argon2id$v=19$m=19456,t=2,p=1$Gym5j5fYEIi4JGOrifP5QQ$9E0VhA2P7ZHXRPWMIaufM4KxCCd7wEjn57TmsIWADwI',1,'[]',1,'2026-11-24T00:13:45.378Z','2026-11-24T00:13:45.378Z','2026-11-24T00:13:45.612Z');
INSERT INTO "_users" VALUES('afbec277-0f59-44b4-8054-744b63b6be59','41693e09-748b-4db9-ac9c-59139f29e116','ada@example.com','$argon2id$v=19$m=19456,t=2,p=1$P9lwPBx5zs81QK7LCJfKcQ$uW7NCuZz6xwkitazcz6mNVf2rXT1q0NAlXuT1J7DTHc',1,'[]',1,'2026-11-24T00:13:45.660Z','2026-11-24T00:13:45.660Z','2026-11-24T00:13:45.660Z');
CREATE TABLE "c_comments"(id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT, updated_at TEXT NOT NULL, updated_by TEXT, "text" TEXT, "post" TEXT);
INSERT INTO "c_comments" VALUES('01a20ae6-c567-762d-b55b-0221a5c91a75','41693e09-748b-4db9-ac9c-59139f29e116','2026-11-24T00:13:45.703Z','afbec277-0f59-44b4-8054-744b63b6be59','2026-11-24T00:13:45.703Z','afbec277-0f59-44b4-8054-744b63b6be59','well','01a20ae6-c541-7370-8df8-5b76330363bb');
CREATE TABLE "c_posts"(id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT, updated_at TEXT NOT NULL, updated_by TEXT, "title" TEXT, "likes" REAL, "open" INTEGER, "more" TEXT);
INSERT INTO "c_posts" VALUES('01a20ae6-c541-7370-8df8-5b76330363bb','41693e09-748b-4db9-ac9c-59139f29e116','2026-11-24T00:13:45.665Z','afbec277-0f59-44b4-8054-744b63b6be59','2026-11-24T00:13:45.665Z','afbec277-0f59-44b4-8054-744b63b6be59','first',1.5,1,'{"a":[1,null,"ä"]}');
INSERT INTO "c_posts" VALUES('01a20ae6-c562-7428-98ff-040d64e08a3e','41693e09-748b-4db9-ac9c-59139f29e116','2026-11-24T00:13:45.698Z','afbec277-0f59-44b4-8054-744b63b6be59','2026-11-24T00:13:45.710Z','afbec277-0f59-44b4-8054-744b63b6be59','second, changed',NULL,NULL,NULL);
CREATE INDEX _logins_user ON _logins(user_id);
CREATE INDEX _logins_expiry ON _logins(expires_at);
CREATE INDEX _changes_control ON _changes(account, record_id, seq) WHERE op = 'control';
CREATE INDEX _idempotency_expiry ON _idempotency(expires_us);
CREATE INDEX _users_created ON _users(account_id, created_at, id);
CREATE INDEX _invitations_account ON _invitations(account_id, created_at, id);
CREATE INDEX _api_keys_account ON _api_keys(account_id, created_at, id);
CREATE INDEX "c_posts:index:created_at,id" ON "c_posts"("account_id", "created_at", "id");
CREATE INDEX "c_comments:index:created_at,id" ON "c_comments"("account_id", "created_at", "id");
CREATE INDEX "c_comments:index:post" ON "c_comments"("account_id", "post");
COMMIT;
