//! MQTT 3.1.1.

mod wire;

use std::collections::HashSet;

use tokio::time::Instant;
use wire::{Packet, Wire, packet, text};

pub use self::wire::Message;
use crate::{
    ANSWER, BrokerError, SILENCE,
    link::{Link, greeted},
    place::Place,
};

/// Messages that are sent before their acknowledgements are waited for; more go in several turns.
const AT_A_TIME: usize = 500;

/// Where an MQTT broker is, and who asks.
#[derive(Clone, Debug)]
pub struct Server {
    place: Place,
}

/// How the broker is to know us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The name by which it does; no two connections have the same.
    pub client: String,
    /// It keeps what we listen to, and what comes meanwhile, when the connection ends.
    pub kept: bool,
}

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub struct Post<'a> {
    /// To which topic.
    pub topic: &'a str,
    /// The broker says that it has it (quality 1).
    pub acknowledged: bool,
    /// It keeps it for those who come later.
    pub retain: bool,
    /// What it carries.
    pub body: &'a [u8],
}

impl Server {
    /// Reads `mqtt://user:password@host:1883`, or `mqtts://`.
    ///
    /// # Errors
    /// [`BrokerError::Wrong`].
    pub fn parse(url: &str) -> Result<Self, BrokerError> {
        Ok(Self { place: Place::parse(url, [("mqtt", 1883), ("mqtts", 8883)])? })
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
    pub async fn connect(&self, session: &Session) -> Result<Mqtt, BrokerError> {
        greeted(&self.place, self.greet(session)).await
    }

    async fn greet(&self, session: &Session) -> Result<Mqtt, BrokerError> {
        let mut wire = self.place.connect().await?;
        if self.place.secured {
            wire = self.place.secure(wire).await?;
        }
        let mut link = Link::new(&self.place, wire, Wire::default());
        link.outgoing.send(&self.greeting(session)).await?;
        match link.incoming.next().await? {
            Packet::Welcome { known, code: 0 } => {
                Ok(Mqtt { link, known, numbers: 0, spoken: Instant::now(), asked: None })
            }
            Packet::Welcome { code, .. } => Err(link.incoming.refused(refusal(code))),
            _ => Err(link.incoming.garbled("it does not greet as MQTT does")),
        }
    }

    fn greeting(&self, session: &Session) -> Vec<u8> {
        const CLEAN: u8 = 0x02;
        let address = &self.place.address;
        let login = [(address.user.as_deref(), 0x80_u8), (address.password.as_deref(), 0x40)];
        let flags = login.iter().fold(if session.kept { 0 } else { CLEAN }, |flags, (given, bit)| {
            if given.is_some() { flags | bit } else { flags }
        });
        // It gives us up after half as much again: by then a message or a ping has been sent, see `SILENCE`.
        let keep_alive = (2 * SILENCE.as_secs() as u16).to_be_bytes();
        let mut body = [text("MQTT"), vec![4, flags], keep_alive.to_vec(), text(&session.client)].concat();
        body.extend(login.iter().filter_map(|(given, _)| *given).flat_map(text));
        packet(wire::CONNECT, &body)
    }
}

/// A connection to an MQTT broker.
pub struct Mqtt {
    link: Link<Wire>,
    known: bool,
    numbers: u16,
    /// When a ping was sent last.
    spoken: Instant,
    /// A ping is to be answered.
    asked: Option<Instant>,
}

impl Mqtt {
    /// Whether the broker has kept a session for us.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known
    }

    fn number(&mut self) -> u16 {
        self.numbers = self.numbers.checked_add(1).unwrap_or(1);
        self.numbers
    }

