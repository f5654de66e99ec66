//! `sidestream list`: tasks, page by page.

use sidestream::core::wire::TaskRecord;
use sidestream_client::ListRequest;

use crate::args::{Common, ListArgs};
use crate::console::{Console, Style, cut, plain, table};
use crate::exit::{Exit, Failure};
use crate::place::{IfMissing, Place};
use crate::show;

/// So many tasks at a time, where all are listed. No server gives more.
const PAGE: usize = 1_000;

pub(crate) async fn list(
    common: &Common,
    args: ListArgs,
    console: Console,
) -> Result<Exit, Failure> {
    let place = Place::find(common, IfMissing::Refuse).await?;
    let mut left = if args.all { usize::MAX } else { args.limit };
    let mut request = ListRequest {
        statuses: args.status,
        agent_id: args.whose.agent,
        run_id: args.whose.run,
        thread_id: args.whose.thread,
        resource_id: args.whose.resource,
        tool_name: args.tool,
        is_descending: !args.oldest_first,
        ..ListRequest::default()
    };
    let mut shown = 0;
    let total = loop {
        request.limit = Some(left.min(PAGE));
        let page = place.list(&request).await?;
        show_page(&page.tasks, shown == 0, console)?;
        shown += page.tasks.len();
        left -= page.tasks.len();
        request.cursor = page.next_cursor;
        if left == 0 || request.cursor.is_none() {
            break page.total;
        }
    };
    if !console.json {
        console.note(&match usize::try_from(total) {
            Ok(0) => "no task matches".to_owned(),
            Ok(1) if shown == 1 => "1 task".to_owned(),
            Ok(total) if total > shown => format!("{shown} of {total} tasks; --all shows all"),
            _ => format!("{shown} tasks"),
        });
    }
    Ok(Exit::Done)
}

fn show_page(tasks: &[TaskRecord], is_first: bool, console: Console) -> Result<(), Failure> {
    if console.json {
        return tasks.iter().try_for_each(|task| console.json(task));
    }
    let lines = tasks_table(tasks, console);
    let skipped = usize::from(!is_first || tasks.is_empty());
    lines
        .iter()
        .skip(skipped)
        .try_for_each(|line| console.data(line))
}

/// Tasks as a table, the header first.
pub(crate) fn tasks_table(tasks: &[TaskRecord], console: Console) -> Vec<String> {
    let header = [
        "ID",
        "STATUS",
        "TOOL",
        "AGENT",
        "ATTEMPT",
        "DISPATCHED",
        "TOOK",
        "OUTCOME",
    ];
    let rows: Vec<_> = tasks.iter().map(|task| row(task, console)).collect();
    let lines = table(&header, &rows);
    lines
        .into_iter()
        .enumerate()
        .map(|(at, line)| match (at, console.width()) {
            (0, _) => console.paint(Style::Bold, &line),
            (_, Some(width)) => cut(&line, width).into_owned(),
            (_, None) => line,
        })
        .collect()
}

fn row(task: &TaskRecord, console: Console) -> Vec<String> {
    let at = task.created_at.to_string();
    let at = at.get(..19).unwrap_or(&at).replace('T', " ");
    let outcome = show::outcome(task);
    let outcome = match console.width() {
        Some(_) => outcome,
        // Where nothing cuts a line, a long result would hide the table.
        None => cut(&outcome, 80).into_owned(),
    };
    vec![
        plain(task.id.as_str()).into_owned(),
        console.paint(show::style_of(task.status), task.status.as_str()),
        plain(&task.tool_name).into_owned(),
        plain(task.agent_id.as_deref().unwrap_or("-")).into_owned(),
        task.attempt.to_string(),
        at,
        show::took(task).unwrap_or_else(|| "-".into()),
        outcome,
    ]
}
