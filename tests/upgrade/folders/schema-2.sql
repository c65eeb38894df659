PRAGMA application_id = 1397640002;
BEGIN TRANSACTION;
CREATE TABLE _accounts(
        num INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, account_code TEXT NOT NULL UNIQUE,
        slug TEXT NOT NULL UNIQUE, name TEXT NOT NULL, is_active INTEGER NOT NULL DEFAULT 1,
        registration TEXT NOT NULL DEFAULT 'closed', created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT;
INSERT INTO "_accounts" VALUES(0,'00000000-0000-0000-0000-000000000000','SY0000','system','System',1,'closed','2026-11-24T00:13:42.820Z','2026-11-24T00:13:42.820Z');
INSERT INTO "_accounts" VALUES(1,'815649e9-41f2-40eb-b606-19a07762f5de','AA0001','ada','Ada',1,'closed','2026-11-24T00:13:43.040Z','2026-11-24T00:13:43.040Z');
CREATE TABLE _changes(
        id INTEGER PRIMARY KEY, account INTEGER NOT NULL, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        op TEXT NOT NULL, collection_id TEXT NOT NULL, schema_version INTEGER NOT NULL, record_id TEXT NOT NULL,
        data TEXT, prev TEXT, actor TEXT, tx_id TEXT NOT NULL, tx_index INTEGER NOT NULL, tx_size INTEGER NOT NULL,
        UNIQUE(account, seq)) STRICT;
INSERT INTO "_changes" VALUES(1,1,1,1795479223044751,'create','01a20ae6-bade-7be7-a14f-1deac142cf09',2,'01a20ae6-bb04-78cc-96fb-ea7bd3bcb267','{"id":"01a20ae6-bb04-78cc-96fb-ea7bd3bcb267","title":"first","likes":1.5,"open":true,"more":{"a":[1,null,"ä"]},"account_id":"815649e9-41f2-40eb-b606-19a07762f5de","created_at":"2026-11-24T00:13:43.044Z","created_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740","updated_at":"2026-11-24T00:13:43.044Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}',NULL,'bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','49a11e681',0,1);
INSERT INTO "_changes" VALUES(2,1,2,1795479223061424,'create','01a20ae6-bade-7be7-a14f-1deac142cf09',2,'01a20ae6-bb15-7462-ac3f-212eff699c88','{"id":"01a20ae6-bb15-7462-ac3f-212eff699c88","title":"second","likes":null,"open":null,"more":null,"account_id":"815649e9-41f2-40eb-b606-19a07762f5de","created_at":"2026-11-24T00:13:43.061Z","created_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740","updated_at":"2026-11-24T00:13:43.061Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}',NULL,'bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','49a11e682',0,1);
INSERT INTO "_changes" VALUES(3,1,3,1795479223065125,'create','01a20ae6-bade-7be7-a14f-1deac142cf09',2,'01a20ae6-bb18-7f99-8d97-9aaeb298a421','{"id":"01a20ae6-bb18-7f99-8d97-9aaeb298a421","title":"third","likes":-0.25,"open":false,"more":null,"account_id":"815649e9-41f2-40eb-b606-19a07762f5de","created_at":"2026-11-24T00:13:43.065Z","created_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740","updated_at":"2026-11-24T00:13:43.065Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}',NULL,'bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','49a11e683',0,1);
INSERT INTO "_changes" VALUES(4,1,4,1795479223068043,'create','01a20ae6-bae3-753b-ad06-8e4fc24cbd5b',3,'01a20ae6-bb1a-7fca-a53e-6c46b46ccfc2','{"id":"01a20ae6-bb1a-7fca-a53e-6c46b46ccfc2","text":"well","post":"01a20ae6-bb04-78cc-96fb-ea7bd3bcb267","account_id":"815649e9-41f2-40eb-b606-19a07762f5de","created_at":"2026-11-24T00:13:43.068Z","created_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740","updated_at":"2026-11-24T00:13:43.068Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}',NULL,'bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','49a11e684',0,1);
INSERT INTO "_changes" VALUES(5,1,5,1795479223069995,'create','01a20ae6-bae3-753b-ad06-8e4fc24cbd5b',3,'01a20ae6-bb1d-7e31-a9c8-6134a736b2e3','{"id":"01a20ae6-bb1d-7e31-a9c8-6134a736b2e3","text":"well","post":"01a20ae6-bb18-7f99-8d97-9aaeb298a421","account_id":"815649e9-41f2-40eb-b606-19a07762f5de","created_at":"2026-11-24T00:13:43.069Z","created_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740","updated_at":"2026-11-24T00:13:43.069Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}',NULL,'bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','49a11e685',0,1);
INSERT INTO "_changes" VALUES(6,1,6,1795479223071795,'update','01a20ae6-bade-7be7-a14f-1deac142cf09',2,'01a20ae6-bb15-7462-ac3f-212eff699c88','{"id":"01a20ae6-bb15-7462-ac3f-212eff699c88","title":"second, changed","likes":null,"open":null,"more":null,"account_id":"815649e9-41f2-40eb-b606-19a07762f5de","created_at":"2026-11-24T00:13:43.061Z","created_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740","updated_at":"2026-11-24T00:13:43.071Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}','{"title":"second","updated_at":"2026-11-24T00:13:43.061Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}','bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','49a11e686',0,1);
INSERT INTO "_changes" VALUES(7,1,7,1795479223073423,'delete','01a20ae6-bade-7be7-a14f-1deac142cf09',2,'01a20ae6-bb18-7f99-8d97-9aaeb298a421','{"id":"01a20ae6-bb18-7f99-8d97-9aaeb298a421","title":"third","likes":-0.25,"open":false,"more":null,"account_id":"815649e9-41f2-40eb-b606-19a07762f5de","created_at":"2026-11-24T00:13:43.065Z","created_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740","updated_at":"2026-11-24T00:13:43.065Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}',NULL,'bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','49a11e687',0,2);
INSERT INTO "_changes" VALUES(8,1,8,1795479223073423,'delete','01a20ae6-bae3-753b-ad06-8e4fc24cbd5b',3,'01a20ae6-bb1d-7e31-a9c8-6134a736b2e3','{"id":"01a20ae6-bb1d-7e31-a9c8-6134a736b2e3","text":"well","post":"01a20ae6-bb18-7f99-8d97-9aaeb298a421","account_id":"815649e9-41f2-40eb-b606-19a07762f5de","created_at":"2026-11-24T00:13:43.069Z","created_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740","updated_at":"2026-11-24T00:13:43.069Z","updated_by":"bbbc9a73-9b7f-4b4e-baca-d985ebfbe740"}',NULL,'bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','49a11e687',1,2);
CREATE TABLE _collections(
        id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL COLLATE NOCASE UNIQUE, table_name TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL, version INTEGER NOT NULL, schema_version INTEGER NOT NULL,
        rules_version INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL) STRICT;
INSERT INTO "_collections" VALUES('01a20ae6-bade-7be7-a14f-1deac142cf09','posts','c_posts','{"id":"01a20ae6-bade-7be7-a14f-1deac142cf09","name":"posts","table":"c_posts","fields":[{"name":"title","type":"text","required":true,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"likes","type":"number","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"open","type":"boolean","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"more","type":"json","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null}],"indexes":[],"rules":{"list_rule":"@request.auth.id != ''''","view_rule":"@request.auth.id != \"\"","create_rule":"@request.auth.id != \"\"","update_rule":"created_by = @request.auth.id","delete_rule":"@request.auth.id != \"\""},"list_fields":null,"view_fields":null,"schema_version":2,"rules_version":2,"version":2,"created_at":"2026-11-24T00:13:43.007Z","updated_at":"2026-11-24T00:13:43.007Z"}',2,2,2,'2026-11-24T00:13:43.007Z','2026-11-24T00:13:43.007Z');
INSERT INTO "_collections" VALUES('01a20ae6-bae3-753b-ad06-8e4fc24cbd5b','comments','c_comments','{"id":"01a20ae6-bae3-753b-ad06-8e4fc24cbd5b","name":"comments","table":"c_comments","fields":[{"name":"text","type":"text","required":false,"default":null,"unique":false,"options":null,"collection":null,"on_delete":null},{"name":"post","type":"reference","required":false,"default":null,"unique":false,"options":null,"collection":"posts","on_delete":"cascade"}],"indexes":[],"rules":{"list_rule":"@request.auth.id != \"\"","view_rule":"@request.auth.id != \"\"","create_rule":"@request.auth.id != \"\"","update_rule":"@request.auth.id != \"\"","delete_rule":"@request.auth.id != \"\""},"list_fields":null,"view_fields":null,"schema_version":3,"rules_version":3,"version":3,"created_at":"2026-11-24T00:13:43.011Z","updated_at":"2026-11-24T00:13:43.011Z"}',3,3,3,'2026-11-24T00:13:43.011Z','2026-11-24T00:13:43.011Z');
CREATE TABLE _heads(
        account INTEGER PRIMARY KEY, seq INTEGER NOT NULL, ts_us INTEGER NOT NULL,
        floor_seq INTEGER NOT NULL DEFAULT 0, floor_ts_us INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO "_heads" VALUES(0,0,0,0,0,0);
INSERT INTO "_heads" VALUES(1,8,1795479223073423,0,0,4432);
CREATE TABLE _logins(
        sid TEXT PRIMARY KEY NOT NULL, user_id TEXT NOT NULL, account_id TEXT NOT NULL, refresh_jti TEXT NOT NULL,
        created_at TEXT NOT NULL, expires_at INTEGER NOT NULL, ended_at TEXT) STRICT;
INSERT INTO "_logins" VALUES('q6-zkHVLJCXvYHobzs2eGg','aa3b80ce-8e42-4d93-91d0-f30f1bb95a0f','00000000-0000-0000-0000-000000000000','cv-WHjn0jvLEJir7yzSifQ','2026-11-24T00:13:43.001Z',1796084025,NULL);
INSERT INTO "_logins" VALUES('qb8y8MlP-QUQYam2Glat3Q','bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','815649e9-41f2-40eb-b606-19a07762f5de','WeVuThdHZaGC53GZJt5rLQ','2026-11-24T00:13:43.040Z',1796084025,NULL);
CREATE TABLE _meta(key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT;
INSERT INTO "_meta" VALUES('version','3');
INSERT INTO "_meta" VALUES('schema_version','2');
INSERT INTO "_meta" VALUES('epoch','c5z9xh');
CREATE TABLE _roles(
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, description TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "_roles" VALUES(1,'admin','Manages the account');
INSERT INTO "_roles" VALUES(2,'user','Member of the account');
CREATE TABLE _users(
        id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, email TEXT NOT NULL, password_hash TEXT NOT NULL,
        role_id INTEGER NOT NULL, groups TEXT NOT NULL DEFAULT '[]', is_active INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_login TEXT, UNIQUE(account_id, email)) STRICT;
INSERT INTO "_users" VALUES('aa3b80ce-8e42-4d93-91d0-f30f1bb95a0f','00000000-0000-0000-0000-000000000000','root@example.com','$argon2id$v=19$m=19456,t=2,p=1$W+TRkjR4jfCGUs5iBy0uFQ$GMweiITvN4AJ0TjaOZp3r7U4UKmr2HdkXvqRcCL43Wo',1,'[]',1,'2026-11-24T00:13:42.860Z','2026-11-24T00:13:42.860Z','2026-11-24T00:13:43.001Z');
INSERT INTO "_users" VALUES('bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','815649e9-41f2-40eb-b606-19a07762f5de','ada@example.com','$argon2id$v=19$m=19456,t=2,p=1$8+jXVg3EPU9tDzDaJSLEzw$GEpG4KdHCn2a5UUbPWie2A5LrpEf8ZGFdUaLyD8KNdw',1,'[]',1,'2026-11-24T00:13:43.040Z','2026-11-24T00:13:43.040Z','2026-11-24T00:13:43.040Z');
CREATE TABLE "c_comments"(id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT, updated_at TEXT NOT NULL, updated_by TEXT, "text" TEXT, "post" TEXT);
INSERT INTO "c_comments" VALUES('01a20ae6-bb1a-7fca-a53e-6c46b46ccfc2','815649e9-41f2-40eb-b606-19a07762f5de','2026-11-24T00:13:43.068Z','bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','2026-11-24T00:13:43.068Z','bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','well','01a20ae6-bb04-78cc-96fb-ea7bd3bcb267');
CREATE TABLE "c_posts"(id TEXT PRIMARY KEY NOT NULL, account_id TEXT NOT NULL, created_at TEXT NOT NULL, created_by TEXT, updated_at TEXT NOT NULL, updated_by TEXT, "title" TEXT, "likes" REAL, "open" INTEGER, "more" TEXT);
INSERT INTO "c_posts" VALUES('01a20ae6-bb04-78cc-96fb-ea7bd3bcb267','815649e9-41f2-40eb-b606-19a07762f5de','2026-11-24T00:13:43.044Z','bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','2026-11-24T00:13:43.044Z','bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','first',1.5,1,'{"a":[1,null,"ä"]}');
INSERT INTO "c_posts" VALUES('01a20ae6-bb15-7462-ac3f-212eff699c88','815649e9-41f2-40eb-b606-19a07762f5de','2026-11-24T00:13:43.061Z','bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','2026-11-24T00:13:43.071Z','bbbc9a73-9b7f-4b4e-baca-d985ebfbe740','second, changed',NULL,NULL,NULL);
CREATE INDEX _logins_user ON _logins(user_id);
CREATE INDEX _logins_expiry ON _logins(expires_at);
CREATE INDEX _changes_control ON _changes(account, record_id, seq) WHERE op = 'control';
CREATE INDEX "c_posts:index:created_at,id" ON "c_posts"("account_id", "created_at", "id");
CREATE INDEX "c_comments:index:created_at,id" ON "c_comments"("account_id", "created_at", "id");
CREATE INDEX "c_comments:index:post" ON "c_comments"("account_id", "post");
COMMIT;
