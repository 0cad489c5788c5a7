//! `@daily` and its kin.

use std::ops::Range;

use ostler_model::trigger::Dialect;

use super::{Cron, parse};
use crate::error::{CronError, nearest};

const ALIASES: &[(&str, &str)] = &[
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    ("@every_minute", "* * * * *"),
    ("@every_second", "* * * * * *"),
    ("@weekdays", "0 0 * * 1-5"),
    ("@weekends", "0 0 * * 6,0"),
];

pub(super) fn parse(alias: &str, at: Range<usize>, dialect: Dialect) -> Result<Cron, CronError> {
    let word = alias.to_ascii_lowercase();
    let known = ALIASES.iter().find(|(name, _)| *name == word);
    if dialect == Dialect::Supertask {
        let hint = match known {
            Some((_, expression)) if word == "@weekly" => {
                format!("this dialect has no aliases; write `{}`", expression.replace("* 0", "* 6"))
            }
            Some((_, expression)) => format!("this dialect has no aliases; write `{expression}`"),
            None => "this dialect has no aliases".into(),
        };
        return Err(CronError::UnknownAlias { alias: alias.to_owned(), hint, at });
    }
    if let Some((_, expression)) = known {
        return parse::fields(expression, dialect).map(|fields| Cron::Fields(Box::new(fields)));
    }
    if word == "@reboot" {
        return Ok(Cron::Reboot);
    }
    if let Some(span) = word.strip_prefix("@every").filter(|rest| rest.starts_with(char::is_whitespace)) {
        let span = span.trim();
        return span
            .parse()
            .map_err(|error: ostler_model::SpanError| error.to_string())
            .and_then(|span| crate::every::check_interval(span).map(|()| span).map_err(|e| e.to_string()))
            .map(Cron::Every)
            .map_err(|problem| CronError::Unreadable {
                value: alias.to_owned(),
                noun: "an interval",
                problem,
                at: at.end - span.len()..at.end,
            });
    }
    let names = ALIASES.iter().map(|(name, _)| *name).chain(["@reboot", "@every"]);
    let hint = if word == "@every" {
        "write the interval after it, as in `@every 5m`".into()
    } else {
        nearest(&word, names.clone()).map_or_else(
            || format!("known are {}", names.collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean {near}?"),
        )
    };
    Err(CronError::UnknownAlias { alias: alias.to_owned(), hint, at })
}
