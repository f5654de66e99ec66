//! PostgreSQL clusters of their own for the tests: made in a temporary directory, gone with the test.
//!
//! A test starts a [`Cluster`] and asks it for databases. It listens on a free port of the loopback
//! interface and on a Unix socket in its own directory, and can be stopped and started like the real
//! thing. It ends when it is dropped, and also when the test's process is killed: a shell waits for the
//! end of a pipe that only the test holds, then kills it.
//!
//! Tests that leave the server as it is need none of their own: [`Shared`].
//!
//! A [`Pooler`] is a proxy before a cluster that pools connections by transaction.
//!
//! `initdb` takes a second, so it is run once for each target directory; every cluster begins as a copy of
//! what it made.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

mod account;
mod pooler;
mod programs;
mod server;
mod shared;

use account::Account;
use programs::Programs;
use server::{Program, Server};

pub use pooler::{Pooler, PoolerOptions, knows_prepared_statements};
pub use server::Stop;
pub use shared::Shared;

/// Who connects: a superuser without a password.
pub const USER: &str = "sidestream";

const POSTGRES: Program = Program {
    ready: "database system is ready to accept connections",
    abrupt: "QUIT",
};

/// How a cluster is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Does a commit wait for the disk? Only a test of crashes of the machine, or a measurement, needs it:
    /// what the server has handed to the operating system survives the server.
    pub fsync: bool,
    /// Settings in the form `name=value`, as of `postgresql.conf`.
    pub settings: Vec<String>,
    /// With what it proves who it is. Without, it speaks no TLS.
    pub identity: Option<Identity>,
}

/// A certificate and its key, each as PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, then those of the authorities between it and one that is trusted.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Identity {
    /// Writes it where the server finds it. Returns the settings that say so.
    fn place_in(&self, folder: &Path, account: &Account) -> [String; 3] {
        let place = |name: &str, text: &str| {
            let file = folder.join(name);
            fs::write(&file, text).expect("it is writable");
            // The server takes no key that others can read.
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(&file, private).expect("it is ours");
            account.own(&file);
            file.display().to_string()
        };
        let certificate = place("server.crt", &self.certificate);
        let key = place("server.key", &self.key);
        [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={certificate}"),
            format!("ssl_key_file={key}"),
        ]
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    programs: Programs,
    account: Account,
    fsync: bool,
    settings: Vec<String>,
    port: u16,
    databases: AtomicU32,
    /// Stopped before the directory goes.
    server: Option<Server>,
    directory: TempDir,
}

impl Cluster {
    /// Starts a cluster that does not wait for the disk.
    ///
    /// # Panics
    /// When there is no PostgreSQL here, or it does not start: the message says what to do.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a cluster.
    ///
    /// # Panics
    /// As [`Cluster::start`] does.
    #[must_use]
    pub fn start_with(options: Options) -> Self {
        let programs = Programs::find();
        let account = Account::choose();
        let directory = TempDir::new().expect("a temporary directory");
        account.own(directory.path());
        copy_template(
            &programs,
            &account,
            &options,
            &directory.path().join("data"),
        );
        let Options {
            fsync,
            mut settings,
            identity,
        } = options;
        if let Some(identity) = identity {
            settings.extend(identity.place_in(directory.path(), &account));
        }
        let mut cluster = Self {
            programs,
            account,
            fsync,
            settings,
            port: free_port(),
            databases: AtomicU32::new(0),
            server: None,
            directory,
        };
        cluster.start_again();
        cluster
    }

