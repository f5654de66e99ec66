//! Every key of the configuration, once: its name, what it may be, its default, what it does.
//!
//! Flags, environment variables, the file, `config check` and `docs/guide/configuration.md` are all made
//! of this table, so none of them can know a key that another does not.

use std::collections::BTreeMap;

use sidestream::core::task::{MAX_RETRIES_MAX, TIMEOUT_MS_MAX};

/// The longest duration where nothing else says so: a day, in milliseconds.
const DAY_MS: u64 = 86_400_000;
/// The longest retention: ten years, in milliseconds.
const RETENTION_MS_MAX: u64 = 3_650 * DAY_MS;

/// One key of the configuration.
#[derive(Debug)]
pub(crate) struct Key {
    /// The table it is in; `tools` stands for each `tools.NAME`.
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Fallback,
    /// One or two sentences, in the words of the guide.
    pub(crate) about: &'static str,
}

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number within limits, both included.
    Number { min: u64, max: u64 },
    /// One of these words.
    Word(&'static [&'static str]),
    /// An IP address and a port; `localhost` is one.
    Address,
    /// A file or directory.
    Path,
    /// Any text.
    Text,
    /// Where a database is. May hold a password, which is not shown.
    DatabaseUrl,
    /// Any number of texts.
    Texts,
    /// At least one text.
    Command,
    /// A table of texts.
    Pairs,
}

/// What holds where nobody says otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fallback {
    /// This value, written as in the file.
    Value(&'static str),
    /// What the words say; the code decides.
    Words(&'static str),
    /// Nothing: it must be given.
    Required,
}

/// A value, as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Flag(bool),
    Number(u64),
    Text(String),
    Texts(Vec<String>),
    Pairs(BTreeMap<String, String>),
}

