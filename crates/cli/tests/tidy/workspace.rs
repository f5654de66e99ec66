//! The workspace's files, as the rules see them: Rust sources and manifests.

use std::fs;
use std::path::{Path, PathBuf};

use crate::rust::{code_of, line_of, without_tests};

const SOURCE_EXTENSIONS: &[&str] = &[
    "rs", "toml", "sql", "js", "mjs", "ts", "css", "html", "py", "sh",
];
const FOREIGN_FOLDERS: &[&str] = &["target", "node_modules", ".git", ".cache"];

/// One Rust file, as written and as code alone.
pub(crate) struct Source {
    /// From the workspace's root.
    pub(crate) path: PathBuf,
    /// The text without comments, literals and tests: blanked out, so that places stay the same.
    pub(crate) code: String,
}

impl Source {
    fn read(path: &Path) -> Self {
        Self {
            path: relative(path),
            code: without_tests(&code_of(&read(path))),
        }
    }

    pub(crate) fn is_library(&self) -> bool {
        let mut parts = self
            .path
            .iter()
            .map(|part| part.to_str().expect("our names are ASCII"));
        parts.next() == Some("crates") && parts.next() != Some("cli") && parts.next() == Some("src")
    }

    /// The top-level module of the crate `sidestream` that this file belongs to; its root is none.
    pub(crate) fn module_of_sidestream(&self) -> Option<String> {
        let inside = self.path.strip_prefix("crates/sidestream/src").ok()?;
        let first = Path::new(inside.iter().next()?).with_extension("");
        let name = first.to_str().expect("our names are ASCII");
        (name != "lib").then(|| name.to_owned())
    }

    pub(crate) fn at(&self, place: usize) -> String {
        format!("{}:{}", self.path.display(), line_of(&self.code, place))
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the workspace is there")
}

pub(crate) fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(root())
        .expect("only the workspace's files are read")
        .to_owned()
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn rust_sources() -> Vec<Source> {
    files_under(&root().join("crates"))
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| Source::read(path))
        .collect()
}

pub(crate) fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in entries(folder) {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && !FOREIGN_FOLDERS.contains(&name) {
            files.extend(files_under(&path));
        } else if path.is_file()
            && SOURCE_EXTENSIONS
                .iter()
                .any(|end| path.extension().is_some_and(|it| it == *end))
        {
            files.push(path);
        }
    }
    files
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("the folder can be read").path())
        .collect();
    paths.sort();
    paths
}

pub(crate) fn crate_folders() -> Vec<String> {
    entries(&root().join("crates"))
        .iter()
        .filter(|path| path.join("Cargo.toml").is_file())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect()
}

/// The crates that a crate of the house depends on, under their own names, tests' aside.
pub(crate) fn dependencies_of(folder: &str) -> Vec<String> {
    let manifest = manifest(&root().join("crates").join(folder));
    let shared = manifest_table(&manifest_of_workspace(), "dependencies");
    let for_targets = manifest_table(&manifest, "target");
    let mut sections = vec![manifest.clone()];
    sections.extend(
        for_targets
            .values()
            .filter_map(|section| section.as_table().cloned()),
    );

    let mut names = Vec::new();
    for section in &sections {
        for kind in ["dependencies", "build-dependencies"] {
            for (name, dependency) in manifest_table(section, kind) {
                names.push(real_name(&name, &dependency, &shared));
            }
        }
    }
    names
}

/// A dependency may be renamed where it is used, or for the whole workspace.
fn real_name(name: &str, dependency: &toml::Value, shared: &toml::Table) -> String {
    let renamed = |value: &toml::Value| Some(value.get("package")?.as_str()?.to_owned());
    renamed(dependency)
        .or_else(|| renamed(shared.get(name)?))
        .unwrap_or_else(|| name.to_owned())
}

fn manifest(folder: &Path) -> toml::Table {
    let path = folder.join("Cargo.toml");
    read(&path)
        .parse()
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest_of_workspace() -> toml::Table {
    manifest_table(&manifest(&root()), "workspace")
}

fn manifest_table(table: &toml::Table, key: &str) -> toml::Table {
    table
        .get(key)
        .and_then(toml::Value::as_table)
        .cloned()
        .unwrap_or_default()
}
