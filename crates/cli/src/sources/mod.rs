//! Where definitions come from: files, folders, standard input, and remote sources, each of which may be pinned:
//!
//! - `https://host/timetable.yaml#sha256=...`: a document
//! - `https://host/repo/archive/v1.tar.gz#sha256=...&path=ops`: a folder of an archive (`.tar.gz`, `.tgz`, `.tar`)
//! - `s3://bucket/key`, `gs://bucket/key`: a document or archive, read with the cloud's own tool
//! - `git+https://host/repo#ref=main&path=ops`, `git+ssh://...#commit=...`: a folder of a repository

mod archive;
mod fetch;

use std::{
    fmt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use ostler_timetable::{Diagnostic, Diagnostics, Format, Loaded};

use crate::{
    context,
    error::{CliError, NOT_FOUND},
};

/// What an archive may have, packed and unpacked.
const MAX_ARCHIVE: u64 = 256 << 20;

/// Where definitions come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, a folder, or `-`.
    Path(PathBuf),
    /// Something elsewhere.
    Remote(Remote),
}

/// Something elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// Where, without what follows `#`.
    url: String,
    /// What it must hash to.
    sha256: Option<String>,
    /// The file or folder of an archive or repository.
    path: Option<String>,
    /// The branch or tag of a repository.
    reference: Option<String>,
    /// The commit that this must be.
    commit: Option<String>,
}

/// What a source looked like: another look that gives the same need not be loaded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Files with size, moment of change and inode.
    Files(Vec<(PathBuf, u64, i128, u64)>),
    /// The document's text by its digest.
    Text(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Remote(remote) => f.write_str(&remote.url),
        }
    }
}

impl Source {
    /// The source that a text names.
    pub fn parse(path: &Path) -> Result<Self, CliError> {
        let text = path.to_string_lossy();
        let Some((scheme, _)) = text.split_once("://") else { return Ok(Self::Path(path.to_owned())) };
        let (url, pins) = text.split_once('#').unwrap_or((&text, ""));
        let mut remote = Remote { url: url.to_owned(), ..Remote::default() };
        for pin in pins.split('&').filter(|pin| !pin.is_empty()) {
            remote.pin(pin)?;
        }
        remote.check(scheme)?;
        Ok(Self::Remote(remote))
    }

    /// Whether it is looked at again and again with little cost.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Path(path) if path.as_os_str() != "-")
    }

    /// Reads it, with what it looked like.
    pub fn load(&self) -> Result<(Loaded, Look), CliError> {
        match self {
            Self::Path(path) => {
                if path.as_os_str() != "-" && !path.exists() {
                    let message = format!("there is no file `{}`", path.display());
                    return Err(CliError::new(NOT_FOUND, "not_found", message));
                }
                // Looked at first: what changes while it is read is seen as a change later.
                let look = self.look().unwrap_or_else(|_| Look::Files(Vec::new()));
                Ok((ostler_timetable::load_path(path, &context::load_options())?, look))
            }
            Self::Remote(remote) => remote.load(),
        }
    }

    /// What it looks like now, without reading it: files only.
    pub fn look(&self) -> std::io::Result<Look> {
        let Self::Path(path) = self else { return Ok(Look::Files(Vec::new())) };
        let of = |path: PathBuf| {
            let data = std::fs::metadata(&path)?;
            let changed = i128::from(data.mtime()) * 1_000_000_000 + i128::from(data.mtime_nsec());
            Ok::<_, std::io::Error>((path, data.len(), changed, data.ino()))
        };
        if !path.is_dir() {
            return Ok(Look::Files(vec![of(path.clone())?]));
        }
        let mut files = Vec::new();
        for entry in path.read_dir()? {
            let entry = entry?.path();
            if Format::of_path(&entry).is_some() {
                // One that goes away in between is not there.
                files.extend(of(entry));
            }
        }
        files.sort();
        Ok(Look::Files(files))
    }
}

