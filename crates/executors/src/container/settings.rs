//! A step's `with`, and the container that it describes.

use std::{collections::HashMap, path::Path};

use bollard::models::{ContainerCreateBody, HostConfig};
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::left;
use crate::{
    call::Call,
    process::{Capture, Environment, ExitCodes, bytes, common_schema},
    shell::word,
};

/// A step's `with`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    image: String,
    #[serde(default)]
    pull: Pull,
    registry: Option<Login>,
    shell: Option<OneOrMany>,
    entrypoint: Option<OneOrMany>,
    #[serde(default)]
    command: Vec<Value>,
    #[serde(default)]
    volumes: Vec<String>,
    workdir: Option<String>,
    user: Option<Value>,
    network: Option<String>,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    labels: Map<String, Value>,
    #[serde(default)]
    read_only: bool,
    engine: Option<String>,
    capture: Option<Capture>,
    #[serde(default)]
    exit_codes: ExitCodes,
}

/// When an image is fetched.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Pull {
    Always,
    #[default]
    Missing,
    Never,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    user: String,
    password: String,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    cpu: Option<Value>,
    memory: Option<Value>,
    processes: Option<i64>,
}

pub(super) fn schema() -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    let words = |what: &str| {
        json!({
            "type": "array", "items": { "type": ["string", "number", "boolean"] }, "description": what,
        })
    };
    let mut schema = common_schema(
        "Settings of a container step.",
        json!({
            "image": text("The image, with its registry and tag: docker.io/library/alpine:3.20"),
            "pull": { "enum": ["always", "missing", "never"], "default": "missing", "description": "When the image is fetched" },
            "registry": {
                "type": "object", "required": ["user", "password"], "additionalProperties": false,
                "description": "Who fetches the image",
                "properties": { "user": text("The user"), "password": text("The password or token, as ${{ secrets.NAME }}") },
            },
            "shell": {
                "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1,
                "description": "What carries out `run`; default `sh`, as in `sh -e -c SCRIPT`. A list gets the script as its last argument",
            },
            "entrypoint": {
                "type": ["string", "array"], "items": { "type": "string" },
                "description": "Instead of the image's own; not beside `run`",
            },
            "command": words("Arguments of the entrypoint, instead of the image's own; `args` follow"),
            "volumes": {
                "type": "array", "items": { "type": "string" },
                "description": "SOURCE:TARGET or SOURCE:TARGET:ro; the source is a path (relative to the folder of the file when it begins with a dot) or the name of a volume",
            },
            "workdir": text("The working directory inside"),
            "user": { "type": ["string", "integer"], "description": "The user inside: a name, a number, or user:group" },
            "network": text("`none`, `host`, `bridge` or the name of a network; the engine's default when nothing is said"),
            "limits": {
                "type": "object", "additionalProperties": false,
                "description": "What the container may use",
                "properties": {
                    "cpu": { "type": ["number", "string"], "description": "Processors: 0.5, 2" },
                    "memory": { "type": ["integer", "string"], "description": "Memory, in bytes or as 512M, 2GiB" },
                    "processes": { "type": "integer", "minimum": 1, "description": "Processes and threads" },
                },
            },
            "labels": { "type": "object", "description": "Labels besides Ostler's own" },
            "read_only": { "type": "boolean", "description": "Nothing inside can be changed but volumes; default false" },
            "engine": text("The engine's address, as unix:///run/podman/podman.sock; else DOCKER_HOST or CONTAINER_HOST of the node, else the usual sockets"),
        }),
    );
    schema["required"] = json!(["image"]);
    if let Some(properties) = schema["properties"].as_object_mut() {
        properties.remove("umask");
    }
    schema
}

impl Settings {
    pub(super) fn of(call: &Call) -> Result<Self, TypedError> {
        let settings: Self = call.settings()?;
        if settings.image.trim().is_empty() {
            return Err(wrong("`image` is empty"));
        }
        if call.request.run_text.is_some() && (settings.entrypoint.is_some() || !settings.command.is_empty())
        {
            return Err(wrong("a container step has either `run` or `entrypoint` and `command`, not both"));
        }
        if !call.request.kwargs.is_empty() {
            return Err(wrong("`container` takes no `kwargs`; hand values over by `env`, `args` or `stdin`"));
        }
        Ok(settings)
    }

    pub(super) fn image(&self) -> &str {
        &self.image
    }

    pub(super) fn pull(&self) -> Pull {
        self.pull
    }

    /// User and password for the registry.
    pub(super) fn login(&self) -> Option<(&str, &str)> {
        self.registry.as_ref().map(|login| (login.user.as_str(), login.password.as_str()))
    }

    pub(super) fn engine(&self) -> Option<&str> {
        self.engine.as_deref()
    }

    pub(super) fn capture(&self) -> Option<Capture> {
        self.capture
    }

    pub(super) fn exit_codes(&self) -> &ExitCodes {
        &self.exit_codes
    }

