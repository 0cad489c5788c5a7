//! What must hold between the tables of every store: `ostler db check` looks for what does not.

/// Contradictions between tables: the words for one, and the SQL that counts it, in the words that both stores know.
pub const INVARIANTS: &[(&str, &str)] = &[
    (
        "machines that live and have no place in the queue",
        "SELECT count(*) FROM machine m WHERE m.state=0 AND NOT EXISTS (SELECT 1 FROM tick t WHERE t.machine=m.id)",
    ),
    (
        "places in the queue of machines that are gone or have ended",
        "SELECT count(*) FROM tick t LEFT JOIN machine m ON m.id=t.machine WHERE m.id IS NULL OR m.state<>0",
    ),
    (
        "places in the queue in lanes that are gone",
        "SELECT count(*) FROM tick t WHERE NOT EXISTS (SELECT 1 FROM lane l WHERE l.id=t.lane)",
    ),
    (
        "lanes whose limit is gone",
        "SELECT count(*) FROM lane l WHERE EXISTS (SELECT 1 FROM tick t WHERE t.lane=l.id)
           AND (l.concurrency<>0 AND NOT EXISTS (SELECT 1 FROM \"limit\" i WHERE i.id=l.concurrency)
             OR l.rate<>0 AND NOT EXISTS (SELECT 1 FROM \"limit\" i WHERE i.id=l.rate))",
    ),
    (
        "lanes whose labels are gone",
        "SELECT count(*) FROM lane l WHERE l.labels<>0 AND NOT EXISTS (SELECT 1 FROM label_set s WHERE s.id=l.labels)",
    ),
    (
        "permits of machines that are gone or have ended",
        "SELECT count(*) FROM permit p LEFT JOIN machine m ON m.id=p.machine WHERE m.id IS NULL OR m.state<>0",
    ),
    (
        "letters to machines that are gone or have ended",
        "SELECT count(*) FROM mail l LEFT JOIN machine m ON m.id=l.machine WHERE m.id IS NULL OR m.state<>0",
    ),
    (
        "parts whose flow has ended while they live",
        "SELECT count(*) FROM tick t JOIN machine m ON m.id=t.machine JOIN machine p ON p.id=m.parent WHERE p.state<>0",
    ),
    (
        "machines whose last event is not theirs or is gone",
        "SELECT count(*) FROM machine m LEFT JOIN event e ON e.seq=m.last_event
         WHERE e.seq IS NULL OR e.machine<>m.id OR e.step<>m.step",
    ),
    (
        "machines pinned to a definition that is gone",
        "SELECT count(*) FROM machine m WHERE m.definition<>0 AND m.state=0
           AND NOT EXISTS (SELECT 1 FROM definition d WHERE d.id=m.definition)",
    ),
    (
        "tasks whose definition is gone",
        "SELECT count(*) FROM task t WHERE NOT EXISTS (SELECT 1 FROM definition d WHERE d.id=t.definition)",
    ),
    (
        "claims of nodes that are closed",
        "SELECT count(*) FROM tick t LEFT JOIN node n ON n.id=t.node WHERE t.phase=2 AND (n.id IS NULL OR n.closed)",
    ),
];
