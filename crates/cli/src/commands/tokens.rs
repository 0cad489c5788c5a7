//! `ostler tokens`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use ostler_api::{NewToken, Scope, Sort, TokensBy};
use ostler_model::{Name, Span};

use super::{Global, order};
use crate::{context, error::CliError, output};

/// Make, list and revoke tokens for callers over the network
#[derive(Subcommand)]
pub enum Tokens {
    /// Make a token and show its secret this once
    Create(Create),
    /// List tokens, without their secrets
    List(List),
    /// Revoke a token: the next request with it is refused
    Revoke(Revoke),
}

#[derive(Args)]
#[command(
    after_help = "Scopes: view (look), run (start, cancel, signal), change (definitions, pauses, retention), admin (tokens too);\neach holds those before it. `run:demo` counts in namespace `demo` only. `work` lets take jobs (`ostler worker`)\nand nothing else.\n\nExamples:\n  ostler tokens create ci --scope run:demo --expires-in 90d\n  ostler tokens create ops --scope admin"
)]
pub struct Create {
    /// What it is for
    name: Name,
    /// What it lets do: view, run, change, admin, work, with `:NAMESPACE` behind it for one namespace
    #[arg(long, value_delimiter = ',', required = true)]
    scope: Vec<Scope>,
    /// It counts so long [default: until it is revoked]
    #[arg(long, value_name = "SPAN")]
    expires_in: Option<Span>,
}

#[derive(Args)]
pub struct List {
    /// In this order; `-` before it turns it round
    #[arg(long, value_name = "ORDER", default_value = Sort::<TokensBy>::default().word(), value_parser = order::<TokensBy>(), allow_hyphen_values = true)]
    sort: Sort<TokensBy>,
}

#[derive(Args)]
pub struct Revoke {
    /// The token's name
    name: String,
}

impl Tokens {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        match self {
            Self::Create(create) => {
                let wanted =
                    NewToken { name: create.name, scopes: create.scope, expires_in: create.expires_in };
                let created = api.create_token(&wanted)?;
                global.output.show(&created, |created| {
                    eprintln!("shown this once; send it as `Authorization: Bearer ...` or set OSTLER_TOKEN");
                    created.secret.clone()
                });
            }
            Self::List(list) => {
                let tokens = api.tokens(list.sort)?;
                let now = context::now();
                global.output.show(&tokens, |tokens| {
                    if tokens.is_empty() {
                        return "no tokens".to_owned();
                    }
                    let rows = tokens
                        .iter()
                        .map(|t| {
                            let scopes: Vec<_> = t.scopes.iter().map(ToString::to_string).collect();
                            let state = match (t.revoked_at, t.expires_at) {
                                (Some(_), _) => "revoked",
                                (None, Some(at)) if at <= now => "expired",
                                _ => "counts",
                            };
                            vec![
                                Cell::new(&t.name),
                                Cell::new(format!("{}…", t.prefix)),
                                Cell::new(state),
                                Cell::new(scopes.join(",")),
                                Cell::new(output::moment(Some(t.created_at), now)),
                                Cell::new(&t.created_by),
                                Cell::new(output::moment(t.expires_at, now)),
                            ]
                        })
                        .collect();
                    output::table(&["name", "secret", "state", "scopes", "created", "by", "expires"], rows)
                });
            }
            Self::Revoke(revoke) => {
                let token = api.revoke_token(&revoke.name)?;
                global.output.show(&token, |t| format!("token {} is revoked", t.name));
            }
        }
        Ok(0)
    }
}
