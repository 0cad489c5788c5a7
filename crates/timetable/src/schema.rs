//! The JSON Schema of definition files, for editors: completion, hints, and the errors that a schema can tell.
//!
//! It describes the form; what hangs together (needs, expressions, calendars, zones) is checked by loading. Both
//! spellings of a key, `continue-on-error` and `continue_on_error`, are in it.

use serde_json::{Map, Value, json};

/// The JSON Schema (draft 2020-12) of definition files in YAML, JSON and TOML.
#[must_use]
pub fn editor_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://example.org/ostler/ostler-timetable.schema.json",
        "title": "Ostler timetable",
        "description": "Tasks, their schedules and presets.",
        "$ref": "#/$defs/file",
        "$defs": {
            "file": file(),
            "task": task(),
            "step": step(),
            "steps": { "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/step" } },
            "handlers": { "anyOf": [{ "$ref": "#/$defs/step" }, { "$ref": "#/$defs/steps" }] },
            "on": on(),
            "schedule": schedule(),
            "preset": preset(),
            "sink": sink(),
            "policy": map("How runs are treated.", policy_parts()),
            "defaults": defaults(),
            "retry": retry(),
            "timeout": timeout(),
            "concurrency": concurrency(),
            "rate_limit": rate_limit(),
            "activation": map("When it is active. With `deactivate_on` before `activate_on` the dates are a pause.", activation_parts(true)),
            "calendar": calendar(),
            "env": {
                "type": "object",
                "description": "Variables of the environment. Values may hold expressions.",
                "additionalProperties": { "type": ["string", "number", "boolean"] },
            },
            "inputs": {
                "description": "Names with types, a JSON Schema of an object, or the name of a protocol.",
                "type": ["object", "string"],
                "examples": [{ "station": { "type": "string", "default": "EDDB" } }],
            },
            "outputs": {
                "description": "Names with types, a JSON Schema, or the name of a protocol.",
                "type": ["object", "string", "boolean"],
            },
            "matrix": {
                "type": "object",
                "description": "Names with lists of constants; the step runs once for each combination.",
                "properties": { "include": maps(), "exclude": maps() },
                "additionalProperties": { "type": "array", "minItems": 1 },
            },
            "expect": {
                "description": "How it should end.",
                "anyOf": [final_state(), map("How it should end.", props(json!({
                    "state": final_state(),
                    "error": described("string", "The class of its error, as in `exit:75`, `http`, `timeout`."),
                })))],
            },
            "duration": {
                "type": "string",
                "description": "A duration with its unit: 250ms, 90s, 10m, 1h30m, 2 days, PT10M.",
                "examples": ["90s", "10m", "1h30m"],
            },
            "moment": { "type": "string", "description": "RFC 3339, or a local date or date and time: 2027-03-01T09:00." },
            "name": {
                "type": ["string", "number"],
                "pattern": "^[\\p{L}\\p{N}_][\\p{L}\\p{N}_.-]{0,127}$",
                "description": "1 to 128 letters, digits, `_`, `-`, `.`",
            },
            "names": one_or_many(json!({ "$ref": "#/$defs/name" })),
            "texts": one_or_many(json!({ "type": ["string", "number", "boolean"] })),
            "text": { "type": ["string", "number", "boolean"] },
        },
    })
}

fn reference(name: &str, text: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}"), "description": text })
}

fn described(kind: &str, text: &str) -> Value {
    json!({ "type": kind, "description": text })
}

fn words(words: &[&str], text: &str) -> Value {
    // The reader takes `-` for `_` and the other way round.
    let mut all: Vec<String> = Vec::new();
    for word in words {
        for spelling in [(*word).to_owned(), word.replace('-', "_"), word.replace('_', "-")] {
            if !all.contains(&spelling) {
                all.push(spelling);
            }
        }
    }
    json!({ "enum": all, "description": text })
}

fn maps() -> Value {
    json!({ "type": "array", "items": { "type": "object" } })
}

fn one_or_many(item: Value) -> Value {
    json!({ "anyOf": [item, { "type": "array", "items": item }] })
}

