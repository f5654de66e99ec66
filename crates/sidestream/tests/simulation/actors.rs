//! Runs the simulated world's own futures: agents, readers, chaos, the watchman.
//!
//! They are polled here, in an order that the dice choose, and only when woken. The runtime would choose
//! an order of its own where one bell wakes several, and not the same in each run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;

use crate::dice::Dice;

pub(crate) struct Actors {
    actors: Vec<Actor>,
    dice: Dice,
    outer: Arc<AtomicWaker>,
}

struct Actor {
    future: Option<BoxFuture<'static, ()>>,
    bell: Arc<Bell>,
}

struct Bell {
    has_rung: AtomicBool,
    outer: Arc<AtomicWaker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.has_rung.store(true, SeqCst);
        self.outer.wake();
    }
}

impl Actors {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            actors: Vec::new(),
            dice,
            outer: Arc::default(),
        }
    }

    pub(crate) fn add(&mut self, actor: impl Future<Output = ()> + Send + 'static) {
        let bell = Bell {
            has_rung: AtomicBool::new(true),
            outer: Arc::clone(&self.outer),
        };
        self.actors.push(Actor {
            future: Some(Box::pin(actor)),
            bell: Arc::new(bell),
        });
    }
}

/// Ready when every actor is.
impl Future for Actors {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        this.outer.register(cx.waker());
        let has_rung = |actor: &Actor| actor.bell.has_rung.load(SeqCst);
        let mut woken: Vec<usize> = (0..this.actors.len())
            .filter(|&i| has_rung(&this.actors[i]))
            .collect();
        this.dice.shuffle(&mut woken);
        for index in woken {
            let actor = &mut this.actors[index];
            actor.bell.has_rung.store(false, SeqCst);
            let waker = Waker::from(Arc::clone(&actor.bell));
            let Some(future) = &mut actor.future else {
                continue;
            };
            if future
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready()
            {
                actor.future = None;
            }
        }
        match this.actors.iter().all(|actor| actor.future.is_none()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}
