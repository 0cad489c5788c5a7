//! Files that steps write: inside their folder, and all or nothing.

use std::{
    io::Write,
    path::{Component, Path, PathBuf},
};

/// A path below a folder. A value cannot lead out of it: no absolute path, no `..`, no link that points elsewhere.
///
/// # Errors
/// A sentence that names the path and why it is refused.
pub(crate) fn confine(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let relative = Path::new(path);
    let plain = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if path.is_empty() || path.contains('\0') || !plain {
        return Err(format!(
            "`{path}` is not a path inside `{}`: it is empty, absolute or leads upwards",
            folder.display()
        ));
    }
    let target = folder.join(relative);
    let root = folder.canonicalize().map_err(|e| format!("`{}`: {e}", folder.display()))?;
    // The nearest ancestor that is there must lie inside, links followed.
    let there = target.ancestors().find(|a| a.exists()).unwrap_or(folder);
    let real = there.canonicalize().map_err(|e| format!("`{}`: {e}", there.display()))?;
    if !real.starts_with(&root) {
        return Err(format!("`{path}` leads out of `{}` through a link", folder.display()));
    }
    Ok(target)
}

/// Writes a file under another name and renames it, so that nobody sees half of it.
///
/// # Errors
/// The operating system's.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = std::fs::File::create(&part)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_leave_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/tmp", folder.path().join("out")).unwrap();
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "out/x", "a\0b"] {
            assert!(confine(folder.path(), bad).is_err(), "{bad:?}");
        }
        for good in ["x", "a/b c.txt", "./x"] {
            assert!(confine(folder.path(), good).is_ok(), "{good:?}");
        }
    }
}
