//! The description of every route (OpenAPI 3.1), made from the code that serves it.
//!
//! Each handler says what it takes and gives; here is added what they have in common: how to show a key,
//! how errors look, and the routes for ids that a path cannot carry.

use serde_json::{Map, Value, json};
use utoipa::PartialSchema;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::problem::ProblemDetails;
use crate::session;

pub(crate) mod schema;

/// What the document says of itself.
const INTRODUCTION: &str = "\
Background tasks for AI agents, durable and streamed.

Times are ISO 8601 in UTC with milliseconds. What is absent is left out, never `null`. An unknown \
parameter or field is an error, so that a mistyped filter does not match everything.

Any text may be a task's id. A client that normalises paths cannot send `.`, `..` or the empty id in \
one: the routes `/v1/task…?id=` do what those under `/v1/tasks/{id}…` do, and `/v1/thread…?id=` likewise.";

/// Adds a route, and its like for ids that a path cannot carry.
pub(crate) fn with_id_in_query<S: Clone + Send + Sync + 'static>(
    mut router: OpenApiRouter<S>,
    routes: UtoipaMethodRouter<S>,
) -> OpenApiRouter<S> {
    let (path, item) = {
        let entry = routes.1.paths.iter().next();
        let (path, item) = entry.expect("a route has a path");
        (in_query(path), item.clone())
    };
    let method_router = routes.2.clone();
    router = router.routes(routes).route(&path, method_router);
    router.get_openapi_mut().paths.paths.insert(path, item);
    router
}

fn in_query(path: &str) -> String {
    path.replace("/tasks/{id}", "/task")
        .replace("/threads/{id}", "/thread")
}

/// The whole document, as JSON.
pub(crate) fn document(api: OpenApi) -> String {
    let mut document = serde_json::to_value(api).expect("a description is JSON");
    document["info"] = json!({
        "title": "Sidestream",
        "version": env!("CARGO_PKG_VERSION"),
        "description": INTRODUCTION,
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    document["security"] = json!([{}, {"bearer": []}, {"apiKey": []}, {"session": []}]);
    let components = &mut document["components"];
    components["securitySchemes"] = json!({
        "bearer": {"type": "http", "scheme": "bearer"},
        "apiKey": {"type": "apiKey", "in": "query", "name": "apiKey"},
        "session": {"type": "apiKey", "in": "cookie", "name": session::NAME},
    });
    components["schemas"]["Problem"] =
        serde_json::to_value(ProblemDetails::schema()).expect("a schema is JSON");
    components["schemas"]["NewTask"]["additionalProperties"] = json!(false);
    let paths = document["paths"].as_object_mut();
    for (path, item) in paths.expect("there are paths") {
        let operations = item.as_object_mut().expect("a path item is an object");
        for operation in operations.values_mut() {
            complete(path, operation);
        }
    }
    let mut text = serde_json::to_string_pretty(&document).expect("a value is JSON");
    text.push('\n');
    text
}

fn complete(path: &str, operation: &mut Value) {
    if path.starts_with("/v1/task/") || path == "/v1/task" || path.starts_with("/v1/thread/") {
        move_id_to_query(operation);
    }
    for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
        // What may be left out is said by `required`: no URL or header can say `null`.
        if let Some([text, _null]) = parameter["schema"]["type"].as_array().map(Vec::as_slice) {
            parameter["schema"]["type"] = text.clone();
        }
    }
    if path.starts_with("/v1/") {
        let responses = &mut operation["responses"];
        responses["default"] = json!({
            "description": "Something is wrong: the problem says what (RFC 9457)",
        });
        let responses = responses.as_object_mut().expect("there are responses");
        for (status, response) in responses {
            if !status.starts_with(['2', '3']) {
                response["content"] = json!({
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
                });
            }
        }
    }
}

fn move_id_to_query(operation: &mut Value) {
    let id = operation["operationId"].as_str().unwrap_or_default();
    operation["operationId"] = json!(format!("{id}_by_query"));
    let parameters = operation["parameters"].as_array_mut();
    for parameter in parameters.into_iter().flatten() {
        let parameter: &mut Map<String, Value> =
            parameter.as_object_mut().expect("a parameter is an object");
        if parameter["in"] == "path" {
            parameter.insert("in".into(), json!("query"));
            parameter.insert("allowEmptyValue".into(), json!(true));
        }
    }
}
