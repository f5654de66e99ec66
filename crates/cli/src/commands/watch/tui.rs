//! `sidestream watch --tui`: all tasks, live, in a terminal; and what people do about them.
//!
//! ```text
//! feed    news of a stream, that resumes         board   the fold of all tasks     state   what is shown
//! keys    what a key does to the state           story   the fold of one task      view    draws the state
//! text    nothing of others acts on the terminal                                    screen  takes and gives back
//! ```
//!
//! The loop is here: it waits for keys, news, answers and the clock, gives each to the state, and draws when
//! something has changed, but no more often than can be seen, nor than leaves the machine to others.

use std::io::IsTerminal;
use std::pin::pin;
use std::time::Duration;

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures::{FutureExt, StreamExt};
use sidestream::clock::{Clock, SystemClock};
use sidestream::core::wire::TaskRecord;
use sidestream::{Filter, Json, Status, TaskId};
use sidestream_client::ChunkType;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};

use crate::args::{Common, WatchArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::place::{IfMissing, Place};
use crate::signals::told_to_stop;

mod feed;
mod screen;

mod board;
mod json;
mod pulse;
mod story;
mod text;

mod input;
mod keys;
mod list;
mod page;
mod state;

mod view;

#[cfg(test)]
mod tests;

use feed::{Feed, News, Source, latest_ended};
use keys::Action;
use list::Which;
use page::{Pane, TaskPage};
use screen::Screen;
use state::{Act, Link, State, word};
use view::Paint;

/// From one drawing to the next: at most 25 a second.
const DRAW_EVERY: Duration = Duration::from_millis(40);
/// Drawing takes at most one part of so many of the time.
const DRAWING_SHARE: u32 = 5;
/// So much news is taken before anything else has its turn.
const NEWS_AT_ONCE: usize = 4_096;
/// So long a command that was given may still take when the view ends.
const LAST_COMMANDS: Duration = Duration::from_secs(3);

pub(super) async fn watch(
    common: &Common,
    args: &WatchArgs,
    console: Console,
) -> Result<Exit, Failure> {
    check_terminal(console)?;
    let source = source(common).await?;
    let filter = args.filter()?;
    let now = SystemClock.now();
    let mut state = State::new(source.name(), words_of(args), now);
    state.only_looks = source.only_looks().await?;
    if !args.status.is_empty() {
        state.list.which = Which::Of(args.status.clone());
    }
    let mut feed = source.watch(common, filter.clone()).await?;
    // At the beginning it is most likely a mistake in the address, which is told as one.
    match feed.next().await {
        Some(Ok(News::Lost(failure)) | Err(failure)) => return Err(failure),
        _ => state.link = Link::Live,
    }
    let mut watcher = Watcher {
        common,
        source,
        filter,
        state,
        feed,
        story: None,
        acts: JoinSet::new(),
        questions: JoinSet::new(),
        snapshot: 0,
        is_record_wanted: false,
        is_dirty: true,
    };
    if let Some(id) = &args.id {
        watcher.open(TaskId::new(id.as_str())?).await?;
    }
    let paint = Paint {
        has_colors: console.has_colors(),
    };
    let ended = watcher.run(paint).await;
    watcher.leave().await;
    ended.map(|()| Exit::Done)
}

fn check_terminal(console: Console) -> Result<(), Failure> {
    if console.json {
        let message = "--tui shows a screen, and --json writes lines: only one of them can be";
        return Err(Failure::bad_input(message));
    }
    if console.is_terminal && std::io::stdin().is_terminal() {
        return Ok(());
    }
    let message = "--tui needs a terminal, for its input and its output";
    Err(Failure::bad_input(message).hint("`sidestream watch` without it writes lines"))
}

async fn source(common: &Common) -> Result<Source, Failure> {
    match Place::find(common, IfMissing::Refuse).await? {
        Place::Server(client) => Ok(Source::Server(client)),
        Place::Store(local) if local.store.is_exclusive() => {
            let message = format!("no server runs on the data directory {}", local.name);
            Err(Failure::unreachable(message).hint("`sidestream serve` starts one"))
        }
        Place::Store(local) => {
            let settings = crate::place::settings(common)?;
            let manager = local.manager(settings.manager).start().await?;
            let manager = manager.in_namespace(local.namespace.clone());
            Ok(Source::Database { local, manager })
        }
    }
}

/// The filter that was asked for, for people.
fn words_of(args: &WatchArgs) -> String {
    let whose = &args.whose;
    let given = [
        ("agent", &whose.agent),
        ("run", &whose.run),
        ("thread", &whose.thread),
        ("resource", &whose.resource),
        ("tool", &args.tool),
    ];
    let words = given.into_iter().filter_map(|(name, value)| {
        let value = value.as_deref()?;
        Some(format!("{name} {}", text::safe(value)))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Everything that the loop holds.
struct Watcher<'a> {
    common: &'a Common,
    source: Source,
    filter: Filter,
    state: State,
    feed: Feed<'a>,
    /// Of the task that is opened, until it has been told.
    story: Option<Feed<'a>>,
    /// Commands that were given, and are not answered yet.
    acts: JoinSet<Done>,
    /// What was asked, and is not answered yet.
    questions: JoinSet<Done>,
    /// The number of the snapshot that holds.
    snapshot: u64,
    /// The opened task's record is older than its story.
    is_record_wanted: bool,
    is_dirty: bool,
}

/// What was asked, and its answer.
enum Done {
    Act(Result<TaskRecord, Failure>),
    Record(TaskId, Result<TaskRecord, Failure>),
    /// Of the snapshot of that number.
    Ended(u64, Result<Vec<TaskRecord>, Failure>),
}

impl Watcher<'_> {
    /// Shows and does until the user, a signal, or the server's refusal ends it.
    async fn run(&mut self, paint: Paint) -> Result<(), Failure> {
        let mut told_to_stop = pin!(told_to_stop());
        let mut events = EventStream::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut screen = Screen::take().map_err(no_screen)?;
        let mut draw_at = Instant::now();
        loop {
            if self.is_dirty && Instant::now() >= draw_at {
                let began = Instant::now();
                self.state.now = SystemClock.now();
                screen.draw(&mut self.state, paint).map_err(no_screen)?;
                self.is_dirty = false;
                draw_at = Instant::now() + DRAW_EVERY.max(began.elapsed() * DRAWING_SHARE);
            }
            tokio::select! {
                _ = &mut told_to_stop => return Ok(()),
                event = events.next() => match event {
                    Some(Ok(event)) => {
                        if !self.take_event(event).await? {
                            return Ok(());
                        }
                    }
                    // The terminal is gone, and with it whoever looked.
                    Some(Err(_)) | None => return Ok(()),
                },
                news = self.feed.next() => match news {
                    Some(news) => self.take_news(news?).await?,
                    None => return Ok(()),
                },
                news = next_of(&mut self.story) => self.take_story(news),
                Some(done) = self.acts.join_next() => {
                    self.take_done(done.expect("a command does not panic"));
                }
                Some(done) = self.questions.join_next() => {
                    self.take_done(done.expect("a question does not panic"));
                }
                _ = ticks.tick() => {
                    let is_seen = self.state.tick(SystemClock.now());
                    self.is_dirty |= is_seen;
                }
                () = sleep_until(draw_at), if self.is_dirty => {}
            }
            self.ask_for_record();
        }
    }

    /// `false`: it is over.
    async fn take_event(&mut self, event: Event) -> Result<bool, Failure> {
        self.is_dirty = true;
        let action = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                keys::press(&mut self.state, key)
            }
            Event::Paste(text) => {
                keys::paste(&mut self.state, &text);
                None
            }
            _ => None,
        };
        match action {
            None => {}
            Some(Action::Quit) => return Ok(false),
            Some(Action::Open(id)) => self.open(id).await?,
            Some(Action::Close) => (self.state.page, self.story) = (None, None),
            Some(Action::Do(act)) => self.act(act),
        }
        Ok(true)
    }

    /// Takes this news, and what is ready after it.
    async fn take_news(&mut self, news: News) -> Result<(), Failure> {
        self.is_dirty = true;
        self.state.now = SystemClock.now();
        self.take_one(news);
        for _ in 0..NEWS_AT_ONCE {
            match self.feed.next().now_or_never() {
                Some(Some(news)) => self.take_one(news?),
                Some(None) | None => break,
            }
        }
        self.follow_again().await
    }

    fn take_one(&mut self, news: News) {
        match news {
            News::Connected => self.state.link = Link::Live,
            News::Lost(failure) => self.state.lost(&failure.message),
            News::Moved => {
                self.state.link = Link::Live;
                if self.state.board.complete() {
                    self.ask_for_ended();
                }
            }
            News::Chunk(chunk) => {
                self.state.link = Link::Live;
                self.snapshot += u64::from(chunk.payload.task_id.is_none());
                if self.state.board.apply(&chunk, self.state.now) {
                    self.state.pulse.beat(self.state.now);
                }
            }
        }
    }

    /// A task whose story was told to its end may have been retried: then it goes on.
    async fn follow_again(&mut self) -> Result<(), Failure> {
        let Some(page) = self.state.page.as_ref().filter(|page| page.is_told) else {
            return Ok(());
        };
        let row = self.state.board.get(&page.id);
        if row.is_some_and(|row| !row.status.is_terminal()) {
            let (id, pane, scrolls) = (page.id.clone(), page.pane, page.scrolls);
            self.open(id).await?;
            if let Some(page) = &mut self.state.page {
                (page.pane, page.scrolls) = (pane, scrolls);
            }
        }
        Ok(())
    }

    /// Takes this news of the opened task, and what is ready after it.
    fn take_story(&mut self, mut news: Option<Result<News, Failure>>) {
        self.is_dirty = true;
        for _ in 0..NEWS_AT_ONCE {
            self.take_one_of_story(news);
            let next = self.story.as_mut().map(Feed::next);
            match next.and_then(FutureExt::now_or_never) {
                Some(next) => news = next,
                None => return,
            }
        }
        self.take_one_of_story(news);
    }

    fn take_one_of_story(&mut self, news: Option<Result<News, Failure>>) {
        let Some(page) = &mut self.state.page else {
            self.story = None;
            return;
        };
        match news {
            Some(Ok(News::Chunk(chunk))) => {
                self.is_record_wanted |= chunk.chunk_type != Some(ChunkType::Output);
                page.story.apply(&chunk);
            }
            // The other stream says how the connection stands.
            Some(Ok(_)) => {}
            Some(Err(failure)) => {
                page.is_gone = failure.exit == Exit::Refused;
                self.story = None;
                self.state.complain(failure.message);
            }
            None => {
                (page.is_told, self.is_record_wanted) = (true, true);
                self.story = None;
            }
        }
    }

    fn take_done(&mut self, done: Done) {
        self.is_dirty = true;
        match done {
            Done::Act(Ok(record)) => {
                let name = text::bounded(&record.tool_name, 60).into_owned();
                let id = record.id.short();
                self.state
                    .say(format!("{name} {id} is {}", word(record.status)));
                if let Some(page) = self.state.page.as_mut().filter(|it| it.id == record.id) {
                    page.take(record);
                }
            }
            Done::Act(Err(failure)) => self.state.complain(failure.message),
            Done::Record(id, record) => {
                let Some(page) = self.state.page.as_mut().filter(|page| page.id == id) else {
                    return;
                };
                match record {
                    Ok(record) => page.take(record),
                    Err(failure) if failure.exit == Exit::Refused => page.is_gone = true,
                    // Where the server cannot be reached that is said already.
                    Err(failure) if failure.exit == Exit::Unreachable => {}
                    Err(failure) => self.state.complain(failure.message),
                }
            }
            // What was asked of an older snapshot could be older than what is known now.
            Done::Ended(snapshot, Ok(tasks)) if snapshot == self.snapshot => {
                self.state.board.take_ended(&tasks);
            }
            Done::Ended(..) => {}
        }
    }

    async fn open(&mut self, id: TaskId) -> Result<(), Failure> {
        self.look_where_it_is();
        self.story = Some(self.source.story(self.common, &id).await?);
        let mut page = TaskPage::new(id);
        if self.state.status_of(&page.id) == Some(Status::Suspended) {
            // What it asks is there.
            page.pane = Pane::Data;
        }
        self.state.page = Some(page);
        self.is_record_wanted = true;
        Ok(())
    }

    /// The server may have been started anew elsewhere, and been found.
    fn look_where_it_is(&mut self) {
        if let Some(client) = self.feed.client() {
            self.source = Source::Server(client.clone());
            self.state.place = self.source.name();
        }
    }

    fn act(&mut self, act: Act) {
        self.look_where_it_is();
        let place = self.source.place();
        self.acts.spawn(async move {
            Done::Act(match act {
                Act::Cancel(id) => place.cancel(&id).await,
                Act::Retry(id) => place.retry(&id).await,
                Act::Resume(id, data) => match Json::from_text(data) {
                    Ok(data) => place.resume(&id, &data).await,
                    Err(error) => Err(Failure::bad_input(format!("this is not JSON: {error}"))),
                },
            })
        });
    }

    /// One answer at a time: what has changed meanwhile is asked for after it.
    fn ask_for_record(&mut self) {
        if !self.is_record_wanted || !self.questions.is_empty() {
            return;
        }
        self.is_record_wanted = false;
        if let Some(page) = &self.state.page {
            let (id, place) = (page.id.clone(), self.source.place());
            self.questions.spawn(async move {
                let record = place.get(&id).await;
                Done::Record(id, record)
            });
        }
    }

    fn ask_for_ended(&mut self) {
        self.look_where_it_is();
        let (place, filter) = (self.source.place(), self.filter.clone());
        let snapshot = self.snapshot;
        self.questions
            .spawn(async move { Done::Ended(snapshot, latest_ended(&place, &filter).await) });
    }

    /// What was commanded is still sent.
    async fn leave(mut self) {
        let acts = std::mem::take(&mut self.acts);
        let _ = timeout(LAST_COMMANDS, acts.join_all()).await;
        if let Source::Database { manager, .. } = &self.source {
            manager.shutdown().await;
        }
    }
}

async fn next_of(story: &mut Option<Feed<'_>>) -> Option<Result<News, Failure>> {
    match story {
        Some(story) => story.next().await,
        None => std::future::pending().await,
    }
}

fn no_screen(error: std::io::Error) -> Failure {
    Failure::unreachable(format!("the terminal cannot be used: {error}"))
}
