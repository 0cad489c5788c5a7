-- A lane's number says what it is (ostler_store::LIGHT_LANES): light machines have theirs apart from others, and those of
-- lanes under a limit are negative. So a claim walks over those that it may take, and over no full one.
UPDATE tick SET lane =
  (SELECT CASE WHEN l.concurrency <> 0 OR l.rate <> 0 THEN -1 ELSE 1 END * (l.id + l.light * 1073741824)
   FROM lane l WHERE l.id = tick.lane)
WHERE lane IN (SELECT id FROM lane WHERE light <> 0 OR concurrency <> 0 OR rate <> 0);
UPDATE lane SET id = CASE WHEN concurrency <> 0 OR rate <> 0 THEN -1 ELSE 1 END * (id + light * 1073741824)
WHERE light <> 0 OR concurrency <> 0 OR rate <> 0;
CREATE INDEX lane_concurrency ON lane (concurrency) WHERE concurrency <> 0;

-- Lanes under a limit that a claim is to look at, from a moment on; 0 for at once. One that is full or empty leaves the
-- list until a permit comes back or something becomes ready in it, by triggers, so that no way is forgotten. Only what a
-- start puts into the queue is said by the start: a trigger would cost every insertion a microsecond.
CREATE TABLE visit (lane INTEGER PRIMARY KEY, light INTEGER NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE INDEX visit_at ON visit (light, at);
INSERT INTO visit (lane, light, at) SELECT DISTINCT lane, lane < -1073741824, 0 FROM tick WHERE phase = 1 AND lane < 0;

CREATE TRIGGER tick_is_ready AFTER UPDATE OF phase, lane ON tick WHEN NEW.phase = 1 AND NEW.lane < 0 BEGIN
  INSERT INTO visit (lane, light, at) VALUES (NEW.lane, NEW.lane < -1073741824, 0)
    ON CONFLICT (lane) DO UPDATE SET at = 0 WHERE at <> 0;
END;
CREATE TRIGGER permit_is_back AFTER DELETE ON permit BEGIN
  INSERT INTO visit (lane, light, at)
    SELECT l.id, l.light, 0 FROM lane l
    WHERE l.concurrency = OLD."limit" AND l.concurrency <> 0
      AND EXISTS (SELECT 1 FROM tick t WHERE t.phase = 1 AND t.lane = l.id)
    ON CONFLICT (lane) DO UPDATE SET at = 0 WHERE at <> 0;
END;
CREATE TRIGGER limit_is_another AFTER UPDATE OF max, interval, on_full ON "limit" BEGIN
  INSERT INTO visit (lane, light, at)
    SELECT l.id, l.light, 0 FROM lane l
    WHERE (l.concurrency = NEW.id AND l.concurrency <> 0 OR l.rate = NEW.id AND l.rate <> 0)
      AND EXISTS (SELECT 1 FROM tick t WHERE t.phase = 1 AND t.lane = l.id)
    ON CONFLICT (lane) DO UPDATE SET at = 0 WHERE at <> 0;
END;
CREATE TRIGGER lane_goes AFTER DELETE ON lane WHEN OLD.id < 0 BEGIN
  DELETE FROM visit WHERE lane = OLD.id;
END;

-- charged: what its namespace was charged at the last claim (ostler_store::Turns).
ALTER TABLE tick ADD COLUMN charged INTEGER NOT NULL DEFAULT 0;
-- weight: the part of the work that it gets beside others that wait.
ALTER TABLE namespace ADD COLUMN weight INTEGER NOT NULL DEFAULT 1;
