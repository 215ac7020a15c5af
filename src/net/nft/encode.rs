//! Ruleset → nf_tables netlink messages (linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h). Pure.
//!
//! A batch is one transaction: all of it happens or nothing.

use super::super::netfilter::FAMILY_INET;
use super::ruleset::{
    Base, Chain, Ct, Elements, Expression, Hook, Meta, Point, Ruleset, Set, Type,
};

/// Messages between a begin and an end, ready to send.
#[derive(Debug)]
pub struct Batch {
    pub bytes: Vec<u8>,
    /// Sequence numbers of the batch's begin and of its last message, the one that the kernel acknowledges.
    pub first: u32,
    pub last: u32,
}

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NESTED: u16 = 0x8000;
/// `NFNL_SUBSYS_NFTABLES`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 10 << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM;
const DEL_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DEL_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DEL_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const DEL_ELEMENTS: u16 = SUBSYSTEM | 14;
/// `NFT_SET_MAP`.
const SET_IS_MAP: u32 = 8;
/// libnftnl's note in a set's user data that its keys are in host order (type 0, 4 bytes, 1), without which nft(8)
/// prints interface names as empty.
const HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];
/// An attribute's length has 16 bits; 500 of our elements stay well below.
const ELEMENTS_PER_MESSAGE: usize = 500;
/// `NFT_REG32_00`, the first of the 32-bit registers.
const FIRST_REGISTER: u32 = 8;

/// Returns the batch that replaces the whole table, whether it exists or not.
pub fn replace(ruleset: &Ruleset) -> Batch {
    let mut writer = Writer::begin();
    writer.table(NEW_TABLE, &ruleset.table);
    writer.table(DEL_TABLE, &ruleset.table);
    writer.table(NEW_TABLE, &ruleset.table);
    for (number, (name, set)) in (1_u32..).zip(&ruleset.sets) {
        writer.set(&ruleset.table, name, number, set);
    }
    for chain in &ruleset.chains {
        writer.chain(&ruleset.table, chain);
    }
    for chain in &ruleset.chains {
        for rule in &chain.rules {
            writer.rule(&ruleset.table, chain.name, rule);
        }
    }
    for (name, set) in &ruleset.sets {
        writer.elements(NEW_ELEMENTS, &ruleset.table, name, set.elements.iter());
    }
    writer.end()
}

/// Returns the batch that changes only elements.
pub fn change_elements(table: &str, delete: &Elements, add: &Elements) -> Batch {
    let mut writer = Writer::begin();
    for (name, elements) in delete {
        writer.elements(DEL_ELEMENTS, table, name, elements.iter());
    }
    for (name, elements) in add {
        writer.elements(NEW_ELEMENTS, table, name, elements.iter());
    }
    writer.end()
}

/// Returns the batch that removes a table, whether it exists or not.
pub fn remove(table: &str) -> Batch {
    let mut writer = Writer::begin();
    writer.table(NEW_TABLE, table);
    writer.table(DEL_TABLE, table);
    writer.end()
}

/// A rule in a table that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestRule {
    pub chain: String,
    pub expressions: Vec<Expression>,
    /// By which it is known again.
    pub comment: String,
    pub place: Place,
}

/// Where in the chain a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Last,
    /// Before the rule of this handle.
    Before(u64),
}