    /// The container. `token` is the name of this node.
    pub(super) fn body(
        &self,
        call: &Call,
        environment: Environment,
        mounts: Vec<String>,
        token: &str,
        is_here: bool,
    ) -> Result<ContainerCreateBody, TypedError> {
        let request = &call.request;
        let args = request.args.iter().map(word).collect::<Result<Vec<_>, _>>()?;
        let (entrypoint, command) = match &request.run_text {
            Some(script) => {
                // `$0` of the script; the arguments are `$1` and so on.
                let rest = if args.is_empty() { Vec::new() } else { vec![request.step.clone()] };
                (Some(self.shell()), [vec![script.clone()], rest, args].concat())
            }
            None => {
                let words = self.command.iter().map(word).collect::<Result<Vec<_>, _>>()?;
                let entrypoint = self.entrypoint.clone().map(|entry| match entry {
                    OneOrMany::One(word) => vec![word],
                    OneOrMany::Many(words) => words,
                });
                (entrypoint, [words, args].concat())
            }
        };
        let folder = call.folder();
        let volumes = self.volumes.iter().map(|volume| bind(volume, &folder, is_here));
        let binds = [mounts, volumes.collect::<Result<Vec<_>, _>>()?].concat();
        let memory = self.limits.memory.as_ref().map(|v| bytes("limits.memory", v)).transpose()?;
        let memory = memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let host = HostConfig {
            binds: Some(binds),
            memory,
            // Else as much again is swapped.
            memory_swap: memory,
            nano_cpus: self.limits.cpu.as_ref().map(cpus).transpose()?,
            pids_limit: self.limits.processes,
            network_mode: self.network.clone(),
            readonly_rootfs: self.read_only.then_some(true),
            ..Default::default()
        };
        let has_stdin = request.stdin.is_some();
        Ok(ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint,
            cmd: (!command.is_empty()).then_some(command),
            env: Some(
                environment.variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
            ),
            working_dir: self.workdir.clone(),
            user: self.user.as_ref().map(word).transpose()?,
            labels: Some(self.labels(call, token)?),
            attach_stdin: Some(has_stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            open_stdin: Some(has_stdin),
            stdin_once: Some(has_stdin),
            host_config: Some(host),
            ..Default::default()
        })
    }

    fn shell(&self) -> Vec<String> {
        match &self.shell {
            None => ["sh", "-e", "-c"].map(str::to_owned).into(),
            Some(OneOrMany::One(shell)) => vec![shell.clone(), "-e".into(), "-c".into()],
            Some(OneOrMany::Many(words)) => words.clone(),
        }
    }

    fn labels(&self, call: &Call, token: &str) -> Result<HashMap<String, String>, TypedError> {
        let request = &call.request;
        let mut labels = HashMap::new();
        for (name, value) in &self.labels {
            labels.insert(name.clone(), word(value)?);
        }
        let run = request.run.map_or_else(|| request.machine.0.to_string(), |run| run.to_string());
        for (name, value) in [
            (left::LABEL, token.to_owned()),
            ("ostler.run", run),
            ("ostler.namespace", request.namespace.clone()),
            ("ostler.task", request.task.clone()),
            ("ostler.step", request.step.clone()),
            ("ostler.attempt", request.attempt.to_string()),
        ] {
            labels.insert(name.to_owned(), value);
        }
        Ok(labels)
    }
}

fn wrong(message: impl Into<String>) -> TypedError {
    TypedError::new("settings", message)
}

/// Processors as billionths of one.
fn cpus(value: &Value) -> Result<i64, TypedError> {
    let text = word(value)?;
    match text.parse::<f64>() {
        #[expect(clippy::cast_possible_truncation, reason = "bounded before")]
        Ok(cpus) if cpus > 0.0 && cpus <= 100_000.0 => Ok((cpus * 1e9) as i64),
        _ => Err(wrong(format!("`limits.cpu: {text}` is not a number of processors, as in 0.5 or 2"))),
    }
}

/// A volume as the engine takes it.
fn bind(volume: &str, folder: &Path, is_here: bool) -> Result<String, TypedError> {
    let mut parts = volume.splitn(3, ':');
    let (source, target, options) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let Some(target) = target.filter(|target| target.starts_with('/') && !source.is_empty()) else {
        let text = format!("`volumes`: `{volume}` is not SOURCE:TARGET with a target that begins with `/`");
        return Err(wrong(text));
    };
    let is_path = source.starts_with(['/', '.']);
    let source = match is_path.then(|| folder.join(source)) {
        Some(path) if is_here && !path.exists() => {
            return Err(wrong(format!("`volumes`: there is no `{}` on this machine", path.display())));
        }
        // The engine wants a path without dots.
        Some(path) => path.canonicalize().unwrap_or(path).to_string_lossy().into_owned(),
        None if source.contains('/') => {
            let text = format!("`volumes`: write `./{source}` for a path; the name of a volume has no `/`");
            return Err(wrong(text));
        }
        None => source.to_owned(),
    };
    Ok(match options {
        Some(options) => format!("{source}:{target}:{options}"),
        None => format!("{source}:{target}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_read_as_people_write_them() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        std::fs::create_dir(folder.join("data")).unwrap();
        let here = folder.display();
        for (volume, expected) in [
            ("./data:/data:ro", format!("{here}/data:/data:ro")),
            (".:/work", format!("{here}:/work")),
            ("cache:/var/cache", "cache:/var/cache".to_owned()),
        ] {
            assert_eq!(bind(volume, &folder, true).unwrap(), expected);
        }
        for (volume, words) in [
            ("./none:/data", "there is no"),
            ("data", "SOURCE:TARGET"),
            ("./data:data", "begins with `/`"),
            ("a/b:/c", "write `./a/b`"),
        ] {
            let error = bind(volume, &folder, true).unwrap_err();
            assert!(error.message.contains(words), "{volume}: {error}");
        }
        assert_eq!(cpus(&json!("0.5")).unwrap(), 500_000_000);
        assert!(cpus(&json!("lots")).unwrap_err().message.contains("0.5"));
    }
}
