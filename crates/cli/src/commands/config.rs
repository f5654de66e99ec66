//! `sidestream config check`: what is wrong with the configuration; else what holds, and who said so.

use crate::args::{Common, ConfigCommand};
use crate::config::Sources;
use crate::console::{Console, Style, table};
use crate::exit::{Exit, Failure};
use crate::place;

pub(crate) fn config(
    common: &Common,
    command: ConfigCommand,
    console: Console,
) -> Result<Exit, Failure> {
    let ConfigCommand::Check { file } = command;
    let flags = place::flags(common).collect();
    let sources = Sources::of_process(flags, file.or_else(|| common.config.clone()));
    let settings = place::resolve(&sources)?;
    if console.json {
        for it in &settings.effective {
            let (value, origin) = (it.shown(), it.origin.to_string());
            console.json(&serde_json::json!({"key": it.path, "value": value, "origin": origin}))?;
        }
    } else {
        let rows: Vec<_> = settings
            .effective
            .iter()
            .map(|it| vec![it.path.clone(), it.shown(), it.origin.to_string()])
            .collect();
        for (at, line) in table(&["KEY", "VALUE", "SAID BY"], &rows)
            .iter()
            .enumerate()
        {
            let style = if at == 0 { Style::Bold } else { Style::Plain };
            console.data(&console.paint(style, line))?;
        }
    }
    for warning in &settings.warnings {
        let label = console.paint_error(Style::Yellow, "warning:");
        console.note(&format!("{label} {warning}"));
    }
    match &settings.file {
        Some(file) => console.note(&format!("{} is acceptable", file.display())),
        None => console.note("there is no file; everything is acceptable"),
    }
    Ok(Exit::Done)
}
