//! Opening a database.

use crate::support::fresh;
use sidestream_test_postgres::Cluster;

#[tokio::test]
async fn it_opens() {
    let cluster = Cluster::start();
    fresh(&cluster).await;
}
