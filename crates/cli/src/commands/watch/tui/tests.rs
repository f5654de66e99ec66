//! The view as a whole: keys go in, and what a terminal would show comes out.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};
use sidestream_client::Chunk;

use super::*;

/// A view without a terminal and without a server.
struct Stage {
    state: State,
    seq: u64,
}

impl Stage {
    fn new() -> Self {
        let now = "2026-11-21T12:00:10.000Z".parse().expect("a time");
        let mut state = State::new("http://127.0.0.1:7600".into(), String::new(), now);
        state.link = Link::Live;
        state.board.complete();
        Self { state, seq: 0 }
    }

    /// One task of each kind.
    fn with_tasks() -> Self {
        let mut stage = Self::new();
        let at = |second: u32| format!("2026-11-21T12:00:{second:02}.000Z");
        stage.tell("running", "r-1", json!({"startedAt": at(4), "attempt": 1}));
        stage.tell("output", "r-1", json!({"payload": "step 3 of 9"}));
        stage.tell("running", "s-1", json!({"startedAt": at(1), "attempt": 1}));
        let asked = json!({"suspendedAt": at(2), "suspendPayload": {"question": "May I?"}});
        stage.tell("suspended", "s-1", asked);
        stage.tell("started", "p-1", json!({}));
        stage.tell("running", "f-1", json!({"startedAt": at(5), "attempt": 2}));
        let failed = json!({"completedAt": at(7), "error": {"message": "no route"}});
        stage.tell("failed", "f-1", failed);
        stage
    }

    fn tell(&mut self, kind: &str, id: &str, mut payload: Value) {
        self.seq += 1;
        payload["seq"] = self.seq.into();
        payload["taskId"] = id.into();
        payload["toolName"] = format!("tool-{id}").into();
        payload["agentId"] = "agent".into();
        let chunk = json!({"type": format!("background-task-{kind}"), "payload": payload});
        let chunk = Chunk::from_json(chunk.to_string()).expect("it is a chunk");
        self.state.board.apply(&chunk, self.state.now);
        if let Some(page) = self
            .state
            .page
            .as_mut()
            .filter(|page| page.id.as_str() == id)
        {
            page.story.apply(&chunk);
        }
    }

    fn press(&mut self, key: KeyCode) -> Option<Action> {
        keys::press(&mut self.state, KeyEvent::new(key, KeyModifiers::NONE))
    }

    fn write(&mut self, text: &str) -> Option<Action> {
        let actions = text.chars().filter_map(|c| self.press(KeyCode::Char(c)));
        actions.last()
    }

    /// Chooses the task of this id.
    fn choose(&mut self, id: &str) {
        self.state.refresh();
        let mut ids = self.state.list.ids.iter();
        let at = ids.position(|known| known.as_str() == id);
        self.state.list.choose(at.expect("it is listed"));
    }

    fn notice(&self) -> &str {
        self.state.notice.as_ref().map_or("", |it| &it.text)
    }

    fn buffer(&mut self, columns: u16, rows: u16, has_colors: bool) -> Buffer {
        let backend = TestBackend::new(columns, rows);
        let mut terminal = Terminal::new(backend).expect("it needs no terminal");
        let drawn = terminal.draw(|frame| view::draw(frame, &mut self.state, Paint { has_colors }));
        drawn.expect("memory can be drawn on").buffer.clone()
    }

    /// What is on the screen, line by line.
    fn screen(&mut self, columns: u16, rows: u16) -> Vec<String> {
        let buffer = self.buffer(columns, rows, true);
        let lines = buffer.content().chunks(usize::from(columns));
        let line = |cells: &[ratatui::buffer::Cell]| {
            let mut text = String::new();
            let mut covered = 0;
            for cell in cells {
                // The second column of a wide character is its own.
                if covered == 0 {
                    text.push_str(cell.symbol());
                    covered = text::width(cell.symbol());
                }
                covered = covered.saturating_sub(1);
            }
            text.trim_end().to_owned()
        };
        lines.map(line).collect()
    }
}

