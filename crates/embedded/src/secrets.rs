//! Secrets of issue 1: `OSTLER_SECRET_*` and a file that only its owner may read (decision 12).

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::Path};

use ostler_execution::Secrets;

/// The prefix of variables that are secrets.
const PREFIX: &str = "OSTLER_SECRET_";

/// Secrets of this process.
#[derive(Default)]
pub struct LocalSecrets {
    values: BTreeMap<String, String>,
}

impl std::fmt::Debug for LocalSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalSecrets({} names)", self.values.len())
    }
}

/// Why the file of secrets is not used.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// It cannot be read.
    #[error("the file of secrets {path} cannot be read: {error}")]
    Unreadable {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// Others may read it.
    #[error("the file of secrets {path} can be read by others (mode {mode:o}); run `chmod 600 {path}`")]
    Open {
        /// Which.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// A line is not `NAME=value`.
    #[error("line {line} of the file of secrets {path} is not `NAME=value`")]
    Line {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
}

impl LocalSecrets {
    /// Secrets from a file of `NAME=value` lines, if it is there, and from the environment, which wins.
    ///
    /// # Errors
    /// The file is there and cannot be used.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SecretsError> {
        let mut values = BTreeMap::new();
        if let Some(file) = file.filter(|f| f.exists()) {
            let path = file.display().to_string();
            let unreadable = |error| SecretsError::Unreadable { path: path.clone(), error };
            let mode = std::fs::metadata(file).map_err(unreadable)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(SecretsError::Open { path, mode });
            }
            for (index, line) in std::fs::read_to_string(file).map_err(unreadable)?.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                let (name, value) = line
                    .split_once('=')
                    .ok_or_else(|| SecretsError::Line { path: path.clone(), line: index + 1 })?;
                values.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
        for (name, value) in environment {
            if let Some(name) = name.strip_prefix(PREFIX) {
                values.insert(name.to_owned(), value);
            }
        }
        Ok(Self { values })
    }
}

impl Secrets for LocalSecrets {
    fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_wins_and_nothing_else_is_taken() {
        let vars = [("OSTLER_SECRET_KEY", "a"), ("HOME", "b")];
        let vars = vars.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned()));
        let secrets = LocalSecrets::load(None, vars).unwrap();
        assert_eq!((secrets.get("KEY").as_deref(), secrets.get("HOME")), (Some("a"), None));
        assert_eq!(format!("{secrets:?}"), "LocalSecrets(1 names)");
    }
}
