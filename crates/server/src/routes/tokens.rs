//! Tokens.

use ostler_api::{Api, CreatedToken, NewToken, TokenView, wire::TokensParams};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Nothing;
use crate::{
    json::Json,
    operation::{Call, Operation, Plain, Routes},
};

#[derive(Deserialize, JsonSchema)]
struct OneToken {
    /// The token.
    name: String,
}

pub(crate) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::get("/tokens", "tokens", "All tokens, without their secrets"),
            |call: Call<Nothing, TokensParams, ()>| {
                Ok(Plain::<Vec<TokenView>>(call.api.tokens(call.query.sort)?))
            },
        )
        .add(
            Operation::post("/tokens", "create_token", "Make a token; its secret is shown this once")
                .creates(),
            |call: Call<Nothing, Nothing, Json<NewToken>>| {
                Ok(Plain::<CreatedToken>(call.api.create_token(&call.body.0)?))
            },
        )
        .add(
            Operation::delete("/tokens/{name}", "revoke_token", "Revoke a token"),
            |call: Call<OneToken, Nothing, ()>| {
                Ok(Plain::<TokenView>(call.api.revoke_token(&call.path.name)?))
            },
        )
}