fn final_state() -> Value {
    words(&["succeeded", "failed", "cancelled", "skipped", "timed_out"], "A final state.")
}

fn props(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

/// A map with these keys, in both spellings, and no others. Null is an empty value of a key.
fn map(text: &str, properties: Map<String, Value>) -> Value {
    let mut all = Map::new();
    for (key, value) in properties {
        if key.contains('_') {
            all.insert(key.replace('_', "-"), value.clone());
        }
        all.insert(key, value);
    }
    json!({ "type": "object", "description": text, "properties": all, "patternProperties": { "^x-": true }, "additionalProperties": false })
}

fn file() -> Value {
    let calendars = json!({ "type": "object", "additionalProperties": { "$ref": "#/$defs/calendar" } });
    let mut properties = props(json!({
        "meta": file_meta(),
        "protocols": described("object", "Named JSON Schemas, for `inputs`, `outputs` and `$ref: \"#/protocols/NAME\"`."),
        "calendars": calendars,
        "defaults": { "$ref": "#/$defs/defaults" },
        "tasks": {
            "description": "The tasks: a list, or a map of ids.",
            "anyOf": [
                { "type": "array", "items": { "$ref": "#/$defs/task" } },
                { "type": "object", "additionalProperties": { "$ref": "#/$defs/task" } },
            ],
        },
        "presets": {
            "description": "Tasks with inputs filled in: a list, or a map of ids.",
            "anyOf": [
                { "type": "array", "items": { "$ref": "#/$defs/preset" } },
                { "type": "object", "additionalProperties": { "$ref": "#/$defs/preset" } },
            ],
        },
        "sinks": {
            "description": "What carries events out: a list, or a map of ids.",
            "anyOf": [
                { "type": "array", "items": { "$ref": "#/$defs/sink" } },
                { "type": "object", "additionalProperties": { "$ref": "#/$defs/sink" } },
            ],
        },
    }));
    properties.extend(environment());
    let mut file = map("A definition file.", properties);
    file["anyOf"] = json!(["tasks", "presets", "calendars", "sinks"].map(|key| json!({ "required": [key] })));
    file
}

fn file_meta() -> Value {
    let meta = map(
        "What the file is.",
        props(json!({
            "type": words(&["ostler-timetable", "supertask-timetable"], "A supertask timetable is read with its own cron dialect and zone."),
            "version": { "enum": [1, "1"] },
            "namespace": reference("name", "The namespace of all that is in the file. Default: one of its own for host, user and file."),
            "timezone": described("string", "The zone of schedules that name none. Default: the machine's."),
            "name": described("string", "For people."),
            "description": described("string", "For people."),
            "owner": described("string", "Who answers for it."),
            "authors": { "$ref": "#/$defs/texts" },
            "generator": described("string", "What wrote the file."),
        })),
    );
    // A supertask timetable may say anything about itself.
    json!({
        "if": { "properties": { "type": { "const": "supertask-timetable" } }, "required": ["type"] },
        "then": { "type": "object" },
        "else": meta,
    })
}

fn task_meta() -> Map<String, Value> {
    props(json!({
        "id": reference("text", "Stable id: history, schedules and presets belong to it."),
        "name": reference("text", "For people."),
        "description": reference("text", "What it is for."),
        "enabled": described("boolean", "Runs at all."),
        "owner": reference("text", "Who answers for it."),
        "tags": { "$ref": "#/$defs/texts" },
        "authors": { "$ref": "#/$defs/texts" },
        "author": { "$ref": "#/$defs/texts" },
        "timezone": described("string", "The zone of its schedules that name none."),
    }))
}

fn task() -> Value {
    let mut meta = map("Who and what the task is.", task_meta());
    meta["additionalProperties"] = Value::Bool(true);
    let mut properties = task_meta();
    properties.extend(props(json!({
        "meta": meta,
        "inputs": { "$ref": "#/$defs/inputs" },
        "outputs": { "$ref": "#/$defs/outputs" },
        "policy": { "$ref": "#/$defs/policy" },
        "on": { "$ref": "#/$defs/on" },
        "defaults": { "$ref": "#/$defs/defaults" },
        "steps": { "$ref": "#/$defs/steps" },
        "on_success": { "$ref": "#/$defs/handlers" },
        "on_failure": { "$ref": "#/$defs/handlers" },
        "expect": { "$ref": "#/$defs/expect" },
        "activation": { "$ref": "#/$defs/activation" },
    })));
    properties.extend(activation_parts(false));
    properties.extend(policy_parts());
    properties.extend(work());
    properties.extend(environment());
    map("A task: `steps`, or `run` or `uses` of its own.", properties)
}

/// What a step does, which a task may say directly.
fn work() -> Map<String, Value> {
    props(json!({
        "run": reference("text", "The code: a shell script unless `uses` says otherwise. Values come by `env`, never by `${{ }}`."),
        "uses": described("string", "The executor: shell, exec, python, http, sql."),
        "with": described("object", "Settings of the executor. Values may hold expressions."),
        "args": described("array", "Positional arguments."),
        "kwargs": described("object", "Keyword arguments."),
        "stdin": reference("text", "Text for standard input."),
        "shell": reference("text", "The shell of `run`; default `sh -e`."),
        "working_directory": reference("text", "Relative to the folder of the file, which is the default."),
        "working_dir": reference("text", "As `working_directory`."),
        "cwd": reference("text", "As `working_directory`."),
        "if": { "type": ["string", "boolean"], "description": "An expression; without a status function it implies `success()`." },
        "continue_on_error": described("boolean", "A failure does not fail the task."),
        "strategy": map("Run once for each combination.", props(json!({
            "matrix": { "$ref": "#/$defs/matrix" },
            "max_parallel": { "type": "integer", "minimum": 1 },
            "fail_fast": described("boolean", "The first failure cancels the others. Default: true."),
        }))),
    }))
}

fn environment() -> Map<String, Value> {
    props(json!({
        "env": { "$ref": "#/$defs/env" },
        "environment": { "$ref": "#/$defs/env" },
        "dotenv": reference("texts", "As `env_file`."),
        "env_file": reference("texts", "Files with `K=V` lines, read when the step starts."),
        "runs_on": reference("names", "Labels that a node must have to carry the step out (`ostler serve --label`, `ostler worker --label`)."),
        "inherit_env": {
            "description": "Variables of the node that are handed on; `true` for all.",
            "anyOf": [{ "type": "boolean" }, { "$ref": "#/$defs/texts" }],
        },
    }))
}

fn step() -> Value {
    let mut properties = props(json!({
        "id": { "$ref": "#/$defs/name" },
        "name": reference("text", "For people."),
        "needs": reference("names", "Steps that must have ended before. When no step has it, they run in the order written."),
        "depends_on": reference("names", "As `needs`."),
        "depends": reference("names", "As `needs`."),
        "retry": { "$ref": "#/$defs/retry" },
        "timeout": { "$ref": "#/$defs/timeout" },
        "outputs": { "$ref": "#/$defs/outputs" },
        "expect": { "$ref": "#/$defs/expect" },
        "idempotent": described("boolean", "May be done twice without harm."),
    }));
    properties.extend(work());
    properties.extend(environment());
    let mut step = map("One call of an executor.", properties);
    step["anyOf"] = json!([{ "required": ["run"] }, { "required": ["uses"] }]);
    step
}

fn defaults() -> Value {
    let mut properties = props(json!({
        "policy": { "$ref": "#/$defs/policy" },
        "shell": reference("text", "The shell of `run` lines."),
        "working_directory": reference("text", "The working directory of steps."),
    }));
    properties.extend(policy_parts());
    properties.extend(environment());
    map("What holds where nothing else is said.", properties)
}

fn policy_parts() -> Map<String, Value> {
    props(json!({
        "retry": { "$ref": "#/$defs/retry" },
        "timeout": { "$ref": "#/$defs/timeout" },
        "deadline": reference("duration", "So long after it was due, a run is ended as timed out, whatever it is doing."),
        "grace": reference("duration", "Between the polite signal and the kill."),
        "priority": words(&["critical", "high", "normal", "low"], "Which ready runs of a namespace go first."),
        "concurrency": { "$ref": "#/$defs/concurrency" },
        "rate_limit": { "$ref": "#/$defs/rate_limit" },
        "unique": described("string", "A template over inputs; while a run with the same value lives, another start answers with it."),
        "idempotent": described("boolean", "May be done twice without harm."),
        "lost": words(&["rerun", "fail"], "What becomes of an attempt whose node died."),
    }))
}

fn retry() -> Value {
    json!({
        "description": "Attempts in all, the first one counted; or a map.",
        "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "const": false },
            map("What happens after a failed attempt.", props(json!({
                "attempts": { "type": "integer", "minimum": 1, "description": "In all, the first one counted." },
                "backoff": words(&["exponential", "linear", "fixed"], "How waiting times grow."),
                "max_attempts": { "type": "integer", "minimum": 1, "description": "As `attempts`." },
                "initial": reference("duration", "The first waiting time. Default: 1s."),
                "delay": reference("duration", "As `initial`."),
                "interval": reference("duration", "As `initial`."),
                "max_delay": reference("duration", "As `max`."),
                "max_interval": reference("duration", "As `max`."),
                "max": reference("duration", "The longest waiting time. Default: 5m."),
                "jitter": described("boolean", "Waiting times are drawn between half and all of it."),
                "on": reference("texts", "Only after these classes of errors: timeout, exit, exit:75, 5xx, http, python.ValueError."),
            }))),
        ],
    })
}

