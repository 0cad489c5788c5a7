//! Bringing a remote source here: over https, with the tools of the clouds, with git.

use std::{
    io::Read as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::archive;
use crate::error::{CliError, STORE};

/// How long a document may take.
const FETCH: Duration = Duration::from_secs(30);

/// How long a tool may take.
const TOOL: Duration = Duration::from_secs(120);

/// So many lines of a tool's complaint are repeated.
const REASON_LINES: usize = 3;

/// How the tools begin the line that says what is wrong; advice may follow.
const ERRORS: [&str; 4] = ["ERROR:", "fatal:", "error:", "download failed:"];

/// How often it is looked whether a tool has ended.
const LOOK: Duration = Duration::from_millis(10);

fn trouble(url: &str, what: impl std::fmt::Display) -> CliError {
    CliError::new(STORE, "source", format!("`{url}` cannot be read: {what}"))
}

/// Fetches a document of at most `limit` bytes. Called where blocking is allowed.
pub fn document(url: &str, limit: u64) -> Result<Vec<u8>, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| trouble(url, format!("no thread: {e}")))?;
    runtime.block_on(async {
        let client = ostler_client::plain(FETCH).map_err(|e| trouble(url, e))?;
        let mut response = client.get(url).send().await.map_err(|e| trouble(url, reason(&e)))?;
        if !response.status().is_success() {
            return Err(trouble(url, format!("the server answered {}", response.status())));
        }
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| trouble(url, reason(&e)))? {
            if (text.len() + chunk.len()) as u64 > limit {
                return Err(trouble(url, format!("it is larger than {} MiB", limit >> 20)));
            }
            text.extend_from_slice(&chunk);
        }
        Ok(text)
    })
}

/// Reads an object of a cloud's store with that cloud's own tool, which knows how this machine proves who it is.
pub fn object(url: &str, limit: u64) -> Result<Vec<u8>, CliError> {
    let (program, args): (&str, &[&str]) = match url.starts_with("s3:") {
        // `--quiet` would say nothing of errors either.
        true => ("aws", &["s3", "cp", "--only-show-errors", url, "-"]),
        false => ("gcloud", &["storage", "cat", url]),
    };
    tool(url, Command::new(program).args(args), limit).map_err(|error| match hint_of(&error.message) {
        Some(hint) if error.hint.is_none() => error.hint(hint),
        _ => error,
    })
}

/// What to do about what the tool of a cloud has said.
fn hint_of(told: &str) -> Option<&'static str> {
    let says = |parts: &[&str]| parts.iter().any(|part| told.contains(part));
    if says(&["(404)", "NoSuchKey", "NoSuchBucket", "not found: 404", "matched no objects"]) {
        return Some("see whether bucket and key are spelled so, and whether the bucket is of this account");
    }
    if says(&["locate credentials", "Unable to parse config", "could not be found"]) {
        return Some(
            "give `aws` credentials: `aws configure`, AWS_PROFILE, or AWS_ACCESS_KEY_ID with its secret",
        );
    }
    if says(&["active account", "reauthentication", "gcloud auth"]) {
        return Some("give `gcloud` credentials: `gcloud auth login`, or a service account");
    }
    says(&["(403)", "AccessDenied", "HTTPError 403", "does not have"])
        .then_some("whoever this machine is there may not read it: allow it to read this object")
}

