//! The way between a worker and its server, which a test can cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It arrives.
    Open,
    /// Nothing arrives, in either direction, and nobody is told; it arrives once the way is open again.
    Blackhole,
    /// Requests arrive, and their answers are lost with the connection.
    LosesAnswers,
}

/// Passes on what comes to its address, until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    way: watch::Sender<Way>,
    to_worker: Arc<Mutex<String>>,
    _passing: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = watch::Sender::new(Way::Open);
        let to_worker = Arc::<Mutex<String>>::default();
        let mut passing = JoinSet::new();
        passing.spawn(accept(
            listener,
            server,
            way.subscribe(),
            Arc::clone(&to_worker),
        ));
        Self {
            address,
            way,
            to_worker,
            _passing: passing,
        }
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// All that has reached the worker.
    pub(crate) fn to_worker(&self) -> String {
        self.to_worker.lock().unwrap().clone()
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    way: watch::Receiver<Way>,
    to_worker: Arc<Mutex<String>>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (worker, _) = listener.accept().await.unwrap();
        let (mut way, to_worker) = (way.clone(), Arc::clone(&to_worker));
        connections.spawn(async move {
            let _ = way.wait_for(|way| *way != Way::Blackhole).await;
            // The server may be away: then the connection is closed.
            let Ok(server) = TcpStream::connect(server).await else {
                return;
            };
            let (from_worker, worker) = worker.into_split();
            let (from_server, server) = server.into_split();
            let up = pass(from_worker, server, way.clone(), false, |_| {});
            let down = pass(from_server, worker, way, true, |bytes| {
                to_worker
                    .lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(bytes));
            });
            // Either end closes the whole.
            tokio::select! {
                () = up => {}
                () = down => {}
            }
        });
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
    is_answer: bool,
    note: impl Fn(&[u8]),
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let open = way.wait_for(|way| *way != Way::Blackhole).await;
        let open = open.map_or(Way::Open, |way| *way);
        if is_answer && open == Way::LosesAnswers {
            return;
        }
        note(&bytes[..read]);
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
