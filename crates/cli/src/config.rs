//! The configuration: what holds, and who said so.
//!
//! Four layers, the first that speaks wins: flag, environment, file, default. What they may say is in
//! [`keys`]; [`file`] reads the third of them. [`Settings`] is what comes out, as the parts of the
//! program want it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sidestream::core::RetryPolicy;
use sidestream::core::task::TaskDefaults;
use sidestream::store::sqlite::Synchronous;
use sidestream::stream::RingLimits;
use sidestream::worker::process::{FlagTemplate, Program};
use sidestream::{
    Backpressure, Config, PostgresOptions, Retention, SqliteOptions, Tool, ToolSettings,
};
use sidestream_server::{ServerConfig, ServerLimits};

pub(crate) mod file;
pub(crate) mod flags;
pub(crate) mod keys;
#[cfg(test)]
mod reference;

use file::{Entry, Fault, File, nearest};
use keys::{Fallback, KEYS, Key, Kind, Value};

/// The file that is read where none is named.
pub(crate) const FILE_NAME: &str = "sidestream.toml";
/// Variables that say something else than a key of the table.
const OTHER_VARIABLES: [&str; 9] = [
    "SIDESTREAM_CONFIG",
    "SIDESTREAM_URL",
    "SIDESTREAM_API_KEY",
    "SIDESTREAM_NAMESPACE",
    "SIDESTREAM_COLOR",
    // What a command tool is given: it may call us.
    "SIDESTREAM_TASK_ID",
    "SIDESTREAM_ATTEMPT",
    "SIDESTREAM_RESUME_DATA",
    "SIDESTREAM_TOKEN",
];

/// Where the layers come from.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Each key's flag, as it was given.
    pub(crate) flags: Vec<(&'static Key, String)>,
    /// The environment variables whose names begin with `SIDESTREAM_`.
    pub(crate) environment: BTreeMap<String, String>,
    /// The file, if a certain one is asked for.
    pub(crate) file: Option<PathBuf>,
    /// The directory in which a file is looked for if none is asked for.
    pub(crate) directory: PathBuf,
    /// Where data goes if nobody says.
    pub(crate) home_data: Option<PathBuf>,
}

/// Who said what a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(String),
    Variable(String),
    File { path: PathBuf, line: usize },
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "--{flag}"),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A key, what it is, and who said so.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    pub(crate) path: String,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// What holds.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) store: SqliteOptions,
    /// In place of the data directory.
    pub(crate) database: Option<Database>,
    pub(crate) server: ServerConfig,
    pub(crate) allow_commands: bool,
    pub(crate) log: String,
    pub(crate) logs_json: bool,
    pub(crate) is_enabled: bool,
    pub(crate) manager: Config,
    /// By their names.
    pub(crate) tools: BTreeMap<String, ConfiguredTool>,
    /// Every key with its value, in the order of the guide.
    pub(crate) effective: Vec<Effective>,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// What is no fault, but most likely a mistake.
    pub(crate) warnings: Vec<String>,
}

/// A PostgreSQL database.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) options: PostgresOptions,
}

impl Effective {
    /// The value, for people: without a password.
    pub(crate) fn shown(&self) -> String {
        let mut keys = KEYS.iter().filter(|key| key.path() == self.path);
        match (&self.value, keys.next().map(|key| key.kind)) {
            (Value::Text(url), Some(Kind::DatabaseUrl)) => {
                Value::Text(without_password(url)).to_string()
            }
            (value, _) => value.to_string(),
        }
    }
}

