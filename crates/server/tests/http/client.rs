//! A small HTTP client of the tests' own: it shows every byte, and can do what no library would.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes, and short enough to say that something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request being put together.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    address: SocketAddr,
    method: &'static str,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Sends bytes that need not be HTTP, and reads the whole answer.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Answer {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut open = Open::read_head(socket).await;
        let body = open.rest().await;
        Answer {
            status: open.status,
            headers: open.headers,
            body,
        }
    };
    let answered = tokio::time::timeout(PATIENCE, exchange).await;
    answered.expect("no answer")
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn call(address: SocketAddr, method: &'static str, target: impl Into<String>) -> Call {
    Call {
        address,
        method,
        target: target.into(),
        headers: vec![("host".into(), address.to_string())],
        body: Vec::new(),
    }
}

impl Call {
    /// Sets a header, in place of the one of that name.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("authorization", format!("Bearer {key}"))
    }

    pub(crate) fn json(self, body: &serde_json::Value) -> Self {
        self.text("application/json", body.to_string())
    }

    pub(crate) fn text(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("content-type", content_type)
    }

    /// Enough to recognise it by.
    pub(crate) fn summary(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        let whole = format!("{} {} {:?} {body}", self.method, self.target, self.headers);
        whole.chars().take(300).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || self.method != "GET" {
            head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Sends it on a connection of its own, and reads the whole answer.
    pub(crate) async fn send(self) -> Answer {
        let call = self.header("connection", "close");
        let mut open = call.open().await;
        let body = open.rest().await;
        Answer {
            status: open.status,
            headers: open.headers,
            body,
        }
    }

    /// Sends it, and reads the head of the answer.
    pub(crate) async fn open(self) -> Open {
        let opening = async {
            let mut socket = TcpStream::connect(self.address).await.unwrap();
            socket.write_all(&self.bytes()).await.unwrap();
            Open::read_head(socket).await
        };
        let opened = tokio::time::timeout(PATIENCE, opening).await;
        opened.unwrap_or_else(|_| panic!("no head: {} {}", self.method, self.target))
    }
}

/// An answer of which the head has been read.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    socket: TcpStream,
    /// Read from the socket, not yet decoded.
    raw: Vec<u8>,
    /// Decoded, not yet handed out.
    ready: Vec<u8>,
    framing: Framing,
    frames: usize,
}

#[derive(Debug, PartialEq)]
enum Framing {
    Length(usize),
    Chunked,
    Ended,
    Broken,
}

impl Open {
    async fn read_head(mut socket: TcpStream) -> Self {
        let mut raw = Vec::new();
        let end = loop {
            if let Some(at) = find(&raw, b"\r\n\r\n") {
                break at;
            }
            let read = socket.read_buf(&mut raw).await.unwrap();
            assert!(read > 0, "no head: {:?}", String::from_utf8_lossy(&raw));
        };
        let head = String::from_utf8(raw.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let header = |name: &str| headers.iter().find(|(known, _)| known == name);
        let framing = match header("content-length") {
            Some((_, length)) => Framing::Length(length.parse().unwrap()),
            None if header("transfer-encoding").is_some() => Framing::Chunked,
            None => Framing::Ended,
        };
        Self {
            status: status.parse().unwrap(),
            headers,
            socket,
            raw,
            ready: Vec::new(),
            framing,
            frames: 0,
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Did the body end as bodies end?
    pub(crate) fn has_ended_well(&self) -> bool {
        matches!(self.framing, Framing::Ended)
    }

    /// How many pieces of a chunked body have come.
    pub(crate) fn frames(&self) -> usize {
        self.frames
    }

    /// Reads until the connection ends: whatever the head says of a body, none may follow it.
    pub(crate) async fn expect_no_body(mut self) {
        let ending = self.socket.read_to_end(&mut self.raw);
        let ended = tokio::time::timeout(PATIENCE, ending).await;
        ended.expect("the connection does not end").unwrap();
        assert!(self.raw.is_empty());
    }

    /// All that is left of the body.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let reading = async { while self.read_more().await {} };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.expect("the body does not end");
        std::mem::take(&mut self.ready)
    }

    /// The next block of an event stream, without the blank line; `None` at the end.
    pub(crate) async fn block(&mut self) -> Option<String> {
        let reading = async {
            loop {
                if let Some(at) = find(&self.ready, b"\n\n") {
                    let block = self.ready.drain(..at + 2).collect();
                    let block = String::from_utf8(block).unwrap();
                    return Some(block.trim_end().to_owned());
                }
                if !self.read_more().await {
                    return None;
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        read.expect("no further block comes")
    }

    /// The next chunk and its id, past blocks without data; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Option<(Option<String>, serde_json::Value)> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let Some(data) = field("data: ") {
                let id = field("id: ").map(ToOwned::to_owned);
                return Some((id, serde_json::from_str(data).unwrap()));
            }
        }
    }

    /// Chunks until one of this type; the last one's id.
    pub(crate) async fn until(&mut self, chunk_type: &str) -> (Vec<serde_json::Value>, String) {
        let mut chunks = Vec::new();
        loop {
            let (id, chunk) = self.chunk().await.expect("the stream ended");
            let is_it = chunk["type"] == format!("background-task-{chunk_type}");
            chunks.push(chunk);
            if is_it {
                return (chunks, id.unwrap_or_default());
            }
        }
    }

    /// Reads on; `false` when there is no more.
    async fn read_more(&mut self) -> bool {
        loop {
            let before = self.ready.len();
            self.decode();
            if self.ready.len() > before {
                return true;
            }
            if matches!(self.framing, Framing::Ended | Framing::Broken) {
                return false;
            }
            if !matches!(self.socket.read_buf(&mut self.raw).await, Ok(1..)) {
                self.framing = Framing::Broken;
                return false;
            }
        }
    }

    fn decode(&mut self) {
        match self.framing {
            Framing::Length(left) => {
                let taken = left.min(self.raw.len());
                self.ready.extend(self.raw.drain(..taken));
                self.framing = match left - taken {
                    0 => Framing::Ended,
                    left => Framing::Length(left),
                };
            }
            Framing::Chunked => {
                while let Some(at) = find(&self.raw, b"\r\n") {
                    let size = std::str::from_utf8(&self.raw[..at]).unwrap();
                    let size = usize::from_str_radix(size, 16).unwrap();
                    let end = at + 2 + size + 2;
                    if self.raw.len() < end {
                        return;
                    }
                    self.ready.extend_from_slice(&self.raw[at + 2..end - 2]);
                    self.raw.drain(..end);
                    self.frames += 1;
                    if size == 0 {
                        self.framing = Framing::Ended;
                        return;
                    }
                }
            }
            Framing::Ended | Framing::Broken => {}
        }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|_| panic!("no JSON: {} {:?}", self.status, self.text()))
    }

    /// The same answer, once its status has been seen to be this.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
