//! What it costs to hear of a commit.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::{AsyncMessage, NoTls};

/// Between two samples nothing happens for so long.
const PAUSE: Duration = Duration::from_millis(3);

/// How long PostgreSQL itself takes, from one session to another: a row is inserted and committed on the disk,
/// and who listens is told.
pub(crate) async fn ms(url: &str, times: usize) -> anyhow::Result<Vec<f64>> {
    let (writer, writing) = tokio_postgres::connect(url, NoTls).await?;
    let (listener, mut listening) = tokio_postgres::connect(url, NoTls).await?;
    let (hear, mut heard) = mpsc::unbounded_channel();
    let mut connections = JoinSet::new();
    connections.spawn(async move { drop(writing.await) });
    connections.spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| listening.poll_message(cx)).await {
            if let AsyncMessage::Notification(_) = message
                && hear.send(()).is_err()
            {
                break;
            }
        }
    });
    listener.batch_execute("LISTEN bare").await?;
    writer.batch_execute("CREATE TABLE bare (n BIGINT)").await?;
    let insert = "WITH told AS (SELECT pg_notify('bare', '')) INSERT INTO bare SELECT 1 FROM told";
    let insert = writer.prepare(insert).await?;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        tokio::time::sleep(PAUSE).await;
        let begun = Instant::now();
        writer.execute(&insert, &[]).await?;
        heard.recv().await.expect("it listens");
        taken.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    Ok(taken)
}