fn timeout() -> Value {
    json!({
        "description": "How long one attempt may take; or a map.",
        "anyOf": [
            { "$ref": "#/$defs/duration" },
            map("How long things may take.", props(json!({
                "queue": reference("duration", "From being ready to being started."),
                "attempt": reference("duration", "One attempt."),
                "total": reference("duration", "From the first start to the end, retries included."),
            }))),
        ],
    })
}

fn concurrency() -> Value {
    json!({
        "description": "How many runs with the same key may run at a time: a key, a limit, or a map.",
        "anyOf": [
            { "type": "string" },
            { "type": "integer", "minimum": 1 },
            map("How many runs with the same key may run at a time.", props(json!({
                "key": described("string", "A template over inputs. Default: the task's id."),
                "group": described("string", "As `key`."),
                "cancel_in_progress": described("boolean", "As `on_conflict: cancel_running`."),
                "limit": { "type": "integer", "minimum": 1 },
                "on_conflict": words(&["queue", "skip", "cancel_running"], "What happens to one too many."),
            }))),
        ],
    })
}

fn rate_limit() -> Value {
    json!({
        "description": "How many runs may start in a period: `10/1m`, or a map.",
        "anyOf": [
            { "type": "string" },
            map("A token bucket.", props(json!({
                "key": described("string", "A template over inputs. Default: the task's id."),
                "limit": { "type": "integer", "minimum": 1 },
                "per": { "$ref": "#/$defs/duration" },
                "burst": { "type": "integer", "minimum": 1 },
            }))),
        ],
    })
}

