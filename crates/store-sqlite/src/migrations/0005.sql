-- What exactly one living node does for all. fence: grows whenever it is given, moved or taken back, so that whoever had it
-- before is known. cursor: where it goes on; note: what people should know of it, as JSON.
CREATE TABLE duty (
  name TEXT PRIMARY KEY, node INTEGER, fence INTEGER NOT NULL DEFAULT 0, cursor TEXT, note TEXT) STRICT, WITHOUT ROWID;
