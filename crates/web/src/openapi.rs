//! The OpenAPI document of the JSON API, made from the table of routes: an operation that is served is described, and the other way round.

use std::sync::Arc;

use axum::{Json, extract::State, http::Method};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    cookies, csrf,
    error::{Problem, Rejection},
    routes::Routes,
    settings::Role,
    site::Site,
};

/// An operation of the JSON API.
#[derive(Debug, Clone)]
pub struct Operation {
    /// HTTP method.
    pub method: Method,
    /// Path below the base, with `{…}` for its parts.
    pub path: &'static str,
    /// Unique name.
    pub id: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// The lowest role that may use it.
    pub role: Role,
    /// Name in the audit log, for what changes something.
    pub act: Option<&'static str>,
    /// What it answers with when it succeeds.
    pub answer: Answer,
    /// Schema of the JSON body, if it has one. A schema with `contentMediaType` describes a body of that type instead.
    pub body: Option<SchemaOf>,
    /// Schema of the object of query parameters, if it has any.
    pub query: Option<SchemaOf>,
}

/// What an operation answers with when it succeeds.
#[derive(Debug, Clone, Copy)]
pub enum Answer {
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
pub type SchemaOf = fn(&mut SchemaGenerator) -> schemars::Schema;

/// [`SchemaOf`] a type.
pub fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> schemars::Schema {
    generator.subschema_for::<T>()
}

/// What the document says of a program.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Name of the API.
    pub title: &'static str,
    /// What it is for, and what its statuses mean.
    pub description: &'static str,
    /// Schema of the parts in braces of a path: the type that its handler reads them as. `None`: a text that is not empty.
    pub path_parameter: fn(&str) -> Option<SchemaOf>,
}

/// Adds the route of the document about the operations that were added before.
pub fn route<S: Site>(routes: Routes<S>, about: &About) -> Routes<S> {
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
    let operations = routes.table().iter().filter_map(|route| route.api.clone());
    let document = document(about, operations.chain([own.clone()]));
    let document = Arc::new(document);
    routes.api(own, move |State(site): State<Arc<S>>| {
        let document = Arc::clone(&document);
        async move {
            let mut document = document.as_ref().clone();
            // Without users, programs on this machine need neither a token nor a session.
            if site.web().accounts.snapshot()?.users.is_empty()
                && let Some(ways) = document["security"].as_array_mut()
            {
                ways.push(json!({}));
            }
            Ok::<_, Rejection>(Json(document))
        }
    })
}

fn document(about: &About, operations: impl Iterator<Item = Operation>) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let described = describe(about, &operation, &mut generator);
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
            "title": about.title,
            "version": "1",
            "description": about.description,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "../../", "description": "The server of this document" }],
        "security": [{ "token": [] }, { "session": [], "csrf": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token for programs, made on the page of users." },
                "session": { "type": "apiKey", "in": "cookie", "name": cookies::SESSION },
                "csrf": { "type": "apiKey", "in": "header", "name": csrf::HEADER, "description": "With a session, for what changes something: the code in the page's data-csrf." },
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

fn describe(about: &About, operation: &Operation, generator: &mut SchemaGenerator) -> Value {
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
            let schema = (about.path_parameter)(operation.path).map_or_else(any_text, |schema| schema(generator));
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

/// Schema of a text that is not empty.
fn any_text() -> schemars::Schema {
    schemars::json_schema!({ "type": "string", "minLength": 1 })
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

    struct Id;

    impl JsonSchema for Id {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "Id".into()
        }

        fn inline_schema() -> bool {
            true
        }

        fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
            schemars::json_schema!({ "type": "string", "pattern": "^[a-z]+$" })
        }
    }

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
        let about = About {
            title: "things",
            description: "",
            path_parameter: |_| None,
        };
        let document = document(&about, std::iter::once(operation));
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
        assert_eq!(id["schema"]["pattern"], "^[a-z]+$");
        assert_eq!(parameters[0]["schema"]["minLength"], 1);
    }
}