/// What becomes of the chain that we keep in a table that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuestChain<'a> {
    Stays,
    /// It is made if it is missing, and emptied before the rules are added.
    Anew(&'a str),
    /// With all its rules.
    Goes(&'a str),
}

/// Returns the batch that removes rules, by chain and handle, from a table that is not ours and adds others.
pub fn change_guests(
    (family, table): (u8, &str),
    chain: GuestChain<'_>,
    delete: &[(String, u64)],
    add: &[GuestRule],
) -> Batch {
    let mut writer = Writer::begin();
    if let GuestChain::Anew(name) = chain {
        writer.guest_chain(NEW_CHAIN, family, table, name);
        writer.guest_rules(family, table, name, None);
    }
    for (name, handle) in delete {
        writer.guest_rules(family, table, name, Some(*handle));
    }
    if let GuestChain::Goes(name) = chain {
        writer.guest_rules(family, table, name, None);
        writer.guest_chain(DEL_CHAIN, family, table, name);
    }
    for rule in add {
        let flags = if rule.place == Place::Last { NLM_F_APPEND } else { 0 };
        writer.message(NEW_RULE, NLM_F_CREATE | flags, family, 0, |message| {
            message.text(1, table);
            message.text(2, &rule.chain);
            message.nested(4, |list| {
                for expression in &rule.expressions {
                    list.nested(1, |element| write_expression(element, expression));
                }
            });
            if let Place::Before(handle) = rule.place {
                message.bytes(6, &handle.to_be_bytes());
            }
            message.bytes(7, &comment(&rule.comment));
        });
    }
    writer.end()
}

/// Returns the batch that has a base chain which is not ours drop what none of its rules decides on.
pub fn drop_by_policy(family: u8, table: &str, chain: &str) -> Batch {
    let mut writer = Writer::begin();
    writer.message(NEW_CHAIN, 0, family, 0, |message| {
        message.text(1, table);
        message.text(3, chain);
        message.number(5, 0);
    });
    writer.end()
}

/// Returns a comment as libnftnl keeps it in a rule's user data: type 0, length, text and its NUL.
pub fn comment(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).expect("our comments are short");
    [&[0, length], text.as_bytes(), &[0]].concat()
}

struct Writer {
    bytes: Vec<u8>,
    sequence: u32,
    /// Where the current message starts.
    message: usize,
}

impl Writer {
    fn begin() -> Self {
        let mut writer = Writer { bytes: Vec::new(), sequence: 0, message: 0 };
        writer.message(BATCH_BEGIN, 0, 0, 10, |_| {});
        writer
    }

    fn end(mut self) -> Batch {
        let last = self.sequence;
        // One acknowledgement is enough: it is sent when the whole batch was taken.
        let flags = self.message + 6;
        let acknowledged =
            u16::from_ne_bytes([self.bytes[flags], self.bytes[flags + 1]]) | NLM_F_ACK;
        self.bytes[flags..flags + 2].copy_from_slice(&acknowledged.to_ne_bytes());
        self.message(BATCH_END, 0, 0, 10, |_| {});
        Batch { bytes: self.bytes, first: 1, last }
    }

    fn message(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        resource: u16,
        body: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.sequence += 1;
        self.message = self.bytes.len();
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend(self.sequence.to_ne_bytes());
        self.bytes.extend([0; 4]);
        self.bytes.extend([family, 0]);
        self.bytes.extend(resource.to_be_bytes());
        body(&mut Attributes(&mut self.bytes));
        let length =
            u32::try_from(self.bytes.len() - self.message).expect("a message holds few elements");
        self.bytes[self.message..self.message + 4].copy_from_slice(&length.to_ne_bytes());
    }

    fn guest_chain(&mut self, kind: u16, family: u8, table: &str, name: &str) {
        let flags = if kind == NEW_CHAIN { NLM_F_CREATE } else { 0 };
        self.message(kind, flags, family, 0, |message| {
            message.text(1, table);
            message.text(3, name);
        });
    }

    /// Deletes one rule of a chain, or all.
    fn guest_rules(&mut self, family: u8, table: &str, chain: &str, handle: Option<u64>) {
        self.message(DEL_RULE, 0, family, 0, |message| {
            message.text(1, table);
            message.text(2, chain);
            if let Some(handle) = handle {
                message.bytes(3, &handle.to_be_bytes());
            }
        });
    }

    fn table(&mut self, kind: u16, table: &str) {
        self.message(kind, NLM_F_CREATE, FAMILY_INET, 0, |message| message.text(1, table));
    }

