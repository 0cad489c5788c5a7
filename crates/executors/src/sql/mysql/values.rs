//! Values of MySQL as JSON, and the other way round.
//!
//! Moments come as the server says them, in the time zone of the session: `set time_zone = '+00:00'` makes it UTC.

use mysql_async::{Column, Value as Cell, consts::ColumnType};
use serde_json::{Value, json};

/// The number of the character set that is none: bytes.
const BINARY: u16 = 63;

/// A parameter. The server turns it into the type that it needs; lists and objects go as JSON.
pub(super) fn param(value: &Value) -> Cell {
    match value {
        Value::Null => Cell::NULL,
        Value::Bool(yes) => Cell::Int((*yes).into()),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cell::Int(whole),
            (None, Some(whole)) => Cell::UInt(whole),
            (None, None) => Cell::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Cell::Bytes(text.clone().into_bytes()),
        other => Cell::Bytes(other.to_string().into_bytes()),
    }
}

/// A cell of a row. Prepared statements answer with numbers, others with their texts.
pub(super) fn cell(value: Cell, column: &Column) -> Value {
    match value {
        Cell::NULL => Value::Null,
        Cell::Int(whole) => whole.into(),
        Cell::UInt(whole) => whole.into(),
        // The shortest text of a float, so that 0.1 stays 0.1 as a double.
        Cell::Float(number) => number.to_string().parse::<f64>().map_or(Value::Null, Value::from),
        Cell::Double(number) => json!(number),
        Cell::Date(year, month, day, hour, minute, second, micros) => {
            let date = format!("{year:04}-{month:02}-{day:02}");
            if matches!(column.column_type(), ColumnType::MYSQL_TYPE_DATE | ColumnType::MYSQL_TYPE_NEWDATE) {
                return date.into();
            }
            moment(&format!("{date}T{hour:02}:{minute:02}:{second:02}.{micros:06}"))
        }
        Cell::Time(negative, days, hours, minutes, seconds, micros) => {
            let sign = if negative { "-" } else { "" };
            let hours = days * 24 + u32::from(hours);
            moment(&format!("{sign}{hours:02}:{minutes:02}:{seconds:02}.{micros:06}"))
        }
        Cell::Bytes(bytes) => of_bytes(&bytes, column),
    }
}

fn of_bytes(bytes: &[u8], column: &Column) -> Value {
    use ColumnType as T;
    let text = || String::from_utf8_lossy(bytes).into_owned();
    let number = |text: String| -> Value {
        text.parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<u64>().map(Value::from))
            .or_else(|_| text.parse::<f64>().map(Value::from))
            .unwrap_or_else(|_| text.into())
    };
    match column.column_type() {
        T::MYSQL_TYPE_TINY
        | T::MYSQL_TYPE_SHORT
        | T::MYSQL_TYPE_LONG
        | T::MYSQL_TYPE_LONGLONG
        | T::MYSQL_TYPE_INT24
        | T::MYSQL_TYPE_YEAR => number(text()),
        T::MYSQL_TYPE_FLOAT | T::MYSQL_TYPE_DOUBLE => {
            text().parse::<f64>().map_or_else(|_| text().into(), Value::from)
        }
        T::MYSQL_TYPE_DECIMAL | T::MYSQL_TYPE_NEWDECIMAL => crate::sql::decimal(&text()),
        T::MYSQL_TYPE_DATETIME | T::MYSQL_TYPE_TIMESTAMP | T::MYSQL_TYPE_TIME => {
            moment(&text().replacen(' ', "T", 1))
        }
        T::MYSQL_TYPE_DATE | T::MYSQL_TYPE_NEWDATE => text().into(),
        T::MYSQL_TYPE_BIT if bytes.len() <= 8 => {
            bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)).into()
        }
        T::MYSQL_TYPE_JSON => serde_json::from_slice(bytes).unwrap_or_else(|_| text().into()),
        _ if column.character_set() == BINARY => crate::sql::base64(bytes),
        _ => text().into(),
    }
}

/// Without the noughts at the end of a fraction.
fn moment(text: &str) -> Value {
    match text.split_once('.') {
        Some((whole, fraction)) => {
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { whole.into() } else { format!("{whole}.{fraction}").into() }
        }
        None => text.into(),
    }
}
