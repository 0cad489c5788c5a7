//! The settings that every step with a process has.

use std::{collections::BTreeMap, fs, time::Duration};

use ostler_model::{Span, TypedError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::spawner::{Limits, User};

/// `with` of shell, exec and python, as far as they share it.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct ProcessSettings {
    capture: Option<Capture>,
    #[serde(default)]
    pub(crate) exit_codes: ExitCodes,
    user: Option<Value>,
    umask: Option<Value>,
    #[serde(default)]
    limits: LimitSettings,
}

/// How standard output becomes the output `stdout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Capture {
    Text,
    Json,
    Lines,
}

/// What exit codes mean.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExitCodes {
    success: Option<Vec<i32>>,
    #[serde(default)]
    skip: Vec<i32>,
    #[serde(default)]
    errors: BTreeMap<String, String>,
}

/// The meaning of one exit code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Success,
    /// Well, and there was nothing to do.
    Skipped,
    /// Badly, with this class.
    Failure(String),
}

impl ExitCodes {
    pub(crate) fn meaning(&self, code: i32) -> Meaning {
        if self.skip.contains(&code) {
            return Meaning::Skipped;
        }
        let good = self.success.as_ref().map_or(code == 0, |codes| codes.contains(&code));
        if good {
            return Meaning::Success;
        }
        let class = self.errors.get(&code.to_string());
        Meaning::Failure(class.cloned().unwrap_or_else(|| format!("exit:{code}")))
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitSettings {
    cpu: Option<Value>,
    memory: Option<Value>,
    files: Option<u64>,
    processes: Option<u64>,
    file_size: Option<Value>,
}

impl ProcessSettings {
    pub(crate) fn capture(&self) -> Option<Capture> {
        self.capture
    }

    pub(crate) fn limits(&self) -> Result<Limits, TypedError> {
        let limits = &self.limits;
        Ok(Limits {
            cpu_seconds: limits.cpu.as_ref().map(seconds).transpose()?,
            memory: limits.memory.as_ref().map(|v| bytes("memory", v)).transpose()?,
            files: limits.files,
            processes: limits.processes,
            file_size: limits.file_size.as_ref().map(|v| bytes("file_size", v)).transpose()?,
        })
    }

    /// `"022"` and `0o22` are the same; a plain number is read as people write masks, in octal digits.
    pub(crate) fn umask(&self) -> Result<Option<u32>, TypedError> {
        let Some(value) = &self.umask else { return Ok(None) };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        u32::from_str_radix(text.trim_start_matches("0o"), 8)
            .ok()
            .filter(|mask| *mask <= 0o777)
            .map(Some)
            .ok_or_else(|| fault(format!("`umask: {text}` is not three octal digits, as in \"027\"")))
    }

    pub(crate) fn user(&self) -> Result<Option<User>, TypedError> {
        let Some(value) = &self.user else { return Ok(None) };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (name, group) =
            text.split_once(':').map_or((text.as_str(), None), |(user, group)| (user, Some(group)));
        let missing = |what: &str, name: &str| fault(format!("there is no {what} `{name}` on this machine"));
        let known = account("/etc/passwd", name)
            .and_then(|entry| Some((entry[2].parse().ok()?, entry[3].parse().ok()?)));
        let (uid, own_gid) = match (name.parse::<u32>(), known) {
            (Ok(uid), known) => (uid, known.map_or(uid, |(_, gid): (u32, u32)| gid)),
            (Err(_), Some(known)) => known,
            (Err(_), None) => return Err(missing("user", name)),
        };
        let gid = match group {
            None => own_gid,
            Some(group) => match group.parse() {
                Ok(gid) => gid,
                Err(_) => account("/etc/group", group)
                    .and_then(|entry| entry[2].parse().ok())
                    .ok_or_else(|| missing("group", group))?,
            },
        };
        Ok(Some(User { uid, gid }))
    }
}

/// The entry of a name or number in a file of accounts. (Accounts from a directory service are named by number.)
fn account(file: &str, name: &str) -> Option<Vec<String>> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>())
        .find(|entry| entry.len() >= 4 && (entry[0] == name || entry[2] == name))
}

fn seconds(value: &Value) -> Result<u64, TypedError> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let span = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            text.parse::<Span>().map_err(|error| fault(format!("`limits.cpu`: {error}")))?.as_duration()
        }
    };
    Ok(span.as_secs() + u64::from(span.subsec_nanos() > 0))
}

