-- The hot tables are `tick`, `permit` and `mail`; `machine` and `event` are history as well as state.
-- Moments are microseconds since 1970. Keys of machines carry their millisecond (ostler_model::id).

-- salt; first_event: events before it may be missing; last_pruned: no key up to it is given again;
-- pruned_to, trimmed_to: how far the walks of prune have come; roots, roots_upto: machines counted so far.
CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY) STRICT, WITHOUT ROWID;

CREATE TABLE namespace (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, origin TEXT NOT NULL DEFAULT '', actor TEXT NOT NULL DEFAULT '',
  ephemeral INTEGER NOT NULL DEFAULT 0, paused INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL) STRICT;

CREATE TABLE task (
  id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, name TEXT NOT NULL, definition INTEGER NOT NULL,
  enabled INTEGER NOT NULL, paused INTEGER NOT NULL DEFAULT 0, missing INTEGER NOT NULL DEFAULT 0,
  origin TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, UNIQUE (ns, name)) STRICT;

-- replaced_at: since when the task has another one.
CREATE TABLE definition (
  id INTEGER PRIMARY KEY, task INTEGER NOT NULL, digest TEXT NOT NULL, body TEXT NOT NULL,
  created_at INTEGER NOT NULL, replaced_at INTEGER, UNIQUE (task, digest)) STRICT;
CREATE INDEX definition_replaced ON definition (replaced_at) WHERE replaced_at IS NOT NULL;

CREATE TABLE preset (
  id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, name TEXT NOT NULL, task TEXT NOT NULL, body TEXT NOT NULL,
  origin TEXT NOT NULL, missing INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, UNIQUE (ns, name)) STRICT;

-- Which machine is the schedule of a task, and the digest of what decides when it is due.
CREATE TABLE schedule (
  task INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, machine INTEGER NOT NULL,
  PRIMARY KEY (task, name)) STRICT, WITHOUT ROWID;

CREATE TABLE machine (
  id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, ns INTEGER NOT NULL,
  task INTEGER NOT NULL DEFAULT 0, definition INTEGER NOT NULL DEFAULT 0,
  state INTEGER NOT NULL DEFAULT 0, step INTEGER NOT NULL DEFAULT 1,
  parent INTEGER, child_key TEXT, watcher INTEGER,
  started_at INTEGER, finished_at INTEGER,
  unique_key TEXT, idem_key TEXT,
  last_event INTEGER NOT NULL, fields TEXT NOT NULL) STRICT;
-- Each index ends in the key of its row, so (task) is (task, id).
-- The one index that every run pays: lists of a task's runs, newest first.
CREATE INDEX machine_task ON machine (task) WHERE parent IS NULL;
CREATE INDEX machine_parent ON machine (parent) WHERE parent IS NOT NULL;
CREATE INDEX machine_watched ON machine (watcher) WHERE watcher IS NOT NULL AND state = 0;
CREATE UNIQUE INDEX machine_unique ON machine (ns, unique_key) WHERE unique_key IS NOT NULL;
CREATE UNIQUE INDEX machine_idem ON machine (ns, idem_key) WHERE idem_key IS NOT NULL;
-- Good ends (10) are most of all rows and found without it.
CREATE INDEX machine_bad ON machine (state) WHERE state > 10 AND parent IS NULL;
CREATE INDEX machine_schedule ON machine (kind) WHERE kind = 3;

-- One row for each machine that lives. phase: 0 later, 1 ready, 2 claimed, 3 held. held: bits, by what.
CREATE TABLE tick (
  machine INTEGER PRIMARY KEY, lane INTEGER NOT NULL, priority INTEGER NOT NULL, due_at INTEGER NOT NULL,
  phase INTEGER NOT NULL, node INTEGER, fence INTEGER NOT NULL DEFAULT 0,
  woken INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0,
  since INTEGER) STRICT;
CREATE INDEX tick_later ON tick (due_at) WHERE phase = 0;
CREATE INDEX tick_ready ON tick (lane, priority, due_at) WHERE phase = 1;
CREATE INDEX tick_claimed ON tick (node) WHERE phase = 2;

-- Each event points at its machine's previous one, so that a history is read by primary key.
CREATE TABLE event (
  seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, machine INTEGER NOT NULL, step INTEGER NOT NULL,
  prev INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL) STRICT;

CREATE TABLE mail (seq INTEGER PRIMARY KEY AUTOINCREMENT, machine INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
CREATE INDEX mail_machine ON mail (machine);

-- What a claim may treat alike. Zero stands for none, so that the key finds it.
CREATE TABLE lane (
  id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, class INTEGER NOT NULL,
  concurrency INTEGER NOT NULL DEFAULT 0, rate INTEGER NOT NULL DEFAULT 0, home INTEGER NOT NULL DEFAULT 0,
  UNIQUE (ns, class, concurrency, rate, home)) STRICT;
CREATE INDEX lane_home ON lane (home) WHERE home <> 0;
CREATE INDEX lane_rate ON lane (rate) WHERE rate <> 0;

-- kind: 1 so many at a time, 2 a rate. `tat` is the theoretical arrival time of GCRA.
CREATE TABLE "limit" (
  id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL,
  max INTEGER NOT NULL, interval INTEGER NOT NULL DEFAULT 0, on_full INTEGER NOT NULL DEFAULT 0,
  tat INTEGER NOT NULL DEFAULT 0, UNIQUE (ns, kind, key)) STRICT;

-- A permit is a row with its holder, never a counter. asked: its holder has been asked to end.
CREATE TABLE permit (
  "limit" INTEGER NOT NULL, machine INTEGER NOT NULL, asked INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY ("limit", machine)) STRICT, WITHOUT ROWID;

CREATE TABLE node (
  id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, owner INTEGER NOT NULL, started_at INTEGER NOT NULL,
  renewals INTEGER NOT NULL DEFAULT 0, closed INTEGER NOT NULL DEFAULT 0) STRICT;
