//! Lines by which a child speaks to Ostler.
//!
//! | line on standard output | meaning |
//! |---|---|
//! | `::ostler progress 3/10 message` | 3 of 10 done; `3`, `30%` and a bare message are fine as well |
//! | `::ostler output name=value` | an output, as in `$OSTLER_OUTPUT` |
//! | `::ostler mask VALUE` | hide this value from here on |
//!
//! Such lines are not logged. Others that begin with `::ostler` are, as they are.

use ostler_execution::Progress;

#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Progress(Progress),
    Output(String, String),
    Mask(String),
}

pub(super) fn parse(line: &[u8]) -> Option<Command> {
    let line = std::str::from_utf8(line.strip_prefix(b"::ostler ")?).ok()?;
    let (verb, rest) = line.split_once(' ')?;
    match verb {
        "progress" => Some(Command::Progress(progress(rest.trim()))),
        "output" => {
            rest.split_once('=').map(|(name, value)| Command::Output(name.trim().into(), value.into()))
        }
        "mask" => Some(Command::Mask(rest.into())),
        _ => None,
    }
}

fn progress(text: &str) -> Progress {
    let (head, message) = text.split_once(' ').unwrap_or((text, ""));
    let numbers = if let Some((done, total)) = head.split_once('/') {
        done.parse().ok().zip(total.parse().ok()).map(|(done, total)| (done, Some(total)))
    } else if let Some(percent) = head.strip_suffix('%') {
        percent.parse().ok().map(|done| (done, Some(100)))
    } else {
        head.parse().ok().map(|done| (done, None))
    };
    let (done, total, message) = match numbers {
        Some((done, total)) => (Some(done), total, message),
        None => (None, None, text),
    };
    let message = message.trim();
    Progress { done, total, message: (!message.is_empty()).then(|| message.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(done: Option<u64>, total: Option<u64>, message: &str) -> Option<Command> {
        let message = (!message.is_empty()).then(|| message.into());
        Some(Command::Progress(Progress { done, total, message }))
    }

    #[test]
    fn the_documented_forms_are_understood() {
        assert_eq!(parse(b"::ostler progress 3/10 almost there"), told(Some(3), Some(10), "almost there"));
        assert_eq!(parse(b"::ostler progress 30% x"), told(Some(30), Some(100), "x"));
        assert_eq!(parse(b"::ostler progress 7"), told(Some(7), None, ""));
        assert_eq!(parse(b"::ostler progress still busy"), told(None, None, "still busy"));
        assert_eq!(parse(b"::ostler output k=v=w"), Some(Command::Output("k".into(), "v=w".into())));
        assert_eq!(parse(b"::ostler mask a b"), Some(Command::Mask("a b".into())));
        assert_eq!(parse(b"::ostler other x"), None);
        assert_eq!(parse(b"x ::ostler mask y"), None);
    }
}
