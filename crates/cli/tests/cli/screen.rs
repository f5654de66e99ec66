//! `watch --tui` in a real pseudo-terminal, before a real server.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use sidestream_test_postgres::Cluster;

use crate::binary::{Home, PATIENCE, signal};

const TOOLS: &str = "[tools.slow]\ncommand = ['sh', '-c', 'echo working; exec sleep 600']\n\
    [tools.quick]\ncommand = ['echo', 'done at once']\n";
const ROWS: u16 = 24;
const COLUMNS: u16 = 100;

/// A terminal with a program in it.
struct Terminal {
    child: Child,
    /// Where its user types.
    keyboard: File,
    /// The program's end, as the program's parent keeps it.
    line: OwnedFd,
    seen: Arc<(Mutex<vt100::Parser>, Condvar)>,
}

impl Terminal {
    fn run(home: &Home, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let line = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        let size = Winsize {
            ws_row: ROWS,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&line, size).unwrap();
        let end = || Stdio::from(line.try_clone().unwrap());
        let mut command = home.command(args);
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        command.envs(environment.iter().copied());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn();
        let parser = vt100::Parser::new(ROWS, COLUMNS, 0);
        let seen = Arc::new((Mutex::new(parser), Condvar::new()));
        let (mut screen, shown) = (File::from(master.try_clone().unwrap()), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut bytes) {
                shown.0.lock().unwrap().process(&bytes[..read]);
                shown.1.notify_all();
            }
        });
        Self {
            child: child.unwrap(),
            keyboard: master.into(),
            line,
            seen,
        }
    }

    fn watch(home: &Home, args: &[&str]) -> Self {
        let args = [&["watch", "--tui"], args].concat();
        Self::run(home, &args, &[])
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the screen is as wanted.
    #[track_caller]
    fn until(&self, what: &str, is_it: impl Fn(&vt100::Screen) -> bool) {
        let (parser, bell) = &*self.seen;
        let parser = parser.lock().unwrap();
        let waited = bell.wait_timeout_while(parser, PATIENCE, |it| !is_it(it.screen()));
        let (parser, timed_out) = waited.unwrap();
        let contents = parser.screen().contents();
        assert!(!timed_out.timed_out(), "{what} was not seen:\n{contents}");
    }

    /// Waits until a line holds all of these.
    #[track_caller]
    fn until_line(&self, parts: &[&str]) {
        self.until(&format!("{parts:?}"), |screen| {
            let contents = screen.contents();
            let mut lines = contents.lines();
            lines.any(|line| parts.iter().all(|part| line.contains(part)))
        });
    }

    /// Waits for its end, and sees that the terminal is as it was.
    #[track_caller]
    fn ended(&mut self) -> i32 {
        let status = self.child.wait().unwrap();
        self.until("the former screen", |screen| {
            !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste()
        });
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        assert!(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
        status.code().unwrap_or(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_task_is_seen_to_run_and_cancelled_by_keys() {
    let home = Home::with_config(TOOLS);
    let _server = home.serve(&[]);
    let mut terminal = Terminal::watch(&home, &[]);
    terminal.until_line(&["sidestream", "● live"]);
    terminal.until("an empty list", |screen| {
        screen.contents().contains("No tasks yet")
    });
    let id = home.run_to(0, &["run", "slow", "--agent", "a1"]);
    terminal.until_line(&["▶ running", "slow", "a1", "working"]);

    terminal.press("j\r");
    terminal.until_line(&["id:", id.id()]);
    terminal.until_line(&["working"]);
    terminal.press("\t");
    terminal.until_line(&["▶ started"]);
    terminal.press("c");
    terminal.until_line(&["Cancel slow"]);
    terminal.press("y");
    terminal.until_line(&["■ cancelled", "slow"]);
    terminal.press("\u{1b}");
    terminal.until_line(&["■ cancelled", "a1"]);
    terminal.until_line(&["0 running", "1 cancelled"]);
    assert!(
        home.run_to(0, &["get", id.id()])
            .stdout
            .contains("cancelled")
    );

    terminal.press("r");
    terminal.until_line(&["▶ running", "slow", "working"]);
    // The server says why not, in its own words.
    terminal.press("r");
    terminal.until_line(&["only a failed, timed-out or cancelled task can be retried"]);
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
}

/// The server comes back on another port, with what it ran failed: nothing is shown that is no longer so.
#[test]
fn a_lost_connection_is_said_and_found_again() {
    let home = Home::with_config(TOOLS);
    let server = home.serve(&[]);
    let mut terminal = Terminal::watch(&home, &[]);
    home.run_to(0, &["run", "slow"]);
    terminal.until_line(&["▶ running ", "slow"]);
    server.kill();
    terminal.until_line(&["NOT LIVE: as of"]);
    terminal.until_line(&["▶ running?", "slow"]);
    let _server = home.serve(&[]);
    terminal.until_line(&["● live"]);
    terminal.until_line(&["✖ failed", "slow"]);
    home.run_to(0, &["run", "quick", "--follow"]);
    terminal.until_line(&["✔ completed", "quick", "done at once"]);
    // What is chosen is commanded where the server is now.
    terminal.press("G");
    terminal.press("/slow\r");
    terminal.press("g");
    terminal.until_line(&[">✖ failed", "slow"]);
    terminal.press("r");
    terminal.until_line(&["▶ running", "slow"]);
    signal(&terminal.child, Signal::TERM);
    assert_eq!(terminal.ended(), 0);
}

/// Where servers share a database, it is watched itself.
#[test]
fn a_shared_database_is_watched_like_a_server() {
    let cluster = Cluster::start();
    let home = Home::with_config(TOOLS);
    let url = cluster.url(&cluster.database());
    let server = home.serve(&["--database-url", &url]);
    let mut terminal = Terminal::watch(&home, &["--database-url", &url]);
    terminal.until_line(&["sidestream", "● live"]);
    home.run_to(0, &["run", "slow", "--server", &server.url]);
    terminal.until_line(&["▶ running", "slow", "working"]);
    terminal.press("j\r");
    terminal.until_line(&["Output 1 line"]);
    terminal.press("cy");
    terminal.until_line(&["■ cancelled", "slow"]);
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn a_key_that_may_only_read_commands_nothing() {
    let home = Home::with_config(TOOLS);
    let server = home.serve(&[]);
    let add = |more: &[&str]| {
        let made = home.run_to(0, &[&["keys", "add", "--role"], more].concat());
        made.stdout.trim().to_owned()
    };
    let admin = add(&["admin"]);
    let read = add(&["read", "--api-key", &admin]);
    home.run_to(0, &["run", "slow", "--api-key", &admin]);
    let mut terminal = Terminal::watch(&home, &["--api-key", &read, "--server", &server.url]);
    terminal.until_line(&["▶ running", "slow"]);
    terminal.press("jc");
    terminal.until_line(&["the role read: it may look, and change nothing"]);
    terminal.press("\u{3}");
    assert_eq!(terminal.ended(), 0);
    let mut denied = Terminal::watch(&home, &["--api-key", "sk_0_0"]);
    assert_eq!(denied.ended(), 5);
}

#[test]
fn the_size_may_change_and_colours_may_be_unwanted() {
    let home = Home::with_config(TOOLS);
    let _server = home.serve(&[]);
    home.run_to(0, &["run", "quick", "--follow"]);
    let mut terminal = Terminal::run(&home, &["watch", "--tui"], &[("NO_COLOR", "1")]);
    terminal.until_line(&["✔ completed", "quick"]);
    let (parser, _) = &*terminal.seen;
    let has_colors = {
        let parser = parser.lock().unwrap();
        let mut cells = (0..ROWS).flat_map(|row| (0..COLUMNS).map(move |column| (row, column)));
        cells.any(|(row, column)| {
            let cell = parser.screen().cell(row, column).unwrap();
            cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default
        })
    };
    assert!(!has_colors);
    let size = Winsize {
        ws_row: 10,
        ws_col: 40,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    parser.lock().unwrap().screen_mut().set_size(10, 40);
    tcsetwinsize(&terminal.line, size).unwrap();
    // Ours is not the program's controlling terminal, so the system does not tell it.
    signal(&terminal.child, Signal::WINCH);
    terminal.until("the keys on the tenth line", |screen| {
        screen
            .rows(0, 40)
            .nth(9)
            .is_some_and(|line| line.contains("? help"))
    });
    terminal.press("q");
    assert_eq!(terminal.ended(), 0);
}

#[test]
fn without_a_terminal_or_a_server_it_is_said_what_is_missing() {
    let home = Home::with_config(TOOLS);
    {
        let _server = home.serve(&[]);
        let piped = home.run_to(2, &["watch", "--tui"]);
        assert!(piped.stderr.contains("--tui needs a terminal"), "{piped:?}");
        let both = home.run_to(2, &["watch", "--tui", "--json"]);
        assert!(both.stderr.contains("--json"), "{both:?}");
        for more in [
            ["--type", "output"],
            ["--after", "0"],
            ["--snapshot", "none"],
        ] {
            let args = [&["watch", "--tui"][..], &more].concat();
            home.run_to(2, &args);
        }
        home.run_to(2, &["watch", "--status", "running"]);
    }
    let mut alone = Terminal::watch(&home, &[]);
    assert_eq!(alone.ended(), 3);
    alone.until("the reason", |screen| {
        screen.contents().contains("no server runs")
    });
}
