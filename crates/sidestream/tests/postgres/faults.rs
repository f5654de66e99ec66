//! A network between a store and its server that stalls and breaks at random: also in the middle of a
//! transaction, and between a commit and its answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
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

impl Odds {
    /// Nothing happens by chance.
    pub(crate) const NONE: Self = Self {
        stall: 0,
        stall_ms_max: 0,
        cut: 0,
        cut_answer: 0,
    };
}

/// What happens to the next commit, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtCommit {
    /// It arrives, and its answer does not.
    LoseAnswer,
    /// Neither does it arrive.
    LoseIt,
    /// What was sent before it arrives; it comes a good while later.
    HoldBack(Duration),
    /// It arrives, its answer does not, and from then on nothing does.
    Vanish,
}

/// How a client says it: the simple query `COMMIT`.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

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
    plan: Arc<Plan>,
    _running: JoinSet<()>,
}

#[derive(Debug)]
struct Plan {
    odds: Odds,
    dice: Dice,
    at_commit: Mutex<Option<AtCommit>>,
    has_vanished: AtomicBool,
}

impl Network {
    /// Between whoever connects to [`Network::port`] and a server on the loopback interface.
    pub(crate) async fn to(server_port: u16, odds: Odds, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let port = listener.local_addr().expect("it has a port").port();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, server_port));
        let plan = Arc::new(Plan {
            odds,
            dice: Dice::new(seed),
            at_commit: Mutex::new(None),
            has_vanished: AtomicBool::new(false),
        });
        let mut running = JoinSet::new();
        running.spawn(accept(listener, server, Arc::clone(&plan)));
        Self {
            port,
            plan,
            _running: running,
        }
    }

    /// Plans something for the next commit.
    pub(crate) fn at_next_commit(&self, what: AtCommit) {
        *self.plan.at_commit.lock() = Some(what);
    }

    /// Has what was planned happened?
    pub(crate) fn has_happened(&self) -> bool {
        self.plan.at_commit.lock().is_none()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, plan: Arc<Plan>) {
    let mut carrying = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.expect("it accepts");
                carrying.spawn(carry(client, server, Arc::clone(&plan)));
            }
            Some(_) = carrying.join_next() => {}
        }
    }
}

/// Carries what each side sends to the other, until one ends or the connection breaks.
async fn carry(client: TcpStream, server: SocketAddr, plan: Arc<Plan>) {
    if plan.has_vanished.load(Ordering::SeqCst) {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket takes it");
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_deaf = AtomicBool::new(false);
    let there = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_client.read(&mut buffer).await.unwrap_or(0);
            let sent = &buffer[..length];
            if length == 0 {
                return;
            }
            match pass_on(&plan, sent, &mut to_server).await {
                Then::GoesOn => {}
                Then::Breaks => return,
                Then::LosesAnswers => {
                    // The server carries out what has arrived, then sees that nobody is there.
                    is_deaf.store(true, Ordering::SeqCst);
                    let _ = to_server.shutdown().await;
                    std::future::pending::<()>().await;
                }
            }
        }
    };
    let back = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_server.read(&mut buffer).await.unwrap_or(0);
            let is_lost = is_deaf.load(Ordering::SeqCst);
            if length == 0 || (!is_lost && to_client.write_all(&buffer[..length]).await.is_err()) {
                return;
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
    }
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    GoesOn,
    Breaks,
    LosesAnswers,
}

/// Sends on what a client sent.
async fn pass_on(plan: &Plan, sent: &[u8], server: &mut OwnedWriteHalf) -> Then {
    let (odds, dice) = (plan.odds, &plan.dice);
    if plan.has_vanished.load(Ordering::SeqCst) || dice.falls(odds.cut) {
        return Then::Breaks;
    }
    if dice.falls(odds.stall) {
        let ms = dice.below(odds.stall_ms_max);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let commit = sent.windows(COMMIT.len()).position(|part| part == COMMIT);
    let planned = commit.and_then(|at| Some((at, plan.at_commit.lock().take()?)));
    let is_lossy = match planned {
        None => dice.falls(odds.cut_answer),
        Some((_, AtCommit::LoseIt)) => return Then::Breaks,
        Some((_, AtCommit::LoseAnswer)) => true,
        Some((_, AtCommit::Vanish)) => {
            plan.has_vanished.store(true, Ordering::SeqCst);
            true
        }
        Some((at, AtCommit::HoldBack(wait))) => {
            if server.write_all(&sent[..at]).await.is_err() {
                return Then::Breaks;
            }
            tokio::time::sleep(wait).await;
            return match server.write_all(&sent[at..]).await {
                Ok(()) => Then::GoesOn,
                Err(_) => Then::Breaks,
            };
        }
    };
    match server.write_all(sent).await {
        Err(_) => Then::Breaks,
        Ok(()) if is_lossy => Then::LosesAnswers,
        Ok(()) => Then::GoesOn,
    }
}
