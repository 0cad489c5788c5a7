-- light: machines that carry nothing out and so take no slot. They have lanes of their own.
CREATE TABLE lane_2 (
  id INTEGER PRIMARY KEY, ns INTEGER NOT NULL, class INTEGER NOT NULL,
  concurrency INTEGER NOT NULL DEFAULT 0, rate INTEGER NOT NULL DEFAULT 0, home INTEGER NOT NULL DEFAULT 0,
  light INTEGER NOT NULL DEFAULT 0,
  UNIQUE (ns, class, concurrency, rate, home, light)) STRICT;
INSERT INTO lane_2 (id, ns, class, concurrency, rate, home)
  SELECT id, ns, class, concurrency, rate, home FROM lane;
DROP TABLE lane;
ALTER TABLE lane_2 RENAME TO lane;
CREATE INDEX lane_home ON lane (home) WHERE home <> 0;
CREATE INDEX lane_rate ON lane (rate) WHERE rate <> 0;

-- Schedules and flows that live move to theirs. Runs are machines of kind 1.
INSERT INTO lane (ns, class, concurrency, rate, home, light)
  SELECT DISTINCT l.ns, l.class, l.concurrency, l.rate, l.home, 1
  FROM tick t JOIN machine m ON m.id = t.machine JOIN lane l ON l.id = t.lane WHERE m.kind <> 1;
UPDATE tick SET lane =
  (SELECT light.id FROM lane own JOIN lane light ON light.ns = own.ns AND light.class = own.class
     AND light.concurrency = own.concurrency AND light.rate = own.rate AND light.home = own.home AND light.light = 1
   WHERE own.id = tick.lane)
WHERE machine IN (SELECT t.machine FROM tick t JOIN machine m ON m.id = t.machine WHERE m.kind <> 1);
