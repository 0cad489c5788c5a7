//! Schemas: protocols, the inputs' short form, outputs.

use std::{cell::RefCell, collections::BTreeMap};

use ostler_schema::{FaultKind, Schema};
use serde_json::{Map, Value, json};

use super::Context;
use crate::{
    diagnostic::{Problem, suggest},
    node::{Kind, Node},
};

/// The protocols of a file: named schemas.
#[derive(Default)]
pub(crate) struct Protocols {
    schemas: BTreeMap<String, Value>,
}

/// The types that JSON Schema knows.
const TYPES: [&str; 7] = ["string", "number", "integer", "boolean", "array", "object", "null"];

impl Protocols {
    pub(crate) fn read(cx: &Context<'_>, node: &Node) -> Self {
        let mut protocols = Self::default();
        let Kind::Map(entries) = &node.kind else {
            cx.wrong_type(node, "protocols", "a map of names and schemas");
            return protocols;
        };
        for (key, node) in entries {
            protocols.schemas.insert(key.text.clone(), node.to_json());
        }
        for (_, node) in entries {
            let schema = protocols.resolved(cx, node, node.to_json());
            check(cx, node, &schema);
        }
        protocols
    }

    /// A schema with `$ref: "#/protocols/X"` replaced by X.
    fn resolved(&self, cx: &Context<'_>, node: &Node, schema: Value) -> Value {
        let wrong = RefCell::new(None);
        let resolved = self.replace(schema, &mut Vec::new(), &wrong);
        if let Some((name, is_circle)) = wrong.into_inner() {
            let place = find_ref(node, &name).unwrap_or(node);
            let problem = if is_circle {
                Problem::new("schema", &place.span, format!("the protocol `{name}` refers to itself"))
            } else {
                Problem::new("schema", &place.span, format!("there is no protocol `{name}`")).help(suggest(
                    &name,
                    self.schemas.keys().map(String::as_str),
                    "the file has no `protocols`",
                ))
            };
            cx.error(problem);
        }
        resolved
    }

    fn replace(
        &self,
        schema: Value,
        within: &mut Vec<String>,
        wrong: &RefCell<Option<(String, bool)>>,
    ) -> Value {
        match schema {
            Value::Object(map) => {
                let name =
                    map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/protocols/"));
                if let Some(name) = name.map(str::to_owned) {
                    let Some(target) = self.schemas.get(&name) else {
                        *wrong.borrow_mut() = Some((name, false));
                        return Value::Bool(true);
                    };
                    if within.contains(&name) || within.len() > 16 {
                        *wrong.borrow_mut() = Some((name, true));
                        return Value::Bool(true);
                    }
                    within.push(name);
                    let replaced = self.replace(target.clone(), within, wrong);
                    within.pop();
                    // What stands beside the reference counts too, as in drafts from 2019 on.
                    return match (replaced, map.len()) {
                        (Value::Object(mut target), 2..) => {
                            for (key, value) in map {
                                if key != "$ref" {
                                    target.insert(key, self.replace(value, within, wrong));
                                }
                            }
                            Value::Object(target)
                        }
                        (replaced, _) => replaced,
                    };
                }
                map.into_iter()
                    .map(|(k, v)| (k, self.replace(v, within, wrong)))
                    .collect::<Map<_, _>>()
                    .into()
            }
            Value::Array(items) => items.into_iter().map(|v| self.replace(v, within, wrong)).collect(),
            other => other,
        }
    }

    /// The outputs of a task or step: a protocol's name, a JSON Schema, or names with types.
    pub(crate) fn outputs(&self, cx: &Context<'_>, node: &Node) -> Option<Value> {
        match &node.kind {
            Kind::Text(name) => self.named(cx, node, name),
            Kind::Bool(..) => Some(node.to_json()),
            Kind::Map(_) if is_schema(node) => {
                let schema = self.resolved(cx, node, node.to_json());
                check(cx, node, &schema).then_some(schema)
            }
            Kind::Map(_) => self.short_form(cx, node, "outputs", false),
            _ => {
                cx.wrong_type(
                    node,
                    "outputs",
                    "a JSON Schema, a map of names and types, or the name of a protocol",
                );
                None
            }
        }
    }

