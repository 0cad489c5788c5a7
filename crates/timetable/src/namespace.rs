//! The namespace of a file that names none.

use md5::{Digest, Md5};
use ostler_model::Name;

/// The digest of host, user and resource, as supertask has it: the same file of the same person keeps its own.
///
/// The resource is the file's absolute path, of every format alike; `global` stands for standard input.
#[must_use]
pub fn ephemeral_namespace(host: &str, user: &str, resource: &str) -> Name {
    let digest = Md5::digest(format!("{host}-{user}-{resource}").as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Name::from_any(&hex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_of_supertask_is_kept() {
        let name = ephemeral_namespace("myhost", "alice", "/srv/timetable.yaml");
        assert_eq!(name.as_str(), "25edf7ac228707de8021fd87cbe89daa");
    }
}