fn id(text: &str) -> TaskId {
    text.parse().expect("an id")
}

#[test]
fn all_tasks_are_seen_at_a_glance() {
    let mut stage = Stage::with_tasks();
    for _ in 0..3 {
        stage.state.pulse.beat(stage.state.now);
    }
    stage
        .state
        .tick("2026-11-21T12:00:11.000Z".parse().expect("a time"));
    let screen = stage.screen(80, 10).join("\n");
    let expected = r"
 sidestream  ● live  http://127.0.0.1:7600                        █ 3.0 ended/s
 1 running  1 suspended  1 pending  0 completed  1 failed  0 cancelled
 STATUS       TOOL         AGENT    STARTED  ELAPSED TRY LAST OUTPUT
 ▶ running    tool-r-1     agent    12:00:04      7s   1 step 3 of 9
 ‖ suspended  tool-s-1     agent    12:00:01      9s   1 May I?
 · pending    tool-p-1     agent    -              -   -
 ✖ failed     tool-f-1     agent    12:00:05    2.0s   2 no route


 ? help  j k choose  / search  s status  q quit           ‖ 1 task needs you: w";
    assert_eq!(screen, expected[1..]);
}

#[test]
fn a_wide_screen_has_more_columns_and_a_narrow_one_those_that_matter() {
    let mut stage = Stage::with_tasks();
    let wide = stage.screen(160, 8);
    assert!(
        wide[1].contains("▶ 1 running") && wide[2].contains(" ID ") && wide[2].contains("THREAD")
    );
    let narrow = stage.screen(40, 8);
    assert!(
        narrow[3].starts_with(" ▶ running    tool-r-1"),
        "{narrow:?}"
    );
    assert!(!narrow[2].contains("AGENT"));
    for columns in 1..180 {
        for rows in [1, 5, 6, 9, 60] {
            let screen = stage.screen(columns, rows);
            let is_small = columns < 24 || rows < 6;
            assert!(
                is_small || screen[0].starts_with(" sidestream"),
                "{columns}x{rows}"
            );
        }
    }
}

/// Whoever reads it without colours reads the same.
#[test]
fn without_colours_none_is_used() {
    let mut stage = Stage::with_tasks();
    stage.choose("s-1");
    stage.state.complain("oh");
    let plain = stage.buffer(100, 12, false);
    let is_uncoloured =
        |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    assert!(plain.content().iter().all(is_uncoloured));
    let coloured = stage.buffer(100, 12, true);
    assert!(!coloured.content().iter().all(is_uncoloured));
    let symbols =
        |buffer: &Buffer| -> String { buffer.content().iter().map(|cell| cell.symbol()).collect() };
    assert_eq!(symbols(&plain), symbols(&coloured));
}

/// What is not known to hold is not said to.
#[test]
fn when_the_connection_is_lost_nothing_is_said_to_run() {
    let mut stage = Stage::with_tasks();
    stage.state.lost("gone");
    stage
        .state
        .tick("2026-11-21T12:05:00.000Z".parse().expect("a time"));
    let screen = stage.screen(80, 9);
    assert!(
        screen[0].contains("✖ NOT LIVE: as of 12:00:10; connecting again"),
        "{screen:?}"
    );
    assert!(
        screen[3].contains("▶ running?") && screen[3].contains(" 6s "),
        "{screen:?}"
    );
    assert!(screen[4].contains("‖ suspended?") && screen[5].contains("· pending?"));
    assert!(screen[6].contains("✖ failed "), "what has ended has ended");
    stage.choose("r-1");
    assert_eq!(stage.press(KeyCode::Char('c')), None);
    assert!(
        stage.notice().contains("connection is lost"),
        "{}",
        stage.notice()
    );
    assert_eq!(stage.state.prompt, None);
}

