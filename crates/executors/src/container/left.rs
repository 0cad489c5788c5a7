//! What a killed node left with its engines.
//!
//! Before its first container on an engine, a node writes that engine's address to a file that bears the node's own
//! name, and every container has that name as a label. A node that starts looks for files of nodes that are gone, and
//! removes the containers with their names. So a node costs nothing where no containers are used.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bollard::query_parameters::ListContainersOptions;

use super::{by_force, engine::Engine};

/// The label with the name of the node.
pub(super) const LABEL: &str = "ostler.node";

/// The name of this node, written down with the engine that it uses.
pub(super) fn mark(base: &Path, address: &str) -> io::Result<String> {
    let name =
        name(std::process::id()).ok_or_else(|| io::Error::other("/proc does not know this process"))?;
    let folder = folder(base);
    fs::create_dir_all(&folder)?;
    let path = folder.join(&name);
    let known = fs::read_to_string(&path).unwrap_or_default();
    if !known.lines().any(|line| line == address) {
        fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)?
            .write_all(format!("{address}\n").as_bytes())?;
    }
    Ok(name)
}

/// Removes the containers of nodes that are gone. What cannot be removed is left to the next node.
pub(super) async fn clear_away(base: &Path) {
    for entry in fs::read_dir(folder(base)).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('-').next().and_then(|pid| pid.parse().ok());
        if pid.and_then(self::name).is_some_and(|living| living == name) {
            continue;
        }
        let Ok(addresses) = fs::read_to_string(entry.path()) else { continue };
        let mut is_clear = true;
        for address in addresses.lines() {
            is_clear &= match remove(address, &name).await {
                Ok(()) => true,
                Err(why) => {
                    tracing::warn!("containers of a node that is gone may be left at {address}: {why}");
                    false
                }
            };
        }
        if is_clear {
            let _ = fs::remove_file(entry.path());
        }
    }
}

async fn remove(address: &str, name: &str) -> Result<(), String> {
    let engine = Engine::at(address).await?;
    let filters = HashMap::from([("label".to_owned(), vec![format!("{LABEL}={name}")])]);
    let options = ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
    let found = engine.docker.list_containers(Some(options)).await.map_err(|e| e.to_string())?;
    for id in found.into_iter().filter_map(|container| container.id) {
        engine.docker.remove_container(&id, Some(by_force())).await.map_err(|e| e.to_string())?;
        tracing::info!("removed the container {id} of a node that is gone");
    }
    Ok(())
}

fn folder(base: &Path) -> PathBuf {
    base.join("containers")
}

/// Its number, and when it began, since numbers come again: also after the machine was started anew.
fn name(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let began = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(19)?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(format!("{pid}-{began}-{}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_one_name_and_writes_each_engine_once() {
        let base = tempfile::tempdir().unwrap();
        let own = mark(base.path(), "unix:///a").unwrap();
        assert_eq!(mark(base.path(), "unix:///b").unwrap(), own);
        mark(base.path(), "unix:///a").unwrap();
        let text = fs::read_to_string(folder(base.path()).join(own)).unwrap();
        assert_eq!(text, "unix:///a\nunix:///b\n");
    }

    #[tokio::test]
    async fn marks_of_the_living_stay() {
        let base = tempfile::tempdir().unwrap();
        let own = mark(base.path(), "unix:///nowhere").unwrap();
        fs::write(folder(base.path()).join("1-1-other"), "").unwrap();
        clear_away(base.path()).await;
        assert!(folder(base.path()).join(own).exists());
        assert!(!folder(base.path()).join("1-1-other").exists());
    }
}
