//! Runs the contenders, alternately: one round of all, then the next, so that what changes on the machine meanwhile
//! changes it for all of them.

mod catalogue;
mod child;
mod document;
mod peers;
mod plots;
mod servers;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use catalogue::{Entry, FIGURES, Figure, Settings};
use peers::Peers;
use servers::Server;

use crate::machine::Machine;
use crate::options::Options;
use crate::results::{Line, Results, Run};
use crate::work::Work;

/// No run may take longer: whoever needs it is stuck, or has too much to do.
const RUN_MOST: Duration = Duration::from_secs(240);
/// So much longer for each million tasks that must be stored first.
const RUN_MOST_PER_MILLION: Duration = Duration::from_secs(600);

/// One line of the results, and who is to fill it.
struct Planned {
    figure: &'static Figure,
    entry: &'static Entry,
    line: Line,
}

/// Measures what the options ask for, prints the tables, and keeps the results.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut plan = plan(options)?;
    if options.list {
        list(&plan);
        return Ok(());
    }
    std::fs::create_dir_all(&options.dir)
        .with_context(|| format!("{} cannot be made", options.dir.display()))?;
    let machine = Machine::read();
    eprintln!("{machine}\nPreparing what contends");
    let peers = Peers::prepare(plan.iter().map(|planned| planned.entry));
    let at = now();
    let file = kept_in(options, &at);
    for round in 1..=options.runs {
        for planned in &mut plan {
            carry_out(planned, &peers, options, round);
        }
        // What was found is not lost if a later round fails.
        if let Some(file) = &file {
            results(&plan, &at, &machine, options).write(file)?;
        }
    }
    let results = results(&plan, &at, &machine, options);
    print!("{}", table::of_all(&results));
    if let Some(file) = &file {
        eprintln!("kept in {}", file.display());
    }
    if options.is_whole() {
        publish(&results)?;
    }
    let failed = results.lines.iter().filter(|line| line.missing.is_some());
    let failed: Vec<String> = failed
        .map(|line| format!("{} ({})", line.name(), line.figure))
        .collect();
    anyhow::ensure!(failed.is_empty(), "missing: {}", failed.join(", "));
    Ok(())
}

/// Writes the tables of `docs/performance.md` and its plots.
pub(crate) fn publish(results: &Results) -> anyhow::Result<()> {
    let docs = root().join("docs");
    let plots = plots::write_all(results, &docs.join("images"))?;
    document::write(&docs.join("performance.md"), results, &plots)
}

fn root() -> PathBuf {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    bench.parent().unwrap_or(bench).to_owned()
}

#[expect(clippy::disallowed_methods, reason = "the date on a run's results")]
fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// Where the results go. Those of a part are only kept where somebody says so: they must not take the place of a
/// whole day's.
fn kept_in(options: &Options, at: &str) -> Option<PathBuf> {
    let by_date = || {
        let file = format!("{}.json", &at[..10]);
        root().join("bench/results").join(file)
    };
    options
        .json
        .clone()
        .or_else(|| options.is_whole().then(by_date))
}

fn plan(options: &Options) -> anyhow::Result<Vec<Planned>> {
    let figures = FIGURES.iter().map(|figure| figure.name).collect();
    check("figure", &options.figures, figures)?;
    let contenders = FIGURES.iter().flat_map(|figure| figure.entries);
    let contenders = contenders.map(|entry| entry.contender).collect();
    check("contender", &options.contenders, contenders)?;
    let is_in = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
    let mut plan = Vec::new();
    for figure in FIGURES
        .iter()
        .filter(|figure| is_in(&options.figures, figure.name))
    {
        for setting in settings(figure, options) {
            let entries = figure.entries.iter();
            let entries = entries.filter(|entry| is_in(&options.contenders, entry.contender));
            let is_stored =
                |entry: &&Entry| options.stores.is_empty() || options.stores.contains(&entry.store);
            let is_fit = |entry: &&Entry| {
                let (name, most) = entry.at_most.unwrap_or(("", u64::MAX));
                setting.get(name).is_none_or(|value| *value <= most)
            };
            for entry in entries.filter(is_stored).filter(is_fit) {
                plan.push(Planned {
                    figure,
                    entry,
                    line: line(figure, entry, &setting, options),
                });
            }
        }
    }
    anyhow::ensure!(
        !plan.is_empty(),
        "nobody is left to contend: --list names the figures and who contends in each"
    );
    Ok(plan)
}

/// Is each of these known?
fn check(what: &str, asked: &[String], mut known: Vec<&str>) -> anyhow::Result<()> {
    known.dedup();
    for name in asked {
        anyhow::ensure!(
            known.contains(&name.as_str()),
            "there is no {what} `{name}`; there are: {}",
            {
                known.sort_unstable();
                known.dedup();
                known.join(", ")
            }
        );
    }
    Ok(())
}

