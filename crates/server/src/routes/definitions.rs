//! Definitions: a file in the body, what it would change, and what is stored as a file.

use std::path::Path;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Response, header},
};
use ostler_api::{
    Api, ApiError, DefinitionsAt, DefinitionsBy, Diff, ErrorDetail, ErrorKind, ListPage, PageRequest,
    PresetView, PushReport, SinkState, SinkView, TaskView, wire::PushParams,
};
use ostler_model::definition::{PresetDef, Timetable};
use ostler_timetable::{Diagnostics, Format};
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::{Nothing, OneNamespace, OneTask};
use crate::{
    App,
    json::FromBody,
    operation::{Answered, Call, Operation, Plain, Routes, blocking},
};

/// Names of media types of definition files.
const KINDS: [(&str, Format); 5] = [
    ("application/yaml", Format::Yaml),
    ("application/x-yaml", Format::Yaml),
    ("text/yaml", Format::Yaml),
    ("application/json", Format::Json),
    ("application/toml", Format::Toml),
];

/// The text of a definition file.
struct File {
    text: Vec<u8>,
    format: Format,
}

impl FromBody for File {
    fn describe(_: &mut SchemaGenerator) -> Option<Map<String, Value>> {
        let content = json!({
            "application/yaml": { "schema": { "type": "string", "description": "A definition file." } },
            "application/json": { "schema": { "type": "object", "description": "A definition file." } },
            "application/toml": { "schema": { "type": "string", "description": "A definition file." } },
        });
        content.as_object().cloned()
    }

    fn read(bytes: &[u8], headers: &HeaderMap) -> Result<Self, ApiError> {
        let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let known = KINDS.iter().find(|(name, _)| *name == kind);
        let (_, format) = known.ok_or_else(|| {
            let known: Vec<_> = KINDS.iter().map(|(name, _)| *name).collect();
            let known = known.join("`, `");
            let message = format!("definitions are sent with `Content-Type: {known}`, not `{kind}`");
            ApiError::new(ErrorKind::UnsupportedType, message)
        })?;
        Ok(Self { text: bytes.to_vec(), format: *format })
    }
}

/// An answer that is a definition file.
struct Yaml(String);

impl Answered for Yaml {
    fn describe(_: &mut SchemaGenerator) -> (&'static str, Value) {
        ("application/yaml", json!({ "description": "A definition file." }))
    }

    fn respond(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.0));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml"));
        response
    }
}

/// A task as it stands in a definition file.
struct TaskBody(Value);

impl FromBody for TaskBody {
    fn describe(_: &mut SchemaGenerator) -> Option<Map<String, Value>> {
        let words = "A task as it stands under `tasks` in a definition file.";
        let schema = json!({ "type": "object", "description": words });
        json!({ "application/json": { "schema": schema } }).as_object().cloned()
    }

    fn read(bytes: &[u8], headers: &HeaderMap) -> Result<Self, ApiError> {
        crate::json::Json::<Value>::read(bytes, headers).map(|json| Self(json.0))
    }
}

pub(crate) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Operation::put(
                "/definitions",
                "push",
                "Make the definitions of an origin what the file in the body says",
            ),
            |call: Call<Nothing, PushParams, File>| {
                let (timetable, at) = timetable(&call.app, &call.query, &call.body)?;
                Ok(Plain::<PushReport>(call.api.push(&timetable, &at)?))
            },
        )
        .add(
            Operation::post("/definitions/diff", "diff", "What a push of the file in the body would change"),
            |call: Call<Nothing, PushParams, File>| {
                let (timetable, at) = timetable(&call.app, &call.query, &call.body)?;
                Ok(Plain::<Diff>(call.api.diff(&timetable, &at)?))
            },
        )
        .add_async(
            Operation::get(
                "/definitions/{namespace}",
                "export",
                "What is stored of a namespace, as a definition file",
            ),
            |call: Call<OneNamespace, Nothing, ()>| blocking(move || export(&call).map(Yaml)),
        )
        .add(
            Operation::put("/tasks/{namespace}/{task}", "put_task", "Make one task what the body says")
                .if_match(),
            |call: Call<OneTask, Nothing, TaskBody>| {
                let expected = call.if_match()?;
                let timetable = one_task(&call.app, &call.path, &call.body.0)?;
                let report =
                    call.api.service().push_task(call.api.actor(), &timetable, expected.as_deref())?;
                Ok(Plain::<PushReport>(report))
            },
        )
}

