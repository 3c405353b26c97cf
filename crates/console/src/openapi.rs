//! The OpenAPI document of the JSON API, made from the table of routes: an operation that is served is described, and the other way round.

use std::sync::Arc;

use axum::{Json, extract::State, http::Method};
use gridwatch_config::Role;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    api::configuration::Number,
    app::App,
    error::Rejection,
    routes::{Problem, Route, Routes},
    values::Id,
};

/// An operation of the JSON API.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// Path below the console's base.
    pub(crate) path: &'static str,
    /// Unique name.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    /// The lowest role that may use it.
    pub(crate) role: Role,
    /// Name in the audit log, for what changes something.
    pub(crate) act: Option<&'static str>,
    pub(crate) answer: Answer,
    /// Schema of the JSON body, if it has one. A schema with `contentMediaType` describes a body of that type instead.
    pub(crate) body: Option<SchemaOf>,
    /// Schema of the object of query parameters, if it has any.
    pub(crate) query: Option<SchemaOf>,
}

/// What an operation answers with when it succeeds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Answer {
    /// JSON.
    Json(SchemaOf),
    /// A JPEG.
    Jpeg,
    /// Fragmented MP4 without end.
    Mp4,
    /// A file of this media type.
    File(&'static str),
    /// Status 204.
    Nothing,
}

/// Makes the schema of a type.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> schemars::Schema;

/// [`SchemaOf`] a type.
pub(crate) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

/// Adds the route of the document about `table`.
pub(crate) fn route(routes: Routes, table: &[Route]) -> Routes {
    let own = Operation {
        method: Method::GET,
        path: "/api/v1/openapi.json",
        id: "openapi",
        summary: "This document",
        role: Role::Viewer,
        act: None,
        answer: Answer::Json(schema::<Value>),
        body: None,
        query: None,
    };
    let operations = table.iter().filter_map(|route| route.api.clone());
    let document = document(operations.chain([own.clone()]));
    let document = Arc::new(document);
    routes.api(own, move |State(app): State<Arc<App>>| {
        let document = Arc::clone(&document);
        async move {
            let mut document = document.as_ref().clone();
            // Without users, programs on the box need neither a token nor a session.
            if app.accounts.snapshot()?.users.is_empty()
                && let Some(ways) = document["security"].as_array_mut()
            {
                ways.push(json!({}));
            }
            Ok::<_, Rejection>(Json(document))
        }
    })
}

fn document(operations: impl Iterator<Item = Operation>) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let described = describe(&operation, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.as_str().to_lowercase(), described);
        }
    }
    let problem = generator.subschema_for::<Problem>();
    let schemas = generator.take_definitions(true);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "gridwatch console",
            "version": "1",
            "description": "What the console's pages show, for programs. Errors are problem documents (RFC 9457). Status 400: the input is not as described here; 422: it is, and does not fit this box, such as a zone whose borders cross; 409: something else stands against it, such as a change by somebody else.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "../../", "description": "The console that served this document" }],
        "security": [{ "token": [] }, { "session": [], "csrf": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token for programs, made on the page of users." },
                "session": { "type": "apiKey", "in": "cookie", "name": crate::cookies::SESSION },
                "csrf": { "type": "apiKey", "in": "header", "name": crate::csrf::HEADER, "description": "With a session, for what changes something: the code in the page's data-csrf." },
            },
            "responses": {
                "Problem": {
                    "description": "Not done, and why",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    });
    bound_integers(&mut document);
    document
}

/// States the range of integers, which `schemars` leaves to a format.
fn bound_integers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(bound_integers),
        Value::Object(members) => {
            let range = match members.get("format").and_then(Value::as_str) {
                Some("uint8") => (json!(0), json!(u8::MAX)),
                Some("uint16") => (json!(0), json!(u16::MAX)),
                Some("uint32") => (json!(0), json!(u32::MAX)),
                Some("uint" | "uint64") => (json!(0), json!(u64::MAX)),
                Some("int32") => (json!(i32::MIN), json!(i32::MAX)),
                Some("int" | "int64") => (json!(i64::MIN), json!(i64::MAX)),
                _ => (Value::Null, Value::Null),
            };
            if let (Value::Number(_), Value::Number(_)) = &range {
                members.remove("format");
                members.entry("minimum").or_insert(range.0);
                members.entry("maximum").or_insert(range.1);
            }
            members.values_mut().for_each(bound_integers);
        }
        _ => {}
    }
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let success = match operation.answer {
        Answer::Json(schema) => json!({
            "200": { "description": "Done", "content": { "application/json": { "schema": schema(generator) } } },
        }),
        Answer::Jpeg => json!({
            "200": { "description": "The picture", "content": { "image/jpeg": {} } },
        }),
        Answer::Mp4 => json!({
            "200": { "description": "The video, until the client hangs up", "content": { "video/mp4": {} } },
        }),
        Answer::File(kind) => json!({
            "200": { "description": "The file", "content": { kind: {} } },
        }),
        Answer::Nothing => json!({ "204": { "description": "Done" } }),
    };
    let mut responses = success;
    let mut statuses = vec!["400", "401", "403", "404", "409", "421", "422", "429", "500", "503"];
    if operation.act.is_some() {
        statuses.push("413");
    }
    if matches!(operation.answer, Answer::Jpeg) {
        statuses.push("410");
    }
    for status in statuses {
        responses[status] = json!({ "$ref": "#/components/responses/Problem" });
    }
    let mut parameters: Vec<Value> = path_parameters(operation.path)
        .map(|name| {
            let schema = path_parameter(operation.path)(generator);
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    if let Some(query) = operation.query {
        parameters.extend(query_parameters(query, generator));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": format!("Takes the role {} or a higher one.", operation.role),
        "parameters": parameters,
        "responses": responses,
    });
    if let Some(body) = operation.body {
        let schema = body(generator);
        let kind = schema.get("contentMediaType").and_then(Value::as_str);
        let kind = kind.unwrap_or("application/json").to_owned();
        described["requestBody"] = json!({
            "required": true,
            "content": { kind: { "schema": schema } },
        });
    }
    described
}

