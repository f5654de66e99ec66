//! What a dispatch cannot say over the wire is told before anything is sent.

use std::time::Duration;

use sidestream_client::{Client, Error, NewTask};

/// E1: a task that was to wait must not begin at once.
#[tokio::test]
async fn a_delay_which_the_wire_does_not_carry_is_refused() {
    // Nobody listens there: what is sent is lost.
    let client = Client::new("http://127.0.0.1:9").expect("an address");
    let task = NewTask::new("tool").delay(Duration::from_secs(60));
    let refused = client.dispatch(&task).await;
    let Err(Error::Invalid(problem)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(problem.field.as_deref(), Some("delay"));
    assert!(problem.to_string().contains("runAt"), "{problem}");
}