impl Remote {
    /// Takes one of the words behind `#`.
    fn pin(&mut self, pin: &str) -> Result<(), CliError> {
        let is_hex = |text: &str, lengths: &[usize]| {
            lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let is_path = |text: &str| {
            Path::new(text).components().all(|part| matches!(part, std::path::Component::Normal(_)))
        };
        let place = match pin.split_once('=') {
            Some(("sha256", hex)) if is_hex(hex, &[64]) => &mut self.sha256,
            Some(("commit", hex)) if is_hex(hex, &[40, 64]) => &mut self.commit,
            Some(("ref", name)) if !name.is_empty() && !name.starts_with('-') => &mut self.reference,
            Some(("path", path)) if !path.is_empty() && is_path(path) => &mut self.path,
            _ => {
                return Err(CliError::usage(format!("`#{pin}` says nothing of a source")).hint(
                    "write `#sha256=` and 64 hexadecimal digits, `#path=folder`; for repositories `#ref=branch`, `#commit=` and 40 digits",
                ));
            }
        };
        let value = pin.split_once('=').map_or(pin, |(_, value)| value);
        let value = if pin.starts_with("ref") || pin.starts_with("path") {
            value.to_owned()
        } else {
            value.to_ascii_lowercase()
        };
        *place = Some(value);
        Ok(())
    }

    /// Refuses what anyone on the way could change, and pins that do not belong to the kind of source.
    fn check(&self, scheme: &str) -> Result<(), CliError> {
        let url = &self.url;
        let is_git = scheme.starts_with("git+");
        match scheme {
            "https" | "s3" | "gs" | "git+https" | "git+ssh" | "git+file" => {}
            "http" if self.sha256.is_some() || is_here(url) => {}
            "git+http" if self.commit.is_some() || is_here(url) => {}
            "http" | "git+http" => {
                return Err(CliError::usage(format!(
                    "`{url}` comes over a network that anyone on the way can change"
                ))
                .hint("use https, or pin it: #sha256=... (for a repository #commit=...)"));
            }
            other => {
                return Err(CliError::usage(format!(
                    "definitions are not read from `{other}:`; a file, a folder, https, s3, gs or git+https will do"
                )));
            }
        }
        let wrong = match (is_git, self.is_archive()) {
            (true, _) if self.sha256.is_some() => Some("a repository is pinned by `#commit=`"),
            (false, _) if self.commit.is_some() || self.reference.is_some() => {
                Some("`ref` and `commit` are for repositories (`git+https://...`)")
            }
            (false, false) if self.path.is_some() => Some("`path` is for archives and repositories"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(CliError::usage(format!("`{url}`: {wrong}")));
        }
        if matches!(scheme, "s3" | "gs") { self.check_object(scheme) } else { Ok(()) }
    }

    /// An address in a cloud's store is that of one object.
    fn check_object(&self, scheme: &str) -> Result<(), CliError> {
        let url = &self.url;
        let (bucket, key) = url[scheme.len() + 3..].split_once('/').unwrap_or_default();
        if bucket.is_empty() || key.is_empty() || key.ends_with('/') {
            return Err(CliError::usage(format!("`{url}` names no object")).hint(format!(
                "write `{scheme}://BUCKET/KEY` of a document; a folder is read from an archive: `{scheme}://BUCKET/KEY.tar.gz#path=FOLDER`"
            )));
        }
        // `gcloud storage` would read all that match, one behind the other.
        if scheme == "gs" && url.contains(['*', '?', '[', ']']) {
            return Err(CliError::usage(format!("`{url}` holds a wildcard; name one object")));
        }
        Ok(())
    }

    /// The last part of its address.
    fn name(&self) -> &str {
        self.url.split('?').next().unwrap_or(&self.url)
    }

    fn is_archive(&self) -> bool {
        archive::is_archive(self.name())
    }

    fn load(&self) -> Result<(Loaded, Look), CliError> {
        let cache = ostler_embedded::cache_dir().join("sources");
        if let Some(url) = self.url.strip_prefix("git+") {
            let wanted = self.commit.as_deref().or(self.reference.as_deref()).unwrap_or("HEAD");
            let (commit, folder) = fetch::repository(url, wanted, &cache, MAX_ARCHIVE)?;
            if let Some(expected) = self.commit.as_ref().filter(|expected| **expected != commit) {
                return Err(self.other_than_pinned(&format!("commit {commit}"), expected));
            }
            return Ok((self.folder(&folder)?, Look::Text(commit)));
        }
        let options = context::load_options();
        let limit = if self.is_archive() { MAX_ARCHIVE } else { options.max_bytes };
        let bytes = match self.url.starts_with("http") {
            true => fetch::document(&self.url, limit)?,
            false => fetch::object(&self.url, limit)?,
        };
        let digest = sha256_of(&bytes);
        if let Some(expected) = self.sha256.as_ref().filter(|expected| **expected != digest) {
            return Err(self.other_than_pinned(&format!("digest sha256={digest}"), expected));
        }
        if self.is_archive() {
            let folder = cache.join(&digest);
            if !folder.exists() {
                archive::unpack(&bytes, &folder, MAX_ARCHIVE).map_err(|e| {
                    CliError::usage(format!("`{}` cannot be unpacked: {e}; nothing was changed", self.url))
                })?;
            }
            return Ok((self.folder(&folder)?, Look::Text(digest)));
        }
        let format = Format::of_path(Path::new(self.name())).unwrap_or_else(|| Format::sniff(&bytes));
        if format == Format::Python {
            let found = Diagnostic::of_file(&self.url, "format", "a script has to be where it runs");
            let help =
                "take a .yaml, .json or .toml document, an archive, or a copy of the script on this machine";
            return Err(Diagnostics::from(found.with_help(help)).into());
        }
        Ok((ostler_timetable::load_text(&bytes, &self.url, format, &options)?, Look::Text(digest)))
    }

    /// Reads what was unpacked. Its origin is where it comes from, whatever folder this version of it lies in.
    fn folder(&self, folder: &Path) -> Result<Loaded, CliError> {
        let inside =
            |folder: &Path| self.path.as_ref().map_or_else(|| folder.to_owned(), |path| folder.join(path));
        let around = archive::only_folder(folder).filter(|_| self.path.is_none() || !inside(folder).exists());
        let folder = around.as_deref().unwrap_or(folder);
        let path = inside(folder);
        if !path.exists() {
            let what = self.path.as_deref().unwrap_or_default();
            return Err(CliError::new(NOT_FOUND, "not_found", format!("`{}` holds no `{what}`", self.url)));
        }
        let mut loaded = ostler_timetable::load_path(&path, &context::load_options())?;
        for timetable in &mut loaded.timetables {
            let inside = Path::new(&timetable.origin).strip_prefix(folder).map(Path::to_path_buf);
            let inside = inside.unwrap_or_default();
            if timetable.ephemeral {
                return Err(CliError::usage(format!(
                    "`{}` of `{}` names no namespace, and what comes from elsewhere needs one",
                    inside.display(),
                    self.url
                ))
                .hint("write `meta: { namespace: ... }`"));
            }
            timetable.origin = format!("{}#{}", self.url, inside.display());
        }
        Ok(loaded)
    }

    fn other_than_pinned(&self, found: &str, expected: &str) -> CliError {
        CliError::usage(format!(
            "`{}` is not what it is pinned to: it has {found}, not {expected}; nothing was changed",
            self.url
        ))
    }
}

fn is_here(url: &str) -> bool {
    let host = url.split("://").nth(1).unwrap_or_default().split(['/', '?']).next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost"
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn sha256_of(text: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_by_their_spelling() {
        let remote = |url: &str| Remote { url: url.into(), ..Remote::default() };
        let digest = "a".repeat(64);
        let commit = "b".repeat(40);
        let pinned = format!("http://example.org/a.yaml#sha256={digest}");
        let git = format!("git+ssh://git@example.org/r.git#commit={commit}&path=ops/a.yaml&ref=v1");
        let good: [(&str, Source); 8] = [
            ("a.yaml", Source::Path("a.yaml".into())),
            ("-", Source::Path("-".into())),
            ("https://example.org/a.yaml", Source::Remote(remote("https://example.org/a.yaml"))),
            (
                &pinned,
                Source::Remote(Remote {
                    sha256: Some(digest.clone()),
                    ..remote("http://example.org/a.yaml")
                }),
            ),
            ("http://127.0.0.1:8080/a.yaml", Source::Remote(remote("http://127.0.0.1:8080/a.yaml"))),
            ("s3://bucket/a.yaml", Source::Remote(remote("s3://bucket/a.yaml"))),
            (
                "https://example.org/v1.tar.gz?x=1#path=ops",
                Source::Remote(Remote {
                    path: Some("ops".into()),
                    ..remote("https://example.org/v1.tar.gz?x=1")
                }),
            ),
            (
                &git,
                Source::Remote(Remote {
                    path: Some("ops/a.yaml".into()),
                    reference: Some("v1".into()),
                    commit: Some(commit.clone()),
                    ..remote("git+ssh://git@example.org/r.git")
                }),
            ),
        ];
        for (text, source) in good {
            assert_eq!(Source::parse(Path::new(text)).unwrap(), source, "{text}");
        }
        for text in [
            "http://example.org/a.yaml",
            "git+http://example.org/r",
            "ftp://x/a.yaml",
            "https://x/a.yaml#md5=1",
            "https://x/a#sha256=12",
            "https://x/a.yaml#path=ops",
            "https://x/a.tar.gz#path=../ops",
            "https://x/a.tar.gz#path=/ops",
            "https://x/a.yaml#ref=main",
            "git+https://x/r#ref=--upload-pack=evil",
            "git+https://x/r#commit=12",
            &format!("git+https://x/r#sha256={digest}"),
            "s3://bucket",
            "s3://bucket/",
            "s3://bucket/folder/",
            "s3:///a.yaml",
            "gs://bucket/*.yaml",
        ] {
            assert!(Source::parse(Path::new(text)).is_err(), "{text}");
        }
    }
}
