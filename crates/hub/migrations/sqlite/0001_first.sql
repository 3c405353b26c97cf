-- Times are Unix milliseconds; ids, states and JSON are text. The same tables as in ../postgres.

CREATE TABLE boxes (
    node TEXT NOT NULL PRIMARY KEY,
    first_seen_at BIGINT NOT NULL,
    -- 'online' or 'offline', as the box or its last will said; NULL before.
    presence TEXT,
    presence_at BIGINT,
    installation TEXT,
    version TEXT,
    -- The newest health message, as received.
    health TEXT,
    health_at BIGINT,
    last_case_at BIGINT
);

-- Public keys that a box announced. Cases are taken once an operator has confirmed the key that signed them.
CREATE TABLE box_keys (
    node TEXT NOT NULL REFERENCES boxes (node),
    public_key TEXT NOT NULL,
    announced_at BIGINT NOT NULL,
    confirmed_at BIGINT,
    confirmed_by TEXT,
    PRIMARY KEY (node, public_key)
);

CREATE TABLE pictures (
    sha256 TEXT NOT NULL PRIMARY KEY,
    bytes BIGINT NOT NULL,
    node TEXT NOT NULL,
    received_at BIGINT NOT NULL
);

CREATE TABLE cases (
    case_id TEXT NOT NULL PRIMARY KEY,
    node TEXT NOT NULL REFERENCES boxes (node),
    -- The highest revision that was received.
    revision BIGINT NOT NULL,
    -- Where the platform is with it: a state of the contract.
    state TEXT NOT NULL,
    task_no TEXT,
    category_code TEXT NOT NULL,
    cell_code TEXT NOT NULL,
    camera TEXT NOT NULL,
    lon DOUBLE NOT NULL,
    lat DOUBLE NOT NULL,
    confidence DOUBLE NOT NULL,
    filed_at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    -- When its state last changed here.
    decided_at BIGINT NOT NULL,
    -- Result of the newest verification by the box, and when the box had it.
    finding TEXT,
    finding_at BIGINT,
    unit TEXT,
    due_at BIGINT
);
CREATE INDEX cases_by_state ON cases (state, received_at);
CREATE INDEX cases_by_place ON cases (cell_code, category_code);
CREATE INDEX cases_of_node ON cases (node);

-- Every revision as received: the signature covers these bytes.
CREATE TABLE revisions (
    case_id TEXT NOT NULL REFERENCES cases (case_id),
    revision BIGINT NOT NULL,
    record TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    PRIMARY KEY (case_id, revision)
);

-- What happened to a case on this side, in order.
CREATE TABLE case_events (
    case_id TEXT NOT NULL REFERENCES cases (case_id),
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    -- A person, a box, or 'hub'.
    who TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    PRIMARY KEY (case_id, seq)
);

-- Replies to boxes, until the broker has them.
CREATE TABLE replies (
    case_id TEXT NOT NULL REFERENCES cases (case_id),
    -- The event that it tells the box; replies of a case are sent in this order.
    seq BIGINT NOT NULL,
    node TEXT NOT NULL,
    payload TEXT NOT NULL,
    -- Not sent again before: the process that sends it has until then.
    due_at BIGINT NOT NULL,
    sent_at BIGINT,
    PRIMARY KEY (case_id, seq)
);
CREATE INDEX replies_to_send ON replies (sent_at, due_at);

-- Messages that could not be taken.
CREATE TABLE dead_letters (
    id TEXT NOT NULL PRIMARY KEY,
    node TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload BLOB NOT NULL,
    bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    reason TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL,
    UNIQUE (topic, sha256)
);
CREATE INDEX dead_letters_of_node ON dead_letters (node);

-- Task numbers: the last one of each day.
CREATE TABLE task_numbers (
    day TEXT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL
);
