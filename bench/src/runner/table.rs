//! The tables, the same on a terminal and in a document: Markdown, with its columns aligned.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::catalogue::{Better, FIGURES, Figure};
use crate::place::Kind;
use crate::results::{Line, Results, Spread};

/// Every figure's tables, then who contended.
pub(super) fn of_all(results: &Results) -> String {
    let mut text = format!("{}; begun at {}\n\n", results.machine, results.at);
    for figure in figures(results) {
        let _ = writeln!(text, "{}: {}\n", figure.title, figure.about);
        for (setting, lines) in by_setting(results, figure) {
            let setting = self::setting(setting);
            if !setting.is_empty() {
                let _ = writeln!(text, "{}{setting}\n", figure.name);
            }
            text += &of_lines(figure, &lines);
            text.push('\n');
        }
    }
    text += "Who contended\n\n";
    text + &of_contenders(results)
}

/// The figures that there are results of, in the catalogue's order.
pub(super) fn figures(results: &Results) -> impl Iterator<Item = &'static Figure> {
    let is_there = |figure: &&Figure| results.lines.iter().any(|line| line.figure == figure.name);
    FIGURES.iter().filter(is_there)
}

/// The lines of a figure's tables, in the order in which they ran.
pub(super) fn by_setting<'a>(
    results: &'a Results,
    figure: &Figure,
) -> Vec<(&'a BTreeMap<String, u64>, Vec<&'a Line>)> {
    let mut tables: Vec<(&BTreeMap<String, u64>, Vec<&Line>)> = Vec::new();
    for line in results
        .lines
        .iter()
        .filter(|line| line.figure == figure.name)
    {
        match tables
            .iter_mut()
            .find(|(setting, _)| **setting == line.setting)
        {
            Some((_, lines)) => lines.push(line),
            None => tables.push((&line.setting, vec![line])),
        }
    }
    tables
}

/// `, 100 in flight`
pub(super) fn setting(setting: &BTreeMap<String, u64>) -> String {
    let said = |(name, value): (&String, &u64)| match name.as_str() {
        "in_flight" => format!(", {} in flight", grouped(*value as f64, 0)),
        "batch" => format!(", {} to a batch", grouped(*value as f64, 0)),
        name => format!(", {} {}", grouped(*value as f64, 0), name.replace('_', " ")),
    };
    setting.iter().map(said).collect()
}

/// One table: ours first, then the limits, then the peers, each kind by what it keeps its tasks in.
pub(super) fn of_lines(figure: &Figure, lines: &[&Line]) -> String {
    let mut lines = lines.to_vec();
    lines.sort_by_key(|line| (rank(line), line.store));
    let has = |value: fn(&Line) -> Option<Spread>| lines.iter().any(|line| value(line).is_some());
    let has_limit = lines.iter().any(|line| line.contender == "limit");
    let has_peer = lines.iter().any(|line| rank(line) == 2);
    let has_server = has(Line::server_peak_mib);

    let mut head = vec!["".to_owned()];
    head.extend(figure.columns.iter().map(|column| column.head.to_owned()));
    head.extend(has_limit.then(|| "of the limit".to_owned()));
    head.extend(has_peer.then(|| "ours is".to_owned()));
    head.push(match figure.unit {
        // Of what was asked for: who is too slow takes longer.
        "seconds" => "CPU s for a second's outputs".to_owned(),
        unit => format!("CPU s per 1,000 {unit}"),
    });
    head.push("peak MiB".to_owned());
    head.extend(has_server.then(|| "database's MiB".to_owned()));
    let mut rows = vec![head];
    for line in &lines {
        let mut row = vec![line.name()];
        for (at, column) in figure.columns.iter().enumerate() {
            row.push(match (line.value(column.value), at) {
                (Some(value), 0) => with_spread(value, column.decimals),
                (Some(value), _) => grouped(value.median, column.decimals),
                (None, 0) => line
                    .missing
                    .as_ref()
                    .map_or(String::new(), |_| "missing".to_owned()),
                (None, _) => String::new(),
            });
        }
        if has_limit {
            row.push(share_of_limit(figure, line, &lines).unwrap_or_default());
        }
        if has_peer {
            row.push(ours_to(figure, line, &lines).unwrap_or_default());
        }
        let median = |value: Option<Spread>, decimals| {
            value.map_or(String::new(), |it| grouped(it.median, decimals))
        };
        row.push(match figure.unit {
            "seconds" => median(line.cpu_per(1.0), 2),
            _ => median(line.cpu_per(1_000.0), 3),
        });
        row.push(median(line.peak_mib(), 0));
        if has_server {
            row.push(median(line.server_peak_mib(), 0));
        }
        rows.push(row);
    }
    let mut text = aligned(&rows);
    for line in lines.iter().filter(|line| line.missing.is_some()) {
        let reason = line
            .missing
            .as_deref()
            .unwrap_or_default()
            .replace('\n', " / ");
        let _ = writeln!(text, "\n{} is missing: {reason}", line.name());
    }
    text
}

