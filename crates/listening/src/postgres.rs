//! PostgreSQL: NOTIFY on a channel.

use bytes::Bytes;
use ostler_brokers::{
    BrokerError, Content,
    postgres::{Listener, Notification, Server},
};
use serde_json::json;

use crate::{
    message,
    source::{Batch, Opened, Published, Source, Wishes, gather},
};

struct Channel {
    listener: Listener,
}

pub(crate) async fn channel(url: &str, channel: &str, wishes: &Wishes) -> Result<Opened, BrokerError> {
    let server = Server::parse(url, &wishes.folder, &wishes.name)?;
    Ok((Box::new(Channel { listener: server.listen(channel).await? }), None))
}

impl Published for Channel {
    type Message = Notification;

    async fn next(&mut self) -> Result<Notification, BrokerError> {
        self.listener.next().await
    }

    fn size(note: &Notification) -> usize {
        note.payload.len()
    }
}

#[async_trait::async_trait]
impl Source for Channel {
    async fn batch(&mut self) -> Result<Batch, BrokerError> {
        let notes = gather(self).await?;
        let event = |note: Notification| {
            let content = Content::Whole(Bytes::from(note.payload));
            message::event("postgres", json!({ "channel": note.channel }), &content)
        };
        Ok(Batch { events: notes.into_iter().map(event).collect(), at: None })
    }
}
