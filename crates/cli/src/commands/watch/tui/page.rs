//! One task, opened: its record, its story, and where in them the user is.

use sidestream::core::wire::TaskRecord;
use sidestream::{Json, Status, TaskId};

use super::json::pretty;
use super::story::Story;
use super::text::safe;

/// One task, opened.
#[derive(Debug)]
pub(super) struct TaskPage {
    pub(super) id: TaskId,
    pub(super) record: Option<TaskRecord>,
    /// It was deleted, or there never was one.
    pub(super) is_gone: bool,
    pub(super) story: Story,
    /// The whole story has been told: the task has ended.
    pub(super) is_told: bool,
    pub(super) pane: Pane,
    /// The record, laid out.
    pub(super) data: Vec<DataLine>,
    pub(super) scrolls: [Scroll; Pane::ALL.len()],
}

/// A part of a task's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Output,
    Timeline,
    Data,
}

/// Where a part is scrolled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scroll {
    /// Shows the end, whatever comes.
    pub(super) follows: bool,
    /// Else: the first line that is shown.
    pub(super) top: usize,
    /// How many lines there are, and how many were shown.
    pub(super) lines: usize,
    pub(super) height: usize,
}

/// A line of the record: a heading, or what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DataLine {
    Heading(&'static str),
    Text(String),
}

impl TaskPage {
    pub(super) fn new(id: TaskId) -> Self {
        let scroll = |follows| Scroll {
            follows,
            top: 0,
            lines: 0,
            height: 0,
        };
        Self {
            id,
            record: None,
            is_gone: false,
            story: Story::default(),
            is_told: false,
            pane: Pane::Output,
            data: Vec::new(),
            scrolls: [scroll(true), scroll(true), scroll(false)],
        }
    }

    /// Takes in what the task is, unless it is older than what is known.
    pub(super) fn take(&mut self, record: TaskRecord) {
        let known = self.record.as_ref().map(|known| known.seq);
        if known.is_some_and(|known| known > record.seq) {
            return;
        }
        self.data = data_of(&record);
        self.record = Some(record);
    }

    pub(super) fn status(&self) -> Option<Status> {
        let of_record = self.record.as_ref().map(|record| record.status);
        match (self.story.status, of_record) {
            // A chunk does not tell a timeout from a failure.
            (Some(Status::Failed), Some(Status::TimedOut)) => of_record,
            (of_story, of_record) => of_story.or(of_record),
        }
    }

    /// Holds the output where it is, or follows it again.
    pub(super) fn hold_or_follow(&mut self) {
        let output = &mut self.scrolls[Pane::Output as usize];
        if output.follows {
            output.step(0);
        } else {
            output.go_end();
        }
    }

    pub(super) fn scroll(&mut self) -> &mut Scroll {
        &mut self.scrolls[self.pane as usize]
    }
}

impl Pane {
    pub(super) const ALL: [Self; 3] = [Self::Output, Self::Timeline, Self::Data];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Output => "Output",
            Self::Timeline => "Timeline",
            Self::Data => "Data",
        }
    }

    pub(super) fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    pub(super) fn previous(self) -> Self {
        Self::ALL[(self as usize + Self::ALL.len() - 1) % Self::ALL.len()]
    }
}

impl Scroll {
    /// Scrolls by so many lines. Who goes up stops following; who comes to the end follows again.
    pub(super) fn step(&mut self, by: isize) {
        let last = self.lines.saturating_sub(self.height);
        let top = if self.follows { last } else { self.top };
        self.top = top.saturating_add_signed(by).min(last);
        self.follows = by > 0 && self.top == last;
    }

    pub(super) fn go_top(&mut self) {
        (self.top, self.follows) = (0, false);
    }

    pub(super) fn go_end(&mut self) {
        self.follows = true;
    }
}

fn data_of(record: &TaskRecord) -> Vec<DataLine> {
    let mut lines = Vec::new();
    let error = record.error.as_ref().map(|error| {
        let stack = error.stack.as_deref().unwrap_or_default();
        let lines = error.message.lines().chain(stack.lines());
        lines
            .map(|line| safe(line).into_owned())
            .collect::<Vec<_>>()
    });
    let description = record.description.as_ref();
    let description =
        description.map(|text| text.lines().map(|it| safe(it).into_owned()).collect());
    let json = |json: &Option<Json>| json.as_ref().map(|json| pretty(json.as_str()));
    for (name, text) in [
        ("description", description),
        ("waits for", json(&record.suspend_payload)),
        ("error", error),
        ("result", json(&record.result)),
        ("arguments", Some(pretty(record.args.as_str()))),
        ("metadata", json(&record.metadata)),
    ] {
        if let Some(text) = text {
            lines.push(DataLine::Heading(name));
            lines.extend(text.into_iter().map(DataLine::Text));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scroll(lines: usize, follows: bool) -> Scroll {
        Scroll {
            follows,
            top: 0,
            lines,
            height: 10,
        }
    }

    #[test]
    fn who_scrolls_up_stops_following_and_who_comes_to_the_end_follows_again() {
        let mut output = scroll(100, true);
        output.step(-1);
        assert_eq!((output.top, output.follows), (89, false));
        output.lines = 200;
        output.step(1);
        assert_eq!((output.top, output.follows), (90, false), "it stands still");
        output.step(1_000);
        assert_eq!((output.top, output.follows), (190, true));
        output.go_top();
        assert_eq!((output.top, output.follows), (0, false));
        output.go_end();
        assert!(output.follows);
    }

    #[test]
    fn an_output_is_held_and_followed_by_turns() {
        let mut page = TaskPage::new("t".parse().expect("an id"));
        page.scrolls[Pane::Output as usize] = scroll(100, true);
        page.hold_or_follow();
        assert_eq!((page.scroll().top, page.scroll().follows), (90, false));
        page.hold_or_follow();
        assert!(page.scroll().follows);
    }

    #[test]
    fn what_fits_does_not_scroll() {
        let mut data = scroll(3, false);
        data.step(5);
        assert_eq!(data.top, 0);
        data.step(-5);
        assert_eq!(data.top, 0);
    }

    #[test]
    fn panes_come_around() {
        for pane in Pane::ALL {
            assert_eq!(pane.next().previous(), pane);
            assert_eq!(pane.next().next().next(), pane);
        }
    }
}
