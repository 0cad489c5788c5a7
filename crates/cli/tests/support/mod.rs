//! A store of its own and the real binary, for tests that use Ostler as a person does.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

/// A folder with a store in it.
pub(crate) struct Shop {
    folder: tempfile::TempDir,
}

/// A process that does not outlive its test, however that ends.
pub(crate) struct Spawned(Option<Child>);

impl Spawned {
    /// Waits for its end and everything it wrote.
    pub(crate) fn told(mut self) -> Told {
        told(self.0.take().unwrap().wait_with_output().unwrap())
    }
}

impl std::ops::Deref for Spawned {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.0.as_ref().unwrap()
    }
}

impl std::ops::DerefMut for Spawned {
    fn deref_mut(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Shop {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path().join("ostler.db")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary on this shop's store, in this shop's folder, with an environment that depends on nobody's.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("USER", "tester")
            .env("TZ", "UTC")
            .env("OSTLER_STORE", self.store())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Told {
        told(self.command(args).output().unwrap())
    }

    /// Runs a command that must succeed and gives its one document.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let told = self.run(&[args, &["--output", "json"]].concat());
        assert_eq!(told.code, 0, "{args:?}: {}{}", told.out, told.err);
        serde_json::from_str(&told.out).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", told.out))
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Spawned {
        Spawned(Some(self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()))
    }

    /// Waits until something holds; panics with `what` after half a minute.
    pub(crate) fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..600 {
            if holds() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} did not come about in 30 s");
    }
}

pub(crate) fn told(output: Output) -> Told {
    Told {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