fn settings(figure: &Figure, options: &Options) -> Vec<BTreeMap<String, u64>> {
    match figure.settings {
        Settings::InFlight => each("in_flight", &options.in_flight),
        Settings::Stored => each("stored", &options.stored),
        Settings::Fixed(all) => {
            let mut all: Vec<_> = all.iter().map(|setting| named(setting)).collect();
            let amounts = all
                .iter_mut()
                .filter_map(|setting| setting.get_mut(figure.unit));
            if options.quick {
                amounts.for_each(|amount| *amount /= 10);
            }
            all
        }
    }
}

fn each(name: &str, values: &[u64]) -> Vec<BTreeMap<String, u64>> {
    let values = values.iter();
    values.map(|value| named(&[(name, *value)])).collect()
}

fn named(settings: &[(&str, u64)]) -> BTreeMap<String, u64> {
    settings
        .iter()
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

fn line(
    figure: &Figure,
    entry: &Entry,
    setting: &BTreeMap<String, u64>,
    options: &Options,
) -> Line {
    let in_flight = setting.get("in_flight").copied().unwrap_or(1);
    let given = setting.get(figure.unit).copied();
    Line {
        figure: figure.name.to_owned(),
        setting: setting.clone(),
        contender: entry.contender.to_owned(),
        store: entry.store,
        own: named(entry.own),
        amount: given.unwrap_or_else(|| entry.amount(in_flight, options.quick)),
        runs: Vec::new(),
        missing: None,
    }
}

/// Who has failed once is not asked again: the reason stands in the table.
fn carry_out(planned: &mut Planned, peers: &Peers, options: &Options, round: u32) {
    let Planned {
        figure,
        entry,
        line,
    } = planned;
    if line.missing.is_some() {
        return;
    }
    let ran = peers
        .program(entry)
        .map_err(|reason| anyhow::anyhow!(reason));
    let ran = ran.and_then(|program| run_once(&program, figure, line, &options.dir));
    let setting = table::setting(&line.setting);
    match ran {
        Ok(run) => {
            line.runs.push(run);
            let head = &figure.columns[0];
            let value = line
                .runs
                .last()
                .and_then(|run| run.answer.found.values.get(head.value));
            let value = value.map_or("?".to_owned(), |value| format!("{value:.*}", head.decimals));
            eprintln!(
                "round {round}: {}{setting}: {}: {value} {}",
                figure.name,
                line.name(),
                head.head
            );
        }
        Err(reason) => {
            eprintln!(
                "round {round}: {}{setting}: {}: {reason:#}",
                figure.name,
                line.name()
            );
            line.missing = Some(format!("{reason:#}"));
        }
    }
}

fn run_once(
    program: &child::Program,
    figure: &Figure,
    line: &Line,
    dir: &Path,
) -> anyhow::Result<Run> {
    let place = tempfile::Builder::new().prefix("bench-").tempdir_in(dir)?;
    let dir = place.path().canonicalize()?;
    let server = Server::start(line.store, &dir)?;
    let mut settings = line.setting.clone();
    settings.extend(line.own.clone());
    settings.insert(figure.unit.to_owned(), line.amount);
    let work = Work {
        figure: figure.name.to_owned(),
        contender: line.contender.clone(),
        store: line.store,
        url: server.as_ref().map(Server::url),
        dir,
        settings,
    };
    let stored = line.setting.get("stored").copied().unwrap_or(0);
    let millions = u32::try_from(stored / 1_000_000).unwrap_or(u32::MAX);
    let most = RUN_MOST + RUN_MOST_PER_MILLION.saturating_mul(millions);
    child::run(program, &work, server.as_ref(), most)
}

fn results(plan: &[Planned], at: &str, machine: &Machine, options: &Options) -> Results {
    Results {
        at: at.to_owned(),
        earlier: Vec::new(),
        machine: machine.clone(),
        quick: options.quick,
        lines: plan.iter().map(|planned| planned.line.clone()).collect(),
    }
}

fn list(plan: &[Planned]) {
    for figure in FIGURES {
        let contenders = plan
            .iter()
            .filter(|planned| planned.figure.name == figure.name);
        let mut contenders: Vec<String> = contenders
            .map(|planned| {
                format!(
                    "{} ({})",
                    planned.entry.contender,
                    planned.entry.store.name()
                )
            })
            .collect();
        contenders.dedup();
        if !contenders.is_empty() {
            contenders.sort_unstable();
            contenders.dedup();
            println!(
                "{}: {}\n    {}",
                figure.name,
                figure.title,
                contenders.join(", ")
            );
        }
    }
}
