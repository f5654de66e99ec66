//! What a watcher holds: a feed of items, or for those who write it out, of what goes into a sink.
//!
//! What the ring has is read where the feed is polled, and there it waits; a future is made only to ask the store.

use std::collections::VecDeque;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::future::BoxFuture;
use sidestream_core::{Chunk, Cursor, Epoch, Seq};

use super::{BATCH, Reader, Step, StreamItem};
use crate::error::StoreError;

/// Takes what a stream brings, as it comes: for those who write it out, and need no chunk of their own.
pub trait Sink {
    /// A chunk; in a snapshot it has no place in the log. Taken while others wait: must be quick.
    fn chunk(&mut self, chunk: &Arc<Chunk>, place: Option<(&Epoch, Seq)>);

    /// Nothing but the place has changed: at a snapshot's end, or as a keep-alive.
    fn place(&mut self, epoch: &Epoch, seq: Seq);

    /// Has it got as much as it wants at a time?
    fn is_full(&self) -> bool;
}

/// Gathers items, each with a share in its chunk.
#[derive(Debug, Default)]
struct Items {
    items: VecDeque<StreamItem>,
    /// Since it was last emptied.
    bytes: usize,
}

impl Sink for Items {
    fn chunk(&mut self, chunk: &Arc<Chunk>, place: Option<(&Epoch, Seq)>) {
        self.bytes += chunk.json().len();
        self.items.push_back(StreamItem {
            chunk: Some(Arc::clone(chunk)),
            cursor: place.map(|(epoch, seq)| Cursor::new(epoch.clone(), seq)),
        });
    }

    fn place(&mut self, epoch: &Epoch, seq: Seq) {
        self.items.push_back(StreamItem {
            chunk: None,
            cursor: Some(Cursor::new(epoch.clone(), seq)),
        });
    }

    fn is_full(&self) -> bool {
        /// A reader that stalls keeps what it has read, even past the ring: so many bytes, and one chunk more.
        const READ_BYTES_MAX: usize = 256 << 10;
        self.items.len() >= BATCH || self.bytes >= READ_BYTES_MAX
    }
}

impl StreamItem {
    fn give(&self, sink: &mut (impl Sink + ?Sized)) {
        let cursor = self.cursor.as_ref();
        let place = cursor.and_then(|cursor| Some((cursor.epoch.as_ref()?, cursor.seq)));
        match (&self.chunk, place) {
            (Some(chunk), place) => sink.chunk(chunk, place),
            (None, Some((epoch, seq))) => sink.place(epoch, seq),
            (None, None) => {}
        }
    }
}

/// A live feed of chunks: a [`Stream`] that never ends by itself, unless asked to end with its task.
///
/// Dropping it, or cancelling its token, frees everything it holds at once (S5).
#[must_use = "a stream does nothing unless it is polled"]
pub struct ChunkStream {
    /// Read from the snapshot or the log, and not yet handed out.
    ready: VecDeque<StreamItem>,
    cursor: Option<Cursor>,
    state: State,
}

enum State {
    Idle(Box<Reader>),
    Reading(BoxFuture<'static, (Box<Reader>, Step)>),
    Ended,
}

impl ChunkStream {
    pub(super) fn of(reader: Box<Reader>, ready: Vec<StreamItem>, cursor: Option<Cursor>) -> Self {
        Self {
            ready: ready.into(),
            cursor,
            state: State::Idle(reader),
        }
    }

    /// The next item; `None` when the stream has ended.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// When the store cannot be read. The stream can be asked again, and goes on where it was.
    pub async fn next(&mut self) -> Option<Result<StreamItem, StoreError>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// All items that are ready, at least one; `None` when the stream has ended. For those who look at
    /// them together.
    ///
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// As [`ChunkStream::next`].
    pub async fn next_batch(&mut self) -> Option<Result<Vec<StreamItem>, StoreError>> {
        std::future::poll_fn(|cx| {
            Poll::Ready(match ready!(self.poll_ready(cx)) {
                Some(Ok(())) => {
                    let items: Vec<_> = self.ready.drain(..).collect();
                    self.advance(items.last());
                    Some(Ok(items))
                }
                Some(Err(error)) => Some(Err(error)),
                None => None,
            })
        })
        .await
    }

