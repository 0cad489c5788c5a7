//! What can go wrong with a broker.

/// What can go wrong with a broker. No message holds a login.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// The address or what is asked for is wrong; trying again does not help. A verb and its object: "is not an address
    /// as in …".
    #[error("{0}")]
    Wrong(String),
    /// It cannot be reached, or the connection has ended.
    #[error("{place}: {why}")]
    Away {
        /// Host and port.
        place: String,
        /// Why.
        why: String,
    },
    /// It says no.
    #[error("{place}: {why}")]
    Refused {
        /// Host and port.
        place: String,
        /// Why, in its words.
        why: String,
    },
    /// What it sends is not of the protocol.
    #[error("{place}: its answer makes no sense: {why}")]
    Garbled {
        /// Host and port.
        place: String,
        /// What is wrong with it.
        why: String,
    },
}
