//! Where the tests find databases and brokers.
//!
//! A test that needs a server asks for it by name and goes on only when there is one:
//!
//! ```no_run
//! let Some(url) = ostler_test_servers::POSTGRES.url() else { return };
//! ```
//!
//! The address comes from the server's variable (`OSTLER_TEST_POSTGRES`), else it is the usual port of this machine. When
//! nothing answers there, the test fails and says what to do; it is left out only where `OSTLER_TEST_WITHOUT` names
//! the server (`OSTLER_TEST_WITHOUT=postgres,mysql`), and `./test` tells at its end what was left out.

pub mod private;

use std::{
    net::{TcpStream, ToSocketAddrs},
    time::Duration,
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that tests need.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Its name in `OSTLER_TEST_WITHOUT`.
    pub name: &'static str,
    /// The variable with its address.
    pub variable: &'static str,
    /// Its address when the variable is not set.
    pub usual: &'static str,
    /// How to start one on Debian.
    pub start: &'static str,
}

/// PostgreSQL 14 or newer, as a user who may create databases and schemas.
pub const POSTGRES: Server = Server {
    name: "postgres",
    variable: "OSTLER_TEST_POSTGRES",
    usual: "postgres://postgres@127.0.0.1:5432/postgres",
    start: "apt-get install postgresql, and let `postgres` in from 127.0.0.1 by `trust` in pg_hba.conf",
};

/// MySQL 8 or MariaDB 10.6 or newer, as a user who may create databases.
pub const MYSQL: Server = Server {
    name: "mysql",
    variable: "OSTLER_TEST_MYSQL",
    usual: "mysql://root@127.0.0.1:3306/mysql",
    start: "apt-get install mariadb-server, and give root an empty password on 127.0.0.1",
};

/// Redis 6 or newer.
pub const REDIS: Server = Server {
    name: "redis",
    variable: "OSTLER_TEST_REDIS",
    usual: "redis://127.0.0.1:6379",
    start: "apt-get install redis-server; redis-server",
};

/// NATS with JetStream.
pub const NATS: Server = Server {
    name: "nats",
    variable: "OSTLER_TEST_NATS",
    usual: "nats://127.0.0.1:4222",
    start: "apt-get install nats-server; nats-server --jetstream",
};

/// An MQTT broker that speaks versions 3.1.1 and 5.
pub const MQTT: Server = Server {
    name: "mqtt",
    variable: "OSTLER_TEST_MQTT",
    usual: "mqtt://127.0.0.1:1883",
    start: "apt-get install mosquitto; mosquitto",
};

/// RabbitMQ.
pub const RABBITMQ: Server = Server {
    name: "rabbitmq",
    variable: "OSTLER_TEST_RABBITMQ",
    usual: "amqp://guest:guest@127.0.0.1:5672",
    start: "apt-get install rabbitmq-server",
};

impl Server {
    /// The address of the server; `None` where the tests are to do without it.
    ///
    /// # Panics
    /// When nothing answers there, with what to do.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        if self.is_left_out() {
            return None;
        }
        let url = std::env::var(self.variable).unwrap_or_else(|_| self.usual.to_owned());
        if let Err(why) = answers(&url) {
            panic!(
                "this test needs {}, and {}: {why}. Start one ({}), or say where one is by {}, or leave these tests out by OSTLER_TEST_WITHOUT={}",
                self.name,
                place(&url),
                self.start,
                self.variable,
                self.name
            );
        }
        Some(url)
    }

    /// Whether the tests are to do without it; says so.
    fn is_left_out(&self) -> bool {
        let without = std::env::var("OSTLER_TEST_WITHOUT").unwrap_or_default();
        let is_named = without.split(',').any(|name| name.trim() == self.name);
        if is_named {
            eprintln!("left out: OSTLER_TEST_WITHOUT names {}", self.name);
        }
        is_named
    }
}

/// Host and port of an address, without the login.
fn place(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

fn answers(url: &str) -> Result<(), String> {
    let mut why = "there is no such address".to_owned();
    for address in place(url).to_socket_addrs().map_err(|e| e.to_string())? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(_) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_is_told_without_the_login() {
        assert_eq!(place("postgres://me:a@b@db.example:5432/x?sslmode=require"), "db.example:5432");
        assert_eq!(place(REDIS.usual), "127.0.0.1:6379");
    }
}
