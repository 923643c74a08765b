//! Consumer groups: found, joined, left, looked at, deleted. What a group decides, its state machine decides.

use std::sync::Arc;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Caller, NODE, Shared, blocking, code, text};
use crate::groups::coordinator::Sync;
use crate::groups::machine::{Group, Join, State};
use crate::storage::folder::random_id;
use crate::wire::connection::Answer;

/// What coordinators are asked for.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// Answers a FindCoordinator request: this node is the coordinator of every group and every transaction.
pub(super) fn find(shared: &Shared, caller: &Caller, request: FindCoordinatorRequest, version: i16) -> Answer {
    let endpoint = shared.endpoint(caller);
    let (host, port) = (text(endpoint.host), i32::from(endpoint.port));
    let error = match request.key_type {
        GROUP | TRANSACTION => 0,
        _ => ResponseError::InvalidRequest.code(),
    };
    if version < 4 {
        let response = FindCoordinatorResponse::default().with_error_code(error);
        return Answer::new(response.with_node_id(NODE).with_host(host).with_port(port));
    }
    let found = request.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(NODE)
            .with_host(host.clone())
            .with_port(port)
            .with_error_code(error)
    });
    Answer::new(FindCoordinatorResponse::default().with_coordinators(found.collect()))
}

/// Answers a JoinGroup request when the round of joining ends.
pub(super) async fn join(shared: &Shared, caller: Caller, request: JoinGroupRequest, version: i16) -> Answer {
    if request.group_id.0.is_empty() {
        let response = JoinGroupResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
        return Answer::new(response.with_generation_id(-1).with_protocol_name(Some(StrBytes::default())));
    }
    let rebalance_timeout_ms = if version >= 1 { request.rebalance_timeout_ms } else { request.session_timeout_ms };
    let join = Join {
        member_id: request.member_id.to_string(),
        id_required: version >= 4,
        fresh_id: format!("{}-{}", caller.client_id, random_id()),
        client_id: caller.client_id,
        client_host: caller.host,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(|known| (known.name.to_string(), known.metadata)).collect(),
    };
    let response = JoinGroupResponse::default();
    Answer::new(match shared.coordinator.join(&request.group_id.0, join).await {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|(id, metadata)| {
                JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(metadata)
            });
            response
                .with_generation_id(joined.generation)
                .with_protocol_type(Some(text(joined.protocol_type)))
                .with_protocol_name(Some(text(joined.protocol)))
                .with_leader(text(joined.leader))
                .with_member_id(text(joined.member_id))
                .with_members(members.collect())
        }
        Err(refused) => response
            .with_error_code(refused.error.code())
            .with_generation_id(-1)
            // Null only where the version has it.
            .with_protocol_name(Some(StrBytes::default()))
            .with_member_id(text(refused.member_id)),
    })
}

/// Answers a SyncGroup request when the leader has decided.
pub(super) async fn sync(shared: &Shared, request: SyncGroupRequest, version: i16) -> Answer {
    let named = (request.protocol_type, request.protocol_name);
    let protocol = match named {
        (Some(kind), Some(name)) if version >= 5 => Some((kind.to_string(), name.to_string())),
        _ => None,
    };
    let assignments = request.assignments.into_iter();
    let sync = Sync {
        group: request.group_id.0.to_string(),
        member_id: request.member_id.to_string(),
        generation: request.generation_id,
        protocol,
        assignments: assignments.map(|given| (given.member_id.to_string(), given.assignment)).collect(),
    };
    let outcome = shared.coordinator.sync(sync).await;
    let response = SyncGroupResponse::default().with_error_code(code(&outcome));
    Answer::new(match outcome {
        Ok(synced) => response
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(_) => response,
    })
}

/// Answers a Heartbeat request.
pub(super) fn heartbeat(shared: &Shared, request: HeartbeatRequest) -> Answer {
    let outcome = shared.coordinator.heartbeat(&request.group_id.0, &request.member_id, request.generation_id);
    Answer::new(HeartbeatResponse::default().with_error_code(code(&outcome)))
}

/// Answers a LeaveGroup request: of one member, or since version 3 of several.
pub(super) fn leave(shared: &Shared, request: LeaveGroupRequest, version: i16) -> Answer {
    let group = &request.group_id.0;
    if version < 3 {
        let outcome = shared.coordinator.leave(group, &request.member_id);
        return Answer::new(LeaveGroupResponse::default().with_error_code(code(&outcome)));
    }
    let members = request.members.into_iter().map(|member| {
        let outcome = shared.coordinator.leave(group, &member.member_id);
        MemberResponse::default()
            .with_member_id(member.member_id)
            .with_group_instance_id(member.group_instance_id)
            .with_error_code(code(&outcome))
    });
    Answer::new(LeaveGroupResponse::default().with_members(members.collect()))
}

/// Answers a ListGroups request.
pub(super) fn list(shared: &Shared, request: ListGroupsRequest, version: i16) -> Answer {
    let groups = shared.coordinator.names().into_iter().filter_map(|name| {
        let look = |group: &Group| (group.state, group.protocol_type.clone());
        let (state, protocol_type) =
            shared.coordinator.look(&name, look).unwrap_or((State::Empty, "consumer".to_owned()));
        let filter = &request.states_filter;
        if !filter.is_empty() && !filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(state.name())) {
            return None;
        }
        let listed = ListedGroup::default().with_group_id(GroupId(text(name))).with_protocol_type(text(protocol_type));
        Some(if version >= 4 { listed.with_group_state(StrBytes::from_static_str(state.name())) } else { listed })
    });
    Answer::new(ListGroupsResponse::default().with_groups(groups.collect()))
}

/// Answers a DescribeGroups request.
pub(super) fn describe(shared: &Shared, request: DescribeGroupsRequest) -> Answer {
    let groups = request.groups.into_iter().map(|id| {
        let described = shared.coordinator.look(&id.0, describe_one);
        let without_members = || {
            let state = if shared.coordinator.has_offsets(&id.0) { "Empty" } else { "Dead" };
            DescribedGroup::default().with_group_state(StrBytes::from_static_str(state))
        };
        described.unwrap_or_else(without_members).with_group_id(id)
    });
    Answer::new(DescribeGroupsResponse::default().with_groups(groups.collect()))
}

fn describe_one(group: &Group) -> DescribedGroup {
    let members = group.members.iter().map(|(id, member)| {
        DescribedGroupMember::default()
            .with_member_id(text(id.clone()))
            .with_client_id(text(member.client_id.clone()))
            .with_client_host(text(format!("/{}", member.client_host)))
            .with_member_metadata(member.metadata(&group.protocol))
            .with_member_assignment(member.assignment.clone())
    });
    DescribedGroup::default()
        .with_group_state(StrBytes::from_static_str(group.state.name()))
        .with_protocol_type(text(group.protocol_type.clone()))
        .with_protocol_data(text(group.protocol.clone()))
        .with_members(members.collect())
}

/// Answers a DeleteGroups request.
pub(super) async fn delete(shared: &Arc<Shared>, request: DeleteGroupsRequest) -> Answer {
    let shared = Arc::clone(shared);
    let results = blocking(move || {
        let delete = |id: GroupId| {
            let outcome = shared.coordinator.delete_group(&id.0);
            DeletableGroupResult::default().with_error_code(code(&outcome)).with_group_id(id)
        };
        request.groups_names.into_iter().map(delete).collect()
    })
    .await;
    Answer::new(DeleteGroupsResponse::default().with_results(results))
}
