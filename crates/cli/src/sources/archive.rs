//! Archives: unpacked once, into a folder named after what they hold.

use std::{
    io::{self, Read},
    path::{Component, Path, PathBuf},
};

use flate2::read::GzDecoder;
use tar::{Archive, EntryType};

/// Files of one archive at most.
const MOST: usize = 20_000;

/// Whether a name is that of an archive that can be unpacked.
pub fn is_archive(name: &str) -> bool {
    [".tar.gz", ".tgz", ".tar"].iter().any(|end| name.ends_with(end))
}

/// Unpacks files and folders (no links, nothing that leaves the folder) of at most `limit` bytes in all; the folder is
/// there whole or not at all.
pub fn unpack(bytes: &[u8], folder: &Path, limit: u64) -> io::Result<()> {
    let parent = folder.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let fresh = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(parent)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        files_of(GzDecoder::new(bytes), fresh.path(), limit)?;
    } else {
        files_of(bytes, fresh.path(), limit)?;
    }
    match std::fs::rename(fresh.path(), folder) {
        // Somebody else was faster, and it is the same.
        Err(_) if folder.is_dir() => Ok(()),
        done => done,
    }
}

/// The one folder around everything, as forges make it.
pub fn only_folder(folder: &Path) -> Option<PathBuf> {
    let mut all = std::fs::read_dir(folder).ok()?;
    let first = all.next()?.ok()?;
    (all.next().is_none() && first.file_type().ok()?.is_dir()).then(|| first.path())
}

fn files_of(bytes: impl Read, folder: &Path, limit: u64) -> io::Result<()> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut left = limit;
    for (count, entry) in Archive::new(bytes).entries()?.enumerate() {
        let mut entry = entry?;
        if count >= MOST {
            return Err(invalid(format!("the archive has more than {MOST} entries")));
        }
        let path = entry.path()?.into_owned();
        if !path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(invalid(format!("`{}` of the archive leaves its folder", path.display())));
        }
        let to = folder.join(&path);
        match entry.header().entry_type() {
            EntryType::Directory => std::fs::create_dir_all(&to)?,
            EntryType::Regular | EntryType::Continuous => {
                left = left.checked_sub(entry.size()).ok_or_else(|| {
                    invalid(format!("the archive unpacks to more than {} MiB", limit >> 20))
                })?;
                std::fs::create_dir_all(to.parent().unwrap_or(folder))?;
                entry.unpack(&to)?;
            }
            // Links could lead out of the folder; headers of other kinds are nobody's files.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name and what is in it.
    type File<'a> = (&'a str, &'a [u8]);

    fn archive(files: &[File<'_>]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            // As a hostile archive would: the library refuses such names.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *text).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn what_leaves_the_folder_or_is_too_large_is_refused_whole() {
        let room = tempfile::tempdir().unwrap();
        let table: [(&[File<'_>], &str); 3] = [
            (&[("a.yaml", b"x"), ("../b.yaml", b"x")], "`../b.yaml` of the archive leaves its folder"),
            (&[("/etc/b", b"x")], "`/etc/b` of the archive leaves its folder"),
            (&[("a", &[0; 600]), ("b", &[0; 600])], "the archive unpacks to more than 0 MiB"),
        ];
        for (files, expected) in table {
            let to = room.path().join("out");
            let error = unpack(&archive(files), &to, 1000).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(!to.exists());
            assert_eq!(std::fs::read_dir(room.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn one_folder_around_everything_is_found() {
        let room = tempfile::tempdir().unwrap();
        let (one, two) = (room.path().join("1"), room.path().join("2"));
        unpack(&archive(&[("repo-1/ops/a.yaml", b"x"), ("repo-1/b", b"y")]), &one, 1000).unwrap();
        unpack(&archive(&[("a/x", b"x"), ("b/y", b"y")]), &two, 1000).unwrap();
        assert_eq!(only_folder(&one), Some(one.join("repo-1")));
        assert_eq!(only_folder(&two), None);
        assert_eq!(std::fs::read(one.join("repo-1/ops/a.yaml")).unwrap(), b"x");
        assert_eq!(std::fs::read(two.join("b/y")).unwrap(), b"y");
        assert!(unpack(b"not an archive at all", &room.path().join("3"), 1000).is_err());
    }
}
