//! Tests of a group's decisions, on a clock of their own.

use proptest::prelude::*;

use super::*;

const SESSION: i32 = 10_000;
const REBALANCE: i32 = 30_000;

fn join(id: &str, metadata: &'static str) -> Join {
    Join {
        member_id: id.to_owned(),
        id_required: true,
        fresh_id: format!("fresh-{id}"),
        client_id: "client".to_owned(),
        client_host: "host".to_owned(),
        session_timeout_ms: SESSION,
        rebalance_timeout_ms: REBALANCE,
        protocol_type: "consumer".to_owned(),
        protocols: vec![("sticky".to_owned(), Bytes::from_static(metadata.as_bytes()))],
    }
}

/// Gets an id for a member, and lets it join with it.
fn enter(group: &mut Group, token: Token, name: &str, now: Millis) -> (String, Vec<Answer>) {
    let asked = Join { fresh_id: name.to_owned(), ..join("", "") };
    let refused = NotJoined { error: ResponseError::MemberIdRequired, member_id: name.to_owned() };
    assert_eq!(group.join(0, asked, now), [Answer::Join(0, Err(refused))]);
    (name.to_owned(), group.join(token, join(name, "m"), now))
}

fn joined(answers: &[Answer]) -> Vec<(Token, Joined)> {
    let fine = |answer: &Answer| match answer {
        Answer::Join(token, Ok(joined)) => Some((*token, joined.clone())),
        _ => None,
    };
    answers.iter().filter_map(fine).collect()
}

/// A group of two, `a` the leader, stable in its first generation.
fn stable() -> Group {
    let mut group = Group::default();
    assert_eq!(enter(&mut group, 1, "a", 0).1, []);
    assert_eq!(enter(&mut group, 2, "b", 10).1, []);
    assert_eq!(group.tick(FIRST_JOIN_DELAY - 1), []);
    let answers = joined(&group.tick(FIRST_JOIN_DELAY));
    assert_eq!(answers.len(), 2);
    assert_eq!((answers[0].1.generation, answers[0].1.leader.as_str(), answers[0].1.members.len()), (1, "a", 2));
    assert_eq!(answers[1].1.members, [], "only the leader sees the members");
    assert_eq!(group.sync(3, "b", 1, None, vec![], 100), []);
    let given = vec![("a".to_owned(), Bytes::from_static(b"A")), ("b".to_owned(), Bytes::from_static(b"B"))];
    let synced = group.sync(4, "a", 1, Some(("consumer", "sticky")), given, 100);
    let assigned = |answer: &Answer| match answer {
        Answer::Sync(token, Ok(synced)) => (*token, synced.assignment.clone()),
        other => panic!("{other:?}"),
    };
    let assigned: Vec<_> = synced.iter().map(assigned).collect();
    assert_eq!(assigned, [(4, Bytes::from_static(b"A")), (3, Bytes::from_static(b"B"))]);
    assert_eq!(group.state, State::Stable);
    group
}