fn sink() -> Value {
    let outlet = |text: &str, required: &[&str], own: Value| {
        let mut outlet = map(text, props(own));
        outlet["required"] = json!(required);
        outlet
    };
    let secrets = |text: &str| described("string", &format!("{text}; may hold ${{{{ secrets.NAME }}}}."));
    let name = |text: &str| described("string", &format!("{text}; may look up `event`."));
    let webhook = outlet(
        "A request to an address.",
        &["url"],
        json!({
            "url": secrets("https:// or http://"),
            "secret": secrets("Signs the body by HMAC-SHA256, in X-Ostler-Signature"),
            "headers": { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } },
            "batch": { "type": "integer", "minimum": 1, "maximum": 1000, "description": "So many events in one request at most; with more than one the body is a list." },
        }),
    );
    map(
        "What carries events out: which, and to where.",
        props(json!({
            "id": { "$ref": "#/$defs/name" },
            "description": reference("text", "What it is for."),
            "enabled": described("boolean", "Carries anything out at all."),
            "events": reference("texts", "Types, as in run.failed; `*` is wild. All when nothing is said."),
            "event": reference("texts", "As `events`."),
            "tasks": reference("texts", "Tasks that they are of; `*` is wild. All when nothing is said."),
            "task": reference("texts", "As `tasks`."),
            "namespaces": reference("texts", "Namespaces that they are of; `*` is wild. The file's when nothing is said."),
            "namespace": reference("texts", "As `namespaces`."),
            "if": { "type": ["string", "boolean"], "description": "Over `event`; an event for which it is false is passed over." },
            "redis": outlet("An entry of a stream of Redis, or a message to a channel.", &["url"], json!({
                "url": secrets("redis://user:password@host:6379/0, or rediss://"),
                "stream": name("The key of the stream"),
                "max_length": { "type": "integer", "minimum": 1, "description": "The stream keeps about so many entries." },
                "maxlen": { "type": "integer", "minimum": 1, "description": "As `max_length`." },
                "channel": name("The channel"),
            })),
            "nats": outlet("A message to a subject of NATS.", &["url", "subject"], json!({
                "url": secrets("nats://user:password@host:4222, or tls://"),
                "subject": name("The subject"),
                "jetstream": described("boolean", "Wait until a stream has it. Default: true."),
            })),
            "mqtt": outlet("A message to a topic of MQTT.", &["url", "topic"], json!({
                "url": secrets("mqtt://user:password@host:1883, or mqtts://"),
                "topic": name("The topic"),
                "retain": described("boolean", "The broker keeps the last one for those who subscribe later."),
                "client_id": described("string", "The name by which the broker knows the sender."),
            })),
            "postgres": outlet("A notification of PostgreSQL.", &["url", "channel"], json!({
                "url": secrets("postgres://user:password@host/database"),
                "channel": described("string", "The channel."),
            })),
            "webhook": { "anyOf": [secrets("An address"), webhook] },
        })),
    )
}

