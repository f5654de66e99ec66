//! What each key does to the state, and what it asks to be done.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::value::RawValue;
use sidestream::{Status, TaskId};

use super::input::Input;
use super::json::pretty;
use super::list::Which;
use super::page::TaskPage;
use super::state::{Act, Link, Prompt, State, word};
use super::text::{bounded, safe};
use crate::show;

/// The keys, as the help shows them.
pub(super) const HELP: [(&str, &str); 15] = [
    ("j k ↓ ↑", "to the next or previous task, or line"),
    ("PgDn PgUp", "a screen further or back"),
    ("g G", "to the first, to the last"),
    ("Enter", "open the chosen task"),
    ("Esc", "back; let go of the choice, the search, the filter"),
    (
        "/",
        "search: id, tool, agent, thread, run, status, last output",
    ),
    ("s S", "narrow by status: the next, all again"),
    (
        "w",
        "what needs you: the suspended tasks, the longest first",
    ),
    ("Tab ← →", "of a task: its output, timeline and data"),
    ("f", "of a task: follow its output, or hold it"),
    ("c", "cancel the task (asks first)"),
    ("r", "retry a failed, timed-out or cancelled task"),
    (
        "a d",
        "approve or decline what a suspended task asks (asks first)",
    ),
    ("e", "answer a suspended task with any JSON"),
    ("q Ctrl-C", "quit"),
];

/// What approves and what declines; a tool that wants anything else is answered with `e`.
const APPROVED: &str = r#"{"approved":true,"by":"terminal"}"#;
const DECLINED: &str = r#"{"approved":false,"by":"terminal"}"#;

/// What the state itself cannot do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Open(TaskId),
    Close,
    Do(Act),
}

/// Takes a key.
pub(super) fn press(state: &mut State, key: KeyEvent) -> Option<Action> {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    if is_control && key.code == KeyCode::Char('c') {
        return Some(Action::Quit);
    }
    state.refresh();
    state.notice = None;
    if state.has_help {
        state.has_help = false;
        return None;
    }
    if let Some(prompt) = state.prompt.take() {
        return answer(state, prompt, key);
    }
    if is_control || key.modifiers.contains(KeyModifiers::ALT) {
        return None;
    }
    match key.code {
        KeyCode::Char('q') => return Some(Action::Quit),
        KeyCode::Char('?') => state.has_help = true,
        KeyCode::Char('c') => ask_to_cancel(state),
        KeyCode::Char('r') => return subject(state).map(|id| Action::Do(Act::Retry(id))),
        KeyCode::Char('a') => ask_to_resume(state, "approve", APPROVED),
        KeyCode::Char('d') => ask_to_resume(state, "decline", DECLINED),
        KeyCode::Char('e') => ask_for_answer(state),
        KeyCode::Char('w') => {
            state.list.which = match state.list.which {
                Which::Waiting if state.page.is_none() => Which::All,
                _ => Which::Waiting,
            };
            state.refresh();
            return state.page.is_some().then_some(Action::Close);
        }
        code => match &mut state.page {
            Some(page) => return in_page(page, code),
            None => return in_list(state, code),
        },
    }
    None
}

/// Takes what was pasted: only where somebody is writing, so that no text is taken for commands.
pub(super) fn paste(state: &mut State, text: &str) {
    match &mut state.prompt {
        Some(Prompt::Search { input, .. }) => {
            input.insert(text);
            state.list.search = input.text().to_owned();
        }
        Some(Prompt::Answer { input, .. }) => input.insert(text),
        Some(Prompt::Sure { .. }) | None => {}
    }
    state.refresh();
}

