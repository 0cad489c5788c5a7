//! Tokens.

use super::{Kit, Make};
use crate::{Command, Reply, TokenRow};

fn token(name: &str, hash: &str) -> TokenRow {
    TokenRow {
        name: name.to_owned(),
        hash: hash.to_owned(),
        prefix: "ost_1234".to_owned(),
        scopes: "[\"view\"]".to_owned(),
        created_by: "cli:me".to_owned(),
        created_at: 7,
        expires_at: Some(9),
        revoked_at: None,
    }
}

/// A name may come again after its token was revoked; a digest is found whether its token counts or not.
pub fn a_revoked_token_frees_its_name_and_stays_on_record(make: Make<'_>) {
    let mut kit = Kit::new(make);
    let add = |kit: &mut Kit, row: &TokenRow| kit.ask(Command::AddToken(Box::new(row.clone())));
    assert_eq!(add(&mut kit, &token("ci", "h1")), Ok(Reply::Done));
    assert!(add(&mut kit, &token("ci", "h2")).is_err());
    let revoke = Command::RevokeToken { name: "ci".into() };
    assert_eq!(kit.store.apply(20, &[revoke.clone(), revoke]), [Ok(Reply::Done), Ok(Reply::Done)]);
    assert_eq!(add(&mut kit, &token("ci", "h3")), Ok(Reply::Done));
    let queries = kit.reader.clone();
    let revoked = TokenRow { revoked_at: Some(20), ..token("ci", "h1") };
    assert_eq!(queries.tokens().unwrap(), [token("ci", "h3"), revoked.clone()]);
    assert_eq!(queries.token("h1").unwrap(), Some(revoked));
    assert_eq!(queries.token("h2").unwrap(), None);
}