    /// The inputs of a task: a JSON Schema of an object, names with types, or a protocol's name.
    pub(crate) fn inputs(&self, cx: &Context<'_>, node: &Node) -> Option<Value> {
        let mut schema = match &node.kind {
            Kind::Text(name) => self.named(cx, node, name)?,
            Kind::Map(_) if is_schema(node) => self.resolved(cx, node, node.to_json()),
            Kind::Map(_) => return self.short_form(cx, node, "inputs", true),
            _ => {
                cx.wrong_type(node, "inputs", "a map of names and types");
                return None;
            }
        };
        if !check(cx, node, &schema) {
            return None;
        }
        let map = schema.as_object_mut()?;
        if map.get("type").is_some_and(|t| t != "object") {
            let place = node.get("type").unwrap_or(node);
            let message = "the schema of inputs is that of an object";
            cx.error(
                Problem::new("schema", &place.span, message).help("write `type: object` and `properties`"),
            );
        }
        map.entry("type").or_insert_with(|| "object".into());
        map.entry("additionalProperties").or_insert(Value::Bool(false));
        Some(schema)
    }

    fn named(&self, cx: &Context<'_>, node: &Node, name: &str) -> Option<Value> {
        let Some(schema) = self.schemas.get(name) else {
            let none = "the file has no `protocols`";
            let problem = Problem::new("protocol", &node.span, format!("there is no protocol `{name}`"));
            cx.error(problem.help(suggest(name, self.schemas.keys().map(String::as_str), none)));
            return None;
        };
        // Errors inside of it are told where it stands.
        Some(self.replace(schema.clone(), &mut Vec::new(), &RefCell::default()))
    }

    /// `station: { type: string, default: EDDB }`: required unless it has a default or says `required: false`.
    fn short_form(&self, cx: &Context<'_>, node: &Node, what: &str, closed: bool) -> Option<Value> {
        let Kind::Map(entries) = &node.kind else { return None };
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (key, node) in entries {
            let (schema, is_required) = self.property(cx, node, &format!("{what}.{}", key.text));
            if key.text.is_empty() || key.text.contains(['.', ' ', '[']) {
                let message = format!("`{}` is not a name that an expression can look up", key.text);
                cx.error(Problem::new("name", &key.span, message));
            }
            if is_required {
                required.push(Value::String(key.text.clone()));
            }
            properties.insert(key.text.clone(), schema);
        }
        let mut schema = json!({ "type": "object", "properties": properties });
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        if closed {
            schema["additionalProperties"] = Value::Bool(false);
        }
        Some(schema)
    }

    fn property(&self, cx: &Context<'_>, node: &Node, what: &str) -> (Value, bool) {
        let entries = match &node.kind {
            Kind::Null => return (json!({}), true),
            Kind::Text(_) => return (self.type_of(cx, node, what), true),
            Kind::Map(entries) => entries,
            _ => {
                cx.wrong_type(node, what, "a type, or a map with `type`, `default`, `required`, `enum`");
                return (json!({}), false);
            }
        };
        let mut schema = Map::new();
        let mut is_required = None;
        let mut is_choice = false;
        for (key, value) in entries {
            match key.text.as_str() {
                "required" if matches!(value.kind, Kind::Bool(..)) => is_required = cx.flag(value, what),
                "type" if value.as_text() == Some("choice") => {
                    is_choice = true;
                    schema.entry("type").or_insert_with(|| "string".into());
                }
                "type" | "protocol" if value.as_text().is_some() => {
                    match self.type_of(cx, value, what) {
                        Value::Object(more) => schema.extend(more),
                        _ => drop(schema.insert("type".into(), "string".into())),
                    };
                }
                "options" => drop(schema.insert("enum".into(), value.to_json())),
                other => drop(schema.insert(other.to_owned(), value.to_json())),
            }
        }
        if is_choice && !schema.contains_key("enum") {
            let message = format!("`{what}` is a choice without `options`");
            cx.error(Problem::new("schema", &node.span, message).help("write `options: [a, b]`"));
        }
        // A key that JSON Schema does not have would be without effect.
        for (key, _) in entries {
            if !KEYWORDS.contains(&key.text.as_str()) && !key.text.starts_with("x-") {
                let message = format!("`{}` is not a key of `{what}`", key.text);
                let problem = Problem::new("unknown-key", &key.span, message);
                cx.error(problem.help(suggest(&key.text, KEYWORDS, "")));
            }
        }
        let default = schema.contains_key("default");
        let schema = self.resolved(cx, node, Value::Object(schema));
        if check(cx, node, &schema)
            && let (Some(value), Ok(compiled)) = (schema.get("default"), Schema::compile(&schema))
            && let Some(fault) = compiled.faults(value).first()
        {
            let place = node.get("default").unwrap_or(node);
            let message = format!("the default of `{what}` does not fit: {fault}");
            cx.error(Problem::new("schema", &place.span, message));
        }
        (schema, is_required.unwrap_or(!default))
    }

