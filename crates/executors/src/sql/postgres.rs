//! PostgreSQL: one connection an attempt.
//!
//! Statements are prepared one after the other, so that the server says the types of parameters ([`values`]). What
//! stops one is PostgreSQL's own cancel request, over a second connection.

mod connect;
mod values;

use std::{path::Path, pin::pin, time::Duration};

use futures::{FutureExt, StreamExt, TryStreamExt, future::poll_fn};
use ostler_brokers::postgres::{Secured, Server, Tls};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Connection, Error, Socket, error::ErrorPosition};

use self::values::{Cell, Param};
use super::{
    Answer, CONNECT, Failure, INTERRUPT_EVERY, STOP, Script,
    text::{self, Dialect, Statement},
};
use crate::call::Call;

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// Carries a script out.
pub(super) async fn run(
    url: &str,
    folder: &Path,
    script: &Script,
    call: &Call,
) -> Result<Option<Answer>, Failure> {
    let name = format!("ostler {}:{}", call.request.namespace, call.request.task);
    let server = Server::parse(url, folder, &name);
    let server = server.map_err(|e| Failure::new("settings", format!("`url` {e}")))?;
    let place = server.name();
    let connecting = tokio::time::timeout(CONNECT, server.open());
    let (client, connection) = match call.unless_cancelled(connecting).await {
        Err(_) => return Ok(None),
        Ok(Err(_)) => {
            let text = format!("{place}: it does not let us in for {} s", CONNECT.as_secs());
            return Err(Failure::new("connect", text));
        }
        Ok(Ok(done)) => done.map_err(|e| connect::refused(&e, place))?,
    };
    let token = client.cancel_token();
    let mut driver = pin!(drive(connection, call).fuse());
    let done = {
        let mut work = pin!(execute(&client, script, call));
        tokio::select! {
            biased;
            done = beside(&mut driver, &mut work) => Some(done),
            _ = call.cancel.fired() => {
                let tls = server.tls();
                let stopping = stop(&token, &tls, beside(&mut driver, &mut work));
                if tokio::time::timeout(STOP, stopping).await.is_err() {
                    call.remark(&format!("{place}: it did not say that it has stopped"));
                }
                None
            }
        }
    };
    drop(client);
    // Cut off, the server would log it.
    let _ = tokio::time::timeout(GOODBYE, driver).await;
    done.transpose()
}

/// Keeps the connection going; the server's notices are remarks of the run.
async fn drive(mut connection: Connection<Socket, Secured>, call: &Call) {
    while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
        if let AsyncMessage::Notice(notice) = message {
            call.remark(&format!("{}: {}", notice.severity(), notice.message()));
        }
    }
}

/// Work that needs the connection to go on; it may end before.
async fn beside<T>(mut driver: impl Future<Output = ()> + Unpin, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        () = &mut driver => work.await,
    }
}

/// Has the server stop the statement at work, until the work has ended.
async fn stop<T>(token: &CancelToken, tls: &Tls, work: impl Future<Output = T>) {
    let asking = async {
        loop {
            let _ = token.cancel_query(tls.clone()).await;
            tokio::time::sleep(INTERRUPT_EVERY).await;
        }
    };
    tokio::select! {
        _ = work => {}
        () = asking => {}
    }
}

/// All statements; all or nothing if a transaction is asked for.
async fn execute(client: &Client, script: &Script, call: &Call) -> Result<Answer, Failure> {
    if !script.transaction {
        return statements(client, script, call).await;
    }
    let plain = |what: &str, e: &Error| {
        let failure = failure(e, None);
        Failure { message: format!("{what}: {}", failure.message), ..failure }
    };
    client.batch_execute("BEGIN").await.map_err(|e| plain("the transaction cannot begin", &e))?;
    let done = statements(client, script, call).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    if done.is_ok() {
        ended.map_err(|e| plain("everything was rolled back, for the commit failed", &e))?;
    }
    done
}

async fn statements(client: &Client, script: &Script, call: &Call) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    for text in &script.texts {
        for statement in text::split(text, Dialect::Postgres) {
            answer.statements += 1;
            let number = answer.statements;
            // A cancel request that comes between two statements stops none.
            if call.cancel.reason().is_some() {
                return Err(Failure::new("sql", "interrupted").at(number, statement.text));
            }
            let done = one(client, &statement, text, script, &mut answer).await;
            done.map_err(|failure| failure.at(number, statement.text))?;
        }
    }
    Ok(answer)
}

