//! The tables of `keys` as a JSON Schema (2020-12), for editors. It accepts a file as it is written, so
//! every value may also be an interpolated string; what needs more than one place to be judged (cycles,
//! names that are not defined, conflicts) is left to validation.
//!
//! <https://json-schema.org/draft/2020-12>

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::keys::{self, Keys, Shape};

/// Where the schema is published: what `# yaml-language-server: $schema=` may name.
const ID: &str = "stack.schema.json";

/// Returns the schema of a stack file.
pub fn schema() -> Value {
    let mut definitions = BTreeMap::new();
    define(&keys::ROOT, &mut definitions);
    let root = definitions.remove(keys::ROOT.name).expect("the root was just defined");
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Bargee stack",
    });
    if let (Value::Object(document), Value::Object(root)) = (&mut document, root) {
        document.extend(root);
        document.insert("$defs".to_owned(), Value::Object(definitions.into_iter().collect()));
    }
    document
}

/// Adds the definition of a mapping and of all that stand below it.
fn define(keys: &'static Keys, definitions: &mut BTreeMap<String, Value>) {
    if definitions.contains_key(keys.name) {
        return;
    }
    // Holds the place, or a mapping below itself would never end.
    definitions.insert(keys.name.to_owned(), Value::Null);
    let mut properties = Map::new();
    for (key, shape) in keys.keys {
        properties.insert((*key).to_owned(), optional(shape, definitions));
    }
    let mut definition = json!({
        "type": "object",
        "properties": properties,
        "patternProperties": {"^x-": {}},
        "additionalProperties": false,
    });
    if !keys.required.is_empty() {
        definition["required"] = json!(keys.required);
    }
    definitions.insert(keys.name.to_owned(), definition);
}

/// A key without a value is as good as none.
fn optional(shape: &Shape, definitions: &mut BTreeMap<String, Value>) -> Value {
    match shape {
        Shape::Any => json!({}),
        Shape::Ignored => json!({"$comment": "valid, and not enforced"}),
        Shape::Refused => {
            json!({"type": "null", "$comment": "not supported: ignoring it would not be safe"})
        }
        other => any_of(vec![value(other, definitions), json!({"type": "null"})]),
    }
}

fn value(shape: &Shape, definitions: &mut BTreeMap<String, Value>) -> Value {
    match shape {
        Shape::Any | Shape::Ignored | Shape::Refused => optional(shape, definitions),
        Shape::Text => json!({"type": ["string", "number", "boolean"]}),
        Shape::Flag => any_of(vec![
            json!({"type": "boolean"}),
            json!({"enum": [0, 1]}),
            written(
                "[Tt]([Rr][Uu][Ee])?|[Ff]([Aa][Ll][Ss][Ee])?|[Yy]([Ee][Ss])?|[Nn][Oo]?|[Oo]([Nn]|[Ff][Ff])|0|1",
            ),
        ]),
        Shape::Integer => any_of(vec![json!({"type": "integer"}), written(r"\s*[+-]?[0-9]+\s*")]),
        Shape::Size => any_of(vec![
            json!({"type": "number", "minimum": 0}),
            written(r"\s*[0-9.]+\s*([bB]|[kKmMgGtTpP]([iI]?[bB])?)?\s*"),
        ]),
        Shape::Duration => any_of(vec![
            json!({"const": 0}),
            written(r"\s*(0|([0-9.]+(ns|us|µs|μs|ms|s|m|h))+)\s*"),
        ]),
        Shape::Cpus => {
            any_of(vec![json!({"type": "number", "minimum": 0}), written(r"\s*[0-9.]+\s*")])
        }
        Shape::Ratio => any_of(vec![
            json!({"type": "number", "minimum": 0, "maximum": 1}),
            written(r"\s*([01]|[01]?\.[0-9]+|[01]\.)\s*"),
        ]),
        Shape::Words(words) => any_of(vec![json!({"enum": words}), interpolated()]),
        Shape::List(item) => json!({"type": "array", "items": value(item, definitions)}),
        Shape::OneOrMany(item) => {
            let one = value(item, definitions);
            any_of(vec![one.clone(), json!({"type": "array", "items": one})])
        }
        Shape::Pairs => any_of(vec![
            json!({
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            }),
            json!({"type": "array", "items": value(&Shape::Text, definitions)}),
        ]),
        Shape::Map(item) => {
            json!({"type": "object", "additionalProperties": value(item, definitions)})
        }
        Shape::NullableMap(item) => {
            json!({"type": "object", "additionalProperties": optional(item, definitions)})
        }
        Shape::Keys(keys) => {
            define(keys, definitions);
            json!({"$ref": format!("#/$defs/{}", keys.name)})
        }
        Shape::Either(shapes) => {
            any_of(shapes.iter().map(|shape| value(shape, definitions)).collect())
        }
    }
}