    fn set(&mut self, table: &str, name: &str, number: u32, set: &Set) {
        self.message(NEW_SET, NLM_F_CREATE, FAMILY_INET, 0, |message| {
            message.text(1, table);
            message.text(2, name);
            message.number(3, if set.data.is_empty() { 0 } else { SET_IS_MAP });
            message.number(4, type_number(&set.key));
            message.number(5, type_length(&set.key));
            if !set.data.is_empty() {
                message.number(6, type_number(&set.data));
                message.number(7, type_length(&set.data));
            }
            message.number(10, number);
            if set.key == [Type::Interface] {
                message.bytes(13, &HOST_ORDER);
            }
        });
    }

    fn chain(&mut self, table: &str, chain: &Chain) {
        self.message(NEW_CHAIN, NLM_F_CREATE, FAMILY_INET, 0, |message| {
            message.text(1, table);
            message.text(3, chain.name);
            if let Some(Hook { kind, point, priority }) = chain.hook {
                message.nested(4, |hook| {
                    hook.number(1, point_number(point));
                    hook.bytes(2, &priority.to_be_bytes());
                });
                message.text(7, kind);
            }
        });
    }

    fn rule(&mut self, table: &str, chain: &str, rule: &[Expression]) {
        self.message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, FAMILY_INET, 0, |message| {
            message.text(1, table);
            message.text(2, chain);
            message.nested(4, |list| {
                for expression in rule {
                    list.nested(1, |element| write_expression(element, expression));
                }
            });
        });
    }

    fn elements<'a>(
        &mut self,
        kind: u16,
        table: &str,
        set: &str,
        elements: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>,
    ) {
        let elements: Vec<_> = elements.collect();
        for some in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.message(kind, NLM_F_CREATE, FAMILY_INET, 0, |message| {
                message.text(1, table);
                message.text(2, set);
                message.nested(3, |list| {
                    for (key, data) in some {
                        list.nested(1, |element| {
                            element.data(1, key);
                            if kind == NEW_ELEMENTS && !data.is_empty() {
                                element.data(2, data);
                            }
                        });
                    }
                });
            });
        }
    }
}

/// Writes netlink attributes: length, type, value, padded to 4 bytes (netlink(7)).
struct Attributes<'a>(&'a mut Vec<u8>);

impl Attributes<'_> {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).expect("an attribute is short");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat());
    }

    /// nf_tables takes its numbers in network order.
    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn register(&mut self, kind: u16, slot: u32) {
        self.number(kind, FIRST_REGISTER + slot);
    }

    fn nested(&mut self, kind: u16, body: impl FnOnce(&mut Attributes<'_>)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend((kind | NESTED).to_ne_bytes());
        body(&mut Attributes(self.0));
        let length = u16::try_from(self.0.len() - start).expect("a nest holds few elements");
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// `NFTA_DATA_VALUE` in a nest.
    fn data(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |data| data.bytes(1, value));
    }

    fn verdict(&mut self, code: i32, chain: Option<&str>) {
        self.nested(2, |data| {
            data.nested(2, |verdict| {
                verdict.bytes(1, &code.to_be_bytes());
                if let Some(chain) = chain {
                    verdict.text(2, chain);
                }
            });
        });
    }
}

