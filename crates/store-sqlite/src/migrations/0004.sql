-- What a lane asks of the node that takes from it; 0 for nothing. Words in order, with spaces between.
CREATE TABLE label_set (id INTEGER PRIMARY KEY, labels TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE lane_4 (
  id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, class INTEGER NOT NULL,
  concurrency INTEGER NOT NULL DEFAULT 0, rate INTEGER NOT NULL DEFAULT 0, home INTEGER NOT NULL DEFAULT 0,
  light INTEGER NOT NULL DEFAULT 0, labels INTEGER NOT NULL DEFAULT 0,
  UNIQUE (ns, class, concurrency, rate, home, light, labels)) STRICT;
INSERT INTO lane_4 (id, ns, class, concurrency, rate, home, light)
  SELECT id, ns, class, concurrency, rate, home, light FROM lane;
DROP TABLE lane;
ALTER TABLE lane_4 RENAME TO lane;
CREATE INDEX lane_home ON lane (home) WHERE home <> 0;
CREATE INDEX lane_rate ON lane (rate) WHERE rate <> 0;

-- labels: what a node has. waited: how long its last renewal but one waited for the store. worker: for one that takes work over the network, the actor that speaks for it.
ALTER TABLE node ADD COLUMN labels TEXT NOT NULL DEFAULT '';
ALTER TABLE node ADD COLUMN slots INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN worker TEXT;
ALTER TABLE node ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN only_labelled INTEGER NOT NULL DEFAULT 0;
ALTER TABLE node ADD COLUMN waited INTEGER NOT NULL DEFAULT 0;