fn any_of(choices: Vec<Value>) -> Value {
    json!({"anyOf": choices})
}

/// A string of the given form, or one with a variable in it.
fn written(pattern: &str) -> Value {
    json!({"type": "string", "pattern": format!(r"^({pattern})$|\$")})
}

fn interpolated() -> Value {
    json!({"type": "string", "pattern": r"\$"})
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::{Path, PathBuf};
    use std::{env, fs};

    use jsonschema::Validator;

    use super::*;
    use crate::diagnostic::SourceMap;
    use crate::spec::{emit, toml, yaml};

    fn here(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn validator() -> Validator {
        jsonschema::draft202012::new(&schema()).unwrap()
    }

    /// Reads a stack file as it is written: nothing interpolated, included or merged.
    fn written(path: &Path) -> Option<Value> {
        let text = fs::read_to_string(path).ok()?;
        let mut problems = Vec::new();
        let file = SourceMap::default().add("stack".to_owned(), text.clone());
        if path.extension().is_some_and(|extension| extension == "toml") {
            return Some(emit::to_json(&toml::read(file, &text, &mut problems)?));
        }
        let mut documents = yaml::read(file, &text, &mut problems)?;
        Some(emit::to_json(&documents.pop()?))
    }

    fn stack_files(folder: &str) -> Vec<PathBuf> {
        let is_stack =
            |path: &PathBuf| path.extension().is_some_and(|it| it == "yaml" || it == "toml");
        let mut found = Vec::new();
        let mut folders = vec![here(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found.retain(is_stack);
        found.sort();
        assert!(!found.is_empty(), "{folder} has no stack files");
        found
    }

    /// `UPDATE_SCHEMA=1 cargo test schema` writes the file anew.
    #[test]
    fn the_committed_schema_is_the_generated_one() {
        let path = here("schema/stack.schema.json");
        let generated = format!("{:#}\n", schema());
        if env::var_os("UPDATE_SCHEMA").is_some() {
            fs::write(&path, &generated).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap();
        assert!(
            committed == generated,
            "schema/stack.schema.json is stale: run UPDATE_SCHEMA=1 cargo test --lib schema"
        );
    }

    #[test]
    fn the_schema_is_one_by_the_meta_schema() {
        jsonschema::meta::validate(&schema()).unwrap();
    }

    #[test]
    fn every_example_and_every_valid_fixture_fits() {
        let validator = validator();
        let files = [stack_files("examples/stacks"), stack_files("tests/fixtures/spec/valid")];
        for path in files.concat() {
            let document = written(&path).unwrap();
            let problems: Vec<String> = validator
                .iter_errors(&document)
                .map(|error| format!("{}: {error}", error.instance_path()))
                .collect();
            assert!(problems.is_empty(), "{}: {problems:#?}", path.display());
        }
    }

    #[test]
    fn wrong_keys_and_wrong_types_do_not_fit() {
        let validator = validator();
        let mut judged = 0;
        for path in stack_files("tests/fixtures/spec/invalid") {
            let golden = fs::read_to_string(path.with_extension("txt")).unwrap();
            // Only these are mistakes at one place alone.
            if !golden.contains("unknown key") && !golden.contains(": expected ") {
                continue;
            }
            let document = written(&path).unwrap();
            assert!(!validator.is_valid(&document), "{} fits", path.display());
            judged += 1;
        }
        assert!(judged >= 5, "only {judged} fixtures have such a mistake");
    }

    #[test]
    fn a_mistake_in_any_kind_of_value_does_not_fit() {
        let validator = validator();
        let service = |key: &str, value: Value| {
            let mut service = json!({"image": "a"});
            service[key] = value;
            validator.is_valid(&json!({"services": {"web": service}}))
        };
        for (key, good, bad) in [
            ("tty", json!("yes"), json!("maybe")),
            ("scale", json!(2), json!("two")),
            ("scale", json!("${N:-2}"), json!([2])),
            ("mem_limit", json!("1.5gb"), json!("lots")),
            ("stop_grace_period", json!("1m30s"), json!(10)),
            ("cpus", json!(0.5), json!("half")),
            ("cgroup", json!("host"), json!("public")),
            ("command", json!(["a", "b"]), json!({"a": "b"})),
            ("environment", json!({"A": null}), json!({"A": ["b"]})),
            ("networks", json!({"front": null}), json!("front")),
            ("depends_on", json!(["db"]), json!({"db": {"condition": "running"}})),
            ("healthcheck", json!({"test": "true"}), json!({"tset": "true"})),
            ("cap_add", json!(["ALL"]), json!("ALL")),
            ("x-anything", json!([]), json!([])),
            ("provider", json!(null), json!({"type": "x"})),
        ] {
            assert!(service(key, good.clone()), "{key}: {good} is refused");
            assert!(key.starts_with("x-") || !service(key, bad.clone()), "{key}: {bad} fits");
        }
    }

    /// The readers check themselves against the tables when they read a mapping (`Fields::finish`), so
    /// that one with every key in it has shown it for all.
    #[test]
    fn every_key_of_the_tables_is_read_by_validation() {
        let text = fs::read_to_string(here("tests/fixtures/spec/valid/every-key/stack.yaml"));
        let document = written(&here("tests/fixtures/spec/valid/every-key/stack.yaml")).unwrap();
        assert!(text.is_ok());
        let mut missing = Vec::new();
        let mut seen = BTreeMap::new();
        collect(&document, &Shape::Keys(&keys::ROOT), &mut seen);
        let mut definitions = BTreeMap::new();
        define(&keys::ROOT, &mut definitions);
        for (name, definition) in &definitions {
            for key in definition["properties"].as_object().unwrap().keys() {
                let refused = definition["properties"][key]["type"] == "null";
                let used = seen.get(name).is_some_and(|keys: &Vec<String>| keys.contains(key));
                if !used && !refused {
                    missing.push(format!("{name}: {key}"));
                }
            }
        }
        assert!(missing.is_empty(), "every-key/stack.yaml lacks {missing:#?}");
    }

    /// Notes which keys of which tables `document` uses.
    fn collect(document: &Value, shape: &Shape, seen: &mut BTreeMap<String, Vec<String>>) {
        match (shape, document) {
            (Shape::Keys(keys), Value::Object(fields)) => {
                for (key, value) in fields {
                    seen.entry(keys.name.to_owned()).or_default().push(key.clone());
                    if let Some((_, shape)) = keys.keys.iter().find(|(name, _)| name == key) {
                        collect(value, shape, seen);
                    }
                }
            }
            (Shape::List(item) | Shape::OneOrMany(item), Value::Array(items)) => {
                items.iter().for_each(|value| collect(value, item, seen));
            }
            (Shape::OneOrMany(item), one) => collect(one, item, seen),
            (Shape::Map(item) | Shape::NullableMap(item), Value::Object(fields)) => {
                fields.values().for_each(|value| collect(value, item, seen));
            }
            (Shape::Either(shapes), value) => {
                shapes.iter().for_each(|shape| collect(value, shape, seen));
            }
            _ => {}
        }
    }
}
