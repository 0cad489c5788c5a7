//! `ostler config`.

use clap::Subcommand;
use comfy_table::Cell;
use serde::Serialize;

use super::Global;
use crate::{context, error::CliError, output};

/// Show every setting with its source
#[derive(Subcommand)]
pub enum Config {
    /// Show every setting with its source
    Show,
}

#[derive(Serialize)]
struct Setting {
    name: &'static str,
    value: String,
    source: String,
}

impl Config {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let Self::Show = self;
        let given = |flag: &str, variable: &str, set: bool| {
            if context::is_option_given(flag) {
                format!("option {flag}")
            } else if set && std::env::var_os(variable).is_some() {
                format!("variable {variable}")
            } else {
                "default".to_owned()
            }
        };
        let place = context::place(global)?;
        let server = crate::remote::chosen(global)?;
        let settings = vec![
            Setting {
                name: "server",
                value: server
                    .as_ref()
                    .map_or_else(|| "none: the store answers".into(), |c| c.server.url.clone()),
                source: server.as_ref().map_or_else(|| "default".into(), |c| c.source.clone()),
            },
            Setting {
                name: "token",
                value: match &server {
                    Some(chosen) if chosen.server.token.is_some() => "***".into(),
                    _ => "none".into(),
                },
                source: server.as_ref().map_or_else(|| "default".into(), |c| c.token_source.clone()),
            },
            Setting {
                name: "config_file",
                value: crate::remote::config_file().display().to_string(),
                source: if std::env::var_os("OSTLER_CONFIG").is_some() {
                    "variable OSTLER_CONFIG".into()
                } else {
                    "platform".into()
                },
            },
            Setting {
                name: "store",
                value: place.to_string(),
                source: given("--store", "OSTLER_STORE", true),
            },
            Setting {
                name: "logs",
                value: place.logs().display().to_string(),
                source: "beside the store".into(),
            },
            Setting {
                name: "output",
                value: format!("{:?}", global.output).to_lowercase(),
                source: given("--output", "OSTLER_OUTPUT_FORMAT", true),
            },
            Setting {
                name: "log_level",
                value: global.log_level.clone(),
                source: given("--log-level", "OSTLER_LOG_LEVEL", true),
            },
            Setting { name: "timezone", value: context::machine_zone(), source: "machine".into() },
            Setting { name: "user", value: context::user(), source: "machine".into() },
            Setting { name: "host", value: ostler_embedded::host_name(), source: "machine".into() },
            Setting {
                name: "environments",
                value: ostler_embedded::cache_dir().display().to_string(),
                source: "platform".into(),
            },
            Setting {
                name: "secrets_file",
                value: context::secrets_file().display().to_string(),
                source: "platform".into(),
            },
            Setting { name: "lease", value: ostler_embedded::LEASE.to_string(), source: "default".into() },
        ];
        global.output.show(&settings, |settings| {
            let rows = settings
                .iter()
                .map(|s| vec![Cell::new(s.name), Cell::new(&s.value), Cell::new(&s.source)])
                .collect();
            output::table(&["setting", "value", "source"], rows)
        });
        Ok(0)
    }
}
