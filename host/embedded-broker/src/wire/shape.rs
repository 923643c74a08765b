//! Walks over a request before it is decoded, and refuses one whose lengths and counts its bytes don't back: the decoder
//! makes room for as many elements as a count says. It never keeps what it reads.

use bytes::Buf;
use kafka_protocol::messages::ApiKey;

/// How many elements, over all its arrays, a request may have.
const ELEMENTS_MAX: usize = 200_000;

/// How long a string may be, in bytes: the protocol says so where the length has room for more too. What is kept of one
/// thus fits into the journals.
const TEXT_MAX: usize = 0x7fff;

/// How long a request other than Produce may be, in bytes.
const SMALL_MAX: usize = 4 << 20;

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, or null.
    Text,
    /// Bytes, or null.
    Blob,
    /// Structures, which end in tagged fields where the version has them.
    Array(&'static [Field]),
    /// Values that have no tagged fields.
    List(&'static Kind),
}

/// A field, from a version to a version.
#[derive(Debug, Clone, Copy)]
struct Field(i16, i16, Kind);

const fn all(kind: Kind) -> Field {
    Field(0, i16::MAX, kind)
}

const fn since(version: i16, kind: Kind) -> Field {
    Field(version, i16::MAX, kind)
}

const fn until(version: i16, kind: Kind) -> Field {
    Field(0, version, kind)
}

use Kind::{Array, Blob, Fixed, List, Text};

const INTS: Kind = List(&Fixed(4));
const TEXTS: Kind = List(&Text);
const NAMED: Kind = Array(&[all(Text), all(Text)]);

/// From which version on a request has tagged fields and compact lengths, and its fields.
fn layout(key: ApiKey) -> Option<(i16, &'static [Field])> {
    Some(match key {
        ApiKey::ApiVersions => (3, const { &[since(3, Text), since(3, Text)] }),
        ApiKey::Produce => (9, PRODUCE),
        ApiKey::Fetch => (12, FETCH),
        ApiKey::ListOffsets => (6, LIST_OFFSETS),
        ApiKey::Metadata => (9, METADATA),
        ApiKey::OffsetCommit => (8, OFFSET_COMMIT),
        ApiKey::OffsetFetch => (6, OFFSET_FETCH),
        ApiKey::FindCoordinator => (3, const { &[until(3, Text), since(1, Fixed(1)), since(4, TEXTS)] }),
        ApiKey::JoinGroup => (6, JOIN_GROUP),
        ApiKey::Heartbeat => (4, const { &[all(Text), all(Fixed(4)), all(Text), since(3, Text)] }),
        ApiKey::LeaveGroup => (4, LEAVE_GROUP),
        ApiKey::SyncGroup => (4, SYNC_GROUP),
        ApiKey::DescribeGroups => (5, const { &[all(TEXTS), since(3, Fixed(1))] }),
        ApiKey::ListGroups => (3, const { &[since(4, TEXTS), since(5, TEXTS)] }),
        ApiKey::DeleteGroups => (2, const { &[all(TEXTS)] }),
        ApiKey::CreateTopics => (5, CREATE_TOPICS),
        ApiKey::DeleteTopics => (4, DELETE_TOPICS),
        ApiKey::CreatePartitions => (2, CREATE_PARTITIONS),
        ApiKey::DescribeConfigs => (4, DESCRIBE_CONFIGS),
        ApiKey::IncrementalAlterConfigs => (1, ALTER_CONFIGS),
        ApiKey::DescribeCluster => (0, const { &[all(Fixed(1)), since(1, Fixed(1)), since(2, Fixed(1))] }),
        ApiKey::InitProducerId => (2, const { &[all(Text), all(Fixed(4)), since(3, Fixed(10))] }),
        ApiKey::OffsetForLeaderEpoch => (4, LEADER_EPOCH),
        ApiKey::AddPartitionsToTxn => (3, ADD_PARTITIONS_TO_TXN),
        ApiKey::AddOffsetsToTxn => (3, const { &[all(Text), all(Fixed(10)), all(Text)] }),
        ApiKey::EndTxn => (3, const { &[all(Text), all(Fixed(11))] }),
        ApiKey::TxnOffsetCommit => (3, TXN_OFFSET_COMMIT),
        _ => return None,
    })
}

const PRODUCE: &[Field] = &[
    since(3, Text),
    all(Fixed(6)),
    all(Array(&[until(12, Text), since(13, Fixed(16)), all(Array(&[all(Fixed(4)), all(Blob)]))])),
];
const FETCH: &[Field] = &[
    until(14, Fixed(4)),
    all(Fixed(13)),
    since(7, Fixed(8)),
    all(Array(&[
        until(12, Text),
        since(13, Fixed(16)),
        all(Array(&[
            all(Fixed(4)),
            since(9, Fixed(4)),
            all(Fixed(8)),
            since(12, Fixed(4)),
            since(5, Fixed(8)),
            all(Fixed(4)),
        ])),
    ])),
    since(7, Array(&[until(12, Text), since(13, Fixed(16)), all(INTS)])),
    since(11, Text),
];
const LIST_OFFSETS: &[Field] = &[
    all(Fixed(4)),
    since(2, Fixed(1)),
    all(Array(&[all(Text), all(Array(&[all(Fixed(4)), since(4, Fixed(4)), all(Fixed(8))]))])),
    since(10, Fixed(4)),
];
const METADATA: &[Field] =
    &[all(Array(&[since(10, Fixed(16)), all(Text)])), since(4, Fixed(1)), Field(8, 10, Fixed(1)), since(8, Fixed(1))];
const OFFSET_COMMIT: &[Field] = &[
    all(Text),
    since(1, Fixed(4)),
    since(1, Text),
    since(7, Text),
    Field(2, 4, Fixed(8)),
    all(Array(&[all(Text), all(Array(&[all(Fixed(12)), since(6, Fixed(4)), all(Text)]))])),
];
const ADD_PARTITIONS_TO_TXN: &[Field] = &[all(Text), all(Fixed(10)), all(Array(&[all(Text), all(INTS)]))];
const TXN_OFFSET_COMMIT: &[Field] = &[
    all(Text),
    all(Text),
    all(Fixed(10)),
    since(3, Fixed(4)),
    since(3, Text),
    since(3, Text),
    all(Array(&[all(Text), all(Array(&[all(Fixed(12)), since(2, Fixed(4)), all(Text)]))])),
];
const OFFSET_FETCH: &[Field] = &[
    until(7, Text),
    until(7, Array(&[all(Text), all(INTS)])),
    since(8, Array(&[all(Text), since(9, Text), since(9, Fixed(4)), all(Array(&[all(Text), all(INTS)]))])),
    since(7, Fixed(1)),
];
const JOIN_GROUP: &[Field] = &[
    all(Text),
    all(Fixed(4)),
    since(1, Fixed(4)),
    all(Text),
    since(5, Text),
    all(Text),
    all(Array(&[all(Text), all(Blob)])),
    since(8, Text),
];
const LEAVE_GROUP: &[Field] = &[all(Text), until(2, Text), since(3, Array(&[all(Text), all(Text), since(5, Text)]))];
const SYNC_GROUP: &[Field] = &[
    all(Text),
    all(Fixed(4)),
    all(Text),
    since(3, Text),
    since(5, Text),
    since(5, Text),
    all(Array(&[all(Text), all(Blob)])),
];
const CREATE_TOPICS: &[Field] = &[
    all(Array(&[all(Text), all(Fixed(6)), all(Array(&[all(Fixed(4)), all(INTS)])), all(NAMED)])),
    all(Fixed(4)),
    since(1, Fixed(1)),
];
const DELETE_TOPICS: &[Field] = &[since(6, Array(&[all(Text), all(Fixed(16))])), until(5, TEXTS), all(Fixed(4))];
const CREATE_PARTITIONS: &[Field] = &[all(Array(&[all(Text), all(Fixed(4)), all(Array(&[all(INTS)]))])), all(Fixed(5))];
const DESCRIBE_CONFIGS: &[Field] =
    &[all(Array(&[all(Fixed(1)), all(Text), all(TEXTS)])), since(1, Fixed(1)), since(3, Fixed(1))];
const ALTER_CONFIGS: &[Field] =
    &[all(Array(&[all(Fixed(1)), all(Text), all(Array(&[all(Text), all(Fixed(1)), all(Text)]))])), all(Fixed(1))];
const LEADER_EPOCH: &[Field] =
    &[since(3, Fixed(4)), all(Array(&[all(Text), all(Array(&[all(Fixed(4)), since(2, Fixed(4)), all(Fixed(4))]))]))];

/// Where a walk is.
struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

/// Whether the body of a request is what its key and version say it is.
pub(super) fn is_sound(key: ApiKey, version: i16, body: &[u8]) -> bool {
    let Some((flexible_since, fields)) = layout(key) else { return false };
    if key != ApiKey::Produce && body.len() > SMALL_MAX {
        return false;
    }
    Walk { rest: body, version, flexible: version >= flexible_since, elements: 0 }.structure(fields).is_some()
}

/// What comes before the body of a request, and that body. Nothing when it is cut short.
pub(super) fn split_header(frame: &[u8], flexible: bool) -> Option<(Option<&[u8]>, &[u8])> {
    let mut walk = Walk { rest: frame.get(8..)?, version: 0, flexible: false, elements: 0 };
    let length = walk.rest.try_get_i16().ok()?;
    let client_id = match usize::try_from(length) {
        Ok(length) => Some(walk.take(length)?),
        Err(_) => None,
    };
    if flexible {
        walk.tags()?;
    }
    Some((client_id, walk.rest))
}

impl<'a> Walk<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn structure(&mut self, fields: &[Field]) -> Option<()> {
        for &Field(first, last, kind) in fields {
            if (first..=last).contains(&self.version) {
                self.value(kind)?;
            }
        }
        if self.flexible { self.tags() } else { Some(()) }
    }

    fn value(&mut self, kind: Kind) -> Option<()> {
        match kind {
            Fixed(length) => self.take(length).map(drop),
            Text | Blob => {
                let length = match kind {
                    _ if self.flexible => self.varint()?.checked_sub(1),
                    Text => usize::try_from(self.rest.try_get_i16().ok()?).ok(),
                    _ => usize::try_from(self.rest.try_get_i32().ok()?).ok(),
                };
                let length = length.unwrap_or(0);
                if matches!(kind, Text) && length > TEXT_MAX {
                    return None;
                }
                self.take(length).map(drop)
            }
            Array(fields) => (0..self.count()?).try_for_each(|_| self.structure(fields)),
            List(kind) => (0..self.count()?).try_for_each(|_| self.value(*kind)),
        }
    }

    fn count(&mut self) -> Option<usize> {
        let count = if self.flexible {
            self.varint()?.saturating_sub(1)
        } else {
            usize::try_from(self.rest.try_get_i32().ok()?).unwrap_or(0)
        };
        self.spend(count)
    }

    fn spend(&mut self, elements: usize) -> Option<usize> {
        self.elements = self.elements.checked_add(elements)?;
        (self.elements <= ELEMENTS_MAX).then_some(elements)
    }

    fn tags(&mut self) -> Option<()> {
        let count = self.varint()?;
        for _ in 0..self.spend(count)? {
            self.varint()?;
            let size = self.varint()?;
            self.take(size)?;
        }
        Some(())
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = self.rest.try_get_u8().ok()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return usize::try_from(value).ok();
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
