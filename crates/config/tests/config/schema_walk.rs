//! Every field of the schema is live or needs a restart, and a change of each is found with that class.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use gridwatch_config::{
    EffectiveDocument,
    diff::{self, Applies},
    raw, schema,
};

/// The fields that need a restart, as the documentation lists them.
const RESTART: [&str; 6] = [
    "evidence.originals_key",
    "evidence.signing_key",
    "node.state_dir",
    "runtime.onnxruntime",
    "runtime.workers",
    "telemetry.listen",
];

#[derive(Debug, Clone)]
enum Part {
    Key(String),
    First,
}

#[derive(Debug)]
struct Leaf {
    at: Vec<Part>,
    /// Two valid values.
    values: [Value; 2],
    needs_restart: bool,
}

struct Walk {
    root: Value,
    leaves: Vec<Leaf>,
    annotated: Vec<String>,
}

impl Walk {
    fn resolve<'s>(&'s self, node: &'s Value) -> &'s Value {
        match node.get("$ref").and_then(Value::as_str) {
            Some(target) => self.root.pointer(target.trim_start_matches('#')).unwrap(),
            None => node,
        }
    }

    /// Two valid values of a type that is no table.
    fn values(&self, node: &Value) -> [Value; 2] {
        let of = self.resolve(node);
        if let Some(options) = of.get("oneOf").or_else(|| of.get("enum")).and_then(Value::as_array) {
            let value = |option: &Value| option.get("const").unwrap_or(option).clone();
            return [value(&options[0]), value(options.last().unwrap())];
        }
        match of["type"].as_str().unwrap_or_else(|| panic!("no type: {of}")) {
            "boolean" => [false.into(), true.into()],
            "integer" => {
                let least = of.get("minimum").and_then(Value::as_f64).unwrap_or(0.0) as i64;
                [json!(least), json!(least + 1)]
            }
            "number" => {
                let least = of.get("minimum").and_then(Value::as_f64).unwrap_or(0.0);
                let most = of.get("maximum").and_then(Value::as_f64).unwrap_or(1.0);
                [json!(least), json!((least + most) / 2.0)]
            }
            "array" => {
                let count = of.get("minItems").and_then(Value::as_u64).unwrap_or(1).max(1);
                let values = self.values(&of["items"]);
                values.map(|value| Value::from(vec![value; count as usize]))
            }
            "string" => {
                let samples = [
                    ["a", "b"],
                    ["10s", "20s"],
                    ["06:00", "07:00"],
                    ["mon", "tue"],
                    ["04-01..10-31", "04-02..10-31"],
                    ["2026-10-01", "2026-10-02"],
                    ["33010200001320000001", "33010200001320000002"],
                    [&"ab".repeat(32), &"cd".repeat(32)],
                ];
                let pattern = of.get("pattern").and_then(Value::as_str);
                let pattern = pattern.map(|pattern| regex_lite::Regex::new(pattern).unwrap());
                let fits = |pair: &&[&str; 2]| {
                    pattern
                        .as_ref()
                        .is_none_or(|p| pair.iter().all(|text| p.is_match(text)))
                };
                let pair = samples
                    .iter()
                    .find(fits)
                    .unwrap_or_else(|| panic!("no sample for {of}"));
                pair.map(Value::from)
            }
            other => panic!("{other}: {of}"),
        }
    }

    /// A table with every field, the first value of each; notes the leaves.
    fn sample(&mut self, node: &Value, at: &[Part], needs_restart: bool) -> Value {
        let needs_restart = match node.get("x-applies").map(|class| class.as_str().unwrap()) {
            None => needs_restart,
            Some("restart") => {
                let keys = at.iter().map(|part| match part {
                    Part::Key(key) => key.as_str(),
                    Part::First => "[]",
                });
                self.annotated.push(keys.collect::<Vec<_>>().join("."));
                true
            }
            Some(other) => panic!("{at:?} is {other:?}, neither live (no annotation) nor restart"),
        };
        let of = self.resolve(node).clone();
        if let Some(properties) = of.get("properties").and_then(Value::as_object) {
            let mut table = Map::new();
            for (key, property) in properties {
                let at = [at, &[Part::Key(key.clone())]].concat();
                table.insert(key.clone(), self.sample(property, &at, needs_restart));
            }
            return table.into();
        }
        if let Some(items) = of.get("items")
            && self.resolve(items).get("properties").is_some()
        {
            let items = items.clone();
            return vec![self.sample(&items, &[at, &[Part::First]].concat(), needs_restart)].into();
        }
        let values = self.values(node);
        let first = values[0].clone();
        self.leaves.push(Leaf {
            at: at.to_vec(),
            values,
            needs_restart,
        });
        first
    }
}

