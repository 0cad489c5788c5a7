//! Values of PostgreSQL as JSON, and the other way round.
//!
//! Parameters go as text, which the server reads as the type that it expects; only `bytea` is told apart, since bytes
//! are base64 in JSON. Cells come in the binary form of their type.
//! <https://www.postgresql.org/docs/current/protocol-overview.html#PROTOCOL-FORMAT-CODES>

use std::error::Error;

use base64::Engine;
use bytes::BytesMut;
use jiff::{Timestamp, civil};
use serde_json::{Map, Value, json};
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

type Fault = Box<dyn Error + Sync + Send>;

/// A parameter.
#[derive(Debug)]
pub(super) struct Param<'a> {
    pub(super) value: &'a Value,
}

impl ToSql for Param<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Fault> {
        match (self.value, base(ty)) {
            (Value::Null, _) => return Ok(IsNull::Yes),
            (Value::String(text), &Type::BYTEA) if text.starts_with("\\x") => {
                let digits = text.as_bytes()[2..].chunks(2).map(|pair| {
                    std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok())
                });
                out.extend_from_slice(
                    &digits.collect::<Option<Vec<u8>>>().ok_or("is not hexadecimal after `\\x`")?,
                );
            }
            (Value::String(text), &Type::BYTEA) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                out.extend_from_slice(&bytes.map_err(|e| {
                    format!(
                        "is for a `bytea`, so it is bytes in base64, or `\\x` and hexadecimal digits: {e}"
                    )
                })?);
            }
            (value, ty) => out.extend_from_slice(text(value, ty).as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, ty: &Type) -> Format {
        if *base(ty) == Type::BYTEA { Format::Binary } else { Format::Text }
    }

    to_sql_checked!();
}

/// The type below all domains.
fn base(ty: &Type) -> &Type {
    match ty.kind() {
        Kind::Domain(below) => base(below),
        _ => ty,
    }
}

/// A value as the server reads it.
fn text(value: &Value, ty: &Type) -> String {
    match (value, ty.kind()) {
        _ if matches!(*ty, Type::JSON | Type::JSONB) => value.to_string(),
        (Value::String(text), _) => text.clone(),
        (Value::Array(items), Kind::Array(member)) => array(items, member),
        // 7.0 is a whole number for whoever wrote it.
        (Value::Number(number), _) if matches!(*ty, Type::INT2 | Type::INT4 | Type::INT8) => {
            let text = number.to_string();
            text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
        }
        (other, _) => other.to_string(),
    }
}

/// `{1,NULL,"a \"b\""}`
fn array(items: &[Value], member: &Type) -> String {
    let items: Vec<String> = items
        .iter()
        .map(|item| match item {
            Value::Null => "NULL".to_owned(),
            Value::Array(inner) if !matches!(*member, Type::JSON | Type::JSONB) => array(inner, member),
            other => format!("\"{}\"", text(other, member).replace('\\', "\\\\").replace('"', "\\\"")),
        })
        .collect();
    format!("{{{}}}", items.join(","))
}

