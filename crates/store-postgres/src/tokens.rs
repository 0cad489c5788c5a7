//! Tokens: added, revoked, found by the digest of their secret.

use ostler_store::{StoreError, TokenRow};
use tokio_postgres::Row;

use crate::{
    trouble::Done,
    tx::Tx,
    value::{Columns, values},
};

/// All of them; people make a few.
pub(crate) const ALL: &str =
    "SELECT name, hash, prefix, scopes, created_by, created_at, expires_at, revoked_at
  FROM token ORDER BY id DESC";

/// Along the unique index of digests.
pub(crate) const BY_HASH: &str =
    "SELECT name, hash, prefix, scopes, created_by, created_at, expires_at, revoked_at
  FROM token WHERE hash=$1";

impl Tx<'_> {
    pub(crate) fn add_token(&mut self, token: &TokenRow) -> Done<()> {
        let known =
            self.row("SELECT 1 FROM token WHERE name=$1 AND revoked_at IS NULL", values![&token.name])?;
        if known.is_some() {
            return Err(StoreError::Refused(format!("there is a token `{}` already", token.name)).into());
        }
        let TokenRow { name, hash, prefix, scopes, created_by, created_at, expires_at, .. } = token;
        self.run(
            "INSERT INTO token (name, hash, prefix, scopes, created_by, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            values![name, hash, prefix, scopes, created_by, *created_at, *expires_at],
        )
        .map(drop)
    }

    pub(crate) fn revoke_token(&mut self, name: &str) -> Done<()> {
        let sql = "UPDATE token SET revoked_at=$2 WHERE name=$1 AND revoked_at IS NULL";
        self.run(sql, values![name, self.now]).map(drop)
    }
}

pub(crate) fn token_row(r: &Row) -> Done<TokenRow> {
    Ok(TokenRow {
        name: r.text(0)?,
        hash: r.text(1)?,
        prefix: r.text(2)?,
        scopes: r.text(3)?,
        created_by: r.text(4)?,
        created_at: r.int(5)?,
        expires_at: r.int_or(6)?,
        revoked_at: r.int_or(7)?,
    })
}
