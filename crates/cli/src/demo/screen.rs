//! What the audience sees: a line for each event, and bars for what tells how far it is.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sidestream_client::{Chunk, ChunkType};
use tokio::time::Instant;

use super::cast::CAST;
use super::tools::Progress;
use crate::console::{Console, Style, cut, padded, plain};
use crate::exit::Failure;
use crate::show;

/// Columns of an agent's and a tool's name.
const AGENT_COLUMNS: usize = 8;
const TOOL_COLUMNS: usize = 11;
/// Without bars, progress is told so many times.
const TELLINGS: usize = 4;
/// Who approves, cancels and kills.
const PERSON: &str = "you";

/// Where the demo is shown. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Screen(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    console: Console,
    started: Instant,
    /// On a terminal.
    bars: Option<MultiProgress>,
    /// By tool: its bar, and how often its progress was told without one.
    progress: Mutex<HashMap<String, (Option<ProgressBar>, usize)>>,
}

impl Screen {
    pub(super) fn new(console: Console) -> Self {
        let has_bars = console.is_terminal && !console.json;
        let bars = has_bars.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Self(Arc::new(Inner {
            console,
            started: Instant::now(),
            bars,
            progress: Mutex::default(),
        }))
    }

    pub(super) fn console(&self) -> Console {
        self.0.console
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// What it is about.
    pub(super) fn title(&self, text: &str) -> Result<(), Failure> {
        self.plain(&self.0.console.paint(Style::Bold, text))?;
        self.plain("")
    }

    /// An event.
    pub(super) fn show(&self, chunk: &Chunk) -> Result<(), Failure> {
        let console = self.0.console;
        if console.json {
            return console.data(chunk.json());
        }
        let tool = chunk.payload.tool_name.as_deref().unwrap_or_default();
        let agent = chunk.payload.agent_id.as_deref().unwrap_or_default();
        let output = chunk.payload.payload.as_ref();
        if let Some(progress) = output.and_then(|json| json.parse::<Progress>().ok()) {
            return self.show_progress(agent, tool, &progress);
        }
        let mut told = show::told(chunk);
        if chunk.chunk_type == Some(ChunkType::Started)
            && let Some(part) = CAST.iter().find(|part| part.tool == tool)
        {
            told.text = format!("dispatched: {}", part.description);
        }
        if chunk.is_terminal() {
            self.end_bar(tool);
        }
        let what = format!("{} {}", told.mark, told.text);
        self.line(agent, tool, told.style, &what)
    }

    /// Something that a person does.
    pub(super) fn act(&self, tool: &str, what: &str) -> Result<(), Failure> {
        if self.0.console.json {
            self.note(&format!("{PERSON}: {tool}: {what}"));
            return Ok(());
        }
        self.line(PERSON, tool, Style::Bold, &format!("● {what}"))
    }

    fn line(&self, agent: &str, tool: &str, style: Style, what: &str) -> Result<(), Failure> {
        let console = self.0.console;
        let seconds = format!("{:>6.2}s", self.elapsed().as_secs_f64());
        let start = format!(
            "{}  {}  {}  ",
            console.paint(Style::Dim, &seconds),
            console.paint(style_of(agent), &padded(agent, AGENT_COLUMNS)),
            padded(tool, TOOL_COLUMNS),
        );
        self.plain(&format!("{start}{}", console.paint(style, &plain(what))))
    }

    fn show_progress(&self, agent: &str, tool: &str, progress: &Progress) -> Result<(), Failure> {
        let Progress { done, total, at } = progress;
        let telling = done * TELLINGS / total.max(&1);
        let is_news = {
            let mut known = self
                .0
                .progress
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let (bar, told) = known
                .entry(tool.to_owned())
                .or_insert_with(|| (self.new_bar(agent, tool, *total), 0));
            if let Some(bar) = bar {
                bar.set_position(*done as u64);
                bar.set_message(plain(at).into_owned());
            }
            let is_news = bar.is_none() && telling > *told;
            *told = telling.max(*told);
            is_news
        };
        if !is_news {
            return Ok(());
        }
        let what = format!("│ {done} of {total} files, {}", plain(at));
        self.line(agent, tool, Style::Plain, &what)
    }

    fn new_bar(&self, agent: &str, tool: &str, total: usize) -> Option<ProgressBar> {
        let template = "         {prefix}  {bar:24.green/dim} {pos:>4}/{len} {wide_msg:.dim}";
        let style = ProgressStyle::with_template(template).expect("the template is one");
        let bar = ProgressBar::new(total as u64).with_style(style.progress_chars("━╸─"));
        let (agent, tool) = (padded(agent, AGENT_COLUMNS), padded(tool, TOOL_COLUMNS));
        Some(
            self.0
                .bars
                .as_ref()?
                .add(bar.with_prefix(format!("{agent}  {tool}"))),
        )
    }

    fn end_bar(&self, tool: &str) {
        let mut known = self
            .0
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((Some(bar), _)) = known.remove(tool) {
            bar.finish_and_clear();
        }
    }

    /// A line as it is: data, but beside the chunks with `--json`.
    pub(super) fn plain(&self, line: &str) -> Result<(), Failure> {
        let console = self.0.console;
        if console.json {
            console.note(line);
            return Ok(());
        }
        let line = match console.width() {
            Some(width) => cut(line, width),
            None => line.into(),
        };
        match &self.0.bars {
            Some(bars) => bars.suspend(|| console.data(&line)),
            None => console.data(&line),
        }
    }

    /// Begins a new part.
    pub(super) fn heading(&self, text: &str) -> Result<(), Failure> {
        self.plain("")?;
        self.plain(&self.0.console.paint(Style::Bold, text))
    }

    /// The last line.
    pub(super) fn end(&self, text: &str) -> Result<(), Failure> {
        self.plain("")?;
        self.plain(&self.0.console.paint(Style::Green, &format!("✔ {text}")))
    }

    /// Something beside the show.
    pub(super) fn note(&self, text: &str) {
        self.0.console.note(text);
    }
}

/// Each agent has its colour.
fn style_of(agent: &str) -> Style {
    match agent {
        "indexer" => Style::Cyan,
        "builder" => Style::Blue,
        "reviewer" => Style::Magenta,
        _ => Style::Bold,
    }
}
