//! What the names of places at brokers may look like.

/// Whether messages can be published to this subject: words joined by dots, none of them wild.
#[must_use]
pub fn is_nats_subject(text: &str) -> bool {
    is_nats_filter(text) && text.split('.').all(|part| part != "*" && part != ">")
}

/// Whether this names subjects to listen to: `*` stands for one word, `>` at the end for any number of them.
#[must_use]
pub fn is_nats_filter(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let last = parts.len() - 1;
    // A space or line break would begin another word of the protocol.
    !text.chars().any(|c| c.is_whitespace() || c.is_control())
        && parts.iter().enumerate().all(|(at, part)| !part.is_empty() && (*part != ">" || at == last))
}

/// Whether a stream of JetStream can have this name.
#[must_use]
pub fn is_nats_stream(text: &str) -> bool {
    let is_out = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    !text.is_empty() && !text.contains(is_out)
}

/// Whether messages can be published to this topic.
#[must_use]
pub fn is_mqtt_topic(text: &str) -> bool {
    !text.is_empty() && text.len() <= 65_535 && !text.contains(['+', '#', '\0'])
}

/// Whether this names topics to listen to: `+` stands for one level, `#` at the end for any number of them.
#[must_use]
pub fn is_mqtt_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let last = levels.len() - 1;
    let is_level = |(at, level): (usize, &&str)| match *level {
        "+" => true,
        "#" => at == last,
        other => !other.contains(['+', '#', '\0']),
    };
    !text.is_empty() && text.len() <= 65_535 && levels.iter().enumerate().all(is_level)
}

/// Whether a channel can have this name: PostgreSQL cuts longer ones off without a word.
#[must_use]
pub fn is_postgres_channel(text: &str) -> bool {
    (1..=63).contains(&text.len()) && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_nats() {
        for text in ["orders", "orders.new", "$SYS.x"] {
            assert!(is_nats_subject(text) && is_nats_filter(text), "{text}");
        }
        for text in ["orders.>", "*.new", ">"] {
            assert!(!is_nats_subject(text) && is_nats_filter(text), "{text}");
        }
        for text in ["", "a..b", "a b", "a.\r\n", ">.a", "a."] {
            assert!(!is_nats_filter(text), "{text}");
        }
        assert!(is_nats_stream("ORDERS") && !is_nats_stream("a.b") && !is_nats_stream(""));
    }

    #[test]
    fn topics_of_mqtt() {
        for text in ["plant/1/temp", "/", "größe"] {
            assert!(is_mqtt_topic(text) && is_mqtt_filter(text), "{text}");
        }
        for text in ["plant/+/temp", "#", "plant/#"] {
            assert!(!is_mqtt_topic(text) && is_mqtt_filter(text), "{text}");
        }
        for text in ["", "a+", "#/a", "a/b#", "a\0"] {
            assert!(!is_mqtt_filter(text), "{text}");
        }
    }

    #[test]
    fn channels_of_postgres() {
        assert!(
            is_postgres_channel("Orders; drop")
                && !is_postgres_channel("")
                && !is_postgres_channel(&"x".repeat(64))
        );
    }
}
