//! One task's page: what it is, and its output, timeline and data; side by side where there is room.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use sidestream::core::wire::TaskRecord;
use sidestream::{Status, Timestamp};

use super::super::page::{DataLine, Pane, Scroll, TaskPage};
use super::super::state::{State, brief, word};
use super::super::text::{bounded, cut, fitted, safe, width, wrapped};
use super::{Paint, sign_of};
use crate::console::Style;
use crate::show;

/// From so many columns on, the parts are side by side.
const COLUMNS_FOR_ALL: u16 = 120;
/// Of a name so many bytes are shown.
const NAME_BYTES_MAX: usize = 400;

pub(super) fn draw(frame: &mut Frame, area: Rect, state: &mut State, paint: Paint) {
    let (now, is_current) = (state.as_of(), state.is_current());
    let Some(page) = &mut state.page else { return };
    let facts = facts(page, now, is_current, paint);
    let facts_height = u16::try_from(facts.len()).unwrap_or(4);
    let [top, tabs, body] = Layout::vertical([
        Constraint::Length(facts_height.min(area.height / 3)),
        Constraint::Length(1),
        Constraint::Fill(1),
    ])
    .areas(area);
    for (line, fact) in facts.into_iter().enumerate().take(usize::from(top.height)) {
        let y = top.y + u16::try_from(line).unwrap_or(0);
        frame.render_widget(fact, Rect::new(top.x, y, top.width, 1));
    }
    if area.width < COLUMNS_FOR_ALL {
        let mut spans = vec![Span::raw(" ")];
        for pane in Pane::ALL {
            spans.push(title(page, pane, pane == page.pane, paint));
            spans.push(Span::raw("  "));
        }
        frame.render_widget(Line::from(spans), tabs);
        draw_pane(frame, body, page, page.pane, paint);
        return;
    }
    let [left, right] = Layout::horizontal([Constraint::Percentage(45), Constraint::Fill(1)])
        .spacing(1)
        .areas(Rect::new(
            tabs.x,
            tabs.y,
            tabs.width,
            tabs.height + body.height,
        ));
    let moments = u16::try_from(page.story.moments.len()).unwrap_or(u16::MAX);
    // An event can take two rows.
    let timeline = moments
        .saturating_mul(2)
        .saturating_add(2)
        .clamp(4, (left.height / 2).max(4));
    let [above, below] =
        Layout::vertical([Constraint::Length(timeline), Constraint::Fill(1)]).areas(left);
    for (pane, area) in [
        (Pane::Output, right),
        (Pane::Timeline, above),
        (Pane::Data, below),
    ] {
        let [head, body] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let title = title(page, pane, pane == page.pane, paint);
        frame.render_widget(Line::from(vec![Span::raw(" "), title]), head);
        draw_pane(frame, body, page, pane, paint);
    }
}

/// What the task is, in a few lines.
fn facts<'a>(page: &TaskPage, now: Timestamp, is_current: bool, paint: Paint) -> Vec<Line<'a>> {
    let label = |name: &str| paint.span(Style::Dim, format!("  {name}: "));
    let text = |text: &str| Span::raw(safe(&bounded(text, NAME_BYTES_MAX)).into_owned());
    let mut first = vec![Span::raw(" ")];
    if let Some(status) = page.status() {
        let doubt = match is_current || status.is_terminal() {
            true => "",
            false => "?",
        };
        let words = format!("{} {}{doubt}", sign_of(status), word(status));
        let mut span = paint.span(show::style_of(status), words);
        span.style = span.style.add_modifier(Modifier::BOLD);
        first.extend([span, Span::raw("  ")]);
    }
    let Some(record) = &page.record else {
        let words = match page.is_gone {
            true => "this task does not exist any more",
            false => "loading",
        };
        first.push(Span::raw(words));
        return vec![
            Line::from(first),
            Line::from(vec![label("id"), text(page.id.as_str())]),
        ];
    };
    let mut tool = text(&record.tool_name);
    tool.style = tool.style.add_modifier(Modifier::BOLD);
    first.push(tool);
    if page.is_gone {
        let gone = paint.span(Style::Yellow, "  (it does not exist any more)");
        first.push(gone);
    }
    let mut whose = vec![label("id"), text(page.id.as_str())];
    for (name, value) in [
        ("agent", &record.agent_id),
        ("run", &record.run_id),
        ("thread", &record.thread_id),
        ("resource", &record.resource_id),
    ] {
        if let Some(value) = value {
            whose.extend([label(name), text(value)]);
        }
    }
    let mut times = Vec::new();
    for (name, value) in times_of(record, page.status(), now) {
        times.extend([label(name), text(&value)]);
    }
    vec![Line::from(first), Line::from(whose), Line::from(times)]
}