/// Fetches one commit of a repository and unpacks what of it is asked for below `cache`. Gives the commit and where it
/// lies.
pub fn repository(
    url: &str,
    reference: &str,
    cache: &Path,
    limit: u64,
) -> Result<(String, std::path::PathBuf), CliError> {
    let bare = cache.join(format!("git-{}", &super::sha256_of(url.as_bytes())[..16]));
    std::fs::create_dir_all(&bare).map_err(|e| trouble(url, format!("{}: {e}", bare.display())))?;
    let git = |args: &[&str], limit| {
        let mut command = Command::new("git");
        // Nobody is there to be asked, and what is fetched runs nothing here.
        command.env("GIT_TERMINAL_PROMPT", "0").arg("-C").arg(&bare);
        tool(url, command.args(["-c", "core.hooksPath=/dev/null"]).args(args), limit)
    };
    git(&["init", "--quiet", "--bare"], 1 << 20)?;
    git(&["fetch", "--quiet", "--depth=1", "--no-tags", "--", url, reference], 1 << 20)?;
    let commit = git(&["rev-parse", "FETCH_HEAD^{commit}"], 1 << 20)?;
    let commit = String::from_utf8_lossy(&commit).trim().to_owned();
    let folder = cache.join(&commit);
    if !folder.exists() {
        let tar = git(&["archive", "--format=tar", &commit], limit)?;
        archive::unpack(&tar, &folder, limit).map_err(|e| trouble(url, e))?;
    }
    Ok((commit, folder))
}

/// Runs a tool to its end and gives what it wrote.
fn tool(url: &str, command: &mut Command, limit: u64) -> Result<Vec<u8>, CliError> {
    let name = command.get_program().to_string_lossy().into_owned();
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            trouble(url, format!("`{name}` is not on this machine")).hint(format!("install {name}"))
        }
        _ => trouble(url, format!("{name}: {error}")),
    })?;
    let read = |pipe: Option<Box<dyn std::io::Read + Send>>, limit: u64| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                let _ = pipe.take(limit + 1).read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = read(child.stdout.take().map(|p| Box::new(p) as _), limit);
    let err = read(child.stderr.take().map(|p| Box::new(p) as _), 64 << 10);
    let mut waited = Duration::ZERO;
    // One that writes too much finds its pipe closed, and ends.
    let status = loop {
        match child.try_wait().map_err(|e| trouble(url, format!("{name}: {e}")))? {
            Some(status) => break status,
            None if waited >= TOOL => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(trouble(url, format!("{name} took longer than {} s", TOOL.as_secs())));
            }
            None => std::thread::sleep(LOOK),
        }
        waited += LOOK;
    };
    let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    if out.len() as u64 > limit {
        return Err(trouble(url, format!("it is larger than {} MiB", limit >> 20)));
    }
    if !status.success() {
        return Err(trouble(url, format!("{name} ended with {status}: {}", reason_told(&err))));
    }
    Ok(out)
}

/// The reason that a tool has told, as one line: from where its error begins, or else what it said last.
fn reason_told(err: &[u8]) -> String {
    let told = String::from_utf8_lossy(err);
    let lines: Vec<&str> = told.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let begins = |line: &&str| ERRORS.iter().any(|word| line.starts_with(word));
    let last = lines.len().saturating_sub(REASON_LINES);
    let from = lines.iter().rposition(begins).unwrap_or(last);
    match lines.is_empty() {
        true => "no reason was told".to_owned(),
        false => lines[from..].iter().take(REASON_LINES).copied().collect::<Vec<_>>().join(" "),
    }
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
    use super::reason_told;

    #[test]
    fn the_reason_is_found_among_what_a_tool_says() {
        let gcloud =
            "ERROR: (gcloud.storage.cat) The following URLs matched no objects or files:\ngs://jobs/none\n";
        let advice = "ERROR: (gcloud) You have no active account.\nPlease run:\n\n  $ gcloud auth login\n\nor run:\n\n  $ x\n";
        for (told, reason) in [
            ("", "no reason was told"),
            ("a\nb\nc\nd\n", "b c d"),
            (
                gcloud,
                "ERROR: (gcloud.storage.cat) The following URLs matched no objects or files: gs://jobs/none",
            ),
            (advice, "ERROR: (gcloud) You have no active account. Please run: $ gcloud auth login"),
        ] {
            assert_eq!(reason_told(told.as_bytes()), reason);
        }
    }
}
