//! `sidestream serve`: runs tasks and lets clients in, until told to stop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use sidestream::{Store, TaskManager};
use sidestream_server::{BindError, Server};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::args::Common;
use crate::commands::run::command_tool;
use crate::config::flags::SettingFlags;
use crate::config::{ConfiguredTool, Settings, Sources, without_password};
use crate::console::{Console, Style};
use crate::exit::{Exit, Failure};
use crate::place::{self, Announcement};
use crate::signals::told_to_stop;

pub(crate) async fn serve(
    common: &Common,
    SettingFlags(mut flags): SettingFlags,
    console: Console,
) -> Result<Exit, Failure> {
    flags.extend(place::flags(common));
    let settings = place::resolve(&Sources::of_process(flags, common.config.clone()))?;
    start_log(&settings)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }

    let store: Arc<dyn Store> = match &settings.database {
        Some(database) => Arc::new(place::open_database(database).await?),
        None => Arc::new(place::open_to_serve(&settings.data, settings.store.clone()).await?),
    };
    // No task is begun unless the server can start.
    let reserved = Server::reserve(settings.server.clone(), Arc::clone(&store)).await;
    let reserved = reserved.map_err(cannot_listen)?;
    let manager = start_manager(&settings, &store).await?;
    let server = reserved.with(manager.clone());
    let url = url_of(server.local_addr());
    let (announcement, what) = match &settings.database {
        Some(database) => (None, without_password(&database.url)),
        None => (
            Some(Announcement::make(&settings.data, &url)?),
            settings.data.display().to_string(),
        ),
    };
    let url = console.paint_error(Style::Bold, &url);
    console.note(&format!("sidestream serves {what} at {url}"));

    let shutdown = CancellationToken::new();
    let mut signals = JoinSet::new();
    signals.spawn(stop_when_told(shutdown.clone(), console));
    // What the manager does for an event takes several turns, and among thousands of connections each would wait
    // until all of them have had theirs: so they are on threads of their own.
    let connections = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sidestream-http")
        .build()
        .map_err(|error| Failure::unreachable(format!("no threads: {error}")))?;
    let mut serving = JoinSet::new();
    serving.spawn_on(server.run(shutdown), connections.handle());
    let served = serving.join_next().await;
    drop(announcement);
    if let Some(manager) = manager {
        manager.shutdown().await;
    }
    // Only now: what requests began, such as connections to the database, was on these threads.
    connections.shutdown_background();
    if let Some(Err(panicked)) = served {
        std::panic::resume_unwind(panicked.into_panic());
    }
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Without a manager background tasks are disabled.
async fn start_manager(
    settings: &Settings,
    store: &Arc<dyn Store>,
) -> Result<Option<TaskManager>, Failure> {
    if !settings.is_enabled {
        tracing::warn!("background tasks are disabled (manager.enabled)");
        return Ok(None);
    }
    let mut manager = TaskManager::builder_on(Arc::clone(store))
        .config(settings.manager.clone())
        .tools(settings.tools.values().map(ConfiguredTool::to_serve));
    if settings.allow_commands {
        manager = manager.tool(command_tool::tool());
    }
    let manager = manager.start().await?;
    let tools = manager.tools().count();
    let worker = manager.worker_id();
    tracing::info!(tools, %worker, "tasks are run");
    Ok(Some(manager))
}

/// The first time it is told, it ends well; the second time, at once.
pub(crate) async fn stop_when_told(shutdown: CancellationToken, console: Console) {
    if told_to_stop().await.is_err() {
        tracing::error!("signals cannot be listened for");
        return std::future::pending().await;
    }
    tracing::info!("told to stop: ends what runs, within the grace; once more to stop at once");
    shutdown.cancel();
    if told_to_stop().await.is_ok() {
        console.note("stopped at once");
        std::process::exit(i32::from(Exit::Interrupted.code()));
    }
}

pub(crate) fn start_log(settings: &Settings) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| {
        let log = &settings.log;
        Failure::bad_input(format!(
            "server.log is {log:?}, no filter of a log: {error}"
        ))
    })?;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if settings.logs_json {
        log.json().flatten_event(true).try_init()
    } else {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        log.with_ansi(is_terminal).with_target(false).try_init()
    };
    started.map_err(|error| Failure::unreachable(format!("the log cannot be started: {error}")))
}

fn cannot_listen(error: BindError) -> Failure {
    let message = error.to_string();
    match error {
        BindError::NoKeys { .. } => Failure::bad_input(message),
        BindError::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse => {
            Failure::unreachable(message)
                .hint("choose another with --listen, or port 0 for any that is free")
        }
        BindError::Listen { .. } => Failure::unreachable(message),
        BindError::Keys(error) => error.into(),
    }
}

/// The address under which a client on this machine reaches it.
pub(crate) fn url_of(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}
