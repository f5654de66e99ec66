//! Where tasks are: behind a server, in a database that servers share, or in a data directory that nobody
//! serves.
//!
//! Whoever serves a data directory holds its lock, and says in `server.json` beside it under which
//! address. So a command finds the server that has the data it means, and where there is none it opens
//! the data itself, for as long as it needs.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sidestream::chance::SystemChance;
use sidestream::core::wire::TaskRecord;
use sidestream::core::{Command, Rejection};
use sidestream::store::{Answer, ApiKey as KeptKey, LogQuery, PageKey, PageStart, Request};
use sidestream::{
    Builder, Chunk as OwnChunk, Config, Json, ListQuery, Namespace, PostgresStore, Retention, Seq,
    SqliteOptions, SqliteStore, Store, StoreError, StoreErrorKind, TaskId, TaskManager, Timestamp,
};
use sidestream_client::client::ApiKey;
use sidestream_client::{Chunk, Client, Error as ClientError, ListRequest, Page};
use sidestream_server::{NewKey, Role};

use crate::args::Common;
use crate::config::keys::{Key, find};
use crate::config::{Database, Sources, without_password};
use crate::exit::{Exit, Failure};

/// The file in a data directory that says where its server listens.
const SERVER_FILE: &str = "server.json";
/// So long we wait for a data directory that somebody holds, and who may be about to leave or to serve.
const PATIENCE: Duration = Duration::from_secs(2);
/// So often we look, meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a server whose address we found may take to say that it is there.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// Where tasks are.
#[derive(Debug)]
pub(crate) enum Place {
    Server(Client),
    Store(Local),
}

/// The data, opened by us.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) namespace: Namespace,
    /// For people.
    pub(crate) name: String,
}

/// May a data directory be made that is not there?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMissing {
    Create,
    Refuse,
}

/// What `server.json` says.
#[derive(Debug, Serialize, Deserialize)]
struct ServerFile {
    url: String,
    pid: u32,
}

impl Place {
    /// Finds it: the server that is named, else the one that has the data, else the data itself.
    ///
    /// # Errors
    /// When there is neither, or somebody else holds the data.
    pub(crate) async fn find(common: &Common, if_missing: IfMissing) -> Result<Self, Failure> {
        if let Some(client) = named_server(common)? {
            return Ok(Self::Server(client));
        }
        let settings = settings(common)?;
        if let Some(database) = &settings.database {
            return Ok(Self::Store(Local {
                store: Arc::new(open_database(database).await?),
                namespace: namespace(common)?,
                name: without_password(&database.url),
            }));
        }
        Self::of_directory(common, &settings.data, settings.store, if_missing).await
    }

