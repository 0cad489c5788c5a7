//! Where definitions come from: files, folders, standard input, and documents at `https` addresses, which may be pinned
//! to a digest: `https://host/timetable.yaml#sha256=...`.

use std::{
    fmt,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use ostler_timetable::{Diagnostic, Diagnostics, Format, Loaded};

use crate::{
    context,
    error::{CliError, NOT_FOUND, STORE},
};

/// How long a document may take.
const FETCH: Duration = Duration::from_secs(30);

/// Where definitions come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, a folder, or `-`.
    Path(PathBuf),
    /// A document.
    Web {
        /// Where.
        url: String,
        /// What it must hash to.
        sha256: Option<String>,
    },
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
            Self::Web { url, .. } => f.write_str(url),
        }
    }
}

impl Source {
    /// The source that a text names.
    pub fn parse(path: &Path) -> Result<Self, CliError> {
        let text = path.to_string_lossy();
        let Some((scheme, _)) = text.split_once("://") else { return Ok(Self::Path(path.to_owned())) };
        let (url, fragment) = text.split_once('#').map_or((&*text, None), |(url, f)| (url, Some(f)));
        let sha256 = match fragment {
            None => None,
            Some(fragment) => match fragment.strip_prefix("sha256=") {
                Some(hex) if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    Some(hex.to_ascii_lowercase())
                }
                _ => {
                    return Err(CliError::usage(format!(
                        "`#{fragment}` does not pin a document: write `#sha256=` and 64 hexadecimal digits"
                    )));
                }
            },
        };
        match scheme {
            "https" => {}
            "http" if sha256.is_some() || is_here(url) => {}
            "http" => {
                return Err(CliError::usage(format!(
                    "`{url}` comes over a network that anyone on the way can change"
                ))
                .hint("use https, or pin the document: #sha256=..."));
            }
            other => {
                return Err(CliError::usage(format!(
                    "definitions are not read from `{other}:`; a file, a folder or an https address will do"
                )));
            }
        }
        Ok(Self::Web { url: url.to_owned(), sha256 })
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
            Self::Web { url, sha256 } => {
                let text = fetch(url)?;
                let digest = sha256_of(&text);
                if let Some(expected) = sha256.as_ref().filter(|expected| **expected != digest) {
                    return Err(CliError::usage(format!(
                        "`{url}` is not the document it is pinned to: its digest is sha256={digest}, not {expected}; nothing was changed"
                    )));
                }
                let name = url.split(['?', '#']).next().unwrap_or(url);
                let format = Format::of_path(Path::new(name)).unwrap_or_else(|| Format::sniff(&text));
                if format == Format::Python {
                    return Err(Diagnostics::from(
                        Diagnostic::of_file(url, "format", "a script has to be where it runs").with_help(
                            "take a .yaml, .json or .toml document, or a copy of the script on this machine",
                        ),
                    )
                    .into());
                }
                let loaded = ostler_timetable::load_text(&text, url, format, &context::load_options())?;
                Ok((loaded, Look::Text(digest)))
            }
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

/// Fetches a document. Called where blocking is allowed.
fn fetch(url: &str) -> Result<Vec<u8>, CliError> {
    let trouble = |what: String| CliError::new(STORE, "source", format!("`{url}` cannot be read: {what}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| trouble(format!("no thread: {e}")))?;
    let limit = context::load_options().max_bytes;
    runtime.block_on(async {
        let client = ostler_client::plain(FETCH).map_err(|e| trouble(e.to_string()))?;
        let mut response = client.get(url).send().await.map_err(|e| trouble(reason(&e)))?;
        if !response.status().is_success() {
            return Err(trouble(format!("the server answered {}", response.status())));
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| trouble(reason(&e)))? {
            if (text.len() + chunk.len()) as u64 > limit {
                return Err(trouble(format!("it is larger than {} MiB", limit >> 20)));
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    })
}

fn reason(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_told_by_their_spelling() {
        let web = |url: &str, sha256: Option<&str>| Source::Web {
            url: url.into(),
            sha256: sha256.map(str::to_owned),
        };
        let digest = "a".repeat(64);
        let pinned = format!("http://example.org/a.yaml#sha256={digest}");
        let good: [(&str, Source); 5] = [
            ("a.yaml", Source::Path("a.yaml".into())),
            ("-", Source::Path("-".into())),
            ("https://example.org/a.yaml", web("https://example.org/a.yaml", None)),
            (&pinned, web("http://example.org/a.yaml", Some(&digest))),
            ("http://127.0.0.1:8080/a.yaml", web("http://127.0.0.1:8080/a.yaml", None)),
        ];
        for (text, source) in good {
            assert_eq!(Source::parse(Path::new(text)).unwrap(), source, "{text}");
        }
        for text in
            ["http://example.org/a.yaml", "ftp://x/a.yaml", "https://x/a.yaml#md5=1", "https://x/a#sha256=12"]
        {
            assert!(Source::parse(Path::new(text)).is_err(), "{text}");
        }
    }
}