/// The URL of a database as it may be shown.
pub(crate) fn without_password(url: &str) -> String {
    const HIDDEN: &str = "***";
    let (mut shown, mut rest) = (String::new(), url);
    if let Some((scheme, after)) = url.split_once("://") {
        // Whatever is before the last @: rather too much is hidden than too little.
        if let Some((user, host)) = after.rsplit_once('@')
            && let Some((name, _)) = user.split_once(':')
        {
            shown = format!("{scheme}://{name}:{HIDDEN}@");
            rest = host;
        }
    }
    // `password=…` in the query, or among the words of the other form.
    while let Some(at) = rest.find("password=") {
        let (before, after) = rest.split_at(at + "password=".len());
        shown.push_str(before);
        shown.push_str(HIDDEN);
        let end = match after.strip_prefix('\'') {
            Some(quoted) => quoted.find('\'').map_or(after.len(), |end| end + 2),
            None => after.find([' ', '&']).unwrap_or(after.len()),
        };
        rest = &after[end..];
    }
    shown + rest
}

/// A tool of the file.
#[derive(Debug, Clone)]
pub(crate) struct ConfiguredTool {
    /// As who has its command runs it.
    pub(crate) tool: Tool,
    /// Does a server leave it to workers elsewhere?
    is_remote: bool,
}

impl ConfiguredTool {
    /// As a server has it.
    pub(crate) fn to_serve(&self) -> Tool {
        let tool = self.tool.clone();
        if self.is_remote {
            return tool.left_to_others();
        }
        tool
    }
}

