//! Servers: which one answers, and with which token. `--server` goes before `--profile`, options before variables,
//! variables before the configuration file.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::PathBuf};

use ostler_client::{Blocking, Secret, Server};
use serde::Deserialize;

use crate::{commands::Global, error::CliError};

/// The variable that a token is taken from.
pub const TOKEN: &str = "OSTLER_TOKEN";

/// The variable that lets a token cross a network unencrypted.
const ALLOW_HTTP: &str = "OSTLER_ALLOW_HTTP";

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The profile that is taken when none is named.
    #[serde(default)]
    pub profile: Option<String>,
    /// Servers by name.
    #[serde(default)]
    pub profiles: BTreeMap<String, Profile>,
}

/// A server and how to be known there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its URL.
    pub server: String,
    /// The token. The file must then be readable by its owner only.
    #[serde(default)]
    token: Option<Hidden>,
    /// A file that holds the token.
    #[serde(default)]
    token_file: Option<PathBuf>,
    /// The token may cross a network unencrypted.
    #[serde(default)]
    allow_http: bool,
}

/// A text that cannot be printed.
#[derive(Deserialize)]
#[serde(transparent)]
struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// A server that answers, and where its name was found.
#[derive(Debug)]
pub struct Chosen {
    /// Which.
    pub server: Server,
    /// Where its URL comes from.
    pub source: String,
    /// Where its token comes from.
    pub token_source: String,
}

/// Where the configuration file is.
pub fn config_file() -> PathBuf {
    std::env::var_os("OSTLER_CONFIG")
        .map_or_else(|| ostler_embedded::config_dir().join("config.toml"), PathBuf::from)
}

/// The configuration file; an empty one when there is none.
pub fn read_config() -> Result<ConfigFile, CliError> {
    let path = config_file();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(ConfigFile::default()),
        Err(error) => {
            return Err(CliError::usage(format!("`{}` cannot be read: {error}", path.display())));
        }
    };
    let config: ConfigFile =
        toml::from_str(&text).map_err(|e| CliError::usage(format!("`{}`: {e}", path.display())))?;
    if config.profiles.values().any(|p| p.token.is_some()) {
        private(&path)?;
    }
    Ok(config)
}

/// Refuses a file with secrets that others can read.
fn private(path: &std::path::Path) -> Result<(), CliError> {
    let mode = std::fs::metadata(path).map(|m| m.permissions().mode()).unwrap_or_default();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(CliError::usage(format!("`{}` holds a token and can be read by others", path.display()))
        .hint(format!("chmod 600 {}", path.display())))
}

/// The server that is to answer, if one is.
pub fn server(global: &Global) -> Result<Option<Server>, CliError> {
    Ok(chosen(global)?.map(|c| c.server))
}

/// The server that is to answer with where it was named, if one is.
pub fn chosen(global: &Global) -> Result<Option<Chosen>, CliError> {
    let from = |flag: &str, variable: &str| {
        if crate::context::is_option_given(flag) {
            format!("option {flag}")
        } else {
            format!("variable {variable}")
        }
    };
    if crate::context::is_option_given("--store") {
        let named = ["--server", "--profile"].into_iter().find(|flag| crate::context::is_option_given(flag));
        return match named {
            None => Ok(None),
            Some(flag) => Err(CliError::usage(format!("`--store` and `{flag}` exclude each other"))),
        };
    }
    let (token, token_source) = match std::env::var(TOKEN) {
        Ok(token) if !token.is_empty() => (Some(Secret::new(token)), format!("variable {TOKEN}")),
        _ => (None, "none".to_owned()),
    };
    let allow_http = std::env::var_os(ALLOW_HTTP).is_some_and(|v| v == "1");
    let is_profile_named = crate::context::is_option_given("--profile");
    if let Some(url) = global.server.as_ref().filter(|_| !is_profile_named) {
        let server = Server { url: url.clone(), token, allow_http };
        return Ok(Some(Chosen { server, source: from("--server", "OSTLER_SERVER"), token_source }));
    }
    let config = read_config()?;
    let (name, source) = match (&global.profile, &config.profile) {
        (Some(name), _) => (name.clone(), from("--profile", "OSTLER_PROFILE")),
        // A store that is named goes before what a file says.
        (None, Some(name)) if global.store.is_none() => (name.clone(), config_file().display().to_string()),
        _ => return Ok(None),
    };
    let Some(profile) = config.profiles.get(&name) else {
        let known: Vec<_> = config.profiles.keys().map(String::as_str).collect();
        let known =
            if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        return Err(CliError::usage(format!(
            "there is no profile `{name}` in `{}`; {known}",
            config_file().display()
        ))
        .hint(format!("add it: [profiles.{name}] with server = \"https://...\"")));
    };
    let (token, token_source) = match (token, &profile.token, &profile.token_file) {
        (Some(token), ..) => (Some(token), token_source),
        (None, Some(Hidden(text)), _) => {
            (Some(Secret::new(text.clone())), config_file().display().to_string())
        }
        (None, None, Some(path)) => {
            private(path)?;
            let text = std::fs::read_to_string(path).map_err(|e| {
                CliError::usage(format!("the token file `{}` cannot be read: {e}", path.display()))
            })?;
            (Some(Secret::new(text.trim())), path.display().to_string())
        }
        (None, None, None) => (None, token_source),
    };
    let server = Server { url: profile.server.clone(), token, allow_http: allow_http || profile.allow_http };
    Ok(Some(Chosen { server, source: format!("profile {name} ({source})"), token_source }))
}

/// A client of a server.
pub fn connect(server: &Server) -> Result<Blocking, CliError> {
    Ok(Blocking::new(server)?)
}