fn times_of(
    record: &TaskRecord,
    status: Option<Status>,
    now: Timestamp,
) -> Vec<(&'static str, String)> {
    let attempt = match record.max_retries {
        0 => record.attempt.0.to_string(),
        retries => format!("{} of {}", record.attempt.0, retries + 1),
    };
    let mut times = vec![("dispatched", super::time_of_day(record.created_at))];
    if let Some(at) = record.started_at {
        times.push(("started", super::time_of_day(at)));
    }
    if let Some(at) = record.run_at.filter(|_| status == Some(Status::Pending)) {
        times.push(("not before", at.to_string()));
    }
    let is_over = status.is_none_or(Status::is_terminal);
    match (record.started_at, record.completed_at.filter(|_| is_over)) {
        (Some(from), Some(to)) => times.push(("took", brief(to.since(from), true))),
        (Some(from), None) if status == Some(Status::Running) => {
            times.push(("for", brief(now.since(from), false)));
        }
        _ => {}
    }
    times.push(("attempt", attempt));
    times
}

fn title<'a>(page: &TaskPage, pane: Pane, is_focused: bool, paint: Paint) -> Span<'a> {
    let count = match pane {
        Pane::Output => match page.story.lines.len() as u64 + page.story.lines_gone {
            1 => "1 line".to_owned(),
            lines => format!("{lines} lines"),
        },
        Pane::Timeline => match page.story.moments.len() {
            1 => "1 event".to_owned(),
            moments => format!("{moments} events"),
        },
        Pane::Data => String::new(),
    };
    let held = match pane {
        Pane::Output if !page.scrolls[pane as usize].follows => " held",
        _ => "",
    };
    let text = format!(" {} {count}{held} ", pane.title());
    let text = text.replace("  ", " ");
    let mut span = paint.span(Style::Plain, text);
    if is_focused {
        span.style = span.style.add_modifier(Modifier::REVERSED | Modifier::BOLD);
    }
    span
}

fn draw_pane(frame: &mut Frame, area: Rect, page: &mut TaskPage, pane: Pane, paint: Paint) {
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    let mut scroll = page.scrolls[pane as usize];
    let lines = match pane {
        Pane::Output => output(page, &mut scroll, columns, rows, paint),
        Pane::Timeline => timeline(page, &mut scroll, columns, rows, paint),
        Pane::Data => data(page, &mut scroll, columns, rows, paint),
    };
    page.scrolls[pane as usize] = scroll;
    if scroll.lines == 0 {
        let words = match pane {
            Pane::Output if page.is_told => "It said nothing.",
            Pane::Output => "Nothing said yet.",
            _ => "",
        };
        let words = paint.span(Style::Dim, cut(&format!("  {words}"), columns).into_owned());
        frame.render_widget(Line::from(words), area);
        return;
    }
    for (line, y) in lines.into_iter().zip(area.y..area.bottom()) {
        frame.render_widget(line, Rect::new(area.x, y, area.width, 1));
    }
}