fn remove(document: &mut Value, at: &[Part]) {
    let Some((Part::Key(key), parents)) = at.split_last() else {
        panic!("{at:?}")
    };
    let table = parents.iter().fold(document, |value, part| match part {
        Part::Key(key) => value.get_mut(key).unwrap(),
        Part::First => value.get_mut(0).unwrap(),
    });
    table.as_object_mut().unwrap().remove(key);
}

fn set(document: &mut Value, at: &[Part], value: Value) {
    let place = at.iter().fold(document, |value, part| match part {
        Part::Key(key) => value.get_mut(key).unwrap(),
        Part::First => value.get_mut(0).unwrap(),
    });
    *place = value;
}

#[test]
fn each_field_has_a_class_and_a_change_of_it_is_found_with_that_class() {
    let mut walk = Walk {
        root: schema::generate(),
        leaves: Vec::new(),
        annotated: Vec::new(),
    };
    let root = walk.root.clone();
    let full = walk.sample(&root, &[], false);
    walk.annotated.sort();
    assert_eq!(walk.annotated, RESTART);
    assert!(walk.leaves.len() > 150, "{}", walk.leaves.len());
    serde_json::from_value::<raw::File>(full.clone()).unwrap();
    let before = EffectiveDocument::of(&full);
    let mut classes: BTreeMap<bool, usize> = BTreeMap::new();
    for Leaf {
        at,
        values,
        needs_restart,
    } in &walk.leaves
    {
        let mut document = full.clone();
        if values[0] == values[1] {
            // The only value that there is: unset is the other state.
            remove(&mut document, at);
        } else {
            set(&mut document, at, values[1].clone());
        }
        serde_json::from_value::<raw::File>(document.clone()).unwrap_or_else(|e| panic!("{at:?}: {e}"));
        let changes = diff::documents(before.value(), EffectiveDocument::of(&document).value());
        assert!(!changes.is_empty(), "{at:?}: not found");
        let class = if *needs_restart {
            Applies::Restart
        } else {
            Applies::Live
        };
        let keys: Vec<&str> = at
            .iter()
            .filter_map(|part| match part {
                Part::Key(key) => Some(key.as_str()),
                Part::First => None,
            })
            .collect();
        for change in changes {
            assert_eq!(change.applies, class, "{at:?}: {change}");
            let found: Vec<&str> = change
                .path
                .split('.')
                .map(|key| key.split('[').next().unwrap())
                .collect();
            assert!(keys.starts_with(&found), "{at:?}: {change}");
        }
        *classes.entry(*needs_restart).or_default() += 1;
    }
    assert_eq!(classes[&true], 7, "the key of originals has two fields");
}

/// Every field, set or not, is where the schema says it is: an unset one that is set is found, too.
#[test]
fn a_field_that_is_set_for_the_first_time_is_found_with_its_class() {
    let mut walk = Walk {
        root: schema::generate(),
        leaves: Vec::new(),
        annotated: Vec::new(),
    };
    let root = walk.root.clone();
    let full = walk.sample(&root, &[], false);
    for leaf in walk.leaves.iter().filter(|leaf| leaf.needs_restart) {
        let mut without = full.clone();
        remove(&mut without, &leaf.at);
        let changes = diff::documents(&without, &full);
        assert_eq!(changes.len(), 1, "{leaf:?}");
        assert_eq!(changes[0].applies, Applies::Restart, "{leaf:?}: {}", changes[0]);
    }
}
