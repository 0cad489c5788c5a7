//! The environment of a child: little of the node's, all that is declared, and what Ostler tells it.

use std::{collections::BTreeMap, env, fs, path::Path};

use ostler_execution::ExecRequest;
use ostler_model::TypedError;
use serde_json::Value;

use super::scratch::Scratch;

/// Variables of the node that every child gets (decision 20).
const ALWAYS: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Used when the node itself has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Linux refuses single variables of 128 KiB and more.
const LONGEST: usize = 96 * 1024;

/// Variables that programs of ours which install packages need on some networks; other names by their beginning.
const FOR_INSTALLERS: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
];
const FOR_INSTALLERS_PREFIX: [&str; 2] = ["PIP_", "UV_"];

/// Variables by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) variables: BTreeMap<String, String>,
}

impl Environment {
    /// What is declared, without what differs from run to run.
    pub(crate) fn declared(request: &ExecRequest, cwd: Option<&Path>) -> Result<Self, TypedError> {
        let mut variables = BTreeMap::new();
        inherit(&mut variables, &ALWAYS);
        variables.entry("PATH".into()).or_insert_with(|| PATH.into());
        Self::over(variables, request, cwd)
    }

    /// Everything for a command in a container, which has a PATH and HOME of its own. `places` are those of
    /// `$OSTLER_OUTPUT` and `$OSTLER_SCRATCH`.
    pub(crate) fn inside(
        request: &ExecRequest,
        cwd: &Path,
        places: Option<(&str, &str)>,
    ) -> Result<Self, TypedError> {
        let mut all = Self::over(BTreeMap::new(), request, Some(cwd))?;
        all.variables.extend(Self::of_attempt(request).variables);
        if let Some((output, scratch)) = places {
            all.variables.insert("OSTLER_OUTPUT".into(), output.into());
            all.variables.insert("OSTLER_SCRATCH".into(), scratch.into());
        }
        Ok(all)
    }

    /// What is declared, over what is there already.
    fn over(
        mut variables: BTreeMap<String, String>,
        request: &ExecRequest,
        cwd: Option<&Path>,
    ) -> Result<Self, TypedError> {
        inherit(&mut variables, &request.inherit_env);
        for file in &request.env_file {
            let path = cwd.map_or_else(|| file.into(), |cwd| cwd.join(file));
            let text = fs::read_to_string(&path).map_err(|error| {
                TypedError::new("settings", format!("env_file {}: {error}", path.display()))
            })?;
            variables.extend(parse_env_file(&text).map_err(|fault| {
                TypedError::new("settings", format!("env_file {}: {fault}", path.display()))
            })?);
        }
        variables.extend(request.env.clone());
        if let Some((name, _)) = variables
            .iter()
            .find(|(name, value)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0'))
        {
            return Err(TypedError::new(
                "settings",
                format!("`{name}` cannot be an environment variable, or its value holds a NUL"),
            ));
        }
        Ok(Self { variables })
    }

    /// With what installers of packages need of the node's own environment: how it reaches the network.
    pub(super) fn for_installers(mut self) -> Self {
        for (name, value) in env::vars() {
            let wanted = FOR_INSTALLERS.contains(&name.as_str())
                || FOR_INSTALLERS_PREFIX.iter().any(|prefix| name.starts_with(prefix));
            if wanted {
                self.variables.entry(name).or_insert(value);
            }
        }
        self
    }

    /// What Ostler tells about this attempt.
    fn of_attempt(request: &ExecRequest) -> Self {
        let mut variables = BTreeMap::new();
        let mut put = |name: &str, value: String| {
            if value.len() <= LONGEST && !value.contains('\0') {
                variables.insert(name.to_owned(), value);
            }
        };
        put(
            "OSTLER_RUN_ID",
            request.run.map_or_else(|| request.machine.0.to_string(), |run| run.to_string()),
        );
        put("OSTLER_ATTEMPT", request.attempt.to_string());
        put("OSTLER_FENCE", request.fence.to_string());
        put("OSTLER_IDEMPOTENCY_KEY", request.idempotency_key.clone());
        put("OSTLER_TASK", request.task.clone());
        put("OSTLER_STEP", request.step.clone());
        put("OSTLER_NAMESPACE", request.namespace.clone());
        put("OSTLER_INPUTS", inputs_json(&request.inputs));
        if let Some(traceparent) = &request.traceparent {
            put("TRACEPARENT", traceparent.clone());
        }
        for (name, value) in request.inputs.as_object().into_iter().flatten() {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null => String::new(),
                Value::Array(_) | Value::Object(_) => continue,
            };
            put(&input_name(name), text);
        }
        Self { variables }
    }

    /// Everything, with the files of the attempt. Inputs that are too long for a variable are in
    /// `$OSTLER_INPUTS_FILE`.
    pub(super) fn of(
        request: &ExecRequest,
        cwd: Option<&Path>,
        scratch: &Scratch,
    ) -> Result<Self, TypedError> {
        let mut all = Self::declared(request, cwd)?;
        all.variables.extend(Self::of_attempt(request).variables);
        let mut put = |name: &str, value: String| all.variables.insert(name.into(), value);
        put("OSTLER_OUTPUT", scratch.output().to_string_lossy().into_owned());
        put("OSTLER_SCRATCH", scratch.folder().to_string_lossy().into_owned());
        let inputs = inputs_json(&request.inputs);
        if inputs.len() > LONGEST {
            let path = scratch.file("inputs.json");
            fs::write(&path, inputs)
                .map_err(|error| TypedError::new("spawn", format!("{}: {error}", path.display())))?;
            put("OSTLER_INPUTS_FILE", path.to_string_lossy().into_owned());
        }
        Ok(all)
    }
}

/// Variables of the node itself.
fn inherit(variables: &mut BTreeMap<String, String>, names: &[impl AsRef<str>]) {
    for name in names.iter().map(AsRef::as_ref) {
        if let Some(value) = env::var_os(name) {
            variables.insert(name.to_owned(), value.to_string_lossy().into_owned());
        }
    }
}

fn inputs_json(inputs: &Value) -> String {
    if inputs.is_null() { "{}".into() } else { inputs.to_string() }
}

/// `station-id` is `INPUT_STATION_ID`.
fn input_name(name: &str) -> String {
    let word: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("INPUT_{word}")
}

/// Lines `NAME=value`; `#` begins a comment line, `export ` is passed over, quotes around a whole value are taken off.
fn parse_env_file(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {} is not `NAME=value`", at + 1));
        };
        let value = value.trim();
        let quoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
        let value = match (quoted('"'), quoted('\'')) {
            (Some(inner), _) => inner.replace("\\n", "\n").replace("\\\"", "\""),
            (None, Some(inner)) => inner.into(),
            (None, None) => value.into(),
        };
        variables.insert(name.trim().into(), value);
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_are_read_as_people_write_them() {
        let found = parse_env_file("# c\n\nA=1\nexport B = 'x y' \nC=\"a\\nb\"\nD=\n").unwrap();
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, [("A", "1"), ("B", "x y"), ("C", "a\nb"), ("D", "")]);
        assert_eq!(parse_env_file("A=1\nB").unwrap_err(), "line 2 is not `NAME=value`");
    }
}