async fn one(
    client: &Client,
    statement: &Statement<'_>,
    text: &str,
    script: &Script,
    answer: &mut Answer,
) -> Result<(), Failure> {
    let at = |e: Error| failure(&e, Some((statement, text)));
    let plain = |message: String| Failure::new("sql", message);
    let prepared = client.prepare(&statement.sql).await.map_err(at)?;
    let (numbered, named) = (prepared.params().len(), statement.names.len());
    if numbered > named {
        return Err(plain(format!(
            "parameter ${numbered} has no name; write `:name` and give it under `params`"
        )));
    }
    let params = statement.names.iter().map(|name| script.param(name).map(|value| Param { value }));
    let params = params.collect::<Result<Vec<_>, _>>().map_err(plain)?;
    let mut rows = pin!(client.query_raw(&prepared, params).await.map_err(at)?);
    if prepared.columns().is_empty() {
        while rows.try_next().await.map_err(at)?.is_some() {}
        answer.changed += rows.rows_affected().unwrap_or(0);
        return Ok(());
    }
    answer.begin(prepared.columns().iter().map(|column| column.name().to_owned()).collect(), script);
    while let Some(row) = rows.next().await {
        let row = row.map_err(at)?;
        let mut cells = Vec::with_capacity(row.len());
        for column in 0..row.len() {
            let cell = row.try_get::<_, Cell>(column).map_err(|e| {
                let cause = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
                plain(format!("column `{}` {cause}", row.columns()[column].name()))
            })?;
            cells.push(cell.0);
        }
        answer.take(cells, script).map_err(plain)?;
    }
    Ok(())
}

/// An error in the words of the server, with its code and, where it belongs to a statement, the place in the script.
fn failure(e: &Error, statement: Option<(&Statement<'_>, &str)>) -> Failure {
    let Some(told) = e.as_db_error() else {
        return match std::error::Error::source(e) {
            Some(cause) => {
                let text = e.to_string();
                let number = text.strip_prefix("error serializing parameter ").and_then(|n| n.parse().ok());
                let name = number.and_then(|n: usize| statement?.0.names.get(n).copied());
                match name {
                    Some(name) => Failure::new("sql", format!("`:{name}` {cause}")),
                    None => Failure::new("connect", format!("the connection broke: {text}: {cause}")),
                }
            }
            None if e.is_closed() => Failure::new("connect", "the server closed the connection"),
            None => Failure::new("sql", format!("{e}; `copy … from stdin` is not for steps")),
        };
    };
    let code = told.code().code();
    let mut facts = vec![format!("SQLSTATE {code}")];
    if let (Some((statement, script)), Some(ErrorPosition::Original(at))) = (statement, told.position()) {
        let (line, column) = statement.place(script, *at as usize);
        facts.push(format!("line {line}, column {column}"));
    }
    // "unnamed portal parameter $1 = 'x'"
    let numbered = told.where_().and_then(|text| number_after(text, "parameter $"));
    let untyped = (code == "42P18").then(|| number_after(told.message(), "parameter $")).flatten();
    let name = |number: usize| statement.and_then(|(s, _)| s.names.get(number.checked_sub(1)?).copied());
    if let Some(name) = numbered.and_then(name) {
        facts.push(format!("parameter `:{name}`"));
    }
    let remedy =
        untyped.and_then(name).map(|name| format!("; write its type: `:{name}::text`")).unwrap_or_default();
    let more = [("detail", told.detail()), ("hint", told.hint()), ("where", told.where_())];
    let more: Vec<String> =
        more.iter().filter_map(|(what, text)| Some(format!("{what}: {}", (*text)?))).collect();
    let mut failure =
        Failure::new(format!("sql:{code}"), format!("{} ({}){remedy}", told.message(), facts.join(", ")));
    failure.detail = (!more.is_empty()).then(|| more.join("\n"));
    failure
}

fn number_after(text: &str, mark: &str) -> Option<usize> {
    let rest = &text[text.find(mark)? + mark.len()..];
    rest[..rest.bytes().take_while(u8::is_ascii_digit).count()].parse().ok()
}