/// Writes an expression's name and its attributes, in the order of the kernel's enums.
fn write_expression(element: &mut Attributes<'_>, expression: &Expression) {
    element.text(1, expression_name(expression));
    element.nested(2, |data| match expression {
        Expression::Meta { key, to } => {
            data.register(1, *to);
            data.number(2, meta_number(*key));
        }
        Expression::Payload { base, offset, length, to } => {
            data.register(1, *to);
            data.number(2, if *base == Base::Network { 1 } else { 2 });
            data.number(3, *offset);
            data.number(4, *length);
        }
        Expression::Ct { key, to } => {
            data.register(1, *to);
            data.number(2, if *key == Ct::State { 0 } else { 2 });
        }
        Expression::DestinationType { to } => {
            data.register(1, *to);
            data.number(2, 3);
            data.number(3, 2);
        }
        Expression::Random { modulus, to } => {
            data.register(1, *to);
            data.number(2, *modulus);
            data.number(3, 1);
        }
        Expression::Immediate { to, value } => {
            data.register(1, *to);
            data.data(2, value);
        }
        Expression::Mask { register, mask } => {
            data.register(1, *register);
            data.register(2, *register);
            data.number(3, 4);
            data.data(4, &mask.to_ne_bytes());
            data.data(5, &[0; 4]);
        }
        Expression::Equal { register, value } => write_compare(data, *register, 0, value),
        Expression::NotEqual { register, value } => write_compare(data, *register, 1, value),
        Expression::Lookup { set, from } => {
            data.text(1, set);
            data.register(2, *from);
        }
        Expression::LookupMissing { set, from } => {
            data.text(1, set);
            data.register(2, *from);
            data.number(5, 1);
        }
        Expression::Map { set, from, to } => {
            data.text(1, set);
            data.register(2, *from);
            data.register(3, *to);
        }
        Expression::Dnat { family, address, port } => {
            data.number(1, 1);
            data.number(2, u32::from(*family));
            data.register(3, *address);
            data.register(5, *port);
        }
        Expression::Masquerade => {}
        Expression::Accept => write_verdict(data, 1, None),
        Expression::Drop => write_verdict(data, 0, None),
        Expression::Jump(chain) => write_verdict(data, -3, Some(chain)),
        Expression::Return => write_verdict(data, -5, None),
    });
}

fn write_compare(data: &mut Attributes<'_>, register: u32, operator: u32, value: &[u8]) {
    data.register(1, register);
    data.number(2, operator);
    data.data(3, value);
}

/// Register 0 takes the verdict.
fn write_verdict(data: &mut Attributes<'_>, code: i32, chain: Option<&str>) {
    data.number(1, 0);
    data.verdict(code, chain);
}

fn expression_name(expression: &Expression) -> &'static str {
    match expression {
        Expression::Meta { .. } => "meta",
        Expression::Payload { .. } => "payload",
        Expression::Ct { .. } => "ct",
        Expression::DestinationType { .. } => "fib",
        Expression::Random { .. } => "numgen",
        Expression::Mask { .. } => "bitwise",
        Expression::Equal { .. } | Expression::NotEqual { .. } => "cmp",
        Expression::Lookup { .. } | Expression::LookupMissing { .. } | Expression::Map { .. } => {
            "lookup"
        }
        Expression::Dnat { .. } => "nat",
        Expression::Masquerade => "masq",
        Expression::Immediate { .. }
        | Expression::Accept
        | Expression::Drop
        | Expression::Return
        | Expression::Jump(_) => "immediate",
    }
}

fn meta_number(key: Meta) -> u32 {
    match key {
        Meta::InputName => 6,
        Meta::OutputName => 7,
        Meta::Family => 15,
        Meta::Protocol => 16,
        Meta::InputGroup => 21,
        Meta::OutputGroup => 22,
    }
}

fn point_number(point: Point) -> u32 {
    match point {
        Point::Prerouting => 0,
        Point::Forward => 2,
        Point::Output => 3,
        Point::Postrouting => 4,
    }
}

/// nft(8) packs the types of a concatenation 6 bits each.
fn type_number(types: &[Type]) -> u32 {
    types.iter().fold(0, |packed, part| {
        let number = match part {
            Type::Ipv4 => 7,
            Type::Ipv6 => 8,
            Type::Protocol => 12,
            Type::Port => 13,
            Type::Bucket => 19,
            Type::Interface => 41,
        };
        packed << 6 | number
    })
}

/// A lone field keeps its own length; in a concatenation each is padded to 4 bytes. Ours are never lone and short.
fn type_length(types: &[Type]) -> u32 {
    let length = |part: &Type| match part {
        Type::Ipv4 | Type::Protocol | Type::Port | Type::Bucket => 4,
        Type::Ipv6 | Type::Interface => 16,
    };
    types.iter().map(length).sum()
}
