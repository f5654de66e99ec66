//! A sink gets what a reader of items gets, however little it takes at a time.

use sidestream::stream::Sink;

use super::support::*;
use super::*;

/// Takes so many things at a time, and writes each down.
struct Notes {
    at_a_time: usize,
    taken: usize,
    notes: Vec<String>,
}

impl Notes {
    fn of(at_a_time: usize) -> Self {
        Self {
            at_a_time,
            taken: 0,
            notes: Vec::new(),
        }
    }

    /// Takes what there is, and nothing more comes.
    async fn take_all(&mut self, stream: &mut ChunkStream) {
        while timeout(Duration::from_millis(1), stream.next_into(self))
            .await
            .is_ok_and(|taken| taken.expect("the stream goes on").is_ok())
        {
            assert!(self.taken > 0, "nothing was taken");
            assert!(self.taken <= self.at_a_time, "more was given than it took");
            self.taken = 0;
            let last = self.notes.last().unwrap();
            let place = stream.cursor().map(ToString::to_string);
            assert!(last.starts_with(&place.unwrap_or_default()), "{last}");
        }
    }
}

impl Sink for Notes {
    fn chunk(&mut self, chunk: &Arc<Chunk>, place: Option<(&Epoch, Seq)>) {
        self.taken += 1;
        let place = place.map(|(epoch, seq)| Cursor::new(epoch.clone(), seq).to_string());
        let place = place.unwrap_or_default();
        self.notes.push(format!("{place} {}", chunk.json()));
    }

    fn place(&mut self, epoch: &Epoch, seq: Seq) {
        self.taken += 1;
        self.notes.push(Cursor::new(epoch.clone(), seq).to_string());
    }

    fn is_full(&self) -> bool {
        self.taken >= self.at_a_time
    }
}

fn note(item: &StreamItem) -> String {
    let place = item.cursor.as_ref().map(ToString::to_string);
    let place = place.unwrap_or_default();
    match &item.chunk {
        Some(chunk) => format!("{place} {}", chunk.json()),
        None => place,
    }
}

/// The snapshot, what the ring has, and what only the log has: all of it, in order, each once.
#[tokio::test(start_paused = true)]
async fn a_sink_gets_what_a_reader_of_items_gets() {
    let process = process_on(&database(), small_ring()).await;
    let task = process.run(NewTask::new("tells").thread("t1")).await;
    process.run(NewTask::new("tells").thread("t2")).await;
    let thread = Filter::default().thread(ThreadId::new("t1").unwrap());
    for filter in [Filter::default(), thread] {
        for at_a_time in [1, 3, 1_000] {
            let mut items = process.open(of(filter.clone())).await;
            let mut stream = process.open(of(filter.clone())).await;
            let (mut expected, mut sink) = (Vec::new(), Notes::of(at_a_time));
            // The first outputs are read while the ring has them, the rest when it no longer has.
            for outputs in [5, 3_000] {
                sink.take_all(&mut stream).await;
                process.output(&task, 0..outputs).await;
                while expected.len() < sink.notes.len() + outputs as usize {
                    expected.push(note(&next(&mut items).await));
                }
            }
            sink.take_all(&mut stream).await;
            assert_eq!(sink.notes, expected, "{at_a_time} at a time");
        }
    }
}

/// S5: a sink is given nothing after the stream was cancelled.
#[tokio::test(start_paused = true)]
async fn a_cancelled_stream_gives_a_sink_nothing_more() {
    let process = process().await;
    let task = process.run(NewTask::new("tells")).await;
    let options = StreamOptions {
        cancel: Some(Default::default()),
        ..StreamOptions::default()
    };
    let mut stream = process.open(options.clone()).await;
    let mut sink = Notes::of(1);
    sink.take_all(&mut stream).await;
    let before = sink.notes.len();
    process.output(&task, 0..3).await;
    options.cancel.unwrap().cancel();
    assert!(stream.next_into(&mut sink).await.is_none());
    assert_eq!(sink.notes.len(), before);
}
