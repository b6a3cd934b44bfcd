//! The OpenAPI document against the daemon it describes.

use crate::harness::{Home, Two, files, http};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

/// Fetches something with the token, as a page of the daemon itself would; returns its status and body.
fn ask(api: &Value, method: &str, path: &str, body: &str) -> (u16, String) {
    let host = api["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let (token, length) = (api["token"].as_str().unwrap(), body.len());
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    http(api, request.as_bytes())
}

fn document(home: &Home) -> Value {
    let (status, body) = ask(&home.api(), "GET", "/openapi.json", "");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Follows a reference into the document.
fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(path) => {
            let found = document.pointer(path.strip_prefix('#').unwrap());
            found.unwrap_or_else(|| panic!("{path} leads nowhere"))
        }
        None => schema,
    }
}

/// Compares a value with its schema, field by field; returns what differs.
fn differences(document: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let schema = resolved(document, schema);
    for several in ["oneOf", "anyOf", "allOf"] {
        if let Some(options) = schema[several].as_array() {
            let mut each: Vec<_> =
                options.iter().map(|one| differences(document, one, value, at)).collect();
            each.sort_by_key(Vec::len);
            return each.into_iter().next().unwrap_or_default();
        }
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => vec![],
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !kinds.contains(&kind) {
        return vec![format!("{at}: {kind}, not {kinds:?}")];
    }
    match value {
        Value::Array(items) => items
            .iter()
            .flat_map(|item| differences(document, &schema["items"], item, &format!("{at}[]")))
            .collect(),
        Value::Object(fields) => {
            let none = serde_json::Map::new();
            let known = schema["properties"].as_object().unwrap_or(&none);
            let names: BTreeSet<_> = fields.keys().chain(known.keys()).collect();
            let compare = |name: &&String| match (fields.get(*name), known.get(*name)) {
                (Some(value), Some(schema)) => {
                    differences(document, schema, value, &format!("{at}.{name}"))
                }
                (Some(_), None) => vec![format!("{at}.{name}: not in the document")],
                _ => vec![format!("{at}.{name}: not in the answer")],
            };
            names.iter().flat_map(compare).collect()
        }
        _ => Vec::new(),
    }
}

#[test]
fn answers_have_the_fields_that_the_document_says() {
    let two = Two::met();
    let document = document(&two.dana);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let api = two.dana.api();
    let mut seen = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(answer) = item["get"]["responses"]["200"]["content"].get("application/json")
        else {
            continue;
        };
        // What takes an id is asked for by those who know one.
        if path.contains('{') {
            continue;
        }
        let query = if path.ends_with("/messages") { "?target=sam" } else { "" };
        let (status, body) = ask(&api, "GET", &format!("{path}{query}"), "");
        assert_eq!(status, 200, "{path}: {body}");
        let value: Value = serde_json::from_str(&body).unwrap();
        let found = differences(&document, &answer["schema"], &value, path);
        assert!(found.is_empty(), "{found:#?}");
        seen += 1;
    }
    assert!(seen >= 7, "only {seen} answers were looked at");
    for (path, body) in [
        ("/api/v1/messages", json!({"target": "sam", "text": "x"})),
        ("/api/v1/invites", json!({})),
        ("/api/v1/addresses", json!({"address": "127.0.0.1:9"})),
    ] {
        let (status, body) = ask(&api, "POST", path, &body.to_string());
        assert_eq!(status, 200, "{body}");
        let content = &document["paths"][path]["post"]["responses"]["200"]["content"];
        let schema = &content["application/json"]["schema"];
        let found = differences(&document, schema, &serde_json::from_str(&body).unwrap(), path);
        assert!(found.is_empty(), "{found:#?}");
    }
    let (status, body) = ask(&api, "POST", "/api/v1/messages", "{}");
    assert_eq!(status, 400);
    let refused = &document["paths"]["/api/v1/messages"]["post"]["responses"]["default"]["content"];
    let schema = &refused["application/problem+json"]["schema"];
    let found = differences(&document, schema, &serde_json::from_str(&body).unwrap(), "problem");
    assert!(found.is_empty(), "{found:#?}");
    // The control: a field too many, one too few, and one of another kind are found.
    let me = &document["paths"]["/api/v1/me"]["get"]["responses"]["200"]["content"]["application/json"]
        ["schema"];
    let mut value: Value = serde_json::from_str(&ask(&api, "GET", "/api/v1/me", "").1).unwrap();
    value["more"] = 1.into();
    value["name"] = 7.into();
    value.as_object_mut().unwrap().remove("org");
    assert_eq!(differences(&document, me, &value, "me").len(), 3);
}

#[test]
fn every_resource_that_is_there_is_in_the_document_and_the_other_way_round() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let document = document(&home);
    let paths = document["paths"].as_object().unwrap();
    // A path in our sources that is not a resource is a mistake, or a resource without its line.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut named = BTreeSet::new();
    for file in files(&sources.join("api")).into_iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        for (at, _) in text.match_indices("\"/api/v1/") {
            named.insert(text[at + 1..].split('"').next().unwrap().to_owned());
        }
    }
    named.remove("/api/v1/");
    let told: BTreeSet<String> = paths.keys().cloned().collect();
    assert_eq!(named, told);
    assert!(told.len() >= 13, "{told:?}");
    let api = home.api();
    for (path, item) in paths {
        for method in ["get", "post", "put", "delete"] {
            let told = item.get(method).is_some();
            if path == "/api/v1/shutdown" || (told && path == "/api/v1/events") {
                continue;
            }
            let path = path.replace("{id}", "none").replace("{ticket}", "none");
            let (_, body) = ask(&api, &method.to_uppercase(), &path, "{");
            let refused = ["method_not_allowed", "no_such_resource"];
            let there = !refused.iter().any(|code| body.contains(code));
            assert_eq!(there, told, "{method} {path}: {body}");
        }
    }
}

#[test]
fn the_document_needs_the_token_and_every_reference_leads_somewhere() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let api = home.api();
    let host = api["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let bare = format!("GET /openapi.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert_eq!(http(&api, bare.as_bytes()).0, 401);
    let document = document(&home);
    let mut references = 0;
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                if fields.contains_key("$ref") {
                    resolved(&document, value);
                    references += 1;
                }
                left.extend(fields.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    assert!(references > 20, "{references}");
    let open = &document["paths"]["/api/v1/health"]["get"];
    let closed = &document["paths"]["/api/v1/me"]["get"];
    assert!(open["security"].is_null() && closed["security"][0]["token"].is_array(), "{closed}");
}