fn timetable(app: &App, params: &PushParams, file: &File) -> Result<(Timetable, DefinitionsAt), ApiError> {
    let at = DefinitionsAt {
        origin: params.origin.clone().unwrap_or_else(|| DefinitionsAt::default().origin),
        ephemeral: params.ephemeral.unwrap_or(false),
        complete: params.complete.unwrap_or(true),
    };
    let mut timetable = read(app, &file.text, &at.origin, file.format)?;
    timetable.ephemeral |= at.ephemeral;
    Ok((timetable, at))
}

/// Reads definitions as a file of that origin.
fn read(app: &App, text: &[u8], origin: &str, format: Format) -> Result<Timetable, ApiError> {
    let path = Path::new(origin).is_absolute().then(|| Path::new(origin));
    let loaded = match path {
        Some(path) => ostler_timetable::load_text_at(text, path, format, &app.load),
        None => ostler_timetable::load_text(text, origin, format, &app.load),
    };
    let mut timetables = loaded.map_err(told)?.timetables;
    timetables.pop().ok_or_else(|| ApiError::bad_input("the body holds no definitions"))
}

fn told(diagnostics: Diagnostics) -> ApiError {
    let count = diagnostics.items.len();
    let errors = if count == 1 { "error" } else { "errors" };
    let mut error = ApiError::bad_input(format!("{count} {errors} found; nothing was changed"));
    error.details = diagnostics
        .items
        .into_iter()
        .map(|item| ErrorDetail {
            field: None,
            file: Some(item.file),
            line: (item.line > 0).then_some(item.line),
            column: (item.column > 0).then_some(item.column),
            message: item.message,
            help: item.help,
        })
        .collect();
    error
}

/// One task as a file of its own.
fn one_task(app: &App, path: &OneTask, body: &Value) -> Result<Timetable, ApiError> {
    let mut task = body.clone();
    let Some(fields) = task.as_object_mut() else {
        return Err(ApiError::bad_input(
            "the body is to be a task: an object as under `tasks` in a definition file",
        ));
    };
    let meta = fields.entry("meta").or_insert_with(|| json!({}));
    match meta.get("id").and_then(Value::as_str) {
        None => {
            if let Some(meta) = meta.as_object_mut() {
                meta.insert("id".into(), json!(path.task));
            }
        }
        Some(id) if id == path.task => {}
        Some(id) => {
            return Err(ApiError::bad_input(format!(
                "the body is of task `{id}`, the path of `{}`",
                path.task
            )));
        }
    }
    let file = json!({
        "meta": { "type": "ostler-timetable", "version": 1, "namespace": path.namespace },
        "tasks": [task],
    });
    read(app, file.to_string().as_bytes(), "api", Format::Json)
}

fn export(call: &Call<OneNamespace, Nothing, ()>) -> Result<String, ApiError> {
    let namespace = call.api.resolve_namespace(&call.path.namespace)?;
    let tasks: Vec<TaskView> = all(|page| call.api.tasks(Some(&namespace), page))?;
    let presets: Vec<PresetView> = all(|page| call.api.presets(Some(&namespace), page))?;
    let tasks: Vec<_> = tasks.into_iter().filter(|t| !t.missing).collect();
    let timetable = Timetable {
        namespace: namespace
            .parse()
            .map_err(|e: ostler_model::NameError| ApiError::bad_input(e.to_string()))?,
        ephemeral: false,
        origin: tasks.first().map(|t| t.origin.clone()).unwrap_or_default(),
        calendars: tasks.iter().flat_map(|t| t.definition.calendars.clone()).collect(),
        tasks: tasks.into_iter().map(|t| t.definition).collect(),
        presets: presets
            .into_iter()
            .filter(|p| !p.missing)
            .filter_map(|p| serde_json::from_value::<PresetDef>(p.definition).ok())
            .collect(),
        sinks: all(|page| call.api.sinks(Some(&namespace), page))?
            .into_iter()
            .filter(|s: &SinkView| s.state != SinkState::Missing)
            .map(|s| s.definition)
            .collect(),
    };
    Ok(ostler_timetable::export_yaml(&timetable))
}

fn all<T>(
    mut ask: impl FnMut(&PageRequest<DefinitionsBy>) -> Result<ListPage<T>, ApiError>,
) -> Result<Vec<T>, ApiError> {
    let mut page = PageRequest::first(1000);
    let mut items = Vec::new();
    loop {
        let found = ask(&page)?;
        items.extend(found.items);
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(items),
        }
    }
}
