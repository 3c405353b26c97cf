//! The contract as other programs read it: the JSON Schema of each message, and an AsyncAPI 3.0 document of topics and messages.
//! Both are generated from the types, checked in below `configs/schema/`, and held to them by a test.

use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use super::{CaseRecord, ClaimMessage, HealthMessage, ReplyMessage, SCHEMA_VERSION, StatusMessage};

/// A message of the contract that is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A case record.
    Case,
    /// The platform's reply.
    Reply,
    /// Whether the box is there.
    Status,
    /// How the cameras are.
    Health,
    /// What boxes tell each other of a site.
    Claim,
}

impl Message {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Case, Self::Reply, Self::Status, Self::Health, Self::Claim];

    /// As it is called in topics and file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Case => "case",
            Self::Reply => "reply",
            Self::Status => "status",
            Self::Health => "health",
            Self::Claim => "claim",
        }
    }

    /// The message called `name` ([`Self::as_str`]).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.as_str() == name)
    }

    /// Its JSON Schema (draft 2020-12) as it is checked in: `configs/schema/NAME.schema.json`.
    pub fn schema(self) -> String {
        match self {
            Self::Case => text::<CaseRecord>(),
            Self::Reply => text::<ReplyMessage>(),
            Self::Status => text::<StatusMessage>(),
            Self::Health => text::<HealthMessage>(),
            Self::Claim => text::<ClaimMessage>(),
        }
    }
}

fn text<T: JsonSchema>() -> String {
    format!("{:#}\n", schema_for!(T).to_value())
}

/// One channel: where, who sends, what, and how.
struct Channel {
    name: &'static str,
    address: &'static str,
    what: &'static str,
    /// True where the box sends.
    is_ours: bool,
    qos: u8,
    is_retained: bool,
    payload: Value,
    content_type: &'static str,
}

fn channels() -> [Channel; 6] {
    let json_of = |message: Message| {
        json!({
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": format!("./{}.schema.json", message.as_str())},
        })
    };
    let ours = |name, address, what, qos, is_retained, payload| Channel {
        name,
        address,
        what,
        is_ours: true,
        qos,
        is_retained,
        payload,
        content_type: "application/json",
    };
    [
        Channel {
            content_type: "image/jpeg",
            ..ours(
                "evidence",
                "gridwatch/v1/{node}/evidence/{sha256}",
                "A picture, named by its hash; sent before the case that names it.",
                1,
                false,
                json!({"type": "string", "format": "binary"}),
            )
        },
        ours(
            "case",
            "gridwatch/v1/{node}/case",
            "A case: filed, changed by the box, or looked at again. The same case by case_id, newer by revision. Correlation data is the case id.",
            1,
            false,
            json_of(Message::Case),
        ),
        Channel {
            is_ours: false,
            ..ours(
                "reply",
                "gridwatch/v1/{node}/reply",
                "The platform's answer about a case; acknowledged once the box has committed it.",
                1,
                false,
                json_of(Message::Reply),
            )
        },
        ours(
            "status",
            "gridwatch/v1/{node}/status",
            "Whether the box is there; offline is also its last will.",
            1,
            true,
            json_of(Message::Status),
        ),
        ours(
            "health",
            "gridwatch/v1/{node}/health",
            "How the cameras are, once a minute.",
            0,
            false,
            json_of(Message::Health),
        ),
        ours(
            "claim",
            "gridwatch/v1/site/{cell}/{category}/{node}/{case}",
            "A case that the box has open, for other boxes that see the same site; nothing in its place when it is over. Boxes listen to each \
             other here, a platform need not.",
            1,
            true,
            json_of(Message::Claim),
        ),
    ]
}

/// The AsyncAPI 3.0 document as it is checked in: `configs/schema/asyncapi.json`.
pub fn document() -> String {
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "gridwatch",
            "version": format!("{SCHEMA_VERSION}.0.0"),
            "description": "What an edge box and a city's grid-management platform say to each other over MQTT 5 or 3.1.1. docs/contract.md tells how.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {}, "operations": {}, "components": {"messages": {}},
    });
    for c in channels() {
        let own = |kind: &str, name: &str| json!({"$ref": format!("#/{kind}/{name}")});
        let mut parameters = json!({"node": {"description": "The box's id (node.id): letters, digits, - and _."}});
        if c.address.contains("{sha256}") {
            parameters["sha256"] = json!({"description": "SHA-256 of the payload, 64 lower-case hex digits."});
        }
        if c.address.contains("{cell}") {
            parameters["cell"] = json!({"description": "The unit grid cell's code."});
            parameters["category"] = json!({"description": "The category's code, four digits."});
            parameters["case"] = json!({"description": "The case's id, a ULID."});
        }
        document["channels"][c.name] = json!({
            "address": c.address,
            "description": c.what,
            "parameters": parameters,
            "messages": {c.name: own("components/messages", c.name)},
        });
        document["components"]["messages"][c.name] = json!({
            "contentType": c.content_type,
            "payload": c.payload,
        });
        let verb = if c.is_ours { "send" } else { "receive" };
        let mut operation = json!({
            "action": verb,
            "channel": own("channels", c.name),
            "messages": [own(&format!("channels/{}/messages", c.name), c.name)],
            "bindings": {"mqtt": {"qos": c.qos, "retain": c.is_retained, "bindingVersion": "0.2.0"}},
        });
        if c.name == "case" {
            operation["reply"] = json!({"channel": own("channels", "reply")});
        }
        document["operations"][format!("{verb}_{}", c.name)] = operation;
    }
    format!("{document:#}\n")
}
