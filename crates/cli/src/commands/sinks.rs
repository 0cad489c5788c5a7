//! `ostler sinks`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use ostler_api::{Api, DefinitionsBy, SinkReset, SinkView};

use super::{Global, Paging, list_footer};
use crate::{context, error::CliError, output};

/// List, pause, resume and reset sinks, which carry events out
#[derive(Subcommand)]
pub enum Sinks {
    /// List sinks: who carries events out for them, how far they are behind, and what is in their way
    List(List),
    /// Hold a sink back; it goes on where it was
    Pause(Named),
    /// Let a sink go
    Resume(Named),
    /// Say where a sink is to go on: what it has carried out already is carried out once more, or some is left out
    Reset(Reset),
}

#[derive(Args)]
pub struct List {
    /// Only of this namespace (a prefix will do)
    namespace: Option<String>,
    #[command(flatten)]
    paging: Paging<DefinitionsBy>,
}

#[derive(Args)]
pub struct Named {
    /// The sink: `sink` or `namespace:sink`
    sink: String,
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler sinks reset shop:stream --from oldest\n  ostler sinks reset stream --from e1234      behind that event\n  ostler sinks reset stream --from now"
)]
pub struct Reset {
    /// The sink: `sink` or `namespace:sink`
    sink: String,
    /// `oldest`, `now`, or behind a cursor as `ostler events` shows them
    #[arg(long, value_name = "WHERE")]
    from: String,
}

impl Sinks {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let api = context::api(global)?;
        match self {
            Self::List(list) => list.run(global, &*api),
            Self::Pause(named) => hold(global, &*api, &named, true),
            Self::Resume(named) => hold(global, &*api, &named, false),
            Self::Reset(reset) => {
                let (namespace, sink) = resolve(&*api, &reset.sink)?;
                let view = api.reset_sink(&namespace, &sink, &SinkReset { from: reset.from })?;
                global.output.show(&view, |view| {
                    let cursor = view.cursor.as_deref().unwrap_or("the oldest event");
                    format!("{namespace}:{sink} goes on after {cursor}")
                });
                Ok(0)
            }
        }
    }
}

fn hold(global: &Global, api: &dyn Api, named: &Named, on: bool) -> Result<u8, CliError> {
    let (namespace, sink) = resolve(api, &named.sink)?;
    let view = api.hold_sink(&namespace, &sink, on)?;
    let word = if on { "paused" } else { "resumed" };
    global.output.show(&view, |_| format!("{namespace}:{sink} is {word}"));
    Ok(0)
}

/// Namespace and id of a sink; an id alone is of the one namespace that has it.
fn resolve(api: &dyn Api, text: &str) -> Result<(String, String), CliError> {
    if let Some((namespace, sink)) = text.split_once(':') {
        return Ok((api.resolve_namespace(namespace)?, sink.to_owned()));
    }
    let all = Paging::everything().collect(|page| api.sinks(None, page))?;
    let mut fitting: Vec<SinkView> = all.items.into_iter().filter(|sink| sink.id == text).collect();
    match fitting.len() {
        1 => {
            let found = fitting.remove(0);
            Ok((found.namespace, found.id))
        }
        0 => Err(CliError::new(crate::error::NOT_FOUND, "not_found", format!("there is no sink `{text}`"))
            .hint("`ostler sinks list` shows those that are there")),
        _ => {
            let names: Vec<_> = fitting.iter().map(|s| format!("{}:{}", s.namespace, s.id)).collect();
            Err(CliError::usage(format!("several namespaces have a sink `{text}`: {}", names.join(", "))))
        }
    }
}

impl List {
    fn run(self, global: &Global, api: &dyn Api) -> Result<u8, CliError> {
        let namespace = self.namespace.as_deref().map(|text| api.resolve_namespace(text)).transpose()?;
        let page = self.paging.collect(|page| api.sinks(namespace.as_deref(), page))?;
        let now = context::now();
        global.output.show(&page, |page| {
            let rows = page
                .items
                .iter()
                .map(|s| {
                    vec![
                        Cell::new(format!("{}:{}", s.namespace, s.id)),
                        Cell::new(s.state.word()),
                        Cell::new(&s.words),
                        Cell::new(s.node.as_deref().unwrap_or_default()),
                        Cell::new(s.cursor.as_deref().unwrap_or_default()),
                        Cell::new(if s.behind >= 10_000 {
                            "10000+".to_owned()
                        } else {
                            s.behind.to_string()
                        }),
                        Cell::new(s.delivered),
                        Cell::new(output::moment(s.last, now)),
                    ]
                })
                .collect();
            let headings = ["sink", "state", "to", "node", "cursor", "behind", "delivered", "last"];
            let mut text = if page.items.is_empty() { String::new() } else { output::table(&headings, rows) };
            for sink in &page.items {
                let told = [("stands still", &sink.trouble), ("left out", &sink.missed)];
                for (word, remark) in told.into_iter().filter_map(|(word, r)| Some((word, r.as_ref()?))) {
                    let at = output::moment(Some(remark.at), now);
                    text.push_str(&format!(
                        "\n{}:{} {word} ({at}): {}",
                        sink.namespace, sink.id, remark.words
                    ));
                }
            }
            text + &list_footer(page.items.len(), "sinks", page.next.as_deref())
        });
        Ok(0)
    }
}
