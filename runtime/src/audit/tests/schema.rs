//! A validator for what docs/audit.schema.json uses of JSON Schema. A keyword that it does not
//! know is a failure, so that no part of the schema goes unchecked.

use std::collections::BTreeSet;

use serde_json::Value;

pub(super) struct Schema(Value);

/// The properties that a schema looked at, or why the value does not fit.
type Outcome = Result<BTreeSet<String>, String>;

impl Schema {
    pub(super) fn of_the_audit() -> Self {
        let text = include_str!("../../../../docs/audit.schema.json");
        Self(serde_json::from_str(text).unwrap())
    }

    /// Panics if the value does not fit.
    pub(super) fn check(&self, value: &Value) {
        if let Err(why) = self.validate(&self.0, value) {
            panic!("{value:#}\ndoes not fit the schema: {why}");
        }
    }

    fn validate(&self, schema: &Value, value: &Value) -> Outcome {
        let keywords = schema.as_object().unwrap();
        let mut seen = BTreeSet::new();
        for (keyword, wanted) in keywords {
            seen.extend(self.keyword(keyword, wanted, value)?);
        }
        if let Some(properties) = keywords.get("additionalProperties") {
            assert_eq!(properties, false);
            let listed = keywords.get("properties").and_then(Value::as_object).unwrap();
            only(value, |name| listed.contains_key(name))?;
        }
        if let Some(properties) = keywords.get("unevaluatedProperties") {
            assert_eq!(properties, false);
            only(value, |name| seen.contains(name))?;
        }
        Ok(seen)
    }

    fn keyword(&self, keyword: &str, wanted: &Value, value: &Value) -> Outcome {
        let nothing = BTreeSet::new();
        let fits = match keyword {
            "$schema" | "title" | "description" | "$defs" => true,
            // Looked at when all others were.
            "additionalProperties" | "unevaluatedProperties" => true,
            "$ref" => {
                let pointer = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                return self.validate(self.0.pointer(pointer).unwrap(), value);
            }
            "allOf" => return self.all_of(wanted, value),
            "oneOf" => return self.one_of(wanted, value),
            "properties" => return self.properties(wanted, value),
            "required" => {
                let names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                let missing: Vec<&str> = names.filter(|name| value.get(name).is_none()).collect();
                if !missing.is_empty() {
                    return Err(format!("without {missing:?}"));
                }
                true
            }
            "items" => {
                for item in value.as_array().into_iter().flatten() {
                    self.validate(wanted, item)?;
                }
                true
            }
            "type" => match wanted {
                Value::Array(types) => types.iter().any(|name| has_type(name, value)),
                name => has_type(name, value),
            },
            "const" => wanted == value,
            "enum" => wanted.as_array().unwrap().contains(value),
            "minimum" => value.as_i64() >= wanted.as_i64(),
            "maximum" => value.as_i64() <= wanted.as_i64(),
            "pattern" => value.as_str().is_some_and(|text| matches(wanted.as_str().unwrap(), text)),
            other => panic!("the validator does not know `{other}`"),
        };
        if fits { Ok(nothing) } else { Err(format!("{value} is not {keyword} {wanted}")) }
    }

    fn all_of(&self, schemas: &Value, value: &Value) -> Outcome {
        let mut seen = BTreeSet::new();
        for schema in schemas.as_array().unwrap() {
            seen.extend(self.validate(schema, value)?);
        }
        Ok(seen)
    }

    fn one_of(&self, schemas: &Value, value: &Value) -> Outcome {
        let outcomes: Vec<Outcome> =
            schemas.as_array().unwrap().iter().map(|schema| self.validate(schema, value)).collect();
        let reasons: Vec<&String> = outcomes.iter().filter_map(|it| it.as_ref().err()).collect();
        match outcomes.len() - reasons.len() {
            1 => outcomes.into_iter().find(Result::is_ok).unwrap(),
            0 => Err(format!("none of: {reasons:#?}")),
            count => Err(format!("{count} alternatives fit")),
        }
    }

    fn properties(&self, schemas: &Value, value: &Value) -> Outcome {
        let mut seen = BTreeSet::new();
        for (name, schema) in schemas.as_object().unwrap() {
            if let Some(value) = value.get(name) {
                self.validate(schema, value).map_err(|why| format!("{name}: {why}"))?;
                seen.insert(name.clone());
            }
        }
        Ok(seen)
    }
}

fn only(value: &Value, allowed: impl Fn(&str) -> bool) -> Result<(), String> {
    let names = value.as_object().into_iter().flatten().map(|(name, _)| name);
    let more: Vec<&String> = names.filter(|name| !allowed(name)).collect();
    if more.is_empty() { Ok(()) } else { Err(format!("{more:?} is more than it has")) }
}

fn has_type(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the validator does not know the type {other}"),
    }
}

/// The three patterns of the schema, by hand.
fn matches(pattern: &str, text: &str) -> bool {
    let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match pattern {
        "^[0-9a-f]{64}$" => hex && text.len() == 64,
        "^([0-9a-f]{2})+$" => hex && !text.is_empty() && text.len().is_multiple_of(2),
        r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$" => {
            let shape: String =
                text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            shape == "0000-00-00T00:00:00.000000Z"
        }
        other => panic!("the validator does not know the pattern {other}"),
    }
}

#[test]
fn what_does_not_fit_is_found() {
    let schema = Schema::of_the_audit();
    let head = r#""time":"2026-01-01T00:00:00.000000Z","guest":"g","policy":"p","module":"m",
        "mode":"enforce","layers":[]"#;
    let digest = "0".repeat(64);
    let fits = |rest: &str| {
        let text =
            format!(r#"{{{head},"policy_digest":"{digest}","module_digest":"{digest}",{rest}}}"#);
        schema.validate(&schema.0, &serde_json::from_str(&text).unwrap()).is_ok()
    };
    assert!(fits(r#""record":"loss","count":1"#));
    for wrong in [
        r#""record":"loss""#,
        r#""record":"loss","count":-1"#,
        r#""record":"loss","count":"1""#,
        r#""record":"loss","count":1,"more":1"#,
        r#""record":"end","count":1"#,
        r#""record":"limit","limit":"colour","detail":"""#,
    ] {
        assert!(!fits(wrong), "{wrong}");
    }
}
