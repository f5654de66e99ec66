//! One client's reading: HTTP's chunks are taken off, events are told apart, each output's number and birth are
//! read. No JSON is parsed: the clients share the processors with the server, and must cost little.

use anyhow::Context as _;

use super::Ids;

/// One connection's place in what it reads.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The answer's head has been read.
    pub(super) is_open: bool,
    /// Bytes of HTTP's current chunk that are still to come, its line break included.
    chunk_left: usize,
    /// A line of HTTP's that has come in part.
    line: Vec<u8>,
    /// An event that has come in part.
    event: Vec<u8>,
    /// The last event's number.
    seq: u64,
    ids: Ids,
    pub(super) outputs: u64,
    /// Where an output's birth stands, before the end of its line.
    birth: usize,
}

const DATA: &[u8] = b"data: ";
const OUTPUT: &[u8] = b"data: {\"type\":\"background-task-output\"";
/// The last field of an output's payload.
const BIRTH: &[u8] = b"\"at\":";

impl Reading {
    pub(super) fn new(ids: Ids) -> Self {
        Self {
            ids,
            ..Self::default()
        }
    }

    /// Takes what came; of each output in it, tells the number of those so far and when it was born.
    pub(super) fn take(
        &mut self,
        mut bytes: &[u8],
        saw: &mut impl FnMut(u64, u64),
    ) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            if self.chunk_left > 0 {
                let (data, rest) = bytes.split_at(self.chunk_left.min(bytes.len()));
                // The line break behind a chunk belongs to HTTP.
                let ours = self.chunk_left.saturating_sub(2).min(data.len());
                self.chunk_left -= data.len();
                bytes = rest;
                self.take_data(&data[..ours], saw)?;
                continue;
            }
            let Some(end) = memchr::memchr(b'\n', bytes) else {
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.take_line(line.trim_ascii_end())?;
        }
        Ok(())
    }

    /// A line of the answer's head, or a chunk's length.
    fn take_line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        if self.is_open {
            let digits = std::str::from_utf8(line)?;
            let length = usize::from_str_radix(digits, 16).context("a chunk's length")?;
            anyhow::ensure!(length > 0, "the server ended the stream");
            self.chunk_left = length + 2;
        } else if line.starts_with(b"HTTP/") {
            let text = String::from_utf8_lossy(line);
            anyhow::ensure!(line.starts_with(b"HTTP/1.1 200"), "the server says {text}");
        } else {
            self.is_open = line.is_empty();
        }
        Ok(())
    }

    fn take_data(&mut self, data: &[u8], saw: &mut impl FnMut(u64, u64)) -> anyhow::Result<()> {
        if self.event.is_empty() {
            let taken = self.take_events(data, saw)?;
            self.event.extend_from_slice(&data[taken..]);
            return Ok(());
        }
        let mut event = std::mem::take(&mut self.event);
        event.extend_from_slice(data);
        let taken = self.take_events(&event, saw)?;
        event.drain(..taken);
        self.event = event;
        Ok(())
    }

    /// Takes whole events; says how many bytes they had.
    fn take_events(
        &mut self,
        data: &[u8],
        saw: &mut impl FnMut(u64, u64),
    ) -> anyhow::Result<usize> {
        let (mut taken, mut at, mut seq) = (0, 0, None);
        while let Some(length) = memchr::memchr(b'\n', &data[at..]) {
            let line = &data[at..at + length];
            at += length + 1;
            if line.is_empty() {
                taken = at;
                seq = None;
            } else if let Some(id) = line.strip_prefix(b"id: ") {
                seq = Some(number_at_end(id)?);
            } else if line.starts_with(DATA) {
                // An event that has not come whole is taken when it has.
                if data.get(at) != Some(&b'\n') {
                    break;
                }
                self.follow(seq)?;
                if line.starts_with(OUTPUT) {
                    self.outputs += 1;
                    let born_us = self.born(line)?;
                    saw(self.outputs, born_us);
                }
            }
        }
        Ok(taken)
    }

    fn follow(&mut self, seq: Option<u64>) -> anyhow::Result<()> {
        if self.ids == Ids::None {
            return Ok(());
        }
        let seq = seq.context("an event has no id")?;
        let before = std::mem::replace(&mut self.seq, seq);
        let follows = match self.ids {
            Ids::Dense => before == 0 || seq == before + 1,
            Ids::Rising | Ids::None => seq > before,
        };
        anyhow::ensure!(follows, "event {seq} came after {before}");
        Ok(())
    }

    /// The place is the same in all outputs whose numbers are of one length.
    fn born(&mut self, line: &[u8]) -> anyhow::Result<u64> {
        let from_end = |place: usize| line.len().checked_sub(place).map(|at| &line[at..]);
        let is_there = |rest: &&[u8]| rest.starts_with(BIRTH);
        let rest = match from_end(self.birth).filter(is_there) {
            Some(rest) => rest,
            None => {
                let at = memchr::memmem::rfind(line, BIRTH).context("an output has no birth")?;
                self.birth = line.len() - at;
                &line[at..]
            }
        };
        let digits = rest[BIRTH.len()..].iter();
        let digits = digits.take_while(|byte| byte.is_ascii_digit());
        Ok(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
    }
}

fn number_at_end(id: &[u8]) -> anyhow::Result<u64> {
    let (mut number, mut scale) = (0, 1);
    for digit in id.iter().rev().take_while(|byte| byte.is_ascii_digit()) {
        number += u64::from(digit - b'0') * scale;
        scale *= 10;
    }
    anyhow::ensure!(scale > 1, "an id has no number");
    Ok(number)
}
