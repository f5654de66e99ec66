//! `sidestream run`: dispatches a task; or, where no server runs, runs it here.

use std::collections::BTreeMap;
use std::io::Read;
use std::pin::pin;

use sidestream::core::wire::TaskRecord;
use sidestream::{
    ChunkType, Dispatched, Filter, Json, NewTask, SnapshotKind, Status, StreamOptions, TaskId,
    TaskManager, Tool,
};
use sidestream_client::{Client, Dispatched as Sent, Item, StreamRequest};

use crate::args::{Common, RunArgs};
use crate::config::ConfiguredTool;
use crate::console::{Console, Style, plain};
use crate::exit::{Exit, Failure};
use crate::following::Following;
use crate::place::{self, IfMissing, Local, Place, own_chunk};
use crate::show;
use crate::signals::told_to_stop;

pub(crate) mod command_tool;

pub(crate) async fn run(common: &Common, args: RunArgs, console: Console) -> Result<Exit, Failure> {
    let is_followed = args.follow || !args.command.is_empty();
    let task = new_task(args)?;
    match Place::find(common, IfMissing::Create).await? {
        Place::Server(client) => send(common, &client, &task, is_followed, console).await,
        Place::Store(local) => run_here(common, local, task, console).await,
    }
}

fn new_task(args: RunArgs) -> Result<NewTask, Failure> {
    let (tool_name, json, description) = match args.tool {
        Some(tool) => {
            let json = args.args.as_deref().map(|text| read_json("--args", text));
            (tool, json.transpose()?, None)
        }
        None => {
            let command = args.command.join(" ");
            let json = command_tool::args(args.command)?;
            (command_tool::NAME.to_owned(), Some(json), Some(command))
        }
    };
    Ok(NewTask {
        tool_name,
        tool_call_id: args.tool_call,
        args: json,
        agent_id: args.whose.agent,
        run_id: args.whose.run,
        thread_id: args.whose.thread,
        resource_id: args.whose.resource,
        timeout_ms: args.timeout_ms,
        max_retries: args.max_retries,
        priority: args.priority,
        run_at: args.run_at,
        description: args.description.or(description),
        idempotency_key: args.idempotency_key,
        ..NewTask::default()
    })
}

/// JSON as a flag gives it: itself, `@FILE`, or `-` for the standard input.
pub(crate) fn read_json(flag: &str, text: &str) -> Result<Json, Failure> {
    let text = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| {
            Failure::bad_input(format!("{flag}: {path} cannot be read: {error}"))
        })?,
        None if text == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| {
                    Failure::bad_input(format!(
                        "{flag}: the standard input cannot be read: {error}"
                    ))
                })?;
            text
        }
        None => text.to_owned(),
    };
    Json::from_text(text.trim()).map_err(|error| {
        Failure::bad_input(format!("{flag} is not JSON: {error}"))
            .hint("a text needs its quotes: '\"text\"'; an object looks like '{\"name\": 1}'")
    })
}

/// Has a server run it.
async fn send(
    common: &Common,
    client: &Client,
    task: &NewTask,
    is_followed: bool,
    console: Console,
) -> Result<Exit, Failure> {
    let record = match client.dispatch(task).await {
        Ok(Sent::New(record)) => record,
        Ok(Sent::Known(record)) => {
            console.note("the same dispatch was made before: this is its task");
            record
        }
        Ok(Sent::FallbackToSync) => return Err(no_slot()),
        Err(error) => return Err(refused(error, task)),
    };
    if is_followed {
        return follow(common, client, &record.id, console).await;
    }
    if console.json {
        console.json(&record)?;
    } else {
        console.data(record.id.as_str())?;
        console.note(&format!(
            "dispatched; `sidestream watch {}` shows what it does",
            record.id
        ));
    }
    Ok(Exit::Done)
}

fn no_slot() -> Failure {
    Failure::new(
        Exit::Refused,
        "no slot is free, and the server does not queue: run the tool yourself",
    )
}

fn refused(error: sidestream_client::Error, task: &NewTask) -> Failure {
    let is_of_tool =
        error.problem().and_then(|problem| problem.field.as_deref()) == Some("toolName");
    let failure = Failure::from(error);
    if is_of_tool && task.tool_name == command_tool::NAME {
        return failure.hint(
            "this server runs no commands of its clients; start it with --allow-commands=true, or name them \
             as tools in sidestream.toml",
        );
    }
    failure
}