    fn type_of(&self, cx: &Context<'_>, node: &Node, what: &str) -> Value {
        let Some(word) = node.as_text() else { return json!({}) };
        if TYPES.contains(&word) {
            return json!({ "type": word });
        }
        if let Some(schema) = self.schemas.get(word) {
            return self.replace(schema.clone(), &mut Vec::new(), &RefCell::default());
        }
        let alias = match word {
            "str" | "text" => Some("string"),
            "int" => Some("integer"),
            "float" => Some("number"),
            "bool" => Some("boolean"),
            "list" => Some("array"),
            "map" | "dict" => Some("object"),
            _ => None,
        };
        let known = TYPES.into_iter().chain(self.schemas.keys().map(String::as_str));
        let problem = Problem::new("schema", &node.span, format!("`{what}`: there is no type `{word}`"));
        cx.error(match alias {
            Some(alias) => problem.help(format!("write `{alias}`")),
            None => problem.help(suggest(word, known, "")),
        });
        json!({})
    }
}

/// Keys of a property in the short form.
pub(crate) const KEYWORDS: [&str; 40] = [
    "type",
    "default",
    "required",
    "enum",
    "description",
    "options",
    "protocol",
    "title",
    "examples",
    "const",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "items",
    "prefixItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "contains",
    "properties",
    "additionalProperties",
    "patternProperties",
    "propertyNames",
    "minProperties",
    "maxProperties",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "$ref",
    "deprecated",
];

/// Whether a map is a JSON Schema rather than names with types: it has a keyword whose value is of the keyword's kind.
fn is_schema(node: &Node) -> bool {
    let Kind::Map(entries) = &node.kind else { return false };
    if entries.is_empty() {
        return true;
    }
    entries.iter().any(|(key, value)| match (key.text.as_str(), &value.kind) {
        ("type", Kind::Text(word)) => {
            // `type: string` alone is a schema; an input that is called `type` would have a map or stand beside others.
            TYPES.contains(&word.as_str())
        }
        ("type", Kind::List(_)) | ("enum" | "required" | "allOf" | "anyOf" | "oneOf", Kind::List(_)) => true,
        ("description" | "title" | "pattern" | "format" | "$comment", Kind::Text(word)) => {
            !TYPES.contains(&word.as_str())
        }
        ("minimum" | "maximum" | "minLength" | "maxLength" | "minItems" | "maxItems", Kind::Number(..))
        | ("minProperties" | "maxProperties" | "multipleOf", Kind::Number(..)) => true,
        ("$ref" | "$schema" | "$id", Kind::Text(_))
        | ("const", _)
        | ("additionalProperties", Kind::Bool(..)) => true,
        ("properties", Kind::Map(properties)) => {
            properties.is_empty() || !entries.iter().any(|(k, _)| k.text == "default")
        }
        _ => false,
    })
}

/// Checks a schema against the meta-schema.
fn check(cx: &Context<'_>, node: &Node, schema: &Value) -> bool {
    let wrong = |place: &Node, message: String| {
        cx.error(Problem::new("schema", &place.span, format!("this is not a JSON Schema: {message}")));
        false
    };
    match schema {
        Value::Object(map) => {
            if let Some(other) = map.get("$ref").and_then(Value::as_str).filter(|r| !r.starts_with('#')) {
                return wrong(
                    find_ref(node, other).unwrap_or(node),
                    format!("`{other}` lies outside of the file; write `#/protocols/NAME`"),
                );
            }
        }
        Value::Bool(_) => return true,
        _ => return wrong(node, "a schema is a map".into()),
    }
    let Err(fault) = Schema::compile(schema) else { return true };
    let place = node.at_pointer(&fault.pointer);
    if let (true, Some(word)) = (fault.pointer.ends_with("/type"), place.as_text()) {
        let problem = Problem::new("schema", &place.span, format!("there is no type `{word}`"));
        cx.error(problem.help(suggest(word, TYPES, "")));
        return false;
    }
    wrong(place, fault.to_string())
}

