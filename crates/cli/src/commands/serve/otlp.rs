//! What the `OTEL_*` variables say: where a signal goes, with which headers, and how long it may take.

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans of runs.
    Traces,
    /// Counters, gauges, histograms.
    Metrics,
}

impl Signal {
    /// Its name within variables.
    fn name(self) -> &'static str {
        match self {
            Self::Traces => "TRACES",
            Self::Metrics => "METRICS",
        }
    }

    /// Its path below the endpoint of all signals.
    fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
        }
    }
}

/// A variable that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Where a signal goes; `None` when no collector is named or the signal is switched off.
pub fn endpoint(signal: Signal) -> Option<String> {
    let is_off = variable(&format!("OTEL_{}_EXPORTER", signal.name())).is_some_and(|value| value == "none")
        || variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_off {
        return None;
    }
    let whole = variable(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name()));
    whole.or_else(|| {
        let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT")?;
        Some(format!("{}/{}", base.trim_end_matches('/'), signal.path()))
    })
}

#[cfg(feature = "otel")]
mod sent {
    use std::time::Duration;

    use super::{Signal, variable};
    use crate::error::{CliError, STORE};

    /// How long one sending may take when no variable says it.
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// The value of a signal's own variable, or that of all signals, with its name.
    fn of(signal: Signal, what: &str) -> Option<(String, String)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.name());
        [own, format!("OTEL_EXPORTER_OTLP_{what}")]
            .into_iter()
            .find_map(|name| variable(&name).map(|value| (name, value)))
    }

    /// An error about sending.
    pub fn trouble(what: impl std::fmt::Display) -> CliError {
        CliError::new(STORE, "process", format!("OpenTelemetry: {what}"))
    }

    /// Only one protocol is spoken.
    pub fn check_protocol(signal: Signal) -> Result<(), CliError> {
        match of(signal, "PROTOCOL") {
            Some((name, value)) if value != "http/protobuf" => {
                Err(CliError::usage(format!("`{name}={value}`: only `http/protobuf` is spoken"))
                    .hint("collectors take it at port 4318; leave the variable out"))
            }
            _ => Ok(()),
        }
    }

    /// Milliseconds of a variable.
    pub fn milliseconds(name: &str) -> Result<Option<Duration>, CliError> {
        let Some(value) = variable(name) else { return Ok(None) };
        match value.parse::<u64>() {
            Ok(number @ 1..) => Ok(Some(Duration::from_millis(number))),
            _ => Err(CliError::usage(format!("`{name}={value}` is no number of milliseconds"))
                .hint("write a whole number, 1 or more")),
        }
    }

    /// How long one sending may take.
    pub fn timeout(signal: Signal) -> Result<Duration, CliError> {
        let name = of(signal, "TIMEOUT").map(|(name, _)| name);
        Ok(name.map_or(Ok(None), |name| milliseconds(&name))?.unwrap_or(TIMEOUT))
    }

    /// `name=value,name=value`; values may be percent-encoded.
    pub fn headers(signal: Signal) -> Result<Vec<(String, String)>, CliError> {
        let Some((name, value)) = of(signal, "HEADERS") else { return Ok(Vec::new()) };
        let wrong = || {
            CliError::usage(format!("`{name}` does not read `name=value,name=value`"))
                .hint("percent-encode commas within values: %2C")
        };
        let mut headers = Vec::new();
        for item in value.split(',').filter(|item| !item.trim().is_empty()) {
            let (key, value) = item.split_once('=').ok_or_else(wrong)?;
            let value = percent_decoded(value.trim()).ok_or_else(wrong)?;
            let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.!#$&'*+^`|~".contains(c);
            let key = key.trim();
            if key.is_empty() || !key.chars().all(is_token) || value.contains(char::is_control) {
                return Err(wrong());
            }
            headers.push((key.to_owned(), value));
        }
        Ok(headers)
    }

    fn percent_decoded(text: &str) -> Option<String> {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'%' {
                bytes.push(byte);
                continue;
            }
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        }
        String::from_utf8(bytes).ok()
    }

    /// Who tells: the service's name and version, and what `OTEL_RESOURCE_ATTRIBUTES` adds.
    pub fn resource() -> opentelemetry_sdk::Resource {
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let mut builder = opentelemetry_sdk::Resource::builder().with_attribute(version);
        let attributes = variable("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
        let is_named = attributes.split(',').any(|item| item.trim().starts_with("service.name="));
        if variable("OTEL_SERVICE_NAME").is_none() && !is_named {
            builder = builder.with_service_name("ostler");
        }
        builder.build()
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn values_are_percent_decoded() {
            assert_eq!(super::percent_decoded("a%20b%2Cc").as_deref(), Some("a b,c"));
            assert_eq!(super::percent_decoded("a%2"), None);
            assert_eq!(super::percent_decoded("a%zz"), None);
        }
    }
}

#[cfg(feature = "otel")]
pub use sent::*;