/// Shows a task's story from a server, and ends as the task does.
async fn follow(
    common: &Common,
    client: &Client,
    id: &TaskId,
    console: Console,
) -> Result<Exit, Failure> {
    let request = StreamRequest::story(id.clone());
    let mut story = Following::new(common, client, request);
    let mut told_to_stop = pin!(told_to_stop());
    loop {
        let item = tokio::select! {
            item = story.next() => item,
            _ = &mut told_to_stop => {
                console.note(&format!("the task goes on; `sidestream watch {id}` shows it again"));
                return Ok(Exit::Interrupted);
            }
        };
        match item {
            Some(Ok(Item::Chunk(chunk))) => show_followed(&chunk, console)?,
            Some(Ok(Item::Lost { error, again_in })) => {
                let seconds = again_in.as_secs_f64();
                console.note(&format!("{error}; connecting again in {seconds:.1} s"));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error.into()),
            None => break,
        }
    }
    Ok(exit_of(story.stream().ended_task()))
}

/// How the program ends after a task that it waited for.
pub(crate) fn exit_of(task: Option<&TaskRecord>) -> Exit {
    match task {
        Some(task) if task.status == Status::Completed => Exit::Done,
        _ => Exit::TaskNotCompleted,
    }
}

/// Outputs are data; everything else about the task is said beside them.
fn show_followed(chunk: &sidestream_client::Chunk, console: Console) -> Result<(), Failure> {
    if console.json {
        return console.data(chunk.json());
    }
    if chunk.chunk_type == Some(ChunkType::Output)
        && let Some(payload) = &chunk.payload.payload
    {
        let output = show::output(payload);
        let lines = output.text.lines().map(|line| match console.is_terminal {
            true => plain(line).into_owned(),
            false => line.to_owned(),
        });
        for line in lines {
            if output.is_error {
                console.note(&line);
            } else {
                console.data(&line)?;
            }
        }
        return Ok(());
    }
    let told = show::told(chunk);
    // The result of a command is what it wrote: it has been shown.
    let is_command = chunk.payload.tool_name.as_deref() == Some(command_tool::NAME);
    let text = match chunk.chunk_type {
        Some(ChunkType::Completed) if is_command => "completed",
        _ => told.text.as_str(),
    };
    console.note(&console.paint_error(told.style, &format!("{} {text}", told.mark)));
    Ok(())
}

/// Runs it in this process: where it has the data to itself, until the task has ended.
async fn run_here(
    common: &Common,
    local: Local,
    task: NewTask,
    console: Console,
) -> Result<Exit, Failure> {
    let settings = place::settings(common)?;
    let tool = if task.tool_name == command_tool::NAME {
        command_tool::tool_here()
    } else {
        named(&settings.tools, &task.tool_name)?
    };
    let manager = local.manager(settings.manager).tool(tool);
    let manager = manager.start().await?.in_namespace(local.namespace);
    let ended = run_to_end(&manager, task, console).await;
    manager.shutdown().await;
    let ended = ended?;
    Ok(exit_of(ended.as_ref()))
}

fn named(tools: &BTreeMap<String, ConfiguredTool>, name: &str) -> Result<Tool, Failure> {
    let found = tools.get(name).map(|found| found.tool.clone());
    if found.as_ref().is_some_and(|tool| !tool.can_run()) {
        let message = format!("no server runs, and {name:?} has no command to be run here");
        return Err(Failure::bad_input(message));
    }
    found.ok_or_else(|| {
        let names: Vec<_> = tools.keys().map(String::as_str).collect();
        let known = match names.as_slice() {
            [] => "no tool is configured".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Failure::bad_input(format!(
            "no server runs, and {name:?} is no tool of the configuration: {known}"
        ))
        .hint("tools are named in sidestream.toml, as [tools.NAME]; --config says which file")
    })
}

async fn run_to_end(
    manager: &TaskManager,
    task: NewTask,
    console: Console,
) -> Result<Option<TaskRecord>, Failure> {
    let id = match manager.dispatch(task).await? {
        Dispatched::New(task) => task.id().clone(),
        Dispatched::Known(task) => {
            console.note("the same dispatch was made before: this is its task");
            task.id().clone()
        }
        Dispatched::FallbackToSync => return Err(no_slot()),
    };
    let options = StreamOptions {
        filter: Filter::default().task(id.clone()).types(ChunkType::ALL),
        start: sidestream::Start::After("0".parse()?),
        snapshot: SnapshotKind::None,
        ends_with_task: true,
        ..StreamOptions::default()
    };
    let mut story = manager.stream(options).await?;
    let mut told_to_stop = pin!(told_to_stop());
    let mut is_told = false;
    loop {
        tokio::select! {
            item = story.next() => match item {
                Some(item) => {
                    if let Some(chunk) = item?.chunk {
                        show_followed(&own_chunk(&chunk), console)?;
                    }
                }
                None => break,
            },
            // The task runs here: nobody else can go on with it.
            _ = &mut told_to_stop, if !is_told => {
                is_told = true;
                console.note(&console.paint_error(Style::Yellow, "told to stop: cancels the task"));
                let _ = manager.cancel(&id).await;
            }
        }
    }
    let task = manager.get(&id).await?;
    Ok(task.as_ref().map(TaskRecord::from))
}
