//! `sidestream watch`: what happens, as it happens, until told to stop; or one task's whole story. In lines,
//! or ([`tui`]) on a screen.

use std::pin::pin;

use sidestream::clock::{Clock, SystemClock};
use sidestream::core::Rejection;
use sidestream::core::wire::TaskRecord;
use sidestream::{ChunkType, Cursor, Filter, Start, StreamOptions, TaskId};
use sidestream_client::{Chunk, Client, Item, StreamRequest};

use crate::args::{Common, WatchArgs};
use crate::commands::run::exit_of;
use crate::console::{Console, Style, cut, padded};
use crate::exit::{Exit, Failure};
use crate::following::Following;
use crate::place::{IfMissing, Local, Place, own_chunk};
use crate::show;
use crate::signals::told_to_stop;

mod tui;

/// Columns of a task's id that are enough to tell it apart.
const ID_COLUMNS: usize = 8;
/// Names longer than this are cut in the columns.
const NAME_COLUMNS_MAX: usize = 20;

pub(crate) async fn watch(
    common: &Common,
    args: WatchArgs,
    console: Console,
) -> Result<Exit, Failure> {
    if args.tui {
        return tui::watch(common, &args, console).await;
    }
    match Place::find(common, IfMissing::Refuse).await? {
        Place::Server(client) => watch_server(common, &client, &args, console).await,
        Place::Store(local) if local.store.is_exclusive() => replay(&local, &args, console).await,
        Place::Store(local) => watch_database(common, local, &args, console).await,
    }
}

/// What servers do on a database that they share with us.
async fn watch_database(
    common: &Common,
    local: Local,
    args: &WatchArgs,
    console: Console,
) -> Result<Exit, Failure> {
    let settings = crate::place::settings(common)?;
    let manager = local.manager(settings.manager).start().await?;
    let manager = manager.in_namespace(local.namespace);
    let id = args.id.as_deref().map(TaskId::new).transpose()?;
    let mut options = StreamOptions {
        filter: args.filter()?,
        snapshot: args.snapshot.into(),
        ..StreamOptions::default()
    };
    if let Some(id) = &id {
        if manager.get(id).await?.is_none() {
            return Err(Rejection::NotFound(id.clone()).into());
        }
        options.filter = Filter::default().task(id.clone()).types(ChunkType::ALL);
        options.start = Start::After("0".parse()?);
        options.ends_with_task = true;
    }
    if let Some(after) = &args.after {
        options.start = Start::After(after.parse()?);
    }
    let mut stream = manager.stream(options).await?;
    let mut lines = Lines::new(console);
    let mut told_to_stop = pin!(told_to_stop());
    let exit = loop {
        let item = tokio::select! {
            item = stream.next() => item,
            _ = &mut told_to_stop => {
                if let Some(cursor) = stream.cursor().filter(|_| id.is_none()) {
                    console.note(&format!("go on from here with --after {cursor}"));
                }
                break Exit::Done;
            }
        };
        match item {
            Some(item) => {
                if let Some(chunk) = item?.chunk {
                    lines.show(&own_chunk(&chunk))?;
                }
            }
            None => {
                let id = id.as_ref().expect("only a story ends by itself");
                let task = manager.get(id).await?;
                break exit_of(task.as_ref().map(TaskRecord::from).as_ref());
            }
        }
    };
    manager.shutdown().await;
    Ok(exit)
}

fn request(args: &WatchArgs) -> Result<StreamRequest, Failure> {
    let request = match &args.id {
        Some(id) => StreamRequest::story(TaskId::new(id.as_str())?),
        None => StreamRequest::watch(args.filter()?).snapshot(args.snapshot.into()),
    };
    Ok(match &args.after {
        Some(cursor) => request.after(cursor),
        None => request,
    })
}