/// The rows that can be seen: from the end, if it is followed, else from the top. A line that is too long goes
/// on in the next row.
fn rows_of<'a>(
    scroll: &mut Scroll,
    lines: usize,
    rows: usize,
    rows_of_line: impl Fn(usize) -> Vec<Line<'a>>,
) -> Vec<Line<'a>> {
    (scroll.lines, scroll.height) = (lines, rows);
    let mut seen = Vec::new();
    if scroll.follows {
        for at in (0..lines).rev() {
            let mut line = rows_of_line(at);
            line.append(&mut seen);
            seen = line;
            if seen.len() >= rows {
                break;
            }
        }
        let over = seen.len().saturating_sub(rows);
        seen.drain(..over);
    } else {
        for at in scroll.top.min(lines.saturating_sub(1))..lines {
            seen.extend(rows_of_line(at));
            if seen.len() >= rows {
                break;
            }
        }
        seen.truncate(rows);
    }
    seen
}

/// A text in rows, behind a beginning that the first of them has.
fn in_rows<'a>(
    before: Span<'a>,
    text: &str,
    style: Style,
    columns: usize,
    paint: Paint,
) -> Vec<Line<'a>> {
    let indent = before.width();
    let rows = wrapped(text, columns.saturating_sub(indent + 1));
    let rows = rows.into_iter().enumerate().map(|(at, row)| {
        let first = match at {
            0 => before.clone(),
            _ => Span::raw(fitted("", indent)),
        };
        Line::from(vec![first, paint.span(style, row.to_owned())])
    });
    rows.collect()
}

fn output<'a>(
    page: &TaskPage,
    scroll: &mut Scroll,
    columns: usize,
    rows: usize,
    paint: Paint,
) -> Vec<Line<'a>> {
    let story = &page.story;
    // A line of its own says what is missing at the beginning.
    let gone = usize::from(story.lines_gone > 0);
    rows_of(scroll, story.lines.len() + gone, rows, |at| {
        if at < gone {
            let words = format!("… ({} earlier lines are not kept here)", story.lines_gone);
            return in_rows(Span::raw("  "), &words, Style::Dim, columns, paint);
        }
        let line = &story.lines[at - gone];
        let (sign, style) = match line.is_error {
            true => ("! ", Style::Yellow),
            false => ("  ", Style::Plain),
        };
        in_rows(paint.span(style, sign), &line.text, style, columns, paint)
    })
}

fn timeline<'a>(
    page: &TaskPage,
    scroll: &mut Scroll,
    columns: usize,
    rows: usize,
    paint: Paint,
) -> Vec<Line<'a>> {
    let moments = &page.story.moments;
    // The dispatch does not tell its time: the record does.
    let dispatched_at = page.record.as_ref().map(|record| record.created_at);
    let time = |at: usize| match (at, moments[at].at) {
        (0, None) if moments[0].text == "dispatched" => dispatched_at,
        (_, time) => time,
    };
    rows_of(scroll, moments.len(), rows, |at| {
        let moment = &moments[at];
        let at_text = time(at).map_or_else(String::new, show::time_of_day);
        let before = (0..at).rev().find_map(time);
        let after = match (before, time(at)) {
            (Some(before), Some(time)) => format!("+{}", brief(time.since(before), true)),
            _ => String::new(),
        };
        let text = match moment.outputs {
            0 => moment.text.clone(),
            1 => "1 output".to_owned(),
            outputs => format!("{outputs} outputs"),
        };
        let begin = format!("  {} {} ", fitted(&at_text, 12), fitted(&after, 7));
        let sign = moment.mark;
        let begin = paint.span(Style::Dim, begin);
        let indent = begin.width() + width(sign) + 1;
        let mut lines = in_rows(
            Span::raw(fitted("", indent)),
            &text,
            moment.style,
            columns,
            paint,
        );
        if let Some(first) = lines.first_mut() {
            let sign = paint.span(moment.style, format!("{sign} "));
            first.spans.splice(..1, [begin, sign]);
        }
        lines
    })
}

fn data<'a>(
    page: &TaskPage,
    scroll: &mut Scroll,
    columns: usize,
    rows: usize,
    paint: Paint,
) -> Vec<Line<'a>> {
    rows_of(scroll, page.data.len(), rows, |at| match &page.data[at] {
        DataLine::Heading(name) => {
            let name = paint.span(Style::Bold, format!("  {name}"));
            vec![Line::from(name)]
        }
        DataLine::Text(text) => in_rows(Span::raw("    "), text, Style::Plain, columns, paint),
    })
}
