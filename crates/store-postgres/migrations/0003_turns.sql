-- A lane's number says what it is (ostler_store::LIGHT_LANES): light machines have theirs apart from others, and those of
-- lanes under a limit are negative. So a claim walks over those that it may take, and over no full one.
UPDATE tick t SET lane = CASE WHEN l.concurrency <> 0 OR l.rate <> 0 THEN -1 ELSE 1 END
    * (l.id + CASE WHEN l.light THEN 1073741824 ELSE 0 END)
  FROM lane l WHERE l.id = t.lane AND (l.light OR l.concurrency <> 0 OR l.rate <> 0);
UPDATE lane SET id = CASE WHEN concurrency <> 0 OR rate <> 0 THEN -1 ELSE 1 END
    * (id + CASE WHEN light THEN 1073741824 ELSE 0 END)
  WHERE light OR concurrency <> 0 OR rate <> 0;
CREATE INDEX lane_concurrency ON lane (concurrency) WHERE concurrency <> 0;

-- Lanes under a limit that a claim is to look at, from a moment on; 0 for at once. One that is full or empty leaves the
-- list until a permit comes back or something becomes ready in it, by triggers, so that no way is forgotten. There is a
-- row for each transaction that says so: nobody waits for another one to say it. Whoever has the limits of a lane in hand
-- deletes those rows that it sees before it looks at the lane, so what it does not see yet is looked at later.
CREATE TABLE visit (
  lane INTEGER NOT NULL, tx BIGINT NOT NULL, light BOOLEAN NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (lane, tx))
  WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX visit_at ON visit (light, at, lane);

-- Limits that have got a permit back or are others now, by transaction as well. A claim turns them into visits of those
-- of their lanes in which something is ready: whoever gives back cannot know, since others' rows are not seen yet.
CREATE TABLE freed (bound INTEGER NOT NULL, tx BIGINT NOT NULL, PRIMARY KEY (bound, tx))
  WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);

CREATE FUNCTION tick_is_ready() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO visit (lane, tx, light, at) VALUES (NEW.lane, txid_current(), NEW.lane < -1073741824, 0)
    ON CONFLICT (lane, tx) DO UPDATE SET at = 0 WHERE visit.at <> 0;
  RETURN NULL;
END $$;
CREATE TRIGGER tick_is_ready AFTER INSERT OR UPDATE OF phase, lane ON tick
  FOR EACH ROW WHEN (NEW.phase = 1 AND NEW.lane < 0) EXECUTE FUNCTION tick_is_ready();

CREATE FUNCTION permit_is_back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO freed (bound, tx) VALUES (OLD."limit", txid_current()) ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER permit_is_back AFTER DELETE ON permit FOR EACH ROW EXECUTE FUNCTION permit_is_back();

CREATE FUNCTION limit_is_another() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO freed (bound, tx) VALUES (NEW.id, txid_current()) ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER limit_is_another AFTER UPDATE OF max, "interval", on_full ON "limit"
  FOR EACH ROW EXECUTE FUNCTION limit_is_another();

INSERT INTO visit (lane, tx, light, at)
  SELECT DISTINCT lane, txid_current(), lane < -1073741824, 0 FROM tick WHERE phase = 1 AND lane < 0;

-- charged: what its namespace was charged at the last claim (ostler_store::Turns).
ALTER TABLE tick ADD COLUMN charged BIGINT NOT NULL DEFAULT 0;

-- weight: the part of the work that it gets beside others that wait. spent: time of slots that nodes say they have spent
-- on it, each about once a second.
ALTER TABLE namespace ADD COLUMN weight INTEGER NOT NULL DEFAULT 1, ADD COLUMN spent BIGINT NOT NULL DEFAULT 0;
ALTER TABLE namespace SET (fillfactor = 50);

-- What nodes remember of lanes is wrong now.
UPDATE meta SET value = value + 1 WHERE key = 'generation';
