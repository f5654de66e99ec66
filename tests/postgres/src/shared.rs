//! One cluster for all tests of a run, for those that leave it as it is: each makes a schema of its own.
//!
//! A run is one of nextest, which starts a process for each test: whoever comes first starts the cluster. It is
//! kept by a shell that nobody waits for, and that ends it with the run: as soon as the runner's process is
//! gone, however it went. Without nextest a run is the test's own process.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use tempfile::TempDir;

use crate::account::Account;
use crate::programs::Programs;
use crate::{Cluster, Options, USER, copy_template, free_port};

/// Starts the server, says so, and keeps it for as long as the run's process is there, which it looks at now
/// and then: nobody tells who is not its parent. If the server ends before, nothing is left that another test
/// could take for a cluster. Whoever started this may be gone when it speaks.
const KEEPER: &str = r#"
run=$1
folder=$2
place=$3
options=$4
shift 4
trap '' PIPE
if "$@" start -w -s -D "$place/data" -l "$place/log" -o "$options" 2>&1; then
    echo ready
else
    cat "$place/log"
fi
exec >/dev/null 2>&1
server=$(head -n 1 "$place/data/postmaster.pid")
while kill -0 "$run" && kill -0 "$server"; do
    sleep 0.2
done
"$@" stop -m immediate -w -D "$place/data"
rm -rf "$folder"
"#;

/// Starts the keeper in a session of its own, out of reach of what is sent to the tests' process groups.
const APART: &str = r#"setsid sh -c "$@" </dev/null 2>/dev/null &"#;

/// The cluster that the tests of this run share. It does not wait for the disk.
#[derive(Debug)]
pub struct Shared {
    /// What it lasts for.
    process: u32,
    folder: PathBuf,
    port: u16,
}

impl Shared {
    /// Finds it; starts it if nobody has come before.
    ///
    /// # Panics
    /// When there is no PostgreSQL here, or it does not start: the message says what to do.
    #[must_use]
    pub fn of_this_run() -> Self {
        let (name, process) = match env::var("NEXTEST_RUN_ID") {
            Ok(run) => (run, parent_id()),
            Err(_) => ("alone".to_owned(), process::id()),
        };
        let folder = env::temp_dir().join(format!("sidestream-postgres-{name}-{process}"));
        let mut found = Self {
            process,
            folder,
            port: 0,
        };
        found.find_or_start();
        found
    }

    /// The URL of its database: for schemas of one's own.
    #[must_use]
    pub fn url(&self) -> String {
        format!(
            "postgresql://{USER}@127.0.0.1:{}/postgres?sslmode=disable",
            self.port
        )
    }

    /// The port on the loopback interface.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn find_or_start(&mut self) {
        fs::create_dir_all(&self.folder).expect("the temporary folder is writable");
        let lock = File::create(self.folder.join("lock")).expect("it is writable");
        lock.lock().expect("a file can be locked");
        let told = self.folder.join("port");
        let known = fs::read_to_string(&told).ok();
        let known = known.and_then(|text| text.parse().ok());
        // What a machine that went down has left behind is no cluster.
        let listens = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
        self.port = known.filter(listens).unwrap_or_else(|| {
            let port = self.start();
            fs::write(told, port.to_string()).expect("it is writable");
            port
        });
    }

    fn start(&self) -> u16 {
        let programs = Programs::find();
        let account = Account::choose();
        let options = Options {
            // As many processes as the machine has processors, each with a few stores.
            settings: vec!["max_connections=1000".to_owned()],
            ..Options::default()
        };
        // Who was killed in the middle of this has left another.
        let place = TempDir::new_in(&self.folder)
            .expect("it is writable")
            .keep();
        account.own(&place);
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.folder, open).expect("it is ours");
        copy_template(&programs, &account, &options, &place.join("data"));
        let port = free_port();
        let options = Cluster::settings(&place, port, options.fsync, &options.settings);
        let options = options.map(|setting| format!("-c '{setting}'"));
        let options = options.collect::<Vec<_>>().join(" ");
        let pg_ctl = account.command(&programs.path("pg_ctl"));
        let keeper = Command::new("sh")
            .args(["-c", APART, "apart", KEEPER, "keeper"])
            .arg(self.process.to_string())
            .args([&self.folder, &place])
            .arg(options)
            .arg(pg_ctl.get_program())
            .args(pg_ctl.get_args())
            .current_dir("/")
            .stderr(Stdio::null())
            .output();
        let said = keeper.expect("sh runs").stdout;
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.ends_with("ready\n"),
            "PostgreSQL did not start: {said}"
        );
        port
    }
}
