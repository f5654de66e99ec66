//! The list of tasks, in as many columns as fit.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use sidestream::Status;

use super::super::board::Row;
use super::super::list::Which;
use super::super::state::{Link, State, brief, word};
use super::super::text::{bounded, cut, fitted, fitted_right, safe, width};
use super::{Paint, sign_of, time_of_day};
use crate::console::Style;
use crate::show;

/// Of a name so many bytes are looked at: more than any column has.
const NAME_BYTES_MAX: usize = 400;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Status,
    Id,
    Tool,
    Agent,
    Thread,
    Started,
    Elapsed,
    Attempt,
    Last,
}

pub(super) fn draw(frame: &mut Frame, area: Rect, state: &State, paint: Paint) {
    let columns = columns(usize::from(area.width), state.list.which == Which::Waiting);
    let head = head(&columns, &state.list.which);
    let mut head = paint.span(Style::Bold, head);
    head.style = head.style.add_modifier(Modifier::UNDERLINED);
    frame.render_widget(Line::from(head), row_of(area, 0));
    if state.list.ids.is_empty() {
        draw_empty(frame, area, state, paint);
        return;
    }
    let ids = state.list.ids.iter().enumerate().skip(state.list.top);
    let height = usize::from(area.height.saturating_sub(1));
    for (line, (at, id)) in ids.take(height).enumerate() {
        let Some(row) = state.board.get(id) else {
            continue;
        };
        let is_chosen = state.list.chosen.is_some() && at == state.list.at;
        let line_area = row_of(area, line + 1);
        frame.render_widget(draw_row(row, &columns, is_chosen, state, paint), line_area);
    }
}

fn draw_empty(frame: &mut Frame, area: Rect, state: &State, paint: Paint) {
    let list = &state.list;
    let text = match (&state.link, &list.which) {
        (Link::Opening, _) => "",
        _ if !state.board.is_complete() => "",
        _ if !list.search.is_empty() => "Nothing is found. Esc ends the search.",
        (_, Which::Waiting) => "Nothing waits for you.",
        (_, Which::All) => "No tasks yet. What is dispatched appears here.",
        _ => "No task stands so. S shows all.",
    };
    let text = cut(text, usize::from(area.width)).into_owned();
    let middle = row_of(area, usize::from(area.height / 2));
    frame.render_widget(Line::from(paint.span(Style::Dim, text)).centered(), middle);
}

fn row_of(area: Rect, line: usize) -> Rect {
    let line = u16::try_from(line).unwrap_or(u16::MAX).min(area.height);
    let height = u16::from(line < area.height);
    Rect::new(area.x, area.y + line, area.width, height)
}

/// What fits, from what matters most to what matters least; in the order in which it is shown.
fn columns(width: usize, is_waiting: bool) -> Vec<(Column, usize)> {
    use Column as C;
    let name = |least: usize, most: usize| (width / 9).clamp(least, most);
    let mut wanted = vec![
        (C::Status, 12),
        (C::Tool, name(12, 26)),
        // Where there is room for more than the bare list, it is worth more than further names.
        (C::Last, if width < 90 { 16 } else { 26 }),
        (C::Elapsed, 7),
        (C::Agent, name(8, 20)),
        (C::Started, 8),
        (C::Attempt, 3),
        (C::Id, 8),
        (C::Thread, name(10, 20)),
    ];
    if is_waiting {
        // All are suspended: what they ask is worth more.
        wanted.retain(|(column, _)| !matches!(column, C::Status | C::Attempt));
    }
    // A column for the mark of the chosen one, and a blank after each.
    let mut room = width.saturating_sub(1);
    let mut columns = Vec::new();
    for (column, width) in wanted {
        if width < room {
            room -= width + 1;
            columns.push((column, width));
        }
    }
    let order = [
        C::Status,
        C::Id,
        C::Tool,
        C::Agent,
        C::Thread,
        C::Started,
        C::Elapsed,
        C::Attempt,
        C::Last,
    ];
    columns.sort_by_key(|(column, _)| order.iter().position(|known| known == column));
    match columns.last_mut() {
        Some((C::Last, width)) => *width += room,
        Some((_, width)) => *width += room.min(20),
        None => {}
    }
    columns
}