#[test]
fn nothing_of_others_acts_on_the_terminal_or_moves_a_column() {
    let mut stage = Stage::new();
    let hostile = "\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}m\u{202e}日本語👩\u{200d}💻e\u{301}\u{301}\u{301}\u{301}\u{301}\r\n\tend";
    for n in 0..3 {
        let payload = json!({"payload": hostile, "threadId": hostile, "runId": hostile});
        stage.tell("output", &format!("{hostile}{n}"), payload);
    }
    let first = stage.screen(110, 8);
    for line in &first[3..6] {
        assert!(text::width(line) <= 110);
        let (before, _) = line.split_once("agent").expect("the next column");
        assert_eq!(
            text::width(before),
            text::width(first[3].split_once("agent").expect("it").0)
        );
    }
    let chosen = stage.state.list.ids[0].clone();
    stage.state.page = Some(TaskPage::new(chosen.clone()));
    stage.tell("output", chosen.as_str(), json!({"payload": hostile}));
    stage.state.lost(hostile);
    stage.state.complain(hostile);
    for columns in [30, 80, 130] {
        let buffer = stage.buffer(columns, 12, true);
        for cell in buffer.content() {
            let is_safe = |c: char| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
            assert!(cell.symbol().chars().all(is_safe), "{:?}", cell.symbol());
            assert!(cell.symbol().chars().count() <= 3, "{:?}", cell.symbol());
        }
    }
}

#[test]
fn a_task_is_opened_and_left() {
    let mut stage = Stage::with_tasks();
    assert_eq!(stage.press(KeyCode::Enter), None, "it chooses first");
    assert_eq!(stage.press(KeyCode::Enter), Some(Action::Open(id("r-1"))));
    stage.state.page = Some(TaskPage::new(id("r-1")));
    assert_eq!(stage.press(KeyCode::Esc), Some(Action::Close));
    assert_eq!(stage.press(KeyCode::Char('q')), Some(Action::Quit));
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(keys::press(&mut stage.state, control_c), Some(Action::Quit));
}

fn record(status: &str) -> TaskRecord {
    let at = "2026-11-21T12:00:03.000Z";
    let json = json!({
        "id": "r-1", "status": status, "toolName": "tool-r-1", "args": {"directory": "/src"}, "createdAt": at,
        "updatedAt": at, "startedAt": "2026-11-21T12:00:04.000Z", "agentId": "agent", "threadId": "thread",
        "retryCount": 0, "maxRetries": 2, "timeoutMs": 1, "priority": 0, "attempt": 1, "namespace": "default",
        "seq": 9,
    });
    serde_json::from_value(json).expect("it is a record")
}