fn in_list(state: &mut State, code: KeyCode) -> Option<Action> {
    let list = &mut state.list;
    let screen = isize::try_from(list.height.max(1)).unwrap_or(1);
    match code {
        KeyCode::Char('j') | KeyCode::Down => list.step(1),
        KeyCode::Char('k') | KeyCode::Up => list.step(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => list.step(screen),
        KeyCode::PageUp => list.step(-screen),
        KeyCode::Char('g') | KeyCode::Home => list.choose(0),
        KeyCode::Char('G') | KeyCode::End => list.choose(usize::MAX),
        KeyCode::Char('s') => list.which = list.which.next(),
        KeyCode::Char('S') => list.which = Which::All,
        KeyCode::Char('/') => {
            let former = list.search.clone();
            let input = Input::of(&former);
            state.prompt = Some(Prompt::Search { input, former });
        }
        KeyCode::Esc if list.chosen.is_some() => (list.chosen, list.top) = (None, 0),
        KeyCode::Esc if !list.search.is_empty() => list.search.clear(),
        KeyCode::Esc => list.which = Which::All,
        KeyCode::Enter => match list.chosen.clone() {
            Some(id) => return Some(Action::Open(id)),
            None => list.step(1),
        },
        _ => {}
    }
    state.refresh();
    None
}

fn in_page(page: &mut TaskPage, code: KeyCode) -> Option<Action> {
    let screen = isize::try_from(page.scroll().height.max(1)).unwrap_or(1);
    match code {
        KeyCode::Esc | KeyCode::Backspace => return Some(Action::Close),
        KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => page.pane = page.pane.next(),
        KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => page.pane = page.pane.previous(),
        KeyCode::Char('j') | KeyCode::Down => page.scroll().step(1),
        KeyCode::Char('k') | KeyCode::Up => page.scroll().step(-1),
        KeyCode::PageDown | KeyCode::Char(' ') => page.scroll().step(screen),
        KeyCode::PageUp => page.scroll().step(-screen),
        KeyCode::Char('g') | KeyCode::Home => page.scroll().go_top(),
        KeyCode::Char('G') | KeyCode::End => page.scroll().go_end(),
        KeyCode::Char('f' | 'p') => page.hold_or_follow(),
        _ => {}
    }
    None
}

fn answer(state: &mut State, prompt: Prompt, key: KeyEvent) -> Option<Action> {
    match prompt {
        Prompt::Search { mut input, former } => {
            match key.code {
                KeyCode::Esc => state.list.search = former,
                KeyCode::Enter => {}
                _ => {
                    input.press(key);
                    state.list.search = input.text().to_owned();
                    state.prompt = Some(Prompt::Search { input, former });
                }
            }
            state.refresh();
            None
        }
        Prompt::Sure { act, .. } => {
            let is_sure = matches!(key.code, KeyCode::Char('y' | 'Y'));
            is_sure.then_some(Action::Do(act))
        }
        Prompt::Answer {
            id,
            what,
            about,
            mut input,
            ..
        } => {
            let mut fault = None;
            match key.code {
                KeyCode::Esc => return None,
                KeyCode::Enter => match serde_json::from_str::<&RawValue>(input.text()) {
                    Ok(_) => {
                        let data = input.text().to_owned();
                        return Some(Action::Do(Act::Resume(id, data)));
                    }
                    Err(error) => fault = Some(format!("this is not JSON: {error}")),
                },
                _ => input.press(key),
            }
            state.prompt = Some(Prompt::Answer {
                id,
                what,
                about,
                input,
                fault,
            });
            None
        }
    }
}

/// The task that a command is for; `None`, and the reason is told, where none can be given.
fn subject(state: &mut State) -> Option<TaskId> {
    let Some(id) = state.subject().cloned() else {
        state.complain("no task is chosen: j and k choose one");
        return None;
    };
    if let Some(role) = &state.only_looks {
        let complaint = format!("the key has the role {role}: it may look, and change nothing");
        state.complain(complaint);
        return None;
    }
    if matches!(state.link, Link::Lost { .. }) {
        state.complain("the connection is lost: nothing can be asked of the server now");
        return None;
    }
    Some(id)
}

fn ask_to_cancel(state: &mut State) {
    let Some(id) = subject(state) else { return };
    let what = format!("Cancel {}?", name(state, &id));
    let status = state.status_of(&id).map_or("", word);
    let about = format!("It is {status}. Its tool is told, and stopped after a grace.");
    let act = Act::Cancel(id);
    state.prompt = Some(Prompt::Sure { act, what, about });
}

fn ask_to_resume(state: &mut State, verb: &str, data: &str) {
    let Some(id) = suspended(state) else { return };
    let mut what = format!("{verb} {}?", name(state, &id));
    what[..1].make_ascii_uppercase();
    let about = format!("It is given {data}\n\n{}", waits_for(state, &id));
    let act = Act::Resume(id, data.to_owned());
    state.prompt = Some(Prompt::Sure { act, what, about });
}

fn ask_for_answer(state: &mut State) {
    let Some(id) = suspended(state) else { return };
    let what = format!("Answer {} with JSON", name(state, &id));
    let about = waits_for(state, &id);
    state.prompt = Some(Prompt::Answer {
        id,
        what,
        about,
        input: Input::of(APPROVED),
        fault: None,
    });
}

fn suspended(state: &mut State) -> Option<TaskId> {
    let id = subject(state)?;
    match state.status_of(&id) {
        Some(Status::Suspended) => Some(id),
        status => {
            let status = status.map_or("unknown", word);
            let name = name(state, &id);
            state.complain(format!("{name} waits for nobody: it is {status}"));
            None
        }
    }
}

fn name(state: &State, id: &TaskId) -> String {
    let by_row = state.board.get(id).map(|row| row.tool.to_string());
    let record = state.page.as_ref().and_then(|page| page.record.as_ref());
    let tool = by_row.or_else(|| record.map(|record| record.tool_name.to_string()));
    let short = id.short();
    let name = format!("{} {short}", bounded(&tool.unwrap_or_default(), 60));
    safe(name.trim()).into_owned()
}

/// What a suspended task asks: in words, and where it is opened, all of it.
fn waits_for(state: &State, id: &TaskId) -> String {
    let record = state.page.as_ref().and_then(|page| page.record.as_ref());
    let payload = record.filter(|record| record.id == *id);
    let payload = payload.and_then(|record| record.suspend_payload.as_ref());
    let Some(payload) = payload else {
        let row = state.board.get(id);
        return row.map_or_else(String::new, |row| row.last.to_string());
    };
    let question = show::question(payload);
    let words = safe(&bounded(&question, 2_000)).into_owned();
    match question == payload.as_str() {
        true => pretty(payload.as_str()).join("\n"),
        false => format!("{words}\n{}", pretty(payload.as_str()).join("\n")),
    }
}

/// `UPDATE_DOCS=1` rewrites the table in `docs/guide/cli.md`.
#[test]
fn the_guide_has_the_keys_as_they_are() {
    const HEADING: &str = "| keys | what they do |\n|---|---|\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/cli.md");
    let guide = std::fs::read_to_string(path).expect("the guide is there");
    let (before, rest) = guide.split_once(HEADING).expect("it has the table");
    let (_, after) = rest.split_once("\n\n").expect("text follows the table");
    let rows = HELP.map(|(keys, words)| format!("| `{keys}` | {words} |\n"));
    let expected = format!("{before}{HEADING}{}\n{after}", rows.concat());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &expected).expect("the guide can be written");
    } else {
        assert!(
            guide == expected,
            "docs/guide/cli.md is stale: rewrite it with UPDATE_DOCS=1"
        );
    }
}
