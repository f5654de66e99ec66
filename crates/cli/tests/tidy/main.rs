//! The rules of the house that no compiler checks: who depends on whom, who imports whom, who prints.
//!
//! Each test reads the workspace's own files and names every place that breaks its rule, with what
//! to do about it. Who finds a rule wrong changes its table here and `ARCHITECTURE.md` together.
//! Rust is read by its words, not parsed: what a macro makes is not seen.

mod rust;
mod workspace;

use std::fmt::Write as _;

use rust::{line_of, paths_after, places};
use workspace::{
    Source, crate_folders, dependencies_of, files_under, read, relative, root, rust_sources,
};

/// The crates that the core may use: enough to name things, and nothing that acts.
const CORE_DEPENDENCIES: &[&str] = &["jiff", "serde", "serde_json", "thiserror"];

/// The house's crates by folder, each with those of the house that it may depend on.
const HOUSE: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("sidestream", &["sidestream-core"]),
    // `sidestream` for the feature `worker` only, and without SQL: docs/decisions/0011.
    ("client", &["sidestream-core", "sidestream"]),
    (
        "server",
        &["sidestream-core", "sidestream", "sidestream-client"],
    ),
    (
        "cli",
        &[
            "sidestream-core",
            "sidestream",
            "sidestream-client",
            "sidestream-server",
        ],
    ),
];

/// The layers inside `crates/sidestream/src`, lowest first. A module imports only from layers below its own.
const LAYERS: &[&[&str]] = &[
    &["error"],
    &["clock", "chance", "doorbell"],
    &["store"],
    &["stream"],
    &["writer"],
    &["worker", "maintenance", "records"],
    &["manager"],
    &["testing"],
];

/// What only the command line may do.
const PRINTS_OR_EXITS: &[&str] = &[
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "process::exit",
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common"];

/// Marks of work left undone. Written so that this file does not hold them.
const LEFTOVERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];

/// A core that could reach a runtime, a clock or a database would no longer be pure.
#[test]
fn the_core_depends_on_nothing_that_acts() {
    let mut violations = Violations::default();
    for name in dependencies_of("core") {
        if !CORE_DEPENDENCIES.contains(&name.as_str()) {
            violations.add(format!(
                "crates/core/Cargo.toml: depends on {name}; the core is pure: take what it needs as an \
                 argument, or build this part in the crate `sidestream`"
            ));
        }
    }
    violations.check();
}

/// The arrows between the crates point one way, so that who embeds one does not get the others.
#[test]
fn crates_depend_only_downwards() {
    let mut violations = Violations::default();
    for folder in crate_folders() {
        let manifest = format!("crates/{folder}/Cargo.toml");
        let Some((_, allowed)) = HOUSE.iter().find(|(known, _)| *known == folder) else {
            violations.add(format!(
                "{manifest}: a crate unknown to HOUSE in crates/cli/tests/tidy/main.rs; say there what it may use"
            ));
            continue;
        };
        for name in dependencies_of(&folder) {
            if name.starts_with("sidestream") && !allowed.contains(&name.as_str()) {
                violations.add(format!(
                    "{manifest}: depends on {name}, which is not below it; move the shared part down"
                ));
            }
        }
    }
    violations.check();
}

/// A library that prints or exits takes the decision from whoever embeds it.
#[test]
fn only_the_command_line_prints_or_exits() {
    let mut violations = Violations::default();
    for source in rust_sources().iter().filter(|source| source.is_library()) {
        for word in PRINTS_OR_EXITS {
            for at in places(&source.code, word) {
                violations.add(format!(
                    "{}: {word}; return an error or log with tracing, and let crates/cli say it",
                    source.at(at)
                ));
            }
        }
    }
    violations.check();
}

/// Inside `sidestream`, each module can be read without those above it.
#[test]
fn imports_point_down_the_layers() {
    let mut violations = Violations::default();
    for source in rust_sources() {
        let Some(module) = source.module_of_sidestream() else {
            continue;
        };
        let Some(own) = layer(&module) else {
            violations.add(format!(
                "{}: the module {module} has no layer; give it one in LAYERS in crates/cli/tests/tidy/main.rs",
                source.path.display()
            ));
            continue;
        };
        for (at, name) in imports_of(&source) {
            match layer(&name) {
                _ if name == module => {}
                Some(other) if other < own => {}
                Some(_) => violations.add(format!(
                    "{}: {module} imports {name}, which is not below it; pass in what it needs, or move the \
                     shared part to a lower layer",
                    source.at(at)
                )),
                None => violations.add(format!(
                    "{}: imports crate::{name}, which is no module with a layer; import it from the module that \
                     owns it, or give a new module its layer in LAYERS in crates/cli/tests/tidy/main.rs",
                    source.at(at)
                )),
            }
        }
    }
    violations.check();
}

/// A module without a subject attracts whatever has no home.
#[test]
fn no_module_is_named_for_nothing() {
    let mut violations = Violations::default();
    for source in rust_sources() {
        let parts = source.path.with_extension("");
        let by_file = parts
            .iter()
            .any(|part| EMPTY_NAMES.iter().any(|name| part == *name));
        let inline = EMPTY_NAMES
            .iter()
            .any(|name| !places(&source.code, &format!("mod {name}")).is_empty());
        if by_file || inline {
            violations.add(format!(
                "{}: a module named for nothing; name it for its subject, or move each part to where it is used",
                source.path.display()
            ));
        }
    }
    violations.check();
}

/// Known debt is mended now or told aloud; a mark in a file does neither.
#[test]
fn nothing_is_left_for_later() {
    let mut violations = Violations::default();
    for path in files_under(&root()) {
        let text = read(&path);
        for word in LEFTOVERS {
            for at in places(&text, word) {
                violations.add(format!(
                    "{}:{}: {word}; do it now, or say in CHANGELOG.md or an issue that it is missing",
                    relative(&path).display(),
                    line_of(&text, at)
                ));
            }
        }
    }
    violations.check();
}

/// Gathers every place that breaks a rule, so that one run shows them all.
#[derive(Default)]
struct Violations(String);

impl Violations {
    fn add(&mut self, what: String) {
        writeln!(self.0, "  {what}").expect("writing to a string does not fail");
    }

    fn check(self) {
        assert!(self.0.is_empty(), "\n{}", self.0);
    }
}

/// The modules of its own crate that this file names. `super` counts where it reaches the crate's
/// root and names a layer; inside an inline module it may mean a neighbour instead.
fn imports_of(source: &Source) -> Vec<(usize, String)> {
    let mut found = paths_after(&source.code, "crate::");
    let depth = source.path.iter().count() - "crates/sidestream/src".split('/').count();
    let to_root = "super::".repeat(depth);
    found.extend(
        paths_after(&source.code, &to_root)
            .into_iter()
            .filter(|(_, name)| layer(name).is_some()),
    );
    found
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}
