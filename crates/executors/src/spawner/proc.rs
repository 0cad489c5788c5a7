//! What `/proc` tells about processes.

use std::{fs, io::Read};

use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, waitid},
};

/// One process as `/proc/<pid>/stat` shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    pub zombie: bool,
}

/// Every process that can be seen.
pub(super) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            parse(pid, &fs::read_to_string(entry.path().join("stat")).ok()?)
        })
        .collect()
}

/// `1234 (name) S 1 1234 ...`; the name may hold spaces and brackets, so the last bracket counts.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Process { pid, parent, group, zombie: matches!(state, "Z" | "X") })
}

/// Everything below `root`, children before grandchildren.
pub(super) fn descendants(root: i32) -> Vec<i32> {
    let all = all();
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|p| p.parent == parent && !p.zombie).map(|p| p.pid));
        at += 1;
    }
    found.remove(0);
    found
}

/// The children of this (single-threaded) process, zombies included.
pub(super) fn own_children() -> Vec<i32> {
    // One call tells that there is none at all, as it is after most commands; /proc takes five.
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if matches!(waitid(WaitId::All, look), Err(Errno::CHILD)) {
        return Vec::new();
    }
    match fs::read_to_string("/proc/thread-self/children") {
        Ok(text) => text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect(),
        // The kernel was built without CONFIG_PROC_CHILDREN.
        Err(_) => {
            let me = rustix::process::getpid().as_raw_nonzero().get();
            all().into_iter().filter(|p| p.parent == me).map(|p| p.pid).collect()
        }
    }
}

/// The value of a variable in the environment that a process was started with.
pub(super) fn environment_of(pid: i32, name: &str) -> Option<String> {
    let mut bytes = Vec::new();
    fs::File::open(format!("/proc/{pid}/environ")).ok()?.take(4 << 20).read_to_end(&mut bytes).ok()?;
    let value = bytes
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(value.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_mislead() {
        let process = parse(7, "7 (a) b) (c)) Z 3 4 5").unwrap();
        assert_eq!((process.parent, process.group, process.zombie), (3, 4, true));
    }
}
