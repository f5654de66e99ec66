//! Draws the state. Nothing is decided here, but what fits.
//!
//! Every text of others has been made safe before ([`text`](super::text)), or is here. What colour says, a word
//! or a sign says too.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style as Look};
use ratatui::text::{Line, Span};
use sidestream::Status;

use super::list::Which;
use super::state::{Link, State};
use super::text::{cut, fitted_right, width};
use crate::console::Style;
use crate::show;

mod popup;
mod table;
mod task;

/// A screen smaller than this shows nothing that could be read.
const COLUMNS_MIN: u16 = 24;
const ROWS_MIN: u16 = 6;
/// Seconds in the picture of what ended.
const PULSE_SECONDS: usize = 20;
/// From so many columns on the counters have their signs.
const COLUMNS_FOR_SIGNS: u16 = 92;
/// Eighths of a row, for pictures.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// How words are set off: with colours, or without.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    pub(super) has_colors: bool,
}

impl Paint {
    fn look(self, style: Style) -> Look {
        let color = match style {
            Style::Plain => return Look::new(),
            Style::Bold => return Look::new().add_modifier(Modifier::BOLD),
            Style::Dim => return Look::new().add_modifier(Modifier::DIM),
            Style::Red => Color::Red,
            Style::Green => Color::Green,
            Style::Yellow => Color::Yellow,
            Style::Blue => Color::Blue,
            Style::Magenta => Color::Magenta,
            Style::Cyan => Color::Cyan,
        };
        match self.has_colors {
            true => Look::new().fg(color),
            false => Look::new(),
        }
    }