fn activation_parts(whole: bool) -> Map<String, Value> {
    let mut parts = props(json!({
        "activate_on": reference("moment", "Not before."),
        "deactivate_on": reference("moment", "Not from then on."),
    }));
    if whole {
        let text = "Whether the dates count.";
        parts.insert("mode".into(), words(&["by-dates", "on", "off"], text));
    }
    parts
}

fn on() -> Value {
    map(
        "What starts it.",
        props(json!({
            "schedule": {
                "description": "A cron expression, a schedule, or a list of them.",
                "anyOf": [
                    { "$ref": "#/$defs/schedule" },
                    { "type": "array", "items": { "$ref": "#/$defs/schedule" } },
                ],
            },
            "run": one_or_many(trigger_on_run("When a run of another task has ended.", false)),
            "silence": one_or_many(trigger_on_run("When no run of a task has ended so for too long.", true)),
            "webhook": one_or_many(trigger("At a request to /hooks/NAMESPACE/TASK/ID.", json!({
                "secret": described("string", "By which requests are signed: ${{ secrets.NAME }}."),
                "unsigned": described("boolean", "Whoever reaches the address may start the task."),
            }), &[])),
            "file": one_or_many(json!({ "anyOf": [
                { "type": "string", "description": "A path; `*`, `?` and `**` are wild." },
                trigger("When a file is new or has changed.", json!({
                    "path": described("string", "A path; `*`, `?` and `**` are wild."),
                    "settle": reference("duration", "A file counts when it has been as it is for so long; 1s."),
                    "existing": described("boolean", "Files that are there already count too."),
                }), &["path"]),
            ] })),
            "redis": one_or_many(redis()),
            "nats": one_or_many(nats()),
            "mqtt": one_or_many(trigger("At a message of MQTT.", json!({
                "url": described("string", "mqtt://user:password@host:1883, or mqtts:// for TLS; may look up `secrets`."),
                "topic": described("string", "A topic; `+` and `#` are wild."),
                "qos": { "enum": [0, 1], "default": 1, "description": "1: the broker keeps messages until they are taken; 0: only while somebody listens." },
                "client_id": described("string", "By which the broker knows the listener; made from the trigger when nothing is said."),
                "existing": described("boolean", "What the broker keeps of the topic already counts too."),
            }), &["url", "topic"])),
            "postgres": one_or_many(trigger("At a NOTIFY of PostgreSQL.", json!({
                "url": described("string", "postgres://user:password@host/database; may look up `secrets`."),
                "channel": described("string", "The channel."),
            }), &["url", "channel"])),
            "start": described("boolean", "Each time a `serve` starts."),
            "reboot": described("boolean", "As `start`."),
        })),
    )
}

