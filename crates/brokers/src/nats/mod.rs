//! NATS, and JetStream, which keeps messages.

mod jetstream;
mod wire;

use std::time::Duration;

use serde_json::json;
use wire::{Frame, Wire};

pub use self::{
    jetstream::{Consumer, Kept, StreamState},
    wire::Message,
};
use crate::{
    ANSWER, BrokerError, SILENCE,
    link::{Link, greeted},
    place::Place,
};

/// The largest message that a server takes when it does not say.
const USUAL: usize = 1 << 20;

/// How long a pull waits at the server.
const PULL: Duration = Duration::from_secs(20);

/// Where a NATS is, and who asks.
#[derive(Clone, Debug)]
pub struct Server {
    place: Place,
}

/// A message to be published.
#[derive(Clone, Debug, Default)]
pub struct Post<'a> {
    /// To which subject.
    pub subject: &'a str,
    /// By which a stream knows it again (`Nats-Msg-Id`).
    pub id: Option<&'a str>,
    /// Further headers.
    pub headers: &'a [(String, String)],
    /// What it carries.
    pub body: &'a [u8],
}

impl Server {
    /// Reads `nats://user:password@host:4222` (a token stands where the user does), or `tls://`.
    ///
    /// # Errors
    /// [`BrokerError::Wrong`].
    pub fn parse(url: &str) -> Result<Self, BrokerError> {
        Ok(Self { place: Place::parse(url, [("nats", 4222), ("tls", 4222)])? })
    }

