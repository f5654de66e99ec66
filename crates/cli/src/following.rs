//! A stream that outlives not only its connection, but its server's address: one that is started anew on
//! the same data directory, with port 0 perhaps on another port, is found again.

use sidestream_client::{Client, Error, Item, Stream, StreamRequest};

use crate::args::Common;
use crate::place;

/// A stream, and how to find its server again.
pub(crate) struct Following<'a> {
    common: &'a Common,
    client: Client,
    request: StreamRequest,
    stream: Stream,
}

impl<'a> Following<'a> {
    pub(crate) fn new(common: &'a Common, client: &Client, request: StreamRequest) -> Self {
        Self {
            common,
            client: client.clone(),
            stream: client.stream(request.clone()),
            request,
        }
    }

    /// The next item, as [`Stream::next`]. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Result<Item, Error>> {
        let item = self.stream.next().await;
        if matches!(item, Some(Ok(Item::Lost { .. })))
            && let Some(client) = place::moved(self.common, &self.client)
        {
            let mut request = self.request.clone();
            if let Some(cursor) = self.stream.cursor() {
                request = request.after(cursor);
            }
            self.stream = client.stream(request);
            self.client = client;
        }
        item
    }

    /// The server, as it was last found.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The stream itself: its cursor, and the task that has ended.
    pub(crate) fn stream(&self) -> &Stream {
        &self.stream
    }
}
