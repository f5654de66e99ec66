//! The files that the agents work on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// So many files are enough for a demo, and so many levels of directories.
const FILES_MAX: usize = 2_000;
const DEPTH_MAX: usize = 12;
/// Larger files are left out, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1_048_576;
/// With fewer files there would be nothing to see.
const FILES_MIN: usize = 3;
/// Directories that hold what others made.
const FOREIGN: [&str; 3] = ["target", "node_modules", "vendor"];

/// What is worked on.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) root: PathBuf,
    /// From the root, in order.
    pub(super) paths: Vec<PathBuf>,
}

impl Files {
    /// The directory that is asked for; else the repository that we are in; else the working directory;
    /// else files of our own making.
    pub(super) fn find(asked: Option<PathBuf>, scratch: &Path) -> Result<Self, Failure> {
        if let Some(root) = asked {
            let files = Self::under(root);
            return match files.paths.is_empty() {
                true => Err(Failure::bad_input(format!(
                    "there is no file to work on in {}",
                    files.root.display()
                ))),
                false => Ok(files),
            };
        }
        let here = std::env::current_dir().unwrap_or_default();
        let repository = here.ancestors().find(|path| path.join(".git").exists());
        let found = Self::under(repository.unwrap_or(&here).to_owned());
        if found.paths.len() >= FILES_MIN {
            return Ok(found);
        }
        let root = scratch.join("files");
        write_own(&root).map_err(|error| {
            Failure::unreachable(format!(
                "no files can be written to {}: {error}",
                root.display()
            ))
        })?;
        Ok(Self::under(root))
    }

    fn under(root: PathBuf) -> Self {
        let mut paths = Vec::new();
        gather(&root, Path::new(""), 0, &mut paths);
        paths.sort();
        Self { root, paths }
    }
}

fn gather(root: &Path, folder: &Path, depth: usize, paths: &mut Vec<PathBuf>) {
    // What cannot be read is not worked on.
    let Ok(entries) = fs::read_dir(root.join(folder)) else {
        return;
    };
    let mut entries: Vec<_> = entries.flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let (Some(text), Ok(kind)) = (name.to_str(), entry.file_type()) else {
            continue;
        };
        let is_foreign = text.starts_with('.') || FOREIGN.contains(&text);
        if is_foreign || paths.len() >= FILES_MAX {
            continue;
        }
        let path = folder.join(&name);
        if kind.is_dir() && depth < DEPTH_MAX {
            gather(root, &path, depth + 1, paths);
        } else if kind.is_file() && entry.metadata().is_ok_and(|it| it.len() <= FILE_BYTES_MAX) {
            paths.push(path);
        }
    }
}

/// Writes some files where there is no repository.
fn write_own(root: &Path) -> std::io::Result<()> {
    for number in 0..24 {
        let (folder, extension) = match number % 3 {
            0 => ("src", "rs"),
            1 => ("docs", "md"),
            _ => ("scripts", "py"),
        };
        let folder = root.join(folder);
        fs::create_dir_all(&folder)?;
        let line = format!("line of file {number}, written by sidestream demo\n");
        fs::write(
            folder.join(format!("file{number:02}.{extension}")),
            line.repeat(40 + number),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_nothing_to_work_on_files_are_written() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let root = scratch.path().join("files");
        write_own(&root).expect("it can be written");
        let files = Files::under(root);
        assert_eq!(files.paths.len(), 24);
        assert_eq!(files.paths[0], Path::new("docs/file01.md"));
    }

    #[test]
    fn what_others_made_is_left_out() {
        let scratch = tempfile::tempdir().expect("a temporary directory");
        for name in ["target/a", ".git/b", "src/c", ".hidden"] {
            let path = scratch.path().join(name);
            fs::create_dir_all(path.parent().expect("it has one")).expect("it is made");
            fs::write(path, "x").expect("it is written");
        }
        let files = Files::under(scratch.path().to_owned());
        assert_eq!(files.paths, [PathBuf::from("src/c")]);
    }
}