fn head(columns: &[(Column, usize)], which: &Which) -> String {
    let is_waiting = *which == Which::Waiting;
    let mut head = String::from(" ");
    for (column, columns) in columns {
        let title = match column {
            Column::Status => "STATUS",
            Column::Id => "ID",
            Column::Tool => "TOOL",
            Column::Agent => "AGENT",
            Column::Thread => "THREAD",
            Column::Started => "STARTED",
            Column::Elapsed if is_waiting => "WAITS",
            Column::Elapsed => "ELAPSED",
            Column::Attempt => "TRY",
            Column::Last if is_waiting => "WHAT IT WAITS FOR",
            Column::Last => "LAST OUTPUT",
        };
        let is_number = matches!(column, Column::Elapsed | Column::Attempt);
        let title = match is_number {
            true => fitted_right(title, *columns),
            false => fitted(title, *columns),
        };
        head.push_str(&title);
        head.push(' ');
    }
    head
}

fn draw_row<'a>(
    row: &Row,
    columns: &[(Column, usize)],
    is_chosen: bool,
    state: &State,
    paint: Paint,
) -> Line<'a> {
    let style = show::style_of(row.status);
    let mut spans = vec![Span::raw(if is_chosen { ">" } else { " " })];
    for (column, columns) in columns {
        let columns = *columns;
        let (style, text) = match column {
            Column::Status => (style, fitted(&status(row, state), columns)),
            Column::Id => {
                // Enough to tell it apart; that it is cut goes without saying.
                let is_whole = row.id.as_str().chars().count() <= columns;
                let id = if is_whole {
                    row.id.as_str()
                } else {
                    row.id.short()
                };
                (Style::Dim, fitted(&safe(id), columns))
            }
            Column::Tool => (Style::Plain, fitted(&name(Some(&row.tool)), columns)),
            Column::Agent => (Style::Cyan, fitted(&name(row.agent.as_deref()), columns)),
            Column::Thread => (Style::Plain, fitted(&name(row.thread.as_deref()), columns)),
            Column::Started => {
                let at = row.started_at.map_or_else(|| "-".to_owned(), time_of_day);
                (Style::Plain, fitted(&at, columns))
            }
            Column::Elapsed => (Style::Plain, fitted_right(&elapsed(row, state), columns)),
            Column::Attempt => {
                let attempt = match row.attempt {
                    0 => "-".to_owned(),
                    attempt => attempt.to_string(),
                };
                (Style::Plain, fitted_right(&attempt, columns))
            }
            Column::Last => {
                let style = match row.status {
                    Status::Failed | Status::TimedOut => Style::Red,
                    _ => Style::Plain,
                };
                (style, fitted(&row.last, columns))
            }
        };
        spans.push(paint.span(style, text));
        spans.push(Span::raw(" "));
    }
    let line = Line::from(spans);
    if is_chosen {
        // To the edge, also where the columns end before it.
        let missing = super::super::text::fitted("", 4);
        let mut line = line;
        line.push_span(Span::raw(missing));
        return line.style(ratatui::style::Style::new().add_modifier(Modifier::REVERSED));
    }
    line
}

/// Where the task stands; with a question mark where that was only so when it was last known.
fn status(row: &Row, state: &State) -> String {
    let sign = sign_of(row.status);
    let doubt = match !state.is_current() && !row.status.is_terminal() {
        true => "?",
        false => "",
    };
    // One column wide each, so that the words begin below each other.
    debug_assert_eq!(width(sign), 1);
    format!("{sign} {}{doubt}", word(row.status))
}

fn name(name: Option<&str>) -> String {
    let name = bounded(name.unwrap_or("-"), NAME_BYTES_MAX);
    safe(&name).into_owned()
}

fn elapsed(row: &Row, state: &State) -> String {
    let now = state.as_of();
    match (row.status, row.started_at) {
        (Status::Running, Some(from)) => brief(now.since(from), false),
        (Status::Suspended, _) => brief(now.since(row.since), false),
        (Status::Pending, _) | (_, None) => "-".to_owned(),
        (_, Some(from)) => brief(row.since.since(from), true),
    }
}