const fn key(
    section: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Key {
    let default = Fallback::Value(default);
    Key {
        section,
        name,
        kind,
        default,
        about,
    }
}

const fn number(min: u64, max: u64) -> Kind {
    Kind::Number { min, max }
}

/// Every key outside `[tools.NAME]`, in the order of the guide.
pub(crate) const KEYS: &[Key] = &[
    Key {
        section: "store",
        name: "data",
        kind: Kind::Path,
        default: Fallback::Words("`$XDG_DATA_HOME/sidestream`, else `~/.local/share/sidestream`"),
        about: "The data directory: the database, and the lock that lets one process in. A relative path in \
                the file starts at the file.",
    },
    key(
        "store",
        "synchronous",
        Kind::Word(&["full", "normal"]),
        "\"full\"",
        "When a commit counts as done: when it is on the disk (`full`), or when the operating system has it \
         (`normal`; a power cut may then take the last commits, a crash of the process takes none).",
    ),
    key(
        "store",
        "size_bytes_max",
        number(0, 1 << 50),
        "0",
        "The most that the database may take, beside its log ahead of at most some 100 MB. 0 is as much as \
         the disk holds.",
    ),
    key(
        "store",
        "readers",
        number(1, 256),
        "4",
        "How many requests may read the database at once.",
    ),
    key(
        "store",
        "database_url",
        Kind::DatabaseUrl,
        "\"\"",
        "A PostgreSQL database (14 or later) that any number of servers share, in place of the data directory: \
         `postgresql://user:password@host/database?sslmode=verify-full`. Others on this machine can see a \
         flag: the variable, or the file, is better.",
    ),
    key(
        "store",
        "database_listen_url",
        Kind::DatabaseUrl,
        "\"\"",
        "Where to listen for what other servers do, if `database_url` leads to a proxy that pools connections \
         by transaction: straight to the database.",
    ),
    key(
        "store",
        "database_schema",
        Kind::Text,
        "\"sidestream\"",
        "The PostgreSQL schema that everything is in. It is made if it is not there.",
    ),
    key(
        "store",
        "database_connections_max",
        number(2, 1_000),
        "16",
        "How many connections to the database one server opens at most, beside one that listens and one in \
         reserve.",
    ),
    key(
        "store",
        "database_prepared",
        Kind::Flag,
        "true",
        "May the database keep prepared statements? `false` behind a proxy that pools connections by \
         transaction and does not know of them.",
    ),
    key(
        "store",
        "database_statement_ms",
        number(100, DAY_MS),
        "30_000",
        "How long one statement may take.",
    ),
    key(
        "server",
        "listen",
        Kind::Address,
        "\"127.0.0.1:7600\"",
        "Where the server listens. Port 0 lets the system choose. Any address but this machine's own needs \
         an API key (`sidestream keys add`).",
    ),
    key(
        "server",
        "allowed_hosts",
        Kind::Texts,
        "[]",
        "Names beside `localhost` and this machine's own addresses under which requests without a key may \
         come in, such as that of a proxy on the same machine. Without a port.",
    ),
    key(
        "server",
        "allowed_origins",
        Kind::Texts,
        "[]",
        "Web pages of these origins, such as `https://app.example.com`, may use the server.",
    ),
    key(
        "server",
        "dashboard",
        Kind::Flag,
        "true",
        "Does the server show the dashboard at `/`? The page needs no key, and has no data: that is asked for \
         with the key of whoever looks. Without it `/` says in words what is here.",
    ),
    key(
        "server",
        "allow_commands",
        Kind::Flag,
        "false",
        "May clients with the role `write` have the server run any command (`sidestream run -- COMMAND`)?",
    ),
    key(
        "server",
        "connections_max",
        number(1, 1_000_000),
        "10_000",
        "How many connections may be open at once; a further one waits.",
    ),
    key(
        "server",
        "head_bytes_max",
        number(8_192, 1_048_576),
        "65_536",
        "How large the head of a request may be, its URL included.",
    ),
    key(
        "server",
        "body_bytes_max",
        number(1_024, 67_108_864),
        "2_097_152",
        "How large the body of a request may be. Arguments, results and outputs are limited to 1 MiB each, \
         whatever this says.",
    ),
    key(
        "server",
        "request_ms",
        number(1, DAY_MS),
        "30_000",
        "How long a request may take. Streams and `Prefer: wait` have their own time.",
    ),
    key(
        "server",
        "wait_ms_max",
        number(1, DAY_MS),
        "60_000",
        "The longest `Prefer: wait`.",
    ),
    key(
        "server",
        "write_ms",
        number(1, DAY_MS),
        "30_000",
        "How long a client may read nothing while there is something for it. Then its connection is closed; \
         a stream resumes where it was.",
    ),
    key(
        "server",
        "keep_alive_ms",
        number(100, 30_000),
        "15_000",
        "How often a quiet stream shows that it is alive.",
    ),
    key(
        "server",
        "drain_ms",
        number(0, DAY_MS),
        "5_000",
        "How long requests under way have to end when the server stops. Streams end at once.",
    ),
    key(
        "server",
        "log",
        Kind::Text,
        "\"info\"",
        "What is logged, to the standard error: `error`, `warn`, `info`, `debug` or `trace`, or a filter \
         such as `info,sidestream=debug`.",
    ),
    key(
        "server",
        "log_format",
        Kind::Word(&["text", "json"]),
        "\"text\"",
        "Lines for people, or one JSON object a line.",
    ),
    key(
        "manager",
        "enabled",
        Kind::Flag,
        "true",
        "`false`: background tasks are disabled. Nothing can be dispatched, lists are empty, and streams \
         stay open and empty.",
    ),
    key(
        "manager",
        "concurrency",
        number(1, 100_000),
        "10",
        "How many tasks run at once.",
    ),
    key(
        "manager",
        "concurrency_per_agent",
        number(0, 100_000),
        "5",
        "How many tasks of one agent run at once. 0 is no limit.",
    ),
    key(
        "manager",
        "backpressure",
        Kind::Word(&["queue", "reject", "fallback-sync"]),
        "\"queue\"",
        "What a dispatch does when no slot is free: the task waits (`queue`), it is refused (`reject`), or \
         the caller is told to run the tool itself (`fallback-sync`).",
    ),
    key(
        "manager",
        "timeout_ms",
        number(1, TIMEOUT_MS_MAX),
        "300_000",
        "How long one attempt may take, where neither the dispatch nor the tool says.",
    ),
    key(
        "manager",
        "max_retries",
        number(0, MAX_RETRIES_MAX as u64),
        "0",
        "How many failures are followed by another attempt, where neither the dispatch nor the tool says.",
    ),
    key(
        "manager",
        "retry_delay_ms",
        number(0, DAY_MS),
        "1_000",
        "The longest wait before the first retry, where the tool does not say; it doubles with each further \
         one. The wait is a random part of it.",
    ),
    key(
        "manager",
        "retry_delay_max_ms",
        number(0, DAY_MS),
        "30_000",
        "What that wait never exceeds.",
    ),
    key(
        "manager",
        "lease_ms",
        number(100, DAY_MS),
        "30_000",
        "How long a worker may be silent before its attempts are given to another.",
    ),
    key(
        "manager",
        "grace_ms",
        number(0, DAY_MS),
        "5_000",
        "How long a handler may take to stop once told, and how long a shutdown waits for running tasks.",
    ),
    key(
        "manager",
        "retention_completed_ms",
        number(0, RETENTION_MS_MAX),
        "3_600_000",
        "How long completed tasks are kept.",
    ),
    key(
        "manager",
        "retention_failed_ms",
        number(0, RETENTION_MS_MAX),
        "86_400_000",
        "How long failed, timed-out and cancelled tasks are kept.",
    ),
    key(
        "manager",
        "retention_untold_ms",
        number(0, RETENTION_MS_MAX),
        "86_400_000",
        "How long ended tasks of a thread are kept at least whose end nobody has acknowledged.",
    ),
    key(
        "manager",
        "retention_log_ms",
        number(0, RETENTION_MS_MAX),
        "86_400_000",
        "How long events are kept. A stream that resumes from an older cursor is told with `stream-reset`.",
    ),
    key(
        "manager",
        "retention_log_events_max",
        number(0, 1 << 50),
        "10_000_000",
        "No more events than this are kept, whatever their age.",
    ),
    key(
        "manager",
        "cleanup_every_ms",
        number(100, DAY_MS),
        "60_000",
        "How often what is too old is removed.",
    ),
    key(
        "manager",
        "ring_chunks_max",
        number(1_024, 1 << 30),
        "65_536",
        "How many of the latest events are held in memory for those who watch.",
    ),
    key(
        "manager",
        "ring_bytes_max",
        number(65_536, 1 << 40),
        "8_388_608",
        "How much memory those events may take.",
    ),
];

/// Every key of a `[tools.NAME]`, in the order of the guide.
pub(crate) const TOOL_KEYS: &[Key] = &[
    Key {
        section: "tools",
        name: "command",
        kind: Kind::Command,
        default: Fallback::Required,
        about: "The program and the arguments it is always given. No shell reads them. The task's arguments \
                come as JSON on the standard input.",
    },
    key(
        "tools",
        "remote",
        Kind::Flag,
        "false",
        "`true`: the server does not run the tool itself, but leaves its tasks to workers elsewhere (`sidestream \
         worker`, or any that speaks the protocol). Then `command` may be left out.",
    ),
    key(
        "tools",
        "args",
        Kind::Texts,
        "[]",
        "Further arguments, made of the task's: `\"--name={name}\"` takes the field `name`, `{name?}` leaves \
         the whole argument out when there is none, `{{` is a brace. Each makes exactly one argument.",
    ),
    key(
        "tools",
        "env",
        Kind::Pairs,
        "{}",
        "Variables set for the program.",
    ),
    key(
        "tools",
        "env_allow",
        Kind::Texts,
        "[\"PATH\", \"HOME\", \"LANG\", \"LC_ALL\", \"TZ\", \"TMPDIR\"]",
        "Names of the server's own variables that the program gets. No other is passed on.",
    ),
    Key {
        section: "tools",
        name: "cwd",
        kind: Kind::Path,
        default: Fallback::Words("the directory of the file"),
        about: "Where the program runs. A relative path starts at the file.",
    },
    Key {
        section: "tools",
        name: "timeout_ms",
        kind: number(1, TIMEOUT_MS_MAX),
        default: Fallback::Words("`manager.timeout_ms`"),
        about: "How long one attempt may take, where the dispatch does not say.",
    },
    Key {
        section: "tools",
        name: "max_retries",
        kind: number(0, MAX_RETRIES_MAX as u64),
        default: Fallback::Words("`manager.max_retries`"),
        about: "How many failures are followed by another attempt, where the dispatch does not say.",
    },
    Key {
        section: "tools",
        name: "retry_delay_ms",
        kind: number(0, DAY_MS),
        default: Fallback::Words("`manager.retry_delay_ms`"),
        about: "The longest wait before the first retry; it doubles with each further one.",
    },
    Key {
        section: "tools",
        name: "retry_delay_max_ms",
        kind: number(0, DAY_MS),
        default: Fallback::Words("`manager.retry_delay_max_ms`"),
        about: "What that wait never exceeds.",
    },
    Key {
        section: "tools",
        name: "concurrency",
        kind: number(1, 100_000),
        default: Fallback::Words("no limit of its own"),
        about: "How many tasks of the tool run at once.",
    },
    key(
        "tools",
        "output_bytes_max",
        number(1, 1 << 40),
        "16_777_216",
        "How much one attempt may write to its standard output and error together. One that writes more is \
         stopped, and fails.",
    ),
    key(
        "tools",
        "line_bytes_max",
        number(1, 1_048_576),
        "1_048_576",
        "How much of one line becomes an output; the rest of the line is cut away.",
    ),
    key(
        "tools",
        "grace_ms",
        number(0, DAY_MS),
        "5_000",
        "How long the program may take to stop once told (SIGTERM), before it and all it started is killed.",
    ),
];

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        (self.section, self.name) == (other.section, other.name)
    }
}

