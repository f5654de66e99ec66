//! The part of `docs/performance.md` that a run writes; the rest is written by hand and left as it is.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::table;
use crate::results::Results;

const BEGIN: &str = "<!-- measured: what follows is written by ./bench/run -->";
const END: &str = "<!-- measured: end -->";

/// Puts the tables and the plots between the document's two marks. `plots` are files' names with their figures'.
pub(super) fn write(
    path: &Path,
    results: &Results,
    plots: &[(String, String)],
) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text = replaced(&text, &measured(results, plots))
        .with_context(|| format!("{} has no lines `{BEGIN}` and `{END}`", path.display()))?;
    Ok(std::fs::write(path, text)?)
}

fn replaced(text: &str, measured: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{measured}\n{END}{after}"))
}

fn measured(results: &Results, plots: &[(String, String)]) -> String {
    let days = results.days().join(" and ");
    let runs = results
        .lines
        .iter()
        .map(|line| line.runs.len())
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "{days}, {}. Medians of {runs} runs, and in parentheses their least and most.\n\n",
        results.machine
    );
    for figure in table::figures(results) {
        let _ = writeln!(text, "### {}\n\n{}\n", figure.title, figure.about);
        for (file, of_figure) in plots {
            if of_figure == figure.name {
                let _ = writeln!(text, "![{}](images/{file})\n", figure.title);
            }
        }
        for (setting, lines) in table::by_setting(results, figure) {
            let setting = table::setting(setting);
            let setting = setting.trim_start_matches(", ");
            if !setting.is_empty() {
                let _ = writeln!(text, "#### {setting}\n");
            }
            text += &table::of_lines(figure, &lines);
            text.push('\n');
        }
    }
    text += "### Who contended\n\n";
    text + &table::of_contenders(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_written() {
        let text = format!("by hand\n{BEGIN}\nold\n{END}\nby hand too\n");
        let found = replaced(&text, "new\n").expect("the marks are there");
        assert_eq!(
            found,
            format!("by hand\n{BEGIN}\n\nnew\n\n{END}\nby hand too\n")
        );
        assert_eq!(replaced("no marks", "new"), None);
    }
}
