//! `docs/guide/configuration.md`, made of the table of keys: a test compares it, and `UPDATE_DOCS=1`
//! writes it.

use std::fmt::Write as _;
use std::path::Path;

use super::keys::{Fallback, KEYS, Key, Kind, TOOL_KEYS};

const INTRODUCTION: &str = "\
# Configuration

A server is configured by flags, by environment variables and by a file; where they disagree, the first of them wins:
flag, environment, file, default. The same keys go by the same names everywhere: the key `lease_ms` of the table
`[manager]` is the flag `--lease-ms` of `sidestream serve` and the variable `SIDESTREAM_LEASE_MS`. A list is written with
commas in a flag or a variable. An empty variable says nothing.

The file is the one that `--config FILE` or `SIDESTREAM_CONFIG` names, else `sidestream.toml` in the working directory, if
there is one. A relative path in it starts at the file. A key that does not exist, a value of the wrong type or beyond
its limits is an error that names the place; nothing is ignored.

`sidestream config check [FILE]` reads all of it, says what is wrong, and shows what holds and who said so.

```toml
[store]
data = \"data\"

[server]
listen = \"127.0.0.1:7600\"

[manager]
concurrency = 20
retention_completed_ms = 86_400_000

[tools.research]
command = [\"python3\", \"research.py\"]
args = [\"--depth={depth?}\"]
env = { MODE = \"fast\" }
timeout_ms = 600_000
max_retries = 1
concurrency = 4
```

Times are in milliseconds (`_ms`), sizes in bytes. Limits include both ends.
";

const TOOLS: &str = "
## `[tools.NAME]`

A command tool: a program that runs once for each attempt of a task of the tool `NAME`. These keys have no flag and no
variable.

- **In:** the task's arguments, as JSON and a line feed, on the standard input. In the environment
  `SIDESTREAM_TASK_ID`, `SIDESTREAM_ATTEMPT` and, when the task was resumed, `SIDESTREAM_RESUME_DATA` (JSON).
- **Out:** each line of the standard output is one output of the task: as JSON, if the line is one JSON value, else
  as text. Each line of the standard error is one, too: `{\"stream\":\"stderr\",\"text\":…}`.
- **Result:** with exit code 0, the last line of the standard output that is not blank, if that is JSON; else all of the
  standard output as text (of more than 1 MiB its end, behind `[N bytes cut]…`); nothing, if there was none.
- **Failure:** any other exit code, or a signal. Another attempt follows if retries are left, but not after the exit codes
  64 to 78 (`sysexits.h`: permanent errors) other than 75.
- **Stopping** (cancelled, timed out, shut down): SIGTERM to all the program's processes, after the grace SIGKILL.
";

const OTHERS: &str = "
## Other variables

| variable | flag | what it says |
|---|---|---|
| `SIDESTREAM_CONFIG` | `--config` | Which file to read. |
| `SIDESTREAM_URL` | `--server` | Which server to talk to. Without it: the one that runs on the data directory. |
| `SIDESTREAM_API_KEY` | `--api-key` | The API key for it. |
| `SIDESTREAM_NAMESPACE` | `--namespace` | The namespace, where no key says. |
| `SIDESTREAM_COLOR` | `--color` | `auto` (on a terminal, unless `NO_COLOR` is set), `always` or `never`. |
";

/// The whole page.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            let _ = write!(page, "\n## `[{section}]`\n");
        }
        describe(&mut page, key);
    }
    page.push_str(TOOLS);
    for key in TOOL_KEYS {
        describe(&mut page, key);
    }
    page.push_str(OTHERS);
    page
}

fn describe(page: &mut String, key: &Key) {
    let default = match key.default {
        Fallback::Value(text) => format!("`{text}`"),
        Fallback::Words(words) => words.to_owned(),
        Fallback::Required => "none: it must be given".to_owned(),
    };
    let unit = match key.kind {
        Kind::Number { .. } if key.name.contains("_ms") => " (milliseconds)",
        Kind::Number { .. } if key.name.contains("bytes") => " (bytes)",
        _ => "",
    };
    let _ = write!(
        page,
        "\n### `{}`\n\n{}\n\n- {}{unit}\n- default: {default}\n",
        key.name,
        key.about,
        key.kind.expected(),
    );
    if key.section != "tools" {
        let (flag, variable) = (key.flag(), key.variable());
        let _ = writeln!(page, "- `--{flag}`, `{variable}`");
    }
}

#[test]
fn the_guide_has_every_key_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/configuration.md");
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().expect("it is in a directory")).expect("it is made");
        std::fs::write(&path, &page).expect("the guide can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == page,
        "docs/guide/configuration.md is stale: UPDATE_DOCS=1 cargo nextest run -p sidestream-cli rewrites it"
    );
}
