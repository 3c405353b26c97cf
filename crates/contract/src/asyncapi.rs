//! Machine-readable contract: a JSON Schema per message, and an AsyncAPI 3.0 document of topics and messages. Both are
//! generated from the types and checked in under `configs/schema/`; a test keeps them up to date.

use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use super::{
    CONTRACT_VERSION, CaseRecord, ClaimMessage, HealthMessage, PlatformMessage, ReceiptMessage, ReplyMessage,
    StatusMessage,
};

/// The JSON messages of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageType {
    /// [`CaseRecord`].
    Case,
    /// [`ReplyMessage`].
    Reply,
    /// [`StatusMessage`].
    Status,
    /// [`ReceiptMessage`].
    Receipt,
    /// [`PlatformMessage`].
    Platform,
    /// [`HealthMessage`].
    Health,
    /// [`ClaimMessage`].
    Claim,
}

impl MessageType {
    /// All messages.
    pub const ALL: [Self; 7] = [
        Self::Case,
        Self::Receipt,
        Self::Reply,
        Self::Status,
        Self::Health,
        Self::Platform,
        Self::Claim,
    ];

    /// Name in topics and file names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Case => "case",
            Self::Reply => "reply",
            Self::Status => "status",
            Self::Health => "health",
            Self::Receipt => "receipt",
            Self::Platform => "platform",
            Self::Claim => "claim",
        }
    }

    /// The message with the name `name` ([`Self::as_str`]).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.as_str() == name)
    }

    /// JSON Schema (draft 2020-12), checked in as `configs/schema/NAME.schema.json`.
    pub fn schema(self) -> String {
        match self {
            Self::Case => text::<CaseRecord>(),
            Self::Reply => text::<ReplyMessage>(),
            Self::Status => text::<StatusMessage>(),
            Self::Health => text::<HealthMessage>(),
            Self::Receipt => text::<ReceiptMessage>(),
            Self::Platform => text::<PlatformMessage>(),
            Self::Claim => text::<ClaimMessage>(),
        }
    }
}

fn text<T: JsonSchema>() -> String {
    format!("{:#}\n", schema_for!(T).to_value())
}

/// One channel of the AsyncAPI document.
struct Channel {
    name: &'static str,
    address: &'static str,
    description: &'static str,
    /// True if the box sends, false if it receives.
    is_sent: bool,
    qos: u8,
    is_retained: bool,
    payload: Value,
    content_type: &'static str,
}

fn channels() -> [Channel; 8] {
    let json_of = |message: MessageType| {
        json!({
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": format!("./{}.schema.json", message.as_str())},
        })
    };
    let sent = |name, address, description, qos, is_retained, payload| Channel {
        name,
        address,
        description,
        is_sent: true,
        qos,
        is_retained,
        payload,
        content_type: "application/json",
    };
    [
        Channel {
            content_type: "image/jpeg",
            ..sent(
                "evidence",
                "gridwatch/v1/{node}/evidence/{sha256}",
                "An evidence picture, addressed by its SHA-256; published before the case that refers to it.",
                1,
                false,
                json!({"type": "string", "format": "binary"}),
            )
        },
        sent(
            "case",
            "gridwatch/v1/{node}/case",
            "A case: new, updated, verified or withdrawn. case_id identifies the case, the highest revision is current. The correlation data is the case id.",
            1,
            false,
            json_of(MessageType::Case),
        ),
        Channel {
            is_sent: false,
            ..sent(
                "receipt",
                "gridwatch/v1/{node}/receipt",
                "The platform has committed a revision of a case; pictures that it does not have are sent again. Given for each revision, if the platform announces that it gives receipts.",
                1,
                false,
                json_of(MessageType::Receipt),
            )
        },
        Channel {
            is_sent: false,
            ..sent(
                "platform",
                "gridwatch/v1/platform",
                "What the platform announces to all boxes, such as that it gives receipts. Nobody else may publish it.",
                1,
                true,
                json_of(MessageType::Platform),
            )
        },
        Channel {
            is_sent: false,
            ..sent(
                "reply",
                "gridwatch/v1/{node}/reply",
                "A reply of the platform about a case; acknowledged once the box has committed it.",
                1,
                false,
                json_of(MessageType::Reply),
            )
        },
        sent(
            "status",
            "gridwatch/v1/{node}/status",
            "Status of the box: online or offline; offline is also its last will.",
            1,
            true,
            json_of(MessageType::Status),
        ),
        sent(
            "health",
            "gridwatch/v1/{node}/health",
            "Health of the box and its cameras, once a minute.",
            0,
            false,
            json_of(MessageType::Health),
        ),
        sent(
            "claim",
            "gridwatch/v1/site/{cell}/{category}/{node}/{case}",
            "A claim on a site on which the box has an open case, for other boxes that see the same site; an empty message when the case is \
             closed. Platforms need not subscribe.",
            1,
            true,
            json_of(MessageType::Claim),
        ),
    ]
}

/// The AsyncAPI 3.0 document, checked in as `configs/schema/asyncapi.json`.
pub fn document() -> String {
    let mut document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "gridwatch",
            "version": CONTRACT_VERSION,
            "description": "Messages between an edge box and a city's grid management platform over MQTT 5 or 3.1.1. docs/contract.md describes the exchange.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {}, "operations": {}, "components": {"messages": {}},
    });
    for c in channels() {
        let reference = |kind: &str, name: &str| json!({"$ref": format!("#/{kind}/{name}")});
        let mut parameters = json!({});
        if c.address.contains("{node}") {
            parameters["node"] = json!({"description": "Id of the box (node.id): letters, digits, - and _."});
        }
        if c.address.contains("{sha256}") {
            parameters["sha256"] = json!({"description": "SHA-256 of the payload, 64 lower-case hex digits."});
        }
        if c.address.contains("{cell}") {
            parameters["cell"] = json!({"description": "Code of the unit grid cell."});
            parameters["category"] = json!({"description": "Category code, four digits."});
            parameters["case"] = json!({"description": "Id of the case, a ULID."});
        }
        document["channels"][c.name] = json!({
            "address": c.address,
            "description": c.description,
            "parameters": parameters,
            "messages": {c.name: reference("components/messages", c.name)},
        });
        document["components"]["messages"][c.name] = json!({
            "contentType": c.content_type,
            "payload": c.payload,
        });
        let verb = if c.is_sent { "send" } else { "receive" };
        let mut operation = json!({
            "action": verb,
            "channel": reference("channels", c.name),
            "messages": [reference(&format!("channels/{}/messages", c.name), c.name)],
            "bindings": {"mqtt": {"qos": c.qos, "retain": c.is_retained, "bindingVersion": "0.2.0"}},
        });
        if c.name == "case" {
            operation["reply"] = json!({"channel": reference("channels", "reply")});
        }
        document["operations"][format!("{verb}_{}", c.name)] = operation;
    }
    format!("{document:#}\n")
}
