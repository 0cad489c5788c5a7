-- What exactly one living node does for all. fence: grows whenever it is given, moved or taken back, so that whoever had it
-- before is known. cursor: where it goes on; note: what people should know of it, as JSON.
CREATE TABLE duty (
  name TEXT PRIMARY KEY, node INTEGER, fence INTEGER NOT NULL DEFAULT 0, cursor TEXT, note TEXT) STRICT, WITHOUT ROWID;

-- What carries events out; its duty has the cursor.
CREATE TABLE sink (
  id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, enabled INTEGER NOT NULL,
  paused INTEGER NOT NULL DEFAULT 0, missing INTEGER NOT NULL DEFAULT 0, origin TEXT NOT NULL,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, UNIQUE (ns, name)) STRICT;
