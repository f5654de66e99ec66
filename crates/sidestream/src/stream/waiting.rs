//! How a stream waits: with nothing allocated, and nothing registered anew that has not come about.
//!
//! A thousand streams wait hundreds of times a second, each time for three things: their bell, which rings again
//! and again, and their end and the keep-alive, which seldom come. So only the bell is listened to anew.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use sidestream_core::Seq;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, ReusableBoxFuture};

type Bell = watch::Receiver<Seq>;

/// What a stream waits for.
pub(super) struct Waiting {
    bell: ReusableBoxFuture<'static, Bell>,
    /// Between two rings.
    silent: Option<Bell>,
    /// Fires at the time that it was last set to, or after; may be too early.
    alarm: Option<Pin<Box<Sleep>>>,
    end: Seldom,
}

/// What came about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// The bell rang.
    News,
    /// It is time.
    Alarm,
}

impl Waiting {
    pub(super) fn new(bell: Bell, cancel: CancellationToken, shutdown: CancellationToken) -> Self {
        let silent = Some(bell.clone());
        Self {
            bell: ReusableBoxFuture::new(rung(bell, Seq(0))),
            silent,
            alarm: None,
            end: Seldom::new(async move {
                tokio::select! {
                    () = cancel.cancelled() => {}
                    () = shutdown.cancelled() => {}
                }
            }),
        }
    }

    /// Ready when the stream is to end.
    pub(super) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.poll(cx)
    }

    /// Ready when something came after `position`, or at the time given.
    pub(super) fn poll_news(
        &mut self,
        cx: &mut Context<'_>,
        position: Seq,
        alarm_at: Option<Instant>,
    ) -> Poll<Woken> {
        if let Some(silent) = self.silent.take() {
            self.bell.set(rung(silent, position));
        }
        if let Poll::Ready(bell) = self.bell.poll(cx) {
            self.silent = Some(bell);
            return Poll::Ready(Woken::News);
        }
        let Some(at) = alarm_at else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        while alarm.as_mut().poll(cx).is_ready() {
            if Instant::now() >= at {
                self.alarm = None;
                return Poll::Ready(Woken::Alarm);
            }
            alarm.as_mut().reset(at);
        }
        Poll::Pending
    }
}

async fn rung(mut bell: Bell, position: Seq) -> Bell {
    // The sender lives in the ring, which the stream's watcher keeps alive.
    let _ = bell.wait_for(|&rung| rung > position).await;
    bell
}

/// A future that is polled again only when it says that it should be: however often its task is woken by others,
/// what it waits for is left alone.
struct Seldom {
    future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    knock: Arc<Knock>,
}

/// Whether it said so, and whom it then wakes.
struct Knock {
    has_knocked: AtomicBool,
    waker: AtomicWaker,
}

impl Wake for Knock {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_knocked.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Seldom {
    fn new(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self {
            future: Some(Box::pin(future)),
            knock: Arc::new(Knock {
                // It has not been polled yet.
                has_knocked: AtomicBool::new(true),
                waker: AtomicWaker::new(),
            }),
        }
    }

    /// Once ready, ready for ever.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        // Registered before it is asked: a knock in between wakes us.
        self.knock.waker.register(cx.waker());
        if !self.knock.has_knocked.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.knock));
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            self.future = None;
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(bell: &watch::Sender<Seq>) -> (Waiting, [CancellationToken; 2]) {
        let tokens = [CancellationToken::new(), CancellationToken::new()];
        let [cancel, shutdown] = tokens.clone();
        (Waiting::new(bell.subscribe(), cancel, shutdown), tokens)
    }

    async fn news(waiting: &mut Waiting, position: u64, alarm_at: Option<Instant>) -> Woken {
        std::future::poll_fn(|cx| waiting.poll_news(cx, Seq(position), alarm_at)).await
    }

    /// However often it rings, and though it rang for a place already seen.
    #[tokio::test(start_paused = true)]
    async fn a_bell_wakes_again_and_again() {
        let bell = watch::Sender::new(Seq(0));
        let (mut waiting, _tokens) = waiting(&bell);
        for seq in 1..=5 {
            let late = Instant::now() + std::time::Duration::from_secs(1);
            let ring = async {
                tokio::task::yield_now().await;
                bell.send_replace(Seq(seq));
            };
            let (woken, ()) = tokio::join!(news(&mut waiting, seq - 1, Some(late)), ring);
            assert_eq!(woken, Woken::News);
            assert_eq!(news(&mut waiting, seq, Some(late)).await, Woken::Alarm);
        }
    }

    /// One that was set for an earlier time waits on.
    #[tokio::test(start_paused = true)]
    async fn an_alarm_is_not_early() {
        let bell = watch::Sender::new(Seq(0));
        let (mut waiting, _tokens) = waiting(&bell);
        let begun = Instant::now();
        let at = |seconds| begun + std::time::Duration::from_secs(seconds);
        std::future::poll_fn(|cx| {
            assert!(waiting.poll_news(cx, Seq(0), Some(at(1))).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(news(&mut waiting, 0, Some(at(3))).await, Woken::Alarm);
        assert_eq!(Instant::now(), at(3));
    }

    /// S5: whichever of the two tokens it is, and whoever waits by then.
    #[tokio::test(start_paused = true)]
    async fn either_token_is_the_end() {
        for which in 0..2 {
            let bell = watch::Sender::new(Seq(0));
            let (mut waiting, tokens) = waiting(&bell);
            std::future::poll_fn(|cx| {
                assert!(waiting.poll_end(cx).is_pending());
                assert!(waiting.poll_end(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            let end = std::future::poll_fn(|cx| waiting.poll_end(cx));
            let cancel = async {
                tokio::task::yield_now().await;
                tokens[which].cancel();
            };
            let both = async { tokio::join!(end, cancel) };
            let second = std::time::Duration::from_secs(1);
            let ended = tokio::time::timeout(second, both).await;
            assert!(ended.is_ok(), "token {which} is not the end");
            std::future::poll_fn(|cx| waiting.poll_end(cx)).await;
        }
    }
}
