//! The process with the clients: one thread, which waits for all its sockets at once.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsFd as _;
use std::time::{Duration, SystemTime};

use rustix::event::epoll;

use super::reading::Reading;
use super::{Seen, Watching};

/// The clients give up when nothing at all comes for so long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Latencies are told apart to so many microseconds, up to [`SLOTS`] times that.
const SLOT_US: u64 = 20;
const SLOTS: usize = 500_000;

/// Microseconds since 1970: the same clock in all processes of a machine.
#[expect(
    clippy::disallowed_methods,
    reason = "a stopwatch that two processes share"
)]
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}

struct Client {
    socket: TcpStream,
    reading: Reading,
}

/// What has been seen so far.
struct Tally {
    watching: Watching,
    slots: Vec<u32>,
    deliveries: u64,
    counted: u64,
    first_us: u64,
    worst_us: u64,
}

impl Tally {
    fn saw(&mut self, outputs: u64, born_us: u64, now_us: u64) {
        self.deliveries += 1;
        self.first_us = self.first_us.min(born_us);
        if outputs <= self.watching.counted_from {
            return;
        }
        let took_us = now_us.saturating_sub(born_us);
        self.worst_us = self.worst_us.max(took_us);
        let slot = usize::try_from(took_us / SLOT_US).unwrap_or(SLOTS);
        self.slots[slot.min(SLOTS - 1)] += 1;
        self.counted += 1;
    }

    fn percentile_ms(&self, share: f64) -> f64 {
        let mut left = (self.counted as f64 * share).ceil();
        for (slot, count) in self.slots.iter().enumerate() {
            left -= f64::from(*count);
            if left <= 0.0 {
                return (slot as u64 + 1) as f64 * SLOT_US as f64 / 1_000.0;
            }
        }
        f64::INFINITY
    }
}

/// Connects, says so, reads until every client has seen all it waits for, and says what was seen.
pub(crate) fn watch(watching: Watching) -> anyhow::Result<()> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut clients = Vec::with_capacity(watching.clients);
    for number in 0..watching.clients {
        let client = connect(&watching, number)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&poll, client.socket.as_fd(), data, epoll::EventFlags::IN)?;
        clients.push(client);
    }
    let mut left = clients.len();
    let mut tally = Tally {
        slots: vec![0; SLOTS],
        deliveries: 0,
        counted: 0,
        first_us: u64::MAX,
        worst_us: 0,
        watching,
    };
    let mut events = Vec::with_capacity(1_024);
    let mut buffer = vec![0; 256 << 10];
    println!("connected");
    let (mut bytes, mut reads, cpu_before) = (0, 0, cpu_seconds());
    let patience = rustix::event::Timespec {
        tv_sec: PATIENCE.as_secs().cast_signed(),
        tv_nsec: 0,
    };
    while left > 0 {
        events.clear();
        let found = epoll::wait(
            &poll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&patience),
        )?;
        let got = tally.deliveries;
        anyhow::ensure!(
            found > 0,
            "nothing came for {PATIENCE:?} after {got} deliveries"
        );
        for event in &events {
            let client = &mut clients[usize::try_from(event.data.u64())?];
            let length = client.socket.read(&mut buffer)?;
            anyhow::ensure!(length > 0, "the server closed a connection");
            let now_us = now_us();
            bytes += length as u64;
            reads += 1;
            let before = client.reading.outputs;
            let mut saw = |outputs, born_us| tally.saw(outputs, born_us, now_us);
            client.reading.take(&buffer[..length], &mut saw)?;
            let (outputs, all) = (client.reading.outputs, tally.watching.outputs);
            anyhow::ensure!(outputs <= all, "a client saw {outputs} of {all} outputs");
            left -= usize::from(before < all && outputs == all);
        }
    }
    let seen = Seen {
        deliveries: tally.deliveries,
        bytes,
        reads,
        seconds: now_us().saturating_sub(tally.first_us) as f64 / 1e6,
        p50_ms: tally.percentile_ms(0.5),
        p99_ms: tally.percentile_ms(0.99),
        worst_ms: tally.worst_us as f64 / 1_000.0,
        cpu_seconds: cpu_seconds() - cpu_before,
    };
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

/// A client whose stream is open: its first bytes have come.
fn connect(watching: &Watching, number: usize) -> anyhow::Result<Client> {
    let mut socket = TcpStream::connect(watching.address)?;
    let path = watching.path.replace("{n}", &number.to_string());
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", watching.address);
    socket.write_all(request.as_bytes())?;
    let mut reading = Reading::new(watching.ids);
    let mut buffer = [0; 4_096];
    while !reading.is_open {
        let length = socket.read(&mut buffer)?;
        anyhow::ensure!(
            length > 0,
            "the server closed the connection of client {number}"
        );
        reading.take(&buffer[..length], &mut |_, _| {})?;
        anyhow::ensure!(
            reading.outputs == 0,
            "an output came before all were connected"
        );
    }
    socket.set_nonblocking(true)?;
    Ok(Client { socket, reading })
}

/// Of a processor, by this process.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in brackets, may hold anything; the times are the 12th and 13th number behind it.
    let numbers = stat.rsplit_once(')').map_or("", |(_, numbers)| numbers);
    let ticks = numbers.split_ascii_whitespace().skip(11).take(2);
    let ticks: f64 = ticks.filter_map(|number| number.parse::<f64>().ok()).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}
