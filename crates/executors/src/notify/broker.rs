//! What a notification to a broker carries: the same for Redis, NATS and MQTT.

use jiff::Timestamp;
use ostler_brokers::BrokerError;
use ostler_model::TypedError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Delivery, Notice, wrong};
use crate::call::Call;

/// What is handed over.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Body {
    #[default]
    Json,
    Message,
}

impl Body {
    pub(super) fn text(self, notice: &Notice, call: &Call, now: Timestamp) -> String {
        match self {
            Self::Json => super::envelope(notice, &call.request, now).to_string(),
            Self::Message => notice.message.clone(),
        }
    }

    pub(super) fn schema() -> Value {
        json!({ "enum": ["json", "message"], "default": "json", "description": "What is handed over: JSON with title, message and run, or the message as it is" })
    }
}

/// An address that does not read.
pub(super) fn wrong_url(broker: &str, error: &BrokerError) -> TypedError {
    wrong(format!("`{broker}.url` {error}"))
}

/// What became of a message, with a remark in the log when the broker has it.
pub(super) fn told(broker: &str, place: &str, done: Result<Value, BrokerError>, call: &Call) -> Delivery {
    match done {
        Ok(output) => {
            call.remark(&format!("{broker}: {place} took it"));
            Delivery::made(output)
        }
        Err(error) => Delivery::failed(error.to_string()),
    }
}
