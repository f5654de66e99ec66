//! The list: which tasks it shows, in which order, and where in them its user is.

use std::cmp::Reverse;

use sidestream::{Status, TaskId};

use super::board::{Board, Row};
use super::state::word;

/// Which tasks are listed, and where in them the user is.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) which: Which,
    pub(super) search: String,
    /// In the order in which they are shown.
    pub(super) ids: Vec<TaskId>,
    /// The chosen one: it stays chosen wherever it moves.
    pub(super) chosen: Option<TaskId>,
    /// Where the chosen one is, or was last.
    pub(super) at: usize,
    /// The first that is shown.
    pub(super) top: usize,
    /// How many fit on the screen.
    pub(super) height: usize,
    /// What `ids` was made of: to make it of a hundred thousand tasks takes time.
    made_of: Option<(u64, Which, String)>,
}

/// Which tasks by where they stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Which {
    #[default]
    All,
    /// Those that have not ended.
    Active,
    Of(Vec<Status>),
    /// Those that wait for somebody, the longest first.
    Waiting,
}

impl List {
    /// Brings it up to date with the board.
    pub(super) fn refresh(&mut self, board: &Board) {
        let made_of = Some((board.version(), self.which.clone(), self.search.clone()));
        if self.made_of != made_of {
            self.made_of = made_of;
            self.make(board);
        }
        self.place();
    }

    fn make(&mut self, board: &Board) {
        let needle = self.search.to_lowercase();
        let is_shown = |row: &&Row| self.which.shows(row.status) && is_found(row, &needle);
        let rows = board.rows().filter(is_shown);
        let mut rows: Vec<_> = rows.collect();
        if self.which == Which::Waiting {
            rows.sort_unstable_by_key(|row| (row.since, row.number));
        } else {
            let latest = |row: &&Row| Reverse((row.since, row.number));
            rows.sort_unstable_by_key(|row| (rank(row.status), latest(row)));
        }
        self.ids = rows.into_iter().map(|row| row.id.clone()).collect();
        // Most often it is where it was.
        if let Some(chosen) = &self.chosen
            && self.ids.get(self.at) != Some(chosen)
        {
            match self.ids.iter().position(|id| id == chosen) {
                Some(at) => self.at = at,
                None => self.chosen = None,
            }
        }
    }

    /// Keeps the chosen one on the screen, and the screen within the list.
    fn place(&mut self) {
        self.at = self.at.min(self.ids.len().saturating_sub(1));
        let height = self.height.max(1);
        if self.chosen.is_some() {
            self.top = self
                .top
                .clamp((self.at + 1).saturating_sub(height), self.at);
        }
        self.top = self.top.min(self.ids.len().saturating_sub(height));
    }

    /// Chooses the one that is so many further; at first the one at the top of the screen.
    pub(super) fn step(&mut self, by: isize) {
        let at = match self.chosen {
            Some(_) => self.at.saturating_add_signed(by),
            None if by.unsigned_abs() > 1 => self.top.saturating_add_signed(by),
            None => self.top,
        };
        self.choose(at);
    }

    pub(super) fn choose(&mut self, at: usize) {
        self.at = at.min(self.ids.len().saturating_sub(1));
        self.chosen = self.ids.get(self.at).cloned();
        self.place();
    }
}

impl Which {
    pub(super) fn shows(&self, status: Status) -> bool {
        match self {
            Self::All => true,
            Self::Active => !status.is_terminal(),
            Self::Of(statuses) => statuses.contains(&status),
            Self::Waiting => status == Status::Suspended,
        }
    }

    /// In words; empty for all.
    pub(super) fn words(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Active => "not ended".to_owned(),
            Self::Waiting => "needs you".to_owned(),
            Self::Of(statuses) => {
                let words: Vec<_> = statuses.iter().map(|status| word(*status)).collect();
                words.join(", ")
            }
        }
    }

    /// What the key for it turns to next: all, those that have not ended, then each status.
    pub(super) fn next(&self) -> Self {
        use Status as S;
        match self {
            Self::All => Self::Active,
            Self::Active => Self::Of(vec![S::Pending]),
            Self::Waiting => Self::All,
            Self::Of(statuses) => match statuses.as_slice() {
                [S::Pending] => Self::Of(vec![S::Running]),
                [S::Running] => Self::Of(vec![S::Suspended]),
                [S::Suspended] => Self::Of(vec![S::Completed]),
                [S::Completed] => Self::Of(vec![S::Failed, S::TimedOut]),
                [S::Failed, S::TimedOut] => Self::Of(vec![S::Cancelled]),
                _ => Self::All,
            },
        }
    }
}

