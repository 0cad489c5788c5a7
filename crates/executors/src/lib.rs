//! Shell, exec, Python, HTTP and SQL executors, the spawner and run logs.

pub mod spawner;
