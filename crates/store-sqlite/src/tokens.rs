//! Tokens: added, revoked, found by the digest of their secret.

use ostler_store::{StoreError, TokenRow};
use rusqlite::{Row, params};

use crate::Tx;

/// All of them; people make a few.
pub(crate) const ALL: &str =
    "SELECT name, hash, prefix, scopes, created_by, created_at, expires_at, revoked_at
  FROM token ORDER BY id DESC";

/// Along the unique index of digests.
pub(crate) const BY_HASH: &str =
    "SELECT name, hash, prefix, scopes, created_by, created_at, expires_at, revoked_at
  FROM token WHERE hash=?1";

impl Tx<'_> {
    pub(crate) fn add_token(&mut self, token: &TokenRow) -> Result<(), StoreError> {
        let known =
            self.row("SELECT 1 FROM token WHERE name=?1 AND revoked_at IS NULL", [&token.name], |_| Ok(()))?;
        if known.is_some() {
            return Err(StoreError::Refused(format!("there is a token `{}` already", token.name)));
        }
        self.run(
            "INSERT INTO token (name, hash, prefix, scopes, created_by, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                token.name,
                token.hash,
                token.prefix,
                token.scopes,
                token.created_by,
                token.created_at,
                token.expires_at
            ],
        )?;
        Ok(())
    }

    pub(crate) fn revoke_token(&mut self, name: &str) -> Result<(), StoreError> {
        self.run(
            "UPDATE token SET revoked_at=?2 WHERE name=?1 AND revoked_at IS NULL",
            params![name, self.now],
        )?;
        Ok(())
    }
}

pub(crate) fn token_row(r: &Row<'_>) -> rusqlite::Result<TokenRow> {
    Ok(TokenRow {
        name: r.get(0)?,
        hash: r.get(1)?,
        prefix: r.get(2)?,
        scopes: r.get(3)?,
        created_by: r.get(4)?,
        created_at: r.get(5)?,
        expires_at: r.get(6)?,
        revoked_at: r.get(7)?,
    })
}