    fn span<'a>(self, style: Style, text: impl Into<std::borrow::Cow<'a, str>>) -> Span<'a> {
        Span::styled(text, self.look(style))
    }
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame, state: &mut State, paint: Paint) {
    let area = frame.area();
    if area.width < COLUMNS_MIN || area.height < ROWS_MIN {
        frame.render_widget(Line::from("too small"), area);
        return;
    }
    let has_filter = state.page.is_none() && !narrowing(state).is_empty();
    let [head, counters, filter, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(u16::from(has_filter)),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    // The list is as high as its part of the screen, before it is brought up to date.
    state.list.height = usize::from(body.height.saturating_sub(1));
    state.refresh();

    draw_head(frame, head, state, paint);
    draw_counters(frame, counters, state, paint);
    if has_filter {
        let (shown, all) = (state.list.ids.len(), state.board.rows().count());
        let text = format!(" {shown} of {all}: {}", narrowing(state));
        let text = cut(&text, usize::from(filter.width)).into_owned();
        frame.render_widget(Line::from(paint.span(Style::Yellow, text)), filter);
    }
    match state.page {
        Some(_) => task::draw(frame, body, state, paint),
        None => table::draw(frame, body, state, paint),
    }
    draw_foot(frame, foot, state, paint);
    if state.has_help {
        popup::draw_help(frame, area, paint);
    } else if let Some(prompt) = &state.prompt {
        popup::draw_prompt(frame, area, foot, prompt, paint);
    }
}

/// What narrows the list, in words; empty if nothing does.
fn narrowing(state: &State) -> String {
    let search = match state.list.search.as_str() {
        "" => String::new(),
        search => format!("found by {search:?}"),
    };
    let full = match state.board.is_full() {
        true => format!("the first {} tasks", super::board::ROWS_MAX),
        false => String::new(),
    };
    let parts = [state.filter.clone(), state.list.which.words(), search, full];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(", ")
}

fn draw_head(frame: &mut Frame, area: Rect, state: &State, paint: Paint) {
    let (sign, style, words) = match &state.link {
        Link::Opening => ("◌", Style::Yellow, "connecting".to_owned()),
        Link::Live if !state.board.is_complete() => ("◌", Style::Yellow, "loading".to_owned()),
        Link::Live => ("●", Style::Green, "live".to_owned()),
        Link::Lost { since, .. } => {
            let since = time_of_day(*since);
            let words = format!("NOT LIVE: as of {since}; connecting again");
            ("✖", Style::Yellow, words)
        }
    };
    let mut spans = vec![
        paint.span(Style::Bold, " sidestream  "),
        paint.span(style, format!("{sign} {words}")),
    ];
    if matches!(state.link, Link::Lost { .. }) {
        spans[1].style = spans[1]
            .style
            .add_modifier(Modifier::REVERSED | Modifier::BOLD);
    }
    let right = pulse(state);
    let taken: usize = spans.iter().map(Span::width).sum();
    let room = usize::from(area.width).saturating_sub(taken + width(&right) + 3);
    let place = cut(&state.place, room.min(60));
    spans.push(paint.span(Style::Dim, format!("  {place}")));
    frame.render_widget(Line::from(spans), area);
    if taken + width(&right) < usize::from(area.width) {
        let right = paint.span(Style::Cyan, right);
        frame.render_widget(Line::from(right).right_aligned(), area);
    }
}

/// What ended in each of the last seconds, and how many a second.
fn pulse(state: &State) -> String {
    let counts = state.pulse.last(PULSE_SECONDS);
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let bar = |count: &u64| match *count {
        0 => ' ',
        count => {
            let eighths = (count * 8).div_ceil(most);
            BARS[usize::try_from(eighths).unwrap_or(8).clamp(1, 8) - 1]
        }
    };
    let bars: String = counts.iter().map(bar).collect();
    let rate = state.pulse.rate();
    let bars = fitted_right(&bars, PULSE_SECONDS);
    match rate {
        rate if rate < 10.0 => format!("{bars} {rate:.1} ended/s "),
        rate => format!("{bars} {rate:.0} ended/s "),
    }
}

fn draw_counters(frame: &mut Frame, area: Rect, state: &State, paint: Paint) {
    let has_signs = area.width >= COLUMNS_FOR_SIGNS;
    let mut spans = vec![Span::raw(" ")];
    for (statuses, words) in [
        (&[Status::Running][..], "running"),
        (&[Status::Suspended], "suspended"),
        (&[Status::Pending], "pending"),
        (&[Status::Completed], "completed"),
        (&[Status::Failed, Status::TimedOut], "failed"),
        (&[Status::Cancelled], "cancelled"),
    ] {
        let counts = statuses.iter().map(|status| state.board.count(*status));
        let count: usize = counts.sum();
        let style = match count {
            0 => Style::Dim,
            _ => show::style_of(statuses[0]),
        };
        let sign = match has_signs {
            true => format!("{} ", sign_of(statuses[0])),
            false => String::new(),
        };
        spans.push(paint.span(style, format!("{sign}{count} {words}")));
        spans.push(Span::raw("  "));
    }
    frame.render_widget(Line::from(spans), area);
}

fn draw_foot(frame: &mut Frame, area: Rect, state: &State, paint: Paint) {
    if let Some(notice) = &state.notice {
        let style = match notice.is_bad {
            true => Style::Red,
            false => Style::Green,
        };
        let text = format!(" {}", notice.text);
        let text = cut(&text, usize::from(area.width)).into_owned();
        let mut span = paint.span(style, text);
        span.style = span.style.add_modifier(Modifier::BOLD);
        frame.render_widget(Line::from(span), area);
        return;
    }
    let asked = state.board.count(Status::Suspended);
    let is_listed = state.list.which == Which::Waiting && state.page.is_none();
    let right = match asked {
        0 => String::new(),
        _ if is_listed || state.only_looks.is_some() => String::new(),
        1 => "‖ 1 task needs you: w ".to_owned(),
        asked => format!("‖ {asked} tasks need you: w "),
    };
    let room = usize::from(area.width).saturating_sub(width(&right) + 1);
    let mut left = String::new();
    for hint in hints(state) {
        if width(&left) + width(hint) + 2 > room {
            break;
        }
        left.push_str("  ");
        left.push_str(hint);
    }
    let left = left.get(1..).unwrap_or_default().to_owned();
    frame.render_widget(Line::from(paint.span(Style::Dim, left)), area);
    let mut right = paint.span(Style::Magenta, right);
    right.style = right.style.add_modifier(Modifier::BOLD);
    frame.render_widget(Line::from(right).right_aligned(), area);
}

/// The keys that matter here, the most wanted first. Those that the key's role forbids are left out.
fn hints(state: &State) -> Vec<&'static str> {
    let subject = state.subject().and_then(|id| state.status_of(id));
    let acts: &[&str] = match subject {
        _ if state.only_looks.is_some() => &[],
        Some(Status::Suspended) => &["a approve", "d decline", "e answer", "c cancel"],
        Some(status) if !status.is_terminal() => &["c cancel"],
        Some(Status::Completed) | None => &[],
        Some(_) => &["r retry"],
    };
    let (first, last): (&[&str], &[&str]) = match (&state.page, &state.list.chosen) {
        (Some(_), _) => (&["? help", "Esc back", "Tab next"], &["f follow", "q quit"]),
        (None, Some(_)) => (&["? help", "Enter open"], &["Esc let go", "q quit"]),
        (None, None) => (
            &["? help", "j k choose", "/ search", "s status"],
            &["q quit"],
        ),
    };
    [first, acts, last].concat()
}

/// A sign for a status, of one column.
fn sign_of(status: Status) -> &'static str {
    match status {
        Status::Pending => "·",
        Status::Running => "▶",
        Status::Suspended => "‖",
        Status::Completed => "✔",
        Status::Failed | Status::TimedOut => "✖",
        Status::Cancelled => "■",
    }
}

fn time_of_day(at: sidestream::Timestamp) -> String {
    let text = show::time_of_day(at);
    text.get(..8).unwrap_or(&text).to_owned()
}
