//! The tables, as a list of steps: step N leads from version N to N + 1 and never changes once released.

/// Times are Unix nanoseconds; addresses are 4 or 16 bytes; columns named as a type hold its JSON.
pub(super) const MIGRATIONS: &[&str] = &[
    r"
CREATE TABLE containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    image_id TEXT NOT NULL,
    stack TEXT,
    service TEXT,
    number INTEGER NOT NULL,
    oneoff INTEGER NOT NULL,
    hash TEXT NOT NULL,
    phase TEXT NOT NULL,
    stopped_by_user INTEGER NOT NULL,
    runtime TEXT,
    exit TEXT,
    health TEXT,
    ports TEXT NOT NULL,
    restart_count INTEGER NOT NULL,
    error TEXT,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX containers_by_stack ON containers (stack);

CREATE TABLE tags (
    reference TEXT PRIMARY KEY,
    manifest TEXT NOT NULL,
    image_id TEXT NOT NULL,
    tagged_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_image ON tags (image_id);

CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    stack TEXT,
    phase TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE subnets (
    network TEXT NOT NULL REFERENCES networks (id) ON DELETE CASCADE,
    subnet TEXT NOT NULL UNIQUE,
    gateway BLOB NOT NULL,
    range TEXT NOT NULL,
    last BLOB,
    PRIMARY KEY (network, subnet)
) STRICT, WITHOUT ROWID;

-- A row without a container is an address that was given back and whose connections are not purged yet.
CREATE TABLE addresses (
    network TEXT NOT NULL,
    address BLOB NOT NULL,
    container TEXT,
    subnet TEXT NOT NULL,
    PRIMARY KEY (network, address),
    FOREIGN KEY (network, subnet) REFERENCES subnets (network, subnet) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX addresses_by_container ON addresses (container);

-- An empty host_ip stands for every address.
CREATE TABLE ports (
    protocol TEXT NOT NULL,
    port INTEGER NOT NULL,
    host_ip BLOB NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (protocol, port, host_ip, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE volumes (
    name TEXT PRIMARY KEY,
    driver TEXT NOT NULL,
    options TEXT NOT NULL,
    labels TEXT NOT NULL,
    stack TEXT,
    anonymous INTEGER NOT NULL,
    phase TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE stacks (
    name TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    wanted INTEGER NOT NULL,
    frozen TEXT,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE revisions (
    stack TEXT NOT NULL REFERENCES stacks (name) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    content TEXT NOT NULL,
    outcome TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (stack, number)
) STRICT, WITHOUT ROWID;

-- Replicas that the user stopped and then removed: the loop of their stack leaves them away.
CREATE TABLE dismissed (
    stack TEXT NOT NULL,
    service TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (stack, service, number)
) STRICT, WITHOUT ROWID;

-- Here and not in the code of removals, so that whoever removes a stopped container leaves the wish behind.
CREATE TRIGGER container_dismissed AFTER DELETE ON containers
WHEN OLD.stopped_by_user AND OLD.stack IS NOT NULL AND OLD.service IS NOT NULL AND NOT OLD.oneoff
BEGIN
    INSERT OR IGNORE INTO dismissed (stack, service, number) VALUES (OLD.stack, OLD.service, OLD.number);
END;

-- What the kernel said of a run's limits right after we wrote them.
CREATE TABLE limits (
    container TEXT PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    resources TEXT NOT NULL,
    told TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- No foreign key: its cascade also runs when a row is replaced, this trigger does not.
CREATE TRIGGER container_limits AFTER DELETE ON containers
BEGIN
    DELETE FROM limits WHERE container = OLD.id;
END;

CREATE TABLE jobs (
    stack TEXT NOT NULL,
    service TEXT NOT NULL,
    input TEXT NOT NULL,
    finished_at INTEGER NOT NULL,
    PRIMARY KEY (stack, service, input)
) STRICT, WITHOUT ROWID;

CREATE TABLE restarts (
    subject TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    next_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
    serial INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    event TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_time ON events (at);
",
    r"
ALTER TABLE revisions ADD COLUMN author TEXT;
ALTER TABLE revisions ADD COLUMN message TEXT;
",
];
