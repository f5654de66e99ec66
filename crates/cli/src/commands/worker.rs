//! `sidestream worker`: runs the command tools of the configuration for a server elsewhere, until told to
//! stop.

use std::time::Duration;

use sidestream_client::worker::Worker;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::args::{Common, WorkerArgs};
use crate::commands::serve::{start_log, stop_when_told};
use crate::config::keys::find;
use crate::config::{Settings, Sources};
use crate::console::{Console, Style};
use crate::exit::{Exit, Failure};
use crate::place;

pub(crate) async fn worker(
    common: &Common,
    args: WorkerArgs,
    console: Console,
) -> Result<Exit, Failure> {
    let name = args.name.clone().unwrap_or_else(machine);
    let settings = settings(common, args)?;
    start_log(&settings)?;
    let client = place::server(common, &settings.data)?;
    let server = client.base().to_owned();
    let tools = settings.tools.values().map(|tool| tool.tool.clone());
    let starting = Worker::builder(client)
        .name(name)
        .tools(tools)
        .concurrency(settings.manager.concurrency)
        .lease(Duration::from_millis(settings.manager.lease_ms))
        .grace(settings.manager.grace)
        .start();

    let shutdown = CancellationToken::new();
    let mut signals = JoinSet::new();
    signals.spawn(stop_when_told(shutdown.clone(), console));
    let Some(worker) = shutdown.run_until_cancelled(starting).await else {
        return Ok(Exit::Done);
    };
    let worker = worker?;
    let url = console.paint_error(Style::Bold, &server);
    console.note(&format!("sidestream works for {url} as {}", worker.id()));

    tokio::select! {
        () = shutdown.cancelled() => {
            worker.shutdown().await;
            tracing::info!("stopped");
            Ok(Exit::Done)
        }
        error = worker.refused() => {
            worker.shutdown().await;
            Err(error.into())
        }
    }
}

/// The configuration, with the flags that are a worker's.
fn settings(common: &Common, args: WorkerArgs) -> Result<Settings, Failure> {
    let given = [
        ("store", "data", common.data.clone()),
        ("manager", "concurrency", args.concurrency),
        ("manager", "lease_ms", args.lease_ms),
        ("manager", "grace_ms", args.grace_ms),
        ("server", "log", args.log),
        ("server", "log_format", args.log_format),
    ];
    let flags = given.into_iter().filter_map(|(section, name, text)| {
        let key = find(section, name).expect("it is a key");
        Some((key, text?))
    });
    let sources = Sources::of_process(flags.collect(), common.config.clone());
    let settings = place::resolve(&sources)?;
    if !settings.tools.values().any(|tool| tool.tool.can_run()) {
        let message = "there is no tool to run: none in the configuration has a command";
        return Err(Failure::bad_input(message).hint(
            "tools are named in sidestream.toml, as [tools.NAME]; --config says which file",
        ));
    }
    Ok(settings)
}

/// What tasks say of who runs them.
fn machine() -> String {
    #[cfg(unix)]
    if let Ok(name) = rustix::system::uname().nodename().to_str()
        && !name.is_empty()
    {
        return name.to_owned();
    }
    "worker".to_owned()
}
