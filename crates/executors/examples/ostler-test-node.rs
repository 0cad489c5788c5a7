//! The spawner and a bare node for the tests of this crate: `__spawner` is the spawner, `node SCRIPT` starts a shell
//! script through one, prints its process id and waits to be killed.

use std::{io::Write, process::ExitCode};

use ostler_executors::spawner::{SpawnSpec, Spawner, SpawnerProgram, spawner_main};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("__spawner") => spawner_main(),
        Some("node") => node(&args[2]),
        _ => ExitCode::from(2),
    }
}

fn node(script: &str) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let spawner = Spawner::new(SpawnerProgram::this_binary(["__spawner"]));
        let mut spec = SpawnSpec::new("/bin/sh");
        spec.args = vec!["-c".into(), script.into()];
        spec.env = vec![("PATH".into(), std::env::var("PATH").unwrap_or_default())];
        let mut child = spawner.spawn(spec).await.expect("a child");
        println!("{}", child.pid());
        std::io::stdout().flush().expect("a reader");
        let _ = child.wait().await;
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}