#[test]
fn a_task_shows_its_output_its_timeline_and_its_data() {
    let mut stage = Stage::new();
    let mut page = TaskPage::new(id("r-1"));
    page.take(record("running"));
    stage.state.page = Some(page);
    stage.tell("started", "r-1", json!({}));
    stage.tell(
        "running",
        "r-1",
        json!({"startedAt": "2026-11-21T12:00:04.000Z", "attempt": 1}),
    );
    for n in 1..=20 {
        stage.tell("output", "r-1", json!({"payload": format!("line {n}")}));
    }
    stage.tell(
        "output",
        "r-1",
        json!({"payload": {"stream": "stderr", "text": "careful"}}),
    );
    let screen = stage.screen(80, 12).join("\n");
    let expected = r"
 sidestream  ● live  http://127.0.0.1:7600                          0.0 ended/s
 1 running  0 suspended  0 pending  0 completed  0 failed  0 cancelled
 ▶ running  tool-r-1
  id: r-1  agent: agent  thread: thread
  dispatched: 12:00:03  started: 12:00:04  for: 6s  attempt: 1 of 3
  Output 21 lines    Timeline 3 events    Data
  line 17
  line 18
  line 19
  line 20
! careful
 ? help  Esc back  Tab next  c cancel  f follow  q quit";
    assert_eq!(screen, expected[1..]);
    stage.press(KeyCode::Char('k'));
    stage.tell("output", "r-1", json!({"payload": "unseen"}));
    let held = stage.screen(80, 12);
    assert!(
        held[5].contains("Output 22 lines held") && held[10].contains("line 20"),
        "{held:?}"
    );
    stage.press(KeyCode::Char('f'));
    assert!(stage.screen(80, 12)[10].contains("unseen"));
    stage.press(KeyCode::Tab);
    let timeline = stage.screen(80, 12);
    assert_eq!(timeline[6], "  12:00:03.000         · dispatched");
    assert_eq!(timeline[7], "  12:00:04.000 +1.0s   ▶ started");
    assert_eq!(timeline[8], "                       │ 22 outputs");
    stage.press(KeyCode::Tab);
    let data = stage.screen(80, 12);
    assert_eq!(
        data[6..9],
        ["  arguments", "    {", "      \"directory\": \"/src\""]
    );
    let wide = stage.screen(130, 20).join("\n");
    for text in ["Timeline 3 events", "arguments", "unseen", "· dispatched"] {
        assert!(wide.contains(text), "side by side: {text}");
    }
}

#[test]
fn a_command_asks_before_it_cannot_be_undone() {
    let mut stage = Stage::with_tasks();
    stage.choose("r-1");
    assert_eq!(stage.press(KeyCode::Char('c')), None);
    assert!(
        stage
            .screen(80, 24)
            .join("\n")
            .contains("Cancel tool-r-1 r-1?")
    );
    assert_eq!(stage.press(KeyCode::Char('n')), None);
    assert_eq!(stage.state.prompt, None);
    assert_eq!(stage.write("cy"), Some(Action::Do(Act::Cancel(id("r-1")))));

    stage.choose("s-1");
    stage.press(KeyCode::Char('a'));
    assert!(stage.screen(80, 24).join("\n").contains("May I?"));
    let approved = r#"{"approved":true,"by":"terminal"}"#.to_owned();
    let approve = Action::Do(Act::Resume(id("s-1"), approved));
    assert_eq!(stage.press(KeyCode::Char('y')), Some(approve));
    let declined = r#"{"approved":false,"by":"terminal"}"#.to_owned();
    let decline = Action::Do(Act::Resume(id("s-1"), declined));
    assert_eq!(stage.write("dy"), Some(decline));

    stage.choose("f-1");
    assert_eq!(stage.write("r"), Some(Action::Do(Act::Retry(id("f-1")))));
}

#[test]
fn an_answer_is_written_as_json_and_checked() {
    let mut stage = Stage::with_tasks();
    stage.choose("s-1");
    stage.press(KeyCode::Char('e'));
    let control_u = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
    keys::press(&mut stage.state, control_u);
    assert_eq!(
        stage.write("{\"q\": c"),
        None,
        "no letter is taken for a command"
    );
    assert_eq!(stage.press(KeyCode::Enter), None);
    assert!(stage.screen(80, 24).join("\n").contains("this is not JSON"));
    stage.press(KeyCode::Backspace);
    keys::paste(&mut stage.state, "[1,\n2]}");
    let answer = Act::Resume(id("s-1"), "{\"q\": [1, 2]}".to_owned());
    assert_eq!(stage.press(KeyCode::Enter), Some(Action::Do(answer)));
}

