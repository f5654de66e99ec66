//! The bell: rings for every commit that added to the log, whoever made it.
//!
//! This process rings it itself. For the commits of others it listens, on a connection of its own that
//! goes straight to the server: each commit notifies those who listen, with the head of the log. A
//! notification can be lost, with the connection or behind a proxy; so the head is looked at every now
//! and then, too.

use std::future::poll_fn;
use std::time::Duration;

use sidestream_core::Seq;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_postgres::{AsyncMessage, SimpleQueryMessage};

use super::address::Address;
use super::connection::Connections;
use super::connection::quoted;
use super::failure::{Failure, Result};

/// The wait before the first attempt to listen again, and the longest.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(100);
const LISTEN_AGAIN_AFTER_MAX: Duration = Duration::from_secs(10);

/// Where the log ends; the schema's name goes in the place of the `@`.
pub(super) const HEAD: &str = "SELECT seq FROM @head WHERE single = 1";

/// Rings with the head of the log.
#[derive(Debug, Clone)]
pub(super) struct Bell(watch::Sender<Seq>);

impl Bell {
    pub(super) fn new(head: Seq) -> Self {
        Self(watch::Sender::new(head))
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Seq> {
        self.0.subscribe()
    }

    /// The log goes this far. Rings if that is news.
    pub(super) fn ring(&self, head: Seq) {
        self.0.send_if_modified(|known| {
            let is_news = head > *known;
            if is_news {
                *known = head;
            }
            is_news
        });
    }

    /// Rings for what others notify, until dropped.
    ///
    /// `head` is the statement that reads the head of the log.
    pub(super) async fn listen(self, address: Address, channel: String, head: String) {
        let mut wait = LISTEN_AGAIN_AFTER;
        loop {
            let mut has_heard = false;
            let ended = self.listen_once(&address, &channel, &head, &mut has_heard);
            let failure = match ended.await {
                Ok(()) => continue,
                Err(failure) => failure.at(&address.place),
            };
            if has_heard {
                wait = LISTEN_AGAIN_AFTER;
            }
            tracing::warn!(error = %failure, "not listening for the commits of others; only looking");
            sleep(wait).await;
            wait = (wait * 2).min(LISTEN_AGAIN_AFTER_MAX);
        }
    }

    async fn listen_once(
        &self,
        address: &Address,
        channel: &str,
        head: &str,
        is_listening: &mut bool,
    ) -> Result<()> {
        let mut config = address.config.clone();
        config.application_name("sidestream listens");
        let connected = config.connect(address.tls.clone()).await;
        let (client, mut connection) = connected?;
        let listen = format!("LISTEN {}", quoted(channel));
        let listening = async {
            client.batch_execute(&listen).await?;
            *is_listening = true;
            // What was committed before is not notified any more.
            for said in client.simple_query(head).await? {
                if let SimpleQueryMessage::Row(row) = said
                    && let Some(Ok(head)) = row.get(0).map(str::parse)
                {
                    self.ring(Seq(head));
                }
            }
            // The session lasts as long as its client.
            std::future::pending::<Result<()>>().await
        };
        let hearing = async {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(heard))) => {
                        if let Ok(head) = heard.payload().parse() {
                            self.ring(Seq(head));
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(Failure::Server(error)),
                    None => return Err(Failure::NoConnection("it was closed".into())),
                }
            }
        };
        tokio::select! {
            ended = listening => ended,
            ended = hearing => ended,
        }
    }

    /// Looks at the head every now and then, until dropped.
    pub(super) async fn look(self, connections: std::sync::Arc<Connections>, every: Duration) {
        loop {
            sleep(every).await;
            // What is wrong, whoever needs the database says.
            if let Ok(head) = head(&connections).await {
                self.ring(head);
            }
        }
    }
}

async fn head(connections: &Connections) -> Result<Seq> {
    let connection = connections.get_spare().await?;
    let rows = connection.query(HEAD, &[]).await?;
    connection.give_back();
    let row = rows.first();
    let row = row.ok_or_else(|| Failure::Unreadable("the log has no head".into()))?;
    Ok(Seq(row.try_get::<_, i64>(0)?.cast_unsigned()))
}
