//! `ostler worker`: takes jobs from a server and carries them out on this machine.

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use ostler_client::Client;
use ostler_clock::SystemClock;
use ostler_model::{Name, Span};
use ostler_worker::{Order, WorkerConfig};
use tokio::sync::watch;

use super::{Global, serve::signals};
use crate::{context, error::CliError, remote};

/// Take jobs from a server and carry them out here, until told to stop
#[derive(Args)]
#[command(
    after_help = "The token comes from OSTLER_TOKEN or a profile; one that lets do nothing else is made by\n`ostler tokens create NAME --scope work`. Secrets come from the server with the jobs that need them.\nWhat jobs come to is kept and sent again until the server has it, also when it is started again meanwhile.\nSIGTERM and Ctrl-C let what runs end, for as long as --drain says; a second one ends it, a third at once.\nAny program can be a worker: docs/worker.md, and `ostler worker-test` to try it.\n\nExamples:\n  ostler worker --server http://127.0.0.1:7467\n  ostler worker --server https://ostler.example.org --slots 8 --label gpu --folder /srv/jobs\n  ostler worker --server https://ostler.example.org --label gpu --only-labelled"
)]
pub struct Worker {
    /// How many jobs at a time
    #[arg(long, env = "OSTLER_WORKER_SLOTS", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    slots: u32,
    /// What this machine has, for steps that ask for it (`runs_on`); may be given several times
    #[arg(long, env = "OSTLER_WORKER_LABELS", value_name = "LABEL", value_delimiter = ',')]
    label: Vec<Name>,
    /// Take only jobs that ask for one of these labels; those that ask for none are left to others
    #[arg(long, env = "OSTLER_WORKER_ONLY_LABELLED", requires = "label")]
    only_labelled: bool,
    /// What the server calls it [default: host and process]
    #[arg(long)]
    name: Option<String>,
    /// Where jobs run whose own folder is not on this machine; they fail otherwise
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How long what runs may take to end after SIGTERM
    #[arg(long, default_value = "10m", value_name = "SPAN")]
    drain: Span,
}

impl Worker {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let Some(server) = remote::server(global)? else {
            return Err(CliError::usage("a worker needs a server to get its jobs from")
                .hint("name it: ostler worker --server URL, or --profile NAME"));
        };
        let folder = self.folder.as_deref().map(|folder| {
            let found = std::fs::canonicalize(folder).ok().filter(|path| path.is_dir());
            let text = found.and_then(|path| path.to_str().map(str::to_owned));
            text.ok_or_else(|| CliError::usage(format!("`--folder {}` is no folder", folder.display())))
        });
        let name = match self.name {
            Some(name) => name,
            None => format!("{} pid {}", ostler_embedded::host_name(), std::process::id()),
        };
        let labels: Vec<_> = self.label.iter().map(ToString::to_string).collect();
        let words = match labels.is_empty() {
            true => format!("{} slots", self.slots),
            false => format!("{} slots, labels {}", self.slots, labels.join(", ")),
        };
        let (url, is_quiet) = (server.url.clone(), global.output.is_machine());
        let config = WorkerConfig {
            name,
            slots: self.slots,
            labels: self.label,
            only_labelled: self.only_labelled,
            executors: context::executors(None, true)?,
            folder: folder.transpose()?,
            clock: Arc::new(SystemClock),
            registered: Arc::new(move |node| {
                if !is_quiet {
                    eprintln!("working for {url} as worker {node} ({words}); Ctrl-C or SIGTERM ends it");
                }
            }),
        };
        let client = Client::new(&server)?;
        let patience = self.drain.as_duration();
        context::runtime()?.block_on(async {
            let (orders, ordered) = watch::channel(Order::Work);
            let giving = tokio::spawn(give_orders(orders, patience));
            let ended = ostler_worker::work(client, config, ordered).await;
            giving.abort();
            ended
        })?;
        Ok(0)
    }
}

/// Signals as orders, each stronger than the one before.
async fn give_orders(orders: watch::Sender<Order>, patience: Duration) {
    let mut signals = signals();
    signals.next().await;
    eprintln!("ending: waiting for what runs; once more to end it");
    let _ = orders.send(Order::Drain);
    let waiting = tokio::time::timeout(patience, signals.next()).await;
    let _ = orders.send(Order::Interrupt);
    if waiting.is_err() {
        tracing::warn!("what runs took too long to end and is ended");
    }
    signals.next().await;
    let _ = orders.send(Order::Kill);
    // Nobody orders more, and those who listen go on.
    std::future::pending::<()>().await;
}
