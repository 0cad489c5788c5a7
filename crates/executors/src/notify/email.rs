//! A notification by e-mail (SMTP, RFC 5321).

use std::{error::Error as _, time::SystemTime};

use jiff::Timestamp;
use lettre::{
    Address, Message,
    message::{
        Mailbox,
        header::{ContentType, Header, HeaderName, HeaderValue},
    },
    transport::smtp::{
        Error,
        authentication::{Credentials, Mechanism},
        client::{AsyncSmtpConnection, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
    },
};
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Delivery, Notice, PATIENCE,
    server::{Security, Server},
    wrong,
};
use crate::call::Call;

/// How long the server may take to say goodbye; by then the message is its own.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(2);

/// A step's `with.email`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    server: String,
    user: Option<String>,
    password: Option<String>,
    from: String,
    to: OneOrMany,
    subject: Option<Value>,
    #[serde(default)]
    insecure: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`to` is an address or a list of addresses")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

pub(super) fn schema() -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    json!({
        "type": "object",
        "description": "An e-mail",
        "required": ["server", "from", "to"],
        "additionalProperties": false,
        "properties": {
            "server": text("smtps://user:password@host, smtp+starttls://user:password@host, or smtp://localhost without TLS"),
            "user": text("The user, instead of one in the address"),
            "password": text("Its password"),
            "from": text("The sender: ostler@example.org, or Ostler <ostler@example.org>"),
            "to": {
                "type": ["string", "array"], "items": { "type": "string" }, "minItems": 1,
                "description": "Who gets it: one address or a list",
            },
            "subject": { "type": ["string", "number"], "description": "The subject; the title when nothing is said" },
            "insecure": { "type": "boolean", "description": "Send over smtp:// to another machine too: all on the way can read it, and the password" },
        },
    })
}

/// A message that is ready to be handed in.
pub(super) struct Letter {
    server: Server,
    from: Address,
    to: Vec<Address>,
    message: Vec<u8>,
}

impl Letter {
    pub(super) fn new(
        settings: Value,
        notice: &Notice,
        call: &Call,
        now: Timestamp,
    ) -> Result<Self, TypedError> {
        let settings: Settings =
            serde_json::from_value(settings).map_err(|e| wrong(format!("`email`: {e}")))?;
        let mut server = Server::parse(&settings.server).map_err(|e| wrong(format!("`email.server` {e}")))?;
        server.login = match (settings.user, settings.password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => server.login,
            _ => return Err(wrong("`email.user` and `email.password` go together")),
        };
        if server.security == Security::Plain && server.is_remote && !settings.insecure {
            let text = "`email.server`: smtp:// goes to this machine only, since all on the way can read it; write smtps:// or smtp+starttls://, or `insecure: true`";
            return Err(wrong(text));
        }
        let from = mailbox("from", &settings.from)?;
        let to = match settings.to {
            OneOrMany::One(address) => vec![address],
            OneOrMany::Many(addresses) => addresses,
        };
        let to = to.iter().map(|address| mailbox("to", address)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(wrong("`email.to` names nobody"));
        }
        let subject = settings.subject.map_or_else(|| notice.title.clone(), |s| super::text(&s));
        let mut message = Message::builder()
            .message_id(Some(message_id(&call.request.idempotency_key, from.email.domain())))
            .date(SystemTime::from(now))
            .from(from.clone())
            .subject(one_line(&subject))
            .header(AutoSubmitted)
            .header(ContentType::TEXT_PLAIN);
        for mailbox in &to {
            message = message.to(mailbox.clone());
        }
        let message = message
            .body(body(notice, call))
            .map_err(|e| wrong(format!("`email`: there is no message to be made of this: {e}")))?;
        let to = to.into_iter().map(|mailbox| mailbox.email).collect();
        Ok(Self { server, from: from.email, to, message: message.formatted() })
    }

    pub(super) async fn send(self, call: &Call) -> Delivery {
        let host = self.server.host.clone();
        let Handed { mut connection, accepted, refused } = match self.hand_in().await {
            Ok(done) => done,
            Err(error) => return Delivery::failed(format!("{host}: {}", in_words(&error))),
        };
        call.remark(&format!("email: {host} took it for {}", count(&accepted)));
        let _ = tokio::time::timeout(GOODBYE, connection.quit()).await;
        let mut output = json!({ "accepted": accepted });
        if refused.is_empty() {
            return Delivery::made(output);
        }
        let addresses: Vec<&String> = refused.iter().map(|(address, _)| address).collect();
        output["refused"] = json!(addresses);
        let reasons: Vec<String> = refused.iter().map(|(address, why)| format!("{address}: {why}")).collect();
        let fault = TypedError::new("notify", format!("{host} refused {}", reasons.join(", ")));
        Delivery { output, fault: Some(fault) }
    }