    /// Gives a sink what is ready, at least one thing, until it is full; `None` when the stream has ended.
    /// For those who write it out for one of many readers: nothing is allocated, and no chunk is shared.
    ///
    /// Dropping the future loses nothing that the sink has not been given.
    ///
    /// # Errors
    /// As [`ChunkStream::next`].
    pub async fn next_into(
        &mut self,
        sink: &mut (dyn Sink + Send),
    ) -> Option<Result<(), StoreError>> {
        std::future::poll_fn(|cx| {
            if self.ready.is_empty() {
                match ready!(self.poll_read(cx, Some(&mut *sink))) {
                    Some(Ok(())) => {}
                    ended => return Poll::Ready(ended),
                }
            }
            while !sink.is_full()
                && let Some(item) = self.ready.pop_front()
            {
                item.give(sink);
                self.advance(Some(&item));
            }
            Poll::Ready(Some(Ok(())))
        })
        .await
    }

    /// Where to resume: everything up to here has been handed out, or did not match (S7). `None`
    /// until a snapshot at the beginning is complete.
    #[must_use]
    pub fn cursor(&self) -> Option<&Cursor> {
        self.cursor.as_ref()
    }

    fn advance(&mut self, last: Option<&StreamItem>) {
        if let Some(cursor) = last.and_then(|item| item.cursor.clone()) {
            self.cursor = Some(cursor);
        }
    }

    /// Ready when `self.ready` has an item, or the stream has ended or failed.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), StoreError>>> {
        if self.ready.is_empty() {
            return self.poll_read(cx, None);
        }
        Poll::Ready(Some(Ok(())))
    }

    /// Ready when something has come, or the stream has ended or failed. What is in the ring goes to the sink,
    /// or without one to `self.ready`; everything else goes there.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        mut sink: Option<&mut (dyn Sink + Send)>,
    ) -> Poll<Option<Result<(), StoreError>>> {
        // Who always finds something must let others have their turn.
        ready!(pin!(tokio::task::consume_budget()).poll(cx));
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(mut reader) => {
                    if reader.waiting.poll_end(cx).is_ready() {
                        return Poll::Ready(None);
                    }
                    let news = match &mut sink {
                        Some(sink) => {
                            let news = reader.read_ring(&mut **sink);
                            self.cursor = news.clone().or(self.cursor.take());
                            news.is_some()
                        }
                        None => {
                            let mut items = Items::default();
                            reader.read_ring(&mut items);
                            self.ready = items.items;
                            !self.ready.is_empty()
                        }
                    };
                    if news {
                        self.state = State::Idle(reader);
                        return Poll::Ready(Some(Ok(())));
                    }
                    match reader.poll_wait(cx) {
                        Some(Poll::Pending) => {
                            self.state = State::Idle(reader);
                            return Poll::Pending;
                        }
                        Some(Poll::Ready(None)) => self.state = State::Idle(reader),
                        Some(Poll::Ready(Some(item))) => {
                            self.state = State::Idle(reader);
                            self.ready.push_back(item);
                            return Poll::Ready(Some(Ok(())));
                        }
                        None => self.state = State::Reading(reader.read()),
                    }
                }
                State::Reading(mut reading) => {
                    let Poll::Ready((reader, step)) = reading.as_mut().poll(cx) else {
                        self.state = State::Reading(reading);
                        return Poll::Pending;
                    };
                    let items = match step {
                        Ok(None) => return Poll::Ready(None),
                        Ok(Some(items)) => Ok(items),
                        Err(error) => Err(error),
                    };
                    self.state = State::Idle(reader);
                    match items {
                        Err(error) => return Poll::Ready(Some(Err(error))),
                        Ok(items) if items.is_empty() => {}
                        Ok(items) => {
                            self.ready = items.into();
                            return Poll::Ready(Some(Ok(())));
                        }
                    }
                }
            }
        }
    }
}

impl Stream for ChunkStream {
    type Item = Result<StreamItem, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.poll_ready(cx)) {
            Some(Ok(())) => {
                let item = self.ready.pop_front();
                self.advance(item.as_ref());
                item.map(Ok)
            }
            Some(Err(error)) => Some(Err(error)),
            None => None,
        })
    }
}

impl fmt::Debug for ChunkStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkStream")
            .field("cursor", &self.cursor)
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}