    /// The URL of a database, over TCP.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgresql://{USER}@127.0.0.1:{}/{database}?sslmode=disable",
            self.port
        )
    }

    /// The URL of a database, over the Unix socket.
    #[must_use]
    pub fn socket_url(&self, database: &str) -> String {
        let folder = self.directory.path().to_string_lossy().replace('/', "%2F");
        format!("postgresql://{USER}@{folder}:{}/{database}", self.port)
    }

    /// The port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.directory.path()
    }

    /// The name of an empty database: each time another.
    ///
    /// # Panics
    /// When the server does not answer.
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            // It is there, and making one takes longer than starting the server.
            return "postgres".into();
        }
        let name = format!("test_{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Runs SQL with `psql`, and returns what it printed: a line for each row, its columns separated
    /// by `|`.
    ///
    /// # Panics
    /// When it fails.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql)
            .unwrap_or_else(|said| panic!("psql: {said}{sql}"))
    }

    /// The same, where it may fail.
    ///
    /// # Errors
    /// What `psql` said.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let ran = Command::new(self.programs.path("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set=ON_ERROR_STOP=1", "--command", sql])
            .arg(self.url(database))
            .output()
            .expect("psql runs");
        if !ran.status.success() {
            return Err(String::from_utf8_lossy(&ran.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&ran.stdout).trim_end().to_owned())
    }

    /// Stops the server. It can be started again.
    pub fn stop(&mut self, how: Stop) {
        if let Some(server) = self.server.take() {
            server.stop(how);
        }
    }

    /// Starts the server again, on what it left behind, at the same port.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start_again(&mut self) {
        let folder = self.directory.path();
        let mut args = vec![
            "-D".to_owned(),
            folder.join("data").to_string_lossy().into_owned(),
        ];
        for setting in Self::settings(folder, self.port, self.fsync, &self.settings) {
            args.extend(["-c".to_owned(), setting]);
        }
        let postgres = self.programs.path("postgres");
        let server = Server::start(&self.account, &postgres, &args, folder, POSTGRES);
        self.server = Some(server);
    }

    /// With what a server is started that has its socket in a folder.
    fn settings(
        folder: &Path,
        port: u16,
        fsync: bool,
        more: &[String],
    ) -> impl Iterator<Item = String> {
        let ours = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            format!("unix_socket_directories={}", folder.display()),
            // A crash of the server is not one of the machine: nothing is lost by this.
            format!("fsync={fsync}"),
            format!("full_page_writes={fsync}"),
            // A test that ends in the middle of connecting says no more, and who shuts down waits for it.
            "authentication_timeout=10".to_owned(),
            "log_destination=stderr".to_owned(),
            "logging_collector=off".to_owned(),
        ];
        ours.into_iter().chain(more.to_vec())
    }

    /// What the server has written to its log.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the log is there")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}

/// A port that nobody uses now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it has a port").port()
}

/// Makes a data directory as `initdb` does, only faster.
fn copy_template(programs: &Programs, account: &Account, options: &Options, data: &Path) {
    let template = template(programs, account, options);
    let copied = Command::new("cp")
        .arg("-a")
        .arg(&template)
        .arg(data)
        .status();
    assert!(copied.expect("cp runs").success(), "the template is copied");
}

/// A fresh data directory, kept beside the tests' programs.
fn template(programs: &Programs, account: &Account, options: &Options) -> PathBuf {
    let program = std::env::current_exe().expect("this program has a path");
    let beside = program.parent().expect("it is in a folder");
    let kind = if options.fsync { "whole" } else { "small" };
    let name = format!("postgres-{}-{}-{kind}", programs.version(), account.name());
    let template = beside.join(&name);
    let lock = File::create(beside.join(format!("{name}.lock"))).expect("the folder is writable");
    lock.lock().expect("a file can be locked");
    if !template.exists() {
        let making = beside.join(format!("{name}.making"));
        let _ = fs::remove_dir_all(&making);
        initialize(programs, account, options, &making);
        fs::rename(&making, &template).expect("it can be renamed");
    }
    template
}

/// Runs `initdb` where its account may write, then moves the outcome to where the tests are.
fn initialize(programs: &Programs, account: &Account, options: &Options, into: &Path) {
    let scratch = TempDir::new().expect("a temporary directory");
    account.own(scratch.path());
    let data = scratch.path().join("data");
    let mut command = account.command(&programs.path("initdb"));
    command
        .args(["--auth=trust", "--encoding=UTF8", "--no-sync"])
        .arg(format!("--username={USER}"))
        .arg("-D")
        .arg(&data)
        .env("LC_ALL", "C.UTF-8");
    if !options.fsync {
        // The smallest, since they are copied. Whoever measures wants them as they are for everybody.
        command.arg("--wal-segsize=1");
    }
    if programs.version() >= 15 {
        // Nothing may rest on the order of the database's own collation: so it is not that of the bytes.
        command.args(["--locale-provider=icu", "--icu-locale=en"]);
    }
    let ran = command.output().expect("initdb runs");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "initdb: {said}");
    let moved = Command::new("cp").arg("-a").arg(&data).arg(into).status();
    assert!(moved.expect("cp runs").success(), "the template is kept");
    let mut configuration = File::options()
        .append(true)
        .open(into.join("postgresql.conf"))
        .expect("initdb made it");
    writeln!(configuration, "lc_messages = 'C'").expect("it is writable");
}