    /// One transaction; the connection is left for a goodbye. Whom the server refuses gets nothing, the others do.
    async fn hand_in(&self) -> Result<Handed, Error> {
        ostler_brokers::tls::install_provider();
        let Server { security, host, port, login, .. } = &self.server;
        let hello = hello();
        let tls = |wanted| (*security == wanted).then(|| TlsParameters::new(host.clone())).transpose();
        let place = (host.as_str(), *port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(place, Some(PATIENCE), &hello, tls(Security::Tls)?, None)
                .await?;
        if let Some(tls) = tls(Security::StartTls)? {
            connection.starttls(tls, &hello).await?;
        }
        if let Some((user, password)) = login {
            let credentials = Credentials::new(user.clone(), password.clone());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        connection.command(Mail::new(Some(self.from.clone()), self.parameters(&connection))).await?;
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for address in &self.to {
            match connection.command(Rcpt::new(address.clone(), Vec::new())).await {
                Ok(_) => accepted.push(address.to_string()),
                Err(error) if error.status().is_some() => {
                    refused.push((address.to_string(), in_words(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        if !accepted.is_empty() {
            connection.command(Data).await?;
            connection.message(&self.message).await?;
        }
        Ok(Handed { connection, accepted, refused })
    }

    /// What the server must know beforehand. One that does not take it says so itself.
    fn parameters(&self, connection: &AsyncSmtpConnection) -> Vec<MailParameter> {
        let mut parameters = Vec::new();
        if !std::iter::once(&self.from)
            .chain(&self.to)
            .all(|address| AsRef::<str>::as_ref(address).is_ascii())
        {
            parameters.push(MailParameter::SmtpUtfEight);
        }
        if !self.message.is_ascii() && connection.server_info().supports_feature(Extension::EightBitMime) {
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        parameters
    }
}

/// What became of a transaction.
struct Handed {
    connection: AsyncSmtpConnection,
    accepted: Vec<String>,
    /// Who gets nothing, with why.
    refused: Vec<(String, String)>,
}

fn count(accepted: &[String]) -> String {
    match accepted {
        [] => "nobody".to_owned(),
        [one] => one.clone(),
        many => format!("{} recipients", many.len()),
    }
}

fn mailbox(field: &str, text: &str) -> Result<Mailbox, TypedError> {
    let refused = || wrong(format!("`email.{field}`: `{}` is not an address", one_line(text)));
    // A line break would begin another header.
    if text.chars().any(char::is_control) {
        return Err(refused());
    }
    text.parse().map_err(|_| refused())
}

/// A header is one line; what a title was made of may have more.
fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control() || c.is_whitespace())
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The same for every attempt, so that a repeated delivery can be recognised.
fn message_id(key: &str, domain: &str) -> String {
    let digest = blake3::hash(key.as_bytes()).to_hex();
    format!("<{}@{domain}>", &digest[..32])
}

/// The message, and below it what it is about.
fn body(notice: &Notice, call: &Call) -> String {
    let request = &call.request;
    let run = request.run.map_or_else(|| request.machine.0.to_string(), |run| run.to_string());
    let place = format!(
        "{}:{}, step {}, attempt {}, run {run}",
        request.namespace, request.task, request.step, request.attempt
    );
    let message = notice.message.trim_end();
    // The mark of a signature is two dashes and a space (RFC 3676, section 4.3).
    format!("{}{}-- \n{place}\n", message, if message.is_empty() { "" } else { "\n\n" })
}

/// The name by which this machine greets; one that is no name is left out.
fn hello() -> ClientId {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
    if is_name { ClientId::Domain(name.into_owned()) } else { ClientId::default() }
}

/// What went wrong; the answer of the server where it gave one.
fn in_words(error: &Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    match (error.status(), cause) {
        (Some(code), Some(cause)) => format!("it answered {code} {cause}"),
        (Some(code), None) => format!("it answered {code}"),
        (None, Some(cause)) => cause.to_string(),
        (None, None) => error.to_string(),
    }
}

/// Keeps those who are on holiday from answering (RFC 3834, section 5).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}
