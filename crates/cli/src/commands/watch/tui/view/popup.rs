//! What lies over the rest: the help, and what the user is asked or is writing.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::super::input::Input;
use super::super::keys::HELP;
use super::super::state::Prompt;
use super::super::text::{cut, fitted, safe, tail, width, wrapped};
use super::Paint;
use crate::console::Style;

/// Columns of a question, at most.
const COLUMNS_MAX: u16 = 76;
/// Rows of what a question is about, at most.
const ABOUT_ROWS_MAX: usize = 10;

pub(super) fn draw_help(frame: &mut Frame, area: Rect, paint: Paint) {
    let lines = HELP.map(|(keys, words)| {
        let keys = paint.span(Style::Bold, format!(" {}", fitted(keys, 10)));
        Line::from(vec![keys, Span::raw(words)])
    });
    draw_box(frame, area, "Keys", lines.to_vec(), paint);
}

pub(super) fn draw_prompt(
    frame: &mut Frame,
    area: Rect,
    foot: Rect,
    prompt: &Prompt,
    paint: Paint,
) {
    let columns = usize::from(box_columns(area)).saturating_sub(4);
    match prompt {
        Prompt::Search { input, .. } => {
            frame.render_widget(Clear, foot);
            let mut spans = vec![paint.span(Style::Bold, " / ")];
            spans.extend(written(input, usize::from(foot.width).saturating_sub(6)));
            frame.render_widget(Line::from(spans), foot);
        }
        Prompt::Sure { what, about, .. } => {
            let mut lines = about_lines(about, columns);
            lines.push(Line::default());
            let hint = paint.span(Style::Bold, " y yes   any other key: no");
            lines.push(Line::from(hint));
            draw_box(frame, area, what, lines, paint);
        }
        Prompt::Answer {
            what,
            about,
            input,
            fault,
            ..
        } => {
            let mut lines = about_lines(about, columns);
            lines.push(Line::default());
            let mut spans = vec![paint.span(Style::Bold, " > ")];
            spans.extend(written(input, columns.saturating_sub(4)));
            lines.push(Line::from(spans));
            lines.push(match fault {
                Some(fault) => {
                    let fault = cut(&format!(" {fault}"), columns).into_owned();
                    Line::from(paint.span(Style::Red, fault))
                }
                None => Line::default(),
            });
            let hint = paint.span(Style::Bold, " Enter resume   Esc leave it");
            lines.push(Line::from(hint));
            draw_box(frame, area, what, lines, paint);
        }
    }
}

fn about_lines<'a>(about: &str, columns: usize) -> Vec<Line<'a>> {
    let lines = about.lines().flat_map(|line| wrapped(line, columns));
    let mut lines: Vec<_> = lines.map(|row| Line::from(format!(" {row}"))).collect();
    if lines.len() > ABOUT_ROWS_MAX {
        lines.truncate(ABOUT_ROWS_MAX - 1);
        lines.push(Line::from(" …"));
    }
    lines
}

/// What is written, as far as it fits, with its cursor.
fn written<'a>(input: &Input, columns: usize) -> Vec<Span<'a>> {
    let (before, behind) = input.around();
    let before = safe(before);
    let before = tail(&before, columns.saturating_sub(1)).to_owned();
    let behind = safe(behind);
    let mut chars = behind.chars();
    let at = chars.next().unwrap_or(' ').to_string();
    let room = columns.saturating_sub(width(&before) + width(&at));
    let rest = cut(chars.as_str(), room).into_owned();
    let mut cursor = Span::raw(at);
    cursor.style = cursor.style.add_modifier(Modifier::REVERSED);
    vec![Span::raw(before), cursor, Span::raw(rest)]
}

fn box_columns(area: Rect) -> u16 {
    COLUMNS_MAX.min(area.width.saturating_sub(2))
}

fn draw_box(frame: &mut Frame, area: Rect, title: &str, lines: Vec<Line<'_>>, paint: Paint) {
    let columns = box_columns(area);
    let rows = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let rows = rows.min(area.height);
    let place = Rect::new(
        area.x + (area.width - columns) / 2,
        area.y + (area.height - rows) / 2,
        columns,
        rows,
    );
    let title = cut(title, usize::from(columns).saturating_sub(4)).into_owned();
    let title = paint.span(Style::Bold, format!(" {title} "));
    frame.render_widget(Clear, place);
    let block = Block::bordered().title(title);
    frame.render_widget(Paragraph::new(lines).block(block), place);
}
