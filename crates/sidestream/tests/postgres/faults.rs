//! A network between a store and its server that stalls and breaks at random: also in the middle of a
//! transaction, and between a commit and its answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How often something happens to what a client sends: once in so many times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Odds {
    /// It is held up for a while.
    pub(crate) stall: u64,
    pub(crate) stall_ms_max: u64,
    /// The connection breaks, and it does not arrive.
    pub(crate) cut: u64,
    /// It arrives, and the connection breaks before the answer does.
    pub(crate) cut_answer: u64,
}

/// Random numbers from a seed: SplitMix64.
#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.0.fetch_add(GOLDEN, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }

    /// Never, if `odds` is 0.
    pub(crate) fn falls(&self, odds: u64) -> bool {
        odds > 0 && self.below(odds) == 0
    }
}

/// The network, until this is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    port: u16,
    _running: JoinSet<()>,
}

impl Network {
    /// Between whoever connects to [`Network::port`] and a server on the loopback interface.
    pub(crate) async fn to(server_port: u16, odds: Odds, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("it has a port").port();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server_port));
        let mut running = JoinSet::new();
        running.spawn(accept(listener, server, odds, Arc::new(Dice::new(seed))));
        Self {
            port,
            _running: running,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, odds: Odds, dice: Arc<Dice>) {
    let mut carrying = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("it accepts");
                carrying.spawn(carry(client, server, odds, Arc::clone(&dice)));
            }
            Some(_) = carrying.join_next() => {}
        }
    }
}

/// Carries what each side sends to the other, until one ends or the connection breaks.
async fn carry(client: TcpStream, server: SocketAddr, odds: Odds, dice: Arc<Dice>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket takes it");
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_client.read(&mut buffer).await.unwrap_or(0);
            if length == 0 || dice.falls(odds.cut) {
                return;
            }
            if dice.falls(odds.stall) {
                let ms = dice.below(odds.stall_ms_max);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            let is_last = dice.falls(odds.cut_answer);
            if to_server.write_all(&buffer[..length]).await.is_err() || is_last {
                return;
            }
        }
    };
    let back = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        () = there => {}
        _ = back => {}
    }
}