/// Version, durability and what was verified, of everybody once.
pub(super) fn of_contenders(results: &Results) -> String {
    let mut known: BTreeMap<(u8, Kind, String), (&str, &str)> = BTreeMap::new();
    for line in &results.lines {
        for run in &line.runs {
            let said = (run.answer.version.as_str(), run.answer.durability.as_str());
            known.insert((rank(line), line.store, line.name()), said);
        }
    }
    let mut rows = vec![
        ["", "version", "a completed task is safe by"]
            .map(str::to_owned)
            .into(),
    ];
    for ((_, _, name), (version, durability)) in known {
        rows.push(vec![name, version.to_owned(), durability.to_owned()]);
    }
    aligned(&rows)
}

pub(super) fn rank(line: &Line) -> u8 {
    match line.contender.as_str() {
        "ours" => 0,
        "limit" => 1,
        _ => 2,
    }
}

/// How much of what is possible, of whoever keeps its tasks in the same store.
fn share_of_limit(figure: &Figure, line: &Line, lines: &[&Line]) -> Option<String> {
    let is_limit = |other: &&&Line| other.contender == "limit" && other.store == line.store;
    let limit = lines.iter().find(is_limit)?;
    if line.contender == "limit" {
        return None;
    }
    let (own, limit) = (headline(figure, line)?, headline(figure, limit)?);
    Some(match figure.columns[0].better {
        Better::Higher => format!("{:.0} %", own / limit * 100.0),
        Better::Lower => format!("{:.1} ×", own / limit),
    })
}

/// How many times as good ours is that keeps its tasks where this peer does; beside Redis and plain files, what ours
/// has instead: PostgreSQL over the network, SQLite on the disk.
fn ours_to(figure: &Figure, line: &Line, lines: &[&Line]) -> Option<String> {
    if rank(line) != 2 {
        return None;
    }
    let store = match line.store {
        Kind::Redis => Kind::Postgres,
        Kind::File => Kind::Sqlite,
        same => same,
    };
    let is_ours =
        |other: &&&Line| other.contender == "ours" && other.store == store && other.own.is_empty();
    let ours = headline(figure, lines.iter().find(is_ours)?)?;
    let peer = headline(figure, line)?;
    let times = match figure.columns[0].better {
        Better::Higher => ours / peer,
        Better::Lower => peer / ours,
    };
    Some(match times {
        10.0.. => format!("{} ×", grouped(times, 0)),
        _ => format!("{times:.1} ×"),
    })
}

fn headline(figure: &Figure, line: &Line) -> Option<f64> {
    Some(line.value(figure.columns[0].value)?.median)
}

fn with_spread(value: Spread, decimals: usize) -> String {
    let of = |value| grouped(value, decimals);
    match value.least < value.most {
        true => format!(
            "{} ({}–{})",
            of(value.median),
            of(value.least),
            of(value.most)
        ),
        false => of(value.median),
    }
}

/// With a comma between thousands.
pub(super) fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, digits) = whole.split_at(usize::from(whole.starts_with('-')));
    let mut out = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text += "|\n";
        if at == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text += "|\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(999.0, 0), "999");
        assert_eq!(grouped(-1_234.56, 1), "-1,234.6");
        assert_eq!(grouped(0.25, 2), "0.25");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = aligned(&[row(["", "µs"]), row(["a name", "1"])]);
        assert_eq!(text, "|        | µs |\n|--------|----|\n| a name | 1  |\n");
    }
}