/// `512M`, `1GiB`, `1000000`; every unit is a power of 1024.
pub(crate) fn bytes(name: &str, value: &Value) -> Result<u64, TypedError> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text[digits.len()..].trim().to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => Some(0),
        "k" => Some(10),
        "m" => Some(20),
        "g" => Some(30),
        "t" => Some(40),
        _ => None,
    };
    digits
        .trim()
        .parse::<u64>()
        .ok()
        .zip(shift)
        .and_then(|(number, shift)| number.checked_mul(1 << shift))
        .ok_or_else(|| fault(format!("`{name}: {text}` is not a size, as in 512M or 2GiB")))
}

fn fault(text: String) -> TypedError {
    TypedError::new("settings", text)
}

/// JSON Schema of a `with` that has the common settings and `own` ones.
pub(crate) fn common_schema(description: &str, own: Value) -> Value {
    let size = |what: &str| json!({"type": ["integer", "string"], "description": format!("{what}, in bytes or as 512M, 2GiB.")});
    let codes = |what: &str| json!({"type": "array", "items": {"type": "integer"}, "description": what});
    let mut schema = json!({
        "type": "object",
        "description": description,
        "additionalProperties": false,
        "properties": {
            "capture": {"enum": ["text", "json", "lines"], "description": "Standard output becomes the output `stdout`: as one text, read as JSON, or as a list of lines."},
            "exit_codes": {
                "type": "object", "additionalProperties": false,
                "description": "What exit codes mean; all others fail with class `exit:N`.",
                "properties": {
                    "success": codes("Codes that are a success; default: [0]."),
                    "skip": codes("Codes that mean there was nothing to do: a success with the output `skipped: true`."),
                    "errors": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Error classes by code, as in {\"75\": \"busy\"}."},
                },
            },
            "user": {"type": ["string", "integer"], "description": "Run as this user: a name, a number, or user:group. Needs a node that runs as root."},
            "umask": {"type": ["string", "integer"], "description": "File mode mask in octal digits, as in \"027\"."},
            "limits": {
                "type": "object", "additionalProperties": false,
                "description": "What each process may use; for the processes of the command themselves, see `man setrlimit`.",
                "properties": {
                    "cpu": {"type": ["integer", "string"], "description": "CPU time, in seconds or as 90s, 10m."},
                    "memory": size("Address space"),
                    "files": {"type": "integer", "minimum": 3, "description": "Open files."},
                    "processes": {"type": "integer", "minimum": 1, "description": "Processes and threads of the user; does not bind root."},
                    "file_size": size("The largest file that may be written"),
                },
            },
        },
    });
    if let (Some(properties), Value::Object(own)) = (schema["properties"].as_object_mut(), own) {
        properties.extend(own);
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: Value) -> ProcessSettings {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn exit_codes_have_their_meaning() {
        let codes =
            settings(json!({"exit_codes": {"success": [0, 3], "skip": [99], "errors": {"75": "busy"}}}))
                .exit_codes;
        assert_eq!(codes.meaning(3), Meaning::Success);
        assert_eq!(codes.meaning(99), Meaning::Skipped);
        assert_eq!(codes.meaning(75), Meaning::Failure("busy".into()));
        assert_eq!(codes.meaning(1), Meaning::Failure("exit:1".into()));
        assert_eq!(ExitCodes::default().meaning(0), Meaning::Success);
    }

    #[test]
    fn sizes_times_masks_and_users_are_read() {
        let limits =
            settings(json!({"limits": {"memory": "512M", "cpu": "1m", "file_size": 10, "files": 5}}))
                .limits()
                .unwrap();
        assert_eq!(
            (limits.memory, limits.cpu_seconds, limits.file_size),
            (Some(512 << 20), Some(60), Some(10))
        );
        assert!(
            settings(json!({"limits": {"memory": "lots"}})).limits().unwrap_err().message.contains("512M")
        );
        assert_eq!(settings(json!({"umask": "027"})).umask().unwrap(), Some(0o27));
        assert_eq!(settings(json!({"umask": 22})).umask().unwrap(), Some(0o22));
        assert_eq!(settings(json!({"user": "root"})).user().unwrap(), Some(User { uid: 0, gid: 0 }));
        assert_eq!(settings(json!({"user": "12:34"})).user().unwrap(), Some(User { uid: 12, gid: 34 }));
        assert!(settings(json!({"user": "nobody-here"})).user().unwrap_err().message.contains("nobody-here"));
    }
}