impl Key {
    /// Its name in messages: `manager.lease_ms`.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// Its flag without the dashes: `lease-ms`.
    pub(crate) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// Its environment variable: `SIDESTREAM_LEASE_MS`.
    pub(crate) fn variable(&self) -> String {
        format!("SIDESTREAM_{}", self.name.to_uppercase())
    }
}

/// The key of a section, if there is one.
pub(crate) fn find(section: &str, name: &str) -> Option<&'static Key> {
    let mut keys = KEYS.iter().chain(TOOL_KEYS);
    keys.find(|key| key.section == section && key.name == name)
}

impl Kind {
    /// What it may be, to be read after "is not": `a whole number between 1 and 10`.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Flag => "true or false".into(),
            Self::Number { min, max } => {
                let (min, max) = (grouped(min), grouped(max));
                format!("a whole number between {min} and {max}")
            }
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Address => "an IP address and a port, such as 127.0.0.1:7600".into(),
            Self::Path => "a path".into(),
            Self::Text => "a text".into(),
            Self::DatabaseUrl => "the URL of a database".into(),
            Self::Texts => "a list of texts".into(),
            Self::Command => "a list of texts that begins with a program".into(),
            Self::Pairs => "a table of texts".into(),
        }
    }

    /// Checks a value against what this may be.
    pub(crate) fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Flag, Value::Flag(_))
            | (Self::Text | Self::DatabaseUrl, Value::Text(_))
            | (Self::Texts, Value::Texts(_))
            | (Self::Pairs, Value::Pairs(_)) => true,
            (Self::Number { min, max }, Value::Number(number)) => (min..=max).contains(number),
            (Self::Word(words), Value::Text(text)) => words.contains(&text.as_str()),
            (Self::Address, Value::Text(text)) => address(text).is_some(),
            (Self::Path, Value::Text(text)) => !text.is_empty(),
            (Self::Command, Value::Texts(texts)) => texts.first().is_some_and(|it| !it.is_empty()),
            _ => false,
        }
    }

    /// Reads what a flag or a variable says. Lists are separated by commas.
    pub(crate) fn read(self, text: &str) -> Option<Value> {
        let value = match self {
            Self::Flag => Value::Flag(text.parse().ok()?),
            Self::Number { .. } => Value::Number(text.replace('_', "").parse().ok()?),
            Self::Word(_) | Self::Address | Self::Path | Self::Text | Self::DatabaseUrl => {
                Value::Text(text.into())
            }
            Self::Texts => {
                let texts = text.split(',').map(str::trim);
                Value::Texts(
                    texts
                        .filter(|text| !text.is_empty())
                        .map(Into::into)
                        .collect(),
                )
            }
            Self::Command | Self::Pairs => return None,
        };
        self.accepts(&value).then_some(value)
    }

    /// What stands for a value in help texts.
    pub(crate) fn placeholder(self, name: &str) -> &'static str {
        match self {
            Self::Flag => "BOOL",
            Self::Number { .. } if name.contains("_ms") => "MS",
            Self::Number { .. } if name.contains("bytes") => "BYTES",
            Self::Number { .. } => "NUMBER",
            Self::Word(_) => "WORD",
            Self::Address => "ADDRESS:PORT",
            Self::Path => "PATH",
            Self::Text => "TEXT",
            Self::DatabaseUrl => "URL",
            Self::Texts | Self::Command | Self::Pairs => "LIST",
        }
    }
}

/// An address, where a text is one.
pub(crate) fn address(text: &str) -> Option<std::net::SocketAddr> {
    match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}").parse().ok(),
        None => text.parse().ok(),
    }
}

/// A number with a comma between thousands, as messages to people have it.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl std::fmt::Display for Value {
    /// As the file would have it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quoted = |text: &String| toml::Value::String(text.clone()).to_string();
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Texts(texts) => {
                let texts: Vec<_> = texts.iter().map(quoted).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Pairs(pairs) if pairs.is_empty() => f.write_str("{}"),
            Self::Pairs(pairs) => {
                let pair = |(name, text)| format!("{} = {}", quoted(name), quoted(text));
                let pairs: Vec<_> = pairs.iter().map(pair).collect();
                write!(f, "{{ {} }}", pairs.join(", "))
            }
        }
    }
}
