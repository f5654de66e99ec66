//! What the view shows and where its user is: all of it, and nothing that acts.
//!
//! [`keys`](super::keys) changes it, [`view`](super::view) draws it, the loop of [`tui`](super) feeds it.

use std::time::Duration;

use sidestream::{Status, TaskId, Timestamp};

use super::board::Board;
use super::input::Input;
use super::list::List;
use super::page::TaskPage;
use super::pulse::Pulse;
use super::text::safe;

/// So long a notice stays.
const NOTICE_MS: i64 = 10_000;

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    pub(super) board: Board,
    pub(super) pulse: Pulse,
    pub(super) link: Link,
    pub(super) now: Timestamp,
    /// Where the tasks are, for people.
    pub(super) place: String,
    /// The filter that was asked for, for people; empty without one.
    pub(super) filter: String,
    /// What keeps commands from being given: the key's role.
    pub(super) only_looks: Option<String>,
    pub(super) list: List,
    pub(super) page: Option<TaskPage>,
    pub(super) prompt: Option<Prompt>,
    pub(super) has_help: bool,
    pub(super) notice: Option<Notice>,
}

/// How the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Opening,
    Live,
    Lost { since: Timestamp, why: String },
}

/// Something that the user is asked, or is writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prompt {
    /// What to search for; it holds at once.
    Search { input: Input, former: String },
    /// Yes or no.
    Sure {
        act: Act,
        what: String,
        about: String,
    },
    /// What a suspended task is resumed with.
    Answer {
        id: TaskId,
        what: String,
        about: String,
        input: Input,
        fault: Option<String>,
    },
}

/// What may be asked of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    Cancel(TaskId),
    Retry(TaskId),
    Resume(TaskId, String),
}

/// Something that is said to the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) text: String,
    pub(super) is_bad: bool,
    at: Timestamp,
}

impl State {
    pub(super) fn new(place: String, filter: String, now: Timestamp) -> Self {
        Self {
            board: Board::default(),
            pulse: Pulse::default(),
            link: Link::Opening,
            now,
            place,
            filter,
            only_looks: None,
            list: List::default(),
            page: None,
            prompt: None,
            has_help: false,
            notice: None,
        }
    }

    /// Does what is shown hold now?
    pub(super) fn is_current(&self) -> bool {
        self.link == Link::Live && self.board.is_complete()
    }

    /// The moment that is shown: the present, or when it was last known.
    pub(super) fn as_of(&self) -> Timestamp {
        match &self.link {
            Link::Lost { since, .. } => *since,
            _ => self.now,
        }
    }

    pub(super) fn lost(&mut self, why: &str) {
        // What was lost stays lost since then, however often connecting fails.
        let since = match &self.link {
            Link::Lost { since, .. } => *since,
            _ => self.now,
        };
        self.link = Link::Lost {
            since,
            why: safe(why).into_owned(),
        };
    }

    pub(super) fn say(&mut self, text: impl AsRef<str>) {
        self.notice = Some(Notice {
            text: safe(text.as_ref()).into_owned(),
            is_bad: false,
            at: self.now,
        });
    }

    pub(super) fn complain(&mut self, text: impl AsRef<str>) {
        self.say(text);
        if let Some(notice) = &mut self.notice {
            notice.is_bad = true;
        }
    }

    /// Time has passed. `true`: it can be seen.
    pub(super) fn tick(&mut self, now: Timestamp) -> bool {
        self.now = now;
        self.pulse.advance(now);
        let is_over = |notice: &Notice| now.ms() - notice.at.ms() > NOTICE_MS;
        let is_notice_over = self.notice.as_ref().is_some_and(is_over);
        if is_notice_over {
            self.notice = None;
        }
        let is_anything_under_way = self.board.count(Status::Running) > 0
            || self.board.count(Status::Suspended) > 0
            || self.pulse.last(60).iter().any(|count| *count > 0);
        is_notice_over || self.link != Link::Live || is_anything_under_way
    }

    /// Brings the list up to date with the board.
    pub(super) fn refresh(&mut self) {
        self.list.refresh(&self.board);
    }

    /// The task that a key is about: the opened one, else the chosen one.
    pub(super) fn subject(&self) -> Option<&TaskId> {
        let opened = self.page.as_ref().map(|page| &page.id);
        opened.or(self.list.chosen.as_ref())
    }

    /// Where the subject stands, as far as that is known.
    pub(super) fn status_of(&self, id: &TaskId) -> Option<Status> {
        let by_row = self.board.get(id).map(|row| row.status);
        let page = self.page.as_ref().filter(|page| page.id == *id);
        by_row.or_else(|| page.and_then(TaskPage::status))
    }
}

/// A status for people.
pub(super) fn word(status: Status) -> &'static str {
    match status {
        Status::TimedOut => "timed out",
        status => status.as_str(),
    }
}

/// A duration in few columns: `3.2s`, `42s`, `3m07s`, `2h05m`, `3d04h`.
pub(super) fn brief(duration: Duration, is_exact: bool) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 if is_exact => format!("{:.1}s", duration.as_secs_f64()),
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new("here".into(), String::new(), Timestamp::from_ms(1_000))
    }

    #[test]
    fn a_duration_takes_few_columns() {
        let ms = Duration::from_millis;
        assert_eq!(brief(ms(3_240), true), "3.2s");
        assert_eq!(brief(ms(3_240), false), "3s");
        assert_eq!(brief(ms(59_999), true), "59s");
        assert_eq!(brief(ms(187_000), true), "3m07s");
        assert_eq!(brief(ms(7_500_000), true), "2h05m");
        assert_eq!(brief(ms(273_600_000), true), "3d04h");
    }

    /// As long as the connection is lost, time stands still in what is shown.
    #[test]
    fn what_is_shown_is_as_of_the_moment_it_was_last_known() {
        let mut state = state();
        assert!(!state.is_current(), "no snapshot has come");
        state.link = Link::Live;
        state.board.complete();
        assert!(state.is_current());
        state.tick(Timestamp::from_ms(5_000));
        state.lost("gone");
        state.tick(Timestamp::from_ms(9_000));
        state.lost("still gone");
        assert!(!state.is_current());
        assert_eq!(state.as_of(), Timestamp::from_ms(5_000));
        state.link = Link::Live;
        assert_eq!(state.as_of(), Timestamp::from_ms(9_000));
    }

    #[test]
    fn a_notice_goes_by_itself_and_cannot_act_on_the_terminal() {
        let mut state = state();
        state.complain("no\u{1b}[2J");
        assert_eq!(
            state.notice.as_ref().map(|it| it.text.as_str()),
            Some("no␛[2J")
        );
        state.tick(Timestamp::from_ms(2_000));
        assert!(state.notice.is_some());
        assert!(state.tick(Timestamp::from_ms(1_000 + NOTICE_MS + 1)));
        assert_eq!(state.notice, None);
    }
}
