//! What people write for `--when`: `once`, a cron expression, an alias, `every 5s`.

use ostler_model::{
    Span, TriggerSpec,
    trigger::{Dialect, Dst, Interval, Pace, Rhythm},
};

use crate::error::CliError;

/// What `--when` says.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// Now, once.
    Once,
    /// As the file says.
    File,
    /// In this rhythm.
    Trigger(Box<TriggerSpec>),
}

/// Reads `--when`.
pub fn parse(text: &str, spaced: bool) -> Result<When, CliError> {
    let word = text.trim();
    match word {
        "once" | "now" | "@once" => return Ok(When::Once),
        "file" => return Ok(When::File),
        _ => {}
    }
    Ok(When::Trigger(Box::new(trigger(word, spaced)?)))
}

/// A trigger from the same words, for `calendar explain`.
pub fn trigger(text: &str, spaced: bool) -> Result<TriggerSpec, CliError> {
    let word = text.trim();
    let pace = if spaced { Pace::Spaced } else { Pace::Precise };
    let rhythm = if let Some(span) = word.strip_prefix("every ").or_else(|| word.strip_prefix("@every ")) {
        let span: Span =
            span.trim().parse().map_err(|e: ostler_model::SpanError| CliError::usage(e.to_string()))?;
        if span.is_zero() {
            return Err(CliError::usage(
                "an interval of no length is due all the time; write at least `every 1ms`",
            ));
        }
        Rhythm::Every { interval: Interval::Elapsed(span), pace }
    } else if word == "@reboot" {
        Rhythm::Reboot
    } else if word.to_ascii_uppercase().contains("FREQ=") {
        Rhythm::Rrule(word.to_owned())
    } else {
        if spaced {
            return Err(CliError::usage(
                "`--spaced` goes with `every …`: a cron expression has no length to wait",
            ));
        }
        ostler_calendar::check_cron(word, Dialect::Vixie).map_err(|e| {
            CliError::usage(format!("`{word}`: {e}"))
                .hint("write a cron expression, an alias such as @daily, `every 5s`, or `once`")
        })?;
        Rhythm::Cron { expression: word.to_owned(), dialect: Dialect::Vixie }
    };
    Ok(TriggerSpec {
        rhythm,
        timezone: None,
        dst: Dst::default(),
        jitter: None,
        offset: None,
        only: vec![],
        except: vec![],
        start: None,
        end: None,
        count: None,
    })
}
