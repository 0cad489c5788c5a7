//! `ostler calendar`.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use jiff::Timestamp;
use ostler_calendar::Shift;
use ostler_model::trigger::{Dst, Fold, Gap};
use serde::Serialize;
use serde_json::json;

use super::Global;
use crate::{context, error::CliError, output, when};

/// Explain when things are due
#[derive(Subcommand)]
pub enum Calendar {
    /// Say an expression in words, with its next due moments
    Explain(Explain),
}

#[derive(Args)]
#[command(
    after_help = "Examples:\n  ostler calendar explain '*/5 9-17 * * MON-FRI' --timezone Europe/Berlin --next 5\n  ostler calendar explain @daily\n  ostler calendar explain 'every 250ms'\n  ostler calendar explain 'FREQ=MONTHLY;BYDAY=-1FR' --from 2027-01-01T00:00:00Z"
)]
pub struct Explain {
    /// A cron expression with 5, 6 or 7 fields, an alias, `every …`, an RRULE, or (with --calendar) a systemd expression
    expression: String,
    /// The zone it is read in [default: this machine's]
    #[arg(long, visible_alias = "tz")]
    timezone: Option<String>,
    /// How many due moments
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    next: u32,
    /// How many due moments before
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    previous: u32,
    /// From this moment [default: now]
    #[arg(long)]
    from: Option<Timestamp>,
    /// At a local time that does not exist: shift, skip
    #[arg(long, value_parser = ["shift", "skip"], default_value = "shift")]
    gap: String,
    /// At a local time that comes twice: first, last, both
    #[arg(long, value_parser = ["first", "last", "both"], default_value = "first")]
    fold: String,
    /// It is a systemd calendar expression (`Mon..Fri 09:00`)
    #[arg(long)]
    calendar: bool,
}

#[derive(Serialize)]
struct Moment {
    at: Timestamp,
    local: String,
    shift: Option<&'static str>,
}

impl Calendar {
    pub fn run(self, global: &Global) -> Result<u8, CliError> {
        let Self::Explain(explain) = self;
        let mut spec = if explain.calendar {
            let rhythm = ostler_model::trigger::Rhythm::Calendar(explain.expression.clone());
            ostler_model::TriggerSpec { rhythm, ..when::trigger("@daily", false)? }
        } else {
            when::trigger(&explain.expression, false)?
        };
        spec.dst = Dst {
            gap: if explain.gap == "skip" { Gap::Skip } else { Gap::Shift },
            fold: match explain.fold.as_str() {
                "last" => Fold::Last,
                "both" => Fold::Both,
                _ => Fold::First,
            },
        };
        let zone = explain.timezone.unwrap_or_else(context::machine_zone);
        let trigger = ostler_service::explain_trigger(&spec, &zone)?;
        let from = explain.from.unwrap_or_else(|| ostler_clock::Clock::now(&ostler_clock::SystemClock));
        let moment = |due: &ostler_calendar::Due| Moment {
            at: due.at,
            local: due.at.in_tz(trigger.zone()).map_or_else(
                |_| due.at.to_string(),
                |z| z.strftime("%a %Y-%m-%d %H:%M:%S%.f %Z").to_string(),
            ),
            shift: match due.shift {
                Shift::None => None,
                Shift::Gap => Some("moved: this local time does not exist on that day"),
                Shift::FoldFirst => Some("this local time comes twice; this is the first"),
                Shift::FoldLast => Some("this local time comes twice; this is the second"),
            },
        };
        let bad = |e: ostler_calendar::CalendarError| CliError::usage(e.to_string());
        let mut next = Vec::new();
        let mut after = from;
        while next.len() < explain.next as usize
            && let Some(due) = trigger.next_after(after, from).map_err(bad)?
        {
            after = due.nominal;
            next.push(moment(&due));
        }
        let mut previous = Vec::new();
        let mut before = from;
        while previous.len() < explain.previous as usize
            && let Some(due) = trigger.previous_before(before, from).map_err(bad)?
        {
            before = due.nominal;
            previous.push(moment(&due));
        }
        previous.reverse();
        let document = json!({
            "expression": explain.expression,
            "words": trigger.describe(),
            "timezone": trigger.zone(),
            "dst": spec.dst,
            "previous": previous,
            "next": next,
        });
        global.output.show(&document, |_| {
            let mut text = format!("{}\n", trigger.describe());
            for (word, list) in [("before", &previous), ("next", &next)] {
                if !list.is_empty() {
                    let rows = list
                        .iter()
                        .map(|m| {
                            vec![Cell::new(&m.local), Cell::new(m.at), Cell::new(m.shift.unwrap_or_default())]
                        })
                        .collect();
                    text += &format!("\n{}\n", output::table(&[word, "utc", ""], rows));
                }
            }
            if next.is_empty() && explain.next > 0 {
                text += "\nit is never due after that\n";
            }
            text
        });
        Ok(0)
    }
}