fn trigger(description: &str, own: Value, required: &[&str]) -> Value {
    let mut properties = props(json!({
        "id": { "$ref": "#/$defs/name" },
        "if": { "type": ["string", "boolean"], "description": "Over `event`; an event for which it is false is ignored." },
        "preset": reference("name", "The preset that is run."),
        "inputs": described("object", "Inputs of the runs; may look up `event`."),
        "debounce": reference("duration", "Fire once, when no event has come for so long."),
        "enabled": described("boolean", "Fires at all."),
    }));
    properties.extend(props(own));
    let mut entry = map(description, properties);
    if !required.is_empty() {
        entry["required"] = json!(required);
    }
    entry
}

/// Exactly one of three keys says where in Redis messages come from.
fn redis() -> Value {
    let mut entry = trigger(
        "At an entry of a stream, a message to a channel or an element of a list of Redis.",
        json!({
            "url": described("string", "redis://user:password@host:6379/0, or rediss:// for TLS; may look up `secrets`."),
            "stream": described("string", "The key of a stream: each entry once."),
            "channel": described("string", "A channel, or with `*`, `?` or `[` a pattern: only while somebody listens."),
            "list": described("string", "The key of a list: each element is taken out of it, once."),
            "end": words(&["left", "right"], "From which end of the list; right, which goes with LPUSH."),
            "existing": described("boolean", "Entries of the stream that are there already count too."),
        }),
        &["url"],
    );
    entry["oneOf"] =
        ["stream", "channel", "list"].into_iter().map(|key| json!({ "required": [key] })).collect();
    entry
}

fn nats() -> Value {
    let mut entry = trigger(
        "At a message of NATS.",
        json!({
            "url": described("string", "nats://user:password@host:4222, or tls:// for TLS; may look up `secrets`."),
            "subject": described("string", "A subject; `*` and `>` are wild."),
            "stream": described("string", "A stream of JetStream: each message once. Without it only while somebody listens."),
            "existing": described("boolean", "Messages of the stream that are there already count too."),
        }),
        &["url"],
    );
    entry["anyOf"] = ["stream", "subject"].into_iter().map(|key| json!({ "required": [key] })).collect();
    entry
}

fn trigger_on_run(description: &str, is_silence: bool) -> Value {
    let ends = words(
        &["succeeded", "failed", "timed_out", "cancelled", "skipped", "any"],
        "The ends that count; succeeded.",
    );
    let mut own = json!({
        "task": described("string", "`task` or `namespace:task`."),
        "state": one_or_many(ends.clone()),
        "states": one_or_many(ends.clone()),
        "outcome": one_or_many(ends),
    });
    if !is_silence {
        let by_name = described("string", "The task: `task` or `namespace:task`.");
        return json!({ "anyOf": [by_name, trigger(description, own, &["task"])] });
    }
    own["after"] = reference("duration", "How long is too long.");
    trigger(description, own, &["task", "after"])
}