/// Schema of the parameters of a path: the type that its handler reads them as. Other texts than these are not found.
fn path_parameter(path: &str) -> SchemaOf {
    match path {
        "/api/v1/schedules/{id}" => schema::<Id>,
        "/api/v1/configuration/versions/{id}/restore" => schema::<Number>,
        _ => |_| schemars::json_schema!({ "type": "string", "minLength": 1 }),
    }
}

/// Names of the parts in braces of a path.
fn path_parameters(path: &str) -> impl Iterator<Item = &str> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// One parameter for each property of an object's schema.
fn query_parameters(query: SchemaOf, generator: &mut SchemaGenerator) -> Vec<Value> {
    let reference = query(generator);
    let name = reference
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.rsplit('/').next());
    let object = name.and_then(|name| generator.definitions_mut().remove(name));
    let properties = object
        .as_ref()
        .and_then(|object| object.get("properties")?.as_object().cloned());
    let required = object
        .as_ref()
        .and_then(|object| object.get("required")?.as_array().cloned());
    let required = required.unwrap_or_default();
    let properties = properties.unwrap_or_default().into_iter();
    let parameters = properties.map(|(name, schema)| {
        let Value::Object(mut schema) = schema else {
            return json!({ "name": name, "in": "query", "schema": schema });
        };
        let description = schema.get("description").cloned().unwrap_or_default();
        // A parameter that is given has a value.
        if let Some(kinds) = schema.get_mut("type").filter(|kind| kind.is_array()) {
            let first = kinds.as_array().and_then(|kinds| kinds.first().cloned());
            *kinds = first.unwrap_or_default();
        }
        if let Some(kinds) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
            kinds.retain(|kind| kind["type"] != "null");
            if let [only] = kinds.as_slice() {
                let only = only.clone();
                schema.remove("anyOf");
                if let Value::Object(members) = only {
                    schema.extend(members);
                }
            }
        }
        if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
            values.retain(|value| !value.is_null());
        }
        let is_required = required.iter().any(|required| *required == *name);
        json!({ "name": name, "in": "query", "required": is_required, "description": description, "schema": schema })
    });
    parameters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its schema is used")]
    struct Filter {
        /// At most this many.
        limit: Option<u32>,
        /// Which.
        id: Id,
    }

    #[test]
    fn paths_and_parameters_are_described() {
        assert_eq!(
            path_parameters("/api/v1/cases/{id}/evidence/{item}").collect::<Vec<_>>(),
            ["id", "item"]
        );
        let operation = Operation {
            method: Method::GET,
            path: "/api/v1/things/{id}",
            id: "things",
            summary: "Things",
            role: Role::Viewer,
            act: None,
            answer: Answer::Nothing,
            body: None,
            query: Some(schema::<Filter>),
        };
        let document = document(std::iter::once(operation));
        let parameters = &document["paths"]["/api/v1/things/{id}"]["get"]["parameters"];
        assert_eq!(parameters[0]["name"], "id");
        let parameter = |name: &str| {
            let all = parameters.as_array().unwrap();
            all.iter().find(|parameter| parameter["name"] == name).unwrap()
        };
        let (limit, id) = (parameter("limit"), &parameters[1]);
        assert_eq!(limit["required"], false);
        assert_eq!(
            (
                &limit["schema"]["type"],
                &limit["schema"]["minimum"],
                &limit["schema"]["maximum"]
            ),
            (&json!("integer"), &json!(0), &json!(u32::MAX))
        );
        assert_eq!(
            (&id["name"], &id["in"], &id["required"]),
            (&json!("id"), &json!("query"), &json!(true))
        );
        assert_eq!(id["schema"]["pattern"], "^[A-Za-z0-9_-]{1,64}$");
    }
}
