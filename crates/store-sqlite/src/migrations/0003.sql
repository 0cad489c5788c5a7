-- Tokens of callers over the network. The secret itself is nowhere.
CREATE TABLE token (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, prefix TEXT NOT NULL, scopes TEXT NOT NULL,
  created_by TEXT NOT NULL, created_at INTEGER NOT NULL, expires_at INTEGER, revoked_at INTEGER) STRICT;
CREATE UNIQUE INDEX token_name ON token (name) WHERE revoked_at IS NULL;

-- Triggers are machines of kind 4; `schedule` holds them beside schedules. Who is told of the ends of a task's runs is
-- kept by names: the task may come later than the trigger.
CREATE INDEX machine_trigger ON machine (kind) WHERE kind = 4;
CREATE TABLE listener (
  machine INTEGER PRIMARY KEY, ns TEXT NOT NULL, task TEXT NOT NULL) STRICT;
