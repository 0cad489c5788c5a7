//! A process whose wall clock is wrong, and is set while it runs: the C library's function for it is replaced.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// A wrong wall clock for processes.
#[derive(Clone)]
pub(crate) struct Skew {
    library: PathBuf,
    ahead: PathBuf,
}

impl Skew {
    pub(crate) fn new(folder: &Path) -> Self {
        let (source, library) = (folder.join("skew.c"), folder.join("skew.so"));
        std::fs::write(&source, include_str!("skew.c")).unwrap();
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).args([&library, &source]).output();
        let built = built.expect("a C compiler, which building Ostler needs, too");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let skew = Self { library, ahead: folder.join("ahead") };
        skew.set(0);
        skew
    }

    /// The clocks are ahead by so many seconds from now on.
    pub(crate) fn set(&self, seconds: i64) {
        // In place: processes have the file mapped.
        let file = std::fs::File::options().create(true).truncate(false).write(true).open(&self.ahead);
        std::os::unix::fs::FileExt::write_all_at(&file.unwrap(), &seconds.to_ne_bytes(), 0).unwrap();
    }

    /// Gives a process this clock.
    pub(crate) fn wrong(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("SKEW", &self.ahead);
    }
}