/// What runs first, then who waits for somebody, then who waits for a slot, then the rest.
fn rank(status: Status) -> u8 {
    match status {
        Status::Running => 0,
        Status::Suspended => 1,
        Status::Pending => 2,
        _ => 3,
    }
}

fn is_found(row: &Row, needle: &str) -> bool {
    if needle.is_empty() {
        return true;
    }
    let optional = [&row.agent, &row.thread, &row.run];
    let names = optional.into_iter().flatten().map(AsRef::as_ref);
    let mut texts = names.chain([row.id.as_str(), &*row.tool, row.status.as_str(), &*row.last]);
    texts.any(|text| text.to_lowercase().contains(needle))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sidestream::Timestamp;
    use sidestream_client::Chunk;

    use super::*;

    fn tell(board: &mut Board, kind: &str, id: &str, second: u32) {
        let at = format!("2026-11-21T00:00:{second:02}.000Z");
        let json = json!({"type": format!("background-task-{kind}"), "payload": {
            "taskId": id, "toolName": format!("Tool-{id}"), "agentId": "agent", "startedAt": at,
        }});
        let chunk = Chunk::from_json(json.to_string()).expect("it is a chunk");
        board.apply(&chunk, Timestamp::from_ms(0));
    }

    fn shown(list: &List) -> Vec<&str> {
        list.ids.iter().map(TaskId::as_str).collect()
    }

    fn board() -> Board {
        let mut board = Board::default();
        for (kind, id, second) in [
            ("completed", "done", 9),
            ("started", "waits", 1),
            ("started", "later", 1),
            ("running", "early", 1),
            ("running", "late", 5),
            ("suspended", "asks", 7),
            ("suspended", "asked", 3),
            ("failed", "broke", 10),
        ] {
            tell(&mut board, kind, id, second);
        }
        board
    }

    #[test]
    fn what_runs_comes_first_and_what_has_ended_last() {
        let (board, mut list) = (board(), List::default());
        list.refresh(&board);
        let expected = [
            "late", "early", "asks", "asked", "later", "waits", "broke", "done",
        ];
        assert_eq!(shown(&list), expected);
    }

    #[test]
    fn the_list_is_narrowed_by_status_and_by_search() {
        let (board, mut list) = (board(), List::default());
        let mut narrow = |which: Which, search: &str| {
            (list.which, list.search) = (which, search.to_owned());
            list.refresh(&board);
            shown(&list).join(" ")
        };
        assert_eq!(
            narrow(Which::Waiting, ""),
            "asked asks",
            "the longest first"
        );
        assert_eq!(
            narrow(Which::Active, ""),
            "late early asks asked later waits"
        );
        assert_eq!(narrow(Which::Of(vec![Status::Failed]), ""), "broke");
        assert_eq!(narrow(Which::All, "tool-ask"), "asks asked");
        assert_eq!(
            narrow(Which::Active, "AGENT"),
            "late early asks asked later waits"
        );
        assert_eq!(narrow(Which::All, "completed"), "done");
        assert_eq!(narrow(Which::All, "nothing"), "");
    }

    #[test]
    fn each_press_turns_to_another_status_and_around() {
        let mut which = Which::All;
        let mut words = Vec::new();
        loop {
            which = which.next();
            words.push(which.words());
            if which == Which::All {
                break;
            }
        }
        let expected = [
            "not ended",
            "pending",
            "running",
            "suspended",
            "completed",
            "failed, timed out",
            "cancelled",
            "",
        ];
        assert_eq!(words, expected);
    }

    /// What was chosen stays chosen wherever it goes, and is never quietly another.
    #[test]
    fn the_choice_stays_on_its_task() {
        let (mut board, mut list) = (
            board(),
            List {
                height: 3,
                ..List::default()
            },
        );
        list.refresh(&board);
        assert_eq!(list.chosen, None);
        list.step(1);
        list.step(1);
        assert_eq!(list.chosen, Some("early".parse().expect("an id")));
        tell(&mut board, "completed", "early", 20);
        list.refresh(&board);
        assert_eq!(list.chosen, Some("early".parse().expect("an id")));
        assert_eq!((list.at, list.top), (5, 3), "the screen goes along");
        (list.which, list.search) = (Which::Active, String::new());
        list.refresh(&board);
        assert_eq!(list.chosen, None);
        list.choose(usize::MAX);
        assert_eq!((list.at, list.top), (4, 2));
        list.step(-100);
        assert_eq!((list.at, list.top), (0, 0));
    }
}