#[test]
fn a_newcomer_starts_a_round_that_ends_when_all_have_joined() {
    let mut group = stable();
    assert_eq!(enter(&mut group, 5, "c", 200).1, []);
    assert_eq!(group.heartbeat("a", 1, 300), Err(ResponseError::RebalanceInProgress));
    assert_eq!(group.join(6, join("a", "m"), 310), []);
    let answers = joined(&group.join(7, join("b", "m"), 320));
    assert_eq!(
        answers.iter().map(|(token, joined)| (*token, joined.generation)).collect::<Vec<_>>(),
        [(6, 2), (7, 2), (5, 2)]
    );
    assert_eq!(group.heartbeat("a", 1, 330), Err(ResponseError::IllegalGeneration));
    assert_eq!(group.heartbeat("a", 2, 330), Ok(()));
    assert_eq!(group.may_commit("a", 2, 330), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn who_does_not_join_in_time_is_out() {
    let mut group = stable();
    enter(&mut group, 5, "c", 200);
    group.join(6, join("a", "m"), 200);
    let due = 200 + REBALANCE as Millis;
    assert_eq!(group.heartbeat("b", 1, 9_000), Err(ResponseError::RebalanceInProgress), "its heart beats on");
    let mut answers = group.tick(due - 1);
    answers.extend(group.tick(due));
    assert_eq!(joined(&answers).len(), 2);
    assert_eq!(group.members.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(group.heartbeat("b", 2, due), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_silent_member_is_out_when_its_session_ends() {
    let mut group = stable();
    assert_eq!(group.heartbeat("a", 1, 5_000), Ok(()));
    assert_eq!(group.next_deadline(), Some(100 + SESSION as Millis));
    assert_eq!(group.tick(100 + SESSION as Millis), []);
    assert_eq!(group.members.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(group.heartbeat("a", 1, 10_200), Err(ResponseError::RebalanceInProgress));
    assert_eq!(joined(&group.join(8, join("a", "m"), 10_300)).len(), 1);
}

#[test]
fn a_leader_that_never_decides_is_out() {
    let mut group = stable();
    enter(&mut group, 5, "c", 200);
    group.join(6, join("a", "m"), 200);
    group.join(7, join("b", "m"), 200);
    assert_eq!(group.sync(8, "b", 2, None, vec![], 210), []);
    let due = 200 + SESSION as Millis;
    for now in (1000..due).step_by(1000) {
        assert_eq!(group.heartbeat("b", 2, now), Ok(()));
    }
    let answers = group.tick(due);
    assert_eq!(answers, [Answer::Sync(8, Err(ResponseError::RebalanceInProgress))]);
    assert_eq!(group.members.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn the_last_to_leave_empties_the_group() {
    let mut group = stable();
    let (outcome, answers) = group.leave("a", 200);
    assert_eq!((outcome, answers), (Ok(()), vec![]));
    assert_eq!(group.leave("a", 200).0, Err(ResponseError::UnknownMemberId));
    let answers = joined(&group.join(5, join("b", "m"), 210));
    assert_eq!((answers[0].1.leader.as_str(), answers[0].1.generation), ("b", 2));
    assert_eq!(group.leave("b", 220).0, Ok(()));
    assert_eq!(group.state, State::Empty);
    assert!(group.is_idle());
    assert_eq!(group.next_deadline(), None);
}

#[test]
fn who_may_commit() {
    let mut group = Group::default();
    assert_eq!(group.may_commit("", -1, 0), Ok(()), "anyone, while there are no members");
    let mut group = stable();
    assert_eq!(group.may_commit("", -1, 200), Err(ResponseError::UnknownMemberId));
    assert_eq!(group.may_commit("a", 1, 200), Ok(()));
    assert_eq!(group.may_commit("a", 0, 200), Err(ResponseError::IllegalGeneration));
    assert_eq!(group.may_commit("x", 1, 200), Err(ResponseError::UnknownMemberId));
    enter(&mut group, 5, "c", 300);
    assert_eq!(group.may_commit("a", 1, 300), Ok(()), "before it joins again");
}

#[test]
fn who_may_commit_with_a_transaction() {
    let check = |group: &Group, member, generation, expected: Result<(), ResponseError>| {
        assert_eq!(group.may_commit_with_transaction(member, generation), expected, "{member} {generation}");
    };
    let empty = Group::default();
    check(&empty, "", -1, Ok(()));
    check(&empty, "a", 1, Err(ResponseError::UnknownMemberId));
    let mut group = stable();
    check(&group, "", -1, Ok(()));
    check(&group, "a", 1, Ok(()));
    check(&group, "a", 0, Err(ResponseError::IllegalGeneration));
    check(&group, "a", -1, Err(ResponseError::IllegalGeneration));
    check(&group, "x", 1, Err(ResponseError::UnknownMemberId));
    enter(&mut group, 5, "c", 200);
    group.join(6, join("a", "m"), 200);
    group.join(7, join("b", "m"), 200);
    check(&group, "a", 2, Ok(()));
    check(&group, "a", 1, Err(ResponseError::IllegalGeneration));
}

#[test]
fn who_missed_an_answer_gets_it_again() {
    let mut group = stable();
    let answers = joined(&group.join(9, join("b", "m"), 200));
    assert_eq!(answers[0].1.generation, 1);
    assert_eq!(group.state, State::Stable);
    let synced = group.sync(10, "b", 1, None, vec![], 210);
    assert!(matches!(&synced[..], [Answer::Sync(10, Ok(synced))] if synced.assignment == "B"), "{synced:?}");
    assert_eq!(group.join(11, join("b", "changed"), 220), [], "what it says has changed: a new round");
    assert!(matches!(group.state, State::Joining { .. }));
}

#[test]
fn who_waits_twice_is_answered_twice() {
    let mut group = stable();
    enter(&mut group, 5, "c", 200);
    assert_eq!(group.join(6, join("a", "m"), 200), []);
    let again = group.join(7, join("a", "m"), 210);
    assert!(matches!(&again[..], [Answer::Join(6, Err(_))]), "{again:?}");
}

#[test]
fn what_is_refused() {
    let mut group = stable();
    let mut check = |join: Join, expected| match &group.join(9, join, 200)[..] {
        [Answer::Join(9, Err(refused))] => assert_eq!(refused.error, expected),
        other => panic!("{other:?}"),
    };
    check(Join { session_timeout_ms: 0, ..join("a", "m") }, ResponseError::InvalidSessionTimeout);
    check(Join { session_timeout_ms: -5, ..join("a", "m") }, ResponseError::InvalidSessionTimeout);
    check(Join { protocols: vec![], ..join("a", "m") }, ResponseError::InconsistentGroupProtocol);
    check(Join { protocol_type: "connect".into(), ..join("", "m") }, ResponseError::InconsistentGroupProtocol);
    check(
        Join { protocols: vec![("range".into(), Bytes::new())], ..join("", "m") },
        ResponseError::InconsistentGroupProtocol,
    );
    check(join("nobody", "m"), ResponseError::UnknownMemberId);
    let refused = group.sync(9, "a", 1, Some(("consumer", "range")), vec![], 200);
    assert_eq!(refused, [Answer::Sync(9, Err(ResponseError::InconsistentGroupProtocol))]);
}

#[test]
fn an_id_that_is_never_used_holds_nobody_up_for_longer_than_a_session() {
    let mut group = stable();
    group.join(9, Join { fresh_id: "ghost".into(), ..join("", "m") }, 200);
    group.join(5, join("b", "changed"), 300);
    assert_eq!(group.join(6, join("a", "m"), 300), [], "the ghost may still come");
    assert_eq!(joined(&group.tick(200 + SESSION as Millis)).len(), 2);
}

#[derive(Debug, Clone)]
enum Step {
    Enter(u8),
    Join(u8, bool),
    Sync(u8),
    Heartbeat(u8),
    Leave(u8),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..5_u8).prop_map(Step::Enter),
        (0..5_u8, any::<bool>()).prop_map(|(who, changed)| Step::Join(who, changed)),
        (0..5_u8).prop_map(Step::Sync),
        (0..5_u8).prop_map(Step::Heartbeat),
        (0..5_u8).prop_map(Step::Leave),
        (0..20_000_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever members do, everyone who waits is answered once, and a group that is left alone comes to an end.
    #[test]
    fn nobody_waits_for_ever(steps in steps()) {
        let mut group = Group::default();
        let (mut now, mut token) = (0, 0);
        let mut waiting = BTreeSet::new();
        for step in steps {
            token += 1;
            let name = |who: u8| format!("m{who}");
            let answers = match step {
                // A fresh id is one that nobody has.
                Step::Enter(who) if group.members.contains_key(&name(who)) => vec![],
                Step::Enter(who) => {
                    waiting.insert(token);
                    group.join(token, Join { fresh_id: name(who), ..join("", "m") }, now)
                }
                Step::Join(who, changed) => {
                    waiting.insert(token);
                    group.join(token, join(&name(who), if changed { "new" } else { "m" }), now)
                }
                Step::Sync(who) => {
                    waiting.insert(token);
                    let generation = group.generation;
                    group.sync(token, &name(who), generation, None, vec![], now)
                }
                Step::Heartbeat(who) => {
                    let generation = group.generation;
                    let _ = group.heartbeat(&name(who), generation, now);
                    vec![]
                }
                Step::Leave(who) => group.leave(&name(who), now).1,
                Step::Pass(millis) => {
                    now += millis;
                    group.tick(now)
                }
            };
            for answer in answers {
                let (Answer::Join(token, _) | Answer::Sync(token, _)) = answer;
                prop_assert!(waiting.remove(&token), "answered once");
            }
        }
        for _ in 0..100 {
            let Some(next) = group.next_deadline() else { break };
            now = now.max(next);
            for answer in group.tick(now) {
                let (Answer::Join(token, _) | Answer::Sync(token, _)) = answer;
                prop_assert!(waiting.remove(&token), "answered once");
            }
        }
        prop_assert!(waiting.is_empty(), "{:?} still wait in {:?}", waiting, group);
        prop_assert!(group.is_idle());
        prop_assert_eq!(group.state, State::Empty);
    }
}