impl Sources {
    /// The layers of this process, with these flags.
    pub(crate) fn of_process(flags: Vec<(&'static Key, String)>, file: Option<PathBuf>) -> Self {
        let environment: BTreeMap<_, _> = std::env::vars()
            .filter(|(name, text)| name.starts_with("SIDESTREAM_") && !text.is_empty())
            .collect();
        let named = environment.get("SIDESTREAM_CONFIG").map(PathBuf::from);
        Self {
            flags,
            file: file.or(named),
            environment,
            directory: PathBuf::from("."),
            home_data: home_data(),
        }
    }

    /// Reads all layers.
    ///
    /// # Errors
    /// Every fault of every layer.
    pub(crate) fn resolve(&self) -> Result<Settings, Vec<Fault>> {
        let file = self.read_file()?;
        let mut faults = Vec::new();
        let mut effective = Vec::new();
        for key in KEYS {
            match self.value(key, file.as_ref()) {
                Ok((value, origin)) => effective.push(Effective {
                    path: key.path(),
                    value,
                    origin,
                }),
                Err(fault) => faults.push(fault),
            }
        }
        let mut tools = BTreeMap::new();
        for (name, entries) in file.iter().flat_map(|file| &file.tools) {
            let path = &file.as_ref().expect("it has tools").path;
            match tool(name, entries, path) {
                Ok(tool) => drop(tools.insert(name.clone(), tool)),
                Err(fault) => faults.push(fault),
            }
            effective.extend(entries.iter().map(|entry| Effective {
                path: format!("tools.{name}.{}", entry.key.name),
                value: entry.value.clone(),
                origin: entry.origin(path),
            }));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(self.settings(effective, tools, file))
    }

    fn settings(
        &self,
        effective: Vec<Effective>,
        tools: BTreeMap<String, ConfiguredTool>,
        file: Option<File>,
    ) -> Settings {
        let values = Values(&effective);
        let path = file.as_ref().map(|file| file.path.clone());
        Settings {
            data: self.path(values.entry("store.data"), path.as_deref()),
            store: values.store(),
            database: values.database(),
            server: values.server(),
            allow_commands: values.flag("server.allow_commands"),
            log: values.text("server.log").to_owned(),
            logs_json: values.text("server.log_format") == "json",
            is_enabled: values.flag("manager.enabled"),
            manager: values.manager(),
            tools,
            warnings: self.warnings(),
            effective,
            file: path,
        }
    }

    fn read_file(&self) -> Result<Option<File>, Vec<Fault>> {
        let found = self.directory.join(FILE_NAME);
        let path = match &self.file {
            Some(path) => path.clone(),
            None if found.is_file() => PathBuf::from(FILE_NAME),
            None => return Ok(None),
        };
        let place = match self.file {
            Some(_) => path.clone(),
            None => found,
        };
        let text = std::fs::read_to_string(place).map_err(|error| {
            vec![Fault {
                place: path.display().to_string(),
                message: format!("the file cannot be read: {error}"),
                hint: None,
            }]
        })?;
        file::read(&path, &text).map(Some)
    }

    /// What a key is: the first layer that speaks.
    fn value(&self, key: &'static Key, file: Option<&File>) -> Result<(Value, Origin), Fault> {
        let wrong = |place: String, text: &str| Fault {
            message: format!("{} is {text:?}, not {}", key.path(), key.kind.expected()),
            place,
            hint: None,
        };
        if let Some((_, text)) = self.flags.iter().find(|(flag, _)| *flag == key) {
            let value = key.kind.read(text);
            let value = value.ok_or_else(|| wrong(format!("--{}", key.flag()), text))?;
            return Ok((value, Origin::Flag(key.flag())));
        }
        if let Some(text) = self.environment.get(&key.variable()) {
            let value = key.kind.read(text);
            let value = value.ok_or_else(|| wrong(key.variable(), text))?;
            return Ok((value, Origin::Variable(key.variable())));
        }
        if let Some(file) = file
            && let Some(entry) = file.entries.iter().find(|it| it.key == key)
        {
            return Ok((entry.value.clone(), entry.origin(&file.path)));
        }
        match key.default {
            Fallback::Value(_) => Ok((key.default_value(), Origin::Default)),
            Fallback::Words(words) => self.home_data(key, words),
            Fallback::Required => unreachable!("only keys of tools must be given"),
        }
    }

    fn home_data(&self, key: &Key, words: &str) -> Result<(Value, Origin), Fault> {
        let data = self.home_data.as_ref().ok_or_else(|| Fault {
            place: key.path(),
            message: format!("the default cannot be told: {words}"),
            hint: Some("say --data DIRECTORY".into()),
        })?;
        Ok((Value::Text(data.display().to_string()), Origin::Default))
    }

    /// A path of the file starts at the file; any other at the working directory.
    fn path(&self, entry: &Effective, file: Option<&Path>) -> PathBuf {
        let Value::Text(text) = &entry.value else {
            unreachable!("a path is a text")
        };
        match (&entry.origin, file) {
            (Origin::File { .. }, Some(file)) => beside(file, text),
            _ => PathBuf::from(text),
        }
    }

    /// Variables that look like ours and mean nothing.
    fn warnings(&self) -> Vec<String> {
        let short = |name: &str| name.trim_start_matches("SIDESTREAM_").to_lowercase();
        let ours = KEYS.iter().map(Key::variable);
        let others = OTHER_VARIABLES.iter().map(|name| (*name).to_owned());
        let known: Vec<String> = ours.chain(others).collect();
        let warning = |name: &String| {
            let words: Vec<String> = known.iter().map(|known| short(known)).collect();
            match nearest(&short(name), words.iter().map(String::as_str)) {
                Some(near) => {
                    let near = near.to_uppercase();
                    format!("{name} is ignored: did you mean SIDESTREAM_{near}?")
                }
                None => format!("{name} is ignored: no setting has that name"),
            }
        };
        let unknown = self.environment.keys().filter(|name| !known.contains(name));
        unknown.map(warning).collect()
    }
}

impl Key {
    /// The default, where it is a value.
    fn default_value(&self) -> Value {
        let Fallback::Value(text) = self.default else {
            unreachable!("{} has no default of its own", self.path())
        };
        let toml = match self.section {
            "tools" => format!("[tools.a]\ncommand = ['a']\n{} = {text}\n", self.name),
            section => format!("[{section}]\n{} = {text}\n", self.name),
        };
        let file = file::read(Path::new("default"), &toml).expect("each default is acceptable");
        let entries = file
            .entries
            .into_iter()
            .chain(file.tools.into_values().flatten());
        let mut values = entries.filter(|entry| entry.key == self);
        values.next().expect("it was just written").value
    }
}

impl Entry {
    fn origin(&self, path: &Path) -> Origin {
        Origin::File {
            path: path.to_owned(),
            line: self.line,
        }
    }
}

/// The values of the table's keys, by their paths.
struct Values<'a>(&'a [Effective]);

impl Values<'_> {
    fn entry(&self, path: &str) -> &Effective {
        let found = self.0.iter().find(|it| it.path == path);
        found.unwrap_or_else(|| panic!("there is no key {path}"))
    }

