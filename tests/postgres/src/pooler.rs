//! A proxy that pools connections by transaction: PgBouncer, before a cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::account::Account;
use crate::programs;
use crate::server::{Program, Server, Stop};
use crate::{USER, free_port};

/// It has nothing to lose; and it waits for its clients if it is asked to end.
const PGBOUNCER: Program = Program {
    ready: "process up",
    abrupt: "KILL",
};

/// How the proxy pools.
#[derive(Debug, Clone)]
pub struct PoolerOptions {
    /// So many connections to the server, at most, for each database.
    pub server_connections: u32,
    /// So many prepared statements of its clients it brings along to whichever connection it gives them; with
    /// 0 it knows nothing of them, as PgBouncer before 1.21 never does.
    pub prepared_max: u32,
}

/// A running proxy.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    /// Ended before the directory goes.
    server: Option<Server>,
    _directory: TempDir,
}

impl Pooler {
    /// Starts one before the server at this port. It ends when it is dropped, or with the test's process.
    ///
    /// # Panics
    /// When there is no PgBouncer here, or it does not start: the message says what to do.
    #[must_use]
    pub fn before(server_port: u16, options: &PoolerOptions) -> Self {
        let program = find();
        let account = Account::choose();
        let directory = TempDir::new().expect("a temporary directory");
        let port = free_port();
        let settings = directory.path().join("pgbouncer.ini");
        let users = directory.path().join("users");
        fs::write(&users, format!("\"{USER}\" \"\"\n")).expect("it is writable");
        let mut text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {}\nmax_client_conn = 1000\n",
            server_port,
            users.display(),
            options.server_connections,
        );
        if knows_prepared_statements() {
            text += &format!("max_prepared_statements = {}\n", options.prepared_max);
        }
        fs::write(&settings, text).expect("it is writable");
        account.own(directory.path());
        for file in [directory.path(), &settings, &users] {
            let readable = fs::Permissions::from_mode(0o755);
            fs::set_permissions(file, readable).expect("it is ours");
        }
        let args = [settings.to_string_lossy().into_owned()];
        let server = Server::start(&account, &program, &args, directory.path(), PGBOUNCER);
        Self {
            port,
            server: Some(server),
            _directory: directory,
        }
    }

    /// The URL of a database of the cluster, through the proxy.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgresql://{USER}@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop(Stop::Immediate);
        }
    }
}

/// Can [`PoolerOptions::prepared_max`] be anything but 0 with the PgBouncer that is here?
#[must_use]
pub fn knows_prepared_statements() -> bool {
    version() >= (1, 21)
}

/// What `pgbouncer --version` says: `PgBouncer 1.18.0`, and more lines.
fn version() -> (u32, u32) {
    let said = Command::new(find()).arg("--version").output();
    let said = String::from_utf8(said.expect("it runs").stdout).expect("a text");
    let version = said.split_whitespace().nth(1).unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    let mut next = || numbers.next().flatten();
    next()
        .zip(next())
        .unwrap_or_else(|| panic!("pgbouncer --version says {said:?}"))
}

/// Looks in `PATH`, then where Debian puts it.
fn find() -> PathBuf {
    let found = programs::in_path().chain([PathBuf::from("/usr/sbin")]);
    let mut found = found.map(|folder| folder.join("pgbouncer"));
    found.find(|program| program.is_file()).expect(
        "PgBouncer's program pgbouncer is neither in PATH nor in /usr/sbin: install it (Debian's package is \
         `pgbouncer`)",
    )
}
