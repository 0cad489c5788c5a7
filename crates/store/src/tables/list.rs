//! The tables, and the numbers beside them. Each store has a test that compares them with its schema.

use super::{Column, ColumnType, Table};

const fn int(name: &'static str) -> Column {
    Column { name, holds: ColumnType::Int }
}

const fn flag(name: &'static str) -> Column {
    Column { name, holds: ColumnType::Flag }
}

const fn text(name: &'static str) -> Column {
    Column { name, holds: ColumnType::Text }
}

/// Processes that use the store or did so.
pub static NODE: Table = Table {
    name: "node",
    key: 1,
    columns: &[
        int("id"),
        text("name"),
        flag("owner"),
        int("started_at"),
        int("renewals"),
        flag("closed"),
        text("labels"),
        int("slots"),
        text("worker"),
        flag("draining"),
    ],
};

/// Blocks of run logs. The embedded store keeps them in files beside it.
pub static LOG: Table = Table {
    name: "log",
    key: 2,
    columns: &[
        int("machine"),
        int("place"),
        int("unpacked"),
        Column { name: "block", holds: ColumnType::Bytes },
    ],
};

/// All tables whose rows are copied, what is referred to before what refers to it.
pub static TABLES: &[&Table] = &[
    &Table {
        name: "namespace",
        key: 1,
        columns: &[
            int("id"),
            text("name"),
            text("origin"),
            text("actor"),
            flag("ephemeral"),
            flag("paused"),
            int("created_at"),
            int("seen_at"),
        ],
    },
    &Table { name: "label_set", key: 1, columns: &[int("id"), text("labels")] },
    &Table {
        name: "limit",
        key: 1,
        columns: &[
            int("id"),
            int("ns"),
            int("kind"),
            text("key"),
            int("max"),
            int("interval"),
            int("on_full"),
            int("tat"),
        ],
    },
    &Table {
        name: "lane",
        key: 1,
        columns: &[
            int("id"),
            int("ns"),
            int("class"),
            int("concurrency"),
            int("rate"),
            int("home"),
            flag("light"),
            int("labels"),
        ],
    },
    &Table {
        name: "task",
        key: 1,
        columns: &[
            int("id"),
            int("ns"),
            text("name"),
            int("definition"),
            flag("enabled"),
            flag("paused"),
            flag("missing"),
            text("origin"),
            int("created_at"),
            int("updated_at"),
        ],
    },
    &Table {
        name: "definition",
        key: 1,
        columns: &[
            int("id"),
            int("task"),
            text("digest"),
            text("body"),
            int("created_at"),
            int("replaced_at"),
        ],
    },
    &Table {
        name: "preset",
        key: 1,
        columns: &[
            int("id"),
            int("ns"),
            text("name"),
            text("task"),
            text("body"),
            text("origin"),
            flag("missing"),
            int("created_at"),
            int("updated_at"),
        ],
    },
    &Table {
        name: "schedule",
        key: 2,
        columns: &[int("task"), text("name"), text("digest"), int("machine")],
    },
    &Table { name: "listener", key: 1, columns: &[int("machine"), text("ns"), text("task")] },
    &NODE,
    &Table {
        name: "token",
        key: 1,
        columns: &[
            int("id"),
            text("name"),
            text("hash"),
            text("prefix"),
            text("scopes"),
            text("created_by"),
            int("created_at"),
            int("expires_at"),
            int("revoked_at"),
        ],
    },
    &Table {
        name: "machine",
        key: 1,
        columns: &[
            int("id"),
            int("kind"),
            int("ns"),
            int("task"),
            int("definition"),
            int("state"),
            int("step"),
            int("parent"),
            text("child_key"),
            int("watcher"),
            int("started_at"),
            int("finished_at"),
            text("unique_key"),
            text("idem_key"),
            int("last_event"),
            text("fields"),
        ],
    },
    &Table {
        name: "tick",
        key: 1,
        columns: &[
            int("machine"),
            int("lane"),
            int("priority"),
            int("due_at"),
            int("phase"),
            int("node"),
            int("fence"),
            int("woken"),
            flag("lost"),
            int("held"),
            int("since"),
        ],
    },
    &Table { name: "permit", key: 2, columns: &[int("limit"), int("machine"), flag("asked")] },
    &Table { name: "mail", key: 2, columns: &[int("machine"), int("seq"), text("body")] },
    &Table {
        name: "event",
        key: 1,
        columns: &[
            int("seq"),
            int("at"),
            int("machine"),
            int("step"),
            int("prev"),
            text("kind"),
            text("body"),
        ],
    },
    &LOG,
];

/// Numbers that a store remembers in `meta`, with what counts where one is not there. `salt` makes its public ids.
pub const NUMBERS: &[(&str, i64)] = &[
    ("salt", 0),
    ("first_event", 1),
    ("last_pruned", 0),
    ("pruned_to", 0),
    ("trimmed_to", 0),
    ("roots", 0),
    ("roots_upto", 0),
];
