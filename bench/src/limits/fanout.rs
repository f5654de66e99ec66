//! What the kernel and an HTTP server take to hand ready bytes to many clients: one shared ring, which each client
//! walks from its own place; all that is ready goes out in one write, without Nagle's delay.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use futures::stream::unfold;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::figures::fanout::Settings;
use crate::found::{Found, ready};
use crate::site::output;
use crate::sse::clients::{cpu_seconds, now_us};
use crate::sse::{Clients, Ids, Watching};

/// Events that the ring holds: more than any client falls behind.
const RING: usize = 65_536;

#[derive(Debug, Default)]
struct Ring {
    /// The event of place `n` is at `n - first`.
    events: VecDeque<Bytes>,
    first: u64,
}

#[derive(Debug, Clone)]
struct Shared {
    ring: Arc<RwLock<Ring>>,
    head: watch::Sender<u64>,
}

impl Shared {
    fn publish(&self, event: Bytes) {
        {
            let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.events.push_back(event);
            if ring.events.len() > RING {
                ring.events.pop_front();
                ring.first += 1;
            }
        }
        self.head.send_modify(|head| *head += 1);
    }

    /// All that is ready after a place, in one piece.
    fn ready(&self, place: u64) -> (Vec<u8>, u64) {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let mut frame = Vec::new();
        let skipped = usize::try_from(place - ring.first).unwrap_or(usize::MAX);
        let mut through = place;
        for event in ring.events.iter().skip(skipped) {
            frame.extend_from_slice(event);
            through += 1;
            if frame.len() >= 64 << 10 {
                break;
            }
        }
        (frame, through)
    }

    fn stream(&self) -> Body {
        let bell = self.head.subscribe();
        let preamble = Bytes::from_static(b"retry: 1000\n\n: open\n\n");
        let place = *self.head.borrow();
        let state = (self.clone(), bell, place, Some(preamble));
        Body::from_stream(unfold(
            state,
            |(shared, mut bell, place, preamble)| async move {
                if let Some(preamble) = preamble {
                    return Some((Ok::<_, Infallible>(preamble), (shared, bell, place, None)));
                }
                bell.wait_for(|head| *head > place).await.ok()?;
                let (frame, through) = shared.ready(place);
                Some((Ok(frame.into()), (shared, bell, through, None)))
            },
        ))
    }
}

/// The same events, at the same pace, to the same clients.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<Found> {
    let shared = Shared {
        ring: Arc::default(),
        head: watch::Sender::new(0),
    };
    let served = shared.clone();
    let router = Router::new().route("/", get(async move || served.stream()));
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|socket| {
        // Without it the figure only gets worse.
        let _ = socket.set_nodelay(true);
    });
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await });
    let outputs = settings.outputs_per_second * settings.seconds;
    let clients = Clients::connect(&Watching {
        address,
        clients: settings.clients,
        path: "/".into(),
        outputs,
        ids: Ids::Dense,
        counted_from: outputs / 5,
    })
    .await?;
    ready();
    let cpu = cpu_seconds();
    let every = Duration::from_micros(1_000_000 / settings.outputs_per_second);
    let begun = Instant::now();
    for n in 0..u32::try_from(outputs)? {
        tokio::time::sleep_until(begun + every * n).await;
        shared.publish(event(n + 1));
    }
    let seen = clients.seen().await?;
    let cpu = cpu_seconds() - cpu;
    serving.shutdown().await;
    let verified = format!(
        "each of {} clients saw all {outputs} events, in order",
        settings.clients
    );
    Ok(seen.told(Found::verified(verified), "deliveries_per_second", cpu))
}

/// As large as ours.
fn event(n: u32) -> Bytes {
    let id = "0123456789abcdef0123456789abcdef-0123";
    let output = output(now_us());
    let event = format!(
        "id: 0123456789abcdef-{n}\ndata: {{\"type\":\"background-task-output\",\"payload\":{{\"taskId\":\"{id}\",\
         \"toolName\":\"emits\",\"threadId\":\"thread-1\",\"payload\":{},\"seq\":{n},\"attempt\":1}}}}\n\n",
        output.as_str()
    );
    event.into()
}
