//! The OpenAPI 3.1 document, made from the types of the operations. Its schemas are JSON Schema 2020-12, which is what
//! OpenAPI 3.1 takes (OAI specification 3.1.0, section 4.8.24), so that one derive describes a type for both.

use ostler_api::{Problem, VERSION};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    json::FromBody,
    operation::{Answered, IDEMPOTENCY_KEY, Operation},
};

/// What every operation can answer instead, with when.
const PROBLEMS: [(u16, &str); 11] = [
    (400, "What was sent is wrong; nothing was changed."),
    (401, "No token that counts came with the request."),
    (403, "The caller may not do this, or the request comes from a page of another origin."),
    (404, "It is not there."),
    (409, "It is in the way of what is there."),
    (410, "It was there; retention has taken it."),
    (412, "It has changed since the caller looked (`If-Match`)."),
    (413, "The body is too large."),
    (415, "The body is of a media type that is not read there."),
    (429, "A limit of the queue or of the server is reached; `Retry-After` says when to try again."),
    (503, "The store cannot be used."),
];

pub(crate) struct Described {
    generator: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Described {
    pub(crate) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self { generator: settings.into_generator(), paths: Map::new() }
    }

    /// Describes an operation by its types.
    pub(crate) fn operation<P: JsonSchema, Q: JsonSchema, B: FromBody, V: JsonSchema>(
        &mut self,
        operation: &Operation,
    ) {
        let content = json!({ "application/json": { "schema": self.generator.subschema_for::<V>() } });
        let body = B::describe(&mut self.generator);
        self.add::<P, Q>(operation, body, content);
    }

    /// Describes an operation whose answer describes itself.
    pub(crate) fn answered<P: JsonSchema, Q: JsonSchema, B: FromBody, V: Answered>(
        &mut self,
        operation: &Operation,
    ) {
        let body = B::describe(&mut self.generator);
        let (media, schema) = V::describe(&mut self.generator);
        self.add::<P, Q>(operation, body, json!({ media: { "schema": schema } }));
    }

    fn add<P: JsonSchema, Q: JsonSchema>(
        &mut self,
        operation: &Operation,
        body: Option<Map<String, Value>>,
        content: Value,
    ) {
        let mut parameters = self.parameters::<P>("path");
        parameters.extend(self.parameters::<Q>("query"));
        if operation.takes_if_match {
            parameters.push(json!({
                "name": "If-Match", "in": "header",
                "schema": { "type": "string", "pattern": "^(\\*|\"[!-~]*\")$" },
                "description": "Only when it still has this `ETag`; otherwise 412.",
            }));
        }
        if operation.takes_key {
            parameters.push(json!({
                "name": IDEMPOTENCY_KEY, "in": "header",
                "schema": { "type": "string", "minLength": 1, "maxLength": 255 },
                "description": "The same key is answered with the same run, however often it is sent.",
            }));
        }
        let mut answer = json!({ "description": "Done.", "content": content });
        if operation.has_etag {
            answer["headers"] = json!({ "ETag": { "schema": { "type": "string" } } });
        }
        let mut responses = Map::from_iter([(operation.status.as_u16().to_string(), answer)]);
        if operation.has_etag {
            responses
                .insert("304".into(), json!({ "description": "It still has the tag of `If-None-Match`." }));
        }
        let problem = self.generator.subschema_for::<Problem>();
        for (status, when) in PROBLEMS {
            let told = json!({
                "description": when,
                "content": { "application/problem+json": { "schema": problem } },
            });
            responses.insert(status.to_string(), told);
        }
        let mut described = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "tags": [operation.tag],
            "parameters": parameters,
            "responses": responses,
        });
        if let Some(content) = body {
            described["requestBody"] = json!({ "required": true, "content": content });
        }
        let path = format!("/api/{VERSION}{}", operation.path);
        let methods = self.paths.entry(path).or_insert_with(|| json!({}));
        methods[operation.method.as_str().to_lowercase()] = described;
    }

    /// The fields of a type as parameters.
    fn parameters<T: JsonSchema>(&mut self, place: &str) -> Vec<Value> {
        let schema = T::json_schema(&mut self.generator);
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .map(|names| names.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let Some(fields) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
        fields
            .iter()
            .map(|(name, field)| {
                let mut field = field.clone();
                let description = field.as_object_mut().and_then(|f| f.remove("description"));
                json!({
                    "name": name,
                    "in": place,
                    "required": place == "path" || required.contains(&name.as_str()),
                    "schema": present(field),
                    "description": description,
                })
            })
            .collect()
    }

    pub(crate) fn finish(mut self) -> Value {
        let schemas = self.generator.take_definitions(true);
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Ostler",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Runs the things that must happen, when they must happen, exactly as often as they should, \
                    and keeps the record.",
                "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            },
            "servers": [{ "url": "/" }],
            "security": [{}, { "token": [] }],
            "paths": self.paths,
            "components": {
                "schemas": schemas,
                "securitySchemes": {
                    "token": { "type": "http", "scheme": "bearer", "description": "A token of `ostler tokens create`." },
                },
            },
        })
    }
}

/// A parameter that is there is not null: what may be absent is described as what it is when it is there.
fn present(mut schema: Value) -> Value {
    let is_null = |v: &Value| v.get("type").is_some_and(|t| t == "null");
    if let Some(fields) = schema.as_object_mut() {
        if fields.get("default").is_some_and(Value::is_null) {
            fields.remove("default");
        }
        if let Some(Value::Array(types)) = fields.get_mut("type") {
            types.retain(|t| t != "null");
            if let [one] = types.as_slice() {
                let one = one.clone();
                fields.insert("type".into(), one);
            }
        }
        if let Some(Value::Array(choices)) = fields.get_mut("anyOf") {
            choices.retain(|c| !is_null(c));
            if let [one] = choices.as_slice() {
                return one.clone();
            }
        }
    }
    schema
}