    /// Publishes, and waits for the acknowledgements of those that ask for one. A connection that publishes listens to
    /// nothing.
    ///
    /// # Errors
    /// The connection's: the broker may have any of the messages.
    pub async fn publish(&mut self, posts: &[Post<'_>]) -> Result<(), BrokerError> {
        for some in posts.chunks(AT_A_TIME) {
            let (mut bytes, mut waiting) = (Vec::new(), HashSet::new());
            for post in some {
                let mut body = text(post.topic);
                if post.acknowledged {
                    let number = self.number();
                    waiting.insert(number);
                    body.extend(number.to_be_bytes());
                }
                body.extend_from_slice(post.body);
                let flags = u8::from(post.acknowledged) << 1 | u8::from(post.retain);
                bytes.extend(packet(wire::PUBLISH | flags, &body));
            }
            let Link { incoming, outgoing } = &mut self.link;
            let hear = async {
                while !waiting.is_empty() {
                    match incoming.within(ANSWER).await? {
                        Packet::Taken(number) if waiting.remove(&number) => {}
                        Packet::Taken(_) => return Err(incoming.garbled("it acknowledges another message")),
                        _ => {}
                    }
                }
                Ok(())
            };
            tokio::try_join!(outgoing.send(&bytes), hear)?;
        }
        Ok(())
    }

    /// Waits until nothing is on the way: what was sent before has been read when a ping is answered.
    ///
    /// # Errors
    /// The connection's.
    pub async fn settle(&mut self) -> Result<(), BrokerError> {
        self.link.outgoing.send(&packet(wire::PINGREQ, &[])).await?;
        while self.link.incoming.within(ANSWER).await? != Packet::Pong {}
        Ok(())
    }

    /// Ends the connection in order. A session that is kept stays.
    ///
    /// # Errors
    /// The connection's.
    pub async fn goodbye(mut self) -> Result<(), BrokerError> {
        self.link.outgoing.send(&packet(wire::DISCONNECT, &[])).await
    }

    /// Listens to topics; what is published comes by [`Mqtt::next`]. A broker that has kept messages for us does not wait
    /// for our wishes: what has come before its answer is given at once.
    ///
    /// # Errors
    /// The connection's, or the broker's.
    pub async fn subscribe(&mut self, filter: &str, acknowledged: bool) -> Result<Vec<Message>, BrokerError> {
        let own = self.number();
        let body = [&own.to_be_bytes()[..], &text(filter), &[u8::from(acknowledged)]].concat();
        self.link.outgoing.send(&packet(wire::SUBSCRIBE, &body)).await?;
        let mut early = Vec::new();
        loop {
            match self.link.incoming.within(ANSWER).await? {
                Packet::Subscribed { number, codes } if number == own => {
                    return match codes.first() {
                        Some(0 | 1) => Ok(early),
                        _ => Err(self
                            .link
                            .incoming
                            .refused(format!("it does not let us listen to `{filter}`"))),
                    };
                }
                Packet::Message(message) => early.push(message),
                _ => {}
            }
        }
    }

    /// The next message, whenever it comes; finds out when nobody is there any more. Dropped before its end, it loses
    /// nothing.
    ///
    /// # Errors
    /// The connection's.
    pub async fn next(&mut self) -> Result<Message, BrokerError> {
        loop {
            // Pings are due by what we have said, not by what we have heard: the broker gives up who says nothing.
            let until = self.asked.map_or(self.spoken + SILENCE, |asked| asked + ANSWER);
            match tokio::time::timeout_at(until, self.link.incoming.next()).await {
                Ok(packet) => {
                    let packet = packet?;
                    self.asked = None;
                    if let Packet::Message(message) = packet {
                        return Ok(message);
                    }
                }
                Err(_) if self.asked.is_some() => return Err(self.link.incoming.late(ANSWER)),
                Err(_) => {
                    self.spoken = Instant::now();
                    self.asked = Some(self.spoken);
                    self.link.outgoing.send(&packet(wire::PINGREQ, &[])).await?;
                }
            }
        }
    }

    /// Acknowledges messages by their numbers; until then the broker keeps them.
    ///
    /// # Errors
    /// The connection's.
    pub async fn acknowledge(&mut self, numbers: impl IntoIterator<Item = u16>) -> Result<(), BrokerError> {
        let packets = numbers.into_iter().flat_map(|number| packet(wire::PUBACK, &number.to_be_bytes()));
        let bytes: Vec<u8> = packets.collect();
        self.link.outgoing.send(&bytes).await
    }
}

fn refusal(code: u8) -> String {
    let why = match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it refuses the client id",
        3 => "it is not at work",
        4 => "user or password are wrong",
        5 => "it does not let us in",
        _ => return format!("it refuses with code {code}"),
    };
    why.to_owned()
}
