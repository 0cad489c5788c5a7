//! MySQL and MariaDB: one connection an attempt.
//!
//! A statement without parameters goes as text, since not every one can be prepared; one with parameters is prepared.
//! What stops one is `KILL QUERY`, over a second connection.
//!
//! A statement such as `create table` commits by itself, whatever the client wants
//! (<https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html>). A transaction is begun again after it, and a
//! failure says how far the script was committed by then.

mod connect;
mod values;

use std::pin::pin;

use mysql_async::{
    Conn, Error, Opts, Params, QueryResult,
    consts::StatusFlags,
    prelude::{Protocol, Queryable},
};
use ostler_brokers::Address;

use super::{
    Answer, CONNECT, Failure, INTERRUPT_EVERY, STOP, Script,
    text::{self, Dialect, Statement},
};
use crate::call::Call;

/// Carries a script out.
pub(super) async fn run(
    address: Address,
    folder: &std::path::Path,
    script: &Script,
    call: &Call,
) -> Result<Option<Answer>, Failure> {
    let (opts, place) = connect::options(&address, folder)?;
    let connecting = tokio::time::timeout(CONNECT, connect::connect(&opts));
    let (mut connection, opts) = match call.unless_cancelled(connecting).await {
        Err(_) => return Ok(None),
        Ok(Err(_)) => {
            let text = format!("{place}: it does not let us in for {} s", CONNECT.as_secs());
            return Err(Failure::new("connect", text));
        }
        Ok(Ok(done)) => done.map_err(|e| connect::refused(&e, &place))?,
    };
    let id = connection.id();
    let done = {
        let mut work = pin!(execute(&mut connection, script, call));
        tokio::select! {
            biased;
            done = &mut work => Some(done),
            _ = call.cancel.fired() => {
                if tokio::time::timeout(STOP, stop(opts, id, work)).await.is_err() {
                    call.remark(&format!("{place}: it did not say that it has stopped"));
                }
                None
            }
        }
    };
    // What is open is rolled back by the server when the connection ends.
    let _ = tokio::time::timeout(STOP, connection.disconnect()).await;
    done.transpose()
}

/// Has the server stop the statement at work, until the work has ended.
async fn stop<T>(opts: Opts, id: u32, work: impl Future<Output = T>) {
    let asking = async {
        let mut second = None;
        loop {
            if second.is_none() {
                second = Conn::new(opts.clone()).await.ok();
            }
            if let Some(connection) = &mut second {
                let _ = connection.query_drop(format!("KILL QUERY {id}")).await;
            }
            tokio::time::sleep(INTERRUPT_EVERY).await;
        }
    };
    tokio::select! {
        _ = work => {}
        () = asking => {}
    }
}

/// All statements; all or nothing if a transaction is asked for, as far as the server lets us.
async fn execute(connection: &mut Conn, script: &Script, call: &Call) -> Result<Answer, Failure> {
    let done = statements(connection, script, call).await;
    if script.transaction {
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = connection.query_drop(end).await;
        if done.is_ok() {
            ended.map_err(|e| {
                let failure = failure(&e, None);
                let message =
                    format!("everything was rolled back, for the commit failed: {}", failure.message);
                Failure { message, ..failure }
            })?;
        }
    }
    done
}

async fn statements(connection: &mut Conn, script: &Script, call: &Call) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    let mut kept = 0;
    for text in &script.texts {
        for statement in text::split(text, Dialect::Mysql) {
            if script.transaction && !is_in_transaction(connection) {
                kept = answer.statements;
                connection.query_drop("START TRANSACTION").await.map_err(|e| failure(&e, None))?;
            }
            answer.statements += 1;
            let number = answer.statements;
            // A `KILL QUERY` that comes between two statements stops none.
            if call.cancel.reason().is_some() {
                return Err(Failure::new("sql", "interrupted").at(number, statement.text));
            }
            let done = one(connection, &statement, text, script, &mut answer).await;
            done.map_err(|failure| Failure { kept, ..failure.at(number, statement.text) })?;
        }
    }
    Ok(answer)
}

fn is_in_transaction(connection: &Conn) -> bool {
    connection
        .last_ok_packet()
        .is_some_and(|ok| ok.status_flags().contains(StatusFlags::SERVER_STATUS_IN_TRANS))
}

async fn one(
    connection: &mut Conn,
    statement: &Statement<'_>,
    text: &str,
    script: &Script,
    answer: &mut Answer,
) -> Result<(), Failure> {
    let at = |e: Error| failure(&e, Some((statement, text)));
    let plain = |message: String| Failure::new("sql", message);
    if statement.names.is_empty() {
        let result = connection.query_iter(&statement.sql).await.map_err(at)?;
        return read(result, script, answer, at).await;
    }
    let params = statement.names.iter().map(|name| script.param(name).map(values::param));
    let params = params.collect::<Result<Vec<_>, _>>().map_err(plain)?;
    let prepared = connection.prep(&statement.sql).await.map_err(at)?;
    if usize::from(prepared.num_params()) != params.len() {
        return Err(plain("a `?` has no name; write `:name` and give it under `params`".into()));
    }
    let result = connection.exec_iter(&prepared, Params::Positional(params)).await.map_err(at)?;
    read(result, script, answer, at).await
}

/// All that a statement gives: a procedure may give several sets of rows.
async fn read<P: Protocol>(
    mut result: QueryResult<'_, '_, P>,
    script: &Script,
    answer: &mut Answer,
    at: impl Fn(Error) -> Failure,
) -> Result<(), Failure> {
    if result.columns_ref().is_empty() {
        answer.changed += result.affected_rows();
        return result.drop_result().await.map_err(at);
    }
    while let Some(columns) = result.columns().filter(|columns| !columns.is_empty()) {
        answer.begin(columns.iter().map(|column| column.name_str().into_owned()).collect(), script);
        while let Some(row) = result.next().await.map_err(&at)? {
            let cells = row.unwrap().into_iter().zip(columns.iter());
            let cells = cells.map(|(value, column)| values::cell(value, column)).collect();
            answer.take(cells, script).map_err(|message| Failure::new("sql", message))?;
        }
    }
    result.drop_result().await.map_err(at)
}

/// An error in the words of the server, with its codes and, for a fault of syntax, the line of the script.
fn failure(e: &Error, statement: Option<(&Statement<'_>, &str)>) -> Failure {
    match e {
        Error::Server(told) => {
            let message = match statement {
                Some((statement, script)) => with_line(&told.message, statement.place(script, 1).0),
                None => told.message.clone(),
            };
            let message = format!("{message} (error {}, SQLSTATE {})", told.code, told.state);
            Failure::new(format!("sql:{}", told.state), message)
        }
        other => Failure::new("connect", format!("the connection broke: {}", connect::cause(other))),
    }
}

/// "… at line 1" counts from the beginning of the statement.
fn with_line(message: &str, first: usize) -> String {
    const MARK: &str = " at line ";
    let line =
        message.rfind(MARK).and_then(|at| Some((at, message[at + MARK.len()..].parse::<usize>().ok()?)));
    match line {
        Some((at, line)) => format!("{}{MARK}{}", &message[..at], first + line - 1),
        None => message.to_owned(),
    }
}