/// The value of a `$ref` that ends in a name.
fn find_ref<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.kind {
        Kind::Map(entries) => entries.iter().find_map(|(key, value)| {
            if key.text == "$ref" && value.as_text().is_some_and(|t| t.ends_with(name)) {
                return Some(value);
            }
            find_ref(value, name)
        }),
        Kind::List(items) => items.iter().find_map(|n| find_ref(n, name)),
        _ => None,
    }
}

/// Checks given inputs, which are constants, against a task's schema, with the schema's defaults filled in.
pub(crate) fn check_inputs(cx: &Context<'_>, node: &Node, schema: Option<&Value>, whose: &str) {
    let Kind::Map(entries) = &node.kind else { return };
    for (_, value) in entries {
        if let Some(text) = expression_in(value) {
            let message =
                format!("`{text}` is not worked out here: inputs of schedules and presets are constants");
            cx.error(Problem::new("input", &value.span, message));
        }
    }
    check_templates(cx, node, schema, whose);
}

/// The same for inputs that may hold expressions: what those will give is checked when it is known.
pub(crate) fn check_templates(cx: &Context<'_>, node: &Node, schema: Option<&Value>, whose: &str) {
    let Kind::Map(entries) = &node.kind else { return };
    let properties = schema.and_then(|s| s.get("properties")).and_then(Value::as_object);
    let is_open =
        schema.is_some_and(|s| s.get("additionalProperties").is_none_or(|a| a != &Value::Bool(false)));
    for (key, _) in entries {
        if !is_open && !properties.is_some_and(|p| p.contains_key(&key.text)) {
            let known = properties.into_iter().flat_map(|p| p.keys()).map(String::as_str).collect::<Vec<_>>();
            let problem = Problem::new("input", &key.span, format!("{whose} has no input `{}`", key.text));
            cx.error(problem.help(suggest(&key.text, known.iter().copied(), "it takes no inputs")));
        }
    }
    let Some(schema) = schema else { return };
    let mut given = Map::new();
    for (name, property) in properties.into_iter().flatten() {
        if let Some(default) = property.get("default") {
            given.insert(name.clone(), default.clone());
        }
    }
    if let Value::Object(values) = node.to_json() {
        given.extend(values);
    }
    let given = Value::Object(given);
    let Ok(compiled) = Schema::compile(schema) else { return };
    for fault in compiled.faults(&given) {
        // Told above; and a preset may leave inputs to whoever starts it.
        if fault.pointer.is_empty() && fault.kind != FaultKind::Unfit {
            continue;
        }
        let place = node.at_pointer(&fault.pointer);
        if expression_in(place).is_some() {
            continue;
        }
        let name = fault.pointer.trim_start_matches('/').replace('/', ".");
        let message = format!("the input `{name}` of {whose} does not fit: {fault}");
        cx.error(Problem::new("input", &place.span, message));
    }
}

/// The inputs that are required and not given.
pub(crate) fn missing_inputs(schema: Option<&Value>, given: &[&Map<String, Value>]) -> Vec<String> {
    let Some(schema) = schema else { return Vec::new() };
    let has_default = |name: &str| schema["properties"][name].get("default").is_some();
    schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| !has_default(name) && !given.iter().any(|g| g.contains_key(*name)))
        .map(str::to_owned)
        .collect()
}

fn expression_in(node: &Node) -> Option<String> {
    match &node.kind {
        Kind::Text(text) => text.find("${{").filter(|at| !text[..*at].ends_with('$')).map(|_| text.clone()),
        Kind::List(items) => items.iter().find_map(expression_in),
        Kind::Map(entries) => entries.iter().find_map(|(_, n)| expression_in(n)),
        _ => None,
    }
}