    fn flag(&self, path: &str) -> bool {
        match self.entry(path).value {
            Value::Flag(flag) => flag,
            ref other => unreachable!("{path} is {other}"),
        }
    }

    fn number(&self, path: &str) -> u64 {
        match self.entry(path).value {
            Value::Number(number) => number,
            ref other => unreachable!("{path} is {other}"),
        }
    }

    fn text(&self, path: &str) -> &str {
        match &self.entry(path).value {
            Value::Text(text) => text,
            other => unreachable!("{path} is {other}"),
        }
    }

    fn texts(&self, path: &str) -> Vec<String> {
        match &self.entry(path).value {
            Value::Texts(texts) => texts.clone(),
            other => unreachable!("{path} is {other}"),
        }
    }

    fn ms(&self, path: &str) -> Duration {
        Duration::from_millis(self.number(path))
    }

    fn size(&self, path: &str) -> usize {
        usize::try_from(self.number(path)).unwrap_or(usize::MAX)
    }

    fn count(&self, path: &str) -> u32 {
        u32::try_from(self.number(path)).unwrap_or(u32::MAX)
    }

    fn store(&self) -> SqliteOptions {
        let size = self.number("store.size_bytes_max");
        SqliteOptions {
            synchronous: match self.text("store.synchronous") {
                "normal" => Synchronous::Normal,
                _ => Synchronous::Full,
            },
            readers: self.size("store.readers"),
            size_bytes_max: Some(size).filter(|size| *size > 0),
            ..SqliteOptions::default()
        }
    }

    fn database(&self) -> Option<Database> {
        let given = |path| Some(self.text(path).to_owned()).filter(|text| !text.is_empty());
        let url = given("store.database_url")?;
        let options = PostgresOptions {
            schema: self.text("store.database_schema").to_owned(),
            connections_max: self.size("store.database_connections_max"),
            listen_url: given("store.database_listen_url"),
            prepared: self.flag("store.database_prepared"),
            statement_timeout: self.ms("store.database_statement_ms"),
            ..PostgresOptions::default()
        };
        Some(Database { url, options })
    }

    fn server(&self) -> ServerConfig {
        let listen = keys::address(self.text("server.listen"));
        ServerConfig {
            listen: listen.expect("it was accepted"),
            allowed_hosts: self.texts("server.allowed_hosts"),
            allowed_origins: self.texts("server.allowed_origins"),
            dashboard: self.flag("server.dashboard"),
            limits: ServerLimits {
                connections: self.size("server.connections_max"),
                head_bytes: self.size("server.head_bytes_max"),
                body_bytes: self.size("server.body_bytes_max"),
                request: self.ms("server.request_ms"),
                wait: self.ms("server.wait_ms_max"),
                write: self.ms("server.write_ms"),
                keep_alive: self.ms("server.keep_alive_ms"),
                grace: self.ms("server.drain_ms"),
            },
        }
    }

    fn manager(&self) -> Config {
        let per_agent = self.count("manager.concurrency_per_agent");
        Config {
            concurrency: self.count("manager.concurrency"),
            concurrency_per_agent: Some(per_agent).filter(|limit| *limit > 0),
            backpressure: match self.text("manager.backpressure") {
                "reject" => Backpressure::Reject,
                "fallback-sync" => Backpressure::FallbackToSync,
                _ => Backpressure::Queue,
            },
            defaults: TaskDefaults {
                timeout_ms: self.number("manager.timeout_ms"),
                retry: RetryPolicy {
                    max_retries: self.count("manager.max_retries"),
                    delay_ms: self.number("manager.retry_delay_ms"),
                    delay_max_ms: self.number("manager.retry_delay_max_ms"),
                },
            },
            lease_ms: self.number("manager.lease_ms"),
            grace: self.ms("manager.grace_ms"),
            retention: Retention {
                completed: self.ms("manager.retention_completed_ms"),
                failed: self.ms("manager.retention_failed_ms"),
                untold: self.ms("manager.retention_untold_ms"),
                log: self.ms("manager.retention_log_ms"),
                log_events_max: self.number("manager.retention_log_events_max"),
                every: self.ms("manager.cleanup_every_ms"),
            },
            ring: RingLimits {
                chunks: self.size("manager.ring_chunks_max"),
                bytes: self.size("manager.ring_bytes_max"),
            },
            accepts_any_tool: false,
        }
    }
}