#[test]
fn what_cannot_be_asked_is_said_why() {
    let mut stage = Stage::with_tasks();
    for key in ['c', 'r', 'a', 'd', 'e'] {
        assert_eq!(stage.press(KeyCode::Char(key)), None);
        assert_eq!(stage.notice(), "no task is chosen: j and k choose one");
    }
    stage.choose("r-1");
    assert_eq!(stage.press(KeyCode::Char('a')), None);
    assert_eq!(
        stage.notice(),
        "tool-r-1 r-1 waits for nobody: it is running"
    );

    stage.state.only_looks = Some("read".into());
    stage.choose("s-1");
    for key in ['c', 'r', 'a', 'd', 'e'] {
        assert_eq!(stage.press(KeyCode::Char(key)), None);
        assert!(
            stage.notice().contains("the role read"),
            "{key}: {}",
            stage.notice()
        );
        assert_eq!(stage.state.prompt, None);
    }
    stage.state.notice = None;
    let screen = stage.screen(120, 9).join("\n");
    for absent in ["cancel ", "approve", "needs you"] {
        let foot = screen.lines().last().expect("a last line");
        assert!(!foot.contains(absent), "{foot}");
    }
}

#[test]
fn a_search_holds_at_once_and_can_be_taken_back() {
    let mut stage = Stage::with_tasks();
    stage.press(KeyCode::Char('/'));
    stage.write("route");
    let screen = stage.screen(80, 9);
    assert_eq!(screen[2], " 1 of 4: found by \"route\"");
    assert!(screen[4].contains("tool-f-1") && screen[8].starts_with(" / route"));
    stage.press(KeyCode::Enter);
    assert_eq!(stage.state.list.search, "route");
    stage.press(KeyCode::Char('/'));
    stage.write("x");
    assert!(stage.screen(80, 12).join("\n").contains("Nothing is found"));
    stage.press(KeyCode::Esc);
    assert_eq!(stage.state.list.search, "route");
    stage.press(KeyCode::Esc);
    assert_eq!(stage.state.list.search, "");
}

#[test]
fn what_needs_somebody_is_one_key_away() {
    let mut stage = Stage::with_tasks();
    stage.press(KeyCode::Char('w'));
    let screen = stage.screen(80, 9);
    assert!(screen[3].contains("WHAT IT WAITS FOR"), "{screen:?}");
    assert!(screen[4].contains("tool-s-1") && screen[4].contains("May I?"));
    stage.state.page = Some(TaskPage::new(id("r-1")));
    assert_eq!(stage.press(KeyCode::Char('w')), Some(Action::Close));
    assert_eq!(stage.state.list.which, Which::Waiting);
}

#[test]
fn the_help_names_every_key_and_any_key_closes_it() {
    let mut stage = Stage::with_tasks();
    stage.press(KeyCode::Char('?'));
    let screen = stage.screen(80, 24).join("\n");
    for (keys, words) in keys::HELP {
        assert!(screen.contains(keys) && screen.contains(words), "{keys}");
    }
    assert_eq!(
        stage.press(KeyCode::Char('q')),
        None,
        "it only closes the help"
    );
    assert!(!stage.state.has_help);
}

/// What is pasted is text: nothing of it is a command.
#[test]
fn what_is_pasted_is_not_taken_for_keys() {
    let mut stage = Stage::with_tasks();
    stage.choose("r-1");
    keys::paste(&mut stage.state, "cyq");
    assert_eq!(stage.state.prompt, None);
    stage.press(KeyCode::Char('c'));
    keys::paste(&mut stage.state, "y");
    assert!(stage.state.prompt.is_some());
}

/// With as many tasks as there may be, it is still drawn while one waits.
#[test]
fn a_hundred_thousand_tasks_are_listed() {
    let mut stage = Stage::new();
    for n in 0..100_000 {
        stage.tell("running", &format!("t-{n}"), json!({}));
    }
    stage.press(KeyCode::Char('G'));
    let screen = stage.screen(80, 24);
    assert!(screen[1].contains("100000 running"));
    assert_eq!(stage.state.list.at, 99_999);
    assert!(screen[22].starts_with(">▶ running"), "{screen:?}");
    let reversed = stage.buffer(80, 24, false);
    assert!(reversed[(5, 22)].modifier.contains(Modifier::REVERSED));
}
