//! Where the view's news come from: a server, or a database that servers share with us. Both resume by
//! themselves.

use std::time::Duration;

use sidestream::core::wire::TaskRecord;
use sidestream::{ChunkStream, Filter, SnapshotKind, Start, StreamOptions, TaskId, TaskManager};
use sidestream_client::{Chunk, ChunkType, Client, Item, StreamRequest};

use tokio::time::{Instant, sleep_until};

use crate::args::Common;
use crate::exit::Failure;
use crate::following::Following;
use crate::place::{Local, Place, own_chunk};

/// So long after a database could not be read, it is asked again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Where the tasks are.
pub(super) enum Source {
    Server(Client),
    Database { local: Local, manager: TaskManager },
}

/// A stream of one of them.
pub(super) enum Feed<'a> {
    Server(Box<Following<'a>>),
    Database {
        stream: Box<ChunkStream>,
        /// The last reading failed: when to try again.
        again_at: Option<Instant>,
        has_begun: bool,
    },
}

/// What a stream brings.
#[derive(Debug)]
pub(super) enum News {
    Connected,
    Chunk(Chunk),
    /// The cursor moved: a snapshot is complete, or nothing happened.
    Moved,
    Lost(Failure),
}

impl Source {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Server(client) => client.base().to_owned(),
            Self::Database { local, .. } => local.name.clone(),
        }
    }

    /// Where to ask and command.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Server(client) => Place::Server(client.clone()),
            Self::Database { local, .. } => Place::Store(local.clone()),
        }
    }

    /// All tasks that match and have not ended, then everything that happens to those that match.
    pub(super) async fn watch<'a>(
        &self,
        common: &'a Common,
        filter: Filter,
    ) -> Result<Feed<'a>, Failure> {
        let filter = filter.types(ChunkType::ALL);
        match self {
            Self::Server(client) => {
                let request = StreamRequest::watch(filter);
                let request = request.snapshot(sidestream_client::SnapshotKind::Active);
                Ok(Feed::of_server(common, client, request))
            }
            Self::Database { manager, .. } => {
                let options = StreamOptions {
                    filter,
                    snapshot: SnapshotKind::Active,
                    ..StreamOptions::default()
                };
                Feed::of_database(manager, options).await
            }
        }
    }

    /// A task's story from its beginning, until it has ended.
    pub(super) async fn story<'a>(
        &self,
        common: &'a Common,
        id: &TaskId,
    ) -> Result<Feed<'a>, Failure> {
        match self {
            Self::Server(client) => {
                let request = StreamRequest::story(id.clone());
                Ok(Feed::of_server(common, client, request))
            }
            Self::Database { manager, .. } => {
                let options = StreamOptions {
                    filter: Filter::default().task(id.clone()).types(ChunkType::ALL),
                    start: Start::After("0".parse()?),
                    ends_with_task: true,
                    ..StreamOptions::default()
                };
                Feed::of_database(manager, options).await
            }
        }
    }

    /// The role of the key, where it may only look.
    pub(super) async fn only_looks(&self) -> Result<Option<String>, Failure> {
        let Self::Server(client) = self else {
            return Ok(None);
        };
        match client.session().await {
            Ok(session) => Ok((!session.may_command()).then_some(session.role)),
            // A server that is older than the question refuses by itself what is not allowed.
            Err(sidestream_client::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl<'a> Feed<'a> {
    fn of_server(common: &'a Common, client: &Client, request: StreamRequest) -> Self {
        Self::Server(Box::new(Following::new(common, client, request)))
    }

    async fn of_database(manager: &TaskManager, options: StreamOptions) -> Result<Self, Failure> {
        Ok(Self::Database {
            stream: Box::new(manager.stream(options).await?),
            again_at: None,
            has_begun: false,
        })
    }

    /// The next news; `None` when a story has ended. Dropping the future loses nothing.
    ///
    /// # Errors
    /// When it is refused for good.
    pub(super) async fn next(&mut self) -> Option<Result<News, Failure>> {
        match self {
            Self::Server(following) => Some(match following.next().await? {
                Ok(Item::Connected) => Ok(News::Connected),
                Ok(Item::Chunk(chunk)) => Ok(News::Chunk(chunk)),
                Ok(Item::Lost { error, .. }) => Ok(News::Lost(error.into())),
                Ok(_) => Ok(News::Moved),
                Err(error) => Err(error.into()),
            }),
            Self::Database {
                stream,
                again_at,
                has_begun,
            } => {
                if !std::mem::replace(has_begun, true) {
                    return Some(Ok(News::Connected));
                }
                if let Some(again_at) = again_at {
                    sleep_until(*again_at).await;
                }
                let item = stream.next().await?;
                Some(Ok(match item {
                    Err(error) => {
                        *again_at = Some(Instant::now() + AGAIN_AFTER);
                        News::Lost(error.into())
                    }
                    Ok(item) => {
                        *again_at = None;
                        match item.chunk {
                            Some(chunk) => News::Chunk(own_chunk(&chunk)),
                            None => News::Moved,
                        }
                    }
                }))
            }
        }
    }

    /// The server, as it was last found.
    pub(super) fn client(&self) -> Option<&Client> {
        match self {
            Self::Server(following) => Some(following.client()),
            Self::Database { .. } => None,
        }
    }
}

/// The latest tasks that have ended, of those that match.
pub(super) async fn latest_ended(
    place: &Place,
    filter: &Filter,
) -> Result<Vec<TaskRecord>, Failure> {
    use sidestream::Status as S;
    let text = |text: Option<&str>| text.map(ToOwned::to_owned);
    let list = sidestream_client::ListRequest {
        statuses: vec![S::Completed, S::Failed, S::TimedOut, S::Cancelled],
        agent_id: text(filter.agent_id.as_ref().map(AsRef::as_ref)),
        run_id: text(filter.run_id.as_ref().map(AsRef::as_ref)),
        thread_id: text(filter.thread_id.as_ref().map(AsRef::as_ref)),
        resource_id: text(filter.resource_id.as_ref().map(AsRef::as_ref)),
        tool_name: text(filter.tool_name.as_ref().map(AsRef::as_ref)),
        is_descending: true,
        limit: Some(200),
        ..sidestream_client::ListRequest::default()
    };
    Ok(place.list(&list).await?.tasks)
}
