//! Tests of the walk over requests: what the decoder takes, it takes; what would make the decoder ask for memory, it
//! refuses.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;

use super::*;
use crate::api;

/// Decodes a body; gives what is left of it.
fn decode(key: ApiKey, version: i16, body: &[u8]) -> Option<usize> {
    fn rest<T: Decodable>(body: &[u8], version: i16) -> Option<usize> {
        let mut bytes = Bytes::copy_from_slice(body);
        T::decode(&mut bytes, version).ok().map(|_| bytes.len())
    }
    match key {
        ApiKey::Produce => rest::<ProduceRequest>(body, version),
        ApiKey::Fetch => rest::<FetchRequest>(body, version),
        ApiKey::ListOffsets => rest::<ListOffsetsRequest>(body, version),
        ApiKey::Metadata => rest::<MetadataRequest>(body, version),
        ApiKey::OffsetCommit => rest::<OffsetCommitRequest>(body, version),
        ApiKey::OffsetFetch => rest::<OffsetFetchRequest>(body, version),
        ApiKey::FindCoordinator => rest::<FindCoordinatorRequest>(body, version),
        ApiKey::JoinGroup => rest::<JoinGroupRequest>(body, version),
        ApiKey::Heartbeat => rest::<HeartbeatRequest>(body, version),
        ApiKey::LeaveGroup => rest::<LeaveGroupRequest>(body, version),
        ApiKey::SyncGroup => rest::<SyncGroupRequest>(body, version),
        ApiKey::DescribeGroups => rest::<DescribeGroupsRequest>(body, version),
        ApiKey::ListGroups => rest::<ListGroupsRequest>(body, version),
        ApiKey::ApiVersions => rest::<ApiVersionsRequest>(body, version),
        ApiKey::CreateTopics => rest::<CreateTopicsRequest>(body, version),
        ApiKey::DeleteTopics => rest::<DeleteTopicsRequest>(body, version),
        ApiKey::InitProducerId => rest::<InitProducerIdRequest>(body, version),
        ApiKey::OffsetForLeaderEpoch => rest::<OffsetForLeaderEpochRequest>(body, version),
        ApiKey::AddPartitionsToTxn => rest::<AddPartitionsToTxnRequest>(body, version),
        ApiKey::AddOffsetsToTxn => rest::<AddOffsetsToTxnRequest>(body, version),
        ApiKey::EndTxn => rest::<EndTxnRequest>(body, version),
        ApiKey::TxnOffsetCommit => rest::<TxnOffsetCommitRequest>(body, version),
        ApiKey::DescribeConfigs => rest::<DescribeConfigsRequest>(body, version),
        ApiKey::CreatePartitions => rest::<CreatePartitionsRequest>(body, version),
        ApiKey::DeleteGroups => rest::<DeleteGroupsRequest>(body, version),
        ApiKey::IncrementalAlterConfigs => rest::<IncrementalAlterConfigsRequest>(body, version),
        ApiKey::DescribeCluster => rest::<DescribeClusterRequest>(body, version),
        other => panic!("{other:?} has no decoder here"),
    }
}

/// What the walk leaves of a body.
fn walk(key: ApiKey, version: i16, body: &[u8]) -> Option<usize> {
    let (flexible_since, fields) = layout(key)?;
    let mut walk = Walk { rest: body, version, flexible: version >= flexible_since, elements: 0 };
    walk.structure(fields)?;
    Some(walk.rest.len())
}

/// Whether a body of a request ends in tagged fields. Of those that it knows the decoder ignores the length, and reads what
/// their type has.
fn ends_in_tags(key: ApiKey, version: i16, body: &[u8]) -> bool {
    let Some((flexible_since, fields)) = layout(key) else { return false };
    let mut walk = Walk { rest: body, version, flexible: version >= flexible_since, elements: 0 };
    let fields = fields.iter().filter(|Field(first, last, _)| (*first..=*last).contains(&version));
    let passed = fields.map(|Field(.., kind)| walk.value(*kind)).collect::<Option<Vec<()>>>().is_some();
    passed && walk.flexible && walk.varint().is_some_and(|count| count > 0)
}

fn every_request() -> impl Iterator<Item = (ApiKey, i16)> {
    let known = (0..100_i16).filter_map(|key| ApiKey::try_from(key).ok());
    known
        .filter_map(|key| Some((key, api::supported(key)?)))
        .flat_map(|(key, range)| range.map(move |version| (key, version)))
}

/// Small counts and lengths, so that random bytes are sound often enough.
fn plausible() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => Just(0_u8), 4 => 1..4_u8, 1 => Just(0xff_u8), 1 => any::<u8>()];
    proptest::collection::vec(byte, 0..160)
}

#[test]
fn every_request_that_is_served_has_a_layout() {
    for (key, version) in every_request() {
        assert!(layout(key).is_some(), "{key:?} {version}");
        assert!(is_sound(key, version, &[0; 200]), "{key:?} {version}");
        // The decoder refuses some that are null, which the walk lets pass.
        if let Some(rest) = decode(key, version, &[0; 200]) {
            assert_eq!(walk(key, version, &[0; 200]), Some(rest), "{key:?} {version}");
        }
    }
}

#[test]
fn counts_that_nothing_backs_are_refused() {
    for count in [i32::MAX, 1000] {
        let mut body = BytesMut::new();
        body.put_i32(count);
        assert!(!is_sound(ApiKey::Metadata, 1, &body), "{count}");
    }
    assert!(!is_sound(ApiKey::Metadata, 9, &[0xff, 0xff, 0xff, 0xff, 0x0f]));
    let mut many = BytesMut::new();
    many.put_i32(ELEMENTS_MAX as i32 + 1);
    many.put_bytes(0, 2 * (ELEMENTS_MAX + 1));
    assert!(!is_sound(ApiKey::DescribeGroups, 0, &many), "backed, but too many");
}

#[test]
fn strings_that_are_too_long_are_refused() {
    let body = |length: usize| {
        let mut body = BytesMut::new();
        for shift in [0, 7, 14] {
            let more = if shift < 14 { 0x80 } else { 0 };
            body.put_u8(((length + 1) >> shift & 0x7f) as u8 | more);
        }
        body.put_bytes(b'x', length);
        body.put_bytes(0, 12);
        body
    };
    assert!(is_sound(ApiKey::Heartbeat, 4, &body(TEXT_MAX)));
    assert!(!is_sound(ApiKey::Heartbeat, 4, &body(TEXT_MAX + 1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The walk and the decoder read a body alike: whatever is sound for the one ends at the same byte for the other.
    #[test]
    fn the_walk_reads_what_the_decoder_reads(body in plausible()) {
        for (key, version) in every_request() {
            let Some(rest) = walk(key, version, &body) else { continue };
            let Some(decoded) = decode(key, version, &body) else { continue };
            // The one request here that has fields of this kind.
            if key == ApiKey::Fetch && ends_in_tags(key, version, &body) {
                continue;
            }
            prop_assert_eq!(rest, decoded, "{:?} {}", key, version);
        }
    }
}