    /// Host and port.
    #[must_use]
    pub fn name(&self) -> String {
        self.place.name()
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// It is away, or does not let us in.
    pub async fn connect(&self) -> Result<Nats, BrokerError> {
        greeted(&self.place, self.greet()).await
    }

    async fn greet(&self) -> Result<Nats, BrokerError> {
        let wire = self.place.connect().await?;
        let mut link = Link::new(&self.place, wire, Wire::default());
        let Frame::Info(info) = link.incoming.next().await? else {
            return Err(link.incoming.garbled("it does not greet as NATS does"));
        };
        if self.place.secured || info["tls_required"] == true {
            link = link.secure(&self.place).await?;
        }
        let address = &self.place.address;
        let mut options = json!({
            "verbose": false, "pedantic": false, "lang": "rust", "version": env!("CARGO_PKG_VERSION"),
            "name": "ostler", "headers": true, "no_responders": true,
        });
        match (&address.user, &address.password) {
            (Some(user), Some(password)) => {
                options["user"] = json!(user);
                options["pass"] = json!(password);
            }
            (Some(token), None) => options["auth_token"] = json!(token),
            _ => {}
        }
        // The server's id and its number for this client are nobody else's.
        let inbox =
            format!("_INBOX.{}.{}", info["server_id"].as_str().unwrap_or("ostler"), info["client_id"]);
        let largest = info["max_payload"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(USUAL);
        link.outgoing.send(format!("CONNECT {options}\r\nSUB {inbox}.* 1\r\nPING\r\n").as_bytes()).await?;
        let mut nats = Nats { link, inbox, largest, questions: 0, subscriptions: 1 };
        nats.settled().await?;
        Ok(nats)
    }
}

/// A connection to NATS.
pub struct Nats {
    link: Link<Wire>,
    /// What answers begin with.
    inbox: String,
    /// The most bytes that a message may have.
    largest: usize,
    questions: u64,
    subscriptions: u64,
}

impl Nats {
    /// Waits until the server has dealt with what was sent before the last PING.
    async fn settled(&mut self) -> Result<(), BrokerError> {
        let incoming = &mut self.link.incoming;
        loop {
            match incoming.within(ANSWER).await? {
                Frame::Pong => return Ok(()),
                Frame::Ping => self.link.outgoing.send(b"PONG\r\n").await?,
                Frame::Error(why) => return Err(incoming.refused(why)),
                Frame::Message(_) | Frame::Info(_) | Frame::Fine => {}
            }
        }
    }

    /// The most bytes that the server takes in one message, its headers included.
    #[must_use]
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// Publishes to whoever listens, and waits until the server has taken all. A message that is too large for it has
    /// its refusal.
    ///
    /// # Errors
    /// The connection's, or the server's: any of the messages may have been taken.
    pub async fn publish(&mut self, posts: &[Post<'_>]) -> Result<Vec<Result<(), String>>, BrokerError> {
        let fits: Vec<_> = posts.iter().map(|post| self.fits(post)).collect();
        let mut bytes = Vec::new();
        for (post, _) in posts.iter().zip(&fits).filter(|(_, fits)| fits.is_ok()) {
            put(&mut bytes, post, None);
        }
        bytes.extend_from_slice(b"PING\r\n");
        self.link.outgoing.send(&bytes).await?;
        self.settled().await?;
        Ok(fits)
    }

    /// The server cuts off who sends it more than it takes.
    fn fits(&self, post: &Post<'_>) -> Result<(), String> {
        let size = post.body.len() + head(post).len();
        match size <= self.largest {
            true => Ok(()),
            false => Err(format!(
                "the message has {size} bytes; the server takes {} at most (max_payload)",
                self.largest
            )),
        }
    }

    /// Listens to a subject; what is published comes by [`Nats::next`].
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn subscribe(&mut self, subject: &str) -> Result<(), BrokerError> {
        self.subscriptions += 1;
        let text = format!("SUB {subject} {}\r\nPING\r\n", self.subscriptions);
        self.link.outgoing.send(text.as_bytes()).await?;
        self.settled().await
    }

    /// The next message, whenever it comes; finds out when nobody is there any more. Dropped before its end, it loses
    /// nothing.
    ///
    /// # Errors
    /// The connection's, or the server's.
    pub async fn next(&mut self) -> Result<Message, BrokerError> {
        let mut asked = false;
        loop {
            let patience = if asked { ANSWER } else { SILENCE };
            let frame = match tokio::time::timeout(patience, self.link.incoming.next()).await {
                Ok(frame) => frame?,
                Err(_) if asked => return Err(self.link.incoming.late(patience)),
                Err(_) => {
                    asked = true;
                    self.link.outgoing.send(b"PING\r\n").await?;
                    continue;
                }
            };
            match frame {
                Frame::Message(message) => return Ok(message),
                Frame::Ping => self.link.outgoing.send(b"PONG\r\n").await?,
                Frame::Error(why) => return Err(self.link.incoming.refused(why)),
                Frame::Pong | Frame::Info(_) | Frame::Fine => asked = false,
            }
        }
    }

    /// Where the answer to the next question is to go.
    fn question(&mut self) -> String {
        self.questions += 1;
        format!("{}.{}", self.inbox, self.questions)
    }

    /// Asks whoever answers at a subject. Other messages that come meanwhile are passed over.
    async fn ask(&mut self, subject: &str, body: &[u8]) -> Result<Message, BrokerError> {
        let reply = self.question();
        let mut bytes = Vec::new();
        put(&mut bytes, &Post { subject, body, ..Post::default() }, Some(&reply));
        self.link.outgoing.send(&bytes).await?;
        let late = self.link.incoming.late(ANSWER);
        let answer = async {
            loop {
                let message = self.next().await?;
                if message.subject == reply {
                    return Ok(message);
                }
            }
        };
        tokio::time::timeout(ANSWER, answer).await.unwrap_or(Err(late))
    }
}

/// The headers of a message as they are sent; nothing where it has none.
fn head(post: &Post<'_>) -> String {
    if post.id.is_none() && post.headers.is_empty() {
        return String::new();
    }
    // A line break would begin another header, or another word of the protocol.
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).collect::<String>();
    let mut head = "NATS/1.0\r\n".to_owned();
    let id = post.id.map(|id| ("Nats-Msg-Id", id));
    for (name, value) in id.into_iter().chain(post.headers.iter().map(|(n, v)| (n.as_str(), v.as_str()))) {
        head += &format!("{}: {}\r\n", plain(name).replace(':', ""), plain(value));
    }
    head + "\r\n"
}

/// A message as it is sent.
fn put(bytes: &mut Vec<u8>, post: &Post<'_>, reply: Option<&str>) {
    let head = head(post);
    let reply = reply.map(|reply| format!("{reply} ")).unwrap_or_default();
    let line = match head.is_empty() {
        true => format!("PUB {} {reply}{}\r\n", post.subject, post.body.len()),
        false => format!("HPUB {} {reply}{} {}\r\n", post.subject, head.len(), head.len() + post.body.len()),
    };
    for part in [line.as_bytes(), head.as_bytes(), post.body, b"\r\n"] {
        bytes.extend_from_slice(part);
    }
}