async fn watch_server(
    common: &Common,
    client: &Client,
    args: &WatchArgs,
    console: Console,
) -> Result<Exit, Failure> {
    let mut following = Following::new(common, client, request(args)?);
    let mut lines = Lines::new(console);
    let mut told_to_stop = pin!(told_to_stop());
    let mut has_connected = false;
    let mut is_lost = false;
    loop {
        let item = tokio::select! {
            item = following.next() => item,
            _ = &mut told_to_stop => {
                let cursor = following.stream().cursor();
                if let Some(cursor) = cursor.filter(|_| args.id.is_none()) {
                    console.note(&format!("go on from here with --after {cursor}"));
                }
                return Ok(Exit::Done);
            }
        };
        match item {
            None => return Ok(exit_of(following.stream().ended_task())),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(Item::Chunk(chunk))) => lines.show(&chunk)?,
            Some(Ok(Item::Connected)) => {
                if is_lost {
                    console.note(&console.paint_error(Style::Dim, "connected again"));
                }
                (has_connected, is_lost) = (true, false);
            }
            // At the beginning it is most likely a mistake in the address; later the server restarts.
            Some(Ok(Item::Lost { error, .. })) if !has_connected => return Err(error.into()),
            Some(Ok(Item::Lost { error, .. })) => {
                if !is_lost {
                    let lost = format!("{error}; connecting again…");
                    console.note(&console.paint_error(Style::Yellow, &lost));
                }
                is_lost = true;
            }
            Some(Ok(_)) => {}
        }
    }
}

/// Where no server runs nothing happens: there is only the log.
async fn replay(local: &Local, args: &WatchArgs, console: Console) -> Result<Exit, Failure> {
    let mut lines = Lines::new(console);
    if let Some(id) = &args.id {
        let id = TaskId::new(id.as_str())?;
        let place = Place::Store(local.clone());
        let task = place.get(&id).await?;
        let after = cursor(args, "0")?;
        local
            .replay(after.seq, |_| true, Some(&id), |chunk| lines.show(chunk))
            .await?;
        if !task.status.is_terminal() {
            console.note(&format!("the task is {}, and no server runs", task.status));
        }
        return Ok(exit_of(Some(&task)));
    }
    if args.after.is_none() {
        let message = format!("no server runs on the data directory {}", local.name);
        return Err(Failure::unreachable(message).hint(
            "`sidestream serve` starts one; --after 0 shows what has happened, `sidestream watch ID` a \
             task's story",
        ));
    }
    let (filter, after) = (args.filter()?, cursor(args, "0")?);
    let is_wanted = |chunk: &sidestream::Chunk| {
        let is_of = chunk
            .task
            .as_ref()
            .is_some_and(|task| filter.matches_task(task));
        is_of && filter.matches_type(chunk.chunk_type)
    };
    local
        .replay(after.seq, is_wanted, None, |chunk| lines.show(chunk))
        .await?;
    console.note("no server runs: this is all there is");
    Ok(Exit::Done)
}

fn cursor(args: &WatchArgs, default: &str) -> Result<Cursor, Failure> {
    Ok(args.after.as_deref().unwrap_or(default).parse()?)
}

/// Chunks as lines, in columns that grow with what they hold.
struct Lines {
    console: Console,
    agent_columns: usize,
    tool_columns: usize,
}

impl Lines {
    fn new(console: Console) -> Self {
        Self {
            console,
            agent_columns: 0,
            tool_columns: 0,
        }
    }

    fn show(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        if self.console.json {
            return self.console.data(chunk.json());
        }
        let line = self.line(chunk);
        match self.console.width() {
            Some(width) => self.console.data(&cut(&line, width)),
            None => self.console.data(&line),
        }
    }

    fn line(&mut self, chunk: &Chunk) -> String {
        let (console, payload, told) = (self.console, &chunk.payload, show::told(chunk));
        let at = payload
            .completed_at
            .or(payload.suspended_at)
            .or(payload.started_at);
        let at = show::time_of_day(at.unwrap_or_else(|| SystemClock.now()));
        let id = payload.task_id.as_ref().map_or("", |id| id.short());
        let agent = name(payload.agent_id.as_deref(), &mut self.agent_columns);
        let tool = name(payload.tool_name.as_deref(), &mut self.tool_columns);
        let what = console.paint(told.style, &format!("{} {}", told.mark, told.text));
        let (at, id) = (
            console.paint(Style::Dim, &at),
            console.paint(Style::Dim, &padded(&crate::console::plain(id), ID_COLUMNS)),
        );
        let agent = console.paint(Style::Cyan, &agent);
        format!("{at}  {id}  {agent}  {tool}  {what}")
    }
}

/// A name in its column, which grows if it must.
fn name(name: Option<&str>, columns: &mut usize) -> String {
    let name = crate::console::plain(name.unwrap_or("-")).into_owned();
    let name = cut(&name, NAME_COLUMNS_MAX);
    *columns = console::measure_text_width(&name).max(*columns);
    padded(&name, *columns)
}