    /// The same, for a data directory.
    pub(crate) async fn of_directory(
        common: &Common,
        directory: &Path,
        options: SqliteOptions,
        if_missing: IfMissing,
    ) -> Result<Self, Failure> {
        let started = tokio::time::Instant::now();
        loop {
            let is_held = is_held(directory);
            if let Some(client) = announced(common, directory)? {
                let greeting = tokio::time::timeout(GREETING_TIMEOUT, client.is_healthy());
                if greeting.await.is_ok_and(|is_healthy| is_healthy) {
                    return Ok(Self::Server(client));
                }
            }
            let has_database = directory.join("sidestream.db").is_file();
            if if_missing == IfMissing::Refuse && !has_database && !is_held {
                return Err(nothing_there(directory));
            }
            match SqliteStore::open(directory, options.clone()) {
                Ok(store) => {
                    return Ok(Self::Store(Local {
                        store: Arc::new(store),
                        namespace: namespace(common)?,
                        name: directory.display().to_string(),
                    }));
                }
                Err(error) if is_worth_waiting(&error) && started.elapsed() < PATIENCE => {}
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Opens a database that others may have open, too.
pub(crate) async fn open_database(database: &Database) -> Result<PostgresStore, Failure> {
    Ok(PostgresStore::open(&database.url, database.options.clone()).await?)
}

/// Opens a data directory to serve it; whoever only looks something up is waited for.
pub(crate) async fn open_to_serve(
    directory: &Path,
    options: SqliteOptions,
) -> Result<SqliteStore, Failure> {
    let started = tokio::time::Instant::now();
    loop {
        match SqliteStore::open(directory, options.clone()) {
            Ok(store) => return Ok(store),
            Err(error) if is_worth_waiting(&error) && started.elapsed() < PATIENCE => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_worth_waiting(error: &StoreError) -> bool {
    error.kind() == StoreErrorKind::Locked
}

fn nothing_there(directory: &Path) -> Failure {
    let message = format!(
        "no server runs on the data directory {}, and there is no database in it",
        directory.display()
    );
    Failure::unreachable(message).hint(
        "`sidestream serve` starts a server; --server URL or --data DIRECTORY name another place",
    )
}

/// The settings that find the place.
pub(crate) fn settings(common: &Common) -> Result<crate::config::Settings, Failure> {
    let flags = flags(common).collect();
    resolve(&Sources::of_process(flags, common.config.clone()))
}

/// What was said to every subcommand about where the data is.
pub(crate) fn flags(common: &Common) -> impl Iterator<Item = (&'static Key, String)> {
    let said = [
        ("data", &common.data),
        ("database_url", &common.database_url),
    ];
    said.into_iter().filter_map(|(name, text)| {
        let key = find("store", name).expect("it is a key");
        text.clone().map(|text| (key, text))
    })
}

/// Reads all layers; every fault is a line of the failure.
pub(crate) fn resolve(sources: &Sources) -> Result<crate::config::Settings, Failure> {
    sources.resolve().map_err(|faults| {
        let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
        Failure::bad_input(faults.join("\n       "))
            .hint("docs/guide/configuration.md has every key")
    })
}

fn client(common: &Common, url: &str) -> Result<Client, Failure> {
    let mut client = Client::builder(url);
    if let Some(key) = common.api_key.as_ref().filter(|key| !key.is_empty()) {
        client = client.api_key(key);
    }
    if let Some(namespace) = common.namespace.as_ref().filter(|name| !name.is_empty()) {
        client = client.namespace(namespace);
    }
    Ok(client.build()?)
}

fn namespace(common: &Common) -> Result<Namespace, Failure> {
    match &common.namespace {
        Some(name) if !name.is_empty() => Ok(Namespace::new(name.as_str())?),
        _ => Ok(Namespace::default()),
    }
}

/// Says where the server of a data directory listens, until it is dropped.
#[derive(Debug)]
pub(crate) struct Announcement(PathBuf);

impl Announcement {
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn make(directory: &Path, url: &str) -> Result<Self, Failure> {
        let path = directory.join(SERVER_FILE);
        let file = ServerFile {
            url: url.to_owned(),
            pid: std::process::id(),
        };
        let text = serde_json::to_string(&file).expect("it is JSON") + "\n";
        // Whole or not at all: somebody may be reading.
        let new = directory.join(format!("{SERVER_FILE}.new"));
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
        written.map_err(|error| {
            Failure::unreachable(format!("{} cannot be written: {error}", path.display()))
        })?;
        Ok(Self(path))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Does a process hold the lock of a data directory? What `server.json` says counts only as long as one
/// does: a server that was killed leaves it behind, and another may listen there by now.
fn is_held(directory: &Path) -> bool {
    let Ok(lock) = File::open(directory.join("sidestream.lock")) else {
        return false;
    };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// A server that serves the same data as one that was lost, under another address: it was started anew.
/// `None` where the server was named, not found.
pub(crate) fn moved(common: &Common, lost: &Client) -> Option<Client> {
    if named_server(common).ok()?.is_some() {
        return None;
    }
    let directory = settings(common).ok()?.data;
    let url = server_of(&directory).filter(|url| is_held(&directory) && url != lost.base())?;
    client(common, &url).ok()
}

/// The server that was named, if one was.
///
/// # Errors
/// When what was named is no address.
pub(crate) fn named_server(common: &Common) -> Result<Option<Client>, Failure> {
    let url = common.server.as_ref().filter(|url| !url.is_empty());
    url.map(|url| client(common, url)).transpose()
}

/// The server that is named, else the one that has the data directory.
///
/// # Errors
/// When there is neither.
pub(crate) fn server(common: &Common, directory: &Path) -> Result<Client, Failure> {
    let found = match named_server(common)? {
        Some(client) => Some(client),
        None => announced(common, directory)?,
    };
    found.ok_or_else(|| {
        let message = format!(
            "no server is named, and none runs on the data directory {}",
            directory.display()
        );
        Failure::unreachable(message).hint("name one: --server URL")
    })
}

/// The server that says that it has a data directory. It may not answer.
///
/// # Errors
/// When what it says is no address.
pub(crate) fn announced(common: &Common, directory: &Path) -> Result<Option<Client>, Failure> {
    let url = server_of(directory).filter(|_| is_held(directory));
    url.map(|url| client(common, &url)).transpose()
}

/// Where the server of a data directory says it listens. It may be gone.
fn server_of(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(directory.join(SERVER_FILE)).ok()?;
    let file: ServerFile = serde_json::from_str(&text).ok()?;
    Some(file.url)
}

impl Place {
    pub(crate) async fn get(&self, id: &TaskId) -> Result<TaskRecord, Failure> {
        let found = match self {
            Self::Server(client) => client.get(id).await?,
            Self::Store(local) => {
                let task = local.store.get(&local.namespace, id).await?;
                task.as_ref().map(TaskRecord::from)
            }
        };
        found.ok_or_else(|| Rejection::NotFound(id.clone()).into())
    }

    pub(crate) async fn list(&self, list: &ListRequest) -> Result<Page, Failure> {
        match self {
            Self::Server(client) => Ok(client.list(list).await?),
            Self::Store(local) => local.list(list).await,
        }
    }

    pub(crate) async fn cancel(&self, id: &TaskId) -> Result<TaskRecord, Failure> {
        match self {
            Self::Server(client) => Ok(client.cancel(id).await?),
            Self::Store(local) => local.command(id, Command::Cancel).await,
        }
    }

    pub(crate) async fn resume(&self, id: &TaskId, data: &Json) -> Result<TaskRecord, Failure> {
        match self {
            Self::Server(client) => Ok(client.resume(id, data).await?),
            Self::Store(local) => {
                let data = data.clone();
                local.command(id, Command::Resume { data }).await
            }
        }
    }

    pub(crate) async fn retry(&self, id: &TaskId) -> Result<TaskRecord, Failure> {
        match self {
            Self::Server(client) => Ok(client.retry(id).await?),
            Self::Store(local) => local.command(id, Command::Retry).await,
        }
    }

    pub(crate) async fn delete(&self, id: &TaskId) -> Result<(), Failure> {
        match self {
            Self::Server(client) => Ok(client.delete(id).await?),
            Self::Store(local) => {
                let (namespace, id) = (local.namespace.clone(), id.clone());
                local
                    .commit(Request::Delete { namespace, id })
                    .await
                    .map(drop)
            }
        }
    }

    /// Makes a key.
    pub(crate) async fn add_key(
        &self,
        name: &str,
        role: &str,
        namespace: Option<&str>,
    ) -> Result<ApiKey, Failure> {
        match self {
            Self::Server(client) => Ok(client.add_key(name, role, namespace).await?),
            Self::Store(local) => local.add_key(name, role).await,
        }
    }

    pub(crate) async fn keys(&self) -> Result<Vec<ApiKey>, Failure> {
        match self {
            Self::Server(client) => Ok(client.keys().await?),
            Self::Store(local) => {
                let keys = local.store.keys().await?;
                Ok(keys.into_iter().map(shown_key).collect())
            }
        }
    }

    pub(crate) async fn revoke_key(&self, id: &str) -> Result<(), Failure> {
        let unknown = || Failure::new(Exit::Refused, format!("there is no key {id}"));
        match self {
            Self::Server(client) => match client.revoke_key(id).await {
                Err(ClientError::NotFound(_)) => Err(unknown()),
                revoked => Ok(revoked?),
            },
            Self::Store(local) => {
                let keys = local.store.keys().await?;
                if !keys.iter().any(|key| key.id == id) {
                    return Err(unknown());
                }
                let id = id.to_owned();
                local.commit(Request::RevokeKey { id }).await.map(drop)
            }
        }
    }
}

impl Local {
    /// A manager of this process. Where others share the data, how long it is kept is for them to say.
    pub(crate) fn manager(&self, mut config: Config) -> Builder {
        if !self.store.is_exclusive() {
            config.retention = Retention::for_ever();
        }
        TaskManager::builder_on(Arc::clone(&self.store)).config(config)
    }

    async fn commit(&self, request: Request) -> Result<Answer, Failure> {
        let mut committed = self.store.commit(vec![request]).await?;
        let answer = committed.answers.pop().expect("one request, one answer");
        Ok(answer?)
    }

    async fn command(&self, id: &TaskId, command: Command) -> Result<TaskRecord, Failure> {
        let request = Request::Command {
            namespace: self.namespace.clone(),
            id: id.clone(),
            command,
        };
        match self.commit(request).await? {
            Answer::Applied(task) => Ok(TaskRecord::from(&task)),
            other => unreachable!("a command is answered by its task: {other:?}"),
        }
    }

    pub(crate) async fn list(&self, list: &ListRequest) -> Result<Page, Failure> {
        let mut query = ListQuery::new(self.namespace.clone(), list.limit.unwrap_or(100));
        query.statuses.clone_from(&list.statuses);
        query.agent_id = list.agent_id.as_deref().map(str::parse).transpose()?;
        query.run_id = list.run_id.as_deref().map(str::parse).transpose()?;
        query.thread_id = list.thread_id.as_deref().map(str::parse).transpose()?;
        query.resource_id = list.resource_id.as_deref().map(str::parse).transpose()?;
        query.tool_name = list.tool_name.as_deref().map(str::parse).transpose()?;
        query.tool_call_id = list.tool_call_id.as_deref().map(str::parse).transpose()?;
        query.is_descending = list.is_descending;
        if let Some(cursor) = &list.cursor {
            query.start = PageStart::After(page_key(cursor)?);
        }
        let page = self.store.list(&query).await?;
        Ok(Page {
            tasks: page.tasks.iter().map(TaskRecord::from).collect(),
            total: page.total,
            // In the order of creation.
            next_cursor: page
                .next
                .map(|last| format!("{}.{}", last.created_at.ms(), last.key)),
        })
    }

    /// All chunks of the log after a place that match, in order, to its end: page by page, each given to
    /// `show`.
    pub(crate) async fn replay(
        &self,
        after: Seq,
        is_wanted: impl Fn(&OwnChunk) -> bool,
        task: Option<&TaskId>,
        mut show: impl FnMut(&Chunk) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut query = LogQuery {
            after,
            limit: 512,
            bytes_max: LogQuery::BYTES_MAX,
            task: task.map(|id| (self.namespace.clone(), id.clone())),
        };
        loop {
            let page = self.store.log(&query).await?;
            if query.after < page.head.floor {
                query.after = page.head.floor;
                continue;
            }
            for entry in &page.entries {
                let chunk = OwnChunk::of_entry(entry);
                if entry.task.namespace == self.namespace && is_wanted(&chunk) {
                    show(&own_chunk(&chunk))?;
                }
            }
            if page.through >= page.head.seq {
                return Ok(());
            }
            query.after = page.through;
        }
    }

    async fn add_key(&self, name: &str, role: &str) -> Result<ApiKey, Failure> {
        let role = Role::parse(role)?;
        let (namespace, now) = (self.namespace.clone(), self.store.now());
        let made = NewKey::make(name, role, namespace, now, &SystemChance)?;
        self.commit(Request::AddKey(made.kept.clone())).await?;
        Ok(ApiKey {
            key: Some(made.text),
            ..shown_key(made.kept)
        })
    }
}

/// A chunk of this process as one that came over the wire.
pub(crate) fn own_chunk(chunk: &OwnChunk) -> Chunk {
    Chunk::from_json(Arc::clone(chunk.json())).expect("what we write we can read")
}

fn shown_key(key: KeptKey) -> ApiKey {
    ApiKey {
        key: None,
        id: key.id,
        name: key.name,
        role: key.role,
        namespace: key.namespace.to_string(),
        created_at: key.created_at,
        revoked_at: key.revoked_at,
    }
}

fn page_key(cursor: &str) -> Result<PageKey, Failure> {
    let key = cursor.split_once('.').and_then(|(created, key)| {
        let created_at = Timestamp::from_ms(created.parse().ok()?);
        Some(PageKey {
            time: Some(created_at),
            created_at,
            key: key.parse().ok()?,
        })
    });
    key.ok_or_else(|| Failure::bad_input(format!("{cursor:?} is no cursor of a list")))
}