/// A command tool, as the file says it.
fn tool(name: &str, entries: &[Entry], file: &Path) -> Result<ConfiguredTool, Fault> {
    let mut command = Vec::new();
    let mut is_remote = false;
    let mut program = Program::new("", [""; 0]);
    program.working_directory = Some(directory_of(file));
    let mut settings = ToolSettings::default();
    for entry in entries {
        let number = match entry.value {
            Value::Number(number) => number,
            _ => 0,
        };
        let count = u32::try_from(number).unwrap_or(u32::MAX);
        let size = usize::try_from(number).unwrap_or(usize::MAX);
        match (entry.key.name, entry.value.clone()) {
            ("command", Value::Texts(texts)) => command = texts,
            ("remote", Value::Flag(flag)) => is_remote = flag,
            ("args", Value::Texts(texts)) => program.flags = templates(name, &texts, entry, file)?,
            ("env", Value::Pairs(pairs)) => program.env = pairs,
            ("env_allow", Value::Texts(texts)) => program.env_allowed = texts,
            ("cwd", Value::Text(text)) => program.working_directory = Some(beside(file, &text)),
            ("timeout_ms", _) => settings.timeout_ms = Some(number),
            ("max_retries", _) => settings.max_retries = Some(count),
            ("retry_delay_ms", _) => settings.retry_delay_ms = Some(number),
            ("retry_delay_max_ms", _) => settings.retry_delay_max_ms = Some(number),
            ("concurrency", _) => settings.concurrency = Some(count),
            ("output_bytes_max", _) => program.output_bytes_max = size,
            ("line_bytes_max", _) => program.line_bytes_max = size,
            ("grace_ms", _) => program.stop_grace = Duration::from_millis(number),
            (other, _) => unreachable!("a tool has no key {other}"),
        }
    }
    let mut command = command.into_iter();
    let tool = match command.next() {
        Some(first) => {
            program.command = first;
            program.arguments = command.collect();
            Tool::command(name, program)
        }
        // Only a remote one is accepted without.
        None => Tool::remote(name),
    };
    let tool = tool.settings(settings);
    Ok(ConfiguredTool { tool, is_remote })
}

fn templates(
    name: &str,
    texts: &[String],
    entry: &Entry,
    file: &Path,
) -> Result<Vec<FlagTemplate>, Fault> {
    let templates = texts.iter().map(|text| text.parse());
    templates.collect::<Result<_, _>>().map_err(
        |error: sidestream::worker::process::TemplateError| Fault {
            place: format!("{}:{}", file.display(), entry.line),
            message: format!("tools.{name}.args: {error}"),
            hint: None,
        },
    )
}

fn directory_of(file: &Path) -> PathBuf {
    let directory = file.parent().unwrap_or(Path::new(""));
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
}

fn beside(file: &Path, path: &str) -> PathBuf {
    directory_of(file).join(path)
}

/// Where data goes if nobody says: the user's place for it.
fn home_data() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|text| !text.is_empty());
    let data = variable("XDG_DATA_HOME").map(PathBuf::from);
    let home = || variable("HOME").or_else(|| variable("USERPROFILE"));
    let data = data.or_else(|| Some(PathBuf::from(home()?).join(".local/share")));
    Some(data?.join("sidestream"))
}

#[cfg(test)]
mod tests;