fn schedule() -> Value {
    let mut properties = props(json!({
        "id": { "$ref": "#/$defs/name" },
        "cron": { "type": "string", "description": "5, 6 (seconds first) or 7 (years last) fields, or an alias such as @daily.", "examples": ["0 7 * * MON-FRI"] },
        "dialect": words(&["vixie", "supertask"], "Whose meaning of weekday numbers."),
        "every": { "type": "string", "description": "An interval: 250ms, 5m, 1 day, 2 months, 1y." },
        "pace": words(&["precise", "spaced"], "Counted from the planned start, or from the end of the run before."),
        "precise": described("boolean", "As `pace`."),
        "at": one_or_many(json!({ "$ref": "#/$defs/moment" })),
        "rrule": described("string", "An RFC 5545 recurrence."),
        "calendar": described("string", "A systemd calendar expression: Mon..Fri 09:00."),
        "once": { "const": true, "description": "Once, when it is first seen." },
        "reboot": { "const": true, "description": "Each time a `serve` starts." },
        "timezone": described("string", "IANA name of the zone it is read in."),
        "time_zone": described("string", "As `timezone`."),
        "tz": described("string", "As `timezone`."),
        "dst": map("Where the local clock jumps.", props(json!({
            "gap": words(&["shift", "skip"], "A local time that does not exist."),
            "fold": words(&["first", "last", "both"], "A local time that comes twice."),
        }))),
        "missed": {
            "description": "What happens to moments that passed while nobody was there.",
            "anyOf": [
                words(&["skip", "none", "latest", "last", "all"], "Which are made up for."),
                map("Which are made up for.", props(json!({
                    "policy": words(&["skip", "none", "latest", "last", "all"], "Which are made up for."),
                    "within": reference("duration", "Only if not longer ago."),
                }))),
            ],
        },
        "overlap": words(&["allow", "queue", "skip", "cancel-running"], "What happens when the run before still runs."),
        "jitter": reference("duration", "Moved later by a part of this, the same one each time it is worked out."),
        "offset": reference("duration", "Moved later by this."),
        "only": reference("names", "Calendars: only on days that all of these hold."),
        "except": reference("names", "Calendars: never on days that one of these holds."),
        "start": { "$ref": "#/$defs/moment" },
        "end": { "$ref": "#/$defs/moment" },
        "count": { "type": "integer", "minimum": 1, "description": "At most so many firings." },
        "preset": reference("name", "The preset that is run."),
        "inputs": described("object", "Inputs of the runs: constants."),
        "policy": { "$ref": "#/$defs/policy" },
        "enabled": described("boolean", "Fires at all."),
        "activation": { "$ref": "#/$defs/activation" },
    }));
    properties.extend(activation_parts(false));
    properties.extend(policy_parts());
    let mut entry = map("When, and what happens to late and overlapping firings.", properties);
    entry["oneOf"] = ["cron", "every", "at", "rrule", "calendar", "once", "reboot"]
        .into_iter()
        .map(|key| json!({ "required": [key] }))
        .collect();
    json!({ "anyOf": [{ "type": "string", "description": "A cron expression." }, entry] })
}

fn preset() -> Value {
    let mut properties = props(json!({
        "id": { "$ref": "#/$defs/name" },
        "task": reference("name", "The task."),
        "description": reference("text", "What it is for."),
        "inputs": described("object", "The inputs: constants."),
        "policy": { "$ref": "#/$defs/policy" },
        "activation": { "$ref": "#/$defs/activation" },
    }));
    properties.extend(activation_parts(false));
    properties.extend(policy_parts());
    let mut preset = map("A task with some or all inputs filled in.", properties);
    preset["required"] = json!(["task"]);
    preset
}

fn calendar() -> Value {
    map(
        "Days and periods that schedules may be confined to (`only`) or kept out of (`except`).",
        props(json!({
            "description": { "type": "string" },
            "dates": reference("texts", "2026-12-25, or every year 12-25."),
            "weekdays": reference("texts", "sat, sunday, mon-fri."),
            "periods": reference("texts", "2026-12-24T18:00/2026-12-27, or daily 22:00-06:00."),
            "rrules": reference("texts", "As `rules`."),
            "rules": reference("texts", "RFC 5545 rules; each occurrence is a whole day."),
        })),
    )
}