/// A cell of a row.
pub(super) struct Cell(pub(super) Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Fault> {
        cell(ty, raw).map(Self)
    }

    fn from_sql_null(_: &Type) -> Result<Self, Fault> {
        Ok(Self(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

fn cell(ty: &Type, raw: &[u8]) -> Result<Value, Fault> {
    let utf8 = |raw: &[u8]| String::from_utf8_lossy(raw).into_owned();
    Ok(match *ty {
        Type::BOOL => json!(bool::from_sql(ty, raw)?),
        Type::INT2 => json!(i16::from_sql(ty, raw)?),
        Type::INT4 => json!(i32::from_sql(ty, raw)?),
        Type::INT8 => json!(i64::from_sql(ty, raw)?),
        Type::OID | Type::XID | Type::CID | Type::REGCLASS | Type::REGTYPE | Type::REGPROC => {
            json!(u32::from_be_bytes(fixed(raw)?))
        }
        // The shortest text of a float, so that 0.1 stays 0.1 as a double.
        Type::FLOAT4 => float(f32::from_be_bytes(fixed(raw)?).to_string().parse()?),
        Type::FLOAT8 => float(f64::from_be_bytes(fixed(raw)?)),
        Type::NUMERIC => numeric(raw)?,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML | Type::CHAR => {
            utf8(raw).into()
        }
        Type::VOID => Value::Null,
        Type::JSON => serde_json::from_slice(raw)?,
        Type::JSONB => serde_json::from_slice(raw.get(1..).unwrap_or_default())?,
        Type::BYTEA => crate::sql::base64(raw),
        Type::UUID => uuid(raw)?.into(),
        Type::DATE => match i32::from_be_bytes(fixed(raw)?) {
            i32::MAX => "infinity".into(),
            i32::MIN => "-infinity".into(),
            _ => in_range(civil::Date::from_sql(ty, raw))?,
        },
        Type::TIMESTAMP | Type::TIMESTAMPTZ => match i64::from_be_bytes(fixed(raw)?) {
            i64::MAX => "infinity".into(),
            i64::MIN => "-infinity".into(),
            _ if *ty == Type::TIMESTAMP => in_range(civil::DateTime::from_sql(ty, raw))?,
            _ => in_range(Timestamp::from_sql(ty, raw))?,
        },
        Type::TIME => match i64::from_be_bytes(fixed(raw)?) {
            86_400_000_000 => "24:00:00".into(),
            _ => in_range(civil::Time::from_sql(ty, raw))?,
        },
        Type::INTERVAL => interval(raw)?.into(),
        Type::INET | Type::CIDR => network(raw)?.into(),
        _ => match ty.kind() {
            Kind::Enum(_) => utf8(raw).into(),
            Kind::Domain(below) => cell(below, raw)?,
            Kind::Array(member) => elements(member, raw)?,
            Kind::Composite(fields) => {
                let mut reader = Reader(raw.get(4..).unwrap_or_default());
                let mut object = Map::new();
                for field in fields {
                    reader.number()?;
                    object.insert(field.name().to_owned(), reader.value(field.type_())?);
                }
                Value::Object(object)
            }
            _ if ty.name() == "citext" => utf8(raw).into(),
            _ => {
                return Err(format!(
                    "has the type `{}`, which has no form in JSON here; write `::text` after it",
                    ty.name()
                )
                .into());
            }
        },
    })
}

fn fixed<const N: usize>(raw: &[u8]) -> Result<[u8; N], Fault> {
    raw.try_into().map_err(|_| format!("has {} bytes, not {N}", raw.len()).into())
}

/// JSON has no word for what is no number.
fn float(number: f64) -> Value {
    match number {
        n if n.is_finite() => json!(n),
        n if n.is_nan() => "NaN".into(),
        n if n > 0.0 => "Infinity".into(),
        _ => "-Infinity".into(),
    }
}

fn in_range<T: std::fmt::Display>(moment: Result<T, Fault>) -> Result<Value, Fault> {
    let moment =
        moment.map_err(|e| format!("is beyond the calendar of JSON texts ({e}); write `::text` after it"))?;
    Ok(moment.to_string().into())
}

fn uuid(raw: &[u8]) -> Result<String, Fault> {
    let hex = format!("{:032x}", u128::from_be_bytes(fixed(raw)?));
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}

/// Digits to the base 10000, the first of them worth 10000 to the power of a weight.
fn numeric(raw: &[u8]) -> Result<Value, Fault> {
    let words: Vec<u16> = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let [_, weight, sign, scale, digits @ ..] = words.as_slice() else {
        return Err("is no number".into());
    };
    match sign {
        0xC000 => return Ok("NaN".into()),
        0xD000 => return Ok("Infinity".into()),
        0xF000 => return Ok("-Infinity".into()),
        _ => {}
    }
    let weight = i32::from(weight.cast_signed());
    let digit =
        |place: i32| usize::try_from(weight - place).ok().and_then(|at| digits.get(at).copied()).unwrap_or(0);
    let mut text = String::from(if *sign == 0x4000 { "-" } else { "" });
    let whole: String = (0..=weight.max(0)).rev().map(|place| format!("{:04}", digit(place))).collect();
    let whole = whole.trim_start_matches('0');
    text += if whole.is_empty() { "0" } else { whole };
    let scale = usize::from(*scale);
    if scale > 0 {
        let places = i32::try_from(scale.div_ceil(4))?;
        let fraction: String = (1..=places).map(|place| format!("{:04}", digit(-place))).collect();
        text.push('.');
        text += &fraction[..scale];
    }
    Ok(crate::sql::decimal(&text))
}

/// ISO 8601, as `intervalstyle = iso_8601` writes it.
fn interval(raw: &[u8]) -> Result<String, Fault> {
    let raw: [u8; 16] = fixed(raw)?;
    let micros = i64::from_be_bytes(fixed(&raw[..8])?);
    let days = i32::from_be_bytes(fixed(&raw[8..12])?);
    let months = i32::from_be_bytes(fixed(&raw[12..])?);
    let part = |n: i64, unit: char| if n == 0 { String::new() } else { format!("{n}{unit}") };
    let date = part((months / 12).into(), 'Y') + &part((months % 12).into(), 'M') + &part(days.into(), 'D');
    let rest = micros % 60_000_000;
    let seconds = match (rest / 1_000_000, rest % 1_000_000) {
        (0, 0) => String::new(),
        (whole, 0) => format!("{whole}S"),
        (whole, fraction) => {
            let sign = if rest < 0 { "-" } else { "" };
            let fraction = format!("{:06}", fraction.abs());
            format!("{sign}{}.{}S", whole.abs(), fraction.trim_end_matches('0'))
        }
    };
    let time = part(micros / 3_600_000_000, 'H') + &part(micros / 60_000_000 % 60, 'M') + &seconds;
    Ok(match (date.is_empty(), time.is_empty()) {
        (true, true) => "PT0S".to_owned(),
        (_, true) => format!("P{date}"),
        (_, false) => format!("P{date}T{time}"),
    })
}

/// An address, with the length of its net where it names one.
fn network(raw: &[u8]) -> Result<String, Fault> {
    let [_, bits, is_net, _, address @ ..] = raw else { return Err("is no address".into()) };
    let address: std::net::IpAddr = match address.len() {
        4 => fixed::<4>(address)?.into(),
        _ => fixed::<16>(address)?.into(),
    };
    let full = if address.is_ipv4() { 32 } else { 128 };
    Ok(if *is_net == 0 && *bits == full { address.to_string() } else { format!("{address}/{bits}") })
}

/// An array: its dimensions, then its elements.
fn elements(member: &Type, raw: &[u8]) -> Result<Value, Fault> {
    let mut reader = Reader(raw);
    let dimensions = reader.number()?;
    reader.number()?;
    reader.number()?;
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(reader.number()?);
        reader.number()?;
    }
    if lengths.is_empty() { Ok(json!([])) } else { nested(&lengths, member, &mut reader) }
}

fn nested(lengths: &[i32], member: &Type, reader: &mut Reader<'_>) -> Result<Value, Fault> {
    match lengths {
        [] => reader.value(member),
        [first, deeper @ ..] => (0..*first).map(|_| nested(deeper, member, reader)).collect(),
    }
}

/// What is left of a value that has parts.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<i32, Fault> {
        Ok(i32::from_be_bytes(fixed(self.bytes(4)?)?))
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    /// A value with its length before it; no length is null.
    fn value(&mut self, ty: &Type) -> Result<Value, Fault> {
        match usize::try_from(self.number()?) {
            Ok(length) => cell(ty, self.bytes(length)?),
            Err(_) => Ok(Value::Null),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_written_as_the_server_reads_them() {
        let items = json!([1, null, "a \"b\"\\", [true]]);
        assert_eq!(array(items.as_array().unwrap(), &Type::TEXT), r#"{"1",NULL,"a \"b\"\\",{"true"}}"#);
        assert_eq!(text(&json!([1]), &Type::JSONB), "[1]");
        assert_eq!(text(&json!("a"), &Type::JSON), "\"a\"");
        assert_eq!(text(&json!(7.0), &Type::INT4), "7");
        assert_eq!(text(&json!([1]), &Type::TEXT), "[1]");
    }

    #[test]
    fn intervals_are_iso() {
        let interval = |months: i32, days: i32, micros: i64| {
            let bytes = [&micros.to_be_bytes()[..], &days.to_be_bytes(), &months.to_be_bytes()].concat();
            interval(&bytes).unwrap()
        };
        assert_eq!(interval(14, 3, 3_600_000_000), "P1Y2M3DT1H");
        assert_eq!(interval(0, 0, 0), "PT0S");
        assert_eq!(interval(0, -1, -500_000), "P-1DT-0.5S");
        assert_eq!(interval(0, 0, 61_250_000), "PT1M1.25S");
    }
}
