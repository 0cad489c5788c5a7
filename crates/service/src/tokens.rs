//! Tokens: made, listed, revoked, and known again when they come with a request.

use ostler_api::{CreatedToken, NewToken, Scope, Sort, TokenView, TokensBy};
use ostler_clock::Entropy;
use ostler_engine::time::{micros, timestamp};
use ostler_store::{Command, Reply, TokenRow};

use crate::{Actor, Service, ServiceError, Verb, retention::unexpected};

/// What every secret begins with, so that scanners and people know one when they see it.
const MARK: &str = "ost_";

/// Characters of a secret that are kept to know it by; the rest has 224 bits.
const PREFIX: usize = MARK.len() + 8;

impl Service {
    /// Makes a token. Only its digest is stored.
    ///
    /// # Errors
    /// One with its name counts already, or it would let do nothing.
    pub fn create_token(
        &self,
        actor: &Actor,
        token: &NewToken,
        entropy: &dyn Entropy,
    ) -> Result<CreatedToken, ServiceError> {
        self.authorise(actor, Verb::Grant, None)?;
        if token.scopes.is_empty() {
            return Err(ServiceError::BadInput("a token needs at least one scope".to_owned()));
        }
        let now = self.now_micros();
        if self.read(|q| q.tokens())?.iter().any(|t| t.name == token.name.as_str() && t.revoked_at.is_none())
        {
            return Err(ServiceError::Conflict(format!(
                "there is a token `{}` already; revoke it first, or take another name",
                token.name
            )));
        }
        let secret =
            format!("{MARK}{}", (0..4).map(|_| format!("{:016x}", entropy.next_u64())).collect::<String>());
        let row = TokenRow {
            name: token.name.to_string(),
            hash: hash(&secret),
            prefix: secret[..PREFIX].to_owned(),
            scopes: serde_json::to_string(&token.scopes).unwrap_or_default(),
            created_by: actor.to_string(),
            created_at: now,
            expires_at: token.expires_in.map(|span| now.saturating_add(span.as_micros())),
            revoked_at: None,
        };
        match self.write(Command::AddToken(Box::new(row.clone())))? {
            Reply::Done => Ok(CreatedToken { secret, token: view(row) }),
            other => Err(unexpected(&other)),
        }
    }

    /// All tokens, those that do not count any more too.
    ///
    /// # Errors
    /// The store's.
    pub fn tokens(&self, actor: &Actor, sort: Sort<TokensBy>) -> Result<Vec<TokenView>, ServiceError> {
        self.authorise(actor, Verb::Grant, None)?;
        let mut rows = self.read(|q| q.tokens())?;
        if sort.by == TokensBy::Name {
            // Those of one name stay newest first.
            rows.sort_by(|a, b| if sort.descending { b.name.cmp(&a.name) } else { a.name.cmp(&b.name) });
        } else if !sort.is_default() {
            rows.reverse();
        }
        Ok(rows.into_iter().map(view).collect())
    }

    /// Revokes a token; the next request with it is refused.
    ///
    /// # Errors
    /// None of this name counts.
    pub fn revoke_token(&self, actor: &Actor, name: &str) -> Result<TokenView, ServiceError> {
        self.authorise(actor, Verb::Grant, None)?;
        let mut rows = self.read(|q| q.tokens())?;
        let Some(at) = rows.iter().position(|t| t.name == name && t.revoked_at.is_none()) else {
            return Err(ServiceError::NotFound(format!(
                "there is no token `{name}`; `ostler tokens list` shows those that are there"
            )));
        };
        self.write(Command::RevokeToken { name: name.to_owned() })?;
        let row = TokenRow { revoked_at: Some(self.now_micros()), ..rows.swap_remove(at) };
        Ok(view(row))
    }

    /// Whether any token counts now.
    ///
    /// # Errors
    /// The store's.
    pub fn has_tokens(&self) -> Result<bool, ServiceError> {
        let now = micros(self.now());
        let tokens = self.read(|q| q.tokens())?;
        Ok(tokens.iter().any(|t| t.revoked_at.is_none() && t.expires_at.is_none_or(|at| at > now)))
    }

    /// The actor that holds a secret.
    ///
    /// # Errors
    /// Nobody does, or the token has expired or was revoked: a text that says which.
    pub fn who_holds(&self, secret: &str) -> Result<Result<Actor, &'static str>, ServiceError> {
        if !secret.starts_with(MARK) {
            return Ok(Err("the token is not one of this server: those begin with `ost_`"));
        }
        let row = self.read(|q| q.token(&hash(secret)))?;
        let Some(row) = row else { return Ok(Err("this server does not know the token")) };
        if row.revoked_at.is_some() {
            return Ok(Err("the token was revoked"));
        }
        if row.expires_at.is_some_and(|at| at <= self.now_micros()) {
            return Ok(Err("the token has expired"));
        }
        Ok(Ok(Actor::token(&row.name, &scopes(&row))))
    }
}

/// The digest of a secret. Secrets are 256 random bits, so a fast one is enough.
fn hash(secret: &str) -> String {
    ostler_model::digest::digest_bytes(secret.as_bytes())
}

fn scopes(row: &TokenRow) -> Vec<Scope> {
    serde_json::from_str(&row.scopes).unwrap_or_default()
}

fn view(row: TokenRow) -> TokenView {
    TokenView {
        scopes: scopes(&row),
        name: row.name,
        prefix: row.prefix,
        created_by: row.created_by,
        created_at: timestamp(row.created_at),
        expires_at: row.expires_at.map(timestamp),
        revoked_at: row.revoked_at.map(timestamp),
    }
}
