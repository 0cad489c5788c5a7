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
        true => ("aws", &["s3", "cp", "--quiet", url, "-"]),
        false => ("gcloud", &["storage", "cat", url]),
    };
    tool(url, Command::new(program).args(args), limit)
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
        let told = String::from_utf8_lossy(&err);
        let told = told.lines().rfind(|l| !l.trim().is_empty()).unwrap_or("no reason was told").to_owned();
        return Err(trouble(url, format!("{name} ended with {status}: {told}")));
    }
    Ok(out)
}

fn reason(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}
